import type { Exchange } from '../line.ts';
import { demand, until } from '../waiting.ts';
import { open, ourProcess, ourSideOf, type Scenarios, type World } from '../world.ts';
import { offeredByEdc } from './consuming.ts';
import { us } from './providing.ts';

/** Many at once: what EDC loses by itself is told apart from what we would lose, which must be nothing. */

const count = 100;
const lanes = 20;

type Row = Record<string, unknown>;

/** Runs so many, some at a time. */
const inLanes = async (run: (place: number) => Promise<void>): Promise<void> => {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) await run(next++);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
};

/** Whether we refused something about this process: a 4xx of ours, which EDC takes for the end. */
const refusedByUs = (exchanges: readonly Exchange[], pid: string): boolean =>
  exchanges.some(({ path, status }) => status >= 400 && status < 500 && decodeURIComponent(path).includes(pid));

const judge = (world: World, rows: readonly Row[], ms: number): string => {
  const lost = rows.filter(({ state }) => state !== 'FINALIZED');
  const ours = lost.filter((row) => {
    const by = (row.ending as { by?: string } | null)?.by;
    return by !== 'peer' || refusedByUs(world.lines.toUs.exchanges, String(row.id));
  });
  demand(ours.length === 0, `${ours.length} were lost by us: ${JSON.stringify(ours[0])}`);
  const rate = ((rows.length - lost.length) * 1_000) / ms;
  return `${rows.length - lost.length} agreed, ${lost.length} lost by EDC itself, ${rate.toFixed(1)}/s`;
};

const ended = ['FINALIZED', 'TERMINATED'];

export const many: Scenarios = {
  'many: 100 negotiations from EDC, 20 at a time, none lost by us': async (world) => {
    const { ours } = world;
    const dataset = await offeredByEdc(world, 'wanted-by-many');
    const rows: Row[] = [];
    const start = performance.now();
    await inLanes(async () => {
      const { id } = await ours.operate('POST', '/v1/negotiations', { provider: 'provider', dataset });
      rows.push(await ourProcess(ours, 'negotiations', String(id), ended));
    });
    return judge(world, rows, performance.now() - start);
  },
  'many: 100 negotiations by EDC, 20 at a time, none lost by us': async (world) => {
    const { ours, consumer } = world;
    const { asset } = await ours.publish({ policy: { rules: open }, assurance: 'plain-dsp' });
    const offer = await consumer.operator.findOffer(us(world), asset);
    const pids: string[] = [];
    const start = performance.now();
    await inLanes(async () => {
      const pid = await consumer.operator.negotiate(us(world), asset, offer);
      pids.push(pid);
      await until('EDC to end a negotiation', async () => {
        const { state } = await consumer.operator.negotiation(pid);
        return ended.includes(state) ? state : undefined;
      });
    });
    const ms = performance.now() - start;
    const rows: Row[] = [];
    for (const pid of pids) {
      const { id } = await ourSideOf(ours, 'negotiations', pid);
      rows.push(await ourProcess(ours, 'negotiations', String(id), ended));
    }
    return judge(world, rows, ms);
  },
};
