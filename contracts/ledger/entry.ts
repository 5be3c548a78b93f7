import { z } from 'zod';
import { fromBase64, orNothing, sameBytes, toBase64, toBase64Url, utf8 } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { canonicalize } from '../json.ts';
import { bad, base64, type Checked, good, p256Base64, readCanonical } from './forms.ts';

/**
 * A log entry (ledger §4): the `hashedrekord` 0.0.2 shape, whatever it stands for. It shows a digest, a signature and a
 * one-time key, and nothing else.
 */

const maxEntryBytes = 65_535;

export const logEntry = z.strictObject({
  apiVersion: z.literal('0.0.2'),
  kind: z.literal('hashedrekord'),
  spec: z.strictObject({
    hashedRekordV002: z.strictObject({
      data: z.strictObject({ algorithm: z.literal('SHA2_256'), digest: base64 }),
      signature: z.strictObject({
        content: base64,
        verifier: z.strictObject({
          keyDetails: z.literal('PKIX_ECDSA_P256_SHA_256'),
          publicKey: z.strictObject({ rawBytes: p256Base64 }),
        }),
      }),
    }),
  }),
});
export type LogEntry = z.infer<typeof logEntry>;

interface EntryParts {
  /** `H(A)` */
  readonly digest: Uint8Array;
  /** DER ECDSA over `A`. */
  readonly signature: Uint8Array;
  /** SPKI of the leaf key, or of the registry key for public entries. */
  readonly spki: Uint8Array;
}

/** Builds an entry from its parts. */
export const buildEntry = ({ digest, signature, spki }: EntryParts): LogEntry => ({
  apiVersion: '0.0.2',
  kind: 'hashedrekord',
  spec: {
    hashedRekordV002: {
      data: { algorithm: 'SHA2_256', digest: toBase64(digest) },
      signature: {
        content: toBase64(signature),
        verifier: { keyDetails: 'PKIX_ECDSA_P256_SHA_256', publicKey: { rawBytes: toBase64(spki) } },
      },
    },
  },
});

/** The bytes of an entry as they stand in the log. */
export const entryText = (entry: LogEntry): string => canonicalize(entry);

/** The parts of an entry; base64 was checked when it was read. */
export const entryParts = (entry: LogEntry): EntryParts => {
  const { data, signature } = entry.spec.hashedRekordV002;
  return {
    digest: orNothing(fromBase64(data.digest)),
    signature: orNothing(fromBase64(signature.content)),
    spki: orNothing(fromBase64(signature.verifier.publicKey.rawBytes)),
  };
};

/** Reads the bytes of an entry: canonical, known members only, at most 65,535 bytes. */
export const readEntry = (text: string): Checked<LogEntry> =>
  utf8(text).length > maxEntryBytes ? bad(`is longer than ${maxEntryBytes} bytes`) : readCanonical(logEntry, text);

/** `b64u H(SPKI)`: how an artifact names the one key that may stand in its entry. */
export const leafKeyId = (crypto: Pick<Crypto, 'sha256'>, spki: Uint8Array): string => toBase64Url(crypto.sha256(spki));

/** Whether an entry commits to exactly these artifact bytes, under a signature that holds (ledger §11 step 4). */
export const checkEntry = (crypto: Crypto, entry: LogEntry, artifact: Uint8Array): Checked<EntryParts> => {
  const parts = entryParts(entry);
  if (!sameBytes(parts.digest, crypto.sha256(artifact))) return bad('the entry has the digest of something else');
  if (!crypto.verify('ES256-DER', parts.spki, artifact, parts.signature))
    return bad('the signature in the entry does not hold');
  return good(parts);
};
