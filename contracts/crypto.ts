/** Signature algorithms of the ledger: `ES256` is r||s (JWS), `ES256-DER` the same key with a DER signature (log entries, ledger §2). */
export type SignatureAlgorithm = 'Ed25519' | 'ES256' | 'ES256-DER';

/**
 * The cryptography that `contracts` needs, handed in by the host: `kernel/crypto.ts` gives it from `node:crypto`.
 * All calls are synchronous and never throw for bad input: `verify` answers false on anything it cannot accept.
 */
export interface Crypto {
  readonly sha256: (bytes: Uint8Array) => Uint8Array;
  readonly hmacSha256: (key: Uint8Array, bytes: Uint8Array) => Uint8Array;
  /** `spki` is the DER SubjectPublicKeyInfo. */
  readonly verify: (
    algorithm: SignatureAlgorithm,
    spki: Uint8Array,
    message: Uint8Array,
    signature: Uint8Array,
  ) => boolean;
}
