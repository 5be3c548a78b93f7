import { AppError, type ErrorCode } from '../../contracts/errors.ts';

/** Any thrown value as an error of the table: what is not ours says nothing of its inside. */
export const asAppError = (thrown: unknown): AppError =>
  thrown instanceof AppError ? thrown : new AppError('internal-error', { cause: thrown });

/** How one surface differs from the table. */
export interface ProblemStyle {
  /** Its status for a code, where that is not the table's. */
  readonly status?: Readonly<Partial<Record<ErrorCode, number>>>;
  /** Codes of 5xx whose details this reader may know. */
  readonly shown?: readonly ErrorCode[];
}

/** Problem details (RFC 9457): the encoding of the table of codes on every surface that has none of its own. */
export const problemResponse = (thrown: unknown, style: ProblemStyle = {}): Response => {
  const error = asAppError(thrown);
  const { code, title, detail, faults, retryAfterSeconds } = error;
  const status = style.status?.[code] ?? error.status;
  const isShown = error.expose || style.shown?.includes(code) === true;
  const body = {
    type: `urn:stekker:1:error:${code}`,
    title,
    status,
    ...(isShown && detail !== undefined ? { detail } : {}),
    ...(isShown && faults.length > 0 ? { errors: faults } : {}),
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
