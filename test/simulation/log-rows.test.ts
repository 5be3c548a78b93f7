import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { sqlArtifactStore, sqlJoinCodeStore, sqlLogStore } from '../../broker/adapters/sql/log-store.ts';
import { type LogTables, logMigrations } from '../../broker/adapters/sql/log-tables.ts';
import type { Registered } from '../../broker/ledger/ports.ts';
import { seededRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite, type Sqlite } from '../../kernel/sql/sqlite.ts';
import { origin } from '../support/ledger-world.ts';
import { joinAll, logBench, published } from '../support/log-bench.ts';
import { agreementBody, provider } from '../support/log-parties.ts';
import { tornFiles } from '../support/torn-files.ts';

/**
 * The machine goes down inside a commit of real rows: the write-ahead log is cut anywhere behind the last commit that was
 * answered. What was answered is there, what was not is there as a whole or not at all, and the log goes on.
 */
const runs = 60;
const folder = mkdtempSync(join(tmpdir(), 'stekker-log-rows-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const walSize = (path: string): number => (existsSync(`${path}-wal`) ? statSync(`${path}-wal`).size : 0);

const openRows = async (path: string): Promise<Sqlite<LogTables>> => {
  const rows = openSqlite<LogTables>({ path });
  await migrate(rows.db, 'ledger', logMigrations);
  return rows;
};

const storesOf = ({ db }: Sqlite<LogTables>) => ({
  ...sqlLogStore(db),
  ...sqlArtifactStore(db),
  ...sqlJoinCodeStore(db),
});

describe('log rows through crashes', () => {
  test(`${runs} cuts of the write-ahead log: answered entries stand, others stand whole or not at all`, async () => {
    const outcomes = { lost: 0, kept: 0 };
    for (let number = 0; number < runs; number += 1) {
      const label = `rows ${number}`;
      const random = seededRandom(label);
      const path = join(folder, String(number), 'rows.sqlite');
      const copy = join(folder, String(number), 'copy', 'rows.sqlite');
      const files = tornFiles();
      const before = await openRows(path);
      const store = storesOf(before);
      const dieAt = 4 + ((random.bytes(1)[0] ?? 0) % 5);
      let commits = 0;
      let isDown = false;
      const mortal: typeof store = {
        ...store,
        commit: async (name, batch) => {
          if (isDown) throw new Error('the machine is down');
          commits += 1;
          const from = walSize(path);
          const answer = await store.commit(name, batch);
          if (commits !== dieAt) return answer;
          isDown = true;
          files.crashAt(0);
          const end = walSize(path);
          mkdirSync(join(folder, String(number), 'copy'));
          copyFileSync(path, copy);
          copyFileSync(`${path}-wal`, `${copy}-wal`);
          const span = (random.bytes(1)[0] ?? 0) * 256 + (random.bytes(1)[0] ?? 0);
          truncateSync(`${copy}-wal`, number % 6 === 0 ? end : from + (span % (end - from)));
          throw new Error('the machine went down in a commit');
        },
        head: async (name) => {
          if (isDown) throw new Error('the machine is down');
          return await store.head(name);
        },
      };
      const bench = logBench({ files, store: mortal });
      const answered: Registered[] = [];
      const ledger = await bench.start();
      await joinAll(ledger);
      for (let place = 0; !isDown; place += 1) {
        const sent = ledger.register(agreementBody({ name: `n${place}` }).body, provider.did);
        await sent.then(
          (registered) => answered.push(registered),
          () => undefined,
        );
      }
      await ledger.close().catch(() => undefined);
      await before[Symbol.asyncDispose]();
      files.restart(random);
      await using after = await openRows(copy);
      const again = logBench({ files, store: storesOf(after) });
      const restarted = await again.start();
      const size = restarted.size;
      expect([dieAt - 1, dieAt], label).toContain(size);
      if (size === dieAt) outcomes.kept += 1;
      else outcomes.lost += 1;
      for (const { index, promise } of answered) {
        const [row] = await again.store.entries(origin, index, index + 1);
        const said: { leafHash: string } = JSON.parse(Buffer.from(promise.payload, 'base64url').toString());
        expect(row?.leaf, label).toBe(said.leafHash);
      }
      const next = await restarted.register(agreementBody({ name: 'after' }).body, provider.did);
      expect(next.index, label).toBe(size);
      await published(again, size + 1);
      await restarted.close();
    }
    expect(outcomes.lost).toBeGreaterThan(runs / 2);
    expect(outcomes.kept).toBeGreaterThanOrEqual(runs / 6 - 1);
  });
});
