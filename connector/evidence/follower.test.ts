import { describe, expect, test } from 'vitest';
import { toBase64, utf8 } from '../../contracts/bytes.ts';
import type { Json } from '../../contracts/json.ts';
import { checkpointText, readVerifierKey, signatureLine } from '../../contracts/ledger/note.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import { honestInfo, startConnector, startTestBroker, type TestBroker } from '../../test/support/evidence-world.ts';
import { ed25519FromByte, p256FromByte, signEd25519 } from '../../test/support/keys.ts';
import { keys, origin } from '../../test/support/ledger-world.ts';
import { joinAll, logKeys, published, shiftedClock } from '../../test/support/log-bench.ts';
import { agreementBody, consumer, keyEventBody, logStart, provider, stranger } from '../../test/support/log-parties.ts';
import type { OwnKeyEvents } from './ports.ts';

/** The second look comes soon; an hour stays an hour. */
const clock: Clock = {
  now: shiftedClock(logStart).now,
  sleep: (ms, signal) => systemClock.sleep(ms > 10_000 ? ms : Math.min(ms, 20), signal),
};

const brokerWith = async (size: number): Promise<TestBroker> => {
  const broker = await startTestBroker(clock);
  await joinAll(broker.ledger);
  await published(broker.bench, size);
  return broker;
};

/** A checkpoint that the true log key signed. */
const signedNote = (size: number, root: Uint8Array): string => {
  const key = readVerifierKey(nodeCrypto, logKeys.vkey);
  if (!key.ok) throw new Error(key.reason);
  const text = checkpointText({ origin, size, root });
  return `${text}\n${signatureLine(origin, key.value.keyId, signEd25519(keys.log, utf8(text)))}`;
};

const codes = (alarms: readonly { readonly code: string }[]) => alarms.map(({ code }) => code);

describe('following the broker’s log', () => {
  test('reads each entry once, also after a restart', async () => {
    await using broker = await brokerWith(3);
    const first = await startConnector(broker, { did: provider.did, clock });
    const seen = await first.evidence.follower.follow();
    expect(seen.publics.map(({ artifact }) => artifact.kind)).toEqual(['genesis', 'key-event', 'key-event']);
    await first.stop();
    await broker.ledger.register(agreementBody().body, provider.did);
    await published(broker.bench, 4);
    const { database } = first;
    await using second = await startConnector(broker, { did: provider.did, clock, database });
    expect((await second.evidence.follower.current())?.publics).toEqual(seen.publics);
    const before = broker.asked.length;
    const now = await second.evidence.follower.follow();
    expect([now.checkpoint.size, now.publics.length]).toEqual([4, 3]);
    expect(broker.asked.slice(before).filter((path) => path.startsWith('/log/2026/tile'))).toEqual([
      '/log/2026/tile/entries/000.p/4',
    ]);
    expect(second.alarms).toEqual([]);
  });

  test('goes on by itself, and all who ask during a visit share the one behind it', async () => {
    await using broker = await brokerWith(3);
    await using connector = await startConnector(broker, { did: provider.did, clock, followIntervalMs: 5 });
    await broker.ledger.register(agreementBody().body, provider.did);
    await eventually(
      () => connector.evidence.follower.current(),
      (known) => known?.checkpoint.size === 4,
    );
    const { follow } = connector.evidence.follower;
    const before = broker.asked.length;
    const [, second, third] = await Promise.all([follow(), follow(), follow()]);
    expect(second).toBe(third);
    const visits = broker.asked.slice(before).filter((path) => path.endsWith('/checkpoint'));
    expect(visits.length).toBeLessThanOrEqual(3);
  });

  test('of two processes on one database, each believes what the other kept', async () => {
    await using broker = await brokerWith(3);
    await using one = await startConnector(broker, { did: provider.did, clock });
    const { database } = one;
    const other = await startConnector(broker, { did: provider.did, clock, database });
    await Promise.all([one.evidence.follower.follow(), other.evidence.follower.follow()]);
    await broker.ledger.register(agreementBody().body, provider.did);
    await published(broker.bench, 4);
    const sizes = [await one.evidence.follower.follow(), await other.evidence.follower.follow()];
    expect(sizes.map(({ checkpoint }) => checkpoint.size)).toEqual([4, 4]);
    expect((await one.followed.load(origin))?.checkpoint.size).toBe(4);
    await other.stop();
  });

  test('says not-yet without a checkpoint, and fetch-failed without an answer, and no alarm', async () => {
    await using broker = await brokerWith(3);
    broker.meddle = async (request, answer) =>
      request.url.endsWith('/checkpoint') ? new Response(null, { status: 404 }) : answer();
    await using connector = await startConnector(broker, { did: provider.did, clock });
    await expect(connector.evidence.follower.follow()).rejects.toMatchObject({ code: 'not-yet' });
    broker.meddle = async () => new Response(null, { status: 502 });
    await expect(connector.evidence.follower.follow()).rejects.toMatchObject({ code: 'fetch-failed' });
    await using stranger_ = await startConnector(broker, { did: provider.did, clock });
    await expect(stranger_.evidence.follower.follow()).rejects.toMatchObject({ code: 'fetch-failed' });
    expect(connector.alarms).toEqual([]);
  });
});

describe('a key event for our DID', () => {
  const ours = (made: readonly string[]): OwnKeyEvents => ({
    participantOf: (did) => (did === provider.did ? ('main' as never) : undefined),
    made: async (_participant, hash) => made.includes(hash),
  });

  test('that we did not make raises an alarm, once; our own, and those of others, raise none', async () => {
    await using broker = await startTestBroker(clock);
    const joinCode = await broker.ledger.issueJoinCode(provider.did, 60_000);
    const own = keyEventBody({ of: provider, joinCode });
    await broker.ledger.register(own.body, provider.did);
    await joinAll(broker.ledger, [consumer]);
    await published(broker.bench, 3);
    await using connector = await startConnector(broker, { did: provider.did, clock, ownKeys: ours([own.hash]) });
    await connector.evidence.follower.follow();
    expect(connector.alarms).toEqual([]);
    // The registry gives our DID other keys: whoever runs it may do so, but not unseen.
    await broker.ledger.recover({
      did: provider.did as never,
      document: null,
      keys: [{ kid: `${provider.did}#forged`, use: ['assertionMethod'], spki: toBase64(ed25519FromByte(66).spki) }],
    });
    await joinAll(broker.ledger, [stranger]);
    await published(broker.bench, 5);
    await connector.evidence.follower.follow();
    await connector.evidence.follower.follow();
    expect(codes(connector.alarms)).toEqual(['foreign-key-event']);
    expect(connector.alarms[0]).toMatchObject({ participant: 'main', evidence: { index: 3 } });
    expect(connector.alarms[0]?.detail).toContain('recover, seq 2');
    expect(codes(await connector.alarmStore.list(10))).toEqual(['foreign-key-event']);
  });
});

describe('a log that cannot be believed', () => {
  const shows = (broker: TestBroker, note: () => string | undefined) => {
    broker.meddle = async (request, answer) => {
      const shown = request.url.endsWith('/checkpoint') ? note() : undefined;
      return shown === undefined ? answer() : new Response(shown);
    };
  };
  const grown = async () => {
    const broker = await brokerWith(3);
    const old = broker.ledger.checkpoint ?? '';
    const connector = await startConnector(broker, { did: provider.did, clock });
    await broker.ledger.register(agreementBody().body, provider.did);
    await published(broker.bench, 4);
    const seen = await connector.evidence.follower.follow();
    expect(seen.checkpoint.size).toBe(4);
    return {
      broker,
      connector,
      old,
      [Symbol.asyncDispose]: async () => {
        await connector[Symbol.asyncDispose]();
        await broker[Symbol.asyncDispose]();
      },
    };
  };

  test('because it shrank, raises an alarm with both checkpoints', async () => {
    await using its = await grown();
    const { broker, connector, old } = its;
    const shown = await connector.evidence.follower.current();
    shows(broker, () => old);
    await expect(connector.evidence.follower.follow()).rejects.toMatchObject({ code: 'log-not-believed' });
    expect(codes(connector.alarms)).toEqual(['log-not-believed']);
    expect(connector.alarms[0]?.detail).toContain('3 entries, 4 were seen before');
    expect(connector.alarms[0]?.evidence).toEqual({ origin, seen: shown?.note, shown: old });
    shows(broker, () => undefined);
    expect((await connector.evidence.follower.follow()).checkpoint.size).toBe(4);
  });

  test('but an old checkpoint out of a cache, for a moment, does not', async () => {
    await using its = await grown();
    let times = 0;
    shows(its.broker, () => {
      times += 1;
      return times === 1 ? its.old : undefined;
    });
    expect((await its.connector.evidence.follower.follow()).checkpoint.size).toBe(4);
    expect(times).toBeGreaterThan(1);
    expect(its.connector.alarms).toEqual([]);
  });

  test('because it forked, at the same size or a greater one, raises an alarm', async () => {
    await using its = await grown();
    shows(its.broker, () => signedNote(4, new Uint8Array(32).fill(1)));
    await expect(its.connector.evidence.follower.follow()).rejects.toMatchObject({ code: 'log-not-believed' });
    await its.broker.ledger.register(agreementBody({ name: 'two' }).body, provider.did);
    await published(its.broker.bench, 5);
    shows(its.broker, () => signedNote(5, new Uint8Array(32).fill(2)));
    await expect(its.connector.evidence.follower.follow()).rejects.toMatchObject({ code: 'log-not-believed' });
    expect(codes(its.connector.alarms)).toEqual(['log-not-believed', 'log-not-believed']);
    expect((await its.connector.followed.load(origin))?.checkpoint.size).toBe(4);
  });

  test('because its checkpoint is gone, raises an alarm', async () => {
    await using its = await grown();
    its.broker.meddle = async (request, answer) =>
      request.url.endsWith('/checkpoint') ? new Response(null, { status: 404 }) : answer();
    await expect(its.connector.evidence.follower.follow()).rejects.toMatchObject({ code: 'log-not-believed' });
    expect(its.connector.alarms[0]?.evidence).toMatchObject({ shown: null });
  });
});

describe('the identity of the log', () => {
  const infoWith = (changes: { readonly [key: string]: Json }) => (url: string) => {
    const info = honestInfo(url);
    return { ...info, log: { ...info.log, ...changes } } as unknown as Json;
  };
  const otherVkey = `log ${logKeys.vkey.replace('2026', '2027')}\nquorum none\n`;

  test('is fixed at first contact: what the broker says otherwise later raises an alarm and changes nothing', async () => {
    await using broker = await brokerWith(3);
    const first = await startConnector(broker, { did: provider.did, clock });
    await first.evidence.follower.follow();
    await first.stop();
    broker.info = infoWith({ registryKey: toBase64(p256FromByte(77).spki) });
    const { database } = first;
    await using second = await startConnector(broker, { did: provider.did, clock, database, followIntervalMs: 5 });
    await eventually(
      async () => second.alarms.length,
      (count) => count > 0,
    );
    expect((await second.evidence.follower.follow()).checkpoint.size).toBe(3);
    await systemClock.sleep(40);
    expect(codes(second.alarms)).toEqual(['log-renamed']);
  });

  test.each([
    ['a policy of another log', { policy: otherVkey }],
    ['a policy that is none', { policy: 'quorum 3' }],
    ['a key that is none', { vkey: 'x' }],
    ['a key of another name', { origin: 'broker.example/log/2027' }],
    ['a registry key that is none', { registryKey: 'AAAA' }],
    ['no URL', { url: 'x' }],
  ])('is refused with %s', async (_what, changes) => {
    await using broker = await brokerWith(3);
    broker.info = infoWith(changes);
    await using connector = await startConnector(broker, { did: provider.did, clock });
    await expect(connector.evidence.follower.follow()).rejects.toMatchObject({ code: 'log-not-believed' });
  });

  test('must be the one that the genesis names', async () => {
    await using broker = await brokerWith(3);
    broker.info = infoWith({ registryKey: toBase64(p256FromByte(77).spki) });
    await using connector = await startConnector(broker, { did: provider.did, clock });
    await expect(connector.evidence.follower.follow()).rejects.toMatchObject({ code: 'log-not-believed' });
    expect(connector.alarms[0]?.detail).toContain('genesis');
  });

  test('cannot be known of a broker that says nothing', async () => {
    await using broker = await brokerWith(3);
    broker.meddle = async () => new Response(null, { status: 404 });
    await using connector = await startConnector(broker, { did: provider.did, clock });
    await expect(connector.evidence.follower.follow()).rejects.toMatchObject({ code: 'fetch-failed' });
  });
});
