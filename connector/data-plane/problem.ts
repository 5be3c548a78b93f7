import { problemText, type Refusal } from './rules.ts';

/** Answers of our own on the data plane's sockets: problem details with what a client needs to go on (wire §5). */

/** How a caller is told to prove itself; RFC 9449 §7.1. */
const challenges: Readonly<Record<string, string>> = {
  'token-invalid': 'DPoP error="invalid_token", algs="ES256 EdDSA"',
  'proof-invalid': 'DPoP error="invalid_dpop_proof", algs="ES256 EdDSA"',
};

/** Where an answer is written. */
export interface Answering {
  readonly writeHead: (status: number, headers: string[]) => unknown;
  readonly end: (body?: Uint8Array) => unknown;
}

export interface ProblemOptions {
  readonly isHead: boolean;
  /** Further names and values. */
  readonly headers?: readonly string[];
}

/** Writes a refusal as the whole answer and gives the bytes of its body. Nothing may have been written before. */
export const writeProblem = (response: Answering, refusal: Refusal, options: ProblemOptions): Uint8Array => {
  const { code, status, retryAfterSeconds } = refusal.error;
  const body = Buffer.from(problemText(refusal));
  const headers = [
    'content-type',
    'application/problem+json',
    'content-length',
    String(body.length),
    'cache-control',
    'no-store',
    ...(options.headers ?? []),
  ];
  const challenge = challenges[code];
  if (challenge !== undefined) headers.push('www-authenticate', challenge);
  if (retryAfterSeconds !== undefined) headers.push('retry-after', String(retryAfterSeconds));
  if (status === 405) headers.push('allow', 'GET, HEAD');
  response.writeHead(status, headers);
  if (options.isHead) response.end();
  else response.end(body);
  return options.isHead ? new Uint8Array(0) : body;
};
