import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../../../kernel/clock.ts';
import { freePort } from '../../support/holder.ts';
import { secretText } from '../../support/secrets.ts';
import { createOperator, type EdcOperator } from './operator.ts';

/** EDC connectors as processes: everything in memory, all on loopback, mock identities, ports that were free. */

export interface EdcOptions {
  /** Folder of its jars. */
  readonly jars: string;
  /** Its participant id: a bare word. */
  readonly id: string;
  /** Between two rounds of its state machines that found nothing, ms; 1000 is how it is shipped. */
  readonly iterationWaitMs: number;
  readonly heapMb?: number;
  /** Origin under which others reach its protocol; its own by default. */
  readonly publicOrigin?: string;
}

export interface EdcConnector extends AsyncDisposable {
  readonly id: string;
  /** Where its protocol really listens. */
  readonly origin: string;
  /** As others are told it; below it stands the version document. */
  readonly protocol: string;
  readonly operator: EdcOperator;
  readonly pid: number;
  /** From its start until it was ready. */
  readonly readyMs: number;
  /** What it printed. */
  readonly log: string;
}

const contexts = ['', 'version', 'control', 'management', 'protocol', 'public'] as const;
const startMs = 120_000;

/** Its state machines, by the names of their settings. */
const machines = ['negotiation', 'negotiation.consumer', 'negotiation.provider', 'transfer', 'dataplane'];

const managementKey = secretText('key-of-edc');

/** A key pair for the tokens of its data plane, made for this run. */
const dataPlaneKey = (): string => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return JSON.stringify({ ...privateKey.export({ format: 'jwk' }), kid: 'dp-public', alg: 'ES256', use: 'sig' });
};

const properties = ({ id, iterationWaitMs, publicOrigin }: EdcOptions, ports: readonly number[]): string => {
  const at = (context: (typeof contexts)[number]) => `http://localhost:${ports[contexts.indexOf(context)]}`;
  const web = contexts.flatMap((context, place) => {
    const prefix = context === '' ? 'web.http' : `web.http.${context}`;
    return [`${prefix}.port=${ports[place]}`, `${prefix}.path=/${context === '' ? 'api' : context}`];
  });
  const key = dataPlaneKey();
  return [
    `edc.participant.id=${id}`,
    `edc.component.id=${id}-connector`,
    'edc.hostname=localhost',
    ...web,
    `edc.dsp.callback.address=${publicOrigin ?? at('protocol')}/protocol`,
    `edc.control.endpoint=${at('control')}/control`,
    `edc.dataplane.api.public.baseurl=${at('public')}/public`,
    'web.http.management.auth.type=tokenbased',
    `web.http.management.auth.key=${managementKey}`,
    'edc.transfer.proxy.token.signer.privatekey.alias=dp-private',
    'edc.transfer.proxy.token.verifier.publickey.alias=dp-public',
    `dp-private=${key}`,
    'edc.iam.publickeys.dp.id=dp-public',
    `edc.iam.publickeys.dp.value=${key}`,
    ...machines.map((name) => `edc.${name}.state-machine.iteration-wait-millis=${iterationWaitMs}`),
    ...(iterationWaitMs === 1_000
      ? []
      : ['negotiation.consumer', 'negotiation.provider', 'transfer'].map(
          (name) => `edc.${name}.send.retry.base-delay.ms=100`,
        )),
    '',
  ].join('\n');
};

/** Also when the process that started them ends before them. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

const isReady = async (url: string): Promise<boolean> => {
  try {
    return (await fetch(url, { signal: AbortSignal.timeout(2_000) })).ok;
  } catch {
    return false;
  }
};

const launch = (options: EdcOptions, folder: string, ports: readonly number[]) => {
  const config = join(folder, 'edc.properties');
  const log = join(folder, 'edc.log');
  writeFileSync(config, properties(options, ports), { mode: 0o600 });
  const child = spawn(
    'java',
    [
      `-Xmx${options.heapMb ?? 512}m`,
      `-Dedc.fs.config=${config}`,
      '-cp',
      join(options.jars, '*'),
      'org.eclipse.edc.boot.system.runtime.BaseRuntime',
      '--log-level=DEBUG',
    ],
    { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  running.add(child);
  const output = createWriteStream(log);
  child.stdout.pipe(output, { end: false });
  child.stderr.pipe(output, { end: false });
  const ended = once(child, 'exit').then(() => void running.delete(child));
  return { child, log, ended };
};

/** Starts one and waits until its operator's API answers. */
export const startEdc = async (options: EdcOptions): Promise<EdcConnector> => {
  const start = performance.now();
  const folder = mkdtempSync(join(tmpdir(), 'stekker-edc-'));
  const ports: number[] = [];
  while (ports.length < contexts.length) {
    const port = await freePort();
    if (!ports.includes(port)) ports.push(port);
  }
  const [health, , , management, protocol] = ports;
  const { child, log, ended } = launch(options, folder, ports);
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    const cut = setTimeout(() => child.kill('SIGKILL'), 5_000);
    await ended;
    clearTimeout(cut);
    rmSync(folder, { recursive: true, force: true });
  };
  const operator = createOperator({ url: `http://localhost:${management}/management`, key: managementKey });
  while (!((await isReady(`http://localhost:${health}/api/check/readiness`)) && (await operator.isReady()))) {
    if (child.exitCode !== null || performance.now() - start > startMs) {
      await stop();
      throw new Error(`EDC ${options.id} did not start`);
    }
    await systemClock.sleep(100);
  }
  return {
    id: options.id,
    origin: `http://localhost:${protocol}`,
    protocol: `${options.publicOrigin ?? `http://localhost:${protocol}`}/protocol`,
    operator,
    pid: child.pid ?? 0,
    readyMs: performance.now() - start,
    log,
    [Symbol.asyncDispose]: stop,
  };
};
