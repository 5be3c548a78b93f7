import { z } from 'zod';
import { createPeerTransport } from '../../../connector/adapters/http/peer-transport.ts';
import type { ConnectorParts } from '../../../connector/parts.ts';
import { AppError } from '../../../contracts/errors.ts';
import { isPartyId } from '../../../contracts/ids.ts';
import { systemRandom } from '../../../kernel/random.ts';

/**
 * EDC's mock identities: the header says in plain JSON who calls, and everybody believes it. It stands only under test/, and
 * nothing of the product knows it.
 */

const header = z.looseObject({ clientId: z.string().refine(isPartyId) });

const callerIn = (authorization: string | null) => {
  try {
    return header.parse(JSON.parse(authorization ?? '')).clientId;
  } catch (cause) {
    throw new AppError('unauthenticated', { cause });
  }
};

/** The parts of a connector that is known to EDC under this id. */
export const mockIdentity = (id: string): ConnectorParts => ({
  authenticate: () => async (_participant, headers) => {
    const did = callerIn(headers.get('authorization'));
    if (!isPartyId(did)) throw new AppError('unauthenticated');
    return { did };
  },
  transport: (_own, client) =>
    createPeerTransport({
      client,
      tokens: () => ({ tokenFor: () => JSON.stringify({ region: 'any', audience: 'any', clientId: id }) }),
      scopes: [],
      random: systemRandom,
    }),
});
