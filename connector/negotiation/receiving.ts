import { type MessageAgreement, type MessageOffer, withoutSlash } from '../../contracts/dsp/common.ts';
import type {
  ContractAgreementMessage,
  ContractNegotiationTerminationMessage,
  ContractOfferMessage,
  ContractRequestMessage,
  NegotiationState,
} from '../../contracts/dsp/negotiation.ts';
import { AppError, isAppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { pricesIn } from '../../contracts/ledger/price-plan.ts';
import { lookUpToShow } from '../exchange/commit.ts';
import type { Caller } from '../exchange/ports.ts';
import {
  type Answer,
  type Opening,
  openProcess,
  type Reaction,
  type Rewritten,
  receiveMessage,
} from '../exchange/receive.ts';
import type { Body } from '../exchange/rules.ts';
import { sendMessage } from '../exchange/send.ts';
import { refusingDoubles } from './doubles.ts';
import type { NegotiationData, NegotiationRow } from './ports.ts';
import {
  agreedWith,
  digestOf,
  type Exchanged,
  inForce,
  type NegotiationOptions,
  newData,
  offerOf,
  show,
  termination,
} from './process.ts';
import { agreementFault, assuranceOf, counterFault, offerFault, sameTerms, termsFault, writeOffer } from './rules.ts';

/** The messages that arrive in a negotiation, and what is checked beyond the state (dsp §5.4). */

export interface Incoming<Message> {
  readonly participant: ParticipantId;
  readonly caller: Caller;
  readonly message: Message;
  readonly body: Body;
}

interface Event {
  readonly eventType: 'ACCEPTED' | 'FINALIZED';
}

export interface Receiving {
  readonly onRequest: (incoming: Incoming<ContractRequestMessage> & { readonly pid?: string }) => Promise<Answer>;
  readonly onOffer: (incoming: Incoming<ContractOfferMessage> & { readonly pid?: string }) => Promise<Answer>;
  readonly onAgreement: (incoming: Incoming<ContractAgreementMessage> & { readonly pid: string }) => Promise<Answer>;
  readonly onVerification: (incoming: Incoming<object> & { readonly pid: string }) => Promise<Answer>;
  readonly onEvent: (incoming: Incoming<Event> & { readonly pid: string }) => Promise<Answer>;
  readonly onTermination: (
    incoming: Incoming<ContractNegotiationTerminationMessage> & { readonly pid: string },
  ) => Promise<Answer>;
  readonly show: (participant: ParticipantId, caller: Did, pid: string) => Promise<Json>;
}

const requested = async (
  options: NegotiationOptions,
  incoming: Incoming<ContractRequestMessage>,
): Promise<Opening<NegotiationData>> => {
  const { offer, callbackAddress = '' } = incoming.message;
  checkCallback(options, callbackAddress);
  const published = await options.offers.find(incoming.participant, incoming.caller.did, offer.target, offer['@id']);
  if (published === undefined) throw new AppError('not-found');
  const data = newData({
    dataset: offer.target,
    offerId: offer['@id'],
    // What was published is agreed to as it was published: the names of a peer may mean nothing in our context.
    offer: sameTerms(offerOf(offer), published.rules) ? { ...offerOf(offer), ...published.rules } : offerOf(offer),
    offerBy: 'consumer',
    offers: [digestOf(writeOffer(published))],
    assurance: published.assurance,
    price: published.price,
  });
  return { role: 'provider', peerBase: withoutSlash(callbackAddress), data };
};

const checkCallback = (options: NegotiationOptions, url: string): void => {
  try {
    options.checkAddress(url);
  } catch (cause) {
    throw new AppError('callback-refused', { cause });
  }
};

/** A provider that begins (dsp §5.1): its owner's side decides what to make of it. */
const offered = async (
  options: NegotiationOptions,
  { message }: Incoming<ContractOfferMessage>,
): Promise<Opening<NegotiationData>> => {
  const { offer, callbackAddress = '' } = message;
  checkCallback(options, callbackAddress);
  const its = offerOf(offer);
  const fault = termsFault(its);
  if (fault !== undefined) throw new AppError('offer-refused', { detail: fault });
  const data = newData({
    dataset: offer.target,
    offerId: offer['@id'],
    offer: its,
    offerBy: 'provider',
    offers: [digestOf(its)],
    assurance: assuranceOf(its) ?? 'plain-dsp',
    price: pricesIn(its)[0] ?? '',
  });
  return { role: 'consumer', peerBase: withoutSlash(callbackAddress), data };
};

const counterOffered = (
  row: NegotiationRow,
  offer: MessageOffer,
  offerBy: 'provider' | 'consumer',
): Reaction<NegotiationData> => {
  const its = offerOf(offer);
  const fault = offerFault(offer, row.data) ?? counterFault(its, row.data);
  if (fault !== undefined) throw new AppError('offer-refused', { detail: fault });
  if (offerBy === 'consumer') return { data: { ...row.data, offer: its, offerBy } };
  const offers = [...row.data.offers, digestOf(its)];
  return { data: { ...row.data, offer: its, offerBy, offers, price: pricesIn(its)[0] ?? '' } };
};

const agreed = (
  options: NegotiationOptions,
  row: NegotiationRow,
  agreement: MessageAgreement,
): Reaction<NegotiationData> => {
  const consumer = options.self(row.participant).did;
  const fault = agreementFault(agreement, { data: row.data, provider: row.peer, consumer, now: options.clock.now() });
  if (fault !== undefined) throw new AppError('agreement-refused', { detail: fault });
  const kept = {
    agreement: agreement as unknown as { readonly [key: string]: Json },
    digest: '',
    artifact: null,
    leafKey: null,
  };
  const names = { agreement: agreement['@id'] };
  return { data: { ...row.data, agreement: kept }, names, groups: agreedWith(row.peer) };
};

const nameTaken = (): AppError => new AppError('agreement-refused', { detail: 'its id is that of another agreement' });

/** Another agreement than was negotiated is refused, and there will be no other: a termination follows (dsp §5.4). */
const endingWhatWasRefused = async (
  its: Exchanged,
  { participant, pid }: { readonly participant: ParticipantId; readonly pid: string },
  receive: () => Promise<Answer>,
): Promise<Answer> => {
  try {
    return await receive();
  } catch (error) {
    if (!isAppError(error, 'agreement-refused')) throw error;
    const row = await its.store.find(participant, pid);
    if (row === undefined || row.data.agreement !== null) throw error; // what is agreed stands
    const why = error.detail ?? error.title;
    await sendMessage(its, { participant, pid, kind: 'termination' }, (current) =>
      termination(current, error.code, [why]),
    ).catch((failure: unknown) => {
      if (!isAppError(failure, 'illegal-transition')) throw failure;
    });
    throw error;
  }
};

export const createReceiving = (its: Exchanged, options: NegotiationOptions): Receiving => ({
  onRequest: (incoming) =>
    incoming.pid === undefined
      ? openProcess(its, { ...incoming, kind: 'request', peerPid: incoming.message.consumerPid }, () =>
          requested(options, incoming),
        )
      : receiveMessage(its, { ...incoming, pid: incoming.pid, kind: 'request', role: 'provider' }, (row) =>
          counterOffered(row, incoming.message.offer, 'consumer'),
        ),
  onOffer: (incoming) =>
    incoming.pid === undefined
      ? openProcess(its, { ...incoming, kind: 'offer', peerPid: incoming.message.providerPid }, () =>
          offered(options, incoming),
        )
      : receiveMessage(its, { ...incoming, pid: incoming.pid, kind: 'offer', role: 'consumer' }, (row) =>
          counterOffered(row, incoming.message.offer, 'provider'),
        ),
  onAgreement: (incoming) => {
    const react = (row: NegotiationRow) => agreed(options, row, incoming.message.agreement);
    // EDC makes a new agreement each time it sends its message; where nobody signed the one before, the last counts. One that
    // comes after our verification was taken shows that EDC lost it: we verify again, and its own state tells if it did not.
    const rewritten = (row: NegotiationRow): Rewritten<NegotiationState, NegotiationData> | undefined => {
      const { state, pending } = row.process;
      if (row.data.assurance !== 'plain-dsp') return undefined;
      if (state === 'AGREED') return react(row);
      return state === 'VERIFIED' && pending === null ? { ...react(row), state: 'AGREED' } : undefined;
    };
    return endingWhatWasRefused(its, incoming, () =>
      refusingDoubles(its, incoming, () =>
        receiveMessage(its, { ...incoming, kind: 'agreement', role: 'consumer', rewritten, nameTaken }, react),
      ),
    );
  },
  onVerification: (incoming) =>
    receiveMessage(
      its,
      {
        ...incoming,
        kind: 'verification',
        role: 'provider',
        isSaidAgain: ({ state }) => state === 'VERIFIED' || state === 'FINALIZED',
      },
      (row) => {
        options.agreements.mustBeSigned(row);
        return { data: row.data };
      },
    ),
  onEvent: (incoming) => {
    const kind = incoming.message.eventType === 'ACCEPTED' ? 'accepted' : 'finalized';
    return receiveMessage(
      its,
      {
        ...incoming,
        kind,
        isSaidAgain: ({ role, state }) => kind === 'finalized' && role === 'consumer' && state === 'FINALIZED',
      },
      (row): Reaction<NegotiationData> => ({
        data: kind === 'finalized' ? inForce(row.data) : row.data,
      }),
    );
  },
  onTermination: (incoming) =>
    receiveMessage(its, { ...incoming, kind: 'termination' }, (row): Reaction<NegotiationData> => {
      const { code = '', reason = [] } = incoming.message;
      return { data: { ...row.data, ending: { by: 'peer', code, reason } } };
    }),
  show: async (participant, caller, pid) => show(await lookUpToShow(its, { participant, caller, pid })),
});
