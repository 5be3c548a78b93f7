import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import { acquisitionMigrations, createSqlAcquisitionStore } from '../../connector/adapters/sql/acquisition-store.ts';
import { type MeteringTables, meteringMigrations } from '../../connector/adapters/sql/metering-tables.ts';
import { createSqlProcessStore, processMigrations } from '../../connector/adapters/sql/process-store.ts';
import {
  forgetMessages,
  forgetNegotiations,
  forgetTokens,
  forgetTransfers,
  type RetentionTables,
} from '../../connector/adapters/sql/retention.ts';
import type { ProcessRow } from '../../connector/exchange/ports.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { outboxMigrations } from '../../kernel/sql/outbox.ts';
import { onDatabases } from '../support/databases.ts';

const us = 'us' as ParticipantId;
const peer = 'did:web:peer.example' as Did;

const open = async (db: Kysely<RetentionTables>) => {
  await migrate(db, 'outbox', outboxMigrations as never);
  await migrate(db, 'process', processMigrations as never);
  await migrate(db, 'acquisition', acquisitionMigrations as never);
  await migrate(db, 'metering', meteringMigrations as never);
  const negotiations = createSqlProcessStore<string, string, object>(db as never, 'negotiations');
  const transfers = createSqlProcessStore<string, string, object>(db as never, 'transfers');
  const row = (pid: string, state: string, updatedAt: number): ProcessRow<string, string, object> => ({
    participant: us,
    pid,
    peer,
    peerPid: null,
    peerBase: 'https://peer.example',
    process: { role: 'provider', state, pending: null },
    outgoing: null,
    settledPeer: '',
    trace: '',
    data: {},
    createdAt: 0,
    updatedAt,
    version: 1,
  });
  const account = async (id: string, closed: 0 | 1) => {
    const values: MeteringTables['usage_account'] = {
      participant: us,
      role: 'provider',
      agreement: `digest of ${id}`,
      agreement_id: id,
      provider: 'p',
      consumer: 'c',
      assurance: 'cosigned',
      price: '',
      plan: null,
      started_at: 0,
      ended: closed,
      closed,
      conceded: '{}',
      settled_before: 0,
      peer: 'c',
      currency: '',
      gave_up: 0,
      opened: 0,
      sent: 0,
    };
    await db.insertInto('usage_account').values(values).execute();
  };
  return { db, negotiations, transfers, row, account, acquisitions: createSqlAcquisitionStore(db as never) };
};

describe.each(Object.entries(onDatabases(open)))('retention on %s', (_name, create) => {
  test('negotiations without an agreement go, those with one stay for ever', async () => {
    const { db, negotiations, row, acquisitions } = await create();
    const save = (its: ReturnType<typeof row>, names: Record<string, string> = {}) =>
      negotiations.save({ row: its, names: { peer: its.pid, ...names }, groups: { g: 'x' }, send: false, work: false });
    await save(row('old', 'TERMINATED', 10));
    await save(row('void', 'TERMINATED', 10), { agreement: 'a1' });
    await save(row('young', 'TERMINATED', 50));
    await save(row('done', 'FINALIZED', 10), { agreement: 'a2' });
    await save(row('open', 'REQUESTED', 10));
    await acquisitions.begun({ participant: us, provider: peer, dataset: 'd', negotiation: 'old' });
    expect(await forgetNegotiations(db, 50)).toBe(1);
    const left = await negotiations.list(us, { limit: 9 });
    expect(left.map(({ pid }) => pid)).toEqual(['done', 'open', 'void', 'young']);
    expect(await negotiations.findByName(us, 'peer', 'old')).toBeUndefined();
    expect(await negotiations.listGroup(us, { name: 'g', value: 'x' }, { limit: 9 })).toHaveLength(4);
    expect(await acquisitions.candidates(us, peer, 'd', 9)).toEqual([]);
    expect(await forgetNegotiations(db, 50)).toBe(0);
  });

  test('transfers stay while their agreement has something that is not settled', async () => {
    const { db, transfers, row, account } = await create();
    const save = (pid: string, state: string, agreement: string) =>
      transfers.save({ row: row(pid, state, 10), groups: { agreement }, send: false, work: false });
    await account('open', 0);
    await account('over', 1);
    await save('t1', 'COMPLETED', 'open');
    await save('t2', 'TERMINATED', 'over');
    await save('t3', 'COMPLETED', 'over');
    await save('t4', 'STARTED', 'over');
    await save('t5', 'TERMINATED', 'never metered');
    expect(await forgetTransfers(db, 10)).toBe(0);
    expect(await forgetTransfers(db, 11)).toBe(3);
    expect((await transfers.list(us, { limit: 9 })).map(({ pid }) => pid)).toEqual(['t1', 't4']);
  });

  test('goes on behind what stays, in pieces, however much there is', async () => {
    const { db, negotiations, row } = await create();
    const pids = Array.from({ length: 450 }, (_, index) => String(index).padStart(3, '0'));
    for (const pid of pids)
      await negotiations.save({
        row: row(pid, 'TERMINATED', 10),
        names: Number(pid) % 2 === 0 ? { agreement: pid } : {},
        send: false,
        work: false,
      });
    expect(await forgetNegotiations(db, 11)).toBe(225);
    expect(await negotiations.list(us, { limit: 999 })).toHaveLength(225);
  });

  test('tokens go when they have expired, and answers when they are old enough', async () => {
    const { db, negotiations, row } = await create();
    for (let index = 0; index < 250; index += 1)
      await negotiations.save({
        row: row(`p${index}`, 'REQUESTED', index),
        received: { peer, id: `m${index}`, bodyHash: 'h', status: 200, answer: null, newest: '' },
        token: { issuer: peer, jti: `j${index}`, expiresAt: index },
        send: false,
        work: false,
      });
    expect(await forgetTokens(db, 249)).toBe(249);
    expect(await forgetMessages(db, 240)).toBe(240);
    expect(await negotiations.findReceived(us, peer, 'm239')).toBeUndefined();
    expect(await negotiations.findReceived(us, peer, 'm240')).toBeDefined();
    const again = row('other', 'REQUESTED', 0);
    const token = { issuer: peer, jti: 'j249', expiresAt: 249 };
    expect(await negotiations.save({ row: again, token, send: false, work: false })).toBe('token-used');
  });
});
