import type { Crypto } from '../../contracts/crypto.ts';
import { didOfKid } from '../../contracts/ids.ts';
import { agreementDigestOf, readAgreementArtifact, readAgreementEvent } from '../../contracts/ledger/agreement.ts';
import { type Checked, good } from '../../contracts/ledger/forms.ts';
import { readStatementArtifact } from '../../contracts/ledger/statement.ts';
import type { Registration, RegistrationKind } from './ports.ts';

/** What an artifact is about, what must stand in the log before it, and what an answer of the log means. */

type Subject = Pick<Registration, 'kind' | 'agreementDigest' | 'subject'>;

export interface Described extends Subject {
  /** The signed text. */
  readonly payload: string;
  /** `b64u H(SPKI)` of the one key that may stand in its entry. */
  readonly leafKey: string;
}

/** Reads an artifact of this kind; signatures are not looked at. */
export const describeArtifact = (
  crypto: Pick<Crypto, 'sha256'>,
  kind: RegistrationKind,
  artifact: unknown,
): Checked<Described> => {
  switch (kind) {
    case 'agreement': {
      const read = readAgreementArtifact(artifact);
      if (!read.ok) return read;
      const { payload, value } = read.value;
      const agreementDigest = agreementDigestOf(crypto, payload);
      return good({ kind, agreementDigest, subject: '', payload, leafKey: value.leafKey });
    }
    case 'agreement-event': {
      const read = readAgreementEvent(artifact);
      if (!read.ok) return read;
      const { payload, value, signatures } = read.value;
      const { agreementDigest, event, leafKey } = value;
      const subject = [event, ...signatures.map(({ kid }) => didOfKid(kid))].join(' ');
      return good({ kind, agreementDigest, subject, payload, leafKey });
    }
    case 'usage-statement': {
      const read = readStatementArtifact(artifact);
      if (!read.ok) return read;
      const { payload, value } = read.value;
      const { agreementDigest, seq, leafKey } = value;
      return good({ kind, agreementDigest, subject: seq, payload, leafKey });
    }
  }
};

const agreementOf = ({ agreementDigest }: Subject): Subject => ({ kind: 'agreement', agreementDigest, subject: '' });

/**
 * What the log must have before this one: it refuses a statement without its agreement or out of order, and an end of an
 * agreement that it does not know. A `void` stands alone.
 */
export const mustComeBefore = (subject: Subject): readonly Subject[] => {
  switch (subject.kind) {
    case 'agreement':
      return [];
    case 'agreement-event':
      return subject.subject.startsWith('void') ? [] : [agreementOf(subject)];
    case 'usage-statement': {
      const before = BigInt(subject.subject) - 1n;
      const previous: Subject = { ...subject, subject: String(before) };
      return before === 0n ? [agreementOf(subject)] : [agreementOf(subject), previous];
    }
  }
};

/** The one that may have waited for this one: the next statement. Others come by themselves. */
export const mayFollow = (subject: Subject): Subject | undefined => {
  const { agreementDigest, kind } = subject;
  if (kind === 'agreement-event') return undefined;
  const seq = kind === 'agreement' ? '1' : String(BigInt(subject.subject) + 1n);
  return { kind: 'usage-statement', agreementDigest, subject: seq };
};

/** Whether what the log has is what we brought: the same text, or for an event the same event by the same signers. */
export const isSameSubject = (ours: Described, registered: Described): boolean =>
  ours.agreementDigest === registered.agreementDigest &&
  ours.subject === registered.subject &&
  (ours.kind === 'agreement-event' || ours.payload === registered.payload);

/**
 * What a status of the log means for a submission. 401 may pass: the log fetches our DID document, and clocks differ. Other
 * refusals are final.
 */
export const meaningOf = (status: number): 'registered' | 'duplicate' | 'refused' | 'later' => {
  if (status === 201) return 'registered';
  if (status === 200) return 'duplicate';
  const mayPass = status < 400 || status >= 500 || [401, 404, 408, 425, 429].includes(status);
  return mayPass ? 'later' : 'refused';
};

/** Tries without an answer after which an operator should look: about five minutes, and then each hour. */
export const isLate = (attempts: number): boolean => attempts === 14 || (attempts > 14 && (attempts - 14) % 60 === 0);

/** A promise that no checkpoint covers for so long is a lie, or the log has stopped. */
export const uncoveredAfterMs = 600_000;
