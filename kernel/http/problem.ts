import { AppError } from '../../contracts/errors.ts';

/** Any thrown value as an error of the table: what is not ours says nothing of its inside. */
export const asAppError = (thrown: unknown): AppError =>
  thrown instanceof AppError ? thrown : new AppError('internal-error', { cause: thrown });

/** Problem details (RFC 9457): the encoding of the table of codes on every surface that has none of its own. */
export const problemResponse = (thrown: unknown): Response => {
  const error = asAppError(thrown);
  const { code, title, status, detail, faults, retryAfterSeconds } = error;
  const body = {
    type: `urn:stekker:1:error:${code}`,
    title,
    status,
    ...(error.expose && detail !== undefined ? { detail } : {}),
    ...(error.expose && faults.length > 0 ? { errors: faults } : {}),
  };
  return new Response(JSON.stringify(body), {
    status,
    headers: {
      'content-type': 'application/problem+json',
      'cache-control': 'no-store',
      ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
    },
  });
};
