import { afterAll, expect, test } from 'vitest';
import { issuerMetadata } from '../../contracts/dcp/messages.ts';
import { systemClock } from '../../kernel/clock.ts';
import { seededRandom } from '../../kernel/random.ts';
import { brokerBench, until } from '../support/broker-bench.ts';
import { type BrokerProcess, startBrokerProcess } from '../support/broker-process.ts';
import { requestBody, startHolder } from '../support/holder.ts';
import { follow } from '../support/hub-events.ts';
import { insist, listener } from '../support/hub-listener.ts';
import { agreementEventOf, agreementOf, inviteTo, joinHub, joiningOf, postAs } from '../support/hub-members.ts';
import { noticeOf, startHubParty } from '../support/hub-parties.ts';

/**
 * A broker in a process of its own, killed at random instants while everything that it tells its members goes on: an
 * accreditor's notices, its operator's changes, new members, agreements that end. What was accepted is told once.
 */

const kills = 15;
const seed = process.env.SEED ?? String(systemClock.now());

const open: AsyncDisposable[] = [];
const keep = <Resource extends AsyncDisposable>(resource: Resource): Resource => {
  open.push(resource);
  return resource;
};
afterAll(async () => {
  for (let last = open.pop(); last !== undefined; last = open.pop()) await last[Symbol.asyncDispose]();
});

const numberUpTo = (() => {
  const random = seededRandom(seed);
  return (limit: number): number => Math.floor(((random.bytes(1)[0] ?? 0) / 256) * limit);
})();

const isTaken = async (answer: Response | Promise<Response>): Promise<boolean> => {
  const { status } = await answer;
  return status === 200 || status === 201;
};

/** Something that goes on and on, and what it did; several of a kind are told apart by a name. */
type Publisher = (isOver: () => boolean, name: string) => Promise<string[]>;

test('a broker that is killed at random instants loses no event and tells none twice', async () => {
  console.log(`seed ${seed}`);
  const accreditor = keep(await startHubParty());
  const bench = keep(await brokerBench({ STEKKER_ACCREDITORS: accreditor.did, STEKKER_LOG_LEVEL: 'silent' }));
  let broker: BrokerProcess = keep(await startBrokerProcess(bench.env));
  const operated: Pick<BrokerProcess, 'operate'> = { operate: (...request) => broker.operate(...request) };
  const [provider, consumer] = [keep(await startHubParty()), keep(await startHubParty())];
  for (const party of [provider, consumer]) await joinHub(bench, operated, party);
  const holder = keep(await startHolder(51));
  await joinHub(bench, operated, holder);
  const metadata = issuerMetadata.parse(await (await fetch(`${bench.origin}/dcp/metadata`)).json());
  await holder.post(
    bench.did,
    `${bench.origin}/dcp/credentials`,
    requestBody('p', [metadata.credentialsSupported[0]?.id ?? '']),
  );
  const credential = await until(async () => {
    const items = (await broker.operate('GET', '/v1/credentials')).body.items as { id: string }[];
    return items[0]?.id;
  });
  const line = keep(listener(consumer, bench));
  await until(() => (line.isListening() ? true : undefined));

  const notices: Publisher = async (isOver, by) => {
    const done: string[] = [];
    while (!isOver()) {
      const subject = `urn:uuid:notice-${by}-${done.length}`;
      const notice = noticeOf(accreditor, { type: 'revoked', subject });
      await insist(subject, () => isTaken(postAs(accreditor, bench, '/events', notice)));
      done.push(`revoked ${subject}`);
    }
    return done;
  };
  const changes: Publisher = async (isOver) => {
    const done: string[] = [];
    while (!isOver()) {
      const [name, type] = done.length % 2 === 0 ? ['suspension', 'suspended'] : ['reinstatement', 'reinstated'];
      const path = `/v1/credentials/${encodeURIComponent(credential)}/${name}`;
      await insist(
        `${name} ${done.length}`,
        async () => (await broker.operate('POST', path, { reason: 'x' })).status === 200,
      );
      done.push(`${type} ${credential}`);
    }
    return done;
  };
  const joins: Publisher = async (isOver) => {
    const done: string[] = [];
    while (!isOver()) {
      const party = keep(await startHubParty());
      let code = '';
      await insist('an invitation', async () => {
        code = await inviteTo(operated, party.did);
        return code !== '' && code !== 'undefined';
      });
      const body = await joiningOf(party, code);
      await insist('a join', () => isTaken(postAs(party, bench, '/log/entries', body)));
      done.push(`keys ${party.did}`);
    }
    return done;
  };
  const ends: Publisher = async (isOver, by) => {
    const done: string[] = [];
    while (!isOver()) {
      const { body, digest } = agreementOf(`agreement-${by}-${done.length}`, provider, consumer);
      await insist('an agreement', () => isTaken(postAs(provider, bench, '/log/entries', body)));
      const end = agreementEventOf(digest, 'end', [provider, consumer]);
      await insist('its end', () => isTaken(postAs(consumer, bench, '/log/entries', end)));
      done.push(`agreement-ended ${digest}`);
    }
    return done;
  };

  let isOver = false;
  /** Several of a kind at once; what all of them did. */
  const publish = async (publisher: Publisher, count: number): Promise<string[]> => {
    const names = Array.from({ length: count }, (_, index) => String(index));
    return (await Promise.all(names.map((name) => publisher(() => isOver, name)))).flat();
  };
  const publishing = Promise.all([publish(notices, 4), publish(changes, 1), publish(joins, 2), publish(ends, 3)]);
  for (let kill = 0; kill < kills; kill += 1) {
    await systemClock.sleep(numberUpTo(1_000));
    await broker.kill();
    broker = keep(await startBrokerProcess(bench.env));
  }
  isOver = true;
  const [noticed, changed, joined, ended] = await publishing;
  const expected = [...noticed, ...changed, ...joined, ...ended];
  console.log(`${kills} kills, events: ${[noticed, changed, joined, ended].map((lines) => lines.length)}`);
  for (const lines of [noticed, changed, joined, ended]) expect(lines.length).toBeGreaterThan(0);

  await until(() => (line.beat() >= line.first() + expected.length ? true : undefined));
  expect(line.faults).toEqual([]);
  expect(line.linesOf().toSorted()).toEqual(expected.toSorted());
  expect(line.linesOf().filter((text) => text.endsWith(credential))).toEqual(changed);

  const status = keep(await follow(provider, bench, { accreditors: [accreditor.did] }));
  await until(() => (status.check(['urn:uuid:anything'], 'strict').state === 'good' ? true : undefined));
  for (const text of [...noticed, ...ended])
    expect(status.check([text.split(' ')[1] ?? ''], 'strict').state).toBe('revoked');
}, 300_000);
