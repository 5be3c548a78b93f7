/** One row of the table of codes: HTTP status, and what a reader may know without the details. */
interface ErrorRow {
  readonly status: number;
  readonly title: string;
}

/**
 * Every stable error code of Stekker. DSP, OAuth and problem+json are encoders of this one table;
 * `docs/errors.md` is generated from it and a test compares the two.
 */
export const errorTable = {
  // What arrives
  'body-not-json': { status: 400, title: 'The body is no valid JSON.' },
  'body-too-large': { status: 413, title: 'The body is larger than this surface accepts.' },
  'body-too-deep': { status: 400, title: 'The JSON is nested deeper than this surface accepts.' },
  'body-duplicate-key': { status: 400, title: 'The JSON has the same key twice in one object.' },
  'body-invalid': { status: 400, title: 'The body does not have the form that is asked for.' },
  'media-type-unsupported': { status: 415, title: 'The media type is not one that this surface reads.' },
  'request-invalid': {
    status: 400,
    title: 'The path, the query or a header of the request is not of the form that is asked for.',
  },
  'cursor-expired': { status: 410, title: 'The cursor is too old: read everything again, and go on from there.' },
  'not-found': { status: 404, title: 'There is nothing here for this caller.' },
  'method-not-allowed': { status: 405, title: 'This path does not take this method.' },
  'too-many-requests': { status: 429, title: 'Too many requests.' },
  // Who asks
  unauthenticated: { status: 401, title: 'The caller did not prove who it is.' },
  forbidden: { status: 403, title: 'The caller may not do this.' },
  'presentation-definition-unsupported': {
    status: 501,
    title: 'Presentation definitions are not supported; ask by scope.',
  },
  // Dataspace Protocol
  'filter-unsupported': { status: 400, title: 'Catalog filters are not supported.' },
  'pid-mismatch': { status: 400, title: 'The pids of the message do not match the process.' },
  'illegal-transition': { status: 400, title: 'The process is in a state that does not take this message.' },
  'offer-refused': { status: 400, title: 'The offer is not one that can be agreed to.' },
  'offer-lapsed': { status: 400, title: 'The offer was not answered in time.' },
  'agreement-refused': { status: 400, title: 'The agreement is not the one that was negotiated.' },
  'agreement-ended': { status: 400, title: 'The agreement is not in force.' },
  'agreement-void': { status: 400, title: 'The agreement was signed and never came into force.' },
  'callback-refused': { status: 400, title: 'The callback address is not one that this connector will call.' },
  'format-unsupported': { status: 400, title: 'The transfer format is not one of the distribution.' },
  'message-id-reused': { status: 400, title: 'The message id was used for another body.' },
  // Policy and access
  'policy-invalid': { status: 400, title: 'The policy has terms that cannot be evaluated.' },
  'policy-denied': { status: 403, title: 'The policy does not permit this.' },
  'token-invalid': { status: 401, title: 'The access token is not valid here.' },
  'proof-invalid': { status: 401, title: 'The proof of possession is not valid for this request.' },
  'request-repeated': { status: 409, title: 'The request id was used before.' },
  'price-needed': { status: 402, title: 'The plan does not cover this request.' },
  'window-exhausted': { status: 429, title: 'The exposure window is used up until statements are signed.' },
  'quota-exhausted': { status: 429, title: 'The quota of this agreement is used up.' },
  'journal-unavailable': { status: 503, title: 'Usage cannot be recorded, so nothing is served.' },
  'replay-store-unavailable': { status: 503, title: 'Repeats cannot be ruled out now, so nothing is served.' },
  'status-unknown': { status: 503, title: 'The broker is silent and this offer is strict, so nothing is served.' },
  'upstream-failed': { status: 502, title: 'The source behind this offer did not answer.' },
  'standing-final': { status: 409, title: 'The credential was revoked, and nothing brings it back.' },
  revoked: { status: 403, title: 'A credential this access rests on was revoked.' },
  // OAuth (RFC 6749 §5.2)
  'invalid-request': { status: 400, title: 'The token request is malformed.' },
  'invalid-grant': { status: 400, title: 'The grant is not valid.' },
  'unsupported-grant-type': { status: 400, title: 'The grant type is not supported.' },
  'invalid-dpop-proof': { status: 400, title: 'The proof of possession is not valid for this token request.' },
  'invalid-client': { status: 401, title: 'The client did not prove who it is.' },
  // Ledger
  'entry-refused': { status: 422, title: 'The artifact is not one that the log registers.' },
  'statement-conflict': { status: 409, title: 'Another statement is registered for this number.' },
  'log-stopped': { status: 503, title: 'The log has stopped and waits for its operator.' },
  'log-moved': { status: 503, title: 'Another process writes this log now; ask again.' },
  'log-not-believed': { status: 503, title: 'The log shows something that cannot be true.' },
  'not-yet': { status: 503, title: 'This cannot be answered yet; ask again.' },
  busy: { status: 503, title: 'The queue is full; ask again later.' },
  untrusted: { status: 422, title: 'What was fetched does not verify, so it is not relied on.' },
  // Outbound
  'address-refused': { status: 400, title: 'The address is not one that this deployment may call.' },
  'peer-refused': { status: 409, title: 'The other side refused, for the reasons it gave.' },
  'fetch-failed': { status: 502, title: 'The other side could not be reached.' },
  // Start-up and operation
  'config-invalid': { status: 500, title: 'A setting is wrong.' },
  'passphrase-wrong': { status: 500, title: 'The passphrase does not open the keys.' },
  'port-in-use': { status: 500, title: 'The port is taken by another program.' },
  'data-newer': { status: 500, title: 'The data were written by a newer version.' },
  'data-in-use': { status: 500, title: 'Another process works in this data folder.' },
  'data-damaged': { status: 500, title: 'The data folder holds something that should not be there.' },
  'database-unavailable': { status: 503, title: 'The database cannot be used now.' },
  'disk-full': { status: 507, title: 'The disk takes no more data.' },
  'backup-restored': {
    status: 500,
    title: 'The rows are older than what was signed: a restored backup may not go on.',
  },
  'version-conflict': { status: 409, title: 'Somebody else changed this in the meantime.' },
  'invariant-broken': { status: 500, title: 'Something that must hold does not.' },
  'internal-error': { status: 500, title: 'Something went wrong here.' },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof errorTable;

/** One fault in a body: `path` is a JSON Pointer (RFC 6901). */
export interface Fault {
  readonly path: string;
  readonly message: string;
}

interface AppErrorOptions {
  /** What is wrong in this case; shown to the caller when the status is below 500. */
  readonly detail?: string;
  /** All faults of one body at once. */
  readonly faults?: readonly Fault[];
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

/** The one error class: a code of the table, and what this case adds to it. */
export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: ErrorCode;
  readonly status: number;
  readonly title: string;
  readonly detail: string | undefined;
  readonly faults: readonly Fault[];
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, options: AppErrorOptions = {}) {
    const row = errorTable[code];
    super(options.detail ?? row.title, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.status = row.status;
    this.title = row.title;
    this.detail = options.detail;
    this.faults = options.faults ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds;
  }

  /** Whether detail and faults may be shown to the caller. */
  get expose(): boolean {
    return this.status < 500 || this.status === 503;
  }
}

/** Narrows an unknown thrown value, by code when one is given. */
export const isAppError = (value: unknown, code?: ErrorCode): value is AppError =>
  value instanceof AppError && (code === undefined || value.code === code);
