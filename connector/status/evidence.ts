import { type BrokerEvent, readStandingNotice, type StandingNotice, standingChanges } from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import { isAssertionOf } from '../../kernel/assertions.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { DidResolver } from '../../kernel/did.ts';
import type { Notice } from './ports.ts';
import { faultOfEvidence, msOf } from './rules.ts';

/** Whether an event is what its issuer said (wire §7): the broker carries the word and cannot make it. */

export type Proof =
  | { readonly do: 'believe' | 'hold'; readonly notice: Notice }
  /** `isForged` tells a lie from a word about something that does not concern us. */
  | { readonly do: 'drop'; readonly why: string; readonly isForged: boolean };

export interface EvidenceOptions {
  readonly broker: Did;
  /** Accreditors whose word counts here. */
  readonly accreditors: readonly Did[];
  /** Who issued a credential, where that is known here. */
  readonly issuerOf: (subject: string) => Did | undefined;
  readonly resolver: DidResolver;
  readonly clock: Clock;
  /** Whether a word would change what is known; one that would not is not verified again. */
  readonly isNews: (notice: Notice) => boolean;
}

/** Nobody waits longer for an issuer's document before its word is held: one slow host must not stop the stream. */
const patienceMs = 500;
/** Then its other words are held at once for a while. */
const slowForMs = 5_000;

type Event = Omit<BrokerEvent, 'n'>;

const forged = (why: string): Proof => ({ do: 'drop', why, isForged: true });

const isStandingChange = (type: string): type is Notice['type'] =>
  type === 'agreement-ended' || standingChanges.some((one) => one === type);

/** Checks evidence; `isPatient` waits for the issuer's document as long as the resolver does. */
export type CheckEvidence = (event: Event, isPatient: boolean) => Promise<Proof | undefined>;

/** Builds the check; it gives undefined for events that carry no standing. */
export const createEvidenceCheck = (options: EvidenceOptions): CheckEvidence => {
  const { broker, accreditors, issuerOf, resolver, clock, isNews } = options;
  const slowUntil = new Map<Did, number>();

  const isSigned = async (event: Event, issuer: Did): Promise<boolean | undefined> => {
    if ((await resolver.resolve(issuer)) === undefined) return undefined;
    return isAssertionOf(resolver, event.evidence, { index: 0, did: issuer, typ: 'stekker-event+jws' });
  };
  const withPatience = async (event: Event, issuer: Did): Promise<boolean | undefined> => {
    if ((slowUntil.get(issuer) ?? 0) > clock.now()) return undefined;
    const waited = new AbortController();
    const found = await Promise.race([isSigned(event, issuer), clock.sleep(patienceMs, waited.signal)]);
    waited.abort();
    if (found === undefined) slowUntil.set(issuer, clock.now() + slowForMs);
    return found ?? undefined;
  };
  /** Where the broker speaks for itself: of an agreement in its log, of what it issued. */
  const ownWord = (event: Event, type: Notice['type']): Proof => {
    const owner = type === 'agreement-ended' ? undefined : issuerOf(event.subject);
    if (owner !== undefined && owner !== broker) return forged('the broker speaks about a credential of somebody else');
    return { do: 'believe', notice: noticeOf(event, { type, issuer: broker, at: msOf(event.at) }) };
  };

  /** The issuer's word, before its signature is looked at. */
  const readEvidence = (event: Event): StandingNotice | Proof => {
    const read = readStandingNotice(event.evidence);
    if (!read.ok) return forged(`the evidence ${read.reason}`);
    const { value, signatures } = read.value;
    if (signatures.length !== 1) return forged('the evidence has more than one signature');
    const fault = faultOfEvidence(event, value, { broker, owner: issuerOf(event.subject) });
    if (fault !== undefined) return forged(fault);
    const counts = value.issuer === broker || accreditors.some((one) => one === value.issuer);
    return counts ? value : { do: 'drop', why: 'the issuer counts for nothing here', isForged: false };
  };

  return async (event, isPatient) => {
    const { type, evidence } = event;
    if (!isStandingChange(type)) return undefined;
    if (type === 'agreement-ended' || evidence === null) return ownWord(event, type);
    const said = readEvidence(event);
    if ('do' in said) return said;
    const issuer = said.issuer as Did;
    const notice = noticeOf(event, { type, issuer, at: msOf(said.at) });
    if (!isNews(notice)) return { do: 'drop', why: 'it changes nothing', isForged: false };
    const found = isPatient ? await isSigned(event, issuer) : await withPatience(event, issuer);
    if (found === undefined) return { do: 'hold', notice: { ...notice, isHeld: true } };
    return found ? { do: 'believe', notice } : forged('the evidence is not signed by a key of its issuer');
  };
};

const noticeOf = (event: Event, said: Pick<Notice, 'type' | 'issuer' | 'at'>): Notice => ({
  ...said,
  subject: event.subject,
  effectiveAt: msOf(event.effectiveAt),
  evidence: event.evidence,
  isHeld: false,
});
