import type { Did } from '../../../contracts/ids.ts';
import type { Clock } from '../../../kernel/clock.ts';
import type { Grants } from '../../credentials/ports.ts';
import type { Registry } from '../../registry/service.ts';

/** The grant of every membership of a register. */
export const membershipGrant = 'membership';

/** A membership lasts a year at most (credentials §7); the holder asks again before that. */
const lifetimeMs = 365 * 86_400_000;

/** Memberships are granted to those who are members at this moment. */
export const createMembershipGrants = (
  broker: Did,
  { registry, clock }: { readonly registry: Pick<Registry, 'member'>; readonly clock: Clock },
): Grants => ({
  types: ['MembershipCredential'],
  ofType: async (holder) => {
    const member = await registry.member(holder);
    if (member === undefined) return [];
    return [
      {
        key: membershipGrant,
        type: 'MembershipCredential',
        subject: { id: holder, role: [...member.roles], memberOf: broker },
        since: member.admittedAt,
        validUntil: clock.now() + lifetimeMs,
      },
    ];
  },
  ofOffer: async () => undefined,
});
