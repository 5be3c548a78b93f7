import { fromBase64, orNothing, toBase64Url } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { bad, type Checked, good } from './forms.ts';
import { verifySignature } from './jws.ts';
import type { KeyEvent, PublicArtifact } from './public-entries.ts';
import { registryKid } from './public-entries.ts';

/**
 * Which keys count for which entries (ledger §4). Order in the log decides, never a date: a key counts for an entry iff
 * its introduction took effect at a lower index and no end did.
 */

/** A public artifact with its place in the log. */
export interface PlacedArtifact {
  readonly index: number;
  readonly artifact: PublicArtifact;
}

interface KeySpan {
  readonly kid: string;
  readonly spki: Uint8Array;
  readonly use: readonly string[];
  /** The index from which it counts for later entries. */
  readonly from: number;
  readonly until: number;
}

export interface KeyOrder {
  /** The key that counts for the entry at `index` under this kid and use, or undefined. */
  readonly keyAt: (kid: string, index: number, use: 'assertionMethod') => Uint8Array | undefined;
}

type PlacedKeyEvent = { readonly index: number; readonly artifact: Extract<PublicArtifact, { kind: 'key-event' }> };

interface Registry {
  readonly origin: string;
  /** SPKI of the registry key (P-256). */
  readonly registryKey: Uint8Array;
}

const never = Number.POSITIVE_INFINITY;

/** The index at which an event takes effect; `never` while no entry has made it so. */
const effectIndex = (placed: PlacedKeyEvent, hash: string, effects: ReadonlyMap<string, number>): number => {
  const { event, seq } = placed.artifact.value;
  if (seq === '1' || event === 'compromise' || event === 'recover') return placed.index;
  const effect = effects.get(hash);
  return effect === undefined || effect <= placed.index ? never : effect;
};

const countsAt = (spans: readonly KeySpan[], kid: string, index: number): KeySpan | undefined =>
  spans.find((span) => span.kid === kid && span.from < index && index <= span.until);

/** The key that must have signed an event: one it introduces (seq 1), the registry's (recover), or one that counted before. */
const signerOf = (placed: PlacedKeyEvent, spans: readonly KeySpan[], registry: Registry): Uint8Array | undefined => {
  const { value, signature } = placed.artifact;
  if (value.event === 'recover')
    return signature.kid === registryKid(registry.origin) ? registry.registryKey : undefined;
  if (value.seq !== '1') return countsAt(spans, signature.kid, placed.index)?.spki;
  const own = value.keys.find((key) => key.kid === signature.kid);
  return own === undefined ? undefined : fromBase64(own.spki);
};

const applyEvent = (spans: readonly KeySpan[], value: KeyEvent, at: number): KeySpan[] => {
  const named = new Set(value.keys.map((key) => key.kid));
  const ends = (span: KeySpan) => value.event === 'recover' || (value.event !== 'introduce' && named.has(span.kid));
  const kept = spans.map((span) => (ends(span) ? { ...span, until: Math.min(span.until, at) } : span));
  if (value.event === 'end' || value.event === 'compromise') return kept;
  const added = value.keys.map((key) => ({
    kid: key.kid,
    use: key.use,
    spki: orNothing(fromBase64(key.spki)),
    from: at,
    until: never,
  }));
  return [...kept, ...added];
};

const spansOf = (
  crypto: Crypto,
  events: readonly PlacedKeyEvent[],
  effects: ReadonlyMap<string, number>,
  registry: Registry,
): Checked<KeySpan[]> => {
  let spans: KeySpan[] = [];
  let previous: string | null = null;
  for (const [position, placed] of events.entries()) {
    const { value, signature, bytes } = placed.artifact;
    if (value.seq !== String(position + 1) || value.prev !== previous)
      return bad(`${value.did}: event ${value.seq} does not follow`);
    const signer = signerOf(placed, spans, registry);
    if (signer === undefined || !verifySignature(crypto, signature, signer)) {
      return bad(`${value.did}: event ${value.seq} is not signed by a key that counts`);
    }
    const reused =
      value.event === 'introduce' || value.event === 'recover'
        ? spans.find((span) => value.keys.some((key) => key.kid === span.kid))
        : undefined;
    if (reused !== undefined) return bad(`${value.did}: ${reused.kid} is introduced twice`);
    previous = toBase64Url(crypto.sha256(bytes));
    spans = applyEvent(spans, value, effectIndex(placed, previous, effects));
  }
  return good(spans);
};

const isKeyEvent = (placed: PlacedArtifact): placed is PlacedKeyEvent => placed.artifact.kind === 'key-event';

/**
 * Reads the history of keys from public artifacts in log order.
 *
 * @returns what counts when, or why the history cannot be one: a gap, a wrong signer, a kid that comes back.
 */
export const readKeyOrder = (
  crypto: Crypto,
  placed: readonly PlacedArtifact[],
  registry: Registry,
): Checked<KeyOrder> => {
  const ordered = placed.toSorted((a, b) => a.index - b.index);
  const effects = new Map<string, number>();
  for (const { index, artifact } of ordered) {
    if (artifact.kind === 'key-effective' && !effects.has(artifact.value.event))
      effects.set(artifact.value.event, index);
  }
  const byDid = Map.groupBy(ordered.filter(isKeyEvent), (one) => one.artifact.value.did);
  const all: KeySpan[] = [];
  for (const events of byDid.values()) {
    const spans = spansOf(crypto, events, effects, registry);
    if (!spans.ok) return spans;
    all.push(...spans.value);
  }
  return good({
    keyAt: (kid, index, use) => {
      const span = countsAt(all, kid, index);
      return span?.use.includes(use) ? span.spki : undefined;
    },
  });
};
