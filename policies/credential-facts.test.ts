import { describe, expect, test } from 'vitest';
import type { CredentialFacts } from '../contracts/vc/credential.ts';
import { compilePolicy } from './compile.ts';
import { credentialFacts } from './credential-facts.ts';
import { decide } from './evaluate.ts';

const broker = 'did:web:broker.example';
const nothing: CredentialFacts = { credentials: [], memberships: [], accreditations: [], validUntil: 0 };

describe('facts from credentials', () => {
  test('roles of all memberships count, each once', () => {
    const memberships = [
      { memberOf: broker, roles: ['holder', 'user'] },
      { memberOf: 'did:web:other.example', roles: ['user'] },
    ];
    expect(credentialFacts({ ...nothing, memberships })).toEqual({
      membership: [broker, 'did:web:other.example'],
      role: ['holder', 'user'],
    });
  });

  test('what is not proven stays unknown, so that no negative condition lets it through', () => {
    for (const proven of [undefined, nothing]) expect(credentialFacts(proven, 'urn:app@1')).toEqual({});
    const constraint = [{ leftOperand: 'urn:stekker:1:membership', operator: 'neq', rightOperand: broker }];
    const compiled = compilePolicy({ permission: [{ action: 'use', constraint }] }, 'access');
    if (!compiled.ok) throw new Error('the policy of the test cannot be compiled');
    expect(decide(compiled.policy, credentialFacts(nothing))).toBe(false);
    const memberships = [{ memberOf: 'did:web:other.example', roles: [] }];
    expect(decide(compiled.policy, credentialFacts({ ...nothing, memberships }))).toBe(true);
  });
});
