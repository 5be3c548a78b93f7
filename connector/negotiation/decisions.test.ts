import { describe, expect, test } from 'vitest';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';
import { createPolicyDecisions } from './decisions.ts';
import type { NegotiationRow, PublishedOffer } from './ports.ts';
import { digestOf, newData } from './process.ts';
import { writeOffer } from './rules.ts';

const peer = 'did:web:peer.example' as Did;
const broker = 'did:web:broker.example';
const now = 1_795_431_600_000;

const membersOnly: PublishedOffer = {
  id: 'urn:offer:one',
  dataset: 'urn:asset:one',
  rules: {
    permission: [
      {
        action: 'use',
        constraint: [{ leftOperand: 'urn:stekker:1:membership', operator: 'eq', rightOperand: broker }],
      },
    ],
  },
  assurance: 'cosigned',
  price: '',
};

const member: CredentialFacts = {
  credentials: ['urn:uuid:c'],
  validUntil: now + 1_000,
  memberships: [{ memberOf: broker, roles: ['application-runtime'] }],
  accreditations: [],
};

const rowIn = (role: 'provider' | 'consumer', state: string, rules = membersOnly.rules): NegotiationRow =>
  ({
    participant: 'main' as ParticipantId,
    pid: 'urn:uuid:own',
    peer,
    peerPid: 'urn:uuid:theirs',
    peerBase: 'https://peer.example/dsp/2025-1',
    process: { role, state, pending: null },
    outgoing: null,
    settledPeer: '',
    trace: '',
    data: newData({
      dataset: membersOnly.dataset,
      offerId: membersOnly.id,
      offer: writeOffer({ ...membersOnly, rules }),
      offerBy: 'consumer',
      offers: ['x'],
      assurance: 'cosigned',
      price: '',
    }),
    createdAt: now,
    updatedAt: now,
    version: 1,
  }) as NegotiationRow;

const decisionsFor = (
  proven: CredentialFacts | undefined,
  published: readonly PublishedOffer[] = [membersOnly],
  counterOffers: 'policy' | 'operator' = 'policy',
) =>
  createPolicyDecisions({
    offers: {
      find: async (_participant, _caller, _dataset, id) => published.find((offer) => offer.id === id),
      alternatives: async () => published,
    },
    facts: { of: async () => proven },
    clock: { now: () => now },
    counterOffers,
  });

const constraint = (leftOperand: string, operator: string, rightOperand: string) => ({
  leftOperand,
  operator,
  rightOperand,
});
const permit = (...constraints: ReturnType<typeof constraint>[]) => ({
  permission: [{ action: 'use', constraint: constraints }],
});
const membership = constraint('urn:stekker:1:membership', 'eq', broker);
const crisis = constraint('odrl:purpose', 'eq', 'urn:stekker:1:purpose:crisis');
const research = constraint('odrl:purpose', 'eq', 'urn:stekker:1:purpose:research');
const open = { permission: [{ action: 'use' }] };
const offerOf = (id: string, rules: PublishedOffer['rules'], more: Partial<PublishedOffer> = {}): PublishedOffer => ({
  ...membersOnly,
  id,
  rules,
  ...more,
});

/** The same row, with what changed in it. */
const withData = (row: NegotiationRow, data: Partial<NegotiationRow['data']>): NegotiationRow => ({
  ...row,
  data: { ...row.data, ...data },
});

describe('decisions by policy', () => {
  test('the provider agrees with a peer whom its policy permits', async () => {
    const decisions = decisionsFor(member);
    expect(await decisions.next(rowIn('provider', 'REQUESTED'))).toEqual({ do: 'agree' });
    expect(await decisions.next(rowIn('provider', 'VERIFIED'))).toEqual({ do: 'finalize' });
  });

  test('a peer that proved nothing is refused, with the rule in two languages', async () => {
    const decision = await decisionsFor(undefined).next(rowIn('provider', 'REQUESTED'));
    expect(decision).toMatchObject({ do: 'terminate', code: 'policy-denied' });
    expect(decision.do === 'terminate' && decision.reason.length).toBe(2);
  });

  test('an offer that was withdrawn is refused, when it is asked for and when it is accepted', async () => {
    for (const state of ['REQUESTED', 'ACCEPTED'])
      expect(await decisionsFor(member, []).next(rowIn('provider', state))).toMatchObject({
        do: 'terminate',
        code: 'offer-refused',
      });
  });

  test('the consumer verifies what was agreed, and leaves an offer that nobody asked for to a person', async () => {
    const decisions = decisionsFor(undefined);
    expect(await decisions.next(rowIn('consumer', 'AGREED'))).toEqual({ do: 'verify' });
    expect(await decisions.next(rowIn('consumer', 'OFFERED'))).toEqual({ do: 'wait' });
  });
});

describe('counter-offers by policy', () => {
  test('less than what is published is agreed to as it was asked', async () => {
    const asked = rowIn('provider', 'REQUESTED', permit(membership, crisis));
    expect(await decisionsFor(member).next(asked)).toEqual({ do: 'agree' });
  });

  test('for more than what is published, the provider offers what comes nearest, and says what it changed', async () => {
    const decision = await decisionsFor(member).next(rowIn('provider', 'REQUESTED', open));
    expect(decision).toEqual({
      do: 'offer',
      under: { offerId: membersOnly.id, price: '' },
      offer: {
        ...writeOffer(membersOnly),
        'urn:stekker:1:assurance': 'cosigned',
        'urn:stekker:1:terms': [
          `Added: you set no term for the membership; we require: equal to ${broker}.`,
          `Toegevoegd: u noemde geen eis voor het lidmaatschap; wij vragen: gelijk aan ${broker}.`,
        ],
      },
    });
  });

  test('another published offer is the counter-offer where it fits better, and never one of another assurance', async () => {
    const asked = rowIn('provider', 'REQUESTED', permit(membership, research));
    const other = offerOf('urn:offer:two', permit(membership, research), { price: 'plan' });
    const weaker = offerOf('urn:offer:weaker', open, { assurance: 'plain-dsp' });
    const first = offerOf(membersOnly.id, permit(membership, crisis));
    expect(await decisionsFor(member, [weaker, first, other]).next(asked)).toMatchObject({
      do: 'offer',
      under: { offerId: 'urn:offer:two', price: 'plan' },
    });
    expect(await decisionsFor(member, [weaker, first]).next(asked)).toMatchObject({
      do: 'terminate',
      code: 'offer-refused',
      reason: [expect.stringContaining('Refused: for the purpose you asked'), expect.any(String)],
    });
  });

  test('whom no offer permits gets no counter-offer', async () => {
    const decision = await decisionsFor(undefined).next(rowIn('provider', 'REQUESTED', open));
    expect(decision).toMatchObject({ do: 'terminate', code: 'policy-denied' });
  });

  test('after three counter-offers the provider ends it, with what stands between the two', async () => {
    const asked = rowIn('provider', 'REQUESTED', open);
    expect(await decisionsFor(member).next(withData(asked, { offers: ['a', 'b', 'c'] }))).toMatchObject({
      do: 'offer',
    });
    expect(await decisionsFor(member).next(withData(asked, { offers: ['a', 'b', 'c', 'd'] }))).toMatchObject({
      do: 'terminate',
      code: 'offer-refused',
      reason: [expect.stringContaining('Added'), expect.any(String)],
    });
  });

  test('an operator who answers alone is waited for, also with the offer that was accepted', async () => {
    const byHand = decisionsFor(member, [membersOnly], 'operator');
    expect(await byHand.next(rowIn('provider', 'REQUESTED', open))).toEqual({ do: 'wait' });
    expect(await byHand.next(rowIn('provider', 'REQUESTED'))).toEqual({ do: 'agree' });
    const accepted = rowIn('provider', 'ACCEPTED', open); // what a person offered is kept to
    expect(await byHand.next(withData(accepted, { offerBy: 'provider' }))).toEqual({ do: 'agree' });
  });

  test('an offer that was accepted is agreed to only for a peer whom it permits', async () => {
    expect(await decisionsFor(undefined).next(rowIn('provider', 'ACCEPTED'))).toMatchObject({
      do: 'terminate',
      code: 'policy-denied',
    });
  });
});

describe('answers within a mandate', () => {
  const mandate = { least: permit(crisis), prices: [] };
  const offered = (rules: PublishedOffer['rules'], data: Partial<NegotiationRow['data']> = {}) =>
    withData(rowIn('consumer', 'OFFERED', rules), { offerBy: 'provider', offers: ['a', 'b'], mandate, ...data });

  test('an offer inside it is accepted', async () => {
    expect(await decisionsFor(undefined).next(offered(open))).toEqual({ do: 'accept' });
    expect(await decisionsFor(undefined).next(offered(permit(crisis)))).toEqual({ do: 'accept' });
  });

  test('for one outside it the least is asked for, once; then it ends with the reasons', async () => {
    const decision = await decisionsFor(undefined).next(offered(permit(research)));
    expect(decision).toEqual({ do: 'request', offer: writeOffer({ ...membersOnly, rules: mandate.least }) });
    const again = await decisionsFor(undefined).next(offered(permit(research), { asked: ['x', 'y'] }));
    expect(again).toMatchObject({ do: 'terminate', code: 'offer-refused' });
    const same = digestOf(mandate.least);
    expect(await decisionsFor(undefined).next(offered(permit(research), { asked: [same] }))).toMatchObject({
      do: 'terminate',
      reason: [expect.stringContaining('does not permit what is needed'), expect.any(String)],
    });
  });

  test('another price than the owner allowed is not accepted', async () => {
    const obligation = [
      { action: 'odrl:compensate', constraint: [constraint('urn:stekker:1:pricePlan', 'eq', 'dear')] },
    ];
    const dear = { ...permit(crisis), obligation };
    expect(await decisionsFor(undefined).next(offered(dear, { asked: ['x', 'y'], price: 'dear' }))).toMatchObject({
      do: 'terminate',
      reason: [expect.stringContaining('price plan'), expect.any(String)],
    });
    const allowed = { least: permit(crisis), prices: ['dear'] };
    expect(await decisionsFor(undefined).next(offered(dear, { mandate: allowed, price: 'dear' }))).toEqual({
      do: 'accept',
    });
  });

  test('a person who answers alone is waited for', async () => {
    expect(await decisionsFor(undefined).next(offered(open, { mandate: 'operator' }))).toEqual({ do: 'wait' });
  });
});
