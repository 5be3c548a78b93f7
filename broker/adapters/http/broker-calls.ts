import { AppError } from '../../../contracts/errors.ts';
import type { Did } from '../../../contracts/ids.ts';
import { parseJson } from '../../../contracts/json.ts';
import type { RegisterAtLog } from '../../accreditation/ports.ts';
import type { StandingPublisher } from '../../credentials/ports.ts';
import { type PeerOptions, postAs } from './dcp-peers.ts';

/** What an accreditor says to its broker: its keys for the log (wire §6), and its own notices (wire §7). */

export interface BrokerAddress {
  readonly did: Did;
  /** Origin, without trailing slash. */
  readonly url: string;
}

/** The sentence of a problem (RFC 9457), when there is one. */
const detailOf = (bytes: Uint8Array): string | undefined => {
  try {
    const body = parseJson(bytes, { maxBytes: 65_536, maxDepth: 8 });
    const detail = typeof body === 'object' && body !== null && 'detail' in body ? body.detail : undefined;
    return typeof detail === 'string' ? detail.slice(0, 500) : undefined;
  } catch {
    return undefined; // no problem document: the status speaks
  }
};

export const createLogRegistration =
  (options: Pick<PeerOptions, 'client' | 'tokens'>, broker: BrokerAddress): RegisterAtLog =>
  async (body) => {
    const answer = await postAs(options, { audience: broker.did, url: `${broker.url}/log/entries`, body });
    return { status: answer.status, detail: detailOf(answer.body) };
  };

/** Hands notices to the broker, which passes them on as the issuer's word: it cannot make them itself. */
export const createBrokerNotices = (
  options: Pick<PeerOptions, 'client' | 'tokens'>,
  broker: BrokerAddress,
): StandingPublisher => ({
  publish: async (notice) => {
    const answer = await postAs(options, { audience: broker.did, url: `${broker.url}/events`, body: notice });
    if (answer.status >= 200 && answer.status < 300) return;
    throw new AppError('fetch-failed', {
      detail: `the broker answered ${answer.status} to a notice: ${detailOf(answer.body) ?? 'no reason given'}`,
    });
  },
});
