import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Usage, UsageLine } from './ports.ts';

/** Usage as the meter knows it, made into the lines that a person reads: one for each agreement, application and purpose. */

/** One side of one agreement, as the meter sums it up. */
export interface MeteredAgreement {
  readonly role: 'provider' | 'consumer';
  /** agreementDigest */
  readonly agreement: string;
  readonly agreementId: string;
  readonly counterparty: string;
  readonly groups: readonly {
    readonly application: string;
    readonly purpose: string;
    readonly accesses: number;
    readonly bytes: number;
    readonly units: Readonly<Record<string, string>>;
    readonly amount: { readonly currency: string; readonly scale: string; readonly value: string };
  }[];
}

export interface UsageLinesOptions {
  readonly metered: (participant: ParticipantId) => Promise<readonly MeteredAgreement[]>;
  /** The dataset of an agreement. */
  readonly datasetOf: (participant: ParticipantId, agreementId: string) => Promise<string | undefined>;
}

type Group = MeteredAgreement['groups'][number];

const keyOf = (its: MeteredAgreement, index: number): string =>
  `${its.agreement} ${its.role} ${String(index).padStart(6, '0')}`;

const lineOf = (
  its: MeteredAgreement,
  group: Group,
  place: { readonly key: string; readonly dataset: string },
): UsageLine => {
  const { amount, ...counted } = group;
  return {
    ...counted,
    ...place,
    role: its.role,
    agreementId: its.agreementId,
    agreementDigest: its.agreement,
    peer: its.counterparty as Did, // a party of an agreement that was checked when it was made
    currency: amount.currency,
    scale: amount.scale,
    amount: amount.value,
  };
};

const inOrder = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const groupsOf = ({ groups }: MeteredAgreement): readonly Group[] =>
  groups.toSorted((a, b) => inOrder(a.application, b.application) || inOrder(a.purpose, b.purpose));

export const createUsageLines = ({ metered, datasetOf }: UsageLinesOptions): Usage => ({
  lines: async (participant, { after, limit, agreementId }) => {
    const all = await metered(participant);
    const chosen = agreementId === undefined ? all : all.filter((one) => one.agreementId === agreementId);
    const placed = chosen.flatMap((its) =>
      groupsOf(its).map((group, index) => ({ its, group, key: keyOf(its, index) })),
    );
    const page = placed
      .filter(({ key }) => key > after)
      .toSorted((a, b) => inOrder(a.key, b.key))
      .slice(0, limit);
    return Promise.all(
      page.map(async ({ its, group, key }) =>
        lineOf(its, group, { key, dataset: (await datasetOf(participant, its.agreementId)) ?? '' }),
      ),
    );
  },
});
