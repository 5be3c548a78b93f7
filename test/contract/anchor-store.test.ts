import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import { type AnchorTables, anchorMigrations, sqlAnchorStore } from '../../broker/adapters/sql/anchor-store.ts';
import type { AnchorRow, AnchorState, AnchorStore } from '../../broker/anchoring/ports.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { onDatabases } from '../support/databases.ts';

const target = { origin: 'broker.example/log/2026', chainId: '31337', contract: `0x${'ab'.repeat(20)}` };
const hash = (byte: number) => `0x${byte.toString(16).padStart(2, '0').repeat(32)}`;

const rowOf = (size: number, changes: Partial<AnchorRow> = {}): AnchorRow => ({
  ...target,
  size,
  root: hash(size % 256),
  note: `note of ${size}`,
  state: 'queued',
  sender: `0x${'01'.repeat(20)}`,
  call: null,
  attempts: [],
  place: null,
  evidence: null,
  reason: '',
  createdAt: 1_795_000_000_000 + size,
  updatedAt: 1_795_000_000_000,
  version: 1,
  ...changes,
});

const submitted = (size: number, nonce: number, changes: Partial<AnchorRow> = {}): AnchorRow =>
  rowOf(size, {
    state: 'submitted',
    call: { size, root: hash(size), previousRoot: hash(0), nonce, gas: 50_000 },
    attempts: [{ hash: hash(9), maxFee: '20000000000', tip: '1000000000', at: 5 }],
    ...changes,
  });

const final = (size: number, changes: Partial<AnchorRow> = {}): AnchorRow => {
  const anchor = {
    kind: 'evm' as const,
    chainId: target.chainId,
    contract: target.contract,
    header: 'AA==',
    key: 'gA==',
    nodes: ['AA=='],
    logIndex: '0',
    later: null,
  };
  return submitted(size, size, {
    state: 'final',
    place: { transaction: hash(9), blockNumber: 70_000_000, blockHash: hash(8) },
    evidence: { anchor, blockTime: 1_795_000_000_000 },
    ...changes,
  });
};

const adapters: Readonly<Record<string, () => Promise<AnchorStore>>> = onDatabases(async (db: Kysely<AnchorTables>) => {
  await migrate(db, 'anchoring', anchorMigrations);
  return sqlAnchorStore(db);
});

describe.each(Object.entries(adapters))('AnchorStore on %s', (_name, make) => {
  test('gives back what was saved', async () => {
    const store = await make();
    for (const row of [rowOf(1), submitted(2, 7), final(3)]) {
      expect(await store.save(row)).toBe('saved');
      expect(await store.find(target, row.size)).toEqual(row);
    }
    expect(await store.find(target, 4)).toBeUndefined();
    expect(await store.find({ ...target, chainId: '1' }, 1)).toBeUndefined();
    expect(await store.find({ ...target, contract: `0x${'cd'.repeat(20)}` }, 1)).toBeUndefined();
  });

  test('a change follows the stored version, or is a conflict and changes nothing', async () => {
    const store = await make();
    await store.save(rowOf(1));
    expect(await store.save(rowOf(1, { note: 'another' }))).toBe('conflict');
    expect(await store.save(submitted(1, 7, { version: 2 }))).toBe('saved');
    for (const version of [1, 2, 4]) expect(await store.save(rowOf(1, { version })), `${version}`).toBe('conflict');
    expect(await store.find(target, 1)).toEqual(submitted(1, 7, { version: 2 }));
    expect(await store.save(rowOf(5, { version: 2 }))).toBe('conflict');
  });

  test('of many changes at once exactly one wins', async () => {
    const store = await make();
    await store.save(rowOf(1));
    const both = await Promise.all([7, 8, 9].map((nonce) => store.save(submitted(1, nonce, { version: 2 }))));
    expect(both.filter((outcome) => outcome === 'saved')).toHaveLength(1);
  });

  test('no two live rows of a sender have one nonce, of whatever log; an end frees it', async () => {
    const store = await make();
    await store.save(submitted(1, 7));
    await store.save(rowOf(2));
    expect(await store.save(submitted(2, 7, { version: 2 }))).toBe('conflict');
    expect(await store.save(submitted(3, 7, { origin: 'broker.example/log/2027' }))).toBe('conflict');
    expect(await store.save(submitted(3, 7, { chainId: '1' }))).toBe('saved');
    expect(await store.save(submitted(3, 7, { sender: `0x${'02'.repeat(20)}` }))).toBe('saved');
    expect(await store.save(final(1, { call: submitted(1, 7).call, version: 2 }))).toBe('saved');
    expect(await store.save(submitted(2, 7, { version: 2 }))).toBe('saved');
  });

  test('open rows are those that may still change, by size', async () => {
    const store = await make();
    const states: AnchorState[] = ['safe', 'final', 'mined', 'replaced', 'submitted', 'refused', 'queued'];
    for (const [place, state] of states.entries()) await store.save(rowOf(100 - place, { state }));
    expect((await store.open(target)).map((row) => row.state)).toEqual(['queued', 'submitted', 'mined', 'safe']);
    expect(await store.open({ ...target, contract: `0x${'cd'.repeat(20)}` })).toEqual([]);
  });

  test('final anchors of a log, on any chain, from either end', async () => {
    const store = await make();
    for (const size of [3, 10, 5_000_000_000]) await store.save(final(size, { chainId: String(size) }));
    await store.save(submitted(4, 1));
    await store.save(final(11, { origin: 'broker.example/log/2027' }));
    const sizes = async (query: Parameters<AnchorStore['finals']>[1]) =>
      (await store.finals(target.origin, query)).map((row) => row.size);
    expect(await sizes({ limit: 9 })).toEqual([3, 10, 5_000_000_000]);
    expect(await sizes({ above: 3, limit: 9 })).toEqual([10, 5_000_000_000]);
    expect(await sizes({ above: 2, limit: 1 })).toEqual([3]);
    expect(await sizes({ target: { ...target, chainId: '10' }, limit: 9 })).toEqual([10]);
    expect(await sizes({ newestFirst: true, below: 5_000_000_000, limit: 9 })).toEqual([10, 3]);
  });
});
