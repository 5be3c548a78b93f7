import { withoutSlash } from '../../contracts/dsp/common.ts';
import { type AppError, isAppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import type { Task, TaskResult } from '../../kernel/sql/outbox.ts';
import { mustFind, type Outgoing } from '../exchange/commit.ts';
import { type Amendment, amendProcess, beginProcess, deliverMessage, sendMessage } from '../exchange/send.ts';
import { concluded, voidTask } from './ending.ts';
import type { NegotiationKind } from './machine.ts';
import type { Decision, NegotiationData, NegotiationRow } from './ports.ts';
import { digestOf, type Exchanged, type NegotiationOptions, newData, pidsOf, termination } from './process.ts';
import { writeMessage, writeOffer } from './rules.ts';

/** What we decide in a negotiation, and send. */

export type Action = Exclude<Decision, { readonly do: 'wait' }>;

/** What a consumer asks for: an offer as the catalog showed it. */
export interface RequestTerms {
  readonly participant: ParticipantId;
  readonly provider: Did;
  readonly providerBase: string;
  readonly dataset: string;
  readonly offerId: string;
  readonly rules: { readonly [key: string]: Json };
  readonly assurance: Assurance;
  readonly price: string;
}

export interface Deciding {
  readonly request: (terms: RequestTerms) => Promise<NegotiationRow>;
  /** An operator's or the owner's decision. */
  readonly decide: (participant: ParticipantId, pid: string, action: Action) => Promise<NegotiationRow>;
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
  };
}

interface Message {
  readonly kind: NegotiationKind;
  readonly outgoing: Outgoing<NegotiationData>;
}

/** The message that an action sends; `agree` is more than a message, and stands apart. */
const messageFor = (row: NegotiationRow, action: Exclude<Action, { readonly do: 'agree' }>): Message => {
  const pids = pidsOf(row);
  switch (action.do) {
    case 'offer': {
      const data: NegotiationData = {
        ...row.data,
        offer: action.offer,
        offerBy: 'provider',
        offers: [...row.data.offers, digestOf(action.offer)],
      };
      return {
        kind: 'offer',
        outgoing: { path: '/negotiations/:pid/offers', body: writeMessage.offer(pids, action.offer), data },
      };
    }
    case 'request': {
      const data: NegotiationData = { ...row.data, offer: action.offer, offerBy: 'consumer' };
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

const agree = async (its: Exchanged, options: NegotiationOptions, row: NegotiationRow): Promise<NegotiationRow> => {
  const signed = await options.agreements.draft(row);
  const signedAt = its.clock.now();
  return sendMessage(its, { ...row, kind: 'agreement' }, (current) => ({
    path: '/negotiations/:pid/agreement',
    body: writeMessage.agreement(pidsOf(current), signed.agreement),
    data: { ...current.data, agreement: signed, status: 'signed', signedAt },
    names: { agreement: String(signed.agreement['@id']), agreementDigest: signed.digest },
    tasks: [voidTask(current, signedAt)],
  }));
};

/** The consumer's signature is stored before it is shown to anybody (wire §3). */
const countersign = async (its: Exchanged, options: NegotiationOptions, row: NegotiationRow): Promise<void> => {
  const signed = await options.agreements.countersign(row);
  if (signed === undefined) return;
  const signedAt = row.data.signedAt ?? its.clock.now();
  await amendProcess(
    its,
    row,
    // Kept once: each change calls for the owner's side again, and that would sign again while this delivery is under way.
    (current): Amendment<NegotiationData> | undefined =>
      current.data.status === 'signed'
        ? undefined
        : {
            data: { ...current.data, agreement: signed, status: 'signed', signedAt },
            tasks: [voidTask(current, signedAt)],
          },
  );
  await options.agreements.deliverSignature({ ...row, data: { ...row.data, agreement: signed } });
};

const perform = async (
  its: Exchanged,
  options: NegotiationOptions,
  row: NegotiationRow,
  action: Action,
): Promise<NegotiationRow> => {
  if (action.do === 'agree') return agree(its, options, row);
  if (action.do === 'verify') await countersign(its, options, row);
  return sendMessage(
    its,
    { ...row, kind: messageFor(row, action).kind },
    (current) => messageFor(current, action).outgoing,
  );
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
  request: async (terms) => {
    const { base } = options.self(terms.participant);
    options.checkAddress(terms.providerBase);
    const offer = writeOffer({ id: terms.offerId, dataset: terms.dataset, rules: terms.rules });
    const data = newData({ ...terms, offer, offerBy: 'consumer', offers: [digestOf(offer)] });
    const start = {
      participant: terms.participant,
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
  },
  decide: async (participant, pid, action) => perform(its, options, await mustFind(its, participant, pid), action),
  find: (participant, pid) => mustFind(its, participant, pid),
  findByAgreement: (participant, agreementId) => its.store.findByName(participant, 'agreement', agreementId),
  list: (participant, page) => its.store.list(participant, page),
  handlers: {
    negotiations: (task) => deliverMessage(its, task),
    'negotiations-work': (task) => work(its, options, task),
  },
});
