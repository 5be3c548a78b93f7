import { describe, expect, test } from 'vitest';
import type { Did } from '../../contracts/ids.ts';
import type { StatementDraft } from '../../contracts/ledger/draft.ts';
import { assembleJws, encodeProtected, signingInput } from '../../contracts/ledger/jws.ts';
import type { PricePlan } from '../../contracts/ledger/price-plan.ts';
import { readEquivocation, statementText, type UsageStatement } from '../../contracts/ledger/statement.ts';
import { systemClock } from '../../kernel/clock.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import { signEd25519 } from '../../test/support/keys.ts';
import {
  access,
  closed,
  closeEntry,
  complete,
  consumerDid,
  digestOf,
  disputesOf,
  endBoth,
  type MeterPair,
  openEntry,
  opened,
  providerDid,
  startMeterPair,
  statementOf,
  us,
} from '../../test/support/meter-pair.ts';
import { compareDraft } from './compare.ts';
import { unknownHave } from './counts.pure.ts';

const often = { intervalMs: 20 };
const small = { requests: 10, bytes: 2 ** 40, cost: 50, ageMs: 900_000 };

const itemPlan: PricePlan = {
  v: 1,
  type: 'price-plan',
  currency: 'EUR',
  scale: '2',
  free: false,
  notice: '',
  lines: [{ unit: 'items', quantity: '1', value: '100' }],
};

/** Accesses one after the other until the provider refuses; how many it served. */
const readUntilRefused = async (
  pair: MeterPair,
  once: () => Promise<unknown>,
  most: number,
): Promise<{ served: number; code: string | undefined }> => {
  for (let served = 0; served < most; served += 1) {
    try {
      await once();
    } catch (error) {
      return { served, code: (error as { code?: string }).code };
    }
    await systemClock.sleep(30); // time enough for a statement, if there is to be one
    void pair;
  }
  return { served: most, code: undefined };
};

describe('a hostile consumer', () => {
  test('that disputes everything fills the window, and service stops', async () => {
    await using pair = await startMeterPair({ changes: { window: small, ...often }, consumerChanges: often });
    const { provider, agreement } = pair;
    const lie = { bytes: 2, digest: digestOf('ab'), units: { requests: '1', bytes: '2' } };
    const { served, code } = await readUntilRefused(pair, () => access(pair, agreement, { consumer: lie }), 30);
    expect(code).toBe('window-exhausted');
    expect(served).toBe(10);
    expect(await statementOf(provider, agreement, 'newest')).toBeUndefined();
    const [summary] = await eventually(
      () => provider.metering.usage.list(us),
      ([found]) => found?.disputed === 10,
    );
    expect(summary?.stated.seq).toBe(0);
  });

  test('that cuts each body short fills the window with what is conceded', async () => {
    const window = { requests: 1_000, bytes: 2 ** 40, cost: 20, ageMs: 900_000 };
    await using pair = await startMeterPair({
      plan: itemPlan,
      changes: { window, ...often },
      consumerChanges: often,
    });
    const { provider, agreement } = pair;
    const whole = { units: { requests: '1', bytes: '3', items: '5' } };
    const short = {
      bytes: 2,
      digest: digestOf('ab'),
      outcome: 'partial',
      units: { requests: '1', bytes: '2' },
    } as const;
    const once = () => access(pair, agreement, { provider: whole, consumer: short });
    const { served, code } = await readUntilRefused(pair, once, 30);
    expect(code).toBe('window-exhausted');
    expect(served).toBe(4); // five euros each, of twenty
    const newest = await statementOf(provider, agreement, 'newest');
    expect(newest?.sums.totals).toEqual({ requests: '4', bytes: '8' });
    expect(newest?.sums.amount.value).toBe('0');
    await provider.metering.writeOff(us, agreement);
    await once();
  });

  test('that never countersigns gets a window and no more', async () => {
    await using pair = await startMeterPair({ changes: { window: small, ...often }, consumerChanges: often });
    pair.network.fate = ({ path }) => (path === 'signed' ? 'lose' : 'deliver');
    const { served, code } = await readUntilRefused(pair, () => access(pair, pair.agreement), 30);
    expect({ served, code }).toEqual({ served: 10, code: 'window-exhausted' });
    const signed = await statementOf(pair.provider, pair.agreement, 'newest');
    expect(signed?.state).toBe('signed');
    pair.network.fate = () => 'deliver';
    await complete(pair.provider, pair.agreement, 1);
    await access(pair, pair.agreement);
  });

  test('that opens one agreement after the other has one window for all of them', async () => {
    await using pair = await startMeterPair({ changes: { window: { ...small, requests: 2 } }, consumerChanges: {} });
    pair.network.fate = () => 'lose';
    const { agreementFor } = await import('../../test/support/meter-pair.ts');
    const agreements = Array.from({ length: 6 }, (_, index) => `agreement ${index}`);
    for (const name of agreements) await pair.provider.metering.agreementInForce(agreementFor('provider', { name }));
    let served = 0;
    for (const name of agreements)
      for (let count = 0; count < 2; count += 1) {
        const entry = openEntry(agreementFor('provider', { name }).agreement);
        if ((await opened(pair.provider, entry)) === null) served += 1;
      }
    expect(served).toBe(8); // four times two
  });

  test('whose claims nobody can have is not believed', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, agreement } = pair;
    const claim = { bytes: 2, digest: digestOf('ab'), outcome: 'partial', units: {} } as const;
    await access(pair, agreement, { consumer: claim });
    await eventually(
      () => provider.metering.usage.list(us),
      ([found]) => found?.disputed === 1,
    );
    expect(await statementOf(provider, agreement, 'newest')).toBeUndefined();
  });
});

describe('a hostile provider', () => {
  test('that never drafts leaves the consumer without evidence for one window at most', async () => {
    await using pair = await startMeterPair({ changes: {}, consumerChanges: { window: small } });
    const { consumer, agreement, network } = pair;
    network.fate = ({ from }) => (from === providerDid ? 'lose' : 'deliver');
    await systemClock.sleep(20);
    let fetched = 0;
    for (; fetched < 30; fetched += 1) {
      const entry = openEntry(agreement);
      const refusal = await opened(consumer, entry);
      if (refusal !== null) {
        expect(refusal).toMatchObject({ code: 'window-exhausted' });
        break;
      }
      await closed(consumer, closeEntry(entry));
    }
    expect(fetched).toBe(10);
    await eventually(
      async () => network.messages.filter(({ from, path }) => from === consumerDid && path === 'request'),
      (asked) => asked.length > 0,
    );
  });

  test('that over-counts gets no countersignature', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, consumer, agreement } = pair;
    await access(pair, agreement, { provider: { bytes: 30, units: { requests: '1', bytes: '30' } } });
    const invented = openEntry(agreement);
    await opened(provider, invented);
    await closed(provider, closeEntry(invented));
    await access(pair, agreement);
    const ours = await complete(provider, agreement, 1);
    expect(ours.sums.totals).toEqual({ requests: '1', bytes: '3' });
    await endBoth(pair);
    const final = await eventually(
      () => statementOf(consumer, agreement, 'newest'),
      (found) => found?.payload.final === true,
    );
    expect(final?.sums.totals).toEqual({ requests: '1', bytes: '3' });
    const rows = await eventually(
      () => consumer.options.usage.page({ participant: us, role: 'consumer', agreement }, { after: 0, limit: 10 }),
      (found) => found.length === 2,
    );
    // The access that both know stands there in dispute, with both claims; the invented one does not stand there at all.
    expect(rows.find(({ outcome }) => outcome === 'disputed')).toMatchObject({
      bytes: '30',
      units: {},
      ext: { provider: { bytes: '30' }, consumer: { bytes: '3' } },
    });
    expect(rows.some(({ request }) => request === invented.request)).toBe(false);
    expect((await disputesOf(provider, agreement)).every(({ kind }) => kind === 'refusal')).toBe(true);
  });

  test('that under-counts loses what it left out, and only it', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { consumer, provider, agreement } = pair;
    const left = openEntry(agreement);
    await opened(consumer, left);
    await closed(consumer, closeEntry(left));
    await access(pair, agreement);
    expect((await complete(provider, agreement, 1)).sums.totals).toEqual({ requests: '1', bytes: '3' });
    await access(pair, agreement);
    await complete(provider, agreement, 2);
  });

  test('whose clock jumped: its times are refused, and order still comes from numbers', async () => {
    const ahead = { now: () => systemClock.now() + 600_000, sleep: systemClock.sleep };
    let clock: typeof ahead = ahead;
    const jumping = { now: () => clock.now(), sleep: systemClock.sleep };
    await using pair = await startMeterPair({
      changes: { ...often, clock: jumping },
      consumerChanges: often,
    });
    const { provider, consumer, agreement } = pair;
    const entry = openEntry(agreement);
    await opened(consumer, entry);
    await new Promise((resolve) => provider.metering.meters.provider.open(entry, resolve)).then((refusal) =>
      expect(refusal).toMatchObject({ code: 'request-repeated' }),
    ); // an id of ten minutes ago
    clock = systemClock;
    const used = openEntry(agreement);
    for (const party of [consumer, provider]) await opened(party, used);
    clock = ahead; // before it closes, because a statement is drafted as soon as it has
    for (const party of [consumer, provider]) await closed(party, closeEntry(used));
    await eventually(
      () => disputesOf(provider, agreement),
      (found) => found.length > 0,
    );
    expect(await statementOf(provider, agreement, 'newest')).toBeUndefined();
    clock = systemClock;
    expect((await complete(provider, agreement, 1)).payload.last).toBe('1');
  });

  test('that signs two statements for one number is convicted by both', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { consumer, provider, agreement, network } = pair;
    await access(pair, agreement);
    const first = await complete(consumer, agreement, 1);
    const other: UsageStatement = { ...first.payload, salt: digestOf('another') };
    const key = network.keys.get(providerDid);
    if (key === undefined) throw new Error('no key');
    const header = encodeProtected(`${providerDid}#s`, 'stekker-usage-statement+jws');
    const text = statementText(other);
    const second = assembleJws(text, [{ protected: header, signature: signEd25519(key, signingInput(header, text)) }]);
    const show = () =>
      provider.options.transport.post({
        participant: us,
        peer: consumerDid,
        url: 'https://consumer.example/ext/1/statements/signed',
        id: 'x',
        body: { payload: second.payload, signatures: second.signatures.map((one) => ({ ...one })) },
      });
    expect(await show()).toMatchObject({ status: 409, body: { type: 'urn:stekker:1:error:statement-conflict' } });
    await show();
    const proofs = await disputesOf(consumer, agreement);
    expect(proofs).toHaveLength(1);
    const proof = readEquivocation(proofs[0]?.evidence);
    expect(proof.ok && proof.value.b.value.salt).toBe(other.salt);
  });
});

describe('a draft that is not what our own journal says', () => {
  /** A genuine draft, held back on its way. */
  const capture = async (pair: MeterPair): Promise<StatementDraft> => {
    pair.network.fate = ({ path }) => (path === 'draft' ? 'lose' : 'deliver');
    await access(pair, pair.agreement);
    await access(pair, pair.agreement, { body: 'defg' });
    await pair.provider.metering.agreementEnded(us, pair.agreement);
    const found = await eventually(
      async () => pair.network.messages.find(({ path }) => path === 'draft'),
      (message) => message !== undefined,
    );
    return found?.body as unknown as StatementDraft;
  };
  const compare = (pair: MeterPair, draft: StatementDraft) => {
    const account = pair.consumer.metering.meters.consumer.find(pair.agreement);
    if (account === undefined) throw new Error('no account');
    return compareDraft(account, draft, systemClock.now(), false);
  };
  const withRow = (draft: StatementDraft, change: object): StatementDraft => ({
    ...draft,
    records: draft.records.map((row, index) => (index === 0 ? { ...row, ...change } : row)),
  });
  const later = new Date(systemClock.now() + 120_000).toISOString();

  test('a genuine one is accepted, with the rows of our own journal', async () => {
    await using pair = await startMeterPair();
    const draft = await capture(pair);
    expect(await compare(pair, draft)).toMatchObject({ kind: 'accept', rows: [{ n: '1' }, { n: '2' }] });
  });

  test.each<[string, (draft: StatementDraft) => StatementDraft, string]>([
    ['another seq', (draft) => ({ ...draft, payload: { ...draft.payload, seq: '2' } }), 'order'],
    [
      'another beginning',
      (draft) => ({ ...draft, payload: { ...draft.payload, from: '2020-01-01T00:00:00.000Z' } }),
      'order',
    ],
    ['another one before it', (draft) => ({ ...draft, payload: { ...draft.payload, prev: digestOf('x') } }), 'order'],
    [
      'another party',
      (draft) => ({ ...draft, payload: { ...draft.payload, consumer: 'did:web:x.example' as Did } }),
      'order',
    ],
    ['another agreement', (draft) => ({ ...draft, payload: { ...draft.payload, agreement: 'urn:uuid:x' } }), 'order'],
    [
      'an ext that nobody agreed on',
      (draft) => ({ ...draft, payload: { ...draft.payload, ext: digestOf('x') } }),
      'order',
    ],
    ['fewer records than it says', (draft) => ({ ...draft, records: draft.records.slice(1) }), 'order'],
    ['records out of order', (draft) => ({ ...draft, records: draft.records.toReversed() }), 'order'],
    ['a record twice', (draft) => withRow(draft, { request: draft.records[1]?.request }), 'order'],
    ['another price plan', (draft) => ({ ...draft, payload: { ...draft.payload, price: digestOf('x') } }), 'price'],
    ['an end that lies ahead', (draft) => ({ ...draft, payload: { ...draft.payload, to: later } }), 'time'],
    [
      'a leaf key of somebody else',
      (draft) => ({ ...draft, payload: { ...draft.payload, leafKey: digestOf('x') } }),
      'key',
    ],
    [
      'a leaf key without its private part',
      (draft) => ({ ...draft, leafKey: { ...draft.leafKey, d: digestOf('x') } }),
      'key',
    ],
    ['an access that never was', (draft) => withRow(draft, { request: openEntry('x').request }), 'missing'],
    ['more bytes', (draft) => withRow(draft, { bytes: '9' }), 'counts'],
    ['other units', (draft) => withRow(draft, { units: { requests: '2', bytes: '3' } }), 'counts'],
    ['nothing where there was something', (draft) => withRow(draft, unknownHave), 'counts'],
    ['a time of somebody else', (draft) => withRow(draft, { at: later }), 'time'],
    ['another leaf', (draft) => withRow(draft, { leaf: digestOf('x') }), 'counts'],
    ['another secret', (draft) => ({ ...draft, K: digestOf('x') }), 'counts'],
    ['another root', (draft) => ({ ...draft, payload: { ...draft.payload, root: digestOf('x') } }), 'counts'],
    [
      'other totals',
      (draft) => ({ ...draft, sums: { ...draft.sums, totals: { requests: '2', bytes: '8' } } }),
      'totals',
    ],
    [
      'a larger amount',
      (draft) => ({ ...draft, sums: { ...draft.sums, amount: { ...draft.sums.amount, value: '51' } } }),
      'totals',
    ],
    [
      'sums that are not those of the payload',
      (draft) => ({ ...draft, payload: { ...draft.payload, sums: digestOf('x') } }),
      'totals',
    ],
  ])('%s', async (_name, change, code) => {
    await using pair = await startMeterPair();
    const draft = await capture(pair);
    expect(await compare(pair, change(draft))).toMatchObject({ kind: 'refuse', code });
  });

  test('totals are counted from our own journal, whatever the draft commits to', async () => {
    await using pair = await startMeterPair();
    const draft = await capture(pair);
    const { sumsDigest } = await import('../../contracts/ledger/statement.ts');
    const { nodeCrypto } = await import('../../kernel/crypto.ts');
    const sums = {
      ...draft.sums,
      totals: { requests: '2', bytes: '1000000' },
      amount: { ...draft.sums.amount, value: '60' },
    };
    const lie = { ...draft, sums, payload: { ...draft.payload, sums: sumsDigest(nodeCrypto, sums) } };
    expect(await compare(pair, lie)).toMatchObject({ kind: 'refuse', code: 'totals' });
  });
});
