import { hash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { AppError, isAppError } from '../../contracts/errors.ts';
import { isUuidV7, uuidV7Time } from '../../contracts/ids.ts';
import { replayKey } from '../../contracts/ledger/record.ts';
import type { UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { type ListenOptions, listen, type RunningServer } from '../../kernel/http/server.ts';
import type { Logger } from '../../kernel/log.ts';
import { type PeerRate, rateFault } from '../../kernel/rate-limits.ts';
import type { ReplayStore } from '../../kernel/replay.ts';
import { type AdmissionOptions, type Asked, type Proven, permit, prove, readAsked, standingOf } from './admission.ts';
import { createClosings } from './closings.ts';
import type { Grants, Holder, Running } from './grants.ts';
import type { BodyDigests, HeaderList, Standing, UsageMeter } from './ports.ts';
import { writeProblem } from './problem.ts';
import { Relay } from './relay.ts';
import { createReplaySet, generationMs } from './replay.pure.ts';
import { goesOn, passHeaders, type Refusal, rateLimit } from './rules.ts';
import type { Tokens } from './tokens.ts';

/** The provider's data plane (wire §5): on `node:http`, without a framework between the socket and the checks. */

export interface DataListenerOptions {
  readonly grants: Grants;
  readonly tokens: Pick<Tokens, 'known' | 'verify'>;
  readonly meter: UsageMeter;
  readonly standing: Standing;
  readonly digests: BodyDigests;
  readonly clock: Clock;
  /** Request ids for `plain-dsp`: lower-case UUIDv7. */
  readonly newId: () => string;
  readonly log: Logger;
  readonly dataOrigin: string;
  /** What processes share to tell repeats; without it this process tells them alone. */
  readonly replay?: ReplayStore;
  /** How often a consumer may come. */
  readonly rate: PeerRate;
  /** Keys of its own replay set in each generation; 2^21 unless said otherwise. */
  readonly replayCapacity?: number;
  /** A connection on which nothing moves for this long is cut; 60,000 unless said otherwise. */
  readonly idleMs?: number;
}

/** Accesses of one transfer at a time: one slow consumer holds up no more than this. */
const maxRunning = 512;
const defaultIdleMs = 60_000;

const isRefusal = (value: object): value is Refusal => 'error' in value;

/** Claims of the journal that are on their way to a shared store at a time. */
const rebuiltTogether = 256;

/**
 * What was used in the last minutes, read from the journal (wire §5): a restart makes no proof good again. While a shared
 * store did not hear it, repeats cannot be ruled out.
 */
const rebuiltReplay = async (its: DataListenerOptions): Promise<ReplayStore> => {
  const { meter, clock, replay = createReplaySet(its.replayCapacity) } = its;
  const used = meter.recent(generationMs);
  let isHeard = true;
  for (let from = 0; from < used.length; from += rebuiltTogether) {
    const claims = used
      .slice(from, from + rebuiltTogether)
      .map(({ agreement, request }) =>
        replay.claim(replayKey(nodeCrypto, agreement, request), uuidV7Time(request), agreement),
      );
    isHeard &&= (await Promise.all(claims)).every((claim) => typeof claim === 'string');
  }
  if (isHeard || its.replay === undefined) return replay;
  const blindUntil = clock.now() + generationMs;
  return {
    claim: (...asked) => {
      const leftMs = blindUntil - clock.now();
      return leftMs > 0 ? { retryAfterSeconds: Math.ceil(leftMs / 1_000) } : replay.claim(...asked);
    },
  };
};

const headersFor = (asked: Asked, holder: Holder): HeaderList => {
  const { countsItems } = holder.transfer;
  const { headers } = asked;
  const out: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index] ?? '';
    if (goesOn(name, countsItems)) out.push(name, headers[index + 1] ?? '');
  }
  if (countsItems) out.push('accept-encoding', 'identity');
  return out;
};

/** Serves an access that was admitted. */
const serve = (
  its: DataListenerOptions,
  closings: { readonly begin: () => () => void },
  access: {
    readonly asked: Asked;
    readonly holder: Holder;
    readonly entry: UsageOpen;
    readonly response: ServerResponse;
  },
): void => {
  const { meter, digests, clock, standing, log } = its;
  const { asked, holder, entry, response } = access;
  const { transfer } = holder;
  const own = ['fsc-transaction-id', entry.request];
  const { method, target } = asked;
  const relay = new Relay({
    side: 'provider',
    meter,
    digests,
    response,
    first: entry,
    countsItems: transfer.countsItems,
    nextPart: () => {
      const stands = standingOf(standing, holder);
      return { at: clock.now(), ext: 'ext' in stands ? stands.ext : entry.ext };
    },
    headersOf: (headers) => {
      const passed = passHeaders(headers, 'source');
      passed.push(...own, 'ratelimit', rateLimit(meter.remaining(entry.agreement)));
      return passed;
    },
    problemHeaders: own,
    ask: (sink) =>
      transfer.source.ask({ method, rest: target.rest, query: target.query, headers: headersFor(asked, holder) }, sink),
    failed: (cause) => {
      log.warn({ error: cause, transfer: entry.transfer, request: entry.request }, 'a source did not answer');
      return new AppError('upstream-failed', { cause });
    },
    ended: () => void transfer.running.delete(running),
    recorded: closings.begin(),
  });
  const running: Running = { holder, relay };
  transfer.running.add(running);
  relay.start();
};

export interface DataPlaneServer extends RunningServer {
  /** Accesses under way. */
  readonly running: () => number;
}

/** Cuts every running access whose standing is gone: on each event, and again and again while the broker is silent (wire §7). */
const watchStanding = ({ standing, grants }: DataListenerOptions): void =>
  standing.onChange(() => {
    for (const transfer of grants.all())
      for (const { holder, relay } of transfer.running) {
        const stands = standingOf(standing, holder);
        if ('error' in stands) relay.cut(stands);
      }
  });

/** The first checks, if the consumer need not wait: at once, unless what is shared with other processes must be asked. */
const proveInTurn = (
  admission: AdmissionOptions & Pick<DataListenerOptions, 'rate'>,
  asked: Asked,
  holder: Holder,
  digest: string,
): Proven | Refusal | Promise<Proven | Refusal> => {
  const { participant, consumer } = holder.transfer.grant;
  const wait = admission.rate(participant, consumer);
  const go = (waitMs: number) => {
    const fault = rateFault(waitMs);
    return fault === undefined ? prove(admission, asked, holder, digest) : { error: fault };
  };
  return wait instanceof Promise ? wait.then(go) : go(wait);
};

/** Starts the data plane. Disposing it ends what runs and waits until every record is closed. @throws AppError `port-in-use`. */
export const startDataListener = async (its: DataListenerOptions, options: ListenOptions): Promise<DataPlaneServer> => {
  const { grants, tokens, log, idleMs = defaultIdleMs } = its;
  const admission = { ...its, replay: await rebuiltReplay(its) };
  const closings = createClosings();
  watchStanding(its);

  const refuse = (response: ServerResponse, refusal: Refusal, about: Partial<Asked>, holder?: Holder): void => {
    const { transfer, consumer } = holder?.transfer.grant ?? {};
    log.info(
      { code: refusal.error.code, detail: refusal.error.detail, transfer, consumer, error: refusal.error.cause },
      'an access was refused',
    );
    const trace = about.trace ?? '';
    const headers = isUuidV7(trace) ? ['fsc-transaction-id', trace] : [];
    if (!response.destroyed) writeProblem(response, refusal, { isHead: about.method === 'HEAD', headers });
  };

  const crowded = ({ transfer }: Holder): Refusal | undefined =>
    transfer.running.size >= maxRunning
      ? { error: new AppError('too-many-requests', { retryAfterSeconds: 1 }) }
      : undefined;

  /** The policy, and the record at once: what was counted or leased for this access is its own in this turn only. */
  const decide = (proven: Proven, response: ServerResponse, hasWaited: boolean): void => {
    const { asked, holder } = proven;
    const judged = crowded(holder) ?? permit(admission, proven, hasWaited);
    if (isRefusal(judged)) refuse(response, judged, asked, holder);
    else serve(its, closings, { asked, holder, entry: judged.entry, response });
  };

  const goOn = (proven: Proven, response: ServerResponse, hasWaited: boolean): void => {
    const { terms, countsAccesses } = proven.holder.transfer;
    const later = () => response.destroyed || decide(proven, response, true);
    if (its.meter.prepare(terms.agreement, later, countsAccesses)) decide(proven, response, hasWaited);
  };

  const failed = (error: unknown, asked: Asked, response: ServerResponse): void => {
    log.error({ error }, 'an access could not be judged');
    refuse(response, { error: new AppError('internal-error') }, asked);
  };

  const proceed = (asked: Asked, holder: Holder, digest: string, response: ServerResponse): void => {
    const settle = (proven: Proven | Refusal, hasWaited: boolean): void => {
      if (isRefusal(proven)) refuse(response, proven, asked, holder);
      else goOn(proven, response, hasWaited);
    };
    const proven = crowded(holder) ?? proveInTurn(admission, asked, holder, digest);
    if (proven instanceof Promise)
      proven
        .then((settled) => response.destroyed || settle(settled, true))
        .catch((error: unknown) => failed(error, asked, response));
    else settle(proven, false);
  };

  /** A token that is not known yet is verified once; the look into the store is the only wait before the journal. */
  const verifyFirst = (asked: Asked, digest: string, response: ServerResponse): void => {
    tokens.verify(asked.token, digest).then(
      (holder) => response.destroyed || proceed(asked, holder, digest, response),
      (error: unknown) => {
        if (isAppError(error)) return refuse(response, { error }, asked);
        log.error({ error }, 'a token could not be looked up');
        refuse(response, { error: new AppError('internal-error') }, asked);
      },
    );
  };

  const find = (asked: Asked, response: ServerResponse): void => {
    const digest = hash('sha256', asked.token, 'base64url');
    const isProven = asked.scheme === 'dpop';
    const holder = isProven ? tokens.known(digest) : (grants.findBySecret(digest)?.bearer ?? undefined);
    if (holder !== undefined) proceed(asked, holder, digest, response);
    else if (isProven) verifyFirst(asked, digest, response);
    else refuse(response, { error: new AppError('token-invalid') }, asked);
  };

  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    // A request behind one that is not answered yet has no socket: nothing would say when its client leaves.
    if (response.socket === null) {
      request.socket.destroy();
      return;
    }
    request.socket.setTimeout(idleMs);
    const asked = readAsked(request);
    if (isRefusal(asked)) refuse(response, asked, request.method === 'HEAD' ? { method: 'HEAD' } : {});
    else find(asked, response);
  };

  const server = await listen(onRequest, options);
  const running = () => [...grants.all()].reduce((total, transfer) => total + transfer.running.size, 0);
  return {
    port: server.port,
    running,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await closings.idle();
    },
  };
};
