import { z } from 'zod';
import { credentialsContext } from './credential.ts';

/** Presentations of the profile `vc20-bssl/jwt` (dcp §8): Verifiable Presentations 2.0 whose credentials are enveloped JWTs. */

/** At most this many credentials are looked at in one exchange (credentials §4 row 8). */
export const maxPresented = 8;

const envelope = 'data:application/vc+jwt,';

const typed = (name: string) =>
  z.union([z.literal(name), z.array(z.string().max(200)).max(8)]).refine((type) => [type].flat().includes(name), {
    message: `is no ${name}`,
  });

const envelopedCredential = z.looseObject({
  id: z.string().max(65_536).startsWith(envelope),
  type: typed('EnvelopedVerifiableCredential'),
});

/** The claims of a presentation beside those of the JWT. Anything but enveloped JWTs would be a mixed set, and is none. */
export const verifiablePresentation = z.looseObject({
  '@context': z
    .array(z.string().max(200))
    .min(1)
    .max(8)
    .refine(([first]) => first === credentialsContext, {
      message: `must begin with ${credentialsContext}`,
    }),
  type: typed('VerifiablePresentation'),
  holder: z.string().max(512).optional(),
  verifiableCredential: z.array(envelopedCredential).min(1).max(maxPresented),
});

/** The JWTs inside a presentation. */
export const presentedJwts = (presentation: z.infer<typeof verifiablePresentation>): string[] =>
  presentation.verifiableCredential.map(({ id }) => id.slice(envelope.length));

/** A presentation of these JWTs by their holder; it still has to be signed. */
export const buildPresentation = (holder: string, jwts: readonly string[]) => ({
  '@context': [credentialsContext],
  type: ['VerifiablePresentation'],
  holder,
  verifiableCredential: jwts.map((jwt) => ({
    '@context': credentialsContext,
    id: `${envelope}${jwt}`,
    type: 'EnvelopedVerifiableCredential',
  })),
});
