import { constants, type Stats } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import { join, sep } from 'node:path';
import type { Source, SourceRequest } from '../../data-plane/ports.ts';
import { giveAnswer, type LocalAnswer, nothingThere } from './local-answer.ts';
import { type Selection, select, type Validators } from './range.ts';

/** A file or a folder of the owner as a source. Nothing outside of it can be named, whatever the path or its links say. */

const chunkBytes = 262_144;
const maxDepth = 32;

const mediaTypes: Readonly<Record<string, string>> = {
  csv: 'text/csv; charset=utf-8',
  geojson: 'application/geo+json',
  gml: 'application/gml+xml',
  gpkg: 'application/geopackage+sqlite3',
  json: 'application/json',
  jsonld: 'application/ld+json',
  parquet: 'application/vnd.apache.parquet',
  pdf: 'application/pdf',
  png: 'image/png',
  tif: 'image/tiff',
  tiff: 'image/tiff',
  txt: 'text/plain; charset=utf-8',
  xml: 'application/xml',
  zip: 'application/zip',
};

const mediaTypeOf = (path: string): string =>
  mediaTypes[/\.([a-z0-9]{1,10})$/i.exec(path)?.[1]?.toLowerCase() ?? ''] ?? 'application/octet-stream';

/** The names of a path below a folder; undefined when one of them is no plain name: dots, separators, escapes of either. */
const namesOf = (rest: string): readonly string[] | undefined => {
  const parts = rest.slice(1).split('/');
  if (!rest.startsWith('/') || parts.length > maxDepth) return undefined;
  try {
    const names = parts.map(decodeURIComponent);
    return names.every((name) => name !== '' && !name.startsWith('.') && !/[/\\\p{Cc}]/u.test(name))
      ? names
      : undefined;
  } catch {
    return undefined;
  }
};

const isMissing = (error: unknown): boolean =>
  typeof error === 'object' &&
  error !== null &&
  'code' in error &&
  ['ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'ELOOP', 'EISDIR', 'ENXIO'].includes(String(error.code));

/** Where a request leads: the real path, inside the root; undefined when there is nothing for it. */
const placeOf = async (
  upstream: { readonly kind: 'file' | 'folder'; readonly path: string },
  rest: string,
): Promise<string | undefined> => {
  const root = await realpath(upstream.path);
  if (upstream.kind === 'file') return rest === '' || rest === '/' ? root : undefined;
  const names = namesOf(rest);
  if (names === undefined) return undefined;
  const place = await realpath(join(root, ...names));
  const inside = place.startsWith(root.endsWith(sep) ? root : `${root}${sep}`);
  const isHidden = place.slice(root.length).includes(`${sep}.`);
  return inside && !isHidden ? place : undefined;
};

/** Opens without following a last link or waiting for a pipe; undefined for all that is no plain file. */
const openPlain = async (
  place: string,
): Promise<{ readonly handle: FileHandle; readonly stats: Stats } | undefined> => {
  const handle = await open(place, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  const stats = await handle.stat();
  // A folder on the way that became a link after it was looked at would lead elsewhere now.
  if (stats.isFile() && (await realpath(place)) === place) return { handle, stats };
  await handle.close();
  return undefined;
};

const findFile = async (upstream: { readonly kind: 'file' | 'folder'; readonly path: string }, rest: string) => {
  try {
    const place = await placeOf(upstream, rest);
    const opened = place === undefined ? undefined : await openPlain(place);
    return place === undefined || opened === undefined ? undefined : { place, ...opened };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
};

const validatorsOf = (stats: Stats): Validators => ({
  etag: `"${stats.ino.toString(36)}-${stats.size.toString(36)}-${Math.round(stats.mtimeMs * 1_000).toString(36)}"`,
  modified: stats.mtime.toUTCString(),
  modifiedMs: stats.mtimeMs,
});

const headersFor = (selected: Selection, place: string, its: Validators & { readonly size: number }): string[] => {
  const validators = ['etag', its.etag, 'last-modified', its.modified, 'accept-ranges', 'bytes'];
  const body = (bytes: number) => ['content-type', mediaTypeOf(place), 'content-length', String(bytes)];
  switch (selected.status) {
    case 200:
      return [...body(its.size), ...validators];
    case 206: {
      const { first, last } = selected.span;
      return [...body(last - first + 1), 'content-range', `bytes ${first}-${last}/${its.size}`, ...validators];
    }
    case 304:
      return validators;
    case 412:
      return ['content-length', '0', ...validators];
    case 416:
      return ['content-length', '0', 'content-range', `bytes */${its.size}`, ...validators];
  }
};

/** The bytes of a span; a file that became shorter in the meantime is a failure, not an end. */
const bytesOf = async function* (
  handle: FileHandle,
  first: number,
  count: number,
): AsyncGenerator<Uint8Array, void, void> {
  for (let done = 0; done < count; ) {
    const size = Math.min(chunkBytes, count - done);
    const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafeSlow(size), 0, size, first + done);
    if (bytesRead === 0) throw new Error('the file became shorter while it was read');
    done += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
};

const answer = async function* (
  upstream: { readonly kind: 'file' | 'folder'; readonly path: string },
  { method, rest, query, headers }: SourceRequest,
): LocalAnswer {
  const found = query === '' ? await findFile(upstream, rest) : undefined;
  if (found === undefined) return yield* nothingThere(method);
  const { handle, place, stats } = found;
  try {
    const its = { ...validatorsOf(stats), size: stats.size };
    const selected = select(headers, its);
    yield { status: selected.status, headers: headersFor(selected, place, its) };
    if (method === 'HEAD') return;
    if (selected.status === 200) yield* bytesOf(handle, 0, its.size);
    if (selected.status === 206)
      yield* bytesOf(handle, selected.span.first, selected.span.last - selected.span.first + 1);
  } finally {
    await handle.close();
  }
};

/** A file, or the files below a folder. Looked up at each request: what the owner replaces is served from then on. */
export const createFileSource = (upstream: { readonly kind: 'file' | 'folder'; readonly path: string }): Source => ({
  ask: (request, sink) => giveAnswer(sink, answer(upstream, request)),
});
