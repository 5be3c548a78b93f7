import type { NegotiationRow } from '../../connector/negotiation/ports.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import {
  consumerKey,
  createNetwork,
  eventually,
  type Party,
  type PartyOptions,
  providerKey,
  rainOffer,
  startParty,
  tenant,
} from './dsp-pair.ts';

/** Two connectors with an agreement between them, and a clock that can be turned. */

/** The machine's clock, and a hand that turns it. */
const turnedClock = (): Clock & { ahead: number } => {
  const clock = { ahead: 0, now: () => systemClock.now() + clock.ahead, sleep: systemClock.sleep };
  return clock;
};

export interface Pair extends AsyncDisposable {
  readonly provider: Party;
  readonly consumer: Party;
  readonly clock: ReturnType<typeof turnedClock>;
  /** Negotiates; the consumer's row, once it is in this state. */
  readonly negotiate: (until?: (row: NegotiationRow) => boolean, amends?: string) => Promise<NegotiationRow>;
}

export const inForce = (row: NegotiationRow): boolean => row.process.state === 'FINALIZED' && row.data.announced;

export const pair = async (
  its: Partial<PartyOptions> = {},
  others: Partial<PartyOptions> = {},
  assurance: Assurance = 'cosigned',
): Promise<Pair> => {
  const network = createNetwork();
  const clock = turnedClock();
  const provider = await startParty(network, {
    name: 'provider',
    key: providerKey,
    offers: [{ ...rainOffer, assurance }],
    clock,
    ...its,
  });
  const consumer = await startParty(network, { name: 'consumer', key: consumerKey, clock, ...others });
  const request = (amends: string | undefined) =>
    consumer.negotiations.request({
      participant: tenant,
      provider: provider.did,
      providerBase: provider.base,
      dataset: rainOffer.dataset,
      offerId: rainOffer.id,
      rules: rainOffer.rules,
      assurance,
      price: '',
      amends,
    });
  return {
    provider,
    consumer,
    clock,
    negotiate: async (until = inForce, amends) => {
      const { pid } = await request(amends).catch(() => request(amends)); // a program that died is asked again
      const row = await eventually(() => consumer.negotiations.find(tenant, pid), until);
      if (until === inForce) await eventually(() => rowOf(provider, row), inForce);
      return row;
    },
    [Symbol.asyncDispose]: async () => {
      await provider[Symbol.asyncDispose]();
      await consumer[Symbol.asyncDispose]();
    },
  };
};

/** The other side's row of the same agreement. */
export const rowOf = (party: Party, row: NegotiationRow): Promise<NegotiationRow> => {
  const pid = party.did === row.peer ? (row.peerPid ?? '') : row.pid;
  return party.negotiations.find(tenant, pid);
};
export const idOf = (row: NegotiationRow): string => String(row.data.agreement?.agreement['@id']);
const isSettled = (row: NegotiationRow): boolean => row.data.end?.settled === true && row.data.end.delivered;
export const endedOn = (party: Party, row: NegotiationRow): Promise<NegotiationRow> =>
  eventually(() => rowOf(party, row), isSettled);
