import { fromBase64Url, orNothing, toBase64Url, utf8 } from '../../contracts/bytes.ts';
import type { Crypto } from '../../contracts/crypto.ts';
import { AppError } from '../../contracts/errors.ts';
import { ed25519Spki } from '../../contracts/ledger/forms.ts';
import { checkpointText, signatureLine, type VerifierKey } from '../../contracts/ledger/note.ts';
import { bundlePath, encodeBundle, tilePath, tileWidth } from '../../contracts/ledger/tiles.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import { type Edge, growEdge, rootOfEdge } from './edge.pure.ts';
import { endsWriting, lostTo, movedOn } from './moved.ts';
import type {
  CheckpointFeed,
  EntryRow,
  Fence,
  LogFile,
  LogFiles,
  LogHead,
  LogKeys,
  LogStore,
  Origin,
  Published,
  SignedHead,
  SignedStore,
  WitnessRound,
} from './ports.ts';

/**
 * Steps 4 to 7 of the sequencer (ledger §12): tiles out of the rows, then the intent, then the signature, then the
 * checkpoint. Nothing is signed that is not durable, nothing is published whose parts are not.
 */

/** Rows are read in pieces of this many entries: a whole number of tiles. */
const chunk = 64 * tileWidth;

export interface PublisherTools {
  readonly origin: Origin;
  readonly store: LogStore;
  readonly files: LogFiles;
  readonly signed: SignedStore;
  readonly keys: Pick<LogKeys, 'signAsLog'>;
  readonly key: VerifierKey;
  readonly crypto: Crypto;
  readonly clock: Clock;
  readonly log: Logger;
  /** A checkpoint is published at most this often, ms. */
  readonly intervalMs: number;
  readonly witness: WitnessRound;
  readonly feed: CheckpointFeed;
  /** Of the lease that is written under. */
  readonly fence: Fence;
  /** @throws AppError `log-moved` when another process has taken the lease. */
  readonly assertHeld: () => Promise<void>;
  /** This writer cannot go on: another process signs for the log, or rows and tiles differ. */
  readonly onFatal: (error: AppError) => void;
}

/** Where the start-up checks left off. */
export interface PublisherStart {
  /** The right edge of the tiles that are known to be on disk. */
  readonly edge: Edge;
  readonly signed: SignedHead | undefined;
  readonly published: Published | undefined;
}

interface TileTools {
  readonly origin: Origin;
  readonly store: LogStore;
  readonly files: LogFiles;
  readonly crypto: Pick<Crypto, 'sha256'>;
}

const leafOf = (row: EntryRow): Uint8Array => orNothing(fromBase64Url(row.leaf));

/** The bundles that hold `rows` and end at their end; rows begin at a bundle's beginning. */
const bundlesOf = (rows: readonly EntryRow[]): LogFile[] => {
  const files: LogFile[] = [];
  for (let from = 0; from < rows.length; from += tileWidth) {
    const part = rows.slice(from, from + tileWidth);
    const index = Math.floor((part[0]?.index ?? 0) / tileWidth);
    files.push({ path: bundlePath(index, part.length), bytes: encodeBundle(part.map((row) => utf8(row.entry))) });
  }
  return files;
};

/** The files of a tree that grows from `edge` to `size`, in pieces, out of the rows. */
export async function* filesBetween(
  { origin, store, crypto }: Omit<TileTools, 'files'>,
  from: Edge,
  size: number,
): AsyncGenerator<{ readonly files: readonly LogFile[]; readonly edge: Edge }> {
  let edge = from;
  while (edge.size < size) {
    const bundleStart = edge.size - (edge.size % tileWidth);
    const end = Math.min(size, bundleStart + chunk);
    const rows = await store.entries(origin, bundleStart, end);
    if (rows.length !== end - bundleStart || rows.some((row, place) => row.index !== bundleStart + place))
      throw new AppError('invariant-broken', { detail: `rows ${bundleStart} to ${end} are not all there` });
    const grown = growEdge(crypto, edge, rows.slice(edge.size - bundleStart).map(leafOf));
    const tiles = grown.tiles.map(({ id, bytes }) => ({ path: tilePath(id), bytes }));
    edge = grown.edge;
    yield { files: [...bundlesOf(rows), ...tiles], edge };
  }
}

/** Step 4: brings the tiles from the edge to `size`. A pure function of the rows: repeating it writes the same bytes. */
export const writeTiles = async (tools: TileTools, from: Edge, size: number): Promise<Edge> => {
  let edge = from;
  for await (const piece of filesBetween(tools, from, size)) {
    await tools.files.write(piece.files);
    for (const { path } of piece.files) if (!path.includes('.p/')) await tools.files.dropPartials(path);
    edge = piece.edge;
  }
  return edge;
};

/** A class because it lives: one loop that wakes with each commit. */
export class Publisher {
  readonly #tools: PublisherTools;
  #edge: Edge;
  #signed: SignedHead | undefined;
  #published: Published | undefined;
  #target: LogHead;
  #isRunning = false;
  #running: Promise<void> = Promise.resolve();
  #isOver = false;
  readonly #pause = new AbortController();

  constructor(tools: PublisherTools, start: PublisherStart, head: LogHead) {
    this.#tools = tools;
    this.#edge = start.edge;
    this.#signed = start.signed;
    this.#published = start.published;
    this.#target = head;
  }

  get published(): Published | undefined {
    return this.#published;
  }

  /** There are more rows: publishes them, at most once in the interval. Returns at once. */
  wake(head: LogHead): void {
    this.#target = head;
    if (this.#isOver || this.#isRunning) return;
    this.#isRunning = true;
    this.#running = this.#run();
  }

  /** Publishes what is committed, then ends. */
  async close(): Promise<void> {
    this.#pause.abort();
    await this.#running;
    if (!this.#isOver) await this.#tryPublish();
    this.#isOver = true;
  }

  /** Ends without another word: this process writes no more. */
  async abandon(): Promise<void> {
    this.#isOver = true;
    this.#pause.abort();
    await this.#running;
  }

  /** One round of steps 4 to 7 for everything that is committed. */
  async publish(): Promise<void> {
    const target = this.#target;
    if (target.size === 0 || target.size === this.#published?.size) return;
    const edge = await writeTiles(this.#tools, this.#edge, target.size);
    if (toBase64Url(rootOfEdge(this.#tools.crypto, edge)) !== target.root)
      throw new AppError('invariant-broken', { detail: `the tiles of size ${target.size} have another root` });
    this.#edge = edge;
    await this.#tools.assertHeld();
    await this.#intend(target);
    const { note, isReached } = await this.#tools.witness(await this.#sign(target));
    if (!isReached) throw new AppError('not-yet', { detail: 'the witnesses that are needed did not cosign' });
    await this.#show({ size: target.size, root: target.root, note });
    this.#tools.feed(note);
  }

  /** Step 7. The row decides what is served; the file is for whoever serves the folder, and for the next start. */
  async #show(checkpoint: Published): Promise<void> {
    const { origin, store, files, fence } = this.#tools;
    if ((await store.publish(origin, checkpoint, fence)) === 'fenced') throw movedOn();
    await files.write([{ path: 'checkpoint', bytes: utf8(checkpoint.note) }]);
    this.#published = checkpoint;
  }

  /** Step 5: the decision to sign this root for this size is durable before any signature, and happens once. */
  async #intend({ size, root }: LogHead): Promise<void> {
    if (this.#signed?.size === size && this.#signed.root === root) return; // a crash came between intent and publication
    const { fence } = this.#tools;
    const next: SignedHead = fence === null ? { size, root } : { size, root, fence };
    const won = await this.#tools.signed.swap(this.#signed, next);
    if (!won) throw lostTo(fence, 'another process signs for this log');
    this.#signed = next;
  }

  async #sign({ size, root }: LogHead): Promise<string> {
    const { origin, key, keys, crypto } = this.#tools;
    const text = checkpointText({ origin, size, root: orNothing(fromBase64Url(root)) });
    const signature = await keys.signAsLog(utf8(text));
    const note = `${text}\n${signatureLine(key.name, key.keyId, signature)}`;
    const spki = ed25519Spki(key.publicKey);
    if (!crypto.verify('Ed25519', spki, utf8(text), signature))
      throw new AppError('invariant-broken', { detail: 'the log key does not sign what its verifier key verifies' });
    return note;
  }

  async #tryPublish(): Promise<void> {
    try {
      await this.publish();
    } catch (cause) {
      const error = cause instanceof AppError ? cause : new AppError('internal-error', { cause });
      this.#tools.log.error(
        { origin: this.#tools.origin, code: error.code, err: cause },
        'a checkpoint was not published',
      );
      if (!endsWriting(error)) return;
      this.#isOver = true;
      this.#tools.onFatal(error);
    }
  }

  async #run(): Promise<void> {
    const { clock, intervalMs } = this.#tools;
    while (!this.#isOver && !this.#pause.signal.aborted && this.#target.size !== this.#published?.size) {
      await this.#tryPublish();
      await clock.sleep(intervalMs, this.#pause.signal);
    }
    this.#isRunning = false; // in the same turn as the last look at the target: no wake-up is lost
  }
}
