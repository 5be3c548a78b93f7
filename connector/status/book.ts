import type { Did } from '../../contracts/ids.ts';
import { supersedes } from '../../contracts/standing.ts';
import type { Notice } from './ports.ts';

/** What is known of standing, in memory: asked on every request, so a look-up for each subject and nothing more. */

export interface Book {
  /** Whether this notice changes what is known. */
  readonly isNews: (notice: Notice) => boolean;
  readonly put: (notice: Notice) => void;
  readonly remove: (notice: Notice) => void;
  /** Revoked or ended; or suspended, and its notice date has come. */
  readonly isOut: (subject: string, now: number) => boolean;
  /** Revoked, or suspended whatever its date: nothing new is begun with it. */
  readonly isSuspended: (subject: string) => boolean;
  readonly held: () => readonly Notice[];
  readonly all: () => readonly Notice[];
  /** Notice dates of suspensions that lie between two moments. */
  readonly hasFallenDue: (after: number, until: number) => boolean;
}

/** A held word never takes the place of another: two that nobody could verify must not undo each other. */
const keyOf = ({ issuer, isHeld, type }: Notice): string => (isHeld ? `${issuer} ${type}` : issuer);

const isStop = ({ type }: Notice): boolean => type === 'revoked' || type === 'agreement-ended';

/**
 * `issuerOf` says who issued a credential, where that is known: somebody else's notice about it then counts for nothing.
 */
export const createBook = (notices: readonly Notice[], issuerOf: (subject: string) => Did | undefined): Book => {
  const bySubject = new Map<string, Map<string, Notice>>();
  const suspended = new Set<Notice>();
  const held = new Set<Notice>();

  const remove = (notice: Notice): void => {
    const all = bySubject.get(notice.subject);
    const known = all?.get(keyOf(notice));
    if (all === undefined || known === undefined) return;
    all.delete(keyOf(notice));
    suspended.delete(known);
    held.delete(known);
    if (all.size === 0) bySubject.delete(notice.subject);
  };
  const put = (notice: Notice): void => {
    remove(notice);
    const all = bySubject.get(notice.subject) ?? new Map<string, Notice>();
    bySubject.set(notice.subject, all.set(keyOf(notice), notice));
    if (notice.type === 'suspended') suspended.add(notice);
    if (notice.isHeld) held.add(notice);
  };
  for (const notice of notices) put(notice);

  const some = (subject: string, holds: (notice: Notice) => boolean): boolean => {
    const all = bySubject.get(subject);
    if (all === undefined) return false;
    const owner = issuerOf(subject);
    for (const notice of all.values()) if ((owner ?? notice.issuer) === notice.issuer && holds(notice)) return true;
    return false;
  };
  return {
    isNews: (notice) => {
      const all = bySubject.get(notice.subject);
      return supersedes(all?.get(notice.issuer), notice) && supersedes(all?.get(keyOf(notice)), notice);
    },
    put,
    remove,
    isOut: (subject, now) =>
      some(subject, (notice) => isStop(notice) || (notice.type === 'suspended' && notice.effectiveAt <= now)),
    isSuspended: (subject) => some(subject, (notice) => isStop(notice) || notice.type === 'suspended'),
    held: () => [...held],
    all: () => [...bySubject.values()].flatMap((notices) => [...notices.values()]),
    hasFallenDue: (after, until) => {
      for (const { effectiveAt } of suspended) if (effectiveAt > after && effectiveAt <= until) return true;
      return false;
    },
  };
};
