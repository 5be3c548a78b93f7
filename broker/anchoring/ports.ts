import type { BlockEvidence } from '../../contracts/anchor/make-proof.ts';
import type { Checkpoint } from '../../contracts/ledger/note.ts';
import type { EvmAnchor, TrustFile } from '../../contracts/ledger/receipt.ts';
import type { AnchorVerdict } from '../../contracts/ledger/verify.ts';

/** What anchoring needs from outside (anchoring §5, §8): a chain that is not believed, an account, and rows. */

/** `0x` and lower-case hex, as chains write hashes, roots and addresses. */
export type Hex = string;

/** Where anchors go. */
export interface AnchorTarget {
  readonly origin: string;
  readonly chainId: string;
  /** Lower case. */
  readonly contract: Hex;
}

/** One transaction that was signed for an anchor; several when its fee was raised: all have the same nonce. */
export interface Attempt {
  readonly hash: Hex;
  /** Most that is paid for a unit of gas, and the part of it for the block's maker; wei, decimal. */
  readonly maxFee: string;
  readonly tip: string;
  readonly at: number;
}

/** The call that anchors, as it is signed. */
export interface AnchorCall {
  readonly size: number;
  readonly root: Hex;
  readonly previousRoot: Hex;
  readonly nonce: number;
  readonly gas: number;
}

/** Where an anchor's event stands, as a node says. */
export interface Place {
  readonly transaction: Hex;
  readonly blockNumber: number;
  readonly blockHash: Hex;
}

/** Whatever was decided once, and is proven for ever. */
export interface Evidence {
  readonly anchor: EvmAnchor;
  /** The block's own time, ms. */
  readonly blockTime: number;
}

export type AnchorState = 'queued' | 'submitted' | 'mined' | 'safe' | 'final' | 'replaced' | 'refused';

/** One checkpoint on its way to the chain. */
export interface AnchorRow extends AnchorTarget {
  readonly size: number;
  readonly root: Hex;
  /** The signed checkpoint. */
  readonly note: string;
  readonly state: AnchorState;
  /** Address of the account that sends it. */
  readonly sender: Hex;
  /** Null until a nonce was given, and again when that nonce went to something else. */
  readonly call: AnchorCall | null;
  /** All that were signed with that nonce, oldest first. */
  readonly attempts: readonly Attempt[];
  readonly place: Place | null;
  readonly evidence: Evidence | null;
  /** Why it was replaced or refused. */
  readonly reason: string;
  /** When it was queued, or the first of those whose place it took. */
  readonly createdAt: number;
  readonly updatedAt: number;
  readonly version: number;
}

/** Which final anchors are asked for, by size, ascending unless `newestFirst`. */
export interface FinalQuery {
  /** Only those at this contract; of all where it is left out. */
  readonly target?: AnchorTarget;
  /** Only checkpoints of more entries than this. */
  readonly above?: number;
  /** Only checkpoints of fewer entries than this. */
  readonly below?: number;
  readonly newestFirst?: boolean;
  readonly limit: number;
}

/**
 * Anchors on their way and at their end. `save` is atomic and durable when it answers; a row is new with version 1, and
 * otherwise follows the one that is stored; two live rows of a sender never have one nonce. Final rows are never lost.
 */
export interface AnchorStore {
  readonly find: (target: AnchorTarget, size: number) => Promise<AnchorRow | undefined>;
  /** Those that may still change: queued, submitted, mined, safe; by size. */
  readonly open: (target: AnchorTarget) => Promise<readonly AnchorRow[]>;
  readonly save: (row: AnchorRow) => Promise<'saved' | 'conflict'>;
  /** Final anchors of a log. */
  readonly finals: (origin: string, query: FinalQuery) => Promise<readonly AnchorRow[]>;
}

/** How far a chain has come, as a node says. */
export interface ChainTip {
  readonly chainId: string;
  readonly latest: number;
  readonly safe: number;
  readonly final: number;
  /** Wei; decimal. */
  readonly baseFee: string;
}

/** What the contract holds for a log; all zero when it was never registered. */
export interface ContractHead {
  readonly size: number;
  /** The block of its last anchor. */
  readonly blockNumber: number;
  readonly root: Hex;
  readonly closed: boolean;
  readonly owner: Hex;
}

export interface AnchorSearch {
  readonly checkpoint: Checkpoint;
  /** Hashes of transactions that may have made it. */
  readonly transactions: readonly Hex[];
  /** A block in which somebody else's transaction may have made it. */
  readonly block?: number;
}

/** What was found of an anchor: its event, or only that a transaction failed, or nothing. */
export type Sighting =
  | { readonly kind: 'event'; readonly place: Place }
  | { readonly kind: 'reverted' }
  | { readonly kind: 'nothing' };

/**
 * A node of the chain. What it says is evidence only after it was checked; each call throws AppError `fetch-failed` when
 * the node is gone or answers nonsense.
 */
export interface Chain {
  readonly tip: () => Promise<ChainTip>;
  /** At the newest block. */
  readonly head: (origin: string) => Promise<ContractHead>;
  readonly find: (search: AnchorSearch) => Promise<Sighting>;
  /** Hash of the block at a height, or undefined when there is none yet. */
  readonly hashAt: (height: number) => Promise<Hex | undefined>;
  /** The block and all its receipts; undefined when the node does not have it. */
  readonly evidence: (blockHash: Hex) => Promise<BlockEvidence | undefined>;
}

/** Whether a call would succeed now: with how much gas, or why not. */
export type Estimate = { readonly ok: true; readonly gas: number } | { readonly ok: false; readonly reason: string };

/** A transaction that is signed and not sent. */
export interface SignedCall {
  readonly hash: Hex;
  readonly raw: Hex;
}

/** The account that owns the log on the chain. Signing the same twice gives the same hash; the key never leaves it. */
export interface ChainAccount {
  readonly address: Hex;
  /** How many of its transactions stand in blocks: the next nonce. */
  readonly nonce: () => Promise<number>;
  readonly estimate: (origin: string, call: Pick<AnchorCall, 'size' | 'root' | 'previousRoot'>) => Promise<Estimate>;
  readonly sign: (origin: string, call: AnchorCall, fee: Pick<Attempt, 'maxFee' | 'tip'>) => Promise<SignedCall>;
  /** Undefined when the node took it or had it; otherwise why not. */
  readonly send: (raw: Hex) => Promise<string | undefined>;
}

/** Root of our own tree at a size that was published, or undefined when it cannot be told. */
export type RootAt = (size: number) => Promise<Hex | undefined>;

/** Names a submission: its kind, chain, contract and size. */
export type SubmissionId = string;

/** How a submission stands; `unknown` is one that this driver never took. */
export type SubmissionState = 'pending' | 'final' | 'refused' | 'unknown';

/** One way to anchor checkpoints (anchoring §8). Only a final submission has a proof. */
export interface AnchorDriver {
  readonly kind: 'evm';
  /** Takes a signed checkpoint; idempotent by origin and size. Durable when it answers. */
  readonly submit: (note: string) => Promise<SubmissionId>;
  /** Moves it on by what the chain says now. @throws AppError `fetch-failed` when nothing can be said. */
  readonly poll: (id: SubmissionId) => Promise<SubmissionState>;
  readonly proof: (id: SubmissionId) => Promise<Uint8Array | undefined>;
  /** Offline. */
  readonly verify: (proof: Uint8Array, note: string, trust: TrustFile['chains']) => AnchorVerdict;
}
