import type { z } from 'zod';
import { AppError, type Fault } from '../../contracts/errors.ts';
import { defaultJsonLimits, type Json, type JsonLimits, parseJson } from '../../contracts/json.ts';

/** JSON Pointers and sentences for everything that a schema found wrong. */
export const faultsOf = (error: z.ZodError): Fault[] =>
  error.issues.map((issue) => ({
    path: issue.path.map((part) => `/${String(part).replaceAll('~', '~0').replaceAll('/', '~1')}`).join(''),
    message: issue.message,
  }));

const isJson = (type: string): boolean => /^application\/([a-z0-9.-]+\+)?json\s*(;|$)/i.test(type.trim());

/** Reads a body up to a limit, and not a byte further. */
export const readBytes = async (request: Request, maxBytes: number): Promise<Uint8Array> => {
  const tooLarge = () => new AppError('body-too-large', { detail: `at most ${maxBytes} bytes are read here` });
  const stated = request.headers.get('content-length');
  if (Number(stated ?? 0) > maxBytes) throw tooLarge();
  if (stated !== null) {
    // No more than was stated gets past the HTTP parser, so that this need not be counted on the way, which costs a stream.
    const whole = new Uint8Array(await request.arrayBuffer());
    if (whole.length > maxBytes) throw tooLarge();
    return whole;
  }
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of request.body ?? []) {
    size += part.length;
    if (size > maxBytes) throw tooLarge();
    parts.push(part);
  }
  return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
};

/**
 * The JSON of a body, strictly: media type, size, depth, no key twice.
 *
 * @throws AppError `media-type-unsupported`, `body-too-large`, `body-not-json`, `body-too-deep`, `body-duplicate-key`.
 */
export const readAnyJson = async (request: Request, limits: JsonLimits = defaultJsonLimits): Promise<Json> => {
  if (!isJson(request.headers.get('content-type') ?? ''))
    throw new AppError('media-type-unsupported', { detail: 'application/json is read here' });
  return parseJson(await readBytes(request, limits.maxBytes), limits);
};

/** The same, in the form that a schema asks for. @throws also AppError `body-invalid` with all faults. */
export const readJson = async <Value>(
  request: Request,
  schema: z.ZodType<Value>,
  limits: JsonLimits = defaultJsonLimits,
): Promise<Value> => {
  const parsed = schema.safeParse(await readAnyJson(request, limits));
  if (!parsed.success) throw new AppError('body-invalid', { faults: faultsOf(parsed.error) });
  return parsed.data;
};
