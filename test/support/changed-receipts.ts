import type { Json } from '../../contracts/json.ts';

/** Every place of a receipt, changed in turn, and the steps of ledger §11 at which that must be found. */

export type Path = readonly (string | number)[];

/** All places of strings and numbers in a value. */
export const placesIn = (value: Json, path: Path = []): { path: Path; value: Json }[] => {
  if (typeof value !== 'object' || value === null) return [{ path, value }];
  return Object.entries(value).flatMap(([key, item]) => placesIn(item as Json, [...path, key]));
};

export const replaceAt = (value: Json, path: Path, change: (old: Json) => Json): Json => {
  const [key, ...rest] = path;
  if (key === undefined) return change(value);
  if (Array.isArray(value))
    return value.map((item: Json, index) => (String(index) === key ? replaceAt(item, rest, change) : item));
  return { ...(value as object), [key]: replaceAt((value as { [key: string]: Json })[key] ?? null, rest, change) };
};

/** Another value of the same kind: the first letter or digit is another one. */
export const changed = (old: Json): Json => {
  if (old === true || old === false) return !old;
  if (typeof old !== 'string') return 2;
  if (old === '') return 'x';
  const at = old.search(/[0-9A-Za-z]/);
  const next = /[0-9]/.test(old[at] ?? '') ? String((Number(old[at]) + 1) % 10) : old[at] === 'A' ? 'B' : 'A';
  return `${old.slice(0, at)}${next}${old.slice(at + 1)}`;
};

/** The steps at which a change in this part of a receipt must be found; 0 is the form of the file. */
export const expectedSteps: Readonly<Record<string, readonly number[]>> = {
  record: [0, 1],
  context: [0, 1],
  recordPath: [0, 1],
  'statement.artifact': [0, 2, 3, 4],
  'statement.entry': [0, 4, 5],
  'statement.proof': [0, 2, 5],
  'agreement.artifact': [0, 2, 3, 4],
  'agreement.entry': [0, 4, 5],
  'agreement.proof': [0, 2, 5],
  'keys.artifact': [0, 2, 4],
  'keys.entry': [0, 4, 5],
  'keys.proof': [0, 2, 5],
  sums: [0, 3],
  checkpoint: [0, 5],
  type: [0],
  v: [0],
};
export const partOf = (path: Path): string =>
  path[0] === 'statement' || path[0] === 'agreement'
    ? `${path[0]}.${path[1]}`
    : path[0] === 'keys'
      ? `keys.${path[2]}`
      : String(path[0]);
