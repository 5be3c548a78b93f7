import { toBase64Url } from '../../contracts/bytes.ts';
import type { Crypto } from '../../contracts/crypto.ts';
import { didOfKid } from '../../contracts/ids.ts';
import { type Json, parseCanonical } from '../../contracts/json.ts';
import { bad, type Checked, good } from '../../contracts/ledger/forms.ts';
import { type KeyOrder, type PlacedArtifact, readKeyOrder } from '../../contracts/ledger/key-order.ts';
import { type PublicArtifact, readPublicArtifact } from '../../contracts/ledger/public-entries.ts';
import type { PublicRow } from './ports.ts';
import { type KeyHistory, type PendingEffect, pendingAfter } from './rules.ts';

/** What the log knows of everybody's keys: the same reading of the same public entries that every verifier makes (ledger §4). */

export interface KeyBook {
  /** The key that counts for an entry at `index`, or undefined. */
  readonly keyAt: (kid: string, index: number) => Uint8Array | undefined;
  readonly historyOf: (did: string) => KeyHistory;
  /** Whether an event may stand at `index`: its signer counts, and the history stays one. */
  readonly accepts: (artifact: PublicArtifact, index: number) => Checked<undefined>;
  readonly pending: () => readonly PendingEffect[];
  /** Whether a key was reported compromised: what it signed convicts nobody any more (ledger §8). */
  readonly isCompromised: (kid: string) => boolean;
  /** Takes in a public entry that is durable. */
  readonly add: (row: PublicRow) => void;
}

interface Person {
  readonly placed: readonly PlacedArtifact[];
  readonly order: KeyOrder;
  readonly history: KeyHistory;
}

const nobody: KeyHistory = { events: [] };

/** Reads the text of a public artifact, as it is stored and served. */
export const readPublicText = (text: string): Checked<PublicArtifact> => {
  const value: Json | undefined = parseCanonical(text);
  return value === undefined ? bad('is not canonical JSON') : readPublicArtifact(value);
};

export const createKeyBook = (
  crypto: Crypto,
  registry: { readonly origin: string; readonly registryKey: Uint8Array },
): KeyBook => {
  const people = new Map<string, Person>();
  const didOfEvent = new Map<string, string>();
  const compromised = new Set<string>();
  let waiting: readonly PendingEffect[] = [];

  const didFor = (artifact: PublicArtifact): string | undefined => {
    if (artifact.kind === 'key-event') return artifact.value.did;
    return artifact.kind === 'key-effective' ? didOfEvent.get(artifact.value.event) : undefined;
  };

  const reread = (placed: readonly PlacedArtifact[]): Checked<KeyOrder> => readKeyOrder(crypto, placed, registry);

  const update = (did: string, placed: readonly PlacedArtifact[], history: KeyHistory): void => {
    const order = reread(placed);
    if (!order.ok) throw new RangeError(`the key events of ${did} are no history: ${order.reason}`);
    people.set(did, { placed, order: order.value, history });
  };

  const addEvent = (row: PublicRow, artifact: Extract<PublicArtifact, { kind: 'key-event' }>): void => {
    const { value, bytes } = artifact;
    const hash = toBase64Url(crypto.sha256(bytes));
    const before = people.get(value.did);
    const history = { events: [...(before?.history.events ?? []), { hash, index: row.index }] };
    update(value.did, [...(before?.placed ?? []), { index: row.index, artifact }], history);
    didOfEvent.set(hash, value.did);
    if (value.event === 'compromise') for (const { kid } of value.keys) compromised.add(kid);
    const effect = { did: value.did, hash, index: row.index, at: row.at };
    waiting = pendingAfter(waiting, { value, effect });
  };

  const addEffect = (row: PublicRow, artifact: Extract<PublicArtifact, { kind: 'key-effective' }>): void => {
    const did = didOfEvent.get(artifact.value.event) ?? '';
    const before = people.get(did);
    if (before === undefined) throw new RangeError(`entry ${row.index} makes a key event effective that is unknown`);
    update(did, [...before.placed, { index: row.index, artifact }], before.history);
    waiting = waiting.filter((one) => one.hash !== artifact.value.event);
  };

  return {
    keyAt: (kid, index) => people.get(didOfKid(kid))?.order.keyAt(kid, index, 'assertionMethod'),
    historyOf: (did) => people.get(did)?.history ?? nobody,
    accepts: (artifact, index) => {
      const did = didFor(artifact);
      if (did === undefined) return bad('belongs to nobody');
      const order = reread([...(people.get(did)?.placed ?? []), { index, artifact }]);
      return order.ok ? good(undefined) : order;
    },
    pending: () => waiting,
    isCompromised: (kid) => compromised.has(kid),
    add: (row) => {
      const artifact = readPublicText(row.text);
      if (!artifact.ok) throw new RangeError(`public entry ${row.index} ${artifact.reason}`);
      if (artifact.value.kind === 'key-event') addEvent(row, artifact.value);
      if (artifact.value.kind === 'key-effective') addEffect(row, artifact.value);
    },
  };
};
