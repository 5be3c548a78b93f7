import type { Random } from './random.ts';

/**
 * W3C Trace Context: which messages, log lines and records belong together, on both sides. It never decides anything
 * (dsp §12.6). `tracestate` is not passed on: the recommendation leaves that to whoever begins a span of its own.
 */

const form = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-[\da-f]{2}(-.*)?$/;
const isZero = (hex: string): boolean => /^0+$/.test(hex);

/** The trace id of a `traceparent` header, 32 hex digits; undefined when it has not the form, and a new trace begins. */
export const readTraceId = (header: string | null | undefined): string | undefined => {
  const [, version = '', trace = '', span = '', more] = form.exec(header ?? '') ?? [];
  if (trace === '' || version === 'ff' || isZero(trace) || isZero(span)) return undefined;
  return version === '00' && more !== undefined ? undefined : trace;
};

/** The trace of something that has an id: the digits of its UUID, so that one is found by the other. */
export const traceIdOf = (uuid: string): string => uuid.replace('urn:uuid:', '').replaceAll('-', '').toLowerCase();

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The header of one request: its trace, or a new one, and a span of its own. */
export const writeTraceparent = (trace: string | undefined, random: Random): string =>
  `00-${trace ?? hexOf(random.bytes(16))}-${hexOf(random.bytes(8))}-01`;
