import { join } from 'node:path';
import { toHex, utf8 } from '../../contracts/bytes.ts';
import { brokerInfo } from '../../contracts/events.ts';
import { readPolicy, verifyNote } from '../../contracts/ledger/note.ts';
import { bundlePath, decodeBundle, tileWidth } from '../../contracts/ledger/tiles.ts';
import { leafHash, rootOf } from '../../contracts/ledger/tree.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { type BrokerBench, brokerBench } from './broker-bench.ts';
import { type BrokerProcess, startBrokerProcess } from './broker-process.ts';
import { freePort } from './holder.ts';
import { startTcpFront } from './tcp-front.ts';

/** One broker as several processes on one database, behind one address. */

export interface BrokerMember {
  /** Where this process alone is reached. */
  readonly origin: string;
  readonly process: () => BrokerProcess;
  /** Starts it, the first time or after it was killed. */
  readonly start: () => Promise<void>;
}

export interface SharedBroker extends AsyncDisposable {
  readonly bench: BrokerBench;
  readonly members: readonly BrokerMember[];
}

/** Settings and folders of `count` processes; none is started. */
export const sharedBroker = async (
  database: string,
  count: number,
  changed: Record<string, string> = {},
): Promise<SharedBroker> => {
  const bench = await brokerBench({ STEKKER_LOG_LEVEL: 'silent', ...changed });
  const root = join(bench.config.STEKKER_DATA, '..');
  const ports = await Promise.all(Array.from({ length: count }, freePort));
  const front = await startTcpFront(Number(new URL(bench.origin).port), ports);
  const members = ports.map((port, index): BrokerMember => {
    const env = {
      ...bench.env,
      STEKKER_DATABASE_URL: database,
      STEKKER_KEYS: join(root, 'keys'),
      STEKKER_LOG_FOLDER: join(root, 'log'),
      STEKKER_INTENT_FOLDER: join(root, 'intent'),
      STEKKER_DATA: join(root, `data-${index}`),
      STEKKER_PUBLIC_PORT: String(port),
    };
    let running: BrokerProcess | undefined;
    return {
      origin: `http://localhost:${port}`,
      process: () => {
        if (running === undefined) throw new Error('the process was not started');
        return running;
      },
      start: async () => {
        running = await startBrokerProcess(env);
      },
    };
  });
  return {
    bench,
    members,
    [Symbol.asyncDispose]: async () => {
      await Promise.all(
        members.map(async (member) => {
          member.process().go();
          await member.process()[Symbol.asyncDispose]();
        }),
      );
      await front[Symbol.asyncDispose]();
      await bench[Symbol.asyncDispose]();
    },
  };
};

/** Whether this process writes the log, as it says itself. */
export const isWriter = async ({ process }: BrokerMember): Promise<boolean> => {
  const { body } = await process().operate('GET', '/v1/status');
  return (body.log as { readonly isWriter: boolean }).isWriter;
};

/** The log as any reader has it over HTTP, at one of the processes: every entry, checked against a signed checkpoint. */
export const readLog = async (origin: string) => {
  const info = brokerInfo.parse(await (await fetch(`${origin}/.well-known/stekker-broker`)).json());
  const base = `${origin}${new URL(info.log.url).pathname}`;
  const policy = readPolicy(nodeCrypto, info.log.policy);
  if (!policy.ok) throw new Error(policy.reason);
  const checkpointOf = async (): Promise<{ readonly size: number; readonly root: string }> => {
    const note = await (await fetch(`${base}/checkpoint`)).text();
    const read = verifyNote(nodeCrypto, note, policy.value);
    if (!read.ok) throw new Error(`a checkpoint ${read.reason}`);
    return { size: read.value.size, root: toHex(read.value.root) };
  };
  const entriesOf = async (size: number): Promise<readonly string[]> => {
    const entries: string[] = [];
    for (let from = 0; from < size; from += tileWidth) {
      const path = bundlePath(Math.floor(from / tileWidth), Math.min(tileWidth, size - from));
      const bundle = decodeBundle(new Uint8Array(await (await fetch(`${base}/${path}`)).arrayBuffer()));
      if (!bundle.ok) throw new Error(`${path} ${bundle.reason}`);
      entries.push(...bundle.value.map((entry) => Buffer.from(entry).toString()));
    }
    return entries;
  };
  return { origin: info.log.origin, base, checkpointOf, entriesOf };
};

/** The root of the first entries of a log. */
export const rootOfEntries = (entries: readonly string[]): string =>
  toHex(
    rootOf(
      nodeCrypto,
      entries.map((entry) => leafHash(nodeCrypto, utf8(entry))),
    ),
  );
