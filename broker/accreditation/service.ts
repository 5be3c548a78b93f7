import { dcpMessage } from '../../contracts/dcp/messages.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { CredentialSubject } from '../../contracts/vc/credential.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import { type Random, uuidV7 } from '../../kernel/random.ts';
import type { TaskHandler } from '../../kernel/sql/outbox.ts';
import type { Accreditation, AccreditationStore, OfferToHolder } from './ports.ts';

/** Accreditations (wire §8): the accreditor decides, offers, and the holder asks for the credential when it wants it. */

export interface AccreditationOptions {
  readonly accreditor: Did;
  readonly store: AccreditationStore;
  readonly offer: OfferToHolder;
  /** The credential object that an offer names. */
  readonly describe: (id: string) => Json;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  /** Called when there is an offer to send. */
  readonly wake: () => void;
}

export interface AccreditationRequest
  extends Pick<Accreditation, 'holder' | 'application' | 'purposes' | 'criteria' | 'level'> {
  /** Chosen by who asks, so that a repeat is the same decision; made here when it is left out. */
  readonly id?: string;
  readonly validDays: number;
}

export interface Accreditations {
  /** Decides, and offers the credential. @throws AppError `version-conflict` when the id was used for another decision. */
  readonly decide: (request: AccreditationRequest) => Promise<Accreditation>;
  readonly page: (page: { readonly after: string; readonly limit: number }) => Promise<readonly Accreditation[]>;
  /** Decisions in force for a holder. */
  readonly inForce: (holder: Did) => Promise<readonly Accreditation[]>;
  /** One of them, by the id that its offer named. */
  readonly ofOffer: (holder: Did, id: string) => Promise<Accreditation | undefined>;
  readonly offerHandler: TaskHandler;
}

const dayMs = 86_400_000;
/** An offer is a hint (dcp §5.3): after this many attempts the holder asks by itself, or not at all. */
const maxAttempts = 20;

/** The subject of the credential for a decision. */
export const subjectOf = (its: Accreditation): CredentialSubject => ({
  id: its.holder,
  application: { ...its.application },
  purposes: [...its.purposes],
  criteria: { ...its.criteria },
  accreditor: its.accreditor,
  ...(its.level === null ? {} : { level: its.level }),
});

export const createAccreditations = (options: AccreditationOptions): Accreditations => {
  const { accreditor, store, clock, random, log } = options;

  const inForce = async (holder: Did) =>
    (await store.ofHolder(accreditor, holder)).filter(({ validUntil }) => validUntil > clock.now());

  const offerHandler: TaskHandler = async ({ subject, attempts }) => {
    const found = await store.find(accreditor, subject);
    if (found === undefined || found.validUntil <= clock.now()) return 'done';
    const message = dcpMessage('CredentialOfferMessage', {
      issuer: accreditor,
      credentials: [options.describe(found.id)],
    });
    const delivery = await options.offer(found.holder, message);
    if (delivery === 'accepted') return 'done';
    if (attempts + 1 < maxAttempts) return 'later';
    log.warn({ accreditation: found.id, holder: found.holder, delivery }, 'an offer could not be delivered');
    return 'done';
  };

  return {
    offerHandler,
    inForce,
    decide: async ({ id, validDays, ...decided }) => {
      const now = clock.now();
      const accreditation: Accreditation = {
        ...decided,
        accreditor,
        id: id ?? `urn:uuid:${uuidV7(now, random)}`,
        decidedAt: now,
        validUntil: now + validDays * dayMs,
      };
      const saved = await store.decide(accreditation);
      if (saved === 'conflict')
        throw new AppError('version-conflict', { detail: `${accreditation.id} is another accreditation` });
      options.wake();
      const kept = saved === 'known' ? await store.find(accreditor, accreditation.id) : accreditation;
      return kept ?? accreditation;
    },
    page: (page) => store.page(accreditor, page),
    ofOffer: async (holder, id) => {
      const found = await store.find(accreditor, id);
      return found?.holder === holder && found.validUntil > clock.now() ? found : undefined;
    },
  };
};
