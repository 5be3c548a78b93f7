import { orNothing, sameBytes, textOf, toBase64Url, toHex } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { isJsonObject, type Json, parseCanonical } from '../json.ts';
import { checkEntry, entryParts, type LogEntry, readEntry } from './entry.ts';
import { bad, type Checked, good } from './forms.ts';
import { type Checkpoint, type Policy, verifyNote } from './note.ts';
import { type PublicArtifact, readPublicArtifact } from './public-entries.ts';
import { type FetchLogFile, inclusionFromTiles } from './tile-proofs.ts';
import { bundlePath, decodeBundle, tileWidth } from './tiles.ts';
import { appendLeaf, isIncluded, leafHash, type Peak, rootOfStack } from './tree.ts';

/**
 * Following a log (ledger §4, §5): each new entry is read once, hashed into the tree, and the root compared with the signed
 * checkpoint. Whoever follows knows every public entry, and that the log extended what it showed before.
 */

/** A public entry with its place and its artifact, as a receipt carries it. */
export interface FollowedEntry {
  readonly index: number;
  readonly entry: LogEntry;
  /** The artifact as JSON. */
  readonly value: { readonly [key: string]: Json };
  readonly artifact: PublicArtifact;
}

/** What a follower knows; kept between visits. */
export interface Followed {
  readonly checkpoint: Checkpoint;
  readonly note: string;
  readonly stack: readonly Peak[];
  readonly publics: readonly FollowedEntry[];
}

export interface FollowTools {
  readonly crypto: Crypto;
  readonly fetch: FetchLogFile;
  /** Whose signatures the follower asks for. */
  readonly policy: Policy;
  /** SPKI of the registry key: what it signed is public. */
  readonly registryKey: Uint8Array;
}

/** The first `width` entries of a bundle; the full one stands in for a partial one that is gone. */
const fetchBundle = async (fetch: FetchLogFile, index: number, width: number): Promise<Checked<Uint8Array[]>> => {
  const bytes = (await fetch(bundlePath(index, width))) ?? (await fetch(bundlePath(index, tileWidth)));
  if (bytes === undefined) return bad(`${bundlePath(index, width)} is not there`);
  const entries = decodeBundle(bytes);
  if (!entries.ok) return entries;
  return entries.value.length < width
    ? bad(`${bundlePath(index, width)} has too few entries`)
    : good(entries.value.slice(0, width));
};

/** Entries `from … size-1`, in order, as bytes. */
export const fetchEntries = async (fetch: FetchLogFile, from: number, size: number): Promise<Checked<Uint8Array[]>> => {
  const found: Uint8Array[] = [];
  for (let index = Math.floor(from / tileWidth); from < size && index * tileWidth < size; index += 1) {
    const begin = index * tileWidth;
    const entries = await fetchBundle(fetch, index, Math.min(tileWidth, size - begin));
    if (!entries.ok) return entries;
    found.push(...entries.value.slice(Math.max(0, from - begin)));
  }
  return good(found);
};

/**
 * The first of the entries `from … to-1` that commits to this artifact digest: for whoever holds an artifact and has lost where
 * it stands. Nothing is believed by this; the proof comes after.
 */
export const findEntry = async (
  fetch: FetchLogFile,
  digest: Uint8Array,
  { from, to }: { readonly from: number; readonly to: number },
): Promise<Checked<number | undefined>> => {
  const entries = await fetchEntries(fetch, from, to);
  if (!entries.ok) return entries;
  const place = entries.value.findIndex((bytes) => {
    const entry = readEntry(textOf(bytes) ?? '');
    return entry.ok && sameBytes(entryParts(entry.value).digest, digest);
  });
  return good(place < 0 ? undefined : from + place);
};

const readPublic = async (
  { crypto, fetch, registryKey }: FollowTools,
  bytes: Uint8Array,
  index: number,
): Promise<Checked<FollowedEntry | undefined>> => {
  const entry = readEntry(textOf(bytes) ?? '');
  if (!entry.ok) return bad(`entry ${index} ${entry.reason}`);
  const { digest, spki } = entryParts(entry.value);
  if (!sameBytes(spki, registryKey)) return good(undefined);
  const body = await fetch(`artifact/${toHex(digest)}`);
  if (body === undefined) return bad(`the public artifact of entry ${index} is not served`);
  const fits = checkEntry(crypto, entry.value, body);
  if (!fits.ok) return bad(`entry ${index}: ${fits.reason}`);
  const value = parseCanonical(textOf(body) ?? '');
  if (!isJsonObject(value)) return bad(`the artifact of entry ${index} is not canonical JSON`);
  const artifact = readPublicArtifact(value);
  return artifact.ok
    ? good({ index, entry: entry.value, value, artifact: artifact.value })
    : bad(`the artifact of entry ${index} ${artifact.reason}`);
};

const readCheckpoint = async ({
  crypto,
  fetch,
  policy,
}: FollowTools): Promise<Checked<{ note: string; checkpoint: Checkpoint }>> => {
  const bytes = await fetch('checkpoint');
  if (bytes === undefined) return bad('there is no checkpoint yet');
  const note = textOf(bytes) ?? '';
  const checkpoint = verifyNote(crypto, note, policy);
  return checkpoint.ok ? good({ note, checkpoint: checkpoint.value }) : checkpoint;
};

/**
 * Reads what is new in a log since the last visit.
 *
 * @returns what is known now, or why the log cannot be believed: a checkpoint behind what was seen, entries that do not
 * lead to the signed root, a public artifact that is not served.
 */
export const followLog = async (tools: FollowTools, seen: Followed | undefined): Promise<Checked<Followed>> => {
  const newest = await readCheckpoint(tools);
  if (!newest.ok) return newest;
  const { note, checkpoint } = newest.value;
  const from = seen?.checkpoint.size ?? 0;
  if (checkpoint.size < from) return bad(`the checkpoint has ${checkpoint.size} entries, ${from} were seen before`);
  const entries = await fetchEntries(tools.fetch, from, checkpoint.size);
  if (!entries.ok) return entries;
  const stack = entries.value.reduce<readonly Peak[]>(
    (peaks, entry) => appendLeaf(tools.crypto, peaks, leafHash(tools.crypto, entry)),
    seen?.stack ?? [],
  );
  if (!sameBytes(rootOfStack(tools.crypto, stack), checkpoint.root))
    return bad(`the entries do not lead to the root that was signed for ${checkpoint.size}`);
  const publics: FollowedEntry[] = [...(seen?.publics ?? [])];
  for (const [place, entry] of entries.value.entries()) {
    const found = await readPublic(tools, entry, from + place);
    if (!found.ok) return found;
    if (found.value !== undefined) publics.push(found.value);
  }
  return good({ checkpoint, note, stack, publics });
};

/** The public entries that decide about the keys of these DIDs: their key events, and what made them effective. */
export const keyEntriesOf = (
  crypto: Pick<Crypto, 'sha256'>,
  followed: Pick<Followed, 'publics'>,
  dids: readonly string[],
): readonly FollowedEntry[] => {
  const events = new Set<string>();
  return followed.publics.filter(({ artifact }) => {
    if (artifact.kind === 'key-effective') return events.has(artifact.value.event);
    if (artifact.kind !== 'key-event' || !dids.includes(artifact.value.did)) return false;
    events.add(toBase64Url(crypto.sha256(artifact.bytes)));
    return true;
  });
};

/** An entry of the log with its proof to a checkpoint, as a receipt carries it. */
export interface ProvenEntry {
  readonly entry: LogEntry;
  readonly proof: { readonly index: string; readonly path: string[] };
}

/** Fetches entry `index` and proves it under a checkpoint. */
export const proveEntry = async (
  { crypto, fetch }: Pick<FollowTools, 'crypto' | 'fetch'>,
  index: number,
  { size, root }: Checkpoint,
): Promise<Checked<ProvenEntry>> => {
  if (index >= size) return bad(`entry ${index} is not covered by the checkpoint of ${size} yet`);
  const bundleStart = index - (index % tileWidth);
  const bundle = await fetchBundle(fetch, bundleStart / tileWidth, Math.min(tileWidth, size - bundleStart));
  if (!bundle.ok) return bundle;
  const bytes = orNothing(bundle.value[index - bundleStart]);
  const entry = readEntry(textOf(bytes) ?? '');
  if (!entry.ok) return bad(`entry ${index} ${entry.reason}`);
  const path = await inclusionFromTiles(crypto, { index, size }, fetch);
  if (!path.ok) return path;
  const isProven = isIncluded(crypto, leafHash(crypto, bytes), { index, size, root, path: path.value });
  return isProven
    ? good({ entry: entry.value, proof: { index: String(index), path: path.value.map(toBase64Url) } })
    : bad(`the tiles do not prove entry ${index}`);
};
