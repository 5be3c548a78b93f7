import { describe, expect, test } from 'vitest';
import { toBase64Url } from '../../contracts/bytes.ts';
import { recordLeaf } from '../../contracts/ledger/record.ts';
import { checkFollows, readStatementArtifact, statementText } from '../../contracts/ledger/statement.ts';
import { rootOf } from '../../contracts/ledger/tree.ts';
import { manualClock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import {
  access,
  agreementFor,
  closed,
  closeEntry,
  complete,
  disputesOf,
  endBoth,
  openEntry,
  opened,
  startMeterPair,
  statementOf,
  us,
} from '../../test/support/meter-pair.ts';

const often = { intervalMs: 20 };

describe('statements between two connectors', () => {
  test('both sides come to the same statement, signed by both', async () => {
    await using pair = await startMeterPair();
    const { provider, consumer, agreement } = pair;
    await access(pair, agreement);
    await access(pair, agreement, { body: 'defg' });
    await endBoth(pair);
    const ours = await complete(provider, agreement, 1);
    const theirs = await complete(consumer, agreement, 1);
    expect(ours.digest).toBe(theirs.digest);
    expect(ours.artifact).toEqual(theirs.artifact);
    expect(ours.payload).toMatchObject({ seq: '1', first: '1', last: '2', final: true, prev: null });
    expect(ours.sums.totals).toEqual({ requests: '2', bytes: '7' });
    expect(ours.sums.amount).toEqual({ currency: 'EUR', scale: '4', value: '50' });
    const read = readStatementArtifact(ours.artifact);
    expect(read.ok && read.value.signatures.map(({ kid }) => kid)).toEqual([
      'did:web:provider.example#s',
      'did:web:consumer.example#s',
    ]);
    for (const party of [provider, consumer]) {
      const interval = await eventually(
        () => party.metering.usage.ofSeq(us, agreement, 1),
        (found) => found?.records.length === 2,
      );
      const leaves = interval?.records.map(({ record }) => recordLeaf(nodeCrypto, record)) ?? [];
      expect(toBase64Url(rootOf(nodeCrypto, leaves))).toBe(ours.payload.root);
    }
  });

  test('an agreement that was never used asks nobody; its first statement asks before it is signed', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { agreement, network } = pair;
    await systemClock.sleep(100); // several rounds of whoever looks
    expect(network.messages).toEqual([]);
    await access(pair, agreement);
    await complete(pair.provider, agreement, 1);
    await complete(pair.consumer, agreement, 1);
    const paths = network.messages.map(({ path }) => path);
    const asked = paths.map((path) => path.endsWith('newest'));
    expect(asked.filter((is) => is)).toHaveLength(2);
    expect(asked.lastIndexOf(true)).toBeLessThan(paths.indexOf('signed'));
  });

  test('each statement follows the one before, and totals grow', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, agreement } = pair;
    for (let seq = 1; seq <= 3; seq += 1) {
      await access(pair, agreement);
      await complete(provider, agreement, seq);
    }
    await endBoth(pair);
    const last = await complete(provider, agreement, 4);
    expect(last.payload).toMatchObject({ final: true, first: '4', last: '3' });
    for (let seq = 2; seq <= 4; seq += 1) {
      const [before, after] = [
        await statementOf(provider, agreement, seq - 1),
        await statementOf(provider, agreement, seq),
      ];
      if (before === undefined || after === undefined) throw new Error('a statement is missing');
      const previous = { text: statementText(before.payload), value: before.payload };
      expect(checkFollows(nodeCrypto, after.payload, previous)).toEqual({ ok: true, value: undefined });
    }
    expect(last.sums.totals).toEqual({ requests: '3', bytes: '9' });
  });

  test('an agreement that was never used ends with an empty final statement', async () => {
    await using pair = await startMeterPair({ plan: null });
    await endBoth(pair);
    const final = await complete(pair.provider, pair.agreement, 1);
    expect(final.payload).toMatchObject({ first: '1', last: '0', final: true, price: '' });
    expect(final.payload.root).toBe(toBase64Url(nodeCrypto.sha256(new Uint8Array(0))));
    expect(final.sums.amount).toEqual({ currency: '', scale: '0', value: '0' });
    expect(await opened(pair.provider, openEntry(pair.agreement))).toMatchObject({ code: 'agreement-ended' });
  });

  test('an interval without records makes no statement', async () => {
    await using pair = await startMeterPair({ changes: often });
    await systemClock.sleep(80);
    expect(await statementOf(pair.provider, pair.agreement, 'newest')).toBeUndefined();
    expect(pair.network.messages.filter(({ path }) => path === 'draft')).toEqual([]);
  });

  test('half of the window, and the wish of the consumer, end an interval', async () => {
    const window = { requests: 6, bytes: 2 ** 40, cost: 50, ageMs: 900_000 };
    await using pair = await startMeterPair({ changes: { window } });
    const { provider, consumer, agreement } = pair;
    for (let count = 0; count < 3; count += 1) await access(pair, agreement);
    // An access counts from its opening: the third one may still run when the half is reached.
    expect(['2', '3']).toContain((await complete(provider, agreement, 1)).payload.last);
    await access(pair, agreement);
    const ask = () =>
      consumer.options.transport.post({
        participant: us,
        peer: provider.did,
        url: 'https://provider.example/ext/1/statements/request',
        id: 'x',
        body: { agreementDigest: agreement },
      });
    await systemClock.sleep(5);
    const answers = [await ask(), await ask()].map(({ status }) => status);
    // At its own half the consumer may have asked by itself a moment ago.
    expect([
      [202, 429],
      [429, 429],
    ]).toContainEqual(answers);
    if (answers[0] === 202) expect((await complete(provider, agreement, 2)).payload.last).toBe('4');
  });

  test('a slow stream counts where it closes, and holds nobody up', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, consumer, agreement } = pair;
    const slow = openEntry(agreement);
    for (const party of [consumer, provider]) expect(await opened(party, slow)).toBeNull();
    await access(pair, agreement);
    expect((await complete(provider, agreement, 1)).payload.last).toBe('1');
    for (const party of [provider, consumer]) await closed(party, closeEntry(slow, 'slow'));
    await complete(provider, agreement, 2);
    const [interval] = await eventually(
      () => provider.metering.usage.ofRequest(us, agreement, slow.request),
      (found) => found.length === 1,
    );
    expect(interval).toMatchObject({ seq: 2 });
    expect(interval?.records[0]?.record).toMatchObject({ request: slow.request, n: '2', bytes: '4' });
  });

  test('a draft waits while one of its rows is still open at the consumer', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, consumer, agreement, network } = pair;
    const entry = openEntry(agreement);
    for (const party of [consumer, provider]) await opened(party, entry);
    await closed(provider, closeEntry(entry));
    await eventually(
      async () => network.messages.filter(({ path }) => path === 'draft').length,
      (count) => count >= 2,
    );
    expect(await statementOf(provider, agreement, 'newest')).toBeUndefined();
    await closed(consumer, closeEntry(entry));
    expect((await complete(provider, agreement, 1)).payload.last).toBe('1');
    expect(await disputesOf(provider, agreement)).toEqual([]);
  });

  test('one that stays open for over a minute is refused', async () => {
    const clock = manualClock(systemClock.now());
    const late = { now: clock.now, sleep: systemClock.sleep };
    await using pair = await startMeterPair({ changes: often, consumerChanges: { ...often, clock: late } });
    const { provider, consumer, agreement, network } = pair;
    const entry = openEntry(agreement);
    for (const party of [consumer, provider]) await opened(party, entry);
    await closed(provider, closeEntry(entry));
    await eventually(
      async () => network.messages.filter(({ path }) => path === 'draft').length,
      (count) => count >= 2,
    );
    clock.advance(60_001);
    const refused = await eventually(
      () => disputesOf(provider, agreement),
      (found) => found.length > 0,
    );
    expect(refused[0]?.kind).toBe('refusal');
  });

  test('lost, repeated and answered in vain: the same statement, once', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, consumer, agreement, network } = pair;
    const fates = ['lose', 'lose-answer', 'repeat', 'lose-answer', 'repeat', 'deliver'] as const;
    let turn = 0;
    network.fate = () => {
      turn += 1;
      return fates[turn % fates.length] ?? 'deliver';
    };
    for (let count = 0; count < 5; count += 1) await access(pair, agreement);
    await endBoth(pair);
    const ours = await eventually(
      () => statementOf(provider, agreement, 'newest'),
      (found) => found?.state === 'complete' && found.payload.final,
    );
    const theirs = await statementOf(consumer, agreement, 'newest');
    expect(theirs?.digest).toBe(ours?.digest);
    expect(ours?.sums.totals).toEqual({ requests: '5', bytes: '15' });
    expect(await disputesOf(provider, agreement)).toEqual([]);
  });

  test('more than 5,000 records come in pages under one digest', async () => {
    const window = { requests: 20_000, bytes: 2 ** 50, cost: 50, ageMs: 900_000 };
    await using pair = await startMeterPair({ plan: null, changes: { window, segmentBytes: 1 << 20 } });
    const { provider, consumer, agreement, network } = pair;
    const entries = Array.from({ length: 5_003 }, () => openEntry(agreement, { reserved: 10 }));
    for (const party of [consumer, provider]) {
      await Promise.all(entries.map((entry) => opened(party, entry)));
      await Promise.all(entries.map((entry) => closed(party, closeEntry(entry))));
    }
    await endBoth(pair);
    const ours = await complete(provider, agreement, 1);
    expect(ours.payload.last).toBe('5003');
    expect((await complete(consumer, agreement, 1)).digest).toBe(ours.digest);
    const pages = network.messages.filter(({ path }) => path === 'draft').map(({ body }) => body);
    expect(pages).toMatchObject([
      { page: 1, pages: 2 },
      { page: 2, pages: 2 },
    ]);
    const indexed = await eventually(
      () => provider.options.usage.page({ participant: us, role: 'provider', agreement }, { after: 5_000, limit: 10 }),
      (found) => found.length === 3,
    );
    expect(indexed.map(({ n }) => n)).toEqual(['5001', '5002', '5003']);
    const all = await eventually(
      () => provider.metering.usage.ofSeq(us, agreement, 1),
      (found) => found?.records.length === 5_003,
    );
    const leaves = all?.records.map(({ record }) => recordLeaf(nodeCrypto, record)) ?? [];
    expect(toBase64Url(rootOf(nodeCrypto, leaves))).toBe(ours.payload.root);
  });

  test('the provider hands the artifact to the registrar at once, the consumer after a minute; leaf keys go then', async () => {
    await using pair = await startMeterPair();
    const { provider, consumer, agreement } = pair;
    const begun = systemClock.now();
    await access(pair, agreement);
    await endBoth(pair);
    const { artifact, sums } = await complete(provider, agreement, 1);
    for (const [party, wait] of [
      [provider, 0],
      [consumer, 60_000],
    ] as const) {
      await eventually(
        async () => party.registered,
        (found) => found.length > 0,
      );
      expect(party.registered).toMatchObject([{ kind: 'usage-statement', participant: us, artifact, sums }]);
      const [{ notBefore = 0, leafKey } = {}] = party.registered;
      expect(notBefore - wait).toBeGreaterThanOrEqual(begun);
      expect(notBefore - wait).toBeLessThanOrEqual(systemClock.now());
      expect(leafKey).toMatchObject({ kty: 'EC', crv: 'P-256', d: expect.any(String) });
      const kept = await eventually(
        () => statementOf(party, agreement, 1),
        (found) => found?.leafKey === null,
      );
      expect(kept?.leafKey).toBeNull();
    }
  });
});

describe('one-sided agreements (plain-dsp)', () => {
  test('the provider signs alone, and a prepaid quota is the window', async () => {
    const quota = { requests: 3, bytes: 2 ** 30 };
    await using pair = await startMeterPair({ assurance: 'plain-dsp', changes: { quota, ...often } });
    const { provider, agreement } = pair;
    for (let count = 0; count < 3; count += 1) await access(pair, agreement);
    expect(await opened(provider, openEntry(agreement))).toMatchObject({ code: 'quota-exhausted', status: 429 });
    await complete(provider, agreement, 1);
    expect(await opened(provider, openEntry(agreement))).toMatchObject({ code: 'quota-exhausted' });
    expect(provider.metering.meters.provider.remaining(agreement).requests).toBe(0);
    await endBoth(pair);
    const final = await eventually(
      () => statementOf(provider, agreement, 'newest'),
      (found) => found?.payload.final === true,
    );
    expect(final?.artifact?.signatures).toHaveLength(1);
    expect(final?.sums.totals).toMatchObject({ requests: '3' });
    expect(pair.network.messages.filter(({ path }) => path === 'draft' || path === 'signed')).toEqual([]);
    expect(provider.registered.length).toBeGreaterThan(0);
  });

  test('bytes are counted against the quota, and do not return', async () => {
    const quota = { requests: 1_000, bytes: 2_000_000 };
    await using pair = await startMeterPair({ assurance: 'plain-dsp', changes: { quota, ...often } });
    const { provider, agreement } = pair;
    const body = 'x'.repeat(1_000_000);
    await access(pair, agreement, { body });
    await complete(provider, agreement, 1);
    expect(await opened(provider, openEntry(agreement))).toMatchObject({ code: 'quota-exhausted' });
    expect(await opened(provider, openEntry(agreement, { reserved: 1_000 }))).toBeNull();
  });

  test('the consumer keeps intervals of its own, without signature', async () => {
    await using pair = await startMeterPair({ assurance: 'plain-dsp', changes: often });
    const { consumer, agreement } = pair;
    await access(pair, agreement);
    const kept = await complete(consumer, agreement, 1);
    expect(kept.artifact).toBeNull();
    expect(await consumer.metering.usage.ofSeq(us, agreement, 1)).toBeUndefined();
    const [summary] = await eventually(
      () => consumer.metering.usage.list(us),
      (found) => found[0]?.groups.length === 1,
    );
    expect(summary).toMatchObject({ stated: { totals: { requests: '1', bytes: '3' } }, unstated: { accesses: 0 } });
  });
});

describe('usage for people', () => {
  test('totals and amounts by agreement, application and purpose, stated or not', async () => {
    await using pair = await startMeterPair();
    const { provider, consumer, agreement } = pair;
    await access(pair, agreement);
    const other = openEntry(agreement, { application: 'urn:stekker:1:app:ander@2.0.0' });
    for (const party of [consumer, provider]) await opened(party, other);
    const list = () => provider.metering.usage.list(us);
    expect(await list()).toMatchObject([
      {
        role: 'provider',
        open: 1,
        unstated: { accesses: 1, totals: { requests: '1', bytes: '3' } },
        stated: { seq: 0 },
      },
    ]);
    for (const party of [provider, consumer]) await closed(party, closeEntry(other, 'defg'));
    await endBoth(pair);
    await complete(provider, agreement, 1);
    const [summary] = await eventually(list, (found) => found[0]?.groups.length === 2);
    expect(summary).toMatchObject({
      counterparty: 'did:web:consumer.example',
      isEnded: true,
      stated: { seq: 1, totals: { requests: '2', bytes: '7' }, amount: { currency: 'EUR', scale: '4', value: '50' } },
      unstated: { accesses: 0, totals: {} },
      groups: [
        { application: 'urn:stekker:1:app:ander@2.0.0', accesses: 1, bytes: 4, amount: { value: '25' } },
        { application: 'urn:stekker:1:app:evacuatie@1.0.0', accesses: 1, bytes: 3, amount: { value: '25' } },
      ],
    });
    const key = { participant: us, role: 'provider', agreement } as const;
    const lines = await provider.metering.usage.lines(key, { after: 0, limit: 10 });
    expect(lines.map(({ n, seq, bytes, outcome, status }) => ({ n, seq, bytes, outcome, status }))).toEqual([
      { n: '1', seq: 1, bytes: '3', outcome: 'ok', status: '200' },
      { n: '2', seq: 1, bytes: '4', outcome: 'ok', status: '200' },
    ]);
    expect(await provider.metering.usage.lines(key, { after: 1, limit: 1 })).toHaveLength(1);
  });

  test('what is not stated yet stands at the end of the lines', async () => {
    await using pair = await startMeterPair();
    const { provider, agreement } = pair;
    await access(pair, agreement);
    const open = openEntry(agreement);
    await opened(provider, open);
    const key = { participant: us, role: 'provider', agreement } as const;
    expect(await provider.metering.usage.lines(key, { after: 0, limit: 10 })).toMatchObject([
      { n: '', seq: null, outcome: 'ok', bytes: '3' },
      { n: '', seq: null, outcome: 'open', request: open.request },
    ]);
    expect(await provider.metering.usage.ofRequest(us, agreement, open.request)).toEqual([]);
  });

  test('the end of an agreement that is not known here changes nothing', async () => {
    await using pair = await startMeterPair();
    await pair.provider.metering.agreementEnded(us, agreementFor('provider', { name: 'other' }).agreement);
    expect(await opened(pair.provider, openEntry(pair.agreement))).toBeNull();
  });
});
