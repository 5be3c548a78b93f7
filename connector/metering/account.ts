import type { AccessFacts } from '../../contracts/ledger/draft.ts';
import type { Units } from '../../contracts/ledger/forms.ts';
import { addUnits } from '../../contracts/ledger/price-plan.ts';
import type { UsageClose, UsageExt, UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { formatTime, parseTime } from '../../contracts/time.ts';
import { unknownHave } from './counts.pure.ts';
import type { HeldRecord, KeptStatement, Late, Load, MeteredAgreement, StoredAccount } from './ports.ts';
import {
  concededBeyond,
  costOf,
  loadOf,
  minus,
  nothing,
  plus,
  type Rates,
  ratesOf,
  reservation,
} from './window.pure.ts';

/** One side of an agreement while the connector runs: what was opened and is not settled, and what that exposes. */

/** An access (a part of one) that is not settled: it stands in no complete statement. */
export interface Access {
  readonly request: string;
  readonly part: number;
  readonly at: number;
  readonly ext: UsageExt;
  readonly facts: AccessFacts;
  openPlace: number;
  reserved: Load;
  close: UsageClose | null;
  closePlace: number;
  /** By our clock; after a restart the time of opening stands in. */
  closedAt: number;
  /** What it exposes: all of it is taken back when it is settled. */
  exposed: Load;
  standing: Standing;
}

/** `lost`: it ended, but the journal did not take its close; it becomes `unknown`. */
export type Standing = 'open' | 'closed' | 'held' | 'lost';

/** Where the chain of statements stands: what the next one must follow (ledger §8). */
export interface Chain {
  readonly seq: number;
  readonly last: bigint;
  readonly to: string;
  /** `b64u H(P)` of the newest, null before the first. */
  readonly digest: string | null;
  readonly totals: Units;
  readonly isFinal: boolean;
}

/** Shared by all agreements with one counterparty. */
export interface PeerExposure {
  exposed: Load;
  /** By currency: amounts of different ones are not added. */
  readonly costs: Map<string, number>;
}

/** What one journal was lent of the window, and has not brought back: as records, or unused. */
export interface Block {
  /** The line that it was lent on: a later line of the same journal has no part in it. */
  readonly line: object;
  load: Load;
  /** Accesses that were counted ahead and are not in `opened` yet. */
  counted: number;
}

export interface Account {
  readonly info: MeteredAgreement;
  readonly rates: Rates;
  readonly currency: string;
  readonly peer: PeerExposure;
  isEnded: boolean;
  readonly accesses: Map<string, Access>;
  /** How many of them stand where. */
  readonly counts: Record<Standing, number>;
  chain: Chain;
  /** Accesses opened so far: settled ones and those above. */
  opened: number;
  /** Of `plain-dsp`: all bytes so far, settled ones included. */
  settledBytes: number;
  exposed: Load;
  conceded: Load;
  acknowledged: Load;
  /** When the oldest access closed that waits for a statement. */
  oldestAt: number | null;
  held: Map<string, HeldRecord>;
  /** What is lent, by the name of the journal; it is part of `exposed`. */
  readonly blocks: Map<string, Block>;
}

/** What is lent counts where it is lent; here only that something is out, which may become an access. */
export const setBlocks = ({ blocks }: Account, journals: readonly string[]): void => {
  blocks.clear();
  for (const journal of journals) blocks.set(journal, { line: {}, load: nothing, counted: 0 });
};

/** Whether there is anything that a statement was made of, or will be: all else waits for its first access. */
export const isInUse = ({ accesses, chain, blocks, isEnded }: Account): boolean =>
  accesses.size > 0 || chain.seq > 0 || blocks.size > 0 || isEnded;

export const keyOf = (request: string, part: number): string => `${request} ${part}`;

/** A share of an account's exposure, taken or given back; the counterparty's sum goes with it. */
export const expose = (account: Account, load: Load): void => {
  account.exposed = plus(account.exposed, load);
  const { peer, currency } = account;
  peer.exposed = plus(peer.exposed, load);
  if (load.cost !== 0) peer.costs.set(currency, (peer.costs.get(currency) ?? 0) + load.cost);
};

export const release = (account: Account, load: Load): void => expose(account, minus(nothing, load));

export const accessOf = (entry: UsageOpen, place: number, reserved: Load): Access => ({
  request: entry.request,
  part: entry.part,
  at: entry.at,
  ext: entry.ext,
  facts: {
    asset: entry.asset,
    transfer: entry.transfer,
    application: entry.application,
    method: entry.method,
    purpose: entry.purpose,
    run: entry.run,
    target: entry.target,
  },
  openPlace: place,
  reserved,
  close: null,
  closePlace: 0,
  closedAt: 0,
  exposed: reserved,
  standing: 'open',
});

/** The close of an access of which nobody knows how it ended. */
export const unknownClose = (
  agreement: string,
  { request, part }: { readonly request: string; readonly part: number },
): UsageClose => ({
  t: 'close',
  agreement,
  request,
  part,
  bytes: 0,
  digest: unknownHave.digest,
  outcome: 'unknown',
  status: '',
  units: {},
});

/** What is lent and not brought back, by all journals. */
export const lentOf = ({ blocks }: Account): Load =>
  [...blocks.values()].reduce((sum, { load }) => plus(sum, load), nothing);

/** Accesses that workers counted ahead and did not hand over yet. */
export const countedAhead = ({ blocks }: Account): number =>
  [...blocks.values()].reduce((sum, { counted }) => sum + counted, 0);

export const setStanding = (account: Account, access: Access, standing: Standing): void => {
  account.counts[access.standing] -= 1;
  account.counts[standing] += 1;
  access.standing = standing;
};

const forget = (account: Account, access: Access): void => {
  account.accesses.delete(keyOf(access.request, access.part));
  account.counts[access.standing] -= 1;
  release(account, access.exposed);
};

export const addAccess = (account: Account, access: Access): void => {
  account.accesses.set(keyOf(access.request, access.part), access);
  account.counts[access.standing] += 1;
  if (access.part === 1) account.opened += 1;
  expose(account, access.exposed);
};

/** Takes back an access that was never recorded. */
export const dropAccess = (account: Account, access: Access): void => {
  if (access.part === 1) account.opened -= 1;
  forget(account, access);
};

export const extendAccess = (account: Account, access: Access, more: Load): void => {
  access.reserved = plus(access.reserved, more);
  access.exposed = plus(access.exposed, more);
  expose(account, more);
};

const waits = (account: Account, access: Access): boolean =>
  access.standing === 'closed' &&
  (account.info.role === 'provider' ||
    (access.exposed.requests + access.exposed.bytes > 0 && access.closedAt > (parseTime(account.chain.to) ?? 0)));

export const closeAccess = (account: Account, access: Access, close: UsageClose, at: number, place: number): void => {
  release(account, access.exposed);
  access.exposed = loadOf(account.info.role, account.rates, close);
  access.close = close;
  access.closePlace = place;
  access.closedAt = at;
  setStanding(account, access, account.held.has(keyOf(access.request, access.part)) ? 'held' : 'closed');
  expose(account, access.exposed);
  if (account.oldestAt === null && waits(account, access)) account.oldestAt = at;
};

/** An access that is complete in the journal of a worker. */
export interface ClosedAccess {
  readonly open: UsageOpen;
  readonly close: UsageClose;
  readonly closedAt: number;
  readonly place: number;
}

/** Enters an access out of another journal: `close` is null while it is open there. */
export const enterAccess = (account: Account, open: UsageOpen, closed: Omit<ClosedAccess, 'open'> | null): void => {
  const access = accessOf(open, 0, reservation(account.rates, open.part, open.reserved));
  addAccess(account, access);
  if (closed !== null) closeAccess(account, access, closed.close, closed.closedAt, closed.place);
};

/** Enters those that are not here yet. */
export const enterMissing = (account: Account, accesses: Iterable<ClosedAccess>): void => {
  for (const one of accesses)
    if (!account.accesses.has(keyOf(one.open.request, one.open.part))) enterAccess(account, one.open, one);
};

/** The age of what waits, counted anew after something was settled or held over. */
export const recountAge = (account: Account): void => {
  let oldest: number | null = null;
  for (const access of account.accesses.values())
    if (waits(account, access) && (oldest === null || access.closedAt < oldest)) oldest = access.closedAt;
  account.oldestAt = oldest;
};

/** What was served and will not be paid keeps its place in the window, beyond the share that is forgiven. */
const countConceded = (account: Account, conceded: Load, acknowledged: Load): void => {
  release(account, concededBeyond(account.conceded, account.acknowledged));
  account.conceded = conceded;
  account.acknowledged = acknowledged;
  expose(account, concededBeyond(conceded, acknowledged));
};

export const forgiveConceded = (account: Account): void => countConceded(account, nothing, account.acknowledged);

export const hold = (account: Account, held: readonly HeldRecord[]): void => {
  account.held = new Map(held.map((one) => [keyOf(one.request, one.part), one]));
  for (const [key, access] of account.accesses) {
    if (access.close === null) continue;
    const record = account.held.get(key);
    setStanding(account, access, record === undefined ? 'closed' : 'held');
    if (record?.isWrittenOff !== true) continue;
    release(account, access.exposed);
    access.exposed = nothing;
  }
  recountAge(account);
};

export const chainOf = ({ payload, digest, sums }: Pick<KeptStatement, 'payload' | 'digest' | 'sums'>): Chain => ({
  seq: Number(payload.seq),
  last: BigInt(payload.last),
  to: payload.to,
  digest,
  totals: sums.totals,
  isFinal: payload.final,
});

const firstChain = (info: MeteredAgreement): Chain => ({
  seq: 0,
  last: 0n,
  to: formatTime(info.startedAt),
  digest: null,
  totals: {},
  isFinal: false,
});

const acknowledgedBy = (rates: Rates, totals: Units): Load => ({
  requests: Number(totals.requests ?? 0),
  bytes: Number(totals.bytes ?? 0),
  cost: costOf(rates, totals),
});

export interface Settled {
  readonly request: string;
  readonly part: number;
  /** What was served and given up with this record. */
  readonly conceded: Load;
}

/** What a row gives up of what this side counted; never less than nothing. */
export const givenUp = (account: Account, access: Access, units: Units, bytes: string): Load => {
  if (access.close === null || access.close.outcome === 'unknown') return nothing; // our own crash: nobody gains by it
  const counted = access.close.units;
  const requests = Number(counted.requests ?? 0) - Number(units.requests ?? 0);
  return {
    requests: Math.max(0, requests),
    bytes: Math.max(0, access.close.bytes - Number(bytes)),
    cost: Math.max(0, costOf(account.rates, counted) - costOf(account.rates, units)),
  };
};

/** Long after the provider could have stated them: refused requests, and what it left out to its own loss. */
const unstatedMs = { uncharged: 3_600_000, charged: 86_400_000 };

/** What a consumer waits for no longer. */
export const lateIn = ({ chain }: Account): Late => {
  const to = parseTime(chain.to) ?? 0;
  return { charged: to - unstatedMs.charged, uncharged: to - unstatedMs.uncharged };
};

/** After the last statement nothing is stated any more; before it, the consumer waits for a while and no longer. */
const forgetUnstated = (account: Account): void => {
  const { chain, info } = account;
  const late = lateIn(account);
  for (const access of account.accesses.values()) {
    const isCharged = access.exposed.requests + access.exposed.bytes > 0;
    const isLate = access.closedAt < (isCharged ? late.charged : late.uncharged);
    if (access.close !== null && (chain.isFinal || (info.role === 'consumer' && isLate))) forget(account, access);
  }
};

/** A statement is complete: its records leave the window, and the chain goes on from it. */
export const settle = (
  account: Account,
  statement: Parameters<typeof chainOf>[0],
  records: readonly Settled[],
  conceded: Load,
): void => {
  account.chain = chainOf(statement);
  for (const { request, part } of records) {
    const key = keyOf(request, part);
    const access = account.accesses.get(key);
    account.held.delete(key);
    if (access === undefined) continue;
    account.settledBytes += access.close?.bytes ?? 0;
    forget(account, access);
  }
  if (account.info.role === 'provider')
    countConceded(account, conceded, acknowledgedBy(account.rates, account.chain.totals));
  if (account.chain.isFinal) account.isEnded = true;
  forgetUnstated(account);
  recountAge(account);
};

export interface OpenedAccount {
  readonly stored: StoredAccount;
  readonly peer: PeerExposure;
  readonly newest: KeptStatement | undefined;
  readonly held: readonly HeldRecord[];
  /** Of settled records: how many accesses, and how many bytes. */
  readonly settledRequests: number;
  readonly settledBytes: number;
}

/** An account with nothing unsettled in it yet. */
export const createAccount = (its: OpenedAccount): Account => {
  const { info, isEnded, conceded } = its.stored;
  const rates = ratesOf(info.pricePlan);
  const account: Account = {
    info,
    rates,
    currency: info.pricePlan?.currency ?? '',
    peer: its.peer,
    isEnded,
    accesses: new Map(),
    counts: { open: 0, closed: 0, held: 0, lost: 0 },
    chain: its.newest?.state === 'complete' ? chainOf(its.newest) : firstChain(info),
    opened: its.settledRequests,
    settledBytes: its.settledBytes,
    exposed: nothing,
    conceded: nothing,
    acknowledged: nothing,
    oldestAt: null,
    held: new Map(its.held.map((one) => [keyOf(one.request, one.part), one])),
    blocks: new Map(),
  };
  if (info.role === 'provider') countConceded(account, conceded, acknowledgedBy(rates, account.chain.totals));
  return account;
};

/** Totals after more records; what both sides count on their own. */
export const totalsAfter = (totals: Units, rows: readonly { readonly units: Units }[]): Units =>
  rows.reduce((sum, { units }) => addUnits(sum, units), totals);
