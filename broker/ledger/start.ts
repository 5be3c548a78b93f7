import { fromBase64Url, orNothing, sameBytes, textOf, toBase64Url } from '../../contracts/bytes.ts';
import type { Crypto } from '../../contracts/crypto.ts';
import { AppError } from '../../contracts/errors.ts';
import { type Policy, type VerifierKey, verifyNote } from '../../contracts/ledger/note.ts';
import { computeFromTiles } from '../../contracts/ledger/tile-proofs.ts';
import { hashesOfTile, tilePath, tileWidth } from '../../contracts/ledger/tiles.ts';
import { consistencyProof, isConsistent, rootOfStack, sizeOfStack } from '../../contracts/ledger/tree.ts';
import type { Logger } from '../../kernel/log.ts';
import { headOf, peaksOf } from './batch.ts';
import { type Edge, edgeTiles, emptyEdge, growEdge, readEdge, rootOfEdge } from './edge.pure.ts';
import { movedOn } from './moved.ts';
import type {
  ChainHead,
  Fence,
  LogFiles,
  LogHead,
  LogStore,
  Origin,
  Published,
  SignedHead,
  SignedStore,
} from './ports.ts';
import { type PublisherStart, writeTiles } from './publisher.ts';

/**
 * Start-up checks (ledger §12), before the first signature. What was signed, published or anchored must be a beginning of
 * the rows; if one of them is ahead or has another root, the rows are a restored backup, and going on would make this log
 * show two trees.
 */

export interface StartTools {
  readonly origin: Origin;
  readonly store: LogStore;
  readonly files: LogFiles;
  readonly signed: SignedStore;
  readonly chain: ChainHead;
  readonly key: VerifierKey;
  readonly crypto: Crypto;
  readonly log: Logger;
  /** Of the lease under which this process begins to write. */
  readonly fence: Fence;
}

interface SizedRoot {
  readonly size: number;
  readonly root: Uint8Array;
}

const restored = (detail: string): AppError => new AppError('backup-restored', { detail });

/** The head of the rows, and that it is what its own stack says. */
const readHead = async ({ store, origin, crypto }: StartTools): Promise<LogHead> => {
  const head = await store.head(origin);
  if (head === undefined) return headOf(crypto, 0, []);
  const stack = peaksOf(head.stack);
  const [beyond] = await store.entries(origin, head.size, head.size + 1);
  const isWhole = sizeOfStack(stack) === head.size && toBase64Url(rootOfStack(crypto, stack)) === head.root;
  if (!isWhole || beyond !== undefined)
    throw new AppError('data-damaged', { detail: 'the head of the log is not that of its rows' });
  return head;
};

const readTiles = async ({ files }: StartTools, size: number): Promise<Edge | undefined> => {
  const found = new Map<string, readonly Uint8Array[]>();
  for (const id of edgeTiles(size)) {
    const exact = await files.read(tilePath(id));
    const bytes = exact ?? (await files.read(tilePath({ ...id, width: tileWidth })));
    const hashes = bytes && hashesOfTile(bytes, exact === undefined ? tileWidth : id.width);
    if (hashes?.ok) found.set(tilePath(id), hashes.value.slice(0, id.width));
  }
  return readEdge(size, (id) => found.get(tilePath(id)));
};

const growByRows = async ({ store, origin, crypto }: StartTools, from: Edge, size: number): Promise<Edge> => {
  let edge = from;
  while (edge.size < size) {
    const rows = await store.entries(origin, edge.size, Math.min(size, edge.size + 64 * tileWidth));
    if (rows.length === 0) throw new AppError('data-damaged', { detail: `row ${edge.size} of the log is missing` });
    const leaves = rows.map((row) => orNothing(fromBase64Url(row.leaf)));
    edge = growEdge(crypto, edge, leaves).edge;
  }
  return edge;
};

/** The edge of the tiles at the size that was signed, proven to lead to the head of the rows; or undefined. */
const provenEdge = async (tools: StartTools, head: LogHead, signed: SignedHead): Promise<Edge | undefined> => {
  const edge = await readTiles(tools, signed.size);
  if (edge === undefined || toBase64Url(rootOfEdge(tools.crypto, edge)) !== signed.root) return undefined;
  const end = await growByRows(tools, edge, head.size);
  return toBase64Url(rootOfEdge(tools.crypto, end)) === head.root ? edge : undefined;
};

/**
 * The rows' own root at the signed size decides, when the tiles do not agree with both: either the tiles are damaged, and
 * are written again, or the rows are not those that were signed.
 */
const edgeFromRows = async (tools: StartTools, head: LogHead, signed: SignedHead): Promise<Edge> => {
  const atSigned = await growByRows(tools, emptyEdge, signed.size);
  if (toBase64Url(rootOfEdge(tools.crypto, atSigned)) !== signed.root)
    throw restored(`the rows have another root for size ${signed.size} than the one that was signed`);
  const end = await growByRows(tools, atSigned, head.size);
  if (toBase64Url(rootOfEdge(tools.crypto, end)) !== head.root)
    throw new AppError('data-damaged', { detail: 'the rows do not lead to the head of the log' });
  tools.log.error(
    { origin: tools.origin, size: signed.size },
    'tiles were missing or damaged: written again from the rows',
  );
  return emptyEdge;
};

/** What we published, when it stands under our own signature. */
const readPublished = async ({ files, crypto, key, log, origin }: StartTools): Promise<Published | undefined> => {
  const bytes = await files.read('checkpoint');
  if (bytes === undefined) return undefined;
  const note = textOf(bytes) ?? '';
  const policy: Policy = { log: key, witnesses: new Map(), quorum: { kind: 'none' } };
  const checkpoint = verifyNote(crypto, note, policy);
  if (!checkpoint.ok) {
    log.error({ origin, reason: checkpoint.reason }, 'the published checkpoint is not ours: it is written again');
    return undefined;
  }
  return { size: checkpoint.value.size, root: toBase64Url(checkpoint.value.root), note };
};

/** Whether an earlier tree is a beginning of the signed one: by the tiles, or else, slowly, by the rows. */
const isBeginning = async (
  tools: StartTools,
  earlier: SizedRoot,
  signed: SizedRoot,
): Promise<'yes' | 'rows' | 'no'> => {
  const { crypto, files } = tools;
  const proof = await computeFromTiles(crypto, signed.size, {
    fetch: files.read,
    compute: (subtree) => consistencyProof(subtree, earlier.size, signed.size),
  });
  if (proof.ok && isConsistent(crypto, earlier, signed, proof.value)) return 'yes';
  const byRows = rootOfEdge(crypto, await growByRows(tools, emptyEdge, earlier.size));
  return sameBytes(byRows, earlier.root) ? 'rows' : 'no';
};

const sized = ({ size, root }: { readonly size: number; readonly root: string }): SizedRoot => ({
  size,
  root: orNothing(fromBase64Url(root)),
});

interface Claim {
  readonly tree: SizedRoot;
  readonly what: string;
}

/** What the world has seen of this log must be a beginning of what was signed. @returns whether the tiles said so. */
const checkClaims = async (tools: StartTools, claims: readonly Claim[], signed: SignedHead): Promise<boolean> => {
  let byTiles = true;
  for (const { tree, what } of claims) {
    if (tree.size > signed.size)
      throw restored(`${what} has ${tree.size} entries, but no more than ${signed.size} were allowed to be signed`);
    const answer = await isBeginning(tools, tree, sized(signed));
    if (answer === 'no') throw restored(`${what} has another root for size ${tree.size} than the rows`);
    byTiles &&= answer === 'yes';
  }
  return byTiles;
};

/**
 * Decides the same once more under our own fence. From here on no line of an earlier writer counts, however late it comes:
 * it goes on from a value that is the last one no more.
 */
const claimIntent = async ({ signed, fence }: StartTools, base: SignedHead, before: SignedHead | undefined) => {
  if (fence === null) return before;
  const mine: SignedHead = { size: base.size, root: base.root, fence };
  if (!(await signed.swap(before, mine))) throw movedOn('an earlier writer decided in the meantime');
  return mine;
};

/**
 * Everything is checked before anything is written; then the tiles are brought up to the rows.
 *
 * @throws AppError `backup-restored` when the rows are behind or beside what was signed, published or anchored;
 * `data-damaged` when they contradict themselves, `log-moved` when an earlier writer was still at work.
 */
export const checkStart = async (
  tools: StartTools,
): Promise<{ readonly head: LogHead; readonly start: PublisherStart }> => {
  const { origin, log, crypto } = tools;
  const head = await readHead(tools);
  const signed = await tools.signed.read();
  const published = await readPublished(tools);
  const anchored = await tools.chain.head(origin);
  if (anchored.state === 'unreachable') log.error({ origin }, 'the chain cannot be asked for our anchor at this start');
  const base: SignedHead = signed ?? { size: 0, root: toBase64Url(rootOfStack(crypto, [])) };
  if (base.size > head.size) throw restored(`${base.size} entries were signed, the rows have ${head.size}`);
  const proven = await provenEdge(tools, head, base);
  const edge = proven ?? (await edgeFromRows(tools, head, base));
  const claims = [
    ...(published === undefined ? [] : [{ tree: sized(published), what: 'the published checkpoint' }]),
    ...(anchored.state === 'anchored' ? [{ tree: anchored, what: 'the anchor on the chain' }] : []),
  ];
  const byTiles = await checkClaims(tools, claims, base);
  const from = byTiles || proven === undefined ? edge : await edgeFromRows(tools, head, base);
  const claimed = await claimIntent(tools, base, signed);
  await tools.files.tidy();
  return { head, start: { edge: await writeTiles(tools, from, head.size), signed: claimed, published } };
};
