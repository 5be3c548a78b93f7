import { textOf } from './bytes.ts';
import { AppError, type Fault } from './errors.ts';

/** A parsed JSON value. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject;

export type JsonObject = { readonly [key: string]: Json };

export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export interface JsonLimits {
  readonly maxBytes: number;
  readonly maxDepth: number;
}

/** What protocol bodies may be; larger surfaces state their own. */
export const defaultJsonLimits: JsonLimits = { maxBytes: 1 << 20, maxDepth: 32 };

const maxCanonicalDepth = 64;

/** Whether plain `JSON.stringify` gives the canonical form: keys sorted at every level, strings well formed. */
const isInOrder = (value: Json, depth: number): boolean => {
  if (typeof value === 'string') return value.isWellFormed();
  if (typeof value === 'number') return Number.isFinite(value);
  if (typeof value !== 'object' || value === null) return typeof value === 'boolean' || value === null;
  if (depth > maxCanonicalDepth) return false;
  if (Array.isArray(value)) return value.every((item) => isInOrder(item, depth + 1));
  return areMembersInOrder(value as JsonObject, depth);
};

const areMembersInOrder = (value: JsonObject, depth: number): boolean => {
  let last = '';
  for (const key of Object.keys(value)) {
    if (key < last || !key.isWellFormed() || !isInOrder(value[key] as Json, depth + 1)) return false;
    last = key;
  }
  return true;
};

const write = (value: Json, depth: number): string => {
  if (depth > maxCanonicalDepth) throw new AppError('body-too-deep');
  if (Array.isArray(value)) return `[${value.map((item: Json) => write(item, depth + 1)).join(',')}]`;
  if (isJsonObject(value)) {
    const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([key, item]) => `${write(key, depth)}:${write(item, depth + 1)}`).join(',')}}`;
  }
  if (typeof value === 'string' && !value.isWellFormed()) {
    throw new AppError('body-invalid', { detail: 'a string holds half a character (a lone surrogate)' });
  }
  if (typeof value === 'number' && !Number.isFinite(value)) {
    throw new AppError('invariant-broken', { detail: 'a number that JSON cannot hold' });
  }
  if (value === undefined) throw new AppError('invariant-broken', { detail: 'a member without a value' });
  return JSON.stringify(value);
};

/**
 * The canonical form of RFC 8785 (JCS).
 *
 * @throws AppError `body-invalid` for a lone surrogate, `body-too-deep` beyond 64 levels, `invariant-broken` for a value
 * that is no JSON.
 *
 * @example canonicalize({ b: '1', a: [true] }) // '{"a":[true],"b":"1"}'
 */
export const canonicalize = (value: Json): string => (isInOrder(value, 0) ? JSON.stringify(value) : write(value, 0));

const pointer = (path: readonly string[], key: string): string =>
  [...path, key].map((part) => `/${part.replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');

interface Level {
  /** Keys seen so far, for an object; undefined for an array. */
  readonly keys: Set<string> | undefined;
  /** The key, or the index in an array, that is being read. */
  key: string;
  expectsKey: boolean;
}

interface Findings {
  readonly duplicates: readonly Fault[];
  readonly depth: number;
}

const tokens = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],]/g;

const openLevel = (token: string): Level => ({
  keys: token === '{' ? new Set() : undefined,
  key: token === '{' ? '' : '0',
  expectsKey: token === '{',
});

/** Walks text that is known to be JSON, for what `JSON.parse` does not tell: depth, and keys that stand twice. */
const inspect = (text: string, maxDepth: number): Findings => {
  const duplicates: Fault[] = [];
  const levels: Level[] = [];
  let depth = 0;
  for (const [token] of text.matchAll(tokens)) {
    const level = levels.at(-1);
    if (token === '{' || token === '[') depth = Math.max(depth, levels.push(openLevel(token)));
    else if (token === '}' || token === ']') levels.pop();
    else if (token === ',') nextItem(level);
    else if (level?.expectsKey === true) noteKey(level, levels, token, duplicates);
    if (depth > maxDepth) break;
  }
  return { duplicates, depth };
};

const nextItem = (level: Level | undefined): void => {
  if (level === undefined) return;
  if (level.keys === undefined) level.key = String(Number(level.key) + 1);
  else level.expectsKey = true;
};

const noteKey = (level: Level, levels: readonly Level[], literal: string, duplicates: Fault[]): void => {
  const key: string = literal.includes('\\') ? JSON.parse(literal) : literal.slice(1, -1);
  if (level.keys?.has(key)) {
    const path = levels.slice(0, -1).map((outer) => outer.key);
    duplicates.push({ path: pointer(path, key), message: 'stands twice' });
  }
  level.keys?.add(key);
  level.key = key;
  level.expectsKey = false;
};

const holdsHalfCharacters = (value: Json): boolean => {
  if (typeof value === 'string') return !value.isWellFormed();
  if (Array.isArray(value)) return value.some(holdsHalfCharacters);
  if (!isJsonObject(value)) return false;
  return Object.entries(value).some(([key, item]) => !key.isWellFormed() || holdsHalfCharacters(item));
};

/**
 * Parses JSON that somebody else wrote: UTF-8, no key twice, no `__proto__`, no lone surrogate, limits on size and depth.
 *
 * @throws AppError `body-too-large`, `body-not-json`, `body-too-deep`, `body-duplicate-key` (all of them named).
 */
export const parseJson = (bytes: Uint8Array, limits: JsonLimits = defaultJsonLimits): Json => {
  if (bytes.length > limits.maxBytes) {
    throw new AppError('body-too-large', { detail: `at most ${limits.maxBytes} bytes are read here` });
  }
  const text = textOf(bytes);
  if (text === undefined) throw new AppError('body-not-json', { detail: 'the body is not UTF-8' });
  return parseJsonText(text, limits);
};

/** The same for text that is already decoded. */
export const parseJsonText = (text: string, limits: JsonLimits = defaultJsonLimits): Json => {
  let value: Json;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AppError('body-not-json', { cause });
  }
  const { duplicates, depth } = inspect(text, limits.maxDepth);
  if (depth > limits.maxDepth)
    throw new AppError('body-too-deep', { detail: `at most ${limits.maxDepth} levels are read here` });
  if (duplicates.length > 0) throw new AppError('body-duplicate-key', { faults: duplicates });
  if (text.includes('__proto__') && /"__proto__"\s*:/.test(text)) {
    throw new AppError('body-invalid', {
      faults: [{ path: '/__proto__', message: 'is not a name that is read here' }],
    });
  }
  if (holdsHalfCharacters(value)) {
    throw new AppError('body-invalid', { detail: 'a string holds half a character (a lone surrogate)' });
  }
  return value;
};

/** Whether `text`, which was parsed into `value`, is its canonical form. A key that stands twice cannot be canonical. */
export const isCanonical = (value: Json, text: string): boolean => {
  try {
    return canonicalize(value) === text;
  } catch {
    return false; // too deep, or half a character
  }
};

/**
 * The value of text that must be canonical already: the bytes that were signed are the bytes that are read (ledger §2).
 * Undefined when it is not JSON, or not in canonical form.
 */
export const parseCanonical = (text: string): Json | undefined => {
  try {
    const value: Json = JSON.parse(text);
    return isCanonical(value, text) ? value : undefined;
  } catch {
    return undefined;
  }
};
