import { isUuidV7 } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';

/** Small rules about messages and answers (dsp §11, §12.1). */

/** A message as received. */
export type Body = { readonly [key: string]: Json };

export const idOf = (body: Body): string | undefined => {
  const id = body['@id'];
  return typeof id === 'string' && id !== '' ? id : undefined;
};

const uuidIn = (id: string): string => (id.startsWith('urn:uuid:') ? id.slice(9) : id);

/** Whether an id of a peer is at or below what is settled; only UUIDv7 can be compared. */
export const isSettled = (id: string, settled: string): boolean =>
  settled !== '' && isUuidV7(uuidIn(id)) && uuidIn(id) <= uuidIn(settled);

/** The later of two ids, as far as they can be compared. */
export const laterId = (a: string, b: string): string => (isUuidV7(uuidIn(b)) && uuidIn(b) > uuidIn(a) ? b : a);

/** Whether the same message may be sent again after this status; 404 because the peer may not have stored the process yet. */
export const mayRetry = (status: number, isFirst: boolean): boolean =>
  status >= 500 || status === 429 || status === 408 || status === 425 || (status === 404 && !isFirst);

/** Whether the pids of a message are those of the process, as far as they are there. */
export const pidsFit = (
  row: {
    readonly pid: string;
    readonly peerPid: string | null;
    readonly process: { readonly role: 'provider' | 'consumer' };
  },
  body: Body,
): boolean => {
  const own = row.process.role === 'provider' ? body.providerPid : body.consumerPid;
  const its = row.process.role === 'provider' ? body.consumerPid : body.providerPid;
  return (own === undefined || own === row.pid) && (row.peerPid === null || its === undefined || its === row.peerPid);
};

/** The peer's own pid in its message. */
export const peerPidIn = (role: 'provider' | 'consumer', body: Body): string | null => {
  const its = role === 'provider' ? body.consumerPid : body.providerPid;
  return typeof its === 'string' ? its : null;
};
