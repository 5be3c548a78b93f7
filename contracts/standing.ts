import type { StandingChange, StandingNotice } from './events.ts';
import { isDid } from './ids.ts';

/** Whose word about a credential counts, and which word is the last (wire §7). Broker and connector judge alike. */

/** `unknown`: the id alone does not say who issued it. */
export type Ownership = 'own' | 'foreign' | 'unknown';

/** `host[:port][/path]` of a did:web; undefined for another DID. */
const placeOf = (did: string): string | undefined => {
  const parts = /^did:web:([^:]+)((?::[^:]+)*)$/.exec(did);
  return parts === null ? undefined : `${parts[1]?.replace('%3A', ':')}${parts[2]?.replaceAll(':', '/')}`;
};

const ownershipOfUrl = (issuer: string, subject: string): Ownership => {
  const place = placeOf(issuer);
  const rest = subject.replace(/^https?:\/\//, '');
  return place !== undefined && rest.startsWith(`${place}/`) ? 'own' : 'foreign';
};

/**
 * Whether a subject is one of this issuer's own, as far as its id tells: a participant is the registrar's, the broker's, to
 * speak about; an address or DID URL belongs to its host; a bare UUID says nothing.
 */
export const ownershipOf = (issuer: string, subject: string, registrar: string): Ownership => {
  if (isDid(subject)) return issuer === registrar ? 'own' : 'foreign';
  if (subject.startsWith('did:')) return subject.startsWith(`${issuer}#`) ? 'own' : 'foreign';
  return /^https?:\/\//.test(subject) ? ownershipOfUrl(issuer, subject) : 'unknown';
};

/** The part of a notice that decides about the order of notices: `at` in milliseconds, by the issuer's clock. */
export interface DatedChange {
  readonly type: StandingChange | 'agreement-ended';
  readonly at: number;
}

const isFinal = ({ type }: DatedChange): boolean => type === 'revoked' || type === 'agreement-ended';

/**
 * Whether `next` changes what `known` said about the same subject: a revocation is final, and an older word that comes
 * late, or once more, changes nothing.
 */
export const supersedes = (known: DatedChange | undefined, next: DatedChange): boolean =>
  known === undefined || (!isFinal(known) && (isFinal(next) || next.at > known.at));

/** Whether an event says what the notice in it says. */
export const saysTheSame = (
  event: { readonly type: string; readonly subject: string; readonly effectiveAt: string },
  notice: StandingNotice,
): boolean =>
  event.type === notice.type && event.subject === notice.subject && event.effectiveAt === notice.effectiveAt;
