import type { IssuanceRequest, IssuedCredential } from '../../broker/credentials/ports.ts';
import type { Did } from '../../contracts/ids.ts';
import { membershipOf, start } from './identities.ts';

/** Rows of an issuer, for tests that need no signatures. */

export const issuer = 'did:web:broker.example' as Did;
export const holder = 'did:web:holder.example' as Did;

export const requestOf = (id: string, changes: Partial<IssuanceRequest> = {}): IssuanceRequest => ({
  issuer,
  id,
  holder,
  holderPid: 'pid',
  objects: ['urn:uuid:membership'],
  token: 'sealed',
  state: 'RECEIVED',
  decision: null,
  createdAt: start,
  settledAt: null,
  ...changes,
});

/** A credential whose place in both lists is its number. */
export const issuedOf = (number: number, changes: Partial<IssuedCredential> = {}): IssuedCredential => {
  const id = `urn:uuid:0198c6a0-0000-7000-8000-${String(number).padStart(12, '0')}`;
  return {
    issuer,
    id,
    grant: 'membership',
    holder,
    type: 'MembershipCredential',
    credential: membershipOf({ issuer, subject: holder, id, list: 'https://broker.example/status/1', index: number }),
    jwt: `jwt ${number}`,
    dataIntegrity: { id },
    places: { revocation: { list: 1, index: number }, suspension: { list: 1, index: number } },
    issuedAt: start + number,
    validUntil: start + 86_400_000,
    standing: 'active',
    standingAt: start + number,
    version: 1,
    ...changes,
  };
};
