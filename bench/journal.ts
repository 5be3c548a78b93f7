import { closeSync, constants, mkdtempSync, openSync, rmSync, write, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Journal } from '../connector/metering/journal.ts';
import { systemClock } from '../kernel/clock.ts';
import { nodeFiles } from '../kernel/files.ts';
import { silentLogger } from '../kernel/log.ts';
import { type BenchRow, isTiny, median } from './row.ts';

const recordBytes = 450;
const roundMs = isTiny ? 50 : 700;
const rounds = isTiny ? 1 : 5;

const record = JSON.stringify({ t: 'open', filler: 'x'.repeat(recordBytes - 24) });

const elapsedMs = (since: bigint): number => Number(process.hrtime.bigint() - since) / 1e6;

/** What the disk can do: the same bytes in groups of this many records, nothing else; zero-filled file, O_DSYNC. */
const bareRate = (folder: string, waiters: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const path = join(folder, `bare-${waiters}`);
    const size = 64 << 20;
    const fill = openSync(path, 'w');
    for (let done = 0; done < size; done += 1 << 20) writeSync(fill, Buffer.alloc(1 << 20));
    closeSync(fill);
    const file = openSync(path, constants.O_WRONLY | constants.O_DSYNC);
    const group = Buffer.alloc(waiters * (recordBytes + 1) + 8, 'x');
    const start = process.hrtime.bigint();
    let records = 0;
    let offset = 0;
    const next = (): void => {
      if (elapsedMs(start) >= roundMs) {
        closeSync(file);
        resolve((records / elapsedMs(start)) * 1_000);
        return;
      }
      if (offset + group.length > size) offset = 0;
      write(file, group, 0, group.length, offset, (error) => {
        if (error !== null) {
          reject(error);
          return;
        }
        records += waiters;
        next();
      });
      offset += group.length;
    };
    next();
  });

interface Measured {
  readonly rate: number;
  readonly p99Ms: number;
}

/** Waiters that each add a record, wait until it is durable, and add the next. */
const journalRate = async (folder: string, waiters: number): Promise<Measured> => {
  const journal = await Journal.open({
    files: nodeFiles,
    folder: join(folder, `journal-${waiters}`),
    clock: systemClock,
    log: silentLogger,
    replay: () => undefined,
  });
  const took: number[] = [];
  const start = process.hrtime.bigint();
  let records = 0;
  await new Promise<void>((resolve, reject) => {
    let running = waiters;
    let isOver = false;
    const again = (): void => {
      if (records % 64 === 0) isOver ||= elapsedMs(start) >= roundMs;
      if (isOver) {
        running -= 1;
        if (running === 0) resolve();
        return;
      }
      const asked = records % 16 === 0 ? performance.now() : 0;
      journal.append(record, (place) => {
        if (place === undefined) reject(new Error('the journal refused'));
        records += 1;
        if (asked > 0) took.push(performance.now() - asked);
        again();
      });
    };
    for (let waiter = 0; waiter < waiters; waiter += 1) again();
  });
  const rate = (records / elapsedMs(start)) * 1_000;
  await journal[Symbol.asyncDispose]();
  rmSync(join(folder, `journal-${waiters}`), { recursive: true });
  took.sort((a, b) => a - b);
  return { rate, p99Ms: took[Math.floor(took.length * 0.99)] ?? 0 };
};

/** Durable usage records a second, beside a loop of bare durable writes of the same groups in the same run. */
export const run = async (): Promise<BenchRow[]> => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-bench-journal-'));
  const rows: BenchRow[] = [];
  try {
    for (const waiters of [32, 256]) {
      const measured: (Measured & { readonly limit: number })[] = [];
      for (let round = 0; round < rounds; round += 1) {
        const limit = await bareRate(folder, waiters);
        measured.push({ ...(await journalRate(folder, waiters)), limit });
      }
      const target = waiters === 32 ? 150_000 : 500_000;
      const p99Ms = median(measured.map((one) => one.p99Ms));
      const value = median(measured.map(({ rate }) => rate));
      rows.push({
        name: `usage records into the journal, ${recordBytes} B, durable, ${waiters} waiters; p99 ${p99Ms.toFixed(2)} ms`,
        value,
        unit: '/s',
        limit: median(measured.map(({ limit }) => limit)),
        ratio: median(measured.map(({ rate, limit }) => rate / limit)),
        target: `≥ ${target.toLocaleString('en')}/s, p99 < 1 ms`,
        isHit: value >= target && p99Ms < 1,
        growth: 'constant in records, agreements and participants',
      });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return rows;
};
