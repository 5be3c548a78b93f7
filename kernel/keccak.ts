import { keccak_256 } from '@noble/hashes/sha3.js';

/** Keccak-256 as chains use it (not SHA3-256). */
export const keccak256 = (bytes: Uint8Array): Uint8Array => keccak_256(bytes);
