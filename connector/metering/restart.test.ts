import { describe, expect, test } from 'vitest';
import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { manualClock, systemClock } from '../../kernel/clock.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import { diskFull, failingFiles } from '../../test/support/failing-files.ts';
import {
  access,
  agreementFor,
  closed,
  closeEntry,
  complete,
  disputesOf,
  endBoth,
  type MeterPair,
  type MeterParty,
  openEntry,
  opened,
  startMeterPair,
  startMeterParty,
  statementOf,
  us,
} from '../../test/support/meter-pair.ts';
import { tornFiles } from '../../test/support/torn-files.ts';
import type { MeteringOptions } from './service.ts';

const often = { intervalMs: 20 };

const stop = (party: MeterParty) => party.metering[Symbol.asyncDispose]();

const again = async (party: MeterParty, changes: Partial<MeteringOptions> = {}): Promise<void> => {
  await stop(party);
  await party.restart(changes);
};

/** The same files, and rows that know nothing: what a restored backup looks like. */
const restored = async (
  pair: MeterPair,
  role: 'provider' | 'consumer',
  changes: Partial<MeteringOptions> = often,
): Promise<MeterParty> => {
  const old = pair[role];
  await stop(old);
  const party = await startMeterParty(pair.network, { role, files: old.files, changes });
  await party.metering.agreementInForce(agreementFor(role, { at: pair.startedAt }));
  return party;
};

const totalsOf = async (party: MeterParty, agreement: string) =>
  (await statementOf(party, agreement, 'newest'))?.sums.totals;

describe('after a restart', () => {
  test('an open without a close becomes unknown, and the count of the consumer is taken', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, consumer, agreement } = pair;
    const entry = openEntry(agreement);
    for (const party of [consumer, provider]) await opened(party, entry);
    await closed(consumer, closeEntry(entry, 'abcd'));
    await again(provider);
    const ours = await complete(provider, agreement, 1);
    expect(ours.sums.totals).toEqual({ requests: '1', bytes: '4' });
    const [interval] = await eventually(
      () => provider.metering.usage.ofRequest(us, agreement, entry.request),
      (found) => found.length > 0,
    );
    expect(interval?.records[0]?.record).toMatchObject({ outcome: 'ok', bytes: '4', status: '200' });
  });

  test('an open without a close at the consumer counts for nothing', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, consumer, agreement } = pair;
    const entry = openEntry(agreement);
    for (const party of [consumer, provider]) await opened(party, entry);
    await again(consumer);
    await closed(provider, closeEntry(entry));
    const ours = await complete(provider, agreement, 1);
    expect(ours.sums.totals).toEqual({});
    expect(ours.payload.last).toBe('1');
  });

  test('a request is not opened again, counts go on, and lately opened ones are told', async () => {
    await using pair = await startMeterPair();
    const { provider, agreement } = pair;
    const entry = await access(pair, agreement);
    await again(provider);
    const meter = provider.metering.meters.provider;
    expect(meter.count(agreement)).toBe(1);
    expect(meter.recent(120_000)).toEqual([{ agreement, request: entry.request, at: entry.at }]);
    expect(await opened(provider, entry)).toMatchObject({ code: 'request-repeated' });
  });

  test('settled records are not read again from the journal, and settled requests are not opened again', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, agreement } = pair;
    const entry = await access(pair, agreement);
    await complete(provider, agreement, 1);
    for (let count = 0; count < 2; count += 1) {
      await again(provider);
      expect(provider.metering.meters.provider.count(agreement)).toBe(1);
      expect(provider.metering.meters.provider.find(agreement)?.accesses.size).toBe(0);
      expect(await opened(provider, entry)).toMatchObject({ code: 'request-repeated' });
    }
    await access(pair, agreement);
    expect((await complete(provider, agreement, 2)).sums.totals).toEqual({ requests: '2', bytes: '6' });
  });

  test('what the journal holds of settled records is passed over once no request of it can come again', async () => {
    let offset = 0;
    const clock = { now: () => systemClock.now() + offset, sleep: systemClock.sleep };
    const ids = createIds(clock, systemRandom);
    await using pair = await startMeterPair({ changes: { ...often, segmentBytes: 2_048 }, clock });
    const { provider, agreement } = pair;
    const once = () => access(pair, agreement, { open: { request: ids(), at: clock.now() } });
    const mark = () => provider.options.marks.get('provider');
    for (let count = 0; count < 6; count += 1) await once();
    const stated = await eventually(
      () => statementOf(provider, agreement, 'newest'),
      (found) => found?.state === 'complete' && found.payload.last === '6',
    );
    expect((await mark()) ?? 0).toBeLessThan(2);
    offset = 400_000;
    const newest = Number(stated?.payload.seq);
    await once();
    await complete(provider, agreement, newest + 1);
    await eventually(mark, (segment = 0) => segment > 2);
    await again(provider);
    expect(provider.metering.meters.provider.count(agreement)).toBe(7);
    expect(provider.metering.meters.provider.find(agreement)?.accesses.size).toBe(0);
    await once();
    expect((await complete(provider, agreement, newest + 2)).sums.totals).toMatchObject({ requests: '8' });
  });

  test.each(['draft', 'signed'] as const)('a lost %s goes on where it stood', async (path) => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, consumer, agreement, network } = pair;
    network.fate = (message) => (message.path === path ? 'lose-answer' : 'deliver');
    await access(pair, agreement);
    await eventually(
      async () => network.messages.filter((message) => message.path === path).length,
      (count) => count >= 2,
    );
    await again(provider);
    await again(consumer);
    network.fate = () => 'deliver';
    const ours = await complete(provider, agreement, 1);
    const theirs = await complete(consumer, agreement, 1);
    expect(ours.digest).toBe(theirs.digest);
    expect(
      new Set(network.messages.filter((one) => one.path === 'signed').map(({ body }) => JSON.stringify(body))).size,
    ).toBe(1);
  });

  test('a final statement whose answer was lost is answered again, also by a consumer that started again', async () => {
    await using pair = await startMeterPair(); // no interval ends before the agreement does
    const { provider, consumer, agreement, network } = pair;
    await access(pair, agreement);
    network.fate = ({ path }) => (path === 'signed' ? 'lose-answer' : 'deliver');
    await endBoth(pair);
    await complete(consumer, agreement, 1);
    await again(consumer);
    network.fate = () => 'deliver';
    expect((await complete(provider, agreement, 1)).payload.final).toBe(true);
  });

  test('what was held over stays held over, and what was conceded stays conceded', async () => {
    const window = { requests: 1_000, bytes: 2 ** 40, cost: 50, ageMs: 900_000 };
    await using pair = await startMeterPair({ changes: { window, ...often } });
    const { provider, agreement } = pair;
    const { digestOf } = await import('../../test/support/meter-pair.ts');
    await access(pair, agreement, { consumer: { digest: digestOf('other') } });
    await access(pair, agreement, {
      consumer: { bytes: 1, digest: digestOf('a'), outcome: 'partial', units: { requests: '1', bytes: '1' } },
    });
    await complete(provider, agreement, 1);
    const before = await eventually(
      () => provider.metering.usage.list(us),
      ([found]) => found?.disputed === 1,
    );
    const exposed = provider.metering.meters.provider.find(agreement)?.exposed;
    await again(provider, { intervalMs: 300_000 });
    const after = provider.metering.meters.provider.find(agreement)?.exposed;
    expect(exposed).toMatchObject({ requests: 1, bytes: 3 + 2 });
    expect(after).toMatchObject({ requests: 1, bytes: 3 + 2 });
    expect(after?.cost).toBeCloseTo(exposed?.cost ?? 0, 9);
    expect((await provider.metering.usage.list(us))[0]?.disputed).toBe(before[0]?.disputed);
  });
});

describe('a journal that fails', () => {
  test('refuses with 503, loses nothing that was acknowledged, and what it did not take becomes unknown', async () => {
    const clock = manualClock(systemClock.now());
    const files = failingFiles(tornFiles());
    const { createMeterNetwork } = await import('../../test/support/meter-pair.ts');
    const network = createMeterNetwork();
    await using provider = await startMeterParty(network, { role: 'provider', files, clock });
    const info = agreementFor('provider', { at: clock.now() - 1_000 });
    await provider.metering.agreementInForce(info);
    const first = openEntry(info.agreement);
    const second = openEntry(info.agreement);
    expect(await opened(provider, first)).toBeNull();
    expect(await opened(provider, second)).toBeNull();
    files.fault = diskFull();
    expect(await closed(provider, closeEntry(first))).toBe(true);
    expect(await opened(provider, openEntry(info.agreement))).toMatchObject({
      code: 'journal-unavailable',
      status: 503,
    });
    expect(provider.metering.meters.provider.isReady()).toBe(false);
    files.fault = null;
    clock.advance(1_000);
    const meter = provider.metering.meters.provider;
    await eventually(
      async () => meter.find(info.agreement)?.counts,
      (counts) => counts?.closed === 1,
    );
    expect(meter.isReady()).toBe(true);
    expect(meter.find(info.agreement)?.accesses.get(`${first.request} 1`)?.close).toMatchObject({ outcome: 'unknown' });
    expect(await closed(provider, closeEntry(second))).toBe(false);
    expect(await closed(provider, closeEntry(second))).toBe(true);
  });
});

describe('a connector whose rows were restored', () => {
  test('asks first, takes over what it had signed, and signs the next number', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { consumer, agreement } = pair;
    await access(pair, agreement);
    await complete(pair.provider, agreement, 1);
    await access(pair, agreement, { body: 'defg' });
    const second = await complete(pair.provider, agreement, 2);
    await using provider = await restored(pair, 'provider');
    expect((await complete(provider, agreement, 2)).digest).toBe(second.digest);
    const rows = await eventually(
      () => provider.options.usage.page({ participant: us, role: 'provider', agreement }, { after: 0, limit: 10 }),
      (found) => found.length === 2,
    );
    expect(rows.map(({ bytes, facts }) => [bytes, facts.purpose])).toEqual([
      ['3', 'urn:stekker:1:purpose:crisis'],
      ['4', 'urn:stekker:1:purpose:crisis'],
    ]);
    await access({ provider, consumer }, agreement);
    expect((await complete(provider, agreement, 3)).sums.totals).toEqual({ requests: '3', bytes: '10' });
    expect((await complete(consumer, agreement, 3)).payload.prev).toBe(second.digest);
    expect(await disputesOf(consumer, agreement)).toEqual([]);
  });

  test('asks again for a statement that cannot be had now, and loses none of its records', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { agreement, network } = pair;
    await access(pair, agreement);
    await complete(pair.provider, agreement, 1);
    await access(pair, agreement, { body: 'defg' });
    const second = await complete(pair.provider, agreement, 2);
    let asked = 0;
    network.fate = ({ path }) => {
      if (!path.endsWith('/1')) return 'deliver';
      asked += 1;
      return asked < 3 ? 'lose' : 'deliver';
    };
    await using provider = await restored(pair, 'provider');
    expect((await complete(provider, agreement, 2)).digest).toBe(second.digest);
    const rows = await eventually(
      () => provider.options.usage.page({ participant: us, role: 'provider', agreement }, { after: 0, limit: 10 }),
      (found) => found.length === 2,
    );
    expect(rows.map(({ bytes }) => bytes)).toEqual(['3', '4']);
    expect(asked).toBe(3);
  });

  test('and cannot ask, signs nothing', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { agreement, network } = pair;
    await access(pair, agreement);
    await complete(pair.provider, agreement, 1);
    network.fate = ({ path }) => (path.endsWith('newest') ? 'lose' : 'deliver');
    const asked = network.messages.length;
    await using provider = await restored(pair, 'provider');
    await eventually(
      async () => network.messages.slice(asked).filter(({ path }) => path.endsWith('newest')).length,
      (count) => count >= 3,
    );
    expect(network.messages.slice(asked).filter(({ path }) => path === 'draft' || path === 'signed')).toEqual([]);
    expect(await statementOf(provider, agreement, 'newest')).toBeUndefined();
  });

  test('does not sign a number again that it signed and nobody has', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { agreement, network } = pair;
    network.fate = ({ path }) => (path === 'signed' ? 'lose' : 'deliver');
    await access(pair, agreement);
    await eventually(
      () => statementOf(pair.provider, agreement, 'newest'),
      (found) => found?.state === 'signed',
    );
    network.fate = () => 'deliver';
    const before = network.messages.length;
    await using provider = await restored(pair, 'provider');
    const accepted = await eventually(
      () => pair.consumer.options.drafts.list({ participant: us, role: 'consumer', agreement }),
      (found) => found.length === 2,
    );
    expect(new Set(accepted.map(({ payload }) => payload.seq))).toEqual(new Set(['1']));
    await eventually(
      async () => provider.options.seqs.newest({ participant: us, role: 'provider', agreement })?.seq,
      (seq) => seq === 1,
    );
    await systemClock.sleep(50);
    expect(await statementOf(provider, agreement, 'newest')).toBeUndefined();
    expect(network.messages.slice(before).filter(({ path }) => path === 'signed')).toEqual([]);
  });

  test('as consumer takes over what it had signed', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, agreement } = pair;
    await access(pair, agreement);
    const first = await complete(pair.consumer, agreement, 1);
    await using consumer = await restored(pair, 'consumer');
    expect((await complete(consumer, agreement, 1)).digest).toBe(first.digest);
    await access({ provider, consumer }, agreement);
    expect((await complete(consumer, agreement, 2)).sums.totals).toEqual({ requests: '2', bytes: '6' });
  });

  test('learns from the broker what the counterparty has lost too, and states nothing twice', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { agreement, network } = pair;
    await access(pair, agreement);
    const first = await complete(pair.provider, agreement, 1);
    const broker = { root: async () => ({ did: 'did:web:broker.example' as Did, url: 'https://broker.example' }) };
    const { Hono } = await import('hono');
    const app = new Hono();
    app.get('/:agreement/newest', (c) => c.json({ artifact: first.artifact, sums: first.sums } as Json));
    network.apps.set('did:web:broker.example' as Did, app);
    await using consumer = await restored(pair, 'consumer', { ...often, broker });
    await using provider = await restored(pair, 'provider', { ...often, broker });
    expect((await complete(provider, agreement, 1)).digest).toBe(first.digest);
    expect((await complete(consumer, agreement, 1)).digest).toBe(first.digest);
    await again(provider, { broker });
    await access({ provider, consumer }, agreement, { body: 'defg' });
    const second = await complete(provider, agreement, 2);
    expect(second.sums.totals).toEqual({ requests: '2', bytes: '7' });
    expect(second.payload).toMatchObject({ first: '2', last: '2' });
  });

  test('ignores what does not bear its own signature', async () => {
    await using pair = await startMeterPair({ changes: often });
    const { provider, consumer, agreement, network } = pair;
    await access(pair, agreement);
    const first = await complete(consumer, agreement, 1);
    const forged = { payload: first.artifact?.payload ?? '', signatures: first.artifact?.signatures.slice(1) ?? [] };
    const { Hono } = await import('hono');
    const app = new Hono();
    const artifact = { payload: forged.payload, signatures: [...forged.signatures, ...forged.signatures] };
    app.get('/ext/1/statements/:agreement/:seq', (c) =>
      c.json({ artifact, sums: first.sums, K: first.K, records: [] } as Json),
    );
    const real = network.apps.get(consumer.did);
    network.apps.set(consumer.did, app);
    await stop(provider);
    await using fresh = await startMeterParty(network, { role: 'provider', changes: often });
    await fresh.metering.agreementInForce(agreementFor('provider', { at: pair.startedAt }));
    const before = network.messages.length;
    await eventually(
      async () => network.messages.slice(before).length,
      () => true,
    );
    await systemClock.sleep(30);
    expect(await totalsOf(fresh, agreement)).toBeUndefined();
    if (real !== undefined) network.apps.set(consumer.did, real);
  });
});
