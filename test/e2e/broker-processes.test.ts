import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { registerLog } from '../../broker/adapters/evm/deploy.ts';
import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { issuerMetadata } from '../../contracts/dcp/messages.ts';
import { brokerInfoPath } from '../../contracts/events.ts';
import { leafHash } from '../../contracts/ledger/tree.ts';
import { storePage } from '../../contracts/store.ts';
import { systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { seededRandom } from '../../kernel/random.ts';
import { startAnchorWorld } from '../support/anchor-world.ts';
import { until } from '../support/broker-bench.ts';
import {
  type BrokerMember,
  isWriter,
  readLog,
  rootOfEntries,
  type SharedBroker,
  sharedBroker,
} from '../support/broker-processes.ts';
import { startProvider } from '../support/catalog-provider.ts';
import { requestBody, startHolder } from '../support/holder.ts';
import { anchorEnv, covering, keepMining } from '../support/hub-anchors.ts';
import { follow, us } from '../support/hub-events.ts';
import { insist, listener } from '../support/hub-listener.ts';
import { agreementEventOf, agreementOf, inviteTo, joiningOf, postAs } from '../support/hub-members.ts';
import { type HubParty, startHubParty } from '../support/hub-parties.ts';
import { hasPostgres, type Postgres, startPostgres } from '../support/postgres.ts';
import { atLast } from '../support/settled.ts';

/**
 * A broker of three processes on one real PostgreSQL: each serves everybody, one writes the log. One after the other is
 * killed with -9, or stands still for longer than its lease and goes on, while statements of all kinds are registered.
 */

const seed = process.env.SEED ?? String(systemClock.now());
const kills = Number(process.env.STEKKER_KILLS ?? 6);
/** Longer than the lease of the log. */
const stillMs = 9_000;

const open: AsyncDisposable[] = [];
const keep = <Resource extends AsyncDisposable>(resource: Resource): Resource => {
  open.push(resource);
  return resource;
};
afterAll(async () => {
  for (let last = open.pop(); last !== undefined; last = open.pop()) await last[Symbol.asyncDispose]();
});

const random = seededRandom(seed);
const numberUpTo = (limit: number): number => Math.floor(((random.bytes(1)[0] ?? 0) / 256) * limit);

const promiseForm = z.object({ payload: z.string() });
const shownParticipants = z.object({ participants: z.array(z.unknown()) });
const statusListForm = z.object({ credentialSubject: z.object({ encodedList: z.string() }) });
const promised = z.object({ index: z.string(), leafHash: z.string() });

/** What the log promised for a registration: where the entry stands, and what it is. */
interface Kept {
  readonly index: number;
  readonly leafHash: string;
}

const keptOf = async (answer: Response): Promise<Kept> => {
  const body: unknown = await answer.json();
  const duplicate = z.object({ promise: promiseForm }).safeParse(body);
  const { payload } = duplicate.success ? duplicate.data.promise : promiseForm.parse(body);
  const { index, leafHash: leaf } = promised.parse(JSON.parse(Buffer.from(payload, 'base64url').toString()));
  return { index: Number(index), leafHash: leaf };
};

let postgres: Postgres;
let broker: SharedBroker;

const memberAt = (index: number): BrokerMember => {
  const member = broker.members[index % broker.members.length];
  if (member === undefined) throw new Error('there is no such process');
  return member;
};
/** The broker at one of its processes. */
const at = (index: number) => ({ did: broker.bench.did, origin: memberAt(index).origin });

/** Registers until it gets through at one process or the other; each answer must be a promise, the first or again. */
const register = async (by: HubParty, body: unknown, first: number): Promise<Kept> => {
  let kept: Kept | undefined;
  let turn = first;
  await insist(`an entry (seed ${seed})`, async () => {
    turn += 1;
    const answer = await postAs(by, at(turn), '/log/entries', body);
    if (answer.status === 200 || answer.status === 201) kept = await keptOf(answer);
    else if (answer.status < 500) throw new Error(`${answer.status} ${await answer.text()}`);
    return kept !== undefined;
  });
  if (kept === undefined) throw new Error('nothing was promised');
  return kept;
};

const join = async (party: HubParty, first: number): Promise<Kept> => {
  let code = '';
  let turn = first;
  await insist('an invitation', async () => {
    turn += 1;
    code = await inviteTo(memberAt(turn).process(), party.did);
    return code !== '' && code !== 'undefined';
  });
  return await register(party, await joiningOf(party, code), turn);
};

describe.skipIf(!hasPostgres())('a broker of several processes', () => {
  beforeAll(async () => {
    postgres = keep(await startPostgres());
    broker = keep(await sharedBroker(await postgres.database(), 3));
    await Promise.all(broker.members.map(({ start }) => start())); // at once: tables, keys and genesis are made by one
  }, 120_000);

  test('started at once they are one broker with one log, and each serves everybody', async () => {
    const infos = await Promise.all(
      broker.members.map(async ({ origin }) => await (await fetch(`${origin}${brokerInfoPath}`)).text()),
    );
    expect(new Set(infos).size).toBe(1);
    await until(async () => {
      const writers = await Promise.all(broker.members.map(isWriter));
      return writers.filter(Boolean).length === 1 ? true : undefined;
    });
    const [provider, consumer] = [keep(await startHubParty()), keep(await startHubParty())];
    const kept: Kept[] = [];
    for (const party of [provider, consumer]) kept.push(await join(party, kept.length));
    const made = broker.members.map((_, index) => agreementOf(`each-${index}`, provider, consumer));
    const answers = await Promise.all(made.map(({ body }, index) => postAs(provider, at(index), '/log/entries', body)));
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201]);
    for (const answer of answers) kept.push(await keptOf(answer));
    const again = await Promise.all(
      made.map(({ body }, index) => postAs(consumer, at(index + 1), '/log/entries', body)),
    );
    expect(again.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(new Set(kept.map(({ index }) => index)).size).toBe(kept.length);
    const size = Math.max(...kept.map(({ index }) => index)) + 1;
    for (const { origin } of broker.members) {
      const log = await readLog(origin);
      const checkpoint = await until(async () => {
        const newest = await log.checkpointOf();
        return newest.size >= size ? newest : undefined;
      });
      const entries = await log.entriesOf(checkpoint.size);
      expect(rootOfEntries(entries)).toBe(checkpoint.root);
      for (const { index, leafHash: leaf } of kept) {
        expect(toBase64Url(leafHash(nodeCrypto, utf8(entries[index] ?? '')))).toBe(leaf);
        expect((await fetch(`${log.base}/proof/${index}`)).status).toBe(200);
      }
      expect((await fetch(`${origin}/store/offers`)).status).toBe(200);
      await until(async () => {
        const { participants } = shownParticipants.parse(await (await fetch(`${origin}/participants`)).json());
        return participants.length === 2 ? true : undefined;
      });
    }
  }, 120_000);

  test('killed or paused one after the other they lose no entry, double none, and keep one tree', async () => {
    console.log(`seed ${seed}`);
    const [provider, consumer] = [keep(await startHubParty()), keep(await startHubParty())];
    await join(provider, 0);
    await join(consumer, 1);
    const line = keep(listener(consumer, broker.bench));
    await until(() => (line.isListening() ? true : undefined));

    let isOver = false;
    const kept: Kept[] = [];
    const told: string[] = [];
    const agree = async (name: number): Promise<void> => {
      for (let count = 0; !isOver; count += 1) {
        const { body, digest } = agreementOf(`storm-${name}-${count}`, provider, consumer);
        kept.push(await register(provider, body, numberUpTo(3)));
        if (count % 3 > 0) continue;
        const end = agreementEventOf(digest, 'end', [provider, consumer]);
        kept.push(await register(consumer, end, numberUpTo(3)));
        told.push(`agreement-ended ${digest}`);
      }
    };
    const grow = async (): Promise<void> => {
      while (!isOver) {
        const party = keep(await startHubParty());
        kept.push(await join(party, numberUpTo(3)));
        told.push(`keys ${party.did}`);
      }
    };
    /** A reader that goes from one process to the next, and keeps every root that it was shown. */
    const roots = new Map<number, Set<string>>();
    const read = async (): Promise<void> => {
      const { checkpointOf } = await readLog(broker.bench.origin);
      while (!isOver) {
        const checkpoint = await checkpointOf().catch(() => undefined);
        if (checkpoint !== undefined)
          roots.set(checkpoint.size, (roots.get(checkpoint.size) ?? new Set()).add(checkpoint.root));
        await systemClock.sleep(20);
      }
    };
    const working = Promise.all([agree(0), agree(1), agree(2), grow(), read()]);

    /** The process that writes more often than not: it has the most to lose. */
    const victim = async (): Promise<BrokerMember> => {
      const writing = await Promise.all(broker.members.map((member) => isWriter(member).catch(() => false)));
      const writer = writing.indexOf(true);
      return memberAt(writer >= 0 && numberUpTo(3) > 0 ? writer : numberUpTo(3));
    };
    for (let kill = 0; kill < kills; kill += 1) {
      await systemClock.sleep(300 + numberUpTo(1_500));
      const member = await victim();
      if (kill % 3 === 1) {
        member.process().pause();
        await systemClock.sleep(stillMs);
        member.process().go();
      } else {
        await member.process().kill();
        await systemClock.sleep(numberUpTo(2) * 7_000); // at once, or behind the end of its lease
        await member.start();
      }
    }
    isOver = true;
    await working;
    console.log(`${kills} kills and pauses, ${kept.length} entries, ${told.length} events, ${roots.size} checkpoints`);

    const { checkpointOf, entriesOf } = await readLog(memberAt(0).origin);
    const size = Math.max(...kept.map(({ index }) => index)) + 1;
    const newest = await until(async () => {
      const checkpoint = await checkpointOf();
      return checkpoint.size >= size ? checkpoint : undefined;
    });
    const entries = await entriesOf(newest.size);
    expect(rootOfEntries(entries)).toBe(newest.root);
    expect(new Set(entries).size).toBe(entries.length);
    expect(new Set(kept.map(({ index }) => index)).size).toBe(kept.length);
    for (const { index, leafHash: leaf } of kept)
      expect(toBase64Url(leafHash(nodeCrypto, utf8(entries[index] ?? '')))).toBe(leaf);
    for (const [before, shown] of roots) expect([...shown]).toEqual([rootOfEntries(entries.slice(0, before))]);

    await until(() => (line.beat() >= line.first() + told.length ? true : undefined));
    expect(line.faults).toEqual([]);
    const before = [provider, consumer].map(({ did }) => `keys ${did}`); // perhaps told when it began to listen, perhaps then
    expect(
      line
        .linesOf()
        .filter((text) => !before.includes(text))
        .toSorted(),
    ).toEqual(told.toSorted());
  }, 400_000);

  test('a word handed in at one process reaches a member that listens at another', async () => {
    const member = keep(await startHubParty());
    await join(member, 0);
    const lines = broker.members.map((_, index) => keep(listener(member, at(index))));
    await until(() => (lines.every(({ isListening }) => isListening()) ? true : undefined));
    const party = keep(await startHubParty());
    await join(party, 1);
    await until(() => (lines.every(({ linesOf }) => linesOf().includes(`keys ${party.did}`)) ? true : undefined));
    for (const { faults } of lines) expect(faults).toEqual([]);
  }, 60_000);

  test('a credential that was asked for at one process and revoked at another is revoked for a member at the third', async () => {
    const holder = keep(await startHolder(52));
    const code = await inviteTo(memberAt(0).process(), holder.did);
    expect((await postAs(holder, at(1), '/log/entries', await joiningOf(holder, code))).status).toBe(201);
    const metadata = issuerMetadata.parse(await (await fetch(`${at(2).origin}/dcp/metadata`)).json());
    const body = requestBody('p', [metadata.credentialsSupported[0]?.id ?? '']);
    expect((await holder.post(broker.bench.did, `${at(2).origin}/dcp/credentials`, body)).status).toBe(201);
    const { operate } = memberAt(0).process();
    const id = await until(async () => {
      const items = (await operate('GET', '/v1/credentials')).body.items as { id: string; holder: string }[];
      return items.find((item) => item.holder === holder.did)?.id;
    });
    const member = keep(await startHubParty());
    await join(member, 0);
    const status = keep(await follow(member, at(2), {}));
    await until(() => (status.check([id], 'strict').state === 'good' ? true : undefined));
    const path = `/v1/credentials/${encodeURIComponent(id)}/revocation`;
    // Killed as soon as it has answered: whatever it had not said yet is said by another.
    const revoked = await memberAt(1).process().operate('POST', path, { reason: 'fraud' });
    await memberAt(1).process().kill();
    expect(revoked.status).toBe(200);
    await until(() => (status.check([id], 'strict').state === 'revoked' ? true : undefined));
    await memberAt(1).start();
    const lists = await Promise.all(
      broker.members.map(async ({ origin }) => await (await fetch(`${origin}/status/revocation-1`)).text()),
    );
    const bitsOf = (jwt: string) => JSON.parse(Buffer.from(jwt.split('.')[1] ?? '', 'base64url').toString());
    const shown = lists.map((jwt) => statusListForm.parse(bitsOf(jwt)).credentialSubject.encodedList);
    expect(new Set(shown).size).toBe(1);
  }, 120_000);

  test('catalogs are read by one process at a time, and by another when that is killed; every process shows them', async () => {
    const provider = await startProvider(broker.bench.did);
    keep(provider.party);
    await join(provider.party, 0);
    const titlesAt = async (index: number, q: string): Promise<string[]> => {
      const page: unknown = await (await fetch(`${at(index).origin}/store/offers?q=${q}`)).json();
      return storePage.parse(page).entries.map(({ title }) => title);
    };
    for (const [index, name] of ['Amstel', 'Vecht', 'Zaan'].entries()) {
      const upstream = { kind: 'file', path: `/data/${name}` } as const;
      await provider.catalog.addAsset(us, { id: `urn:asset:${name}`, title: name, keywords: [], upstream });
      const rules = { permission: [{ action: 'use' }] };
      await provider.catalog.addOffer(us, { id: `urn:offer:${name}`, asset: `urn:asset:${name}`, rules });
      await memberAt(index).process().kill(); // one of the three reads the catalogs
      const { operate } = memberAt(index + 1).process();
      const asked = await operate('POST', '/v1/store/harvest', { member: provider.party.did });
      expect(asked.status).toBe(202);
      for (const other of [index + 1, index + 2])
        await atLast(`${name} at ${other}`, async () =>
          (await titlesAt(other, name.toLowerCase())).length === 1 ? true : undefined,
        );
      await atLast('the result of the reading', async () => {
        const { harvest } = (await operate('GET', '/v1/status')).body as { harvest: { datasets: number } };
        return harvest.datasets === index + 1 ? true : undefined;
      });
      await memberAt(index).start();
    }
  }, 200_000);

  test('a database that goes away and comes back stops no process for good', async () => {
    const [provider, consumer] = [keep(await startHubParty()), keep(await startHubParty())];
    await join(provider, 0);
    await join(consumer, 1);
    const before = await register(provider, agreementOf('before', provider, consumer).body, 0);
    const line = keep(listener(consumer, at(2)));
    await until(() => (line.isListening() ? true : undefined));
    await postgres.restart();
    const kept: Kept[] = [];
    for (const [index] of broker.members.entries()) {
      const { body } = agreementOf(`after-${index}`, provider, consumer);
      await insist('an entry behind the restart', async () => {
        const answer = await postAs(provider, at(index), '/log/entries', body);
        if (answer.status === 201 || answer.status === 200) kept.push(await keptOf(answer));
        return answer.status < 300;
      });
    }
    expect(new Set([before, ...kept].map(({ index }) => index)).size).toBe(1 + kept.length);
    const late = keep(await startHubParty());
    await join(late, 0);
    await atLast('the news of who joined', async () =>
      line.linesOf().includes(`keys ${late.did}`) ? true : undefined,
    );
    expect(line.faults).toEqual([]);
    for (const { origin } of broker.members) expect((await fetch(`${origin}/health`)).status).toBe(200);
  }, 120_000);
});

describe.skipIf(!hasPostgres())('anchors of a broker of several processes', () => {
  test('are made by the process that writes, and by the next when it is killed', async () => {
    const world = keep(await startAnchorWorld({ isRegistered: false }));
    const own = keep(await startPostgres());
    const anchoring = keep(await sharedBroker(await own.database(), 2, anchorEnv(world)));
    await Promise.all(anchoring.members.map(({ start }) => start()));
    const { origin } = await readLog(anchoring.bench.origin);
    keep(keepMining(world));
    await registerLog(world.operator, {
      contract: world.target.contract,
      origin,
      owner: world.options.account.address,
    });
    const logUrl = `${anchoring.bench.origin}${origin.slice(origin.indexOf('/'))}`;
    await covering(logUrl, 1);
    const writing = await Promise.all(anchoring.members.map(isWriter));
    const [writer, other] = writing[0] ? anchoring.members : anchoring.members.toReversed();
    if (writer === undefined || other === undefined) throw new Error('there are two');
    const shown = (await other.process().operate('GET', '/v1/status')).body;
    expect(shown.anchoring).toMatchObject({ newestFinal: { size: expect.any(String) }, isStopped: false });
    await writer.process().kill();
    const member = keep(await startHubParty());
    const code = await inviteTo(other.process(), member.did);
    const hub = { did: anchoring.bench.did, origin: other.origin };
    expect((await postAs(member, hub, '/log/entries', await joiningOf(member, code))).status).toBe(201);
    await covering(logUrl, 2);
    await writer.start();
  }, 120_000);
});
