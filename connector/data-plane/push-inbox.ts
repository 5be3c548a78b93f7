import { createHash, timingSafeEqual } from 'node:crypto';
import { Readable, Writable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { Hono } from 'hono';
import { AppError, isAppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { isUuidV7 } from '../../contracts/ids.ts';
import { requestTarget } from '../../contracts/ledger/record.ts';
import type { UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import type { Logger } from '../../kernel/log.ts';
import { secretHashOf } from './grants.ts';
import type {
  AnswerSink,
  BodyDigests,
  Flow,
  PushedTransfer,
  PushedTransfers,
  ReceivedFile,
  ReceivedFiles,
  UsageMeter,
} from './ports.ts';
import { prepared } from './prepared.ts';
import { Relay } from './relay.ts';
import { reservedBytes } from './rules.ts';

/**
 * Where a consumer takes what its provider pushes (dsp §6.2): one address for each transfer, opened by a token that only its
 * provider was given. What comes is recorded before it is read, like everything else that is used, and kept as a file.
 */

export interface PushInboxOptions {
  readonly participantOf: (request: Request) => ParticipantId | undefined;
  readonly transfers: PushedTransfers;
  readonly files: ReceivedFiles;
  /** The consumer's own meter. */
  readonly meter: UsageMeter;
  readonly digests: BodyDigests;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly log: Logger;
  /** Of one push. */
  readonly maxBytes: number;
}

/** Keeps what comes; it is finished when the file is durable. */
class Keeping extends Writable {
  readonly #file: ReceivedFile;
  readonly #hash = createHash('sha256');
  #isKept = false;
  bytes = 0;

  constructor(file: ReceivedFile) {
    super();
    this.#file = file;
    this.on('error', () => undefined); // told by whoever waits for the end
  }

  writeHead(): void {
    // A file has no head.
  }

  digest(): string {
    return this.#hash.digest('hex');
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    this.bytes += chunk.length;
    this.#hash.update(chunk);
    this.#file.append(chunk).then(() => done(), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#file.keep().then(() => {
      this.#isKept = true;
      done();
    }, done);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.#isKept) done(error);
    else this.#file.drop().then(() => done(error), done);
  }
}

/** Reads the body of a push as if it were an answer. */
const flowOf = (body: ReadableStream | null, sink: AnswerSink, maxBytes: number): Flow => {
  const stream = body === null ? Readable.from([]) : Readable.fromWeb(body);
  let left = maxBytes;
  let isOver = false;
  const fail = (error: unknown): void => {
    if (isOver) return;
    isOver = true;
    sink.fail(error);
  };
  sink.head(200, []);
  stream.on('data', (chunk: Uint8Array) => {
    left -= chunk.length;
    if (left < 0) {
      fail(new AppError('body-too-large'));
      stream.destroy();
    } else if (!isOver) sink.data(chunk);
  });
  stream.once('end', () => {
    if (!isOver) sink.end();
    isOver = true;
  });
  stream.once('error', fail);
  stream.once('close', () => fail(new Error('the push broke off')));
  return {
    pause: () => void stream.pause(),
    resume: () => void stream.resume(),
    abort: () => {
      isOver = true;
      stream.destroy();
    },
  };
};

const sameText = (a: string, b: string): boolean =>
  a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));

const tokenIn = (headers: Headers): string =>
  /^Bearer +([A-Za-z0-9_-]{1,200})$/i.exec(headers.get('authorization') ?? '')?.[1] ?? '';

/** So long a push is held that is quicker than the message that starts its transfer: EDC sends one and does not repeat it. */
const startWithinMs = 15_000;
const lookEveryMs = 100;

/** The transfer of this address, for whoever has its token; to everybody else there is nothing. */
const findTransfer = async (
  its: PushInboxOptions,
  participant: ParticipantId,
  pid: string,
  token: string,
): Promise<PushedTransfer> => {
  const end = its.clock.now() + startWithinMs;
  let found = token === '' ? undefined : await its.transfers.find(participant, pid);
  while (found?.state === 'not-started' && sameText(found.secretHash, secretHashOf(token)) && its.clock.now() < end) {
    await its.clock.sleep(lookEveryMs);
    found = await its.transfers.find(participant, pid);
  }
  if (found === undefined || !sameText(found.secretHash, secretHashOf(token))) throw new AppError('not-found');
  if (found.state === 'ended') throw new AppError('agreement-ended');
  if (found.state !== 'started') throw new AppError('not-yet', { retryAfterSeconds: 1 });
  return found;
};

const entryFor = (its: PushInboxOptions, { method, url, headers }: Request, found: PushedTransfer): UsageOpen => {
  const { pathname, search } = new URL(url);
  const named = headers.get('fsc-transaction-id') ?? '';
  return {
    t: 'open',
    agreement: found.agreement,
    request: isUuidV7(named) ? named : its.newId(),
    part: 1,
    at: its.clock.now(),
    asset: found.asset,
    transfer: found.transfer,
    application: '',
    method,
    purpose: '',
    run: '',
    target: requestTarget(nodeCrypto, { method, target: `${pathname}${search}`, range: '' }),
    price: found.price,
    ext: null,
    reserved: reservedBytes,
    proof: '',
  };
};

/** Takes one push. Resolves when it is recorded and the file stands, with what was kept. */
const take = async (its: PushInboxOptions, request: Request, found: PushedTransfer, file: ReceivedFile) => {
  const keeping = new Keeping(file);
  const closed = new Promise<void>((resolve) => keeping.once('close', resolve));
  const recorded = Promise.withResolvers<void>();
  let refusal: AppError | undefined;
  const relay = new Relay({
    side: 'consumer',
    meter: {
      ...its.meter,
      open: (entry, done) =>
        its.meter.open(entry, (refused) => {
          refusal ??= refused ?? undefined;
          done(refused);
        }),
    },
    digests: its.digests,
    response: keeping,
    first: entryFor(its, request, found),
    countsItems: false,
    nextPart: () => ({ at: its.clock.now(), ext: null }),
    headersOf: () => [],
    problemHeaders: [],
    ask: (sink) => flowOf(request.body as ReadableStream | null, sink, its.maxBytes),
    failed: (cause) => {
      const error = isAppError(cause) ? cause : new AppError('fetch-failed', { cause });
      refusal ??= error;
      return error;
    },
    ended: () => undefined,
    recorded: recorded.resolve,
  });
  await prepared(its.meter, found, () => relay.start());
  await Promise.all([closed, recorded.promise]);
  if (refusal !== undefined) throw refusal;
  if (keeping.errored !== null) throw keeping.errored;
  return { bytes: keeping.bytes, sha256: keeping.digest(), mediaType: request.headers.get('content-type') ?? '' };
};

/** Below `/ext/1`: `POST` or `PUT /pushes/<consumerPid>`. */
export const createPushInbox = (its: PushInboxOptions): Hono => {
  const app = new Hono();
  const busy = new Set<string>();

  const receive = async (request: Request, pid: string): Promise<Response> => {
    const participant = its.participantOf(request);
    if (participant === undefined) throw new AppError('not-found');
    const found = await findTransfer(its, participant, pid, tokenIn(request.headers));
    if (Number(request.headers.get('content-length') ?? 0) > its.maxBytes) throw new AppError('body-too-large');
    if (busy.has(pid)) throw new AppError('busy', { retryAfterSeconds: 1 });
    busy.add(pid);
    try {
      const kept = await take(its, request, found, await its.files.begin(pid));
      await its.transfers.received(participant, pid, kept);
      its.log.info({ transfer: pid, bytes: kept.bytes }, 'a push arrived');
      return new Response(null, { status: 201 });
    } finally {
      busy.delete(pid);
    }
  };
  app.on(['POST', 'PUT'], '/pushes/:pid', async (c) => {
    try {
      return await receive(c.req.raw, c.req.param('pid'));
    } catch (error) {
      its.log.info({ error, transfer: c.req.param('pid') }, 'a push was refused');
      return problemResponse(error);
    }
  });
  return app;
};
