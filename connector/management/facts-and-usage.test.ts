import { describe, expect, test } from 'vitest';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';
import { heldFacts } from './held-facts.pure.ts';
import { createUsageLines, type MeteredAgreement } from './usage-lines.pure.ts';

const us = 'us' as ParticipantId;
const self = 'did:web:us.example' as Did;

describe('what our own credentials prove', () => {
  const held: CredentialFacts = {
    credentials: ['a', 'b'],
    validUntil: 1,
    memberships: [{ memberOf: 'did:web:broker.example', roles: ['provider', 'consumer'] }],
    accreditations: [
      {
        application: { id: 'urn:app', version: '1.0.0', digest: 'd' },
        purposes: ['urn:crisis'],
        accreditor: 'did:web:a.example',
        level: undefined,
      },
    ],
  };

  test('membership and roles at once, an accreditation and a version only for exactly what was accredited', () => {
    const member = { recipient: self, membership: ['did:web:broker.example'], role: ['provider', 'consumer'] };
    expect(heldFacts(self, held, undefined)).toEqual(member);
    expect(heldFacts(self, held, 'urn:app@1.0.0')).toEqual({
      ...member,
      applicationVersion: 'urn:app@1.0.0',
      accreditedFor: ['urn:crisis'],
    });
    expect(heldFacts(self, held, 'urn:app@1.0.1')).toEqual({
      ...member,
      accreditedFor: [],
    });
    const nothing = { ...held, memberships: [], accreditations: [] };
    expect(heldFacts(self, nothing, undefined)).toEqual({ recipient: self, membership: [], role: [] });
  });
});

describe('usage as people read it', () => {
  const group = (application: string, purpose: string) => ({
    application,
    purpose,
    accesses: 2,
    bytes: 10,
    units: { requests: '2' },
    amount: { currency: 'EUR', scale: '2', value: '50' },
  });
  const metered: readonly MeteredAgreement[] = [
    {
      role: 'provider',
      agreement: 'B',
      agreementId: 'urn:b',
      counterparty: 'did:web:c.example',
      groups: [group('y', 'p'), group('x', 'q'), group('x', 'p')],
    },
    {
      role: 'consumer',
      agreement: 'A',
      agreementId: 'urn:a',
      counterparty: 'did:web:d.example',
      groups: [group('z', '')],
    },
  ];
  const usage = createUsageLines({
    metered: async () => metered,
    datasetOf: async (_participant, id) => (id === 'urn:b' ? 'urn:rain' : undefined),
  });

  test('a line for each application and purpose, in an order that pages can follow', async () => {
    const seen: string[] = [];
    let after = '';
    for (;;) {
      const page = await usage.lines(us, { after, limit: 2 });
      seen.push(...page.map(({ role, application, purpose }) => `${role} ${application} ${purpose}`));
      const last = page.at(-1);
      if (last === undefined) break;
      after = last.key;
    }
    expect(seen).toEqual(['consumer z ', 'provider x p', 'provider x q', 'provider y p']);
  });

  test('with whom, about what and for how much', async () => {
    const [line] = await usage.lines(us, { after: '', limit: 1, agreementId: 'urn:b' });
    expect(line).toMatchObject({
      peer: 'did:web:c.example',
      dataset: 'urn:rain',
      agreementDigest: 'B',
      amount: '50',
      currency: 'EUR',
      units: { requests: '2' },
    });
    expect((await usage.lines(us, { after: '', limit: 9, agreementId: 'urn:a' }))[0]?.dataset).toBe('');
    expect(await usage.lines(us, { after: '', limit: 9, agreementId: 'urn:none' })).toEqual([]);
  });
});
