import { AppError } from '../../contracts/errors.ts';
import { partBytes } from '../../contracts/ledger/record.ts';
import { chargedUnits, type UsageClose, type UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { createItemCounter, type ItemCounter } from './items.pure.ts';
import type { AnswerSink, BodyDigest, BodyDigests, Flow, HeaderList, UsageMeter } from './ports.ts';
import { type Answering as Problem, writeProblem } from './problem.ts';
import { countsAsItems, type Refusal, reservedBytes } from './rules.ts';

/**
 * One recorded answer on its way (wire §5, ledger §7): `open` is durable before its first byte leaves, each part of a body has
 * its own record, and whatever happens the record is closed with what was sent (provider) or received (consumer). One object
 * for each request, no promises: this is the hot path.
 */
export interface RelayOptions {
  readonly side: 'provider' | 'consumer';
  readonly meter: UsageMeter;
  readonly digests: BodyDigests;
  readonly response: Answering;
  /** The entry of part 1. */
  readonly first: UsageOpen;
  readonly countsItems: boolean;
  /** What is known anew when a part is opened. */
  readonly nextPart: () => Pick<UsageOpen, 'at' | 'ext'>;
  /** The headers that go with an answer. */
  readonly headersOf: (headers: HeaderList) => string[];
  /** Headers of our own that go with a problem. */
  readonly problemHeaders: readonly string[];
  readonly ask: (sink: AnswerSink) => Flow;
  /** The source did not answer; what the caller hears. */
  readonly failed: (error: unknown) => AppError;
  /** The access is over; its record may still be on its way into the journal. */
  readonly ended: (relay: Relay) => void;
  /** Called when the record of the last part is durable, or never will be. */
  readonly recorded: () => void;
}

/** What takes an answer: a server's response, the body of a push, a file. */
export interface Answering extends Problem {
  readonly on: (event: 'close', listener: () => void) => unknown;
  readonly once: (event: 'drain', listener: () => void) => unknown;
  readonly write: (chunk: Uint8Array) => boolean;
  readonly destroy: () => unknown;
  readonly destroyed: boolean;
  readonly writableFinished: boolean;
}

/** Why nothing more is taken from the source for now. */
const waitsForJournal = 1;
const waitsForReader = 2;
const waitsForDigest = 4;

export class Relay implements AnswerSink {
  readonly #its: RelayOptions;
  #flow: Flow | null = null;
  #waits = waitsForJournal;
  #part = 1;
  #bytes = 0;
  #reserved = reservedBytes;
  #digest: BodyDigest;
  #items: ItemCounter | null = null;
  /** Of the answer as it will be, or was, sent; 0 when there is none yet. */
  #status = 0;
  #headers: HeaderList = [];
  #held: Uint8Array[] = [];
  #refusal: Refusal | null = null;
  #isHeadSent = false;
  /** The source gave everything, or the answer is a problem of ours. */
  #isWhole = false;
  #isOpening = true;
  #isOver = false;

  constructor(its: RelayOptions) {
    this.#its = its;
    this.#digest = its.digests.begin(this.#onDigestDrain);
    its.response.on('close', () => this.#onClose());
  }

  /** Opens the record. A provider asks its source at the same time, for the methods here are safe (hot-path §5). */
  start(): void {
    const { meter, first, side } = this.#its;
    meter.open(first, (refusal) => this.#onOpened(refusal));
    if (side === 'provider' && !this.#isOver && this.#refusal === null) this.#ask();
  }

  /** Ends the access at once: with an answer where none has begun, else by cutting the connection. */
  cut(refusal: Refusal): void {
    if (this.#isOver || this.#refusal !== null) return;
    this.#refusal = refusal;
    this.#flow?.abort();
    if (this.#isHeadSent) this.#its.response.destroy();
    else if (!this.#isOpening) this.#answerRefusal();
  }

  head(status: number, headers: HeaderList): void {
    if (this.#isOver || this.#refusal !== null) return;
    if (status < 200 || status > 599) {
      this.fail(new Error(`${status} is no status of an answer`));
      return;
    }
    this.#status = status;
    this.#headers = headers;
    if (this.#its.countsItems && countsAsItems(status, headers)) this.#items = createItemCounter();
    if (this.#isOpening) this.#flow?.pause();
    else this.#sendHead();
  }

  data(chunk: Uint8Array): void {
    if (this.#isOver || this.#refusal !== null) return;
    if (this.#isOpening || this.#held.length > 0) this.#held.push(chunk);
    else this.#take(chunk);
  }

  end(): void {
    if (this.#isOver || this.#refusal !== null) return;
    this.#isWhole = true;
    if (this.#isHeadSent && this.#held.length === 0) this.#endResponse();
  }

  fail(error: unknown): void {
    if (this.#isOver || this.#refusal !== null) return;
    this.cut({ error: this.#its.failed(error) });
  }

  #ask(): void {
    this.#flow = this.#its.ask(this);
  }

  #onOpened(refusal: AppError | null): void {
    this.#isOpening = false;
    this.#waits &= ~waitsForJournal;
    if (refusal !== null) this.#onRefusedOpen(refusal);
    else if (this.#isOver) this.#closePart(this.#outcome());
    else if (this.#refusal !== null) this.#onCutWhileOpening();
    else if (this.#its.side === 'consumer' && this.#flow === null) this.#ask();
    else this.#goOn();
    this.#unwait(0);
  }

  /** Nothing was recorded for this part, so nothing of it may be served. */
  #onRefusedOpen(error: AppError): void {
    const { response, ended, recorded, problemHeaders, first } = this.#its;
    this.#flow?.abort();
    const wasOver = this.#isOver;
    this.#isOver = true;
    if (this.#isHeadSent) response.destroy();
    else if (!response.destroyed)
      writeProblem(response, this.#refusal ?? { error }, { isHead: first.method === 'HEAD', headers: problemHeaders });
    if (!wasOver) ended(this);
    recorded();
  }

  #onCutWhileOpening(): void {
    if (this.#isHeadSent) this.#finish();
    else this.#answerRefusal();
  }

  /** The part is open: what waited for it leaves. */
  #goOn(): void {
    if (this.#status !== 0 && !this.#isHeadSent) this.#sendHead();
    const held = this.#held;
    this.#held = [];
    for (const [index, chunk] of held.entries()) {
      if (this.#isOver || this.#refusal !== null) return;
      if (this.#isOpening) this.#held.push(...held.slice(index));
      if (this.#isOpening) return;
      this.#take(chunk);
    }
    if (this.#isWhole && this.#isHeadSent && this.#held.length === 0 && !this.#isOver) this.#endResponse();
  }

  #sendHead(): void {
    const { response, headersOf } = this.#its;
    try {
      response.writeHead(this.#status, headersOf(this.#headers));
      this.#isHeadSent = true;
    } catch (error) {
      this.#status = 0; // a header that may not be sent on: as if nothing had come
      this.fail(error);
    }
  }

  /** Sends a chunk on, part by part. */
  #take(chunk: Uint8Array): void {
    let left = chunk;
    while (left.length > 0 && !this.#isOver && this.#refusal === null) {
      const room = partBytes - this.#bytes;
      if (room === 0) {
        this.#held.push(left);
        this.#openNextPart();
        return;
      }
      const piece = left.length > room ? left.subarray(0, room) : left;
      left = left.subarray(piece.length);
      this.#send(piece);
    }
  }

  #send(piece: Uint8Array): void {
    const { response } = this.#its;
    if (!this.#reserve(piece.length)) {
      this.cut({ error: new AppError('window-exhausted') });
      return;
    }
    this.#bytes += piece.length;
    this.#items?.push(piece);
    if (!this.#digest.update(piece)) this.#wait(waitsForDigest);
    if (response.write(piece)) return;
    this.#wait(waitsForReader);
    response.once('drain', () => this.#unwait(waitsForReader));
  }

  /** Exposure is reserved ahead of what is sent; the counterparty owes for no more than that (wire §9). */
  #reserve(bytes: number): boolean {
    const { meter, first } = this.#its;
    while (this.#bytes + bytes > this.#reserved) {
      if (!meter.extend(first.agreement, first.request, this.#part, reservedBytes)) return false;
      this.#reserved += reservedBytes;
    }
    return true;
  }

  #openNextPart(): void {
    const { meter, first, digests, nextPart } = this.#its;
    this.#closePart('ok');
    this.#part += 1;
    this.#bytes = 0;
    this.#reserved = reservedBytes;
    this.#digest = digests.begin(this.#onDigestDrain);
    this.#isOpening = true;
    this.#wait(waitsForJournal);
    meter.open({ ...first, ...nextPart(), part: this.#part }, (refusal) => this.#onOpened(refusal));
  }

  #endResponse(): void {
    this.#its.response.end();
    if (this.#its.side === 'consumer') this.#finish();
  }

  /** The record is open and nothing was sent: the refusal becomes the answer, and at a provider its content is what was sent. */
  #answerRefusal(): void {
    const { response, side, first, problemHeaders } = this.#its;
    const refusal = this.#refusal;
    if (refusal === null || response.destroyed) {
      this.#finish();
      return;
    }
    const isHead = first.method === 'HEAD';
    if (side === 'consumer') {
      writeProblem(response, refusal, { isHead, headers: problemHeaders });
      this.#finish();
      return;
    }
    const body = writeProblem(response, refusal, { isHead, headers: problemHeaders });
    this.#status = refusal.error.status;
    this.#bytes = body.length;
    this.#items = null;
    if (body.length > 0) this.#digest.update(body);
    this.#isHeadSent = true;
    this.#isWhole = true;
  }

  /** The connection is done with this answer: everything was handed over, or the other side is gone. */
  #onClose(): void {
    if (this.#isOver) return;
    if (!this.#isWhole) this.#flow?.abort();
    if (!this.#isOpening) {
      this.#finish();
      return;
    }
    this.#isOver = true; // its record is closed when it is known to be open
    this.#its.ended(this);
  }

  #finish(): void {
    if (this.#isOver) return;
    const outcome = this.#outcome();
    this.#isOver = true;
    if (!this.#isWhole) this.#flow?.abort();
    this.#closePart(outcome);
    this.#its.ended(this);
  }

  /** A provider counts what it handed over, a consumer what came: without an answer nobody knows what was done. */
  #outcome(): UsageClose['outcome'] {
    if (this.#its.side === 'consumer') {
      if (this.#isWhole) return 'ok';
      return this.#status === 0 ? 'unknown' : 'partial';
    }
    return this.#isWhole && this.#its.response.writableFinished ? 'ok' : 'partial';
  }

  #closePart(outcome: UsageClose['outcome']): void {
    const { meter, first, recorded } = this.#its;
    const { agreement, request } = first;
    const part = this.#part;
    const bytes = this.#bytes;
    const status = this.#status;
    const isLast = this.#isOver;
    const items = outcome === 'ok' && part === 1 && isLast ? (this.#items?.total() ?? null) : null;
    const units = chargedUnits({ status, part, bytes, items });
    this.#digest.finish((digest) => {
      const entry: UsageClose = {
        t: 'close',
        agreement,
        request,
        part,
        bytes,
        digest,
        outcome,
        status: status === 0 ? '' : String(status),
        units,
      };
      meter.close(entry, isLast ? recorded : undefined);
    });
  }

  readonly #onDigestDrain = (): void => this.#unwait(waitsForDigest);

  #wait(reason: number): void {
    this.#waits |= reason;
    this.#flow?.pause();
  }

  #unwait(reason: number): void {
    this.#waits &= ~reason;
    if (this.#waits === 0 && !this.#isOver) this.#flow?.resume();
  }
}
