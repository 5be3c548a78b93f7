import { describe, expect, test } from 'vitest';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';
import { createPolicyDecisions } from './decisions.ts';
import type { NegotiationRow, PublishedOffer } from './ports.ts';
import { newData } from './process.ts';
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

const decisionsFor = (proven: CredentialFacts | undefined, offer: PublishedOffer | undefined = membersOnly) =>
  createPolicyDecisions({
    offers: { find: async () => offer },
    facts: { of: async () => proven },
    clock: { now: () => now },
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

  test('rules other than those published are refused, and so is an offer that was withdrawn', async () => {
    const other = rowIn('provider', 'REQUESTED', { permission: [{ action: 'use' }] });
    expect(await decisionsFor(member).next(other)).toMatchObject({ do: 'terminate', code: 'offer-refused' });
    const gone = createPolicyDecisions({
      offers: { find: async () => undefined },
      facts: { of: async () => member },
      clock: { now: () => now },
    });
    expect(await gone.next(rowIn('provider', 'REQUESTED'))).toMatchObject({ do: 'terminate', code: 'offer-refused' });
  });

  test('the consumer verifies what it asked for, and waits for a person on an offer it did not ask for', async () => {
    const decisions = decisionsFor(undefined);
    expect(await decisions.next(rowIn('consumer', 'AGREED'))).toEqual({ do: 'verify' });
    expect(await decisions.next(rowIn('consumer', 'OFFERED'))).toEqual({ do: 'wait' });
  });
});
