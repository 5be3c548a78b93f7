import { describe, expect, test } from 'vitest';
import { toBase64Url } from '../../contracts/bytes.ts';
import type { Json } from '../../contracts/json.ts';
import { assembleJws, encodeProtected, type GeneralJws, signingInput } from '../../contracts/ledger/jws.ts';
import { readVerifierKey } from '../../contracts/ledger/note.ts';
import { type LogPromise, logPromise, promiseKid, promiseText } from '../../contracts/ledger/promise.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import {
  leafJwk,
  registrationOf,
  startConnector,
  startTestBroker,
  submissionOf,
  type TestConnector,
} from '../../test/support/evidence-world.ts';
import { ed25519FromByte, signEd25519, type TestKey } from '../../test/support/keys.ts';
import { keys } from '../../test/support/ledger-world.ts';
import { joinAll, logKeys } from '../../test/support/log-bench.ts';
import {
  agreementBody,
  agreementEventBody,
  consumer,
  logStart,
  type MadeStatement,
  provider,
  type Signer,
  statementBody,
} from '../../test/support/log-parties.ts';
import type { Registration } from './ports.ts';
import { describeArtifact, isLate, isSameSubject, meaningOf } from './rules.ts';

/** The machine's clock at the hour of the test's artifacts, and a hand that turns it. */
const turnedClock = (): Clock & { ahead: number } => {
  const clock = {
    ahead: logStart - systemClock.now(),
    now: () => systemClock.now() + clock.ahead,
    sleep: systemClock.sleep,
  };
  return clock;
};

const agreement = agreementBody();

const world = async () => {
  const clock = turnedClock();
  const broker = await startTestBroker(clock);
  await joinAll(broker.ledger);
  const a = await startConnector(broker, { did: provider.did, clock });
  const b = await startConnector(broker, { did: consumer.did, clock });
  return {
    clock,
    broker,
    a,
    b,
    [Symbol.asyncDispose]: async () => {
      await a[Symbol.asyncDispose]();
      await b[Symbol.asyncDispose]();
      await broker[Symbol.asyncDispose]();
    },
  };
};

const settled = (connector: TestConnector, kind: Registration['kind'] = 'agreement', subject = '') =>
  eventually(
    () => registrationOf(connector, agreement.digest, kind, subject),
    (found) => found !== undefined && found.outcome.state !== 'waiting',
  );
const indexOf = (registration: Registration | undefined) =>
  registration?.outcome.state === 'registered' ? registration.outcome.index : undefined;
const alarmed = (connector: TestConnector, code: string) =>
  eventually(
    async () => connector.alarms.find((alarm) => alarm.code === code),
    (alarm) => alarm !== undefined,
  );

describe('registration', () => {
  test('keeps index and promise, and throws the leaf key away', async () => {
    await using its = await world();
    await its.a.evidence.registrar.submit(submissionOf(agreement.body));
    const done = await settled(its.a);
    expect(indexOf(done)).toBe(3);
    expect(done?.leafKey).toBeNull();
    expect(done?.outcome).toMatchObject({ state: 'registered', artifact: agreement.body.artifact });
    const rows = await its.a.database.db.selectFrom('registration').selectAll().execute();
    expect(JSON.stringify(rows)).not.toContain(leafJwk(5).d);
    expect(await its.a.evidence.registered.find(its.a.participant, agreement.digest)).toMatchObject({ index: 3 });
    expect(its.a.alarms).toEqual([]);
  });

  test('by both parties gives one entry, with one index for both', async () => {
    await using its = await world();
    await Promise.all([
      its.a.evidence.registrar.submit(submissionOf(agreement.body)),
      its.b.evidence.registrar.submit(submissionOf(agreement.body)),
    ]);
    const both = [await settled(its.a), await settled(its.b)];
    expect(both.map(indexOf)).toEqual([3, 3]);
    expect(both.map((one) => one?.leafKey)).toEqual([null, null]);
    expect(its.broker.ledger.size).toBe(4);
  });

  test('waits until its time: the consumer leaves it to the provider for a minute', async () => {
    await using its = await world();
    const held = { participant: its.b.participant, artifact: agreement.body.artifact, leafKey: leafJwk(5) } as const;
    await its.b.evidence.agreements.inForce({ ...held, role: 'consumer' });
    await systemClock.sleep(80);
    expect([(await registrationOf(its.b, agreement.digest))?.outcome.state, its.broker.ledger.size]).toEqual([
      'waiting',
      3,
    ]);
    its.clock.ahead += 60_000;
    expect(indexOf(await settled(its.b))).toBe(3);
    await its.a.evidence.agreements.inForce({ ...held, role: 'provider' });
    expect(indexOf(await settled(its.a))).toBe(3);
    await its.a.evidence.agreements.inForce({ ...held, role: 'provider', leafKey: null });
    await its.a.evidence.agreements.ended({ ...held, role: 'provider', artifact: null });
    expect(await its.a.database.db.selectFrom('registration').select('digest').execute()).toHaveLength(1);
  });

  test('is asked for once, however often it is handed over', async () => {
    await using its = await world();
    await Promise.all([0, 1, 2, 3].map(() => its.a.evidence.registrar.submit(submissionOf(agreement.body))));
    await settled(its.a);
    await its.a.evidence.registrar.submit(submissionOf(agreement.body));
    await its.a.evidence.registrar.again(its.a.participant, (await settled(its.a))?.digest ?? '');
    await systemClock.sleep(60);
    expect(its.broker.asked.filter((path) => path === '/log/entries')).toHaveLength(1);
    await expect(its.a.evidence.registrar.again(its.a.participant, 'none')).rejects.toMatchObject({
      code: 'not-found',
    });
  });

  test('goes in the order that the log asks for, whatever comes first', async () => {
    await using its = await world();
    const first = statementBody({ agreement });
    const second = statementBody({ agreement, after: first });
    const statements: readonly MadeStatement[] = [first, second, statementBody({ agreement, after: second })];
    const end = agreementEventBody({ agreementDigest: agreement.digest, event: 'end', signers: [provider, consumer] });
    its.broker.meddle = async () => new Response(null, { status: 503 });
    for (const made of statements.toReversed()) await its.a.evidence.registrar.submit(submissionOf(made.body));
    await its.a.evidence.registrar.submit(submissionOf(end));
    await its.a.evidence.registrar.submit(submissionOf(agreement.body, { notBefore: its.clock.now() + 60_000 }));
    await systemClock.sleep(60);
    its.broker.meddle = (_request, answer) => answer();
    const last = await registrationOf(its.a, agreement.digest, 'usage-statement', '3');
    await its.a.evidence.registrar.again(its.a.participant, last?.digest ?? ''); // somebody waits: all before it goes too
    expect(indexOf(await settled(its.a))).toBe(3);
    const found = await Promise.all(['1', '2', '3'].map((seq) => settled(its.a, 'usage-statement', seq)));
    const indexes = found.map((one) => indexOf(one) ?? 0);
    expect(indexes).toEqual(indexes.toSorted((one, other) => one - other));
    expect(indexOf(await settled(its.a, 'agreement-event', `end ${provider.did} ${consumer.did}`))).toBeGreaterThan(3);
    expect(its.broker.ledger.size).toBe(8);
    expect(its.a.alarms).toEqual([]);
  });

  test('of a statement whose predecessor was lost here waits until the other party has brought it', async () => {
    await using its = await world();
    const first = statementBody({ agreement });
    const second = statementBody({ agreement, after: first });
    await its.a.evidence.registrar.submit(submissionOf(agreement.body));
    await settled(its.a);
    let refused = 0;
    its.broker.meddle = async (_request, answer) => {
      const real = await answer();
      if (real.status === 422) refused += 1;
      return real;
    };
    await its.a.evidence.registrar.submit(submissionOf(second.body));
    await eventually(
      async () => refused,
      (count) => count > 0,
    );
    expect((await registrationOf(its.a, agreement.digest, 'usage-statement', '2'))?.outcome.state).toBe('waiting');
    await its.b.evidence.registrar.submit(submissionOf(agreement.body));
    await its.b.evidence.registrar.submit(submissionOf(first.body));
    const before = indexOf(await settled(its.b, 'usage-statement', '1')) ?? 0;
    const kept = await registrationOf(its.a, agreement.digest, 'usage-statement', '2');
    await its.a.evidence.registrar.again(its.a.participant, kept?.digest ?? '');
    expect(indexOf(await settled(its.a, 'usage-statement', '2'))).toBe(before + 1);
    expect(its.a.alarms).toEqual([]);
  });

  test('a void goes without its agreement', async () => {
    await using its = await world();
    const body = agreementEventBody({ agreementDigest: agreement.digest, event: 'void', signers: [provider] });
    await its.a.evidence.registrar.submit(submissionOf(agreement.body, { notBefore: its.clock.now() + 60_000 }));
    await its.a.evidence.registrar.submit(submissionOf(body));
    expect(indexOf(await settled(its.a, 'agreement-event', `void ${provider.did}`))).toBe(3);
  });

  test('survives lost answers and a program that dies, and still has one entry', async () => {
    await using its = await world();
    let answers = 0;
    its.broker.meddle = async (request, answer) => {
      const real = await answer();
      if (!request.url.endsWith('/log/entries')) return real;
      answers += 1;
      return answers <= 2 ? new Response(null, { status: 502 }) : real;
    };
    let deaths = 0;
    const database = its.a.database;
    await its.a.stop();
    await using mortal = await startConnector(its.broker, {
      did: provider.did,
      clock: its.clock,
      database,
      around: (store) => ({
        ...store,
        settle: async (...parts) => {
          deaths += 1;
          if (deaths === 1) throw new Error('the program died before it kept the promise');
          await store.settle(...parts);
        },
      }),
    });
    await mortal.evidence.registrar.submit(submissionOf(agreement.body));
    expect(indexOf(await settled(mortal))).toBe(3);
    expect([answers, deaths, its.broker.ledger.size]).toEqual([4, 2, 4]);
  });

  test('that the log refuses raises an alarm, keeps its reason and its key, and can be tried again', async () => {
    const clock = turnedClock();
    await using broker = await startTestBroker(clock);
    await joinAll(broker.ledger, [provider]); // the consumer has not joined yet
    await using a = await startConnector(broker, { did: provider.did, clock });
    await a.evidence.registrar.submit(submissionOf(agreement.body));
    const refused = await settled(a);
    expect(refused?.outcome).toMatchObject({ state: 'refused' });
    expect(refused?.outcome.state === 'refused' && refused.outcome.reason).toContain(
      'no key did:web:consumer.example#s',
    );
    expect(refused?.leafKey).not.toBeNull();
    expect(await alarmed(a, 'registration-refused')).toMatchObject({ participant: 'main' });
    await systemClock.sleep(60);
    expect(broker.asked.filter((path) => path === '/log/entries')).toHaveLength(1);
    await joinAll(broker.ledger, [consumer]);
    await a.evidence.registrar.again(a.participant, refused?.digest ?? '');
    expect(indexOf(await settled(a))).toBe(3);
  });

  test('refuses at once what no log would take', async () => {
    await using its = await world();
    const submit = (changes: object) =>
      its.a.evidence.registrar.submit({ ...submissionOf(agreement.body), ...changes });
    await expect(submit({ leafKey: leafJwk(6) })).rejects.toMatchObject({ code: 'entry-refused' });
    await expect(submit({ leafKey: {} })).rejects.toMatchObject({ code: 'entry-refused' });
    await expect(submit({ kind: 'usage-statement' })).rejects.toMatchObject({ code: 'entry-refused' });
    await expect(submit({ kind: 'agreement-event' })).rejects.toMatchObject({ code: 'entry-refused' });
    await expect(submit({ artifact: { payload: '', signatures: [] } })).rejects.toMatchObject({
      code: 'entry-refused',
    });
    expect(await its.a.database.db.selectFrom('registration').select('digest').execute()).toEqual([]);
  });

  test('that takes long is told, and one whose key is gone is refused', async () => {
    await using its = await world();
    its.broker.meddle = async () => new Response(null, { status: 503 });
    await its.a.evidence.registrar.submit(submissionOf(agreement.body));
    const digest = (await registrationOf(its.a, agreement.digest))?.digest ?? '';
    const task = { id: digest, topic: 'registrations', participant: 'main', subject: digest };
    await its.a.evidence.handlers.registrations({ ...task, attempts: 14 }).catch(() => undefined);
    expect(await alarmed(its.a, 'registration-late')).toMatchObject({ detail: expect.stringContaining('15 tries') });
    await its.a.database.db.updateTable('registration').set({ leaf_key: null }).execute();
    expect(await its.a.evidence.handlers.registrations({ ...task, attempts: 0 })).toBe('done');
    expect((await settled(its.a))?.outcome).toMatchObject({ state: 'refused', reason: 'its leaf key is gone' });
    expect([isLate(13), isLate(14), isLate(15), isLate(74), isLate(75)]).toEqual([false, true, false, true, false]);
  });

  test.each([
    [201, 'registered'],
    [200, 'duplicate'],
    [400, 'refused'],
    [403, 'refused'],
    [409, 'refused'],
    [422, 'refused'],
    [401, 'later'],
    [404, 'later'],
    [429, 'later'],
    [500, 'later'],
    [503, 'later'],
    [302, 'later'],
  ] as const)('a %i means %s', (status, meaning) => {
    expect(meaningOf(status)).toBe(meaning);
  });

  test('the same is the same text, or for an event the same event by the same signers', () => {
    const described = (kind: Registration['kind'], artifact: unknown) => {
      const read = describeArtifact(nodeCrypto, kind, artifact);
      if (!read.ok) throw new Error(read.reason);
      return read.value;
    };
    const statement = (changes: object = {}) =>
      described('usage-statement', statementBody({ agreement, changes }).body.artifact);
    const other = { salt: toBase64Url(new Uint8Array(32).fill(3)) };
    expect(isSameSubject(statement(), statement())).toBe(true);
    expect(isSameSubject(statement(), statement(other))).toBe(false); // one number, two statements
    const event = (signers: readonly Signer[], agreementDigest = agreement.digest) =>
      described('agreement-event', agreementEventBody({ agreementDigest, event: 'end', signers }).artifact);
    const ours = event([provider, consumer]);
    expect(isSameSubject(ours, { ...event([provider, consumer]), payload: 'decided a second later' })).toBe(true);
    expect(isSameSubject(ours, event([provider]))).toBe(false);
    expect(isSameSubject(ours, event([provider, consumer], statement().leafKey))).toBe(false);
  });

  test('an artifact of another kind is not described', () => {
    for (const kind of ['agreement', 'agreement-event', 'usage-statement'] as const)
      expect(describeArtifact(nodeCrypto, kind, { payload: 'e30', signatures: [] }).ok).toBe(false);
  });
});

const logKey = (() => {
  const key = readVerifierKey(nodeCrypto, logKeys.vkey);
  if (!key.ok) throw new Error(key.reason);
  return key.value;
})();

/** A promise as this key signs it. */
const signPromise = (promise: LogPromise, key: TestKey = keys.log): GeneralJws => {
  const payload = promiseText(promise);
  const header = encodeProtected(promiseKid(logKey), 'stekker-log-promise+jws');
  return assembleJws(payload, [{ protected: header, signature: signEd25519(key, signingInput(header, payload)) }]);
};
const promiseIn = (body: Json): LogPromise => {
  const { payload } = body as unknown as GeneralJws;
  return logPromise.parse(JSON.parse(Buffer.from(payload, 'base64url').toString()));
};

describe('a log that lies', () => {
  const lie = async (change: (body: Json) => Json | Promise<Json>, status = 201) => {
    const its = await world();
    let isHonest = false;
    its.broker.meddle = async (request, answer) => {
      const real = await answer();
      if (isHonest || !request.url.endsWith('/log/entries')) return real;
      return Response.json(await change((await real.json()) as Json), { status });
    };
    await its.a.evidence.registrar.submit(submissionOf(agreement.body));
    const alarm = await alarmed(its.a, 'promise-not-believed');
    const waiting = await registrationOf(its.a, agreement.digest);
    expect(waiting?.outcome.state).toBe('waiting');
    expect(waiting?.leafKey).toEqual(leafJwk(5));
    isHonest = true;
    expect(indexOf(await settled(its.a))).toBe(3);
    const kept = await its.a.alarmStore.list(10);
    expect(kept.map(({ code }) => code)).toContain('promise-not-believed');
    await its[Symbol.asyncDispose]();
    return alarm?.detail ?? '';
  };
  const other = agreementBody({ name: 'two' });

  test.each([
    ['signed by another key', (body: Json) => signPromise(promiseIn(body), ed25519FromByte(77)), 'does not hold'],
    ['of another log', (body: Json) => signPromise({ ...promiseIn(body), origin: 'other.example/log' }), 'another log'],
    [
      'about another entry',
      (body: Json) => signPromise({ ...promiseIn(body), leafHash: toBase64Url(new Uint8Array(32)) }),
      'another entry than the one',
    ],
    [
      'with an index beyond all',
      (body: Json) => signPromise({ ...promiseIn(body), index: '9007199254740993' }),
      'index',
    ],
    ['that is none', () => 'yes', 'the promise'],
    ['that is empty', () => ({}), 'the promise'],
  ])('with a promise %s is not believed', async (_what, change, reason) => {
    expect(await lie(change as (body: Json) => Json)).toContain(reason);
  });

  test.each([
    ['another agreement', (body: Json) => ({ promise: body, artifact: other.body.artifact }), 'another artifact'],
    [
      'no agreement',
      (body: Json) => ({ promise: body, artifact: { payload: '', signatures: [] } }),
      'said to be registered',
    ],
    ['nothing', (body: Json) => ({ promise: body }), 'said to be registered'],
    ['no promise', () => ({ artifact: agreement.body.artifact }), 'the promise'],
  ])('that says %s was registered before is not believed', async (_what, change, reason) => {
    expect(await lie(change as unknown as (body: Json) => Json, 200)).toContain(reason);
  });

  test('a duplicate whose artifact was erased is taken with its index', async () => {
    await using its = await world();
    await its.broker.ledger.register(agreement.body, provider.did);
    await its.broker.ledger.erase(agreement.digest);
    await its.b.evidence.registrar.submit(submissionOf(agreement.body));
    const done = await settled(its.b);
    expect(done?.outcome).toMatchObject({ state: 'registered', index: 3, artifact: null });
  });

  test('a promise of an index where something else stands is found in the tree, and kept', async () => {
    await using its = await world();
    its.broker.meddle = async (request, answer) => {
      const real = await answer();
      if (!request.url.endsWith('/log/entries')) return real;
      return Response.json(signPromise({ ...promiseIn((await real.json()) as Json), index: '1' }), { status: 201 });
    };
    await its.a.evidence.registrar.submit(submissionOf(agreement.body));
    expect(indexOf(await settled(its.a))).toBe(1);
    await eventually(
      () => its.a.evidence.follower.follow(),
      ({ checkpoint }) => checkpoint.size === 4,
    );
    const alarm = await alarmed(its.a, 'promise-broken');
    expect(alarm?.detail).toContain('another entry stands');
    expect(alarm?.evidence).toMatchObject({ checkpoint: expect.stringContaining('broker.example/log/2026\n') });
    await its.a.evidence.follower.follow();
    expect(its.a.alarms.filter(({ code }) => code === 'promise-broken')).toHaveLength(1);
  });

  test('a registered artifact that is not the one in the entry is found in the tree', async () => {
    await using its = await world();
    await its.broker.ledger.register(agreement.body, provider.did);
    const [first, second] = agreement.body.artifact.signatures;
    const forged = { ...agreement.body.artifact, signatures: [first, { ...second, signature: first?.signature }] };
    its.broker.meddle = async (request, answer) => {
      const real = await answer();
      if (!request.url.endsWith('/log/entries')) return real;
      const { promise } = (await real.json()) as { promise: Json };
      return Response.json({ promise, artifact: forged });
    };
    await its.a.evidence.registrar.submit(submissionOf(agreement.body));
    await settled(its.a);
    await eventually(
      () => its.a.evidence.follower.follow(),
      ({ checkpoint }) => checkpoint.size === 4,
    );
    expect((await alarmed(its.a, 'promise-broken'))?.detail).toContain('does not commit to the artifact');
  });

  test('a promise that no checkpoint covers after ten minutes is told once', async () => {
    await using its = await world();
    its.broker.meddle = async (request, answer) => {
      const real = await answer();
      if (!request.url.endsWith('/log/entries')) return real;
      return Response.json(signPromise({ ...promiseIn((await real.json()) as Json), index: '1000' }), { status: 201 });
    };
    await its.a.evidence.registrar.submit(submissionOf(agreement.body));
    await settled(its.a);
    await its.a.evidence.follower.follow();
    expect(its.a.alarms).toEqual([]);
    its.clock.ahead += 601_000;
    await its.a.evidence.follower.follow();
    await its.a.evidence.follower.follow();
    expect(its.a.alarms.map(({ code }) => code)).toEqual(['promise-uncovered']);
  });

  test('a promise that was kept is proven and not asked for again', async () => {
    await using its = await world();
    await its.a.evidence.registrar.submit(submissionOf(agreement.body));
    await settled(its.a);
    await eventually(
      () => its.a.evidence.follower.follow(),
      ({ checkpoint }) => checkpoint.size === 4,
    );
    const state = () => its.a.database.db.selectFrom('registration').select('promise_state').executeTakeFirst();
    await eventually(state, (row) => row?.promise_state === 'proven');
    const before = its.broker.asked.length;
    await its.a.evidence.follower.follow();
    expect(its.broker.asked.slice(before)).toEqual(['/log/2026/checkpoint']);
  });
});
