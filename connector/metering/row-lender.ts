import type { UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import { createTurnsByKey } from '../../kernel/turns.ts';
import {
  type GivenBack,
  type Lease,
  nameOf,
  type Recall,
  replaced,
  type ShippedAccess,
  type WindowLine,
} from './lender.ts';
import { freeOfQuota, freeOfWindow, loanOf, recallMs, untilOf } from './lending.pure.ts';
import type {
  AccountKey,
  Exposure,
  JournalMarkStore,
  Load,
  MeteredAgreement,
  MeterRole,
  PutAccess,
  UnstatedAccess,
  WindowAccount,
  WindowBlock,
  WindowRows,
  WindowStore,
} from './ports.ts';
import {
  concededBeyond,
  costOf,
  type Limits,
  loadOf,
  minus,
  nothing,
  plus,
  ratesOf,
  reservation,
} from './window.pure.ts';

/**
 * Lends blocks of windows that several processes share (ledger §8): what counts against a window stands in rows, and each
 * call is one transaction over them. A line writes how much its journal has, never how much more or less: a write that
 * was made and not answered is made again and changes nothing. Only the newest line of a journal can do anything.
 */

export interface RowLenderOptions {
  readonly store: WindowStore;
  readonly marks: JournalMarkStore;
  readonly role: MeterRole;
  readonly window: Limits;
  /** Of `plain-dsp` agreements, prepaid; as consumer nothing bounds us there but the provider. */
  readonly quota: Pick<Load, 'requests' | 'bytes'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** Never the same twice, in any process. */
  readonly newId: () => string;
  /** Tells every process, this one too, what `recalled` takes. */
  readonly tellRecall: (agreement: string, isEnded: boolean) => void;
  /** After the commit: something was handed over, a block ended, or the window is used up. */
  readonly changed: (key: AccountKey) => void;
}

export interface RowLender extends AsyncDisposable {
  /** Opens the line of a journal; an older one of the same journal can do nothing any more, in whichever process it is. */
  readonly connect: (journal: string, recall: Recall) => WindowLine;
  /** Whoever had the line is gone. What its journal was lent stays with it. */
  readonly disconnect: (journal: string) => void;
  /** The journals of this process give back what they do not use of an agreement; it stands in the rows when this returns. */
  readonly recalled: (agreement: string, isEnded: boolean) => Promise<void>;
}

/** What a journal has of an agreement. The rows follow it, and only its line writes them. */
interface Held {
  readonly info: MeteredAgreement;
  readonly load: Load;
  readonly counted: number;
}

interface Line {
  readonly journal: string;
  readonly id: string;
  readonly recall: Recall;
  taken: Promise<void> | undefined;
  isRecovered: boolean;
  readonly held: Map<string, Held>;
  /** What accesses reserve that were open when the journal was read, by name. */
  readonly left: Map<string, Load>;
  /** Agreements of which the rows may say something else than `held`: they are written again. */
  readonly behind: Map<string, MeteredAgreement>;
  isCatchingUp: boolean;
  /** What the journal does not use of the agreements that it is asking for more of. */
  readonly asking: Map<string, Load>;
  /** Places that are this line's own. */
  nextPlace: number;
  endOfPlaces: number;
}

interface State extends RowLenderOptions {
  readonly lines: Map<string, Line>;
  /** One call after the other for each agreement: they would only meet in the rows. */
  readonly inTurn: ReturnType<typeof createTurnsByKey>;
  readonly inJournalTurn: ReturnType<typeof createTurnsByKey>;
  readonly stopped: AbortController;
  /** When agreements were recalled from everybody, for half a second. */
  readonly toldAt: Map<string, number>;
  /** What nobody waits for, but the end does. */
  readonly running: Set<Promise<void>>;
}

/** How many places a line takes at a time: places are in the order of the lines of a journal, and of what each handed over. */
const placesAtOnce = 2 ** 20;
const catchUpMs = 1_000;
/** Until somebody looks whether others gave something back; each time twice as long. */
const firstLookMs = 10;
/** What nothing bounds is lent by this measure. */
const unbounded: Load = { requests: 2 ** 20, bytes: 2 ** 40, cost: Number.MAX_SAFE_INTEGER };

const sumOf = (loads: readonly Load[]): Load => loads.reduce(plus, nothing);

const isLoaded = ({ load }: WindowBlock): boolean => load.requests > 0 || load.bytes > 0;

const later = (state: State, work: () => Promise<void>): void => {
  const tracked: Promise<void> = work()
    .catch((error: unknown) => state.log.warn({ error }, 'what a journal has of a window is written later'))
    .finally(() => state.running.delete(tracked));
  state.running.add(tracked);
};

const isConnected = (state: State, line: Line): boolean => line.isRecovered && state.lines.get(line.journal) === line;

/** From now on this is the newest line of its journal. */
const take = async (state: State, line: Line): Promise<void> => {
  line.taken ??= state.store.transact((rows) => rows.take(line.journal, line.id));
  try {
    await line.taken;
  } catch (error) {
    line.taken = undefined;
    throw error;
  }
};

/** Works on the rows as the newest line of its journal, or not at all. */
const asNewest = <Value>(
  { store }: State,
  { journal, id }: Line,
  work: (rows: WindowRows) => Promise<Value>,
): Promise<Value | undefined> =>
  store.transact(async (rows) => ((await rows.line(journal)) === id ? work(rows) : undefined));

/** Brings the rows to what the journal has of an agreement; a failure is made good later. */
const write = async (state: State, line: Line, info: MeteredAgreement): Promise<void> => {
  const { agreement } = info;
  const held = line.held.get(agreement) ?? null;
  try {
    await asNewest(state, line, (rows) => rows.setBlock(info, line.journal, held));
  } catch (error) {
    state.log.warn({ error, agreement, journal: line.journal }, 'what a journal has of a window is written later');
    fallBehind(state, line, info);
    return;
  }
  line.behind.delete(agreement);
  if (held === null) state.changed(info);
};

/** The rows may say something else now; a row that says too much only costs room. */
const fallBehind = (state: State, line: Line, info: MeteredAgreement): void => {
  line.behind.set(info.agreement, info);
  if (line.isCatchingUp || state.stopped.signal.aborted) return;
  line.isCatchingUp = true;
  later(state, () => catchUp(state, line));
};

const catchUp = async (state: State, line: Line): Promise<void> => {
  while (line.behind.size > 0 && !state.stopped.signal.aborted) {
    await state.clock.sleep(catchUpMs, state.stopped.signal);
    await writeBehind(state, line);
  }
  line.isCatchingUp = false;
};

const writeBehind = async (state: State, line: Line): Promise<void> => {
  for (const [agreement, info] of [...line.behind]) await state.inTurn(agreement, () => write(state, line, info));
};

interface Change<Value> {
  readonly value: Value;
  /** What the journal has then; as before when it is not named. */
  readonly held?: Held;
}

/**
 * One transaction over an account, as the newest line of the journal; with it the rows learn what the journal has then.
 * `unknown`: nobody knows the agreement.
 */
const change = async <Value>(
  state: State,
  line: Line,
  agreement: string,
  work: (rows: WindowRows, account: WindowAccount, held: Held) => Promise<Change<Value>>,
): Promise<{ readonly value: Value } | 'unknown' | 'replaced'> => {
  let tried: Held | undefined;
  const run = async (rows: WindowRows): Promise<Change<Value> | 'unknown'> => {
    const account = await rows.account(state.role, agreement);
    if (account === undefined) return 'unknown';
    const before = line.held.get(agreement) ?? { info: account.info, load: nothing, counted: 0 };
    const made = await work(rows, account, before);
    tried = made.held;
    if (tried !== undefined) await rows.setBlock(tried.info, line.journal, tried);
    return made;
  };
  try {
    const made = (await asNewest(state, line, run)) ?? 'replaced';
    if (typeof made === 'object' && made.held !== undefined) line.held.set(agreement, made.held);
    return made;
  } catch (error) {
    if (tried !== undefined) fallBehind(state, line, tried.info); // perhaps it was committed all the same
    throw error;
  }
};

/** What all journals have of an account, this one's by its own count. */
const lentOf = (blocks: readonly WindowBlock[], line: Line, own: Load): Load =>
  plus(sumOf(blocks.filter(({ journal }) => journal !== line.journal).map(({ load }) => load)), own);

const exposedBy = (role: MeterRole, { pricePlan, waiting, conceded, totals }: Exposure): Load => {
  if (role === 'consumer') return waiting;
  const acknowledged = {
    requests: Number(totals.requests ?? 0),
    bytes: Number(totals.bytes ?? 0),
    cost: costOf(ratesOf(pricePlan), totals),
  };
  return plus(waiting, concededBeyond(conceded, acknowledged));
};

/** What nobody has of a window, and who has what of it. */
interface Room {
  readonly free: Load | undefined;
  readonly oldestAt: number | null;
  readonly blocks: readonly (WindowBlock & { readonly isEnded: boolean })[];
}

/** As the window of an agreement and that of its counterparty stand. */
const roomOfWindow = async (
  state: State,
  line: Line,
  rows: WindowRows,
  account: WindowAccount,
  own: Load,
): Promise<Room> => {
  const { info } = account;
  const exposures = await rows.exposures(account);
  const oldestAt = await rows.oldestAt(account);
  const exposedIn = (exposure: Exposure, ownLoad: Load): Load =>
    plus(exposedBy(info.role, exposure), lentOf(exposure.blocks, line, ownLoad));
  const mine = exposures.find(({ agreement }) => agreement === info.agreement);
  const ofMine = mine === undefined ? own : exposedIn(mine, own);
  const ofOthers = exposures
    .filter((exposure) => exposure !== mine)
    .map((exposure) => {
      const load = exposedIn(exposure, loadIn(exposure.blocks, line));
      return exposure.pricePlan?.currency === info.pricePlan?.currency ? load : { ...load, cost: 0 };
    });
  const exposed = { own: ofMine, peer: sumOf([ofMine, ...ofOthers]) };
  const blocks = exposures.flatMap(({ blocks: its, isEnded }) => its.map((block) => ({ ...block, isEnded })));
  return { free: freeOfWindow(state.window, exposed, { oldestAt, now: state.clock.now() }), oldestAt, blocks };
};

const loadIn = (blocks: readonly WindowBlock[], { journal }: Line): Load =>
  blocks.find((block) => block.journal === journal)?.load ?? nothing;

const roomOf = async (state: State, line: Line, rows: WindowRows, account: WindowAccount, own: Load): Promise<Room> => {
  const { info, opened, sent } = account;
  if (info.assurance === 'cosigned') return roomOfWindow(state, line, rows, account, own);
  const blocks = account.blocks.map((block) => ({ ...block, isEnded: account.isEnded }));
  if (info.role === 'consumer') return { free: unbounded, oldestAt: null, blocks };
  const lent = lentOf(account.blocks, line, own);
  const used = { requests: opened + lent.requests, bytes: sent + lent.bytes };
  return { free: freeOfQuota(state.quota, used), oldestAt: null, blocks };
};

type Attempt =
  | { readonly kind: 'lent'; readonly lease: Lease }
  | { readonly kind: 'ended' }
  | {
      readonly kind: 'full';
      readonly info: MeteredAgreement;
      /** Who else has something of the same windows. */
      readonly others: Room['blocks'];
    };

/** How many journals have something of an account, the asking one included. */
const journalsOf = ({ blocks }: WindowAccount, line: Line): number =>
  new Set([line.journal, ...blocks.map(({ journal }) => journal)]).size;

/** One transaction: lends what the journal lacks of its share, or tells who has it. */
const attempt = async (state: State, line: Line, agreement: string): Promise<Attempt> => {
  if (!isConnected(state, line)) return { kind: 'ended' };
  const made = await change<Attempt>(state, line, agreement, async (rows, account, held) => {
    if (account.isEnded) return { value: { kind: 'ended' } };
    const { info } = account;
    const { free, oldestAt, blocks } = await roomOf(state, line, rows, account, held.load);
    const rates = ratesOf(info.pricePlan);
    const unused = line.asking.get(agreement) ?? nothing;
    const load = free && loanOf(free, { unused, rates, journals: journalsOf(account, line) });
    if (free === undefined || load === undefined) {
      const isOther = (block: WindowBlock) => block.journal !== line.journal || block.agreement !== agreement;
      return { value: { kind: 'full', info, others: blocks.filter((block) => isOther(block) && isLoaded(block)) } };
    }
    const until = untilOf(info.assurance, { window: state.window, oldestAt, now: state.clock.now() });
    const lent: Lease = { kind: 'lent', load, until, rates, role: info.role, free: minus(free, load) };
    return { value: { kind: 'lent', lease: lent }, held: { ...held, load: plus(held.load, load) } };
  });
  return typeof made === 'object' ? made.value : { kind: 'ended' };
};

/** Those of this process give back at once; the answer is which agreements others have something of. */
const recallHere = async (state: State, others: Room['blocks']): Promise<Room['blocks']> => {
  const slept = new AbortController();
  const isHere = ({ journal }: WindowBlock) => state.lines.has(journal);
  const asked = others.filter(isHere).map(async ({ agreement, journal, isEnded }) => {
    await state.lines.get(journal)?.recall(agreement, isEnded);
    await state.inTurn(agreement, async () => undefined); // what came back stands in the rows
  });
  await Promise.race([Promise.allSettled(asked), state.clock.sleep(recallMs, slept.signal)]);
  slept.abort();
  return others.filter((block) => !isHere(block));
};

/**
 * Every process has what is lent of these agreements given back; each is told of once in half a second. The answer is for
 * how long that may still make room, in ms.
 */
const recallElsewhere = ({ toldAt, clock, tellRecall }: State, others: Room['blocks']): number => {
  const now = clock.now();
  const isRecent = (at: number) => at <= now && now - at < recallMs;
  for (const [agreement, at] of toldAt) if (!isRecent(at)) toldAt.delete(agreement);
  for (const { agreement, isEnded } of others) {
    if (toldAt.has(agreement)) continue;
    toldAt.set(agreement, now);
    tellRecall(agreement, isEnded);
  }
  return Math.max(...others.map(({ agreement }) => (toldAt.get(agreement) ?? now) + recallMs - now));
};

/** Others give back what they do not use; looks again now and then whether that made room. */
const reclaim = async (state: State, line: Line, agreement: string, full: Attempt): Promise<Attempt> => {
  const { clock, inTurn, stopped } = state;
  const next = () => inTurn(agreement, () => attempt(state, line, agreement));
  if (full.kind !== 'full' || full.others.length === 0) return full;
  const elsewhere = await recallHere(state, full.others);
  const patience = elsewhere.length > 0 ? recallElsewhere(state, elsewhere) : 0;
  let made = await next();
  for (let waited = 0, pause = firstLookMs; made.kind === 'full' && waited < patience; pause *= 2) {
    const ms = Math.min(pause, patience - waited);
    await clock.sleep(ms, stopped.signal);
    if (stopped.signal.aborted) break;
    waited += ms;
    made = await next();
  }
  return made;
};

const lease = async (state: State, line: Line, agreement: string, unused: Load): Promise<Lease> => {
  line.asking.set(agreement, unused);
  try {
    const first = await state.inTurn(agreement, () => attempt(state, line, agreement));
    const made = await reclaim(state, line, agreement, first);
    if (made.kind === 'lent') return made.lease;
    if (made.kind === 'ended') return { kind: 'refused', code: 'agreement-ended' };
    state.changed(made.info);
    return { kind: 'refused', code: made.info.assurance === 'cosigned' ? 'window-exhausted' : 'quota-exhausted' };
  } finally {
    line.asking.delete(agreement);
  }
};

const giveBack = (state: State, line: Line, agreement: string, { load, isAll }: GivenBack): void => {
  const asking = line.asking.get(agreement);
  if (asking !== undefined) line.asking.set(agreement, minus(asking, load));
  const back = async (): Promise<void> => {
    const held = line.held.get(agreement);
    if (held === undefined || (!isAll && load.requests === 0 && load.bytes === 0 && load.cost === 0)) return;
    // The end of a block takes what rounding left of it; nothing is out then.
    if (isAll) line.held.delete(agreement);
    else line.held.set(agreement, { ...held, load: minus(held.load, load) });
    await write(state, line, held.info);
  };
  later(state, () => state.inTurn(agreement, back));
};

/** Counts an access before its policy is asked, so that no two are the last one. */
const count = async (state: State, line: Line, agreement: string): Promise<number | undefined> => {
  if (!isConnected(state, line)) return undefined;
  const made = await change<number | undefined>(state, line, agreement, async (_rows, account, held) => {
    if (account.isEnded) return { value: undefined };
    const ofOthers = account.blocks.filter(({ journal }) => journal !== line.journal);
    const before = ofOthers.reduce((sum, { counted }) => sum + counted, account.opened + held.counted);
    return { value: before, held: { ...held, counted: held.counted + 1 } };
  });
  return typeof made === 'object' ? made.value : undefined;
};

const uncount = (state: State, line: Line, agreement: string): void => {
  const back = async (): Promise<void> => {
    const held = line.held.get(agreement);
    if (held === undefined) return;
    line.held.set(agreement, { ...held, counted: held.counted - 1 });
    await write(state, line, held.info);
  };
  later(state, () => state.inTurn(agreement, back));
};

/** A place for each of so many; a new range when the last one is used up. */
const placesFor = async (state: State, line: Line, count: number): Promise<number> => {
  if (line.endOfPlaces - line.nextPlace < count) {
    line.nextPlace = await state.store.places(placesAtOnce);
    line.endOfPlaces = line.nextPlace + placesAtOnce;
  }
  line.nextPlace += count;
  return line.nextPlace - count;
};

/** What accesses took of the block, or reserved before the journal was read, is their own from now on. */
const drawnFrom = (line: Line, held: Held, accesses: readonly ShippedAccess[]): Held => {
  let { load, counted } = held;
  for (const { open, drawn, isCounted } of accesses) {
    const left = line.left.get(nameOf(open));
    load = minus(load, plus(drawn, left ?? nothing));
    if (isCounted || (left !== undefined && open.part === 1)) counted -= 1;
  }
  return { ...held, load, counted };
};

interface Shipped {
  readonly account: WindowAccount;
  readonly placed: readonly UnstatedAccess[];
  readonly answers: readonly PutAccess[];
}

const tellOf = ({ log }: State, { account, placed, answers }: Shipped): void => {
  for (const [index, { open, journal }] of placed.entries()) {
    const about = { agreement: open.agreement, request: open.request, part: open.part, journal };
    if (answers[index] === 'doubled') log.error(about, 'a request stands in two journals: the first one counts');
    if (answers[index] === 'new' && account.isClosed)
      log.error(about, 'an access came behind the last statement of its agreement');
  }
};

/** Puts accesses of one agreement into the rows, and takes them out of the block; false when nobody knows the agreement. */
const shipTo = async (
  state: State,
  line: Line,
  agreement: string,
  accesses: readonly ShippedAccess[],
): Promise<boolean> => {
  const first = await placesFor(state, line, accesses.length);
  const shipped = await change<Shipped>(state, line, agreement, async (rows, account, held) => {
    const { info } = account;
    const rates = ratesOf(info.pricePlan);
    const placed = accesses.map(({ open, close, closedAt, openPlace }, index) => {
      const load = loadOf(info.role, rates, close);
      return { open, close, closedAt, load, openPlace, journal: line.journal, place: first + index };
    });
    const answers = await rows.put(info, placed);
    const value = { account, placed, answers };
    return line.held.has(agreement) ? { value, held: drawnFrom(line, held, accesses) } : { value };
  });
  if (shipped === 'replaced') throw replaced(line.journal);
  if (shipped === 'unknown') return false;
  for (const { open } of accesses) line.left.delete(nameOf(open));
  tellOf(state, shipped.value);
  state.changed(shipped.value.account.info);
  return true;
};

const ship = async (state: State, line: Line, accesses: readonly ShippedAccess[]): Promise<readonly string[]> => {
  if (state.lines.get(line.journal) !== line) throw replaced(line.journal);
  await take(state, line);
  const unknown: string[] = [];
  for (const [agreement, own] of Map.groupBy(accesses, ({ open }) => open.agreement)) {
    const isKnown = await state.inTurn(agreement, () => shipTo(state, line, agreement, own));
    if (!isKnown) unknown.push(...own.map(({ open }) => nameOf(open)));
  }
  return unknown;
};

/** What is still open in a journal that was read, as the new line has it: it reserves what it did, and is counted. */
const heldOf = (
  info: MeteredAgreement,
  open: readonly UsageOpen[],
): Held & { readonly left: readonly [string, Load][] } => {
  const rates = ratesOf(info.pricePlan);
  const left = open.map((one): [string, Load] => [nameOf(one), reservation(rates, one.part, one.reserved)]);
  return {
    info,
    load: sumOf(left.map(([, load]) => load)),
    counted: open.filter(({ part }) => part === 1).length,
    left,
  };
};

/** What the journal was lent before is over: all that became of it is known. */
const recovered = async (state: State, line: Line, open: readonly UsageOpen[]): Promise<void> => {
  if (state.lines.get(line.journal) !== line) throw replaced(line.journal);
  await take(state, line);
  const made = await asNewest(state, line, async (rows) => {
    const ended = await rows.endBlocks(line.journal);
    const all: ReturnType<typeof heldOf>[] = [];
    for (const [agreement, own] of Map.groupBy(open, (one) => one.agreement)) {
      const account = await rows.account(state.role, agreement);
      if (account === undefined || account.isClosed) continue;
      const held = heldOf(account.info, own);
      await rows.setBlock(held.info, line.journal, held);
      all.push(held);
    }
    return { ended, all };
  });
  if (made === undefined) throw replaced(line.journal);
  for (const { left, ...held } of made.all) {
    line.held.set(held.info.agreement, held);
    for (const [name, load] of left) line.left.set(name, load);
  }
  line.isRecovered = true;
  for (const key of made.ended) state.changed(key);
};

const connect = (state: State, journal: string, recall: Recall): WindowLine => {
  const line: Line = {
    ...{ journal, recall, id: state.newId() },
    ...{ taken: undefined, isRecovered: false, isCatchingUp: false },
    ...{ held: new Map(), left: new Map(), behind: new Map(), asking: new Map() },
    ...{ nextPlace: 0, endOfPlaces: 0 },
  };
  state.lines.set(journal, line);
  take(state, line).catch(() => undefined); // whoever needs it takes it again, and hears why not
  return {
    lease: (agreement, unused) => lease(state, line, agreement, unused),
    giveBack: (agreement, back) => giveBack(state, line, agreement, back),
    count: (agreement) => state.inTurn(agreement, () => count(state, line, agreement)),
    uncount: (agreement) => uncount(state, line, agreement),
    ship: (accesses) => state.inJournalTurn(journal, () => ship(state, line, accesses)),
    recovered: (open) => state.inJournalTurn(journal, () => recovered(state, line, open)),
    mark: (segment) => state.marks.set(journal, segment),
  };
};

const recalled = async (state: State, agreement: string, isEnded: boolean): Promise<void> => {
  await state.inTurn(agreement, async () => undefined); // what is being lent is lent
  const has = ({ held, asking }: Line) => held.has(agreement) && (isEnded || !asking.has(agreement));
  await Promise.allSettled([...state.lines.values()].filter(has).map(({ recall }) => recall(agreement, isEnded)));
  await state.inTurn(agreement, async () => undefined);
};

/** The lender of one role in one of several processes. It lends nothing to a journal that was not read to its end. */
export const createRowLender = (options: RowLenderOptions): RowLender => {
  const state: State = {
    ...options,
    lines: new Map(),
    inTurn: createTurnsByKey(),
    inJournalTurn: createTurnsByKey(),
    stopped: new AbortController(),
    running: new Set(),
    toldAt: new Map(),
  };
  const { lines } = state;
  return {
    connect: (journal, recall) => connect(state, journal, recall),
    disconnect: (journal) => void lines.delete(journal),
    recalled: (agreement, isEnded) => recalled(state, agreement, isEnded),
    [Symbol.asyncDispose]: async () => {
      state.stopped.abort();
      while (state.running.size > 0) await Promise.all(state.running);
    },
  };
};
