import { AppError, type Fault } from '../../contracts/errors.ts';
import { isJsonObject, type Json } from '../../contracts/json.ts';

/** What a peer gave as its reason, made readable: its code is opaque to us, its reasons may be of any form (dsp §7, §10.8). */

const maxReasons = 20;
const maxLength = 1_000;

const sentenceOf = (reason: Json): string => {
  const text = isJsonObject(reason) ? (reason['@value'] ?? reason) : reason;
  return (typeof text === 'string' ? text : JSON.stringify(text)).slice(0, maxLength);
};

/** The reasons of a message or error as sentences. */
export const reasonsOf = (reason: Json | undefined): readonly string[] => {
  if (reason === undefined || reason === null) return [];
  return (Array.isArray(reason) ? reason : [reason]).slice(0, maxReasons).map(sentenceOf);
};

/** An answer that refused a message of ours. */
export interface Refusal {
  readonly status: number;
  readonly body: Json | undefined;
  /** `@type` of the message. */
  readonly message: string;
}

/** Whether a code tells a cause; some peers give the status again and nothing else. */
const isTelling = (code: string): boolean => /[^\d]/.test(code);

/** How a process ended when the peer refused our message; where it tells no cause, what we know stands beside. */
export const endingOf = ({
  status,
  body = null,
  message,
}: Refusal): { readonly by: 'peer'; readonly code: string; readonly reason: Json } => {
  const said = isJsonObject(body) ? body : {};
  const code = typeof said.code === 'string' ? said.code.slice(0, maxLength) : '';
  const known = isTelling(code) ? [] : [`The peer answered ${status} to our ${message}.`];
  return { by: 'peer', code, reason: [...reasonsOf(said.reason), ...known] };
};

/**
 * A refusal by a peer, for whoever asked for something that needs the peer. The faults point into the peer's own message:
 * `/code` and `/reason/n`.
 */
export const peerRefused = (
  peer: string,
  said: { readonly code?: Json | undefined; readonly reason?: Json | undefined },
  during: string,
): AppError => {
  const reasons = reasonsOf(said.reason);
  const code = typeof said.code === 'string' && said.code !== '' ? said.code.slice(0, maxLength) : undefined;
  const faults: Fault[] = [
    ...(code === undefined ? [] : [{ path: '/code', message: code }]),
    ...reasons.map((message, index) => ({ path: `/reason/${index}`, message })),
  ];
  const why = [code, ...reasons].filter((part) => part !== undefined).join(': ');
  return new AppError('peer-refused', { detail: `${peer} refused ${during}${why === '' ? '' : `: ${why}`}`, faults });
};

/** The same from the body of an error answer. */
export const peerAnswered = (
  peer: string,
  answer: { readonly status: number; readonly body: Json | undefined },
  during: string,
): AppError => {
  const { status, body } = answer;
  if (status >= 500) return new AppError('fetch-failed', { detail: `${peer} answered ${status} to ${during}` });
  return peerRefused(peer, isJsonObject(body) ? { code: body.code, reason: body.reason } : {}, `${during} (${status})`);
};
