import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../kernel/clock.ts';
import { connectorBench } from '../test/support/chain-world.ts';
import { startConnectorProcess } from '../test/support/connector-process.ts';
import { type BenchRow, isTiny, median } from './row.ts';

/** Cold start and idle memory of a connector as it is deployed: the JavaScript of `npm run build`, a process of its own. */

const root = join(import.meta.dirname, '..');
const program = join(root, 'dist/bin/stekker.js');
const times = isTiny ? 1 : 5;
/** After this long nothing of the start is under way any more. */
const idleMs = isTiny ? 100 : 3_000;
const ticksPerSecond = 100;

/** Resident memory in MB, as Linux counts it: with the pages of Node's own file, which all processes share. */
const residentMb = (pid: number): number => {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return (Number(line?.[1] ?? 0) * 1_024) / 1e6;
};

/** Seconds of processor time that a process has taken: this stands a machine that others use, a wall clock does not. */
const cpuSeconds = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
};

export const run = async (): Promise<BenchRow[]> => {
  if (!existsSync(program)) throw new Error('there is no JavaScript yet: npm run build');
  cpSync(join(root, 'policies/templates'), join(root, 'dist/policies/templates'), {
    recursive: true,
    dereference: true,
  });
  const starts: { readyS: number; cpuS: number; memoryMb: number }[] = [];
  for (let time = 0; time < times; time += 1) {
    await using side = await connectorBench();
    await using running = await startConnectorProcess(side.env, { program });
    const cpuS = cpuSeconds(running.pid);
    await systemClock.sleep(idleMs);
    starts.push({ readyS: running.readyMs / 1_000, cpuS, memoryMb: residentMb(running.pid) });
  }
  const of = (name: 'readyS' | 'cpuS' | 'memoryMb') => median(starts.map((start) => start[name]));
  const row = (name: string, value: number, unit: string, target: string, isHit: boolean | null): BenchRow => ({
    name,
    value,
    unit,
    limit: null,
    ratio: null,
    target,
    isHit,
    growth: 'constant; linear in open transfers',
  });
  return [
    row('cold start of a connector, empty data folder', of('readyS'), 's', '< 1 s', of('readyS') < 1),
    row('the same, processor time', of('cpuS'), 's', 'for comparison', null),
    row('idle memory of a connector', of('memoryMb'), 'MB', '< 120 MB', of('memoryMb') < 120),
  ];
};
