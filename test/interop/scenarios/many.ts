import type { Exchange } from '../line.ts';
import { demand, until } from '../waiting.ts';
import { open, ourSideOf, type Scenarios, type World } from '../world.ts';
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

/** What only we could do next: EDC waits for it. */
const ourTurn: Readonly<Record<string, readonly string[]>> = {
  consumer: ['OFFERED', 'AGREED'],
  provider: ['REQUESTED', 'ACCEPTED', 'VERIFIED'],
};

/** One negotiation: our row, if EDC ever asked us, and the state at EDC. */
interface Pair {
  readonly row: Row | undefined;
  readonly atEdc: string;
}

const neverAsked = ['INITIAL', 'REQUESTING'];

const isLostByUs = (world: World, { row, atEdc }: Pair): boolean => {
  if (row === undefined) return !neverAsked.includes(atEdc);
  const { role, state, pending, ending } = row;
  return (
    pending !== null ||
    ourTurn[String(role)]?.includes(String(state)) === true ||
    (ending as { by?: string } | null)?.by === 'us' ||
    refusedByUs(exchangesAbout(world, String(row.id)))
  );
};

/** EDC loses one of many now and then; when it loses more, something is wrong that we have not understood. */
const mostLost = count / 20;

const judge = (world: World, pairs: readonly Pair[], ms: number): string => {
  const lost = pairs.filter(({ row, atEdc }) => row?.state !== 'FINALIZED' || atEdc !== 'FINALIZED');
  const ours = lost.filter((pair) => isLostByUs(world, pair));
  const [first] = ours;
  const said = first === undefined ? [] : exchangesAbout(world, String(first.row?.id));
  demand(first === undefined, `${ours.length} were lost by us: ${JSON.stringify({ ...first, said })}`);
  demand(lost.length <= mostLost, `${lost.length} were lost by EDC: ${JSON.stringify(lost[0])}`);
  const rate = ((pairs.length - lost.length) * 1_000) / ms;
  return `${pairs.length - lost.length} agreed at both, ${lost.length} lost by EDC itself, ${rate.toFixed(1)}/s`;
};

const ended = ['FINALIZED', 'TERMINATED'];
/** EDC leaves one behind now and then in a state in which nothing happens any more. */
const stuckMs = 20_000;

/** The last that was seen of something, when it has ended or nothing happens any more. */
const lastSeen = async <Value>(look: () => Promise<Value>, stateOf: (seen: Value) => unknown): Promise<Value> => {
  let seen = await look();
  const isOver = async () => {
    seen = await look();
    return ended.includes(String(stateOf(seen))) ? true : undefined;
  };
  await until('an end', isOver, stuckMs).catch(() => undefined);
  return seen;
};

/** The state in which EDC leaves one; it may need a moment more than we do. */
const leftAt = (of: World['provider'], pid: string): Promise<string> =>
  lastSeen(
    async () => (await of.operator.negotiation(pid)).state,
    (state) => state,
  );

const rowLeft = ({ operate }: World['ours'], id: string): Promise<Row> =>
  lastSeen(
    () => operate('GET', `/v1/negotiations/${encodeURIComponent(id)}`),
    ({ state }) => state,
  );

export const many: Scenarios = {
  'many: 100 negotiations from EDC, 20 at a time, none lost by us': async (world) => {
    const { ours } = world;
    const dataset = await offeredByEdc(world, 'wanted-by-many');
    const rows: Row[] = [];
    const start = performance.now();
    await inLanes(async () => {
      const { id } = await ours.operate('POST', '/v1/negotiations', { provider: 'provider', dataset });
      rows.push(await rowLeft(ours, String(id)));
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
      const atEdc = await leftAt(consumer, pid);
      const ourSide = neverAsked.includes(atEdc) ? undefined : await ourSideOf(ours, 'negotiations', pid);
      pairs.push({ row: ourSide && (await rowLeft(ours, String(ourSide.id))), atEdc });
    }
    return judge(world, pairs, ms);
  },
};
