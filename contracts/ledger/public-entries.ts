import { z } from 'zod';
import { utf8 } from '../bytes.ts';
import { canonicalize, isJsonObject } from '../json.ts';
import {
  bad,
  type Checked,
  did,
  good,
  hash32,
  name,
  p256Base64,
  positiveDecimal,
  readCanonical,
  spkiBase64,
  time,
  version,
} from './forms.ts';
import { type JwsSignature, jwsText, readJws } from './jws.ts';

/**
 * Artifacts that everybody may read (ledger §4): genesis, later policies, key events and the entries that make them take
 * effect. They are unsalted, served at `artifact/<hex H(A)>`, and their entries are signed by the registry key.
 */

export const genesis = z.strictObject({
  v: version,
  type: z.literal('genesis'),
  origin: name,
  registryKey: p256Base64,
  logKey: z.string().min(1).max(1024),
  policy: z.string().min(1).max(65_536),
  previous: z.union([z.string().max(65_536), z.null()]),
  at: time,
});
export type Genesis = z.infer<typeof genesis>;

export const policyChange = z.strictObject({
  v: version,
  type: z.literal('policy'),
  policy: z.string().min(1).max(65_536),
  at: time,
});

export const keyEffective = z.strictObject({ v: version, type: z.literal('key-effective'), event: hash32, at: time });
export type KeyEffective = z.infer<typeof keyEffective>;

const uses = ['assertionMethod', 'authentication', 'capabilityInvocation', 'keyAgreement'] as const;

export const keyEvent = z
  .strictObject({
    v: version,
    type: z.literal('key-event'),
    did,
    event: z.enum(['introduce', 'end', 'compromise', 'recover']),
    seq: positiveDecimal,
    prev: z.union([hash32, z.null()], { error: 'is neither a hash nor null' }),
    document: z.union([z.string().max(16_384), z.null()], { error: 'is longer than 16 KiB' }),
    keys: z
      .array(z.strictObject({ kid: z.string().min(1).max(512), use: z.array(z.enum(uses)).min(1), spki: spkiBase64 }))
      .min(1)
      .max(16),
    at: time,
  })
  .refine((event) => (event.prev === null) === (event.seq === '1'), {
    path: ['prev'],
    message: 'is null exactly for seq 1',
  })
  .refine((event) => event.seq !== '1' || event.event === 'introduce', {
    path: ['event'],
    message: 'must introduce at seq 1',
  })
  .refine((event) => event.keys.every((key) => key.kid.startsWith(`${event.did}#`)), {
    path: ['keys'],
    message: 'names a key of another DID',
  })
  .refine((event) => new Set(event.keys.map((key) => key.kid)).size === event.keys.length, {
    path: ['keys'],
    message: 'has a kid twice',
  });
export type KeyEvent = z.infer<typeof keyEvent>;

/** The `kid` under which the registry signs a `recover` event. */
export const registryKid = (origin: string): string => `${origin}+registry`;

export const publicText = (payload: Genesis | KeyEffective | KeyEvent | z.infer<typeof policyChange>): string =>
  canonicalize(payload);

/** A public artifact, read: what it says, its bytes `A`, and for a key event its signature, not yet verified. */
export type PublicArtifact =
  | {
      readonly kind: 'key-event';
      readonly bytes: Uint8Array;
      readonly value: KeyEvent;
      readonly signature: JwsSignature;
    }
  | { readonly kind: 'key-effective'; readonly bytes: Uint8Array; readonly value: KeyEffective }
  | { readonly kind: 'genesis'; readonly bytes: Uint8Array; readonly value: Genesis }
  | { readonly kind: 'policy'; readonly bytes: Uint8Array; readonly value: z.infer<typeof policyChange> };

const readKeyEvent = (value: unknown): Checked<PublicArtifact> => {
  const jws = readJws(value, 'stekker-key-event+jws');
  if (!jws.ok) return jws;
  const payload = readCanonical(keyEvent, jws.value.payload);
  if (!payload.ok) return payload;
  const [signature, ...more] = jws.value.signatures;
  if (signature === undefined || more.length > 0) return bad('a key event has exactly one signature');
  const bytes = utf8(jwsText(value as Parameters<typeof jwsText>[0]));
  return good({ kind: 'key-event', bytes, value: payload.value, signature });
};

/** Reads the artifact of a public entry, given as the JSON value. */
export const readPublicArtifact = (value: unknown): Checked<PublicArtifact> => {
  if (!isJsonObject(value)) return bad('is no object');
  if ('payload' in value) return readKeyEvent(value);
  const text = canonicalize(value);
  const bytes = utf8(text);
  switch (value.type) {
    case 'genesis': {
      const read = readCanonical(genesis, text);
      return read.ok ? good({ kind: 'genesis', bytes, value: read.value }) : read;
    }
    case 'policy': {
      const read = readCanonical(policyChange, text);
      return read.ok ? good({ kind: 'policy', bytes, value: read.value }) : read;
    }
    case 'key-effective': {
      const read = readCanonical(keyEffective, text);
      return read.ok ? good({ kind: 'key-effective', bytes, value: read.value }) : read;
    }
    default:
      return bad('is no public artifact');
  }
};
