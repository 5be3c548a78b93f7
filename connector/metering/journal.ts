import { createHash, type Hash } from 'node:crypto';
import { toBase64Url } from '../../contracts/bytes.ts';
import { isAppError } from '../../contracts/errors.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { FilePort, FixedFile } from '../../kernel/files.ts';
import type { Logger } from '../../kernel/log.ts';
import { closeFrame, encodeFrame, frameHeadBytes, readFrames } from './frames.ts';
import {
  endText,
  type FinishedSegment,
  hashOf,
  headText,
  placeOf,
  readSegments,
  segmentPath,
  type VisitEntry,
} from './segments.ts';

/**
 * A usage journal (ledger §7): lines that are on the disk before they are answered. Group commit without a timer: while one
 * write runs, lines gather; the next write takes them all and starts when it ends. Segments are filled with zeros beforehand
 * and written with O_DSYNC, so that a write is one trip to the disk (hot-path).
 *
 * A write that fails gives up the segment and refuses everything until a new one stands: nobody knows what a failed write
 * left behind, and it is never repeated on the same file.
 */

/** Called once: with the line's place, or undefined when it is not in the journal. */
export type Written = (place: number | undefined) => void;

export interface JournalOptions {
  readonly files: FilePort;
  readonly folder: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Segments before this one are not read at start: all they hold is settled. */
  readonly from?: number | undefined;
  /** Gets what the journal holds, in order, before it takes anything new. */
  readonly replay: VisitEntry;
  /** Called when a journal that had failed takes lines again. */
  readonly onRecovered?: () => void;
  readonly segmentBytes?: number;
  /** Lines that may wait; beyond it they are refused. */
  readonly maxWaiting?: number;
}

const defaultSegmentBytes = 32 << 20;
const defaultMaxWaiting = 65_536;
const maxGroupChars = 1 << 18;
const firstPauseMs = 1_000;
const longestPauseMs = 60_000;
/** Room that head and end of a segment take. */
const overheadBytes = 512;

interface Group {
  readonly texts: readonly string[];
  readonly written: readonly Written[];
}

interface OpenSegment {
  readonly number: number;
  readonly file: FixedFile;
  readonly hash: Hash;
  /** Bytes that were acknowledged. */
  length: number;
}

/** A journal that is open. Disposing it lets the lines that wait be written, and refuses later ones. */
export class Journal implements AsyncDisposable {
  readonly #options: JournalOptions;
  readonly #segmentBytes: number;
  readonly #maxChars: number;
  readonly #scratch: Buffer;
  readonly #stopped = new AbortController();
  #texts: string[] = [];
  #written: Written[] = [];
  #state: 'ready' | 'failed' | 'stopped' = 'failed';
  #busy = false;
  /** The first line of a turn of the loop waits for the others of that turn: one write for all of them. */
  #starting: NodeJS.Immediate | undefined;
  /** The last write failed: the segment is not written to again, not even its end. */
  #isBroken = false;
  #idle: () => void = () => undefined;
  #segment: OpenSegment | undefined;
  #before: FinishedSegment | undefined;
  #spare: { readonly number: number; readonly file: Promise<FixedFile | undefined> } | undefined;
  #recovering: Promise<void> = Promise.resolve();
  /** Nobody waits for it but the end: what is behind the length of a full segment is not read anyway. */
  #retiring: Promise<void> = Promise.resolve();

  private constructor(options: JournalOptions) {
    this.#options = options;
    this.#segmentBytes = options.segmentBytes ?? defaultSegmentBytes;
    // A character is at most three bytes of UTF-8, so that a group always fits into a segment of its own.
    this.#maxChars = Math.min(maxGroupChars, Math.floor((this.#segmentBytes - overheadBytes) / 3));
    this.#scratch = Buffer.alloc(this.#maxChars * 3 + overheadBytes);
  }

  /**
   * Reads what is there, then begins a new segment. A disk that takes no more does not stop the start: the journal
   * refuses lines until there is room.
   *
   * @throws AppError `data-damaged`.
   */
  static async open(options: JournalOptions): Promise<Journal> {
    const journal = new Journal(options);
    const { files, folder, from, replay } = options;
    journal.#before = await readSegments({ files, folder, from, visit: replay });
    await journal.#trim();
    await journal.#begin().catch((error: unknown) => {
      if (!isAppError(error, 'disk-full')) throw error;
      journal.#failed([], error);
    });
    return journal;
  }

  /** A crash leaves the last segment as long as it was made: a program that is killed again and again must not fill the disk. */
  async #trim(): Promise<void> {
    const { files, folder, log } = this.#options;
    const last = this.#before;
    if (last === undefined) return;
    try {
      await files.cut(segmentPath(folder, last.number), last.length);
    } catch (error) {
      log.warn({ error, segment: last.number }, 'the last segment could not be cut to its length');
    }
  }

  /** Adds a line; `written` is called once, when it is on the disk or when it never will be. */
  append(text: string, written: Written): void {
    if (this.#state !== 'ready' || text.length > this.#maxChars || this.#texts.length >= this.#maxWaiting) {
      written(undefined);
      return;
    }
    this.#texts.push(text);
    this.#written.push(written);
    if (this.#busy) return;
    this.#busy = true;
    this.#starting ??= setImmediate(() => {
      this.#starting = undefined;
      this.#pump();
    });
  }

  /** False while lines are refused. */
  isReady(): boolean {
    return this.#state === 'ready';
  }

  /** The segment that is written now. */
  get segment(): number {
    return this.#segment?.number ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const wasReady = this.#state === 'ready';
    this.#state = 'stopped';
    this.#stopped.abort();
    await this.#recovering;
    if (this.#busy)
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    await this.#retiring;
    await this.#dropSpare();
    if (this.#segment === undefined) return;
    if (wasReady && !this.#isBroken) await this.#end(this.#segment);
    else await this.#segment.file.close();
  }

  get #maxWaiting(): number {
    return this.#options.maxWaiting ?? defaultMaxWaiting;
  }

  #pump(): void {
    this.#busy = this.#texts.length > 0;
    const segment = this.#segment;
    if (!this.#busy || segment === undefined) {
      this.#idle();
      return;
    }
    const group = this.#take();
    const frame = this.#encode(group);
    if (segment.length + frame.length > this.#segmentBytes) void this.#roll(segment, group, frame);
    else this.#write(segment, group, frame);
  }

  #take(): Group {
    let count = 0;
    for (let chars = 0; count < this.#texts.length; count += 1) {
      chars += (this.#texts[count]?.length ?? 0) + 1;
      if (chars > this.#maxChars && count > 0) break;
    }
    if (count === this.#texts.length) {
      const group = { texts: this.#texts, written: this.#written };
      this.#texts = [];
      this.#written = [];
      return group;
    }
    return { texts: this.#texts.splice(0, count), written: this.#written.splice(0, count) };
  }

  /** Into the one scratch buffer: only one write is under way. */
  #encode({ texts }: Group): Buffer {
    const body = texts.length === 1 ? (texts[0] ?? '') : texts.join('\n');
    const frame = this.#scratch.subarray(0, frameHeadBytes + this.#scratch.write(body, frameHeadBytes, 'utf8'));
    closeFrame(frame);
    return frame;
  }

  #write(segment: OpenSegment, group: Group, frame: Buffer): void {
    const offset = segment.length;
    segment.file.write(frame, offset).then(
      () => {
        segment.length = offset + frame.length;
        this.#answer(segment, group, offset);
      },
      (error: unknown) => this.#failed(group.written, error),
    );
    segment.hash.update(frame); // while the disk works; a segment that is given up is hashed again
    if (offset <= this.#segmentBytes / 2 || this.#spare !== undefined) return;
    const number = segment.number + 1;
    this.#spare = { number, file: this.#prepare(number) };
  }

  /** Answers a group, in order. Lines that are added meanwhile gather for the next write. */
  #answer(segment: OpenSegment, group: Group, offset: number): void {
    for (const [index, written] of group.written.entries()) written(placeOf(segment.number, offset + index));
    this.#pump();
  }

  /** The next segment, made while there is room in this one; undefined when the disk takes no more. */
  async #prepare(number: number): Promise<FixedFile | undefined> {
    try {
      return await this.#allocate(number);
    } catch (error) {
      this.#options.log.warn({ error, number }, 'no room for the next segment of the usage journal yet');
      return undefined;
    }
  }

  async #allocate(number: number): Promise<FixedFile> {
    const { files, folder } = this.#options;
    const file = await files.allocate(segmentPath(folder, number), this.#segmentBytes);
    await files.syncFolder(folder);
    return file;
  }

  /** Goes on in the next segment, with the group that did not fit as its first. */
  async #roll(segment: OpenSegment, group: Group, frame: Buffer): Promise<void> {
    try {
      this.#before = {
        number: segment.number,
        length: segment.length,
        hash: toBase64Url(segment.hash.digest()),
      };
      this.#write(await this.#begin(), group, frame);
      this.#retiring = this.#retire(segment).catch((error: unknown) => {
        this.#options.log.warn({ error, segment: segment.number }, 'a full segment could not be cut to its length');
      });
    } catch (error) {
      this.#failed(group.written, error);
    }
  }

  /** Opens the segment after `before`: nothing is in it but its head, which is on the disk. */
  async #begin(): Promise<OpenSegment> {
    const number = (this.#before?.number ?? 0) + 1;
    const file = (await this.#spare?.file) ?? (await this.#allocate(number));
    this.#spare = undefined;
    const head = encodeFrame(headText(number, this.#before));
    await file.write(head, 0);
    const segment = { number, file, hash: createHash('sha256').update(head), length: head.length };
    this.#segment = segment;
    this.#isBroken = false;
    if (this.#state === 'failed') this.#state = 'ready';
    return segment;
  }

  async #retire(segment: OpenSegment): Promise<void> {
    await segment.file.close();
    await this.#options.files.cut(segmentPath(this.#options.folder, segment.number), segment.length);
  }

  async #end(segment: OpenSegment): Promise<void> {
    const end = encodeFrame(endText);
    if (segment.length + end.length <= this.#segmentBytes) {
      await segment.file.write(end, segment.length);
      segment.length += end.length;
    }
    await this.#retire(segment);
  }

  async #dropSpare(): Promise<void> {
    const spare = this.#spare;
    const file = await spare?.file;
    if (spare === undefined || file === undefined) return;
    await file.close();
    await this.#options.files.remove(segmentPath(this.#options.folder, spare.number));
  }

  #failed(written: readonly Written[], error: unknown): void {
    const refused = [...written, ...this.#written];
    this.#texts = [];
    this.#written = [];
    this.#busy = false;
    this.#isBroken = true;
    if (this.#state === 'ready') this.#state = 'failed';
    this.#options.log.error({ error, segment: this.segment }, 'the usage journal refuses: a write failed');
    for (const one of refused) one(undefined);
    this.#idle();
    if (this.#state === 'failed') this.#recovering = this.#recover();
  }

  /** Tries a new segment after a pause that doubles, until one stands or the journal is closed. */
  async #recover(): Promise<void> {
    const { clock, log, onRecovered } = this.#options;
    for (let pause = firstPauseMs; this.#state === 'failed'; pause = Math.min(2 * pause, longestPauseMs)) {
      await clock.sleep(pause, this.#stopped.signal);
      if (this.#state !== 'failed') return;
      try {
        await this.#giveUp();
        await this.#begin();
        log.info({ segment: this.segment }, 'the usage journal takes lines again');
        onRecovered?.();
      } catch (error) {
        log.error({ error }, 'the usage journal still refuses');
      }
    }
  }

  /** Ends the segment whose write failed at what was acknowledged, whatever stands behind. */
  async #giveUp(): Promise<void> {
    const segment = this.#segment;
    if (segment === undefined) return;
    const { files, folder } = this.#options;
    await segment.file.close().catch(() => undefined); // its last write failed; there is nothing to wait for
    const bytes = Buffer.from((await files.read(segmentPath(folder, segment.number))) ?? []);
    const whole = bytes.subarray(0, segment.length);
    if (readFrames(whole, () => undefined) !== segment.length)
      throw new Error('acknowledged lines cannot be read back');
    this.#before = { number: segment.number, length: segment.length, hash: hashOf(whole) };
    await (await this.#spare?.file)?.close();
    this.#spare = undefined;
    this.#segment = undefined;
  }
}
