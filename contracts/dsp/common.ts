import { z } from 'zod';
import { hasRules, ruleLists } from '../odrl/policy.ts';
import { parsePeerTime } from '../time.ts';

/** What all messages of the Dataspace Protocol 2025-1 share (dsp §2). Tolerant in reading, strict in writing. */

export const protocolVersion = '2025-1';
export const dspaceContext = 'https://w3id.org/dspace/2025/1/context.jsonld';
/** Behind `<root>`; with it the `<base>` of every path. */
export const protocolPath = '/dsp/2025-1';

/** An array of strings that names our context; others beside it are ignored and never fetched. */
const context = z
  .array(z.string())
  .refine((contexts) => contexts.includes(dspaceContext), { message: `must be a list that names ${dspaceContext}` });

/** A process id, chosen by one side; any short string of a peer is accepted. */
export const pid = z.string().min(1).max(256);

/** The frame of a message of this type: known members as given, unknown ones kept and ignored. */
export const message = <Type extends string, Shape extends z.ZodRawShape>(type: Type, shape: Shape) =>
  z.looseObject({ '@context': context, '@type': z.literal(type), '@id': z.string().max(256).optional(), ...shape });

/** An absolute http(s) address of a peer; whether it may be called is another question. */
export const address = z
  .string()
  .max(2048)
  .refine((text) => {
    try {
      const { protocol } = new URL(text);
      return protocol === 'https:' || protocol === 'http:';
    } catch {
      return false;
    }
  }, 'is no http address');

/** RFC 3339 with 0 to 9 fraction digits and any offset. */
export const timestamp = z.string().refine((text) => parsePeerTime(text) !== undefined, 'is no time of RFC 3339');

/** Opaque to us: a code of the peer's own list. */
export const code = z.string().max(256);
/** Reasons may be of any form; ours are sentences. */
export const reason = z.array(z.json()).max(100);

/** The offer of a message: with the dataset as `target`, and rules (dsp §10.3, §10.4). */
export const messageOffer = z
  .looseObject({
    '@type': z.literal('Offer'),
    '@id': z.string().min(1).max(2048),
    target: z.string().min(1).max(2048),
    assigner: z.string().max(2048).optional(),
    assignee: z.string().max(2048).optional(),
    ...ruleLists,
  })
  .refine(hasRules, { message: 'needs a permission or a prohibition' });
export type MessageOffer = z.infer<typeof messageOffer>;

/** The agreement of a ContractAgreementMessage; `timestamp` is required by prose (dsp §10.6). */
export const messageAgreement = z
  .looseObject({
    '@type': z.literal('Agreement'),
    '@id': z.string().min(1).max(2048),
    target: z.string().min(1).max(2048),
    assigner: z.string().min(1).max(2048),
    assignee: z.string().min(1).max(2048),
    timestamp,
    ...ruleLists,
  })
  .refine(hasRules, { message: 'needs a permission or a prohibition' });
export type MessageAgreement = z.infer<typeof messageAgreement>;

/** Strips trailing slashes, so that joining with a path gives no double ones. */
export const withoutSlash = (base: string): string => base.replace(/\/+$/, '');
