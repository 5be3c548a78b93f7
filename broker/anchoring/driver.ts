import { z } from 'zod';
import { makeAnchorProof } from '../../contracts/anchor/make-proof.ts';
import { type AnchorTools, verifyAnchor } from '../../contracts/anchor/proof.ts';
import { textOf, toHex, utf8 } from '../../contracts/bytes.ts';
import type { Crypto } from '../../contracts/crypto.ts';
import { AppError } from '../../contracts/errors.ts';
import { canonicalize } from '../../contracts/json.ts';
import { bad, type Checked, good, readCanonical } from '../../contracts/ledger/forms.ts';
import { type Checkpoint, type Policy, readNote, verifyNote } from '../../contracts/ledger/note.ts';
import { evmAnchor } from '../../contracts/ledger/receipt.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import { type AnchorEvent, isOver, transition } from './machine.ts';
import type {
  AnchorDriver,
  AnchorRow,
  AnchorStore,
  AnchorTarget,
  Chain,
  ChainAccount,
  ChainTip,
  Evidence,
  Hex,
  Place,
  RootAt,
  SubmissionId,
  SubmissionState,
} from './ports.ts';
import { firstFee, judgeHead, nextFee, nextNonce } from './rules.ts';

/**
 * The driver for EVM chains (anchoring §5). Each poll looks at the chain afresh and moves one checkpoint by what it says:
 * nothing is remembered of the chain but what was signed, so that a re-org, a lost answer and a restart are one case.
 */

export interface EvmDriverOptions {
  readonly target: AnchorTarget;
  readonly store: AnchorStore;
  readonly chain: Chain;
  /** A node of somebody else, which must agree that a block is final. */
  readonly second?: Chain | undefined;
  readonly account: ChainAccount;
  readonly rootAt: RootAt;
  /** Whose signatures a checkpoint must have before it is anchored. */
  readonly policy: Policy;
  readonly crypto: Crypto;
  readonly keccak256: AnchorTools['keccak256'];
  readonly clock: Clock;
  readonly log: Logger;
  /** Most that is paid for a unit of gas, and the least part of it for the block's maker; wei. */
  readonly feeCeiling: bigint;
  readonly leastTip: bigint;
  /** A transaction that stands in no block after this long gets a higher fee. */
  readonly stuckMs: number;
  /** Hears why an anchor does not move on; must not throw. */
  readonly onWait: (reason: string) => void;
}

interface Look {
  readonly tip: ChainTip;
  readonly checkpoint: Checkpoint;
}

type Outcome = AnchorEvent | 'nothing';

/** The name of a submission at this contract. */
export const submissionId = ({ chainId, contract }: AnchorTarget, size: number): SubmissionId =>
  `evm:${chainId}:${contract}:${size}`;

const rootOf = (checkpoint: Checkpoint): Hex => `0x${toHex(checkpoint.root)}`;

const checkpointOf = (note: string): Checkpoint => {
  const read = readNote(note);
  if (!read.ok) throw new AppError('invariant-broken', { detail: `a stored checkpoint: ${read.reason}` });
  return read.value.checkpoint;
};

const stateOf = (row: AnchorRow | undefined): SubmissionState => {
  if (row === undefined) return 'unknown';
  if (row.state === 'refused') return 'refused';
  return isOver(row) ? 'final' : 'pending'; // a replaced one is covered by a larger one that is on its way or final
};

/** How deep the block of an event stands, or that it stands in no block of this chain. */
const depthOf = async (
  chain: Chain,
  tip: ChainTip,
  { blockNumber, blockHash }: Place,
): Promise<'gone' | 'mined' | 'safe' | 'final'> => {
  if ((await chain.hashAt(blockNumber)) !== blockHash) return 'gone';
  if (blockNumber <= tip.final) return 'final';
  return blockNumber <= tip.safe ? 'safe' : 'mined';
};

/** Whether the second node agrees; one that cannot be asked does not. */
const isConfirmed = async ({ second, target, onWait }: EvmDriverOptions, place: Place): Promise<boolean> => {
  if (second === undefined) return true;
  try {
    const tip = await second.tip();
    if (tip.chainId === target.chainId && (await depthOf(second, tip, place)) === 'final') return true;
    onWait(`the second node does not see block ${place.blockNumber} as final`);
  } catch {
    onWait('the second node cannot be asked whether a block is final');
  }
  return false;
};

/** The proof of a final event, checked before it is kept; or why there is none. */
const prove = async (
  { chain, target, crypto, keccak256 }: EvmDriverOptions,
  checkpoint: Checkpoint,
  { blockHash, transaction }: Place,
): Promise<Checked<Evidence>> => {
  const found = await chain.evidence(blockHash);
  if (found === undefined || found.block.hash !== blockHash) return bad('the node does not have the block');
  const tools = { keccak256, sha256: crypto.sha256 };
  const anchor = makeAnchorProof(tools, found, { ...target, transaction }, checkpoint);
  return anchor.ok ? good({ anchor: anchor.value, blockTime: Number(found.block.timestamp) * 1000 }) : anchor;
};

/** What an event that a node showed is worth now. */
const weigh = async (options: EvmDriverOptions, { tip, checkpoint }: Look, place: Place): Promise<AnchorEvent> => {
  const depth = await depthOf(options.chain, tip, place);
  if (depth === 'gone') return { type: 'absent' };
  if (depth !== 'final') return { type: 'found', place, depth };
  if (!(await isConfirmed(options, place))) return { type: 'found', place, depth: 'safe' };
  const evidence = await prove(options, checkpoint, place);
  if (evidence.ok) return { type: 'proven', place, evidence: evidence.value };
  options.onWait(`no proof can be made of block ${place.blockNumber}: ${evidence.reason}`);
  return { type: 'found', place, depth: 'safe' };
};

/** A raised fee when the transaction is stuck and the ceiling leaves room. */
const reprice = async (options: EvmDriverOptions, { tip }: Look, row: AnchorRow): Promise<Outcome> => {
  const { account, target, clock, feeCeiling, stuckMs, onWait } = options;
  const last = row.attempts.at(-1);
  if (row.call === null || last === undefined || clock.now() - last.at < stuckMs) return { type: 'absent' };
  const fee = nextFee(last, { baseFee: BigInt(tip.baseFee), ceiling: feeCeiling });
  if (fee === undefined) {
    onWait(`the fee of nonce ${row.call.nonce} cannot be raised below the ceiling`);
    return { type: 'absent' };
  }
  const { hash } = await account.sign(target.origin, row.call, fee);
  return { type: 'repriced', attempt: { hash, ...fee, at: clock.now() } };
};

/** What became of an anchor that was sent, or seen in a block. */
const observeSent = async (options: EvmDriverOptions, look: Look, row: AnchorRow): Promise<Outcome> => {
  const { chain, account } = options;
  const seen = row.place === null ? [] : [row.place.transaction];
  const transactions = [...new Set([...seen, ...row.attempts.map(({ hash }) => hash)])];
  const sighting = await chain.find({ checkpoint: look.checkpoint, transactions });
  if (sighting.kind === 'event') return await weigh(options, look, sighting.place);
  if (row.sender !== account.address) return { type: 'absent' }; // its nonce is none of this account's
  const isUsed = row.call !== null && (await account.nonce()) > row.call.nonce;
  if (sighting.kind === 'reverted' || isUsed) return { type: 'displaced' };
  return row.state === 'submitted' ? await reprice(options, look, row) : { type: 'absent' };
};

/** The root that we signed for a size: as anchored before, or as our tree has it. */
const ourRootAt = async ({ store, target, rootAt }: EvmDriverOptions, size: number): Promise<Hex | undefined> => {
  if (size === 0 || !Number.isSafeInteger(size)) return undefined;
  return (await store.find(target, size))?.root ?? (await rootAt(size));
};

/** Nonce, fee and gas for a call that the contract would take; signed, and not sent yet. */
const assign = async (
  options: EvmDriverOptions,
  { tip }: Look,
  row: AnchorRow,
  previousRoot: Hex,
): Promise<Outcome> => {
  const { account, store, target, clock, feeCeiling, leastTip, onWait } = options;
  const fee = firstFee({ baseFee: BigInt(tip.baseFee), ceiling: feeCeiling, leastTip });
  if (fee === undefined) {
    onWait('the fee of the chain is above the ceiling');
    return 'nothing';
  }
  const { size, root } = row;
  const estimate = await account.estimate(target.origin, { size, root, previousRoot });
  if (!estimate.ok) {
    onWait(`the contract would not take it: ${estimate.reason}`);
    return 'nothing';
  }
  const nonce = nextNonce(await account.nonce(), await store.open(target));
  const call = { size, root, previousRoot, nonce, gas: estimate.gas };
  const { hash } = await account.sign(target.origin, call, fee);
  return { type: 'assigned', call, attempt: { hash, ...fee, at: clock.now() } };
};

/** What may be done for a checkpoint that has no transaction. */
const observeQueued = async (options: EvmDriverOptions, look: Look, row: AnchorRow): Promise<Outcome> => {
  const { chain, store, target, onWait } = options;
  const open = await store.open(target);
  if (open.some(({ size, state }) => size < row.size && (state === 'queued' || state === 'submitted')))
    return 'nothing';
  const head = await chain.head(target.origin);
  const [last] = await store.finals(target.origin, { target, newestFirst: true, limit: 1 });
  const lastFinal = last?.place == null ? undefined : { size: last.size, blockNumber: last.place.blockNumber };
  const ourRoot = await ourRootAt(options, head.size);
  const verdict = judgeHead({ head, row, ourRoot, lastFinal, finalBlock: look.tip.final });
  switch (verdict.kind) {
    case 'go':
      return await assign(options, look, row, verdict.previousRoot);
    case 'anchored': {
      const { checkpoint } = look;
      const sighting = await chain.find({ checkpoint, transactions: [], block: head.blockNumber });
      return sighting.kind === 'event' ? await weigh(options, look, sighting.place) : 'nothing';
    }
    case 'wait':
      onWait(verdict.reason);
      return 'nothing';
    case 'superseded':
    case 'forbidden':
      return { type: verdict.kind, reason: verdict.reason };
  }
};

const observe = async (options: EvmDriverOptions, row: AnchorRow): Promise<Outcome> => {
  const { chain, target } = options;
  const tip = await chain.tip();
  if (tip.chainId !== target.chainId)
    throw new AppError('fetch-failed', { detail: `the node is of chain ${tip.chainId}, not of ${target.chainId}` });
  const look = { tip, checkpoint: checkpointOf(row.note) };
  return row.state === 'queued' ? await observeQueued(options, look, row) : await observeSent(options, look, row);
};

/** Sends what is stored; a send that fails is repeated at the next look. */
const send = async ({ account, target, log, onWait }: EvmDriverOptions, row: AnchorRow): Promise<void> => {
  const attempt = row.attempts.at(-1);
  if (row.call === null || attempt === undefined)
    throw new AppError('invariant-broken', { detail: 'an anchor is to be sent that was never signed' });
  if (row.sender !== account.address) {
    onWait(`nonce ${row.call.nonce} is one of ${row.sender}, and this key is another`);
    return;
  }
  const { hash, raw } = await account.sign(target.origin, row.call, attempt);
  if (hash !== attempt.hash) throw new AppError('invariant-broken', { detail: 'signing again gave another hash' });
  const refusal = await account.send(raw);
  if (refusal !== undefined) onWait(`the node did not take the transaction: ${refusal}`);
  log.debug({ origin: row.origin, size: row.size, nonce: row.call.nonce, transaction: hash }, 'an anchor was sent');
};

const take = async (options: EvmDriverOptions, stored: AnchorRow): Promise<SubmissionState> => {
  const { store, clock, log, account } = options;
  const row = stored.state === 'queued' ? { ...stored, sender: account.address } : stored;
  const event = await observe(options, row);
  const moved = event === 'nothing' ? undefined : transition(row, event);
  if (moved === undefined) return 'pending';
  const changed = { ...moved.row, version: row.version + 1, updatedAt: clock.now() };
  const isChange = JSON.stringify(moved.row) !== JSON.stringify(row);
  if (isChange && (await store.save(changed)) === 'conflict') return 'pending'; // somebody else moved it: look again
  const current = isChange ? changed : row;
  if (current.state !== row.state) {
    const { origin, size, state, place, reason } = current;
    log.info({ origin, size, from: row.state, to: state, place, reason }, 'an anchor moved');
  }
  if (moved.effects.includes('send')) await send(options, current);
  return stateOf(current);
};

const sizeOf = (target: AnchorTarget, id: SubmissionId): number => {
  const size = Number(id.slice(id.lastIndexOf(':') + 1));
  return Number.isSafeInteger(size) && submissionId(target, size) === id ? size : -1;
};

/** Smaller checkpoints that were queued and never sent. */
const queuedBelow = async ({ store, target }: EvmDriverOptions, size: number): Promise<readonly AnchorRow[]> =>
  (await store.open(target)).filter((row) => row.state === 'queued' && row.size < size);

const newRow = async (options: EvmDriverOptions, note: string, checkpoint: Checkpoint): Promise<AnchorRow> => ({
  ...options.target,
  size: checkpoint.size,
  root: rootOf(checkpoint),
  note,
  state: 'queued',
  sender: options.account.address,
  call: null,
  attempts: [],
  place: null,
  evidence: null,
  reason: '',
  // What waits grows no younger when a larger checkpoint takes its place.
  createdAt: Math.min(
    options.clock.now(),
    ...(await queuedBelow(options, checkpoint.size)).map(({ createdAt }) => createdAt),
  ),
  updatedAt: options.clock.now(),
  version: 1,
});

/** Takes their place. */
const replaceQueued = async (options: EvmDriverOptions, size: number): Promise<void> => {
  const { store, clock } = options;
  for (const row of await queuedBelow(options, size)) {
    const moved = transition(row, { type: 'superseded', reason: `size ${size} was queued` });
    if (moved !== undefined) await store.save({ ...moved.row, version: row.version + 1, updatedAt: clock.now() }); // a conflict: it was sent
  }
};

const submit = async (options: EvmDriverOptions, note: string): Promise<SubmissionId> => {
  const { target, store, crypto, policy } = options;
  const checkpoint = verifyNote(crypto, note, policy);
  if (!checkpoint.ok || checkpoint.value.origin !== target.origin || checkpoint.value.size === 0)
    throw new AppError('invariant-broken', {
      detail: `this is no checkpoint to anchor: ${checkpoint.ok ? 'of another log, or empty' : checkpoint.reason}`,
    });
  const { size } = checkpoint.value;
  const known = await store.find(target, size);
  if (known !== undefined && known.root !== rootOf(checkpoint.value))
    throw new AppError('invariant-broken', { detail: `size ${size} was submitted with another root` });
  if (known === undefined) {
    await store.save(await newRow(options, note, checkpoint.value)); // a conflict: somebody else submitted the same
    await replaceQueued(options, size);
  }
  return submissionId(target, size);
};

/** The driver for one log at one contract. */
export const createEvmDriver = (options: EvmDriverOptions): AnchorDriver => {
  const { target, store, crypto, keccak256 } = options;
  return {
    kind: 'evm',
    submit: (note) => submit(options, note),
    poll: async (id) => {
      const row = await store.find(target, sizeOf(target, id));
      return row === undefined || isOver(row) ? stateOf(row) : await take(options, row);
    },
    proof: async (id) => {
      const row = await store.find(target, sizeOf(target, id));
      return row?.evidence == null ? undefined : utf8(canonicalize(z.json().parse(row.evidence.anchor)));
    },
    verify: (proof, note, trust) => {
      const anchor = readCanonical(evmAnchor, textOf(proof) ?? '');
      const checkpoint = readNote(note);
      if (!anchor.ok) return { state: 'failed', reason: `the proof ${anchor.reason}` };
      if (!checkpoint.ok) return { state: 'failed', reason: checkpoint.reason };
      return verifyAnchor({ keccak256, sha256: crypto.sha256 }, anchor.value, checkpoint.value.checkpoint, trust);
    },
  };
};
