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

/** What EDC said to us about a process, and what we answered. */
const exchangesAbout = (world: World, pid: string): readonly Exchange[] =>
  world.lines.toUs.exchanges.filter(({ path }) => decodeURIComponent(path).includes(pid));

/** Whether we refused something about it: a 4xx of ours, which EDC takes for the end. */
const refusedByUs = (exchanges: readonly Exchange[]): boolean =>
  exchanges.some(({ status }) => status >= 400 && status < 500);

/** One negotiation: our row, and the state at EDC. */
interface Pair {
  readonly row: Row;
  readonly atEdc: string;
}

const isLostByUs = (world: World, { row }: Pair): boolean =>
  (row.ending as { by?: string } | null)?.by === 'us' || refusedByUs(exchangesAbout(world, String(row.id)));

const judge = (world: World, pairs: readonly Pair[], ms: number): string => {
  const lost = pairs.filter(({ row, atEdc }) => row.state !== 'FINALIZED' || atEdc !== 'FINALIZED');
  const ours = lost.filter((pair) => isLostByUs(world, pair));
  const [first] = ours;
  const said = first === undefined ? [] : exchangesAbout(world, String(first.row.id));
  demand(first === undefined, `${ours.length} were lost by us: ${JSON.stringify({ ...first, said })}`);
  const rate = ((pairs.length - lost.length) * 1_000) / ms;
  return `${pairs.length - lost.length} agreed at both, ${lost.length} lost by EDC itself, ${rate.toFixed(1)}/s`;
};

/** The state in which EDC leaves one; it may need a moment more than we do. */
const leftAt = (of: World['provider'], pid: string): Promise<string> =>
  until('EDC to end a negotiation', async () => {
    const { state } = await of.operator.negotiation(pid);
    return ended.includes(state) ? state : undefined;
  });

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
    const ms = performance.now() - start;
    const pairs: Pair[] = [];
    for (const row of rows) pairs.push({ row, atEdc: await leftAt(world.provider, String(row.peerPid)) });
    return judge(world, pairs, ms);
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
      await leftAt(consumer, pid);
    });
    const ms = performance.now() - start;
    const pairs: Pair[] = [];
    for (const pid of pids) {
      const { id } = await ourSideOf(ours, 'negotiations', pid);
      const row = await ourProcess(ours, 'negotiations', String(id), ended);
      pairs.push({ row, atEdc: await leftAt(consumer, pid) });
    }
    return judge(world, pairs, ms);
  },
};
