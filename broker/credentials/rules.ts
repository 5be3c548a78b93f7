import type { StandingChange } from '../../contracts/events.ts';
import { canonicalize, type Json } from '../../contracts/json.ts';
import type { CredentialSubject } from '../../contracts/vc/credential.ts';
import type { Grant, IssuedCredential, Standing } from './ports.ts';

/** What is issued, and how the standing of what was issued changes (dcp §6, wire §7). Pure. */

/** What a grant comes to at this moment. */
export type Verdict =
  | { readonly kind: 'issue' }
  /** A credential that says the same and lasts long enough is there: it is delivered again. */
  | { readonly kind: 'again'; readonly id: string }
  | { readonly kind: 'refuse'; readonly reason: string };

/** A member that is absent is left out, so a subject is plain JSON. */
const textOf = (subject: CredentialSubject): string => canonicalize(subject as unknown as Json);

const saysTheSame = (one: IssuedCredential, grant: Grant): boolean =>
  one.type === grant.type && textOf(one.credential.credentialSubject) === textOf(grant.subject);

/**
 * A request brings nothing back: while a credential of the same grant is suspended, or was revoked after the grant was last
 * decided, there is no new one. Otherwise whoever was revoked would simply ask again.
 */
export const decideGrant = (grant: Grant, issued: readonly IssuedCredential[], now: number): Verdict => {
  if (grant.validUntil <= now) return { kind: 'refuse', reason: 'the decision has run out' };
  const stops = issued.find(
    ({ standing, standingAt }) => standing === 'suspended' || (standing === 'revoked' && standingAt > grant.since),
  );
  if (stops !== undefined) return { kind: 'refuse', reason: `${stops.id} is ${stops.standing}` };
  const half = now + (grant.validUntil - now) / 2;
  const good = issued.find((one) => one.standing === 'active' && one.validUntil >= half && saysTheSame(one, grant));
  return good === undefined ? { kind: 'issue' } : { kind: 'again', id: good.id };
};

/** The standing after a change; `same` when it is so already, `final` when nothing changes it any more. */
export const standingAfter = (standing: Standing, change: StandingChange): Standing | 'same' | 'final' => {
  switch (change) {
    case 'revoked':
      return standing === 'revoked' ? 'same' : 'revoked';
    case 'suspended':
      if (standing === 'revoked') return 'final';
      return standing === 'suspended' ? 'same' : 'suspended';
    case 'reinstated':
      if (standing === 'revoked') return 'final';
      return standing === 'active' ? 'same' : 'active';
  }
};

/** Places that are given away in one list: half, so that a random free index is found at once. */
export const maxUsedPlaces = 65_536;

/** How long a list may be relied on (credentials §7): one that is older fails closed at the verifier. */
export const listLifetimeMs = { revocation: 24 * 3_600_000, suspension: 15 * 60_000 } as const;

/** How long others may keep a list without asking, in seconds; always less than the life a served list has left. */
export const listMaxAgeSeconds = { revocation: 300, suspension: 60 } as const;

/** A list is signed again when half of its life is over. */
export const isListFresh = (signedAt: number, lifetimeMs: number, now: number): boolean =>
  signedAt <= now && now < signedAt + lifetimeMs / 2;

/** Attempts to deliver to a holder that answers and refuses; one that does not answer gets a day. */
export const maxRefusals = 12;
export const maxWaitMs = 86_400_000;

/** Whether a delivery is given up. */
export const isGivenUp = (
  delivery: 'refused' | 'unreachable',
  its: { readonly attempts: number; readonly createdAt: number; readonly now: number },
): boolean => (delivery === 'refused' && its.attempts + 1 >= maxRefusals) || its.now >= its.createdAt + maxWaitMs;
