import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { brokerBench } from '../support/broker-bench.ts';
import {
  acquire,
  type ConnectorBench,
  connectorBench,
  joinBroker,
  type Operate,
  type OperatedConnector,
} from '../support/chain-world.ts';
import { rowsOf } from '../support/hostile.ts';
import { type Reading, readOnce } from '../support/readers.ts';
import { atLast, type HeldStatement, settle, statementsOf, trustIn } from '../support/settled.ts';

/**
 * Rows that come back out of a backup, while the journals stay where they are (ledger §8 "Never twice"): the connector asks
 * first, signs no old number, and comes to the statements that its counterparty holds.
 */

const purpose = 'urn:stekker:1:purpose:crisis';
const application = 'urn:stekker:1:app:evacuatie@1.0.0';
const lines = [{ unit: 'requests', quantity: '1', value: '25' }];

const open: AsyncDisposable[] = [];
const keep = <Resource extends AsyncDisposable>(resource: Resource): Resource => {
  open.push(resource);
  return resource;
};
afterEach(async () => {
  for (let last = open.pop(); last !== undefined; last = open.pop()) await last[Symbol.asyncDispose]();
});

/** A connector that is stopped and started, and whose rows are put back. */
interface Restorable {
  readonly bench: ConnectorBench;
  readonly connector: () => OperatedConnector;
  readonly operate: Operate;
  /** Stops it, keeps its rows, and goes on. */
  readonly backUp: () => Promise<void>;
  readonly restore: () => Promise<void>;
}

const isRows = (name: string): boolean => name.startsWith('connector.sqlite');

const restorable = async (env: Record<string, string>): Promise<Restorable> => {
  const bench = keep(await connectorBench(env));
  let running = await bench.start();
  keep({ [Symbol.asyncDispose]: () => running[Symbol.asyncDispose]() });
  const data = bench.config.STEKKER_DATA;
  const copy = `${data}-copy`;
  const move = (from: string, to: string): void => {
    for (const name of readdirSync(to).filter(isRows)) rmSync(join(to, name));
    for (const name of readdirSync(from).filter(isRows)) cpSync(join(from, name), join(to, name));
  };
  const around = async (work: () => void): Promise<void> => {
    await running[Symbol.asyncDispose]();
    work();
    running = await bench.start();
  };
  return {
    bench,
    connector: () => running,
    operate: (...call) => running.operate(...call),
    backUp: () =>
      around(() => {
        mkdirSync(copy, { recursive: true });
        move(data, copy);
      }),
    restore: () => around(() => move(copy, data)),
  };
};

/** Which digests were signed under each number, in the file that no backup holds. */
const signedNumbers = ({ config }: ConnectorBench): Map<string, Set<string>> => {
  const folder = `${config.STEKKER_DATA}-journal`;
  const signed = new Map<string, Set<string>>();
  for (const file of readdirSync(folder).filter((name) => name.startsWith('signed-')))
    for (const line of readFileSync(join(folder, file), 'latin1')
      .split('\n')
      .filter((text) => /^\d/.test(text))) {
      const [, participant, role, agreement, seq, digest = ''] = line.split(' ');
      const key = `${participant} ${role} ${agreement} ${seq}`;
      signed.set(key, (signed.get(key) ?? new Set()).add(digest));
    }
  return signed;
};

const startWorld = async () => {
  const brokerSide = keep(await brokerBench());
  const broker = keep(await brokerSide.start());
  const env = { STEKKER_BROKER_URL: brokerSide.origin, STEKKER_STATEMENT_INTERVAL_SECONDS: '1' };
  const holder = await restorable({ ...env, STEKKER_NAME: 'Waterschap' });
  const runtime = await restorable({
    ...env,
    STEKKER_NAME: 'Veiligheidsregio',
  });
  await joinBroker(broker, holder.connector());
  await joinBroker(broker, runtime.connector(), { roles: ['application-runtime'] });
  const path = join(holder.bench.folder, 'levels.json');
  writeFileSync(path, JSON.stringify({ levels: [1, 2, 3] }));
  const published = await holder.operate('POST', '/v1/publications', {
    title: 'Waterstanden',
    upstream: { kind: 'file', path },
    policy: { template: 'purpose', parameters: { purpose } },
    price: { currency: 'EUR', scale: '4', lines },
  });
  const dataset = String((published.body.asset as { id: string }).id);
  const agreed = await acquire(runtime.connector(), { provider: holder.bench.did, dataset });
  const { body } = await runtime.operate('POST', '/v1/applications', { application });
  const headers = { authorization: `Bearer ${String(body.key)}`, 'stekker-purpose': purpose };
  const urlNow = () => `${runtime.connector().gateway}${new URL(agreed.dataUrl).pathname}`;
  const readings: Reading[] = [];
  const statements = () => statementsOf(holder, 'provider', agreed.agreementDigest);
  const theirs = () => statementsOf(runtime, 'consumer', agreed.agreementDigest);
  let newest = 0;
  /** Reads until a further statement is complete at both sides; what both then hold. */
  const readAndState = async (): Promise<readonly HeldStatement[]> => {
    const held = await atLast('a statement', async () => {
      readings.push(await readOnce(urlNow(), headers));
      await systemClock.sleep(20);
      const [ours, those] = await Promise.all([statements(), theirs()]);
      const isThere = those.length > newest && JSON.stringify(ours) === JSON.stringify(those);
      return isThere && those.every(({ isComplete }) => isComplete) ? those : undefined;
    });
    newest = held.length;
    return held;
  };
  const finish = async () => {
    const ended = `/v1/agreements/${encodeURIComponent(agreed.agreementId)}/end`;
    await holder.operate('POST', ended, { reason: 'done' });
    const trust = await trustIn(brokerSide.origin);
    const records = await settle({ provider: holder, consumer: runtime, trust, lines }, agreed);
    const read = readings.filter(({ status }) => status === 200);
    expect(read.filter(({ request }) => !records.has(`${request} 1`))).toEqual([]);
    expect(records.size).toBeGreaterThanOrEqual(read.length);
    for (const side of [holder, runtime]) {
      for (const [number, digests] of signedNumbers(side.bench)) expect([number, digests.size]).toEqual([number, 1]);
      expect(rowsOf(side.bench, "select * from usage_dispute where kind = 'equivocation'")).toEqual([]);
    }
  };
  return { holder, runtime, statements, theirs, readAndState, finish };
};

describe('rows that were restored from a backup', { timeout: 300_000 }, () => {
  test.each(['holder', 'runtime'] as const)(
    'of the %s: no old number is signed, both sides hold the same again',
    async (who) => {
      const world = await startWorld();
      const restored = world[who];
      await world.readAndState();
      await restored.backUp();
      await world.readAndState();
      const held = await world.readAndState();
      await restored.restore();
      const after = await world.readAndState();
      expect(after.slice(0, held.length)).toEqual(held);
      expect(after.length).toBeGreaterThan(held.length);
      await world.finish();
    },
  );
});
