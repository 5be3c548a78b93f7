import { type Random, systemRandom } from '../../kernel/random.ts';

/**
 * Secrets of tests carry a marker, so that one search over everything a run printed finds any that leaked
 * (scripts/find-secrets.ts). Written in two parts, so that a printed line of this file is no finding.
 */
export const secretMarker = ['geheim', 'marker'].join('-');

/** A secret that somebody chose: a passphrase, a token of an operator, a credential of a source. */
export const secretText = (name: string): string => `${secretMarker}-${name}`;

/** Decodes from base64url to bytes whose base64url begins with the marker, whatever follows. */
const markerBytes = Buffer.from(`${secretMarker}000`, 'base64url');

/**
 * Randomness for services in tests: what is long enough to be a secret in itself (join codes, grants, keys of applications)
 * carries the marker in its base64url form, and the rest of it is random.
 */
export const marked = (random: Random): Random => ({
  bytes: (length) => {
    const bytes = random.bytes(length);
    if (length >= 2 * markerBytes.length) bytes.set(markerBytes);
    return bytes;
  },
});

export const markedRandom: Random = marked(systemRandom);
