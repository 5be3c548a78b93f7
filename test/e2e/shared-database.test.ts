import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { didOf } from '../../kernel/did.ts';
import { seededRandom, systemRandom } from '../../kernel/random.ts';
import type { Operate } from '../support/chain-world.ts';
import { type ChildConnector, childConnector } from '../support/child-connector.ts';
import { freePort } from '../support/holder.ts';
import { hasPostgres, type Postgres, startPostgres } from '../support/postgres.ts';
import { atLast } from '../support/settled.ts';
import { startTcpFront, type TcpFront } from '../support/tcp-front.ts';

/**
 * One participant, two processes on one PostgreSQL, and a third connector that knows nothing of it. Of the two one is killed
 * with -9 again and again: whatever was under way there goes on at the other.
 */

const seed = process.env.STEKKER_TEST_SEED ?? Buffer.from(systemRandom.bytes(6)).toString('hex');
const random = seededRandom(seed);
const between = (least: number, most: number): number =>
  least + (Buffer.from(random.bytes(4)).readUInt32BE() % (most - least));

const rounds = 6;
const inEachRound = 8;

interface Twins {
  readonly both: readonly [ChildConnector, ChildConnector];
  readonly did: string;
  /** Asks the one that is never killed. */
  readonly operate: Operate;
}

let server: Postgres;
let folder: string;
let front: TcpFront;
let twins: Twins;
let other: ChildConnector;

const startTwins = async (): Promise<Twins> => {
  const [port, dataPort] = [await freePort(), await freePort()];
  const ports = [await freePort(), await freePort()] as const;
  const url = `http://localhost:${port}`;
  const shared = {
    STEKKER_PUBLIC_URL: url,
    STEKKER_DATA_URL: `http://localhost:${dataPort}`,
    STEKKER_DATABASE_URL: await server.database(),
    STEKKER_KEYS: join(folder, 'keys'),
    STEKKER_SIGNED_FOLDER: join(folder, 'signed'),
  };
  front = await startTcpFront(port, ports);
  const one = (own: number) => childConnector({ ...shared, STEKKER_PUBLIC_PORT: String(own) });
  const both = [await one(ports[0]), await one(ports[1])] as const;
  await Promise.all(both.map((twin) => twin.start())); // at once: tables and keys are made by one of them
  return { both, did: didOf(url), operate: both[1].operate };
};

const publish = async (operate: Operate, name: string): Promise<string> => {
  const path = join(folder, `${name}.json`);
  writeFileSync(path, '{"levels":[1,2,3]}');
  const { status, body } = await operate('POST', '/v1/publications', {
    title: name,
    upstream: { kind: 'file', path },
    policy: { template: 'purpose', parameters: { purpose: 'urn:stekker:1:purpose:crisis' } },
    price: { currency: 'EUR', scale: '4', lines: [{ unit: 'requests', quantity: '1', value: '25' }] },
  });
  if (status >= 300) throw new Error(`not published: ${JSON.stringify(body)}`);
  return String((body.asset as { readonly id: string }).id);
};

interface Seen {
  readonly id: string;
  readonly state: string;
  readonly peerPid: string | null;
  readonly agreementId: string | null;
}

/** All negotiations of a connector, by its own id. */
const negotiationsOf = async (operate: Operate): Promise<readonly Seen[]> => {
  const all: Seen[] = [];
  for (let cursor: string | undefined = ''; cursor !== undefined; ) {
    const query: string = cursor === '' ? '' : `&after=${encodeURIComponent(cursor)}`;
    const { status, body } = await operate('GET', `/v1/negotiations?limit=50${query}`);
    if (status !== 200) throw new Error(`no list: ${JSON.stringify(body)}`);
    all.push(...(body.items as Seen[]));
    cursor = typeof body.next === 'string' ? body.next : undefined;
  }
  return all;
};

describe.runIf(hasPostgres())('two processes of one participant on one database', () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'stekker-twins-'));
    server = await startPostgres();
    twins = await startTwins();
    other = await childConnector();
    await other.start();
  });
  afterAll(async () => {
    await front?.[Symbol.asyncDispose]();
    for (const one of [...(twins?.both ?? []), other]) await one?.[Symbol.asyncDispose]();
    await server?.[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  test('what one is told the other knows, and they are one DID with the same keys', async () => {
    const [first, second] = twins.both;
    const dataset = await publish(first.operate, 'levels');
    const { status, body } = await second.operate('GET', `/v1/assets/${encodeURIComponent(dataset)}`);
    expect([status, body.id]).toEqual([200, dataset]);
    const documents = await Promise.all(
      twins.both.map(async ({ bench }) =>
        (await fetch(`http://localhost:${bench.config.STEKKER_PUBLIC_PORT}/.well-known/did.json`)).json(),
      ),
    );
    expect(documents[0]).toEqual(documents[1]);
    expect(documents[0]).toMatchObject({ id: twins.did });
  });

  test('while one is killed again and again every negotiation ends, and alike on both sides', async () => {
    console.log(`seed ${seed}`);
    const [mortal] = twins.both;
    const ours = await publish(twins.operate, 'ours');
    const theirs = await publish(other.operate, 'theirs');
    let begun = 0;
    const begin = async (operate: Operate, provider: string, dataset: string): Promise<void> => {
      const answer = await operate('POST', '/v1/negotiations', { provider, dataset }).catch(() => undefined);
      if (answer?.status === 201) begun += 1; // of one whose answer was lost the lists below tell
    };
    for (let round = 0; round < rounds; round += 1) {
      const asking = Array.from({ length: inEachRound }, (_, n) => [
        begin(n % 2 === 0 ? mortal.operate : twins.operate, other.bench.did, theirs),
        begin(other.operate, twins.did, ours),
      ]).flat();
      await systemClock.sleep(between(20, 600));
      await mortal.kill();
      await Promise.all(asking);
      await mortal.start();
    }
    expect(begun).toBeGreaterThanOrEqual(rounds * inEachRound);
    const [here, there] = await atLast('all negotiations', async () => {
      const lists = await Promise.all([negotiationsOf(twins.operate), negotiationsOf(other.operate)]);
      const isOver = lists.every((list) => list.every(({ state }) => ['FINALIZED', 'TERMINATED'].includes(state)));
      return isOver && lists[0].length === lists[1].length ? lists : undefined;
    });
    expect(here.length).toBeGreaterThanOrEqual(begun);
    const byId = new Map(there.map((one) => [one.id, one]));
    const pairs = here.map((one) => [one, byId.get(one.peerPid ?? '')] as const);
    expect(pairs.filter(([one, its]) => its?.peerPid !== one.id)).toEqual([]);
    expect(pairs.filter(([one, its]) => its?.state !== one.state || its.agreementId !== one.agreementId)).toEqual([]);
    expect(here.filter(({ state }) => state !== 'FINALIZED')).toEqual([]);
    expect(new Set(here.map(({ agreementId }) => agreementId)).size).toBe(here.length);
    expect(front.given().every((times) => times > 0)).toBe(true);
  });
});
