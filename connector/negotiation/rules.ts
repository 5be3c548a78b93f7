import { dspaceContext, type MessageAgreement, type MessageOffer } from '../../contracts/dsp/common.ts';
import type { NegotiationState } from '../../contracts/dsp/negotiation.ts';
import type { Role } from '../../contracts/dsp/process.ts';
import { canonicalize, isJsonObject, type Json, type JsonObject } from '../../contracts/json.ts';
import { type AgreementEvent, type Assurance, assurances } from '../../contracts/ledger/agreement.ts';
import { pricesIn } from '../../contracts/ledger/price-plan.ts';
import { parsePeerTime, parseTime } from '../../contracts/time.ts';
import { fullIri } from '../../policies/terms.ts';
import type { AgreementEnd, AgreementStatus, NegotiationData } from './ports.ts';

/** Rules of negotiation beyond the states (dsp §5.4), and the messages we write. */

const lists = ['permission', 'prohibition', 'obligation'] as const;

/** The rules of an offer or agreement, and nothing else of it. */
export const rulesOf = (policy: JsonObject): JsonObject =>
  Object.fromEntries(lists.flatMap((list) => (policy[list] === undefined ? [] : [[list, policy[list]]])));

/** Tree for tree: array order matters, the order of members does not. */
export const sameRules = (a: JsonObject, b: JsonObject): boolean =>
  canonicalize(rulesOf(a)) === canonicalize(rulesOf(b));

const named = new Set(['leftOperand', 'action']);

/** Names in full: a peer writes what its own contexts make of them. */
const inFull = (value: Json): Json => {
  if (Array.isArray(value)) return value.map(inFull);
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, its]) => [
      key,
      named.has(key) && typeof its === 'string' ? fullIri(its) : inFull(its),
    ]),
  );
};

/** The same rules, whichever form of a name each uses. */
export const sameTerms = (a: JsonObject, b: JsonObject): boolean =>
  canonicalize(inFull(rulesOf(a))) === canonicalize(inFull(rulesOf(b)));

const maxSkewMs = 60_000;
const maxAgeMs = 86_400_000;

/** Why an agreement is not the one that was negotiated, or undefined when it is (dsp §5.4). */
export const agreementFault = (
  agreement: MessageAgreement,
  expected: {
    readonly data: NegotiationData;
    readonly provider: string;
    readonly consumer: string;
    readonly now: number;
  },
): string | undefined => {
  const { data, provider, consumer, now } = expected;
  const at = parsePeerTime(agreement.timestamp) ?? Number.NaN;
  if (agreement.target !== data.dataset) return 'the target is not the dataset that was asked for';
  if (agreement.assigner !== provider) return 'the assigner is not the provider';
  if (agreement.assignee !== consumer) return 'the assignee is not the consumer';
  if (!sameRules(agreement as JsonObject, data.offer)) return 'the rules are not those of the last offer';
  return at > now + maxSkewMs || at < now - maxAgeMs ? 'the timestamp is not of now' : undefined;
};

/** Why an offer of the peer cannot belong to this negotiation. */
export const offerFault = (offer: MessageOffer, data: NegotiationData): string | undefined =>
  offer.target === data.dataset ? undefined : 'the offer is for another dataset';

/** The assurance that an offer names (wire §3); a provider without extensions names none. */
export const assuranceOf = (offer: JsonObject): Assurance | undefined => {
  const named = offer[assuranceMember] ?? 'plain-dsp';
  return assurances.find((one) => one === named);
};

const assuranceMember = 'urn:stekker:1:assurance';
const termsMember = 'urn:stekker:1:terms';

/** Why the terms of an offer cannot be those of an agreement here. */
export const termsFault = (offer: JsonObject): string | undefined => {
  if (assuranceOf(offer) === undefined) return 'its assurance is none that is known here';
  return pricesIn(offer).length > 1 ? 'it names several price plans' : undefined;
};

/** A counter-offer of the peer may change its rules and its price, and never how strongly it is proven. */
export const counterFault = (offer: JsonObject, data: NegotiationData): string | undefined => {
  const fault = termsFault(offer);
  if (fault !== undefined) return fault;
  return offer[assuranceMember] !== undefined && assuranceOf(offer) !== data.assurance
    ? 'it changes the assurance'
    : undefined;
};

/** What is signed and not verified for so long becomes void (wire §3). */
export const voidAfterMs = 900_000;

/** So long the other side has to countersign an end before it is registered with one signature. */
export const endAloneAfterMs = 60_000;

/** Clocks may differ by so much. */
const maxAheadMs = 60_000;

/** Why an end that the peer decided cannot be ours too. It takes nothing away that was used, so it may lie in the past. */
export const endFault = (
  event: AgreementEvent,
  expected: { readonly digest: string; readonly now: number },
): string | undefined => {
  if (event.event !== 'end') return 'only an end is countersigned';
  if (event.agreementDigest !== expected.digest) return 'it is about another agreement';
  return Number(parseTime(event.effectiveAt)) > expected.now + maxAheadMs ? 'it lies in the future' : undefined;
};

/**
 * Whether the end we hold stands when the peer brings another: one that both signed does, and of two that cross the
 * provider's does, so that both sides keep the same.
 */
export const standsAgainstOther = (role: Role, end: AgreementEnd): boolean =>
  end.artifact !== null && (end.artifact.signatures.length === 2 || role === 'provider');

const succession = 'urn:stekker:1:superseded-by:';

/** The reason of an end in favour of another agreement: the event itself knows only ends (wire §3), and its reason is signed. */
export const successionReason = (successor: string): string => `${succession}${successor}`;

/** The successor that an end names, by its agreementDigest; undefined for an end without one. */
export const successorIn = (reason: string): string | undefined =>
  reason.startsWith(succession) ? reason.slice(succession.length) : undefined;

export const statusAfter = (end: AgreementEnd): AgreementStatus => {
  if (end.event === 'void') return 'void';
  return successorIn(end.reason) === undefined ? 'ended' : 'superseded';
};

/** The leaf key goes when both the peer and whoever registers the end have it. */
export const withoutSpentKey = (end: AgreementEnd): AgreementEnd =>
  end.delivered && end.settled ? { ...end, leafKey: null } : end;

const frame = (type: string): JsonObject => ({ '@context': [dspaceContext], '@type': type });

/** An offer as it stands in a message. */
export const writeOffer = (offer: {
  readonly id: string;
  readonly dataset: string;
  readonly rules: JsonObject;
}): JsonObject => ({
  '@type': 'Offer',
  '@id': offer.id,
  target: offer.dataset,
  ...offer.rules,
});

/** An offer of ours beyond the catalog: with its assurance, and what became of the terms that were asked for (odrl §7). */
export const writeOwnOffer = (
  offer: Parameters<typeof writeOffer>[0] & { readonly assurance: Assurance },
  terms: readonly { readonly nl: string; readonly en: string }[] = [],
): JsonObject => ({
  ...writeOffer(offer),
  [assuranceMember]: offer.assurance,
  ...(terms.length === 0 ? {} : { [termsMember]: terms.flatMap(({ en, nl }) => [en, nl]) }),
});

interface Pids {
  readonly providerPid: string;
  readonly consumerPid: string;
}

export const writeMessage = {
  firstRequest: (consumerPid: string, callbackAddress: string, offer: JsonObject): JsonObject => ({
    ...frame('ContractRequestMessage'),
    consumerPid,
    callbackAddress,
    offer,
  }),
  counterRequest: (pids: Pids, offer: JsonObject): JsonObject => ({
    ...frame('ContractRequestMessage'),
    ...pids,
    offer,
  }),
  firstOffer: (providerPid: string, callbackAddress: string, offer: JsonObject): JsonObject => ({
    ...frame('ContractOfferMessage'),
    providerPid,
    callbackAddress,
    offer,
  }),
  offer: (pids: Pids, offer: JsonObject): JsonObject => ({ ...frame('ContractOfferMessage'), ...pids, offer }),
  agreement: (pids: Pids, agreement: JsonObject): JsonObject => ({
    ...frame('ContractAgreementMessage'),
    ...pids,
    agreement,
  }),
  verification: (pids: Pids): JsonObject => ({ ...frame('ContractAgreementVerificationMessage'), ...pids }),
  event: (pids: Pids, eventType: 'ACCEPTED' | 'FINALIZED'): JsonObject => ({
    ...frame('ContractNegotiationEventMessage'),
    ...pids,
    eventType,
  }),
  termination: (pids: Pids, code: string, reason: readonly string[]): JsonObject => ({
    ...frame('ContractNegotiationTerminationMessage'),
    ...pids,
    code,
    ...(reason.length === 0 ? {} : { reason: [...reason] }),
  }),
};

/** ContractNegotiation: what a process looks like to the peer. */
export const showNegotiation = (pids: Pids, state: NegotiationState): JsonObject => ({
  ...frame('ContractNegotiation'),
  ...pids,
  state,
});
