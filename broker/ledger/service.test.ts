import { describe, expect, test } from 'vitest';
import { fromBase64Url, toBase64, toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { leafKeyId, readEntry } from '../../contracts/ledger/entry.ts';
import { type GeneralJws, jwsText } from '../../contracts/ledger/jws.ts';
import { readPolicy, readVerifierKey, verifyNote } from '../../contracts/ledger/note.ts';
import { verifyPromise } from '../../contracts/ledger/promise.ts';
import { isIncluded, leafHash } from '../../contracts/ledger/tree.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { createVerifyPool, type VerifyInPool } from '../../kernel/verify-pool.ts';
import { ed25519FromByte, p256FromByte } from '../../test/support/keys.ts';
import { keys, origin } from '../../test/support/ledger-world.ts';
import { joinAll, type LogBench, logBench, logKeys, published, shiftedClock } from '../../test/support/log-bench.ts';
import {
  agreementBody,
  agreementEventBody,
  consumer,
  documentOf,
  keyEventBody,
  logStart,
  provider,
  type Signer,
  statementBody,
  stranger,
} from '../../test/support/log-parties.ts';
import { effectDelayMs } from './rules.ts';
import type { Ledger } from './service.ts';

const logKey = (() => {
  const key = readVerifierKey(nodeCrypto, logKeys.vkey);
  if (!key.ok) throw new Error(key.reason);
  return key.value;
})();
const policy = (() => {
  const read = readPolicy(nodeCrypto, `log ${logKeys.vkey}\nquorum none\n`);
  if (!read.ok) throw new Error(read.reason);
  return read.value;
})();

/** A log in which provider and consumer have joined (entries 0, 1, 2). */
const joined = async (changes: Parameters<typeof logBench>[0] = {}): Promise<{ bench: LogBench; ledger: Ledger }> => {
  const bench = logBench(changes);
  const ledger = await bench.start();
  await joinAll(ledger);
  return { bench, ledger };
};

const reasonOf = async (work: Promise<unknown>): Promise<string> => {
  try {
    await work;
    return 'accepted';
  } catch (error) {
    const { code, detail } = error as { code: string; detail?: string };
    return `${code}: ${detail ?? ''}`;
  }
};

const entryOf = async ({ bench }: { bench: LogBench }, index: number) => {
  const [row] = await bench.store.entries(origin, index, index + 1);
  if (row === undefined) throw new Error(`no entry ${index}`);
  return row;
};

describe('the log begins', () => {
  test('with its genesis as entry 0, public, and a checkpoint that verifies', async () => {
    const bench = logBench();
    const ledger = await bench.start();
    const note = await published(bench, 1);
    const checkpoint = verifyNote(nodeCrypto, note, policy);
    expect(checkpoint).toMatchObject({ ok: true, value: { origin, size: 1 } });
    const row = await bench.store.byIndex(origin, 0);
    const text = await ledger.publicArtifact(row?.digest ?? '');
    expect(JSON.parse(text ?? '')).toMatchObject({
      type: 'genesis',
      origin,
      logKey: logKeys.vkey,
      registryKey: toBase64(keys.registry.spki),
      previous: null,
      policy: `log ${logKeys.vkey}\nquorum none\n`,
    });
    expect(readEntry((await entryOf({ bench }, 0)).entry).ok).toBe(true);
    await ledger.close();
  });

  test('not under a key or a policy of another name', async () => {
    const bench = logBench();
    await expect(bench.start({ origin: 'other.example/log/2026' })).rejects.toMatchObject({ code: 'config-invalid' });
    await expect(bench.start({ policy: 'quorum none\n' })).rejects.toMatchObject({ code: 'config-invalid' });
  });
});

describe('registration', () => {
  test('answers with a promise of the log for the entry that stands there', async () => {
    const world = await joined();
    const { digest, body } = agreementBody();
    const { index, promise, duplicateOf } = await world.ledger.register(body, consumer.did);
    expect([index, duplicateOf]).toEqual([3, null]);
    const verified = verifyPromise(nodeCrypto, promise, logKey);
    const row = await entryOf(world, 3);
    expect(verified).toMatchObject({ ok: true, value: { origin, index: '3', leafHash: row.leaf } });
    expect(toBase64Url(leafHash(nodeCrypto, utf8(row.entry)))).toBe(row.leaf);
    const event = agreementEventBody({ agreementDigest: digest, event: 'end', signers: [provider, consumer] });
    expect((await world.ledger.register(event, provider.did)).index).toBe(4);
    await world.ledger.close();
  });

  test('the entry names nobody, and the artifact is kept sealed', async () => {
    const world = await joined();
    await world.ledger.register(agreementBody().body, provider.did);
    const { entry } = await entryOf(world, 3);
    for (const secret of ['provider', 'consumer', 'urn:', 'rain']) expect(entry).not.toContain(secret);
    expect((await world.bench.store.byIndex(origin, 3))?.text).toMatch(/^sealed:/);
    await world.ledger.close();
  });

  test('names all faults of a body at once, before any signature is looked at', async () => {
    let checked = 0;
    const counting: VerifyInPool = (check) => {
      checked += 1;
      return createVerifyPool(nodeCrypto)(check);
    };
    const { ledger } = await joined({ changes: { verifyInPool: counting } });
    const { body } = agreementBody();
    const bad = { ...body, spki: 'AAAA', leafSignature: 'AB==', extra: 1 };
    await expect(ledger.register(bad, provider.did)).rejects.toMatchObject({
      code: 'body-invalid',
      faults: expect.arrayContaining([
        expect.objectContaining({ path: '/spki' }),
        expect.objectContaining({ path: '/leafSignature' }),
      ]),
    });
    await expect(ledger.register(null, provider.did)).rejects.toMatchObject({ faults: [{ path: '' }] });
    for (const other of [null, [], { kind: 'poem' }, { ...body, kind: 'usage-statement' }])
      await expect(ledger.register(other, provider.did)).rejects.toMatchObject({ code: 'body-invalid' });
    const loose = { ...body.artifact, payload: toBase64Url(utf8('{ "v": 1 }')) };
    expect(await reasonOf(ledger.register({ ...body, artifact: loose }, provider.did))).toContain('not canonical JSON');
    expect(await reasonOf(ledger.register(body, stranger.did))).toContain('forbidden');
    expect(checked).toBe(0);
    await ledger.close();
  });

  test.each([
    ['a garbage second signature', (jws: GeneralJws) => changeSignature(jws, 1), 'does not hold'],
    ['a garbage first signature', (jws: GeneralJws) => changeSignature(jws, 0), 'does not hold'],
    ['one signature too few', (jws: GeneralJws) => ({ ...jws, signatures: jws.signatures.slice(0, 1) }), 'signature'],
    [
      'signatures in the wrong order',
      (jws: GeneralJws) => ({ ...jws, signatures: jws.signatures.toReversed() }),
      'signature',
    ],
  ])('refuses %s', async (_name, change, reason) => {
    const { ledger } = await joined();
    const { body } = agreementBody();
    const artifact = change(body.artifact);
    const leaf = p256FromByte(5);
    const { signDer } = await import('../../test/support/keys.ts');
    const leafSignature = toBase64(signDer(leaf, utf8(jwsText(artifact))));
    const said = await reasonOf(ledger.register({ ...body, artifact, leafSignature }, provider.did));
    expect(said).toContain('entry-refused');
    expect(said).toContain(reason);
    expect(ledger.size).toBe(3);
    await ledger.close();
  });

  test('refuses another leaf key, and a leaf signature over something else', async () => {
    const { ledger } = await joined();
    const { body } = agreementBody();
    const other = agreementBody({ leaf: p256FromByte(9) });
    expect(await reasonOf(ledger.register(other.body, provider.did))).toContain('another leaf key');
    const swapped = { ...body, leafSignature: agreementBody({ name: 'two' }).body.leafSignature };
    expect(await reasonOf(ledger.register(swapped, provider.did))).toContain(
      'the signature in the entry does not hold',
    );
    expect(ledger.size).toBe(3);
    await ledger.close();
  });

  test('refuses signatures of keys that nobody introduced', async () => {
    const { ledger } = await joined();
    const forged: Signer = { ...consumer, key: ed25519FromByte(44) };
    const unknown: Signer = { ...consumer, kid: `${consumer.did}#other` };
    expect(
      await reasonOf(ledger.register(agreementBody({ signers: [provider, forged] }).body, provider.did)),
    ).toContain('does not hold');
    expect(
      await reasonOf(ledger.register(agreementBody({ signers: [provider, unknown] }).body, provider.did)),
    ).toContain('counts now');
    await ledger.close();
  });

  test('takes statements in order, by either party, and refuses sums that are not those named', async () => {
    const { ledger } = await joined();
    const agreement = agreementBody();
    const one = statementBody({ agreement });
    const two = statementBody({ agreement, after: one });
    expect(await reasonOf(ledger.register(one.body, provider.did))).toContain('agreement is not registered');
    await ledger.register(agreement.body, provider.did);
    expect(await reasonOf(ledger.register(two.body, provider.did))).toContain('the next statement has seq 1');
    expect(await reasonOf(ledger.register({ ...one.body, sums: two.body.sums }, provider.did))).toContain('the sums');
    expect((await ledger.register(one.body, provider.did)).index).toBe(4);
    expect((await ledger.register(two.body, consumer.did)).index).toBe(5);
    await ledger.close();
  });

  test('an agreement and its statements can stand in one batch, judged in its order', async () => {
    const { ledger } = await joined({
      changes: { verifyInPool: async (check) => check(nodeCrypto), limits: { batchMs: 30 } },
    });
    const agreement = agreementBody();
    const one = statementBody({ agreement });
    const two = statementBody({ agreement, after: one });
    const all = [agreement.body, one.body, two.body].map((body) => ledger.register(body, provider.did));
    expect((await Promise.all(all)).map(({ index }) => index)).toEqual([3, 4, 5]);
    await ledger.close();
  });

  test('plain-dsp: exactly the signature of the provider', async () => {
    const { ledger } = await joined();
    const agreement = agreementBody({ changes: { assurance: 'plain-dsp' } });
    await ledger.register(agreement.body, provider.did);
    const both = statementBody({ agreement, signers: [provider, consumer] });
    expect(await reasonOf(ledger.register(both.body, provider.did))).toContain('2 signatures where plain-dsp has 1');
    expect((await ledger.register(statementBody({ agreement }).body, provider.did)).index).toBe(4);
    await ledger.close();
  });

  test('the same @id by two providers is two agreements', async () => {
    const { ledger } = await joined();
    await joinAll(ledger, [stranger]);
    const mine = agreementBody();
    const theirs = agreementBody({
      changes: {
        provider: stranger.did as never,
        agreement: { ...mine.payload.agreement, assigner: stranger.did as never },
      },
      signers: [stranger, consumer],
    });
    expect((await ledger.register(mine.body, provider.did)).index).toBe(4);
    expect((await ledger.register(theirs.body, stranger.did)).index).toBe(5);
    await ledger.close();
  });
});

const changeSignature = (jws: GeneralJws, place: number): GeneralJws => ({
  ...jws,
  signatures: jws.signatures.map((one, index) => {
    const bytes = fromBase64Url(one.signature) ?? new Uint8Array(0);
    return index === place
      ? { ...one, signature: toBase64Url(bytes.map((byte, at) => (at === 5 ? byte ^ 1 : byte))) }
      : one;
  }),
});

describe('duplicates', () => {
  test('one thousand submissions of one statement at once have one index and one answer', async () => {
    const world = await joined();
    const agreement = agreementBody();
    await world.ledger.register(agreement.body, provider.did);
    const { body } = statementBody({ agreement });
    const sent = Array.from({ length: 1_000 }, (_, place) =>
      world.ledger.register(body, place % 2 === 0 ? provider.did : consumer.did),
    );
    const answers = await Promise.all(sent);
    expect(new Set(answers.map(({ index }) => index))).toEqual(new Set([4]));
    expect(new Set(answers.map(({ promise }) => jwsText(promise))).size).toBe(1);
    expect(answers.filter(({ duplicateOf }) => duplicateOf === null)).toHaveLength(1);
    expect(world.ledger.size).toBe(5);
    await world.ledger.close();
  });

  test('the same statement under another leaf signature gets the first artifact, also after a restart', async () => {
    const { bench, ledger } = await joined();
    const agreement = agreementBody();
    await ledger.register(agreement.body, provider.did);
    const first = statementBody({ agreement });
    await ledger.register(first.body, provider.did);
    await ledger.close();
    const again = await bench.start();
    const second = statementBody({ agreement });
    expect(second.body.leafSignature).not.toBe(first.body.leafSignature);
    const answer = await again.register(second.body, consumer.did);
    expect([answer.index, answer.duplicateOf]).toEqual([4, jwsText(first.body.artifact)]);
    const same = await again.register(agreementBody().body, consumer.did);
    expect([same.index, same.duplicateOf]).toEqual([3, jwsText(agreement.body.artifact)]);
    expect(again.size).toBe(5);
    await again.close();
  });
});

describe('a party that signs two statements for one number', () => {
  const setUp = async () => {
    const { bench, ledger } = await joined();
    const agreement = agreementBody();
    await ledger.register(agreement.body, provider.did);
    const one = statementBody({ agreement });
    await ledger.register(one.body, provider.did);
    const other = statementBody({ agreement, sums: { totals: { requests: '9' } } });
    return { bench, ledger, agreement, one, other };
  };

  test('is refused, and the two are kept as proof against each signer, for parties to read', async () => {
    const { ledger, agreement, one, other } = await setUp();
    expect(await reasonOf(ledger.register(other.body, provider.did))).toContain('statement-conflict');
    expect(await reasonOf(ledger.register(other.body, provider.did))).toContain('statement-conflict');
    const proofs = await ledger.equivocations(agreement.digest, consumer.did);
    expect(proofs).toHaveLength(2);
    expect(proofs[0]).toEqual({ type: 'equivocation-proof', a: one.body.artifact, b: other.body.artifact });
    await expect(ledger.equivocations(agreement.digest, stranger.did)).rejects.toMatchObject({ code: 'not-found' });
    await expect(ledger.equivocations(one.digest, provider.did)).rejects.toMatchObject({ code: 'not-found' });
    expect(ledger.size).toBe(5);
    await ledger.close();
  });

  test('is convicted by one valid signature on each, reported by anybody; others are not', async () => {
    const { ledger, agreement, one, other } = await setUp();
    const forged: Signer = { ...consumer, key: ed25519FromByte(44) };
    const half = statementBody({ agreement, sums: { totals: { requests: '9' } }, signers: [provider, forged] });
    const report = { type: 'equivocation-proof', a: one.body.artifact, b: half.body.artifact };
    expect(await ledger.reportEquivocation(report)).toEqual([provider.did]);
    expect(await ledger.equivocations(agreement.digest, consumer.did)).toHaveLength(1);
    const same = { ...report, b: one.body.artifact };
    expect(await reasonOf(ledger.reportEquivocation(same))).toContain('the two say the same');
    const nobody = statementBody({ agreement, sums: { totals: { requests: '9' } }, signers: [forged, forged] });
    expect(await reasonOf(ledger.reportEquivocation({ ...report, b: nobody.body.artifact }))).toContain(
      'convicts nobody',
    );
    expect(await ledger.reportEquivocation({ ...report, b: other.body.artifact })).toEqual([
      provider.did,
      consumer.did,
    ]);
    await ledger.close();
  });

  test('is not convicted by a key that was reported compromised', async () => {
    const clock = { ...shiftedClock(logStart), jump: 0 };
    const { ledger } = await joined({
      changes: { clock: { sleep: clock.sleep, now: () => clock.now() + clock.jump } },
    });
    const first = keyEventBody({ of: provider });
    const fresh: Signer = { ...provider, kid: `${provider.did}#s2`, key: ed25519FromByte(45) };
    const keysOf = ({ kid, key }: Signer) => [{ kid, use: ['assertionMethod' as const], spki: toBase64(key.spki) }];
    const second = keyEventBody({
      of: fresh,
      by: provider,
      changes: { seq: '2', prev: first.hash, document: null, keys: keysOf(fresh) },
    });
    await ledger.register(second.body, provider.did);
    clock.jump = effectDelayMs;
    await ledger.publishDueEffects();
    const agreement = agreementBody();
    await ledger.register(agreement.body, provider.did);
    await ledger.register(statementBody({ agreement }).body, provider.did);
    const compromise = keyEventBody({
      of: provider,
      by: fresh,
      changes: { event: 'compromise', seq: '3', prev: second.hash, document: null },
    });
    await ledger.register(compromise.body, provider.did);
    const sums = { totals: { requests: '9' } };
    const again = statementBody({ agreement, sums, signers: [fresh, consumer] });
    expect(await reasonOf(ledger.register(again.body, provider.did))).toContain('statement-conflict');
    expect(await ledger.equivocations(agreement.digest, consumer.did)).toHaveLength(1);
    await ledger.close();
  });
});

describe('keys in the log', () => {
  test('somebody joins with a one-time code, the document that the DID serves, and a key that signs', async () => {
    const { ledger } = await joined({ changes: {} });
    const code = await ledger.issueJoinCode(stranger.did, 60_000);
    expect(code).toMatch(/^[0-9a-f]{40}$/); // never taken for an option where it is typed
    const send = (body: unknown, caller = stranger.did) => reasonOf(ledger.register(body, caller));
    expect(await send(keyEventBody({ of: stranger }).body)).toContain('forbidden');
    expect(await send(keyEventBody({ of: stranger, joinCode: 'guess' }).body)).toContain('forbidden');
    expect(await send(keyEventBody({ of: stranger, joinCode: code }).body, consumer.did)).toContain('forbidden');
    const otherDocument = keyEventBody({ of: stranger, joinCode: code, changes: { document: documentOf(provider) } });
    expect(await send(otherDocument.body)).toContain('not the one that the DID serves');
    expect(await send(keyEventBody({ of: stranger, joinCode: code, changes: { document: null } }).body)).toContain(
      'carries the DID document',
    );
    const forged = keyEventBody({ of: stranger, by: { ...stranger, key: ed25519FromByte(44) }, joinCode: code });
    expect(await send(forged.body)).toContain('not signed by a key that counts');
    expect(await send(keyEventBody({ of: stranger, joinCode: code }).body)).toBe('accepted');
    expect(await send(keyEventBody({ of: stranger, joinCode: code }).body)).toBe('accepted'); // the same again
    const elsewhere: Signer = {
      did: 'did:web:fourth.example',
      kid: 'did:web:fourth.example#s',
      key: ed25519FromByte(46),
    };
    expect(await send(keyEventBody({ of: elsewhere, joinCode: code }).body, elsewhere.did)).toContain(
      'cannot be fetched',
    );
    expect(ledger.size).toBe(4);
    await ledger.close();
  });

  test('a code serves one DID, and until it expires', async () => {
    const clock = { ...shiftedClock(logStart), jump: 0 };
    const bench = logBench({ changes: { clock: { sleep: clock.sleep, now: () => clock.now() + clock.jump } } });
    const ledger = await bench.start();
    const joinCode = await ledger.issueJoinCode(provider.did, 60_000);
    const byOther = keyEventBody({ of: consumer, joinCode }).body;
    expect(await reasonOf(ledger.register(byOther, consumer.did))).toContain('not one that may be used');
    await ledger.register(keyEventBody({ of: provider, joinCode }).body, provider.did);
    expect(await reasonOf(ledger.register(byOther, consumer.did))).toContain('not one that may be used');
    expect([await ledger.hasJoined(provider.did), await ledger.hasJoined(consumer.did)]).toEqual([true, false]);
    const late = await ledger.issueJoinCode(consumer.did, 60_000);
    clock.jump = 61_000;
    expect(
      await reasonOf(ledger.register(keyEventBody({ of: consumer, joinCode: late }).body, consumer.did)),
    ).toContain('expired');
    await ledger.close();
  });

  test('whoever asks hears of each entry, in order, once it is durable', async () => {
    const heard: string[] = [];
    const bench = logBench({
      changes: { onEntry: ({ kind, row }) => void heard.push(`${row.index} ${kind}`) },
    });
    const ledger = await bench.start();
    await joinAll(ledger);
    await ledger.register(agreementBody().body, provider.did);
    expect(heard).toEqual(['0 public', '1 public', '2 public', '3 agreement']);
    expect(ledger.isWorking).toBe(true);
    await ledger.close();
  });

  test('a small-order key is refused by name', async () => {
    const { ledger } = await joined();
    const spki = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), Buffer.from([1]), Buffer.alloc(31)]);
    const joinCode = await ledger.issueJoinCode(stranger.did, 60_000);
    const keysWith = [{ kid: stranger.kid, use: ['assertionMethod' as const], spki: toBase64(spki) }];
    const made = keyEventBody({ of: stranger, joinCode, changes: { keys: keysWith } });
    expect(await reasonOf(ledger.register(made.body, stranger.did))).toContain('safe Ed25519 key');
    await ledger.close();
  });

  const second: Signer = { ...provider, kid: `${provider.did}#s2`, key: ed25519FromByte(47) };
  const keysOf = (signer: Signer) => [
    { kid: signer.kid, use: ['assertionMethod' as const], spki: toBase64(signer.key.spki) },
  ];
  const following = (event: 'introduce' | 'end' | 'compromise', of: Signer, prev: string, seq = '2') =>
    keyEventBody({ of, by: provider, changes: { event, seq, prev, keys: keysOf(of), document: null } });

  test('a later key counts 24 hours after its event; an old one until the end took effect', async () => {
    const clock = { ...shiftedClock(logStart), jump: 0 };
    const { ledger, bench } = await joined({
      changes: { clock: { sleep: clock.sleep, now: () => clock.now() + clock.jump } },
    });
    const first = keyEventBody({ of: provider });
    const withCode = await bench.store.publicRows(origin, 0);
    const firstHash = toBase64Url(nodeCrypto.sha256(utf8(withCode[1]?.text ?? '')));
    expect(first.hash).toBe(firstHash);
    const introduced = following('introduce', second, firstHash);
    expect((await ledger.register(introduced.body, provider.did)).index).toBe(3);
    const bySecond = agreementBody({ signers: [second, consumer] });
    expect(await reasonOf(ledger.register(bySecond.body, provider.did))).toContain('counts now');
    clock.jump = effectDelayMs - 60_000;
    await ledger.publishDueEffects();
    expect(ledger.size).toBe(4);
    clock.jump = effectDelayMs + 60_000;
    await ledger.publishDueEffects();
    await ledger.publishDueEffects();
    expect(ledger.size).toBe(5);
    expect((await ledger.register(bySecond.body, provider.did)).index).toBe(5);
    const ended = following('end', provider, introduced.hash, '3');
    await ledger.register(ended.body, provider.did);
    expect((await ledger.register(agreementBody({ name: 'two' }).body, provider.did)).index).toBe(7);
    clock.jump += effectDelayMs;
    await ledger.publishDueEffects();
    expect(await reasonOf(ledger.register(agreementBody({ name: 'three' }).body, provider.did))).toContain(
      'counts now',
    );
    const old = await ledger
      .register(agreementBody({ name: 'two' }).body, provider.did)
      .catch((error: unknown) => error);
    expect(old).toMatchObject({ code: 'entry-refused' });
    await ledger.close();
    const again = await bench.start();
    expect(
      await reasonOf(again.register(agreementBody({ name: 'four', signers: [second, consumer] }).body, provider.did)),
    ).toBe('accepted');
    await again.close();
  });

  test('a compromise ends a key at once, also for what was admitted before it, and stops what waits', async () => {
    const clock = { ...shiftedClock(logStart), jump: 0 };
    const { ledger } = await joined({
      changes: { clock: { sleep: clock.sleep, now: () => clock.now() + clock.jump } },
    });
    const first = keyEventBody({ of: provider });
    const introduced = following('introduce', second, first.hash);
    await ledger.register(introduced.body, provider.did);
    const compromise = following('compromise', provider, introduced.hash, '3');
    const [event, agreement] = await Promise.allSettled([
      ledger.register(compromise.body, provider.did),
      ledger.register(agreementBody().body, provider.did),
    ]);
    expect(event.status).toBe('fulfilled');
    expect(agreement).toMatchObject({ status: 'rejected', reason: { detail: 'a key that signed has ended' } });
    clock.jump = effectDelayMs + 1;
    await ledger.publishDueEffects();
    expect(ledger.size).toBe(5);
    const bySecond = agreementBody({ signers: [second, consumer] });
    expect(await reasonOf(ledger.register(bySecond.body, provider.did))).toContain('counts now');
    await ledger.close();
  });

  test('a key event forged in somebody else’s name changes nothing', async () => {
    const { ledger } = await joined();
    const first = keyEventBody({ of: provider });
    const forged = keyEventBody({
      of: second,
      by: second,
      changes: { seq: '2', prev: first.hash, document: null },
    });
    expect(await reasonOf(ledger.register(forged.body, provider.did))).toContain('not signed by a key that counts');
    const wrongSeq = following('introduce', second, first.hash, '3');
    expect(await reasonOf(ledger.register(wrongSeq.body, provider.did))).toContain('does not follow');
    await ledger.close();
  });

  test('only the operator recovers a DID, in everybody’s sight', async () => {
    const { ledger, bench } = await joined();
    const first = keyEventBody({ of: provider });
    const registry: Signer = { did: provider.did, kid: `${origin}+registry`, key: provider.key };
    const selfMade = keyEventBody({
      of: second,
      by: registry,
      changes: { event: 'recover', seq: '2', prev: first.hash, document: null },
    });
    expect(await reasonOf(ledger.register(selfMade.body, provider.did))).toContain('only the registry recovers');
    const { index } = await ledger.recover({ did: provider.did as never, document: null, keys: keysOf(second) });
    const rows = await bench.store.publicRows(origin, 0);
    expect(rows.at(-1)).toMatchObject({ index, kind: 'key-event' });
    expect(await reasonOf(ledger.register(agreementBody().body, provider.did))).toContain('counts now');
    expect(await reasonOf(ledger.register(agreementBody({ signers: [second, consumer] }).body, provider.did))).toBe(
      'accepted',
    );
    await expect(
      ledger.recover({ did: 'did:web:none.example' as never, document: null, keys: keysOf(second) }),
    ).rejects.toMatchObject({ code: 'not-found' });
    await ledger.close();
  });
});

describe('what can be read', () => {
  test('the proof of each entry under the published checkpoint', async () => {
    const { bench, ledger } = await joined();
    await ledger.register(agreementBody().body, provider.did);
    await published(bench, 4);
    for (let index = 0; index < 4; index += 1) {
      const proof = await ledger.proof(index);
      const checkpoint = verifyNote(nodeCrypto, proof.checkpoint, policy);
      const { leaf } = await entryOf({ bench }, index);
      if (!checkpoint.ok) throw new Error(checkpoint.reason);
      const { size, root } = checkpoint.value;
      const path = proof.path.map((hash) => fromBase64Url(hash) ?? new Uint8Array(0));
      expect(isIncluded(nodeCrypto, fromBase64Url(leaf) ?? new Uint8Array(0), { index, size, root, path })).toBe(true);
    }
    await expect(ledger.proof(4)).rejects.toMatchObject({ code: 'not-found' });
    await ledger.close();
  });

  test('no proof before a checkpoint covers the entry', async () => {
    const bench = logBench({ changes: { checkpointMs: 3_600_000 } });
    const ledger = await bench.start();
    await published(bench, 1);
    await joinAll(ledger);
    await expect(ledger.proof(2)).rejects.toMatchObject({ code: 'not-yet' });
    await ledger.close();
    expect(bench.notes.at(-1)?.split('\n')[1]).toBe('3');
  });

  test('the newest statement with its sums, for the parties alone', async () => {
    const { ledger } = await joined();
    const agreement = agreementBody();
    await ledger.register(agreement.body, provider.did);
    await expect(ledger.newestStatement(agreement.digest, provider.did)).rejects.toMatchObject({ code: 'not-found' });
    const one = statementBody({ agreement });
    const two = statementBody({ agreement, after: one });
    await ledger.register(one.body, provider.did);
    await ledger.register(two.body, provider.did);
    const newest = await ledger.newestStatement(agreement.digest, consumer.did);
    expect(newest).toEqual({ artifact: two.body.artifact, sums: two.body.sums });
    for (const [digest, caller] of [
      [agreement.digest, stranger.did],
      [one.digest, provider.did],
    ] as const)
      await expect(ledger.newestStatement(digest, caller)).rejects.toMatchObject({ code: 'not-found' });
    await ledger.close();
  });

  test('an erased artifact is gone, and everything else still verifies', async () => {
    const { bench, ledger } = await joined();
    const agreement = agreementBody();
    await ledger.register(agreement.body, provider.did);
    const one = statementBody({ agreement });
    await ledger.register(one.body, provider.did);
    await published(bench, 5);
    expect(await ledger.erase(agreement.digest)).toBe(2);
    await expect(ledger.newestStatement(agreement.digest, provider.did)).rejects.toMatchObject({ code: 'not-found' });
    expect((await ledger.proof(4)).index).toBe('4');
    const again = await ledger.register(one.body, provider.did);
    expect([again.index, again.duplicateOf]).toEqual([4, undefined]);
    const two = statementBody({ agreement, after: one });
    expect((await ledger.register(two.body, provider.did)).index).toBe(5);
    await ledger.close();
    const restarted = await bench.start();
    expect(restarted.size).toBe(6);
    await restarted.close();
  });

  test('a sealed artifact that was changed is never given out', async () => {
    const { bench, ledger } = await joined();
    const agreement = agreementBody();
    await ledger.register(agreement.body, provider.did);
    const open = (_sealed: string, _label: string) => '{}';
    await ledger.close();
    const again = await bench.start({ seal: { seal: (text) => text, open } });
    await expect(again.register(agreement.body, provider.did)).rejects.toMatchObject({ code: 'data-damaged' });
    await again.close();
  });
});

describe('limits', () => {
  test('one caller fills its share of the queue and not that of others', async () => {
    const { ledger } = await joined({ changes: { limits: { batchMs: 20, maxWaiting: 10 } } });
    const bodies = Array.from({ length: 8 }, (_, place) => agreementBody({ name: `n${place}` }).body);
    const flood = bodies.slice(0, 6).map((body) => ledger.register(body, provider.did));
    const other = ledger.register(bodies[7], consumer.did);
    const answers = await Promise.allSettled(flood);
    expect(answers.map(({ status }) => status === 'fulfilled')).toEqual([true, true, false, false, false, false]);
    expect(answers[5]).toMatchObject({ reason: { code: 'busy' } });
    expect((await other).index).toBeGreaterThan(2);
    expect((await ledger.register(bodies[6], provider.did)).index).toBe(6);
    await ledger.close();
  });

  test('a full queue answers busy and when to come again; nothing that waits is lost', async () => {
    const { ledger } = await joined({ changes: { limits: { batchMs: 20, maxWaiting: 5 } } });
    const others = ['a', 'b', 'c', 'd', 'e'].map((name) => `did:web:${name}.example`);
    const callers = [provider.did, consumer.did, ...others];
    const sent = callers.map((caller, place) => ledger.register(agreementBody({ name: `n${place}` }).body, caller));
    const answers = await Promise.allSettled(sent);
    const codes = answers.map((one) => (one.status === 'rejected' ? (one.reason as { code: string }).code : 'done'));
    expect(codes).toEqual(['done', 'done', 'forbidden', 'forbidden', 'forbidden', 'busy', 'busy']);
    expect(answers[6]).toMatchObject({ reason: { retryAfterSeconds: 1 } });
    expect(ledger.size).toBe(5);
    await ledger.close();
    const late = ledger.register(agreementBody({ name: 'late' }).body, provider.did);
    await expect(late).rejects.toMatchObject({ code: 'busy' });
  });

  test('leaf keys are named by the digest of their key', () => {
    expect(agreementBody().payload.leafKey).toBe(leafKeyId(nodeCrypto, p256FromByte(5).spki));
  });
});
