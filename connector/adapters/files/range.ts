import type { HeaderList } from '../../data-plane/ports.ts';

/** Conditional and partial requests for a file (RFC 9110 §13, §14): one range, or the whole. */

export interface Validators {
  /** Strong. */
  readonly etag: string;
  /** HTTP date, whole seconds. */
  readonly modified: string;
  readonly modifiedMs: number;
}

/** First and last byte, both included. */
export type Span = { readonly first: number; readonly last: number };
export type Selection = { readonly status: 200 | 304 | 412 | 416 } | { readonly status: 206; readonly span: Span };

type Field = (name: string) => string | undefined;

/** The value of a field; of one that stands twice, all of it. */
const fieldsOf =
  (headers: HeaderList): Field =>
  (name) => {
    const values: string[] = [];
    for (let index = 0; index < headers.length; index += 2)
      if (headers[index] === name) values.push(headers[index + 1] ?? '');
    return values.length === 0 ? undefined : values.join(', ');
  };

const names = (list: string, etag: string, weakly: boolean): boolean =>
  list.trim() === '*' ||
  list
    .split(',')
    .map((one) => one.trim())
    .some((one) => one === etag || (weakly && one === `W/${etag}`));

/** Seconds of an HTTP date; a date that cannot be read is none. */
const secondsOf = (text: string): number | undefined => {
  // biome-ignore lint/style/noRestrictedGlobals: parsing a date, not reading the time
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? undefined : Math.floor(ms / 1_000);
};

/** Preconditions in the order of RFC 9110 §13.2.2; undefined when the request goes on. */
const precondition = (field: Field, its: Validators): 304 | 412 | undefined => {
  const modified = Math.floor(its.modifiedMs / 1_000);
  const match = field('if-match');
  const unmodified = secondsOf(field('if-unmodified-since') ?? '');
  if (match !== undefined && !names(match, its.etag, false)) return 412;
  if (match === undefined && unmodified !== undefined && modified > unmodified) return 412;
  const none = field('if-none-match');
  if (none !== undefined) return names(none, its.etag, true) ? 304 : undefined;
  const since = secondsOf(field('if-modified-since') ?? '');
  return since !== undefined && modified <= since ? 304 : undefined;
};

/** Whether the range holds for this version of the file: only a strong validator says so. */
const isSameVersion = (condition: string | undefined, its: Validators): boolean =>
  condition === undefined || condition.trim() === its.etag;

const spanOf = (text: string, size: number): Span | 'none' | 'outside' => {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(text.trim());
  if (match === null || (match[1] === '' && match[2] === '')) return 'none'; // several ranges, or another unit: the whole
  const [, from = '', to = ''] = match;
  if (from === '')
    return Number(to) === 0 || size === 0 ? 'outside' : { first: Math.max(0, size - Number(to)), last: size - 1 };
  const first = Number(from);
  if (to !== '' && Number(to) < first) return 'none';
  return first >= size ? 'outside' : { first, last: to === '' ? size - 1 : Math.min(Number(to), size - 1) };
};

/** What of a file of this size a request gets. */
export const select = (headers: HeaderList, its: Validators & { readonly size: number }): Selection => {
  const field = fieldsOf(headers);
  const status = precondition(field, its);
  if (status !== undefined) return { status };
  const range = field('range');
  if (range === undefined || !isSameVersion(field('if-range'), its)) return { status: 200 };
  const span = spanOf(range, its.size);
  if (span === 'none') return { status: 200 };
  return span === 'outside' ? { status: 416 } : { status: 206, span };
};
