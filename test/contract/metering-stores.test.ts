import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import {
  createSqlDisputeStore,
  createSqlJournalMarkStore,
  createSqlMeterAccountStore,
  createSqlStatementDraftStore,
  createSqlStatementStore,
} from '../../connector/adapters/sql/metering-store.ts';
import { type MeteringTables, meteringMigrations } from '../../connector/adapters/sql/metering-tables.ts';
import { createSqlUnstatedStore } from '../../connector/adapters/sql/unstated-store.ts';
import { createSqlUsageStore } from '../../connector/adapters/sql/usage-store.ts';
import { createSqlWindowStore } from '../../connector/adapters/sql/window-store.ts';
import type {
  AccountKey,
  DisputeStore,
  HeldRecord,
  JournalMarkStore,
  KeptDraft,
  KeptStatement,
  MeterAccountStore,
  StatedRow,
  StatementDraftStore,
  StatementStore,
  UnstatedAccess,
  UnstatedStore,
  UsageStore,
  WindowStore,
} from '../../connector/metering/ports.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { StatementSums, UsageStatement } from '../../contracts/ledger/statement.ts';
import { formatTime } from '../../contracts/time.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { databases, onDatabases } from '../support/databases.ts';
import { agreementFor, closeEntry, digestOf, openEntry } from '../support/meter-pair.ts';

interface Stores {
  readonly accounts: MeterAccountStore;
  readonly marks: JournalMarkStore;
  readonly drafts: StatementDraftStore;
  readonly statements: StatementStore;
  readonly usage: UsageStore;
  readonly disputes: DisputeStore;
  readonly unstated: UnstatedStore;
  readonly windows: WindowStore;
}

const adapters: Readonly<Record<string, () => Promise<Stores>>> = onDatabases(async (db: Kysely<MeteringTables>) => {
  await migrate(db, 'metering', meteringMigrations);
  return {
    accounts: createSqlMeterAccountStore(db),
    marks: createSqlJournalMarkStore(db),
    drafts: createSqlStatementDraftStore(db),
    statements: createSqlStatementStore(db),
    usage: createSqlUsageStore(db),
    disputes: createSqlDisputeStore(db),
    unstated: createSqlUnstatedStore(db),
    windows: createSqlWindowStore(db),
  };
});

const info = agreementFor('provider', { at: 1_795_431_600_000 });
const key: AccountKey = { participant: info.participant, role: 'provider', agreement: info.agreement };
const others: readonly AccountKey[] = [
  { ...key, role: 'consumer' },
  { ...key, participant: 'other' as ParticipantId },
  { ...key, agreement: digestOf('other') },
];

const rowOf = (n: number, changes: Partial<StatedRow> = {}): StatedRow => {
  const { asset, transfer, application, method, purpose, run, target, request } = openEntry(key.agreement);
  return {
    n: String(n),
    request,
    part: '1',
    at: '2026-11-26T10:00:00.000Z',
    bytes: '3',
    digest: digestOf('abc'),
    outcome: 'ok',
    status: '200',
    units: { requests: '1', bytes: '3' },
    ext: null,
    leaf: digestOf(`leaf ${n}`),
    facts: { asset, transfer, application, method, purpose, run, target },
    place: 1_000 + n,
    refusals: 0,
    ...changes,
  };
};

const payloadOf = (seq: number, final = false): UsageStatement => ({
  v: 1,
  type: 'usage-statement',
  agreement: info.agreementId,
  agreementDigest: info.agreement,
  provider: info.provider,
  consumer: info.consumer,
  seq: String(seq),
  from: '2026-11-26T10:00:00.000Z',
  to: '2026-11-26T10:05:00.000Z',
  first: '1',
  last: '2',
  root: digestOf('root'),
  sums: digestOf('sums'),
  price: info.price,
  prev: seq === 1 ? null : digestOf('prev'),
  final,
  ext: '',
  leafKey: digestOf('leaf key'),
  salt: digestOf('salt'),
});
const sums: StatementSums = {
  amount: { currency: 'EUR', scale: '4', value: '50' },
  salt: digestOf('s'),
  totals: { bytes: '6' },
};
const leafKey = { kty: 'EC', crv: 'P-256', x: digestOf('x'), y: digestOf('y'), d: digestOf('d') } as const;
const draftOf = (seq: number, name = 'one', rows: readonly StatedRow[] = [rowOf(1)]): KeptDraft => ({
  digest: digestOf(name),
  payload: payloadOf(seq),
  sums,
  K: digestOf('K'),
  leafKey,
  rows,
});
const artifact = { payload: 'AAAA', signatures: [{ protected: 'AAAA', signature: 'AAAA' }] };
const statementOf = (seq: number, changes: Partial<KeptStatement> = {}): KeptStatement => ({
  digest: digestOf(`statement ${seq}`),
  payload: payloadOf(seq),
  sums,
  K: digestOf('K'),
  leafKey,
  artifact,
  state: 'complete',
  rows: [rowOf(1), rowOf(2)],
  ...changes,
});
const heldOf = (request: string, changes: Partial<HeldRecord> = {}): HeldRecord => ({
  request,
  part: 1,
  claim: null,
  holds: 1,
  retryAt: 3,
  isWrittenOff: false,
  ...changes,
});

describe.each(Object.entries(adapters))('MeterAccountStore and JournalMarkStore on %s', (_name, create) => {
  test('an account is put once, changed, and found by its key alone', async () => {
    const { accounts } = await create();
    await accounts.put(info);
    await accounts.put({ ...info, price: 'changed' });
    const nothing = { requests: 0, bytes: 0, cost: 0 };
    expect(await accounts.find(key)).toEqual({ info, isEnded: false, conceded: nothing, settledBefore: 0 });
    for (const other of others) expect(await accounts.find(other)).toBeUndefined();
    const conceded = { requests: 1, bytes: 2, cost: 0.5 };
    await accounts.change(key, { isEnded: true, conceded, settledBefore: 2 ** 40 });
    await accounts.change(key, {});
    expect(await accounts.find(key)).toEqual({ info, isEnded: true, conceded, settledBefore: 2 ** 40 });
    expect(await accounts.list(key.participant)).toHaveLength(1);
    expect((await accounts.ofDigest('provider', key.agreement))?.info).toEqual(info);
    expect(await accounts.ofDigest('consumer', key.agreement)).toBeUndefined();
    expect(await accounts.list('other' as ParticipantId)).toEqual([]);
  });

  test('a plan that is none stays none', async () => {
    const { accounts } = await create();
    await accounts.put({ ...info, pricePlan: null });
    expect((await accounts.find(key))?.info.pricePlan).toBeNull();
  });

  test('an account with its final statement is open only for what was given up', async () => {
    const { accounts, statements } = await create();
    await accounts.put(info);
    expect(await accounts.listOpen()).toHaveLength(1);
    await statements.save(key, statementOf(1, { payload: payloadOf(1, true) }));
    expect(await accounts.listOpen()).toEqual([]);
    expect((await accounts.find(key))?.isEnded).toBe(true);
    await accounts.change(key, { conceded: { requests: 1, bytes: 0, cost: 0 } });
    expect(await accounts.listOpen()).toHaveLength(1);
  });

  test('a mark for each journal', async () => {
    const { marks } = await create();
    expect(await marks.get('provider')).toBeUndefined();
    await marks.set('provider', 3);
    await marks.set('provider', 5);
    await marks.set('consumer', 1);
    expect([await marks.get('provider'), await marks.get('consumer')]).toEqual([5, 1]);
  });
});

describe.each(Object.entries(adapters))('StatementDraftStore on %s', (_name, create) => {
  test('drafts replace each other, or stand side by side; a repeat changes nothing', async () => {
    const { drafts } = await create();
    await drafts.save(key, draftOf(1), { replace: true });
    await drafts.save(key, draftOf(1, 'two'), { replace: false });
    await drafts.save(key, draftOf(1, 'two'), { replace: false });
    expect((await drafts.list(key)).map(({ digest }) => digest).toSorted()).toEqual(
      [digestOf('one'), digestOf('two')].toSorted(),
    );
    await drafts.save(key, draftOf(1, 'three'), { replace: true });
    const rows = [rowOf(1)];
    await drafts.save(key, draftOf(2, 'four', rows), { replace: true });
    expect(await drafts.list(key)).toEqual([draftOf(2, 'four', rows)]);
    for (const other of others) expect(await drafts.list(other)).toEqual([]);
  });

  test('what is held over is saved with the draft, and takes the place of what was held before', async () => {
    const { drafts } = await create();
    const claim = { bytes: '1', digest: digestOf('a'), outcome: 'partial', status: '200', units: {} } as const;
    await drafts.save(key, draftOf(1), {
      replace: true,
      held: [heldOf('a'), heldOf('b', { claim, isWrittenOff: true })],
    });
    expect(await drafts.held(key)).toEqual([heldOf('a'), heldOf('b', { claim, isWrittenOff: true })]);
    await drafts.save(key, draftOf(1, 'two'), { replace: true });
    expect(await drafts.held(key)).toHaveLength(2);
    await drafts.save(key, draftOf(1, 'two'), { replace: true, held: [heldOf('a', { holds: 2, claim }), heldOf('c')] });
    expect(await drafts.held(key)).toEqual([heldOf('a', { holds: 2, claim }), heldOf('c')]);
    await drafts.drop(key, [heldOf('c')]);
    expect(await drafts.list(key)).toEqual([]);
    expect(await drafts.held(key)).toEqual([heldOf('c')]);
    for (const other of others) expect(await drafts.held(other)).toEqual([]);
  });
});

describe.each(Object.entries(adapters))('StatementStore and UsageStore on %s', (_name, create) => {
  test('one statement for each number: another is a conflict, and a complete one is not changed', async () => {
    const { accounts, drafts, statements } = await create();
    await accounts.put(info);
    await drafts.save(key, draftOf(1), { replace: true });
    const signed = statementOf(1, { state: 'signed' });
    expect(await statements.save(key, signed)).toBe('saved');
    expect(await drafts.list(key)).toEqual([]);
    expect(await statements.find(key, 1)).toEqual(signed);
    expect(await statements.save(key, statementOf(1, { digest: digestOf('x') }))).toBe('conflict');
    const complete = statementOf(1, { artifact: { ...artifact, payload: 'BBBB' } });
    expect(
      await statements.save(key, complete, { conceded: { requests: 1, bytes: 1, cost: 1 }, held: [heldOf('a')] }),
    ).toBe('saved');
    expect((await accounts.find(key))?.conceded).toEqual({ requests: 1, bytes: 1, cost: 1 });
    expect(await drafts.held(key)).toEqual([heldOf('a')]);
    expect(await statements.save(key, signed)).toBe('saved');
    expect((await statements.find(key, 'newest'))?.artifact?.payload).toBe('BBBB');
    expect(await statements.save(key, statementOf(1, { digest: digestOf('x') }), { held: [] })).toBe('conflict');
    expect(await drafts.held(key)).toEqual([heldOf('a')]);
    for (const other of others) expect(await statements.find(other, 'newest')).toBeUndefined();
  });

  test('the newest is the one with the highest number', async () => {
    const { statements } = await create();
    for (const seq of [9, 10, 2]) await statements.save(key, statementOf(seq));
    expect((await statements.find(key, 'newest'))?.payload.seq).toBe('10');
    expect((await statements.find(key, 2))?.payload.seq).toBe('2');
    expect(await statements.find(key, 3)).toBeUndefined();
  });

  test('rows move into the usage store, leaf keys go when they were handed over, and repeats change nothing', async () => {
    const { statements, usage } = await create();
    const rows = Array.from({ length: 250 }, (_, index) => rowOf(index + 1));
    await statements.save(key, statementOf(1, { rows, state: 'signed' }));
    await statements.index(key, 1);
    expect(await usage.ofStatement(key, 1)).toEqual([]);
    expect(await statements.unfinished()).toEqual([]);
    await statements.save(key, statementOf(1, { rows }));
    expect(await statements.unfinished()).toEqual([{ ...key, seq: 1 }]);
    for (let repeat = 0; repeat < 2; repeat += 1) await statements.index(key, 1);
    expect(await usage.ofStatement(key, 1)).toEqual(rows.map((row) => ({ ...row, seq: 1 })));
    expect((await statements.find(key, 1))?.rows).toBeNull();
    await statements.handedOver(key, 1);
    expect((await statements.find(key, 1))?.leafKey).toBeNull();
    expect(await statements.unfinished()).toEqual([]);
    await statements.index(key, 7);
  });

  test('records are found by request, by page, and by their place in the journal', async () => {
    const { statements, usage } = await create();
    const ext = { statusAge: '12' };
    const rows = [rowOf(1), rowOf(2, { part: '2', ext, outcome: 'partial' }), rowOf(3)];
    await statements.save(key, statementOf(1, { rows }));
    await statements.index(key, 1);
    expect(await usage.ofRequest(key, rows[1]?.request ?? '')).toEqual([{ ...rows[1], seq: 1 }]);
    expect((await usage.page(key, { after: 1, limit: 1 })).map(({ n }) => n)).toEqual(['2']);
    expect(await usage.settledSince(key, 1_002)).toEqual([`${rows[1]?.request} 2`, `${rows[2]?.request} 1`]);
    for (const other of others) {
      expect(await usage.ofStatement(other, 1)).toEqual([]);
      expect(await usage.page(other, { after: 0, limit: 9 })).toEqual([]);
      expect(await usage.settledSince(other, 0)).toEqual([]);
      expect(await usage.groups(other)).toEqual([]);
    }
  });

  test('sums by application and purpose', async () => {
    const { statements, usage } = await create();
    const facts = { ...rowOf(1).facts, application: 'urn:other@1' };
    const rows = [
      rowOf(1),
      rowOf(2, { bytes: '67108864', units: { requests: '1', bytes: '67108864', items: '7' } }),
      rowOf(3, { part: '2', units: { bytes: '3' } }),
      rowOf(4, { facts, status: '404', units: {} }),
    ];
    await statements.save(key, statementOf(1, { rows }));
    await statements.index(key, 1);
    expect(await usage.groups(key)).toMatchObject([
      { application: 'urn:other@1', accesses: 1, bytes: 3, units: {} },
      {
        application: rows[0]?.facts.application,
        accesses: 2,
        bytes: 67_108_870,
        units: { requests: '2', bytes: '67108870', items: '7' },
      },
    ]);
  });
});

describe.each(Object.entries(adapters))('DisputeStore on %s', (_name, create) => {
  test('keeps each refusal and each proof once', async () => {
    const { disputes } = await create();
    for (let repeat = 0; repeat < 2; repeat += 1) {
      await disputes.saveRefusal(key, digestOf('draft'), artifact, 1 + repeat);
      await disputes.saveEquivocation(key, 1, { type: 'equivocation-proof' }, 5 + repeat);
    }
    expect(await disputes.list(key)).toEqual([
      { kind: 'refusal', at: 1, evidence: artifact },
      { kind: 'equivocation', at: 5, evidence: { type: 'equivocation-proof' } },
    ]);
    for (const other of others) expect(await disputes.list(other)).toEqual([]);
  });
});

describe.each(Object.entries(adapters))('UnstatedStore on %s', (_name, create) => {
  const accessOf = (place: number, changes: Partial<UnstatedAccess> = {}): UnstatedAccess => {
    const open = openEntry(key.agreement, { proof: '' });
    const load = { requests: 1, bytes: 3, cost: 0.0025 };
    const access = { open, close: closeEntry(open), closedAt: open.at + 5, load, journal: 'provider.1', openPlace: 40 };
    return { ...access, place, ...changes };
  };

  test('the account counts what is new, for good', async () => {
    const { accounts, statements, unstated, windows } = await create();
    await accounts.put(info);
    const counted = async () => {
      const account = await windows.transact((rows) => rows.account('provider', key.agreement));
      return [account?.opened, account?.sent];
    };
    const a = accessOf(1);
    const open = { ...openEntry(key.agreement, { proof: '' }), part: 2 };
    const b = { ...accessOf(2), open, close: closeEntry(open, 'abcdef') };
    await unstated.put(key, [a, b]);
    expect(await counted()).toEqual([1, 9]);
    await unstated.put(key, [{ ...a, place: 7 }, accessOf(8), { ...a, journal: 'provider.2', place: 9 }]);
    expect(await counted()).toEqual([2, 12]);
    const rows = [rowOf(1, { request: a.open.request, at: formatTime(a.open.at) })];
    await statements.save(key, statementOf(1, { rows }));
    await statements.index(key, 1);
    expect(await unstated.put(key, [a])).toEqual(['settled']);
    expect(await counted()).toEqual([2, 12]);
  });

  test('what a consumer fetched was stated by the time of its provider, and is known again all the same', async () => {
    const { accounts, statements, unstated } = await create();
    const theirs: AccountKey = { ...key, role: 'consumer' };
    for (const role of ['provider', 'consumer'] as const) await accounts.put({ ...info, role });
    const a = accessOf(1);
    for (const [of, answer] of [
      [key, 'doubled'],
      [theirs, 'settled'],
    ] as const) {
      await unstated.put(of, [a]);
      const rows = [rowOf(1, { request: a.open.request, at: formatTime(a.open.at + 3) })];
      await statements.save(of, statementOf(1, { rows }));
      await statements.index(of, 1);
      expect(await unstated.put(of, [a])).toEqual([answer]);
    }
  });

  test('what is put is listed in order of place, once, under its own key alone', async () => {
    const { unstated } = await create();
    expect(await unstated.lastPlace()).toBeUndefined();
    const [a, b] = [accessOf(-(2 ** 40) + 7), accessOf(-(2 ** 40) + 3)];
    expect(await unstated.put(key, [a, b])).toEqual(['new', 'new']);
    expect(await unstated.put(key, [{ ...a, place: -1 }])).toEqual(['kept']);
    expect(await unstated.list(key)).toEqual([b, a]);
    expect(await unstated.lastPlace()).toBe(-(2 ** 40) + 7);
    for (const other of others) expect(await unstated.list(other)).toEqual([]);
    expect(await unstated.put(others[0] ?? key, [a])).toEqual(['new']);
  });

  test('what stands beyond the known places of each journal is listed alone', async () => {
    const { unstated } = await create();
    const names = ['provider.a', 'provider.b', 'provider.b.1', 'provider.c'];
    for (const [index, journal] of names.entries())
      await unstated.put(key, [accessOf(10 * index + 1, { journal }), accessOf(10 * index + 2, { journal })]);
    const placesBeyond = async (known: Record<string, number>) =>
      (await unstated.list(key, new Map(Object.entries(known)))).map(({ place }) => place);
    expect(await placesBeyond({})).toEqual([1, 2, 11, 12, 21, 22, 31, 32]);
    expect(await placesBeyond({ 'provider.b': 11 })).toEqual([1, 2, 12, 21, 22, 31, 32]);
    expect(await placesBeyond({ 'provider.c': 31, 'provider.a': 2, 'provider.b.1': 22 })).toEqual([11, 12, 32]);
    const [all] = [{ 'provider.a': 2, 'provider.b': 12, 'provider.b.1': 22, 'provider.c': 32, 'provider.z': 0 }];
    expect(await placesBeyond(all)).toEqual([]);
    await unstated.settle(
      key,
      (await unstated.list(key)).slice(0, 1).map(({ open }) => open),
    );
    expect(await placesBeyond({ 'provider.b': 12 })).toEqual([2, 21, 22, 31, 32]);
  });

  test('what counts as stated waits no more, and stays settled when it is put again', async () => {
    const { unstated } = await create();
    const [a, b] = [accessOf(1), accessOf(2)];
    await unstated.put(key, [a, b]);
    await unstated.settle(key, [a.open, { ...accessOf(3).open }]);
    expect(await unstated.list(key)).toEqual([b]);
    expect(await unstated.put(key, [{ ...a, place: 9 }])).toEqual(['settled']);
    expect(await unstated.list(key)).toEqual([b]);
  });

  test('a request that another journal holds already is doubled, and the first one stays', async () => {
    const { unstated } = await create();
    const first = accessOf(1);
    await unstated.put(key, [first]);
    const second = { ...first, journal: 'provider.2', place: 2 };
    expect(await unstated.put(key, [second, accessOf(3, { journal: 'provider.2' })])).toEqual(['doubled', 'new']);
    expect((await unstated.list(key)).map(({ journal, place }) => [journal, place])).toEqual([
      ['provider.1', 1],
      ['provider.2', 3],
    ]);
  });

  test('what a complete statement holds waits no more, and is settled when it is put again', async () => {
    const { unstated, statements } = await create();
    const accesses = Array.from({ length: 250 }, (_, index) => accessOf(index + 1));
    const waiting = accessOf(1_000);
    expect(await unstated.put(key, [...accesses, waiting])).toHaveLength(251);
    const rows = accesses.map(({ open, place }, index) =>
      rowOf(index + 1, { request: open.request, at: formatTime(open.at), place }),
    );
    await statements.save(key, statementOf(1, { rows }));
    expect(await unstated.list(key)).toHaveLength(251);
    await statements.index(key, 1);
    expect(await unstated.list(key)).toEqual([waiting]);
    const [again] = accesses;
    if (again === undefined) throw new Error('there are accesses');
    expect(await unstated.put(key, [again])).toEqual(['settled']);
    const foreign = { ...again, journal: 'provider.2', open: { ...again.open, at: again.open.at + 1 } };
    expect(await unstated.put(key, [foreign])).toEqual(['doubled']);
    expect(await unstated.list(key)).toEqual([waiting]);
  });
});

describe.each(Object.entries(adapters))('WindowStore on %s', (_name, create) => {
  const block = { load: { requests: 5, bytes: 2 ** 40, cost: 1.5 }, counted: 2 };

  test('a block stands under its account and journal until it is ended', async () => {
    const { accounts, windows } = await create();
    await accounts.put(info);
    expect(await windows.blocks(key)).toEqual([]);
    await windows.transact((rows) => rows.setBlock(info, 'provider.a', block));
    await windows.transact((rows) => rows.setBlock(info, 'provider.b', { ...block, counted: 3 }));
    await windows.transact((rows) => rows.setBlock(info, 'provider.b', block));
    expect(await windows.blocks(key)).toEqual(['provider.a', 'provider.b']);
    const account = await windows.transact((rows) => rows.account('provider', key.agreement));
    expect(account).toMatchObject({ info, isEnded: false, isClosed: false, opened: 0, sent: 0 });
    expect(account?.blocks).toEqual(
      ['provider.a', 'provider.b'].map((journal) => ({ agreement: key.agreement, journal, ...block })),
    );
    for (const other of others) expect(await windows.blocks(other)).toEqual([]);
    expect(await windows.transact((rows) => rows.account('consumer', key.agreement))).toBeUndefined();
    expect(await windows.transact((rows) => rows.endBlocks('provider.a'))).toEqual([key]);
    expect(await windows.transact((rows) => rows.endBlocks('provider.a'))).toEqual([]);
    await windows.transact((rows) => rows.setBlock(info, 'provider.b', null));
    expect(await windows.blocks(key)).toEqual([]);
  });

  test('a transaction that fails leaves nothing behind', async () => {
    const { windows } = await create();
    const failing = windows.transact(async (rows) => {
      await rows.take('provider.a', 'one');
      await rows.setBlock(info, 'provider.a', block);
      throw new Error('changed my mind');
    });
    await expect(failing).rejects.toThrow('changed my mind');
    expect(await windows.blocks(key)).toEqual([]);
    expect(await windows.transact((rows) => rows.line('provider.a'))).toBeUndefined();
  });

  test('the newest line of a journal is the one that took it last', async () => {
    const { windows } = await create();
    await windows.transact((rows) => rows.take('provider.a', 'one'));
    await windows.transact((rows) => rows.take('provider.b', 'two'));
    await windows.transact((rows) => rows.take('provider.a', 'three'));
    expect(await windows.transact((rows) => rows.line('provider.a'))).toBe('three');
    expect(await windows.transact((rows) => rows.line('provider.b'))).toBe('two');
  });

  test('places grow, below zero, and no two have the same', async () => {
    const { windows } = await create();
    const firsts = await Promise.all(Array.from({ length: 4 }, () => windows.places(2 ** 20)));
    const sorted = firsts.toSorted((a, b) => a - b);
    expect(sorted.map((first, index) => first - (sorted[0] ?? 0) - index * 2 ** 20)).toEqual([0, 0, 0, 0]);
    expect(sorted.at(-1)).toBeLessThan(0);
    expect(await windows.places(5)).toBe((sorted.at(-1) ?? 0) + 2 ** 20);
  });

  test('accounts are busy with a block, with what waits, or without their last statement', async () => {
    const { accounts, statements, unstated, windows } = await create();
    const [idle, lent, waits, ended, over] = ['idle', 'lent', 'waits', 'ended', 'over'].map((name) =>
      agreementFor('provider', { name }),
    ) as [typeof info, typeof info, typeof info, typeof info, typeof info];
    for (const one of [idle, lent, waits, ended, over]) await accounts.put(one);
    const openOf = ({ agreement }: typeof info) => openEntry(agreement, { proof: '' });
    const put = async (one: typeof info, open = openOf(one)) => {
      const load = { requests: 1, bytes: 3, cost: 0 };
      const access = {
        open,
        close: closeEntry(open),
        closedAt: 1,
        load,
        journal: 'provider.a',
        openPlace: 1,
        place: -1,
      };
      await unstated.put(one, [access]);
      return open;
    };
    await windows.transact((rows) => rows.setBlock(lent, 'provider.a', block));
    await put(waits);
    await accounts.change(ended, { isEnded: true });
    await put(over);
    await put(idle).then((open) => unstated.settle(idle, [open]));
    await statements.save(over, statementOf(1, { payload: payloadOf(1, true) }));
    const busy = await windows.busy();
    expect(busy.map(({ agreement }) => agreement)).toEqual(
      [lent, waits, ended].map(({ agreement }) => agreement).toSorted(),
    );
    expect(busy.find(({ agreement }) => agreement === lent.agreement)).toEqual({ ...key, agreement: lent.agreement });
    await statements.index(over, 1);
    expect(await unstated.list(over)).toEqual([]); // behind the last statement nothing waits
  });
});

describe.each(Object.entries(databases))('rows of before on %s', (_name, empty) => {
  test('what only memory counted is counted in rows once, when windows move into rows', async () => {
    const { db } = await empty<MeteringTables>();
    const step = meteringMigrations.findIndex(({ name }) => name === '2026-11-26-leased-windows');
    await migrate(db, 'metering', meteringMigrations.slice(0, step));
    const old = db as unknown as Kysely<Record<string, Record<string, unknown>>>; // as the tables were then
    const account = {
      ...{ ...key, agreement_id: info.agreementId, provider: info.provider, consumer: info.consumer },
      ...{ assurance: info.assurance, price: info.price, plan: JSON.stringify(info.pricePlan) },
      ...{ started_at: info.startedAt, ended: 0, closed: 0, settled_before: 0 },
      conceded: JSON.stringify({ requests: 2, bytes: 0, cost: 0 }),
    };
    const conceded = JSON.stringify({ requests: 0, bytes: 0, cost: 0 });
    const idle = { ...account, agreement: digestOf('idle'), role: 'consumer', plan: null, conceded };
    await old.insertInto('usage_account').values([account, idle]).execute();
    const waits = async (part: number, place: number) => {
      const open = openEntry(key.agreement, { proof: '', part });
      const close = closeEntry(open, 'abcdef');
      const row = {
        ...{
          ...key,
          request: open.request,
          part,
          journal: 'provider.1',
          open_place: 40,
          place,
          closed_at: 5,
          settled: 0,
        },
        ...{ opened: JSON.stringify(open), closed: JSON.stringify(close) },
      };
      await old.insertInto('unstated_access').values(row).execute();
      return open.request;
    };
    const first = await waits(1, -(2 ** 40));
    const second = await waits(2, -(2 ** 40) + 7);
    const stores = {
      accounts: createSqlMeterAccountStore(db),
      statements: createSqlStatementStore(db),
      unstated: createSqlUnstatedStore(db),
      windows: createSqlWindowStore(db),
    };
    await stores.statements.save(key, statementOf(1, { rows: [rowOf(1), rowOf(2, { part: '2' })] }));
    await stores.statements.index(key, 1);
    for (let repeat = 0; repeat < 2; repeat += 1) await migrate(db, 'metering', meteringMigrations);
    const rows = await stores.unstated.list(key);
    expect(rows.map(({ open, load }) => [open.request, load])).toEqual([
      [first, { requests: 1, bytes: 6, cost: 0.0025 + 6 * 0.000_000_001 }],
      [second, { requests: 0, bytes: 6, cost: 6 * 0.000_000_001 }],
    ]);
    const windows = await stores.windows.transact(async (its) => {
      const found = await its.account('provider', key.agreement);
      return found === undefined ? undefined : { found, exposures: await its.exposures(found) };
    });
    expect(windows?.found).toMatchObject({ opened: 2, sent: 18 });
    expect(windows?.exposures).toEqual([
      {
        agreement: key.agreement,
        ...{ pricePlan: info.pricePlan, isEnded: false, blocks: [], totals: sums.totals },
        waiting: { requests: 1, bytes: 12, cost: expect.closeTo(0.0025 + 12 * 0.000_000_001, 12) },
        conceded: { requests: 2, bytes: 0, cost: 0 },
      },
    ]);
    expect(await stores.windows.places(10)).toBe(-(2 ** 40) + 8);
    expect((await stores.accounts.listOpen()).map(({ info: { agreement } }) => agreement).toSorted()).toEqual(
      [key.agreement, idle.agreement].toSorted(),
    );
    expect(await stores.windows.busy()).toEqual([key]);
  });
});
