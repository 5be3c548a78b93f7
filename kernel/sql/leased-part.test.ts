import { afterAll, describe, expect, test } from 'vitest';
import { systemClock } from '../clock.ts';
import { silentLogger } from '../log.ts';
import { startLeasedPart } from './leased-part.ts';
import { createLeases, type LeaseTable, leaseMigrations } from './leases.ts';
import { migrate } from './migrate.ts';
import { openSqlite } from './sqlite.ts';

const sqlite = openSqlite<LeaseTable>({ path: ':memory:' });
afterAll(() => sqlite[Symbol.asyncDispose]());

const until = async (look: () => boolean): Promise<void> => {
  for (let tries = 0; tries < 2_000 && !look(); tries += 1) await systemClock.sleep(5);
  expect(look()).toBe(true);
};

describe('a part that one process runs', () => {
  test('runs once among many, and goes on elsewhere when its process is gone', async () => {
    const { db } = sqlite;
    await migrate(db, 'leases', leaseMigrations);
    const running = new Set<string>();
    let most = 0;
    let fails = 1;
    const start = (holder: string, hasDied = () => false) => {
      const leases = createLeases({ db, clock: systemClock, holder });
      const deaf = async <Value>(value: Promise<Value>) =>
        hasDied() ? await new Promise<Value>(() => undefined) : value;
      return startLeasedPart({
        leases: { ...leases, renew: (...args) => deaf(leases.renew(...args)) },
        name: 'part',
        leaseMs: 400,
        clock: systemClock,
        log: silentLogger,
        begin: () => {
          if (fails-- > 0) throw new Error('it does not begin at once');
          running.add(holder);
          most = Math.max(most, running.size);
          return { [Symbol.asyncDispose]: async () => void running.delete(holder) };
        },
      });
    };
    let isDead = false;
    const first = start('a', () => isDead);
    await until(() => running.has('a'));
    const [second, third] = [start('b'), start('c')];
    await systemClock.sleep(600);
    expect([...running]).toEqual(['a']);
    isDead = true; // it does not hear that it should end: only its lease does
    running.delete('a');
    await until(() => running.size === 1);
    const [next = ''] = running;
    expect(['b', 'c']).toContain(next);
    await (next === 'b' ? second : third)[Symbol.asyncDispose]();
    await until(() => running.size === 1 && !running.has(next));
    await Promise.all([second, third].map((part) => part[Symbol.asyncDispose]()));
    expect([running.size, most]).toEqual([0, 1]);
    void first;
  });
});
