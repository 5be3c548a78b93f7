import type { AnchorRow, Attempt, ContractHead, Hex } from './ports.ts';

/** What the contract's head means for a checkpoint that is not anchored yet, and what is paid for it (anchoring §5). */

const noRoot: Hex = `0x${'00'.repeat(32)}`;

/** `go`: the checkpoint can follow this root. `wait`: something must change first, and nothing is lost meanwhile. */
export type HeadVerdict =
  | { readonly kind: 'go'; readonly previousRoot: Hex }
  | { readonly kind: 'anchored' }
  | { readonly kind: 'superseded' | 'forbidden' | 'wait'; readonly reason: string };

export interface HeadFacts {
  readonly head: ContractHead;
  readonly row: Pick<AnchorRow, 'size' | 'root' | 'sender'>;
  /** Root of our own tree at the head's size; undefined when it cannot be told. */
  readonly ourRoot: Hex | undefined;
  /** Our newest final anchor at this contract. */
  readonly lastFinal: { readonly size: number; readonly blockNumber: number } | undefined;
  /** How far the node says that the chain is final. */
  readonly finalBlock: number;
}

/** A final anchor that the head does not show: the node is far behind, or this is another chain. */
const judgeLost = ({ head, lastFinal, finalBlock }: HeadFacts): HeadVerdict | undefined => {
  if (lastFinal === undefined || head.size >= lastFinal.size) return undefined;
  return finalBlock < lastFinal.blockNumber
    ? { kind: 'wait', reason: `the node is behind block ${lastFinal.blockNumber} of our last final anchor` }
    : { kind: 'forbidden', reason: `the chain no longer has what was final: size ${lastFinal.size}` };
};

/**
 * Whether a checkpoint may follow the head. We go on only from a root that we signed; a root that is not ours under our
 * name, or a final anchor that is gone, stops everything: then a key is stolen, or this is another chain.
 */
export const judgeHead = (facts: HeadFacts): HeadVerdict => {
  const { head, row, ourRoot } = facts;
  const isOurs = head.size === 0 || head.root === ourRoot;
  const lost = judgeLost(facts);
  if (lost !== undefined) return lost;
  if (head.size === row.size && head.root === row.root) return { kind: 'anchored' };
  if (!isOurs)
    return { kind: 'forbidden', reason: `size ${head.size} is anchored with a root that this log did not sign` };
  if (head.size > row.size) return { kind: 'superseded', reason: `size ${head.size} is anchored` };
  if (head.closed) return { kind: 'forbidden', reason: 'the log is closed at the contract' };
  if (head.owner !== row.sender) {
    const owner = head.owner === `0x${'00'.repeat(20)}` ? 'nobody: it is not registered' : head.owner;
    return { kind: 'wait', reason: `the log belongs to ${owner}` };
  }
  return { kind: 'go', previousRoot: head.size === 0 ? noRoot : head.root };
};

type Fee = Pick<Attempt, 'maxFee' | 'tip'>;

export interface FeeFacts {
  /** Wei. */
  readonly baseFee: bigint;
  readonly ceiling: bigint;
  /** At least this is offered to the block's maker. */
  readonly leastTip: bigint;
}

/** A twentieth of a gwei: what is asked for where the base fee is next to nothing. */
export const defaultLeastTip = 50_000_000n;

const least = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const most = (a: bigint, b: bigint): bigint => (a > b ? a : b);

/** The fee of a first attempt: a tenth for the block's maker, room for the base fee to double; undefined above the ceiling. */
export const firstFee = ({ baseFee, ceiling, leastTip }: FeeFacts): Fee | undefined => {
  const tip = most(leastTip, baseFee / 10n);
  if (baseFee + tip > ceiling) return undefined;
  return { maxFee: least(2n * baseFee + tip, ceiling).toString(), tip: tip.toString() };
};

/** A quarter more: nodes ask for a tenth. */
const raised = (wei: bigint): bigint => (wei * 5n + 3n) / 4n;

/** The fee of the next attempt under the same nonce; undefined when the ceiling leaves no room that a node would take. */
export const nextFee = (last: Fee, facts: Omit<FeeFacts, 'leastTip'>): Fee | undefined => {
  const tip = raised(BigInt(last.tip));
  const maxFee = least(most(raised(BigInt(last.maxFee)), 2n * facts.baseFee + tip), facts.ceiling);
  const isEnough = maxFee * 10n >= BigInt(last.maxFee) * 11n && maxFee >= tip && facts.baseFee + tip <= facts.ceiling;
  return isEnough ? { maxFee: maxFee.toString(), tip: tip.toString() } : undefined;
};

/** The nonce for a new transaction: behind all that stand in blocks and all that we gave out and that may still come. */
export const nextNonce = (counted: number, open: readonly Pick<AnchorRow, 'call'>[]): number =>
  open.reduce((next, { call }) => (call === null ? next : Math.max(next, call.nonce + 1)), counted);

/** How fast anchoring goes, from the one number that an operator chooses. */
export interface AnchorPace {
  readonly intervalMs: number;
  readonly pollMs: number;
  readonly alarmMs: number;
  readonly stuckMs: number;
}

/** Looks once a block of Ethereum at most, oftener only where anchors follow quickly; alarms after three missed turns. */
export const anchorPace = (intervalMs: number): AnchorPace => ({
  intervalMs,
  pollMs: Math.min(12_000, Math.max(250, Math.floor(intervalMs / 4))),
  alarmMs: Math.max(3_600_000, 3 * intervalMs),
  stuckMs: 180_000,
});
