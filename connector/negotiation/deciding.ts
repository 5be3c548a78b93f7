import { withoutSlash } from '../../contracts/dsp/common.ts';
import { AppError, errorTable, isAppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { JsonObject } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import { pricesIn } from '../../contracts/ledger/price-plan.ts';
import type { Task, TaskResult } from '../../kernel/sql/outbox.ts';
import type { Mandate } from '../../policies/negotiate.ts';
import { type Decided, mustFind, type Outgoing } from '../exchange/commit.ts';
import type { LaterTask } from '../exchange/ports.ts';
import { type Amendment, amendProcess, beginProcess, deliverMessage, sendMessage } from '../exchange/send.ts';
import { terminateDouble } from './doubles.ts';
import { concluded, voidTask } from './ending.ts';
import type { NegotiationKind } from './machine.ts';
import type { Decision, NegotiationData, NegotiationRow, Under } from './ports.ts';
import {
  agreedWith,
  digestOf,
  type Exchanged,
  type NegotiationOptions,
  newData,
  pidsOf,
  termination,
} from './process.ts';
import { rulesOf, writeMessage, writeOffer, writeOwnOffer } from './rules.ts';

/** What we decide in a negotiation, and send. */

export type Action = Exclude<Decision, { readonly do: 'wait' }>;

/** A person's decision: the rules of an offer or request, without its frame. */
export type OperatorAction =
  | { readonly do: 'offer' | 'request'; readonly rules: JsonObject }
  | Exclude<Action, { readonly do: 'offer' | 'request' }>;

/** What a consumer asks for: an offer as the catalog showed it, and what it wants of it. */
export interface RequestTerms {
  readonly participant: ParticipantId;
  readonly provider: Did;
  readonly providerBase: string;
  readonly dataset: string;
  readonly offerId: string;
  readonly rules: JsonObject;
  readonly assurance: Assurance;
  readonly price: string;
  /** The rules that are asked for; by default those of the offer. */
  readonly ask?: JsonObject | undefined;
  /** What may be agreed to; by default what is asked for, at the price of the offer. */
  readonly mandate?: Mandate | 'operator' | undefined;
  /** The agreement that the new one takes the place of. */
  readonly amends?: string | undefined;
}

/** What a provider offers a consumer who has not asked. */
export interface OfferTerms {
  readonly participant: ParticipantId;
  readonly consumer: Did;
  readonly consumerBase: string;
  readonly dataset: string;
  readonly offerId: string;
  readonly amends?: string | undefined;
}

export interface Deciding {
  readonly request: (terms: RequestTerms) => Promise<NegotiationRow>;
  /** Provider: begins with an offer (dsp §5.1). @throws AppError `not-found` for an offer that this consumer may not see. */
  readonly offer: (terms: OfferTerms) => Promise<NegotiationRow>;
  /** An operator's decision. @throws AppError `body-invalid`, `illegal-transition`. */
  readonly decide: (participant: ParticipantId, pid: string, action: OperatorAction) => Promise<NegotiationRow>;
  readonly find: (participant: ParticipantId, pid: string) => Promise<NegotiationRow>;
  readonly findByAgreement: (participant: ParticipantId, agreementId: string) => Promise<NegotiationRow | undefined>;
  /** In order of pid, at most `limit`, behind `after`. */
  readonly list: (
    participant: ParticipantId,
    page: { readonly after?: string; readonly limit: number },
  ) => Promise<readonly NegotiationRow[]>;
  readonly handlers: {
    readonly negotiations: (task: Task) => Promise<TaskResult>;
    readonly 'negotiations-work': (task: Task) => Promise<TaskResult>;
    /** An offer of ours that nobody answered in time. */
    readonly 'negotiations-lapse': (task: Task) => Promise<TaskResult>;
    /** Terminates what a repeat of our first request began at a provider beside the one that counts. */
    readonly 'negotiations-double': (task: Task) => Promise<TaskResult>;
  };
}

type Message = Decided<NegotiationKind, NegotiationData>;

/** An offer lapses by its place among the offers of its negotiation: a later one has a time of its own. */
const lapseTask = (pid: string, count: number, dueAt: number): LaterTask => ({
  topic: 'negotiations-lapse',
  id: `${pid} ${count}`,
  dueAt,
});

/** The message that an action sends; `agree` is more than a message, and stands apart. */
const messageFor = (
  row: NegotiationRow,
  action: Exclude<Action, { readonly do: 'agree' }>,
  lapsesAt: number,
): Message => {
  const pids = pidsOf(row);
  switch (action.do) {
    case 'offer': {
      const data: NegotiationData = {
        ...row.data,
        offer: action.offer,
        offerBy: 'provider',
        offers: [...row.data.offers, digestOf(action.offer)],
        ...action.under,
      };
      const tasks = [lapseTask(row.pid, data.offers.length, lapsesAt)];
      return {
        kind: 'offer',
        outgoing: { path: '/negotiations/:pid/offers', body: writeMessage.offer(pids, action.offer), data, tasks },
      };
    }
    case 'request': {
      const asked = [...(row.data.asked ?? []), digestOf(rulesOf(action.offer))];
      const data: NegotiationData = { ...row.data, offer: action.offer, offerBy: 'consumer', asked };
      return {
        kind: 'request',
        outgoing: { path: '/negotiations/:pid/request', body: writeMessage.counterRequest(pids, action.offer), data },
      };
    }
    case 'accept':
      return {
        kind: 'accepted',
        outgoing: { path: '/negotiations/:pid/events', body: writeMessage.event(pids, 'ACCEPTED') },
      };
    case 'finalize':
      return {
        kind: 'finalized',
        outgoing: { path: '/negotiations/:pid/events', body: writeMessage.event(pids, 'FINALIZED') },
      };
    case 'verify':
      return {
        kind: 'verification',
        outgoing: { path: '/negotiations/:pid/agreement/verification', body: writeMessage.verification(pids) },
      };
    case 'terminate':
      return { kind: 'termination', outgoing: termination(row, action.code, action.reason) };
  }
};

/** The message that agrees, with our signature. */
const agreeing = async (
  its: Exchanged,
  options: NegotiationOptions,
  asked: NegotiationRow,
  under: Under | undefined,
): Promise<(row: NegotiationRow) => Outgoing<NegotiationData>> => {
  const signed = await options.agreements.draft({ ...asked, data: { ...asked.data, ...under } });
  const signedAt = its.clock.now();
  return (row) => ({
    path: '/negotiations/:pid/agreement',
    body: writeMessage.agreement(pidsOf(row), signed.agreement),
    data: { ...row.data, ...under, agreement: signed, status: 'signed', signedAt },
    names: { agreement: String(signed.agreement['@id']), agreementDigest: signed.digest },
    groups: agreedWith(row.peer),
    tasks: [voidTask(row, signedAt)],
  });
};

/** The consumer's signature is stored before it is shown to anybody (wire §3). */
const countersign = async (its: Exchanged, options: NegotiationOptions, row: NegotiationRow): Promise<void> => {
  const signed = await options.agreements.countersign(row);
  if (signed === undefined) return;
  const signedAt = row.data.signedAt ?? its.clock.now();
  await amendProcess(
    its,
    row,
    // Kept once, and without calling for the owner's side: that is at work here, and its task stays until it is done.
    (current): Amendment<NegotiationData> | undefined =>
      current.data.status === 'signed'
        ? undefined
        : {
            data: { ...current.data, agreement: signed, status: 'signed', signedAt },
            work: false,
            names: { agreementDigest: signed.digest },
            tasks: [voidTask(current, signedAt)],
          },
  );
  await options.agreements.deliverSignature({ ...row, data: { ...row.data, agreement: signed } });
};

/** The message that an action sends, written for the process as it is by then. */
const writing = async (
  its: Exchanged,
  options: NegotiationOptions,
  row: NegotiationRow,
  action: Action,
): Promise<(row: NegotiationRow) => Message> => {
  if (action.do === 'agree') {
    const outgoing = await agreeing(its, options, row, action.under);
    return (current) => ({ kind: 'agreement', outgoing: outgoing(current) });
  }
  const lapsesAt = its.clock.now() + options.offerLifetimeMs;
  return (current) => messageFor(current, action, lapsesAt);
};

const perform = async (
  its: Exchanged,
  options: NegotiationOptions,
  row: NegotiationRow,
  action: Action,
): Promise<NegotiationRow> => {
  if (action.do === 'verify') await countersign(its, options, row);
  const write = await writing(its, options, row, action);
  return sendMessage(its, { ...row, kind: write(row).kind }, (current) => write(current).outgoing);
};

/**
 * What follows a message at once. The end of a negotiation and our signature under an agreement take calls of their own, and
 * what fails here may do so for a moment: all that is left to the owner's side.
 */
export const followUp = async (
  its: Exchanged,
  options: NegotiationOptions,
  row: NegotiationRow,
): Promise<Message | 'nothing' | undefined> => {
  if (options.decisions.isPrompt !== true || its.machine.isFinal(row.process.state)) return undefined;
  try {
    const decision = await options.decisions.next(row);
    if (decision.do === 'wait') return 'nothing';
    if (decision.do === 'verify' && row.data.assurance === 'cosigned') return undefined;
    return (await writing(its, options, row, decision))(row);
  } catch (error) {
    its.log.info({ pid: row.pid, error }, 'what follows a message could not be decided at once');
    return undefined;
  }
};

/** What a person wrote, as an offer of this negotiation: it can be evaluated, and its price stays. */
const framed = (options: NegotiationOptions, row: NegotiationRow, action: OperatorAction): Action => {
  if (!('rules' in action)) return action;
  const { rules } = action;
  const price = pricesIn(rules)[0] ?? '';
  const faults = [
    ...options.policyFaults(rules).map(({ path, message }) => ({ path: `/rules${path}`, message })),
    ...(price === row.data.price ? [] : [{ path: '/rules/obligation', message: 'the price plan stays what it was' }]),
  ];
  if (faults.length > 0) throw new AppError('body-invalid', { faults });
  const { dataset, assurance, offerId, offer } = row.data;
  if (action.do === 'offer') return { do: 'offer', offer: writeOwnOffer({ id: offerId, dataset, rules, assurance }) };
  return { do: 'request', offer: writeOffer({ id: String(offer['@id']), dataset, rules }) };
};

/** An offer that was not answered in time ends its negotiation; one still under way waits for its own end. */
const lapse = async (its: Exchanged, options: NegotiationOptions, task: Task): Promise<TaskResult> => {
  const row = await its.store.find(task.participant as ParticipantId, task.subject);
  if (row === undefined || row.process.role !== 'provider') return 'done';
  if (task.id !== lapseTask(row.pid, row.data.offers.length, 0).id) return 'done';
  if (row.process.pending?.kind === 'offer') return 'later';
  if (row.process.state !== 'OFFERED' || row.process.pending !== null) return 'done';
  if (its.clock.now() < row.updatedAt + options.offerLifetimeMs) return 'later'; // it arrived later than it was made
  await perform(its, options, row, {
    do: 'terminate',
    code: 'offer-lapsed',
    reason: [errorTable['offer-lapsed'].title],
  });
  return 'done';
};

const beginRequest = async (
  its: Exchanged,
  options: NegotiationOptions,
  terms: RequestTerms,
): Promise<NegotiationRow> => {
  const { participant, dataset, offerId: id, rules, price } = terms;
  const { base } = options.self(participant);
  options.checkAddress(terms.providerBase);
  const ask = rulesOf(terms.ask ?? rules);
  const offer = writeOffer({ id, dataset, rules: ask });
  const data = newData({
    ...terms,
    offer,
    offerBy: 'consumer',
    offers: [digestOf(writeOffer({ id, dataset, rules }))],
    mandate: terms.mandate ?? { least: ask, prices: price === '' ? [] : [price] },
    asked: [digestOf(ask)],
  });
  const start = {
    participant,
    role: 'consumer',
    peer: terms.provider,
    peerBase: withoutSlash(terms.providerBase),
    kind: 'request',
    data,
  } as const;
  return beginProcess(its, start, (pid) => ({
    path: '/negotiations/request',
    body: writeMessage.firstRequest(pid, base, offer),
  }));
};

const beginOffer = async (its: Exchanged, options: NegotiationOptions, terms: OfferTerms): Promise<NegotiationRow> => {
  const { participant, consumer, dataset, offerId, amends } = terms;
  const published = await options.offers.find(participant, consumer, dataset, offerId);
  if (published === undefined)
    throw new AppError('not-found', { detail: `${consumer} may not see an offer ${offerId} of ${dataset}` });
  const { base } = options.self(participant);
  options.checkAddress(terms.consumerBase);
  const { assurance, price } = published;
  const offer = writeOwnOffer(published);
  const offers = [digestOf(offer)];
  const start = {
    participant,
    role: 'provider',
    peer: consumer,
    peerBase: withoutSlash(terms.consumerBase),
    kind: 'offer',
    data: newData({ dataset, offerId, offer, offerBy: 'provider', offers, assurance, price, amends }),
  } as const;
  return beginProcess(its, start, (pid) => ({
    path: '/negotiations/offers',
    body: writeMessage.firstOffer(pid, base, offer),
    tasks: [lapseTask(pid, offers.length, its.clock.now() + options.offerLifetimeMs)],
  }));
};

/** What the owner's side does after each change, from the outbox: it runs at least once. */
const work = async (its: Exchanged, options: NegotiationOptions, task: Task): Promise<TaskResult> => {
  const row = await its.store.find(task.participant as ParticipantId, task.subject);
  if (row === undefined || row.process.pending !== null) return 'done';
  if (its.machine.isFinal(row.process.state)) {
    await concluded(its, options, row);
    return 'done';
  }
  const decision = await options.decisions.next(row);
  if (decision.do === 'wait') return 'done';
  try {
    await perform(its, options, row, decision);
  } catch (error) {
    if (isAppError(error, 'agreement-refused')) await perform(its, options, row, refusal(error));
    else if (!isAppError(error, 'illegal-transition')) throw error;
    its.log.info({ pid: row.pid, decision: decision.do, error }, 'a decision could not be carried out');
  }
  return 'done';
};

const refusal = (error: AppError): Action => ({
  do: 'terminate',
  code: error.code,
  reason: [error.detail ?? error.title],
});

export const createDeciding = (its: Exchanged, options: NegotiationOptions): Deciding => ({
  request: (terms) => beginRequest(its, options, terms),
  offer: (terms) => beginOffer(its, options, terms),
  decide: async (participant, pid, action) => {
    const row = await mustFind(its, participant, pid);
    return perform(its, options, row, framed(options, row, action));
  },
  find: (participant, pid) => mustFind(its, participant, pid),
  findByAgreement: (participant, agreementId) => its.store.findByName(participant, 'agreement', agreementId),
  list: (participant, page) => its.store.list(participant, page),
  handlers: {
    negotiations: (task) => deliverMessage(its, task),
    'negotiations-work': (task) => work(its, options, task),
    'negotiations-lapse': (task) => lapse(its, options, task),
    'negotiations-double': (task) => terminateDouble(its, task),
  },
});
