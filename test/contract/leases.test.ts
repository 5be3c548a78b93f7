import { describe, expect, test } from 'vitest';
import { manualClock, systemClock } from '../../kernel/clock.ts';
import { createLeases, forgetTurns, type LeaseTable, leasedTurns, leaseMigrations } from '../../kernel/sql/leases.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { databases } from '../support/databases.ts';

describe.each(Object.entries(databases))('leases on %s', (_name, open) => {
  const world = async () => {
    const database = await open<LeaseTable>();
    await migrate(database.db, 'lease', leaseMigrations);
    const clock = manualClock(1_000_000);
    const of = (holder: string) => createLeases({ db: database.db, clock, holder });
    return { clock, of };
  };

  test('one at a time, also when many ask at once, and each name for itself', async () => {
    const it = await world();
    const many = Array.from({ length: 20 }, (_, n) => it.of(`holder ${n}`));
    const taken = await Promise.all(many.map((leases) => leases.take('log', 1_000)));
    expect(taken.filter((lease) => lease !== undefined)).toEqual([{ fence: 1 }]);
    expect(await it.of('other').take('tidy', 1_000)).toEqual({ fence: 1 });
  });

  test('it ends by itself, and the next holder has a higher fence', async () => {
    const it = await world();
    const [first, second] = [it.of('first'), it.of('second')];
    const lease = await first.take('log', 1_000);
    expect(lease).toEqual({ fence: 1 });
    it.clock.advance(999);
    expect(await second.take('log', 1_000)).toBeUndefined();
    it.clock.advance(1);
    expect(await second.take('log', 1_000)).toEqual({ fence: 2 });
    expect(await first.renew('log', { fence: 1 }, 1_000)).toBe(false);
    await first.release('log', { fence: 1 });
    expect(await first.take('log', 1_000)).toBeUndefined();
  });

  test('a renewed one runs on; one that ended cannot be renewed, though nobody took it', async () => {
    const it = await world();
    const [first, second] = [it.of('first'), it.of('second')];
    await first.take('log', 1_000);
    it.clock.advance(900);
    expect(await first.renew('log', { fence: 1 }, 1_000)).toBe(true);
    expect(await second.renew('log', { fence: 1 }, 1_000)).toBe(false);
    it.clock.advance(900);
    expect(await second.take('log', 1_000)).toBeUndefined();
    it.clock.advance(100);
    expect(await first.renew('log', { fence: 1 }, 1_000)).toBe(false);
    expect(await first.take('log', 1_000)).toEqual({ fence: 2 });
  });

  test('one that was given back is free at once, and its holder takes it anew with a higher fence', async () => {
    const it = await world();
    const [first, second] = [it.of('first'), it.of('second')];
    await first.take('log', 1_000);
    expect(await first.take('log', 1_000)).toBeUndefined();
    await first.release('log', { fence: 1 });
    expect(await second.take('log', 1_000)).toEqual({ fence: 2 });
    await second.release('log', { fence: 2 });
    expect(await first.take('log', 1_000)).toEqual({ fence: 3 });
  });

  test('work for one key is done in turn by all processes, and for another key beside it', async () => {
    const database = await open<LeaseTable>();
    await migrate(database.db, 'lease', leaseMigrations);
    const turnsOf = (holder: string) =>
      leasedTurns(createLeases({ db: database.db, clock: systemClock, holder }), systemClock);
    const processes = [turnsOf('first'), turnsOf('second'), turnsOf('third')];
    const [under, most] = [new Map<string, number>(), new Map<string, number>()];
    const work = (key: string) => async () => {
      const now = (under.get(key) ?? 0) + 1;
      under.set(key, now);
      most.set(key, Math.max(now, most.get(key) ?? 0));
      await systemClock.sleep(5);
      under.set(key, now - 1);
      return key;
    };
    const all = processes.flatMap((inTurn) => ['a', 'b', 'a'].map((key) => inTurn(key, work(key))));
    expect((await Promise.all(all)).toSorted().join('')).toBe('aaaaaabbb');
    expect(Object.fromEntries(most)).toEqual({ a: 1, b: 1 });
    await expect(processes[0]?.('a', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await processes[1]?.('a', async () => 'free')).toBe('free');
    await forgetTurns(database.db, systemClock.now() + 60_000);
    expect(await database.db.selectFrom('lease').selectAll().execute()).toEqual([]);
  });
});
