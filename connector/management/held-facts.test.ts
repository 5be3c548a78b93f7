import { describe, expect, test } from 'vitest';
import type { Did } from '../../contracts/ids.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';
import { heldFacts } from './held-facts.pure.ts';

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
