import type { MessageOffer } from '../../contracts/dsp/common.ts';
import { contractNegotiation, type NegotiationState } from '../../contracts/dsp/negotiation.ts';
import type { Fault } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json, JsonObject } from '../../contracts/json.ts';
import { offerDigest } from '../../contracts/ledger/agreement.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { ExchangeOptions, Outgoing } from '../exchange/commit.ts';
import type { AgreementService } from './agreements.ts';
import type { NegotiationKind } from './machine.ts';
import type {
  AgreementWatch,
  Decisions,
  NegotiationData,
  NegotiationRow,
  NegotiationStore,
  OfferBook,
  RunningTransfers,
} from './ports.ts';
import { showNegotiation, writeMessage } from './rules.ts';

/** What receiving and deciding share: the process as others see it, and the pieces both need. */

export type Exchanged = ExchangeOptions<NegotiationState, NegotiationKind, NegotiationData>;

export interface NegotiationOptions
  extends Pick<Exchanged, 'transport' | 'clock' | 'newId' | 'log' | 'wake' | 'watch'> {
  readonly store: NegotiationStore;
  /** So long a peer has to answer an offer of ours, in ms; then it lapses. */
  readonly offerLifetimeMs: number;
  /** Terms of a policy that cannot be evaluated here. */
  readonly policyFaults: (rules: JsonObject) => readonly Fault[];
  readonly offers: OfferBook;
  readonly decisions: Decisions;
  readonly agreements: AgreementService;
  readonly agreementWatch: AgreementWatch;
  readonly runningTransfers: RunningTransfers;
  /** Our own DID and `<base>` for a participant. */
  readonly self: (participant: ParticipantId) => { readonly did: Did; readonly base: string };
  /** @throws AppError when we may not call this address. */
  readonly checkAddress: (url: string) => void;
}

export const pidsOf = (row: NegotiationRow) =>
  row.process.role === 'provider'
    ? { providerPid: row.pid, consumerPid: row.peerPid ?? '' }
    : { providerPid: row.peerPid ?? '', consumerPid: row.pid };

export const show = (row: NegotiationRow): Json =>
  showNegotiation(pidsOf(row), row.process.state === 'INITIAL' ? 'REQUESTED' : row.process.state);

export const readState: Exchanged['readState'] = (body) => {
  const parsed = contractNegotiation.safeParse(body);
  if (!parsed.success) return undefined;
  const { state, providerPid, consumerPid } = parsed.data;
  return { state, peerPid: (role) => (role === 'provider' ? consumerPid : providerPid) };
};

export const termination = (
  row: NegotiationRow,
  code: string,
  reason: readonly string[],
): Outgoing<NegotiationData> => ({
  path: '/negotiations/:pid/termination',
  body: writeMessage.termination(pidsOf(row), code, reason),
  data: { ...row.data, ending: { by: 'us', code, reason: [...reason] } },
});

/** An agreement is in force from the state that the peer confirmed or brought, unless it ended meanwhile. */
export const inForce = (data: NegotiationData): NegotiationData =>
  data.status === 'signed' || data.status === 'none' ? { ...data, status: 'in-force' } : data;

/** The group of all negotiations that brought an agreement with this peer: what it may list (dsp §12.2). */
export const agreedWith = (peer: Did): Readonly<Record<string, string>> => ({ agreed: peer });

/** The offer of a message as the JSON it was: its schema keeps every member. */
export const offerOf = (offer: MessageOffer): JsonObject => offer as unknown as JsonObject;

export const digestOf = (offer: JsonObject): string => offerDigest(nodeCrypto, offer);

export const newData = (
  terms: Pick<
    NegotiationData,
    'dataset' | 'offerId' | 'offer' | 'offerBy' | 'offers' | 'assurance' | 'price' | 'mandate' | 'asked'
  > & {
    /** The agreement that the new one takes the place of. */
    readonly amends?: string | undefined;
  },
): NegotiationData => ({
  dataset: terms.dataset,
  offerId: terms.offerId,
  offer: terms.offer,
  offerBy: terms.offerBy,
  offers: terms.offers,
  assurance: terms.assurance,
  price: terms.price,
  mandate: terms.mandate ?? null,
  asked: terms.asked ?? [],
  agreement: null,
  status: 'none',
  signedAt: null,
  announced: false,
  end: null,
  ending: null,
  ...(terms.amends === undefined ? {} : { amends: { agreement: terms.amends, done: false } }),
});
