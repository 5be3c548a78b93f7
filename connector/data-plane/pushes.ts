import { z } from 'zod';
import { AppError, isAppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { requestTarget } from '../../contracts/ledger/record.ts';
import type { UsageExt, UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Logger } from '../../kernel/log.ts';
import { policyFault, standingOf } from './admission.ts';
import { createClosings } from './closings.ts';
import type { Grants, Holder, OpenTransfer } from './grants.ts';
import type { BodyDigests, HttpPush, Standing, UsageMeter } from './ports.ts';
import { prepared } from './prepared.ts';
import { type Delivery, PushBody } from './push-body.ts';
import { Relay } from './relay.ts';
import { type Refusal, reservedBytes } from './rules.ts';

/**
 * Bytes that a provider brings to its consumer (dsp §6.2, `HttpData-PUSH`). Everything that holds for a request holds for a push:
 * agreement in force, standing, price, policy, quota, and a record that is durable before the first byte leaves.
 */

export interface PushSink {
  readonly url: string;
  readonly method: 'POST' | 'PUT';
  /** `Authorization` as it is sent, or empty. */
  readonly authorization: string;
}

export interface PushOrder {
  readonly participant: ParticipantId;
  /** providerPid */
  readonly transfer: string;
  readonly agreementId: string;
  readonly consumer: Did;
  readonly sink: PushSink;
}

export type PushResult =
  | { readonly state: 'delivered' | 'stopped' }
  /** `isFinal`: trying again would end the same way. */
  | { readonly state: 'failed'; readonly reason: string; readonly isFinal: boolean };

export interface PushesOptions {
  readonly grants: Pick<Grants, 'prepare'>;
  readonly meter: UsageMeter;
  readonly standing: Standing;
  readonly digests: BodyDigests;
  readonly http: HttpPush;
  readonly clock: Clock;
  /** Request ids: lower-case UUIDv7. */
  readonly newId: () => string;
  readonly log: Logger;
}

export interface Pushes extends AsyncDisposable {
  /** The whole asset, once, from its beginning. @throws AppError `agreement-ended`. */
  readonly push: (order: PushOrder) => Promise<PushResult>;
  /** Ends what runs for a transfer: no byte more leaves. */
  readonly stop: (transfer: string) => void;
}

interface Running {
  readonly holder: Holder;
  readonly relay: Relay;
  isStopped: boolean;
}

const closed: Refusal = { error: new AppError('token-invalid', { detail: 'the transfer was closed' }) };
/** At once, over all transfers; what is more waits for its next try. */
const maxRunning = 64;

/** The checks of wire §5 that do not rest on a token. */
const judge = (its: PushesOptions, transfer: OpenTransfer, holder: Holder): { readonly ext: UsageExt } | Refusal => {
  const stands = standingOf(its.standing, holder);
  if ('error' in stands) return stands;
  const { price, pricePlan } = transfer.terms;
  if (price !== '' && pricePlan === null) return { error: new AppError('price-needed') };
  const denied = policyFault(its, holder, its.clock.now());
  if (denied !== undefined) return denied;
  return its.meter.isReady() ? stands : { error: new AppError('journal-unavailable') };
};

const entryFor = (
  its: PushesOptions,
  { terms, grant }: OpenTransfer,
  { url, method }: PushSink,
  ext: UsageExt,
): UsageOpen => {
  const { pathname, search } = new URL(url);
  return {
    t: 'open',
    agreement: terms.agreement,
    request: its.newId(),
    part: 1,
    at: its.clock.now(),
    asset: terms.asset,
    transfer: grant.transfer,
    application: '',
    method,
    purpose: '',
    run: '',
    target: requestTarget(nodeCrypto, { method, target: `${pathname}${search}`, range: '' }),
    price: terms.price,
    ext,
    reserved: reservedBytes,
    proof: '',
  };
};

const maxDetail = 500;
const problemForm = z.looseObject({ title: z.string().optional(), detail: z.string().optional() });

const sentenceIn = (text: string): string => {
  try {
    const { title, detail } = problemForm.parse(JSON.parse(text));
    return (detail ?? title ?? '').slice(0, maxDetail);
  } catch {
    return '';
  }
};

const mayHelp: ReadonlySet<number> = new Set([408, 425, 429]);
/** A refusal that another try changes nothing about. */
const isForGood = (status: number): boolean => status < 500 && !mayHelp.has(status);

/** What a delivery means for whoever ordered it. */
export const resultOf = (delivery: Delivery): PushResult => {
  switch (delivery.state) {
    case 'delivered':
      return { state: 'delivered' };
    case 'refused':
      return {
        state: 'failed',
        reason: `The consumer's address answered ${delivery.status}.`,
        isFinal: isForGood(delivery.status),
      };
    case 'withheld': {
      const why = sentenceIn(delivery.text);
      const reason = `Nothing could be sent (${delivery.status})${why === '' ? '.' : `: ${why}`}`;
      return { state: 'failed', reason, isFinal: isForGood(delivery.status) };
    }
    case 'failed':
    case 'open': {
      const error = delivery.state === 'failed' ? delivery.error : undefined;
      const isRefused = isAppError(error, 'address-refused');
      const reason = isRefused ? error.title : "The consumer's address could not be reached.";
      return { state: 'failed', reason, isFinal: isRefused };
    }
  }
};

const failed = ({ error, reasons }: Refusal): PushResult => ({
  state: 'failed',
  reason: [error.detail ?? error.title, ...(reasons ?? []).map(({ en }) => en)].join(' ').slice(0, maxDetail),
  isFinal: isForGood(error.status),
});

const watchStanding = (its: PushesOptions, running: ReadonlyMap<string, Running>): void =>
  its.standing.onChange(() => {
    for (const { holder, relay } of running.values()) {
      const stands = standingOf(its.standing, holder);
      if ('error' in stands) relay.cut(stands);
    }
  });

export const createPushes = (its: PushesOptions): Pushes => {
  const running = new Map<string, Running>();
  const closings = createClosings();
  watchStanding(its, running);

  const deliver = async (order: PushOrder, transfer: OpenTransfer, holder: Holder): Promise<PushResult> => {
    const judged = judge(its, transfer, holder);
    if ('error' in judged) return failed(judged);
    const { sink } = order;
    const entry = entryFor(its, transfer, sink, judged.ext);
    const body = new PushBody((headers, bytes) => {
      const authorization = sink.authorization === '' ? {} : { authorization: sink.authorization };
      const all = { ...headers, ...authorization, 'fsc-transaction-id': entry.request };
      return its.http.send({ url: sink.url, method: sink.method, headers: all, body: bytes });
    });
    const recorded = Promise.withResolvers<void>();
    const wait = closings.begin();
    const relay = new Relay({
      side: 'provider',
      meter: its.meter,
      digests: its.digests,
      response: body,
      first: entry,
      countsItems: transfer.countsItems,
      nextPart: () => ({ at: its.clock.now(), ext: entry.ext }),
      headersOf: (headers) => [...headers],
      problemHeaders: [],
      ask: (to) => {
        const headers = transfer.countsItems ? ['accept-encoding', 'identity'] : [];
        return transfer.source.ask({ method: 'GET', rest: '', query: '', headers }, to);
      },
      failed: (cause) => new AppError('upstream-failed', { cause }),
      ended: () => undefined,
      recorded: () => {
        wait();
        recorded.resolve();
      },
    });
    const own: Running = { holder, relay, isStopped: false };
    running.set(order.transfer, own);
    try {
      relay.start();
      await recorded.promise;
      return own.isStopped ? { state: 'stopped' } : resultOf(await body.delivery());
    } finally {
      running.delete(order.transfer);
    }
  };

  const push = async (order: PushOrder): Promise<PushResult> => {
    if (running.has(order.transfer) || running.size >= maxRunning)
      return { state: 'failed', reason: 'Too many pushes run now.', isFinal: false };
    its.http.check(order.sink.url);
    const { participant, transfer, agreementId, consumer } = order;
    const opened = await its.grants.prepare({ participant, transfer, agreementId, consumer });
    if (opened.bearer === null) throw new AppError('format-unsupported');
    const { bearer, countsAccesses: isCounted } = opened;
    return prepared(its.meter, { agreement: opened.terms.agreement, isCounted }, () => deliver(order, opened, bearer));
  };

  const stop = (transfer: string): void => {
    const own = running.get(transfer);
    if (own === undefined) return;
    own.isStopped = true;
    own.relay.cut(closed);
  };
  return {
    push,
    stop,
    [Symbol.asyncDispose]: async () => {
      for (const transfer of running.keys()) stop(transfer);
      await closings.idle();
    },
  };
};
