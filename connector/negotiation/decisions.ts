import type { JsonObject } from '../../contracts/json.ts';
import { pricesIn } from '../../contracts/ledger/price-plan.ts';
import type { Clock } from '../../kernel/clock.ts';
import { compilePolicy } from '../../policies/compile.ts';
import { credentialFacts } from '../../policies/credential-facts.ts';
import { type Explanation, explain, type Sentence } from '../../policies/explain.ts';
import type { Facts } from '../../policies/facts.ts';
import { type Counter, counterOffer, outsideMandate, refines } from '../../policies/negotiate.ts';
import type { Decision, Decisions, NegotiationRow, OfferBook, PeerFacts, PublishedOffer, Under } from './ports.ts';
import { digestOf } from './process.ts';
import { rulesOf, sameRules, writeOffer, writeOwnOffer } from './rules.ts';

/**
 * What the owner wants next. A provider by its policy alone: it agrees to what lies inside one of its published offers, for a
 * peer whom that offer permits; it offers what it can where more was asked; it refuses the rest with reasons. A consumer by the
 * mandate of its owner.
 */

export interface PolicyDecisionOptions {
  readonly offers: OfferBook;
  readonly facts: PeerFacts;
  readonly clock: Pick<Clock, 'now'>;
  /** Who answers a request for something else than what is published. */
  readonly counterOffers: 'policy' | 'operator';
}

/** Counter-offers of ours in one negotiation; one side's patience must end (odrl §7). */
const maxCounters = 3;
/** And requests of ours, the first included. */
const maxRequests = 2;

const wait: Decision = { do: 'wait' };

const terminate = (code: string, reason: readonly string[]): Decision => ({ do: 'terminate', code, reason });

const inBoth = (reasons: readonly Sentence[]): readonly string[] => reasons.flatMap(({ nl, en }) => [en, nl]);

const factsAbout = async (options: PolicyDecisionOptions, { participant, peer }: NegotiationRow): Promise<Facts> => ({
  now: options.clock.now(),
  recipient: peer,
  ...credentialFacts(await options.facts.of(participant, peer)),
});

/** What these rules say to this peer, when a negotiation is decided; undefined for rules that cannot be evaluated. */
const judge = (rules: JsonObject, price: string, facts: Facts): Explanation | undefined => {
  const policy = compilePolicy(rules, 'negotiation');
  return policy.ok ? explain(policy.policy, { ...facts, pricePlan: price }) : undefined;
};

const refusal = (explanation: Explanation | undefined): Decision =>
  explanation === undefined
    ? terminate('policy-invalid', ['The policy cannot be evaluated.'])
    : terminate('policy-denied', inBoth(explanation.reasons));

/** The offers that may stand for the one that was asked for: of the same dataset and assurance, the one itself first. */
const alternativesTo = async (
  options: PolicyDecisionOptions,
  row: NegotiationRow,
): Promise<readonly PublishedOffer[]> => {
  const { dataset, assurance, offerId } = row.data;
  const offers = await options.offers.alternatives(row.participant, row.peer, dataset);
  const fitting = offers.filter((offer) => offer.assurance === assurance);
  return [...fitting.filter(({ id }) => id === offerId), ...fitting.filter(({ id }) => id !== offerId)];
};

const underOf = ({ id, price }: PublishedOffer): Under => ({ offerId: id, price });

interface Found {
  readonly offer: PublishedOffer;
  readonly counter: Counter;
}

/** The counter-offer that changes least; among equals the catalog's order stands. */
const nearest = (asked: JsonObject, offers: readonly PublishedOffer[]): Found | readonly Sentence[] => {
  const found: Found[] = [];
  const reasons: Sentence[] = [];
  for (const offer of offers) {
    const result = counterOffer(asked, offer.rules);
    if (result.ok) found.push({ offer, counter: result.counter });
    else if (reasons.length === 0) reasons.push(...result.reasons);
  }
  return found.toSorted((a, b) => a.counter.distance - b.counter.distance)[0] ?? reasons;
};

/** Offers what comes nearest to what was asked for, inside what is published. */
const counter = (options: PolicyDecisionOptions, row: NegotiationRow, offers: readonly PublishedOffer[]): Decision => {
  if (options.counterOffers === 'operator') return wait;
  const found = nearest(rulesOf(row.data.offer), offers);
  if (!('counter' in found)) return terminate('offer-refused', inBoth(found));
  const { offer, counter: its } = found;
  if (row.data.offers.length > maxCounters) return terminate('offer-refused', inBoth(its.terms));
  const written = writeOwnOffer({ ...offer, rules: its.rules }, its.terms);
  return { do: 'offer', offer: written, under: underOf(offer) };
};

const answerRequest = async (options: PolicyDecisionOptions, row: NegotiationRow): Promise<Decision> => {
  const offers = await alternativesTo(options, row);
  if (offers.length === 0) return terminate('offer-refused', ['The offer no longer stands.']);
  const facts = await factsAbout(options, row);
  const judged = offers.map((offer) => ({ offer, explanation: judge(offer.rules, offer.price, facts) }));
  const open = judged.filter(({ explanation }) => explanation?.permitted === true).map(({ offer }) => offer);
  if (open.length === 0) return refusal(judged[0]?.explanation);
  const asked = rulesOf(row.data.offer);
  const inside = open.find(
    ({ rules, price }) => price === row.data.price && (sameRules(asked, rules) || refines(asked, rules)),
  );
  if (inside === undefined) return counter(options, row, open);
  return inside.id === row.data.offerId ? { do: 'agree' } : { do: 'agree', under: underOf(inside) };
};

/** The peer accepted our last offer: we keep our word while what it was made from stands, to a peer whom it permits. */
const answerAcceptance = async (options: PolicyDecisionOptions, row: NegotiationRow): Promise<Decision> => {
  const { participant, peer, data } = row;
  const published = await options.offers.find(participant, peer, data.dataset, data.offerId);
  if (published === undefined) return terminate('offer-refused', ['The offer no longer stands.']);
  const explanation = judge(rulesOf(data.offer), data.price, await factsAbout(options, row));
  return explanation?.permitted === true ? { do: 'agree' } : refusal(explanation);
};

const asProvider = async (options: PolicyDecisionOptions, row: NegotiationRow): Promise<Decision> => {
  switch (row.process.state) {
    case 'REQUESTED':
      return answerRequest(options, row);
    case 'ACCEPTED':
      return answerAcceptance(options, row);
    case 'VERIFIED':
      return { do: 'finalize' };
    default:
      return wait;
  }
};

/** Asks for the least that will do, at the price that is on the table; undefined when that was asked before. */
const lastAsk = (row: NegotiationRow, least: JsonObject): Decision | undefined => {
  const { offer, dataset, price, asked = [] } = row.data;
  const priced = listOf(offer.obligation).filter((rule) => pricesIn({ obligation: [rule] }).length > 0);
  const isPriced = price === '' || pricesIn(least).length > 0;
  const wanted = rulesOf(isPriced ? least : { ...least, obligation: [...listOf(least.obligation), ...priced] });
  if (asked.length >= maxRequests || asked.includes(digestOf(wanted))) return undefined;
  return { do: 'request', offer: writeOffer({ id: String(offer['@id']), dataset, rules: wanted }) };
};

const listOf = (value: JsonObject[string] | undefined) => (Array.isArray(value) ? value : []);

/** A counter-offer, or an offer that nobody asked for. */
const answerOffer = (row: NegotiationRow): Decision => {
  const { mandate, offer } = row.data;
  if (mandate == null || mandate === 'operator') return wait;
  const outside = outsideMandate(rulesOf(offer), mandate);
  if (outside.length === 0) return { do: 'accept' };
  return lastAsk(row, mandate.least) ?? terminate('offer-refused', inBoth(outside));
};

const asConsumer = (row: NegotiationRow): Decision => {
  switch (row.process.state) {
    case 'OFFERED':
      return answerOffer(row);
    case 'AGREED':
      return { do: 'verify' };
    default:
      return wait;
  }
};

export const createPolicyDecisions = (options: PolicyDecisionOptions): Decisions => ({
  isPrompt: true,
  next: async (row) => (row.process.role === 'provider' ? asProvider(options, row) : asConsumer(row)),
});
