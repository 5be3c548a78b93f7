import type { ParticipantId } from '../../contracts/ids.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Facts } from '../../policies/facts.ts';
import type { Wallet } from './ports.ts';

/** What we know of ourselves for a forecast: our credentials, and the purpose and application that were chosen. */
export const ownFacts = async (
  { wallet, clock }: { readonly wallet: Pick<Wallet, 'facts'>; readonly clock: Clock },
  participant: ParticipantId,
  chosen: { readonly purpose?: string | undefined; readonly application?: string | undefined },
): Promise<Facts> => {
  const { purpose, application } = chosen;
  return {
    now: clock.now(),
    count: 0,
    ...(await wallet.facts(participant, application)),
    ...(purpose === undefined ? {} : { purpose }),
  };
};
