import { toBase64Url } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Random } from '../../kernel/random.ts';
import { secretHashOf } from './grants.ts';
import type { Application, ApplicationStore } from './ports.ts';
import { isApplicationId } from './rules.ts';

/** Own applications and their keys (wire §4): each is known to its connector by a key that is shown once. */

export interface ApplicationsOptions {
  /** Told after each change: other processes know the same applications. */
  readonly changed?: () => void;
  readonly store: ApplicationStore;
  readonly clock: Clock;
  readonly random: Random;
}

export interface Applications {
  /** The key is given out here and never again. @throws AppError `body-invalid`, `version-conflict`. */
  readonly add: (
    participant: ParticipantId,
    id: string,
  ) => Promise<{ readonly application: Application; readonly key: string }>;
  readonly list: (participant: ParticipantId) => readonly Application[];
  /** From then on its key opens nothing. @throws AppError `not-found`. */
  readonly remove: (participant: ParticipantId, id: string) => Promise<void>;
  readonly ofKey: (key: string) => Application | undefined;
  /** Reads them anew: another process may have added or removed some. */
  readonly refresh: () => Promise<void>;
}

/** Reads all applications; they are few, and every request of theirs asks. */
export const createApplications = async (options: ApplicationsOptions): Promise<Applications> => {
  const { store, clock, random, changed = () => undefined } = options;
  const read = async () => new Map((await store.all()).map((application) => [application.keyHash, application]));
  let byKey = await read();
  return {
    add: async (participant, id) => {
      if (!isApplicationId(id)) {
        const faults = [{ path: '/id', message: 'is no <application id>@<version>' }];
        throw new AppError('body-invalid', { faults });
      }
      const key = `stk_${toBase64Url(random.bytes(32))}`;
      const application: Application = { participant, id, keyHash: secretHashOf(key), createdAt: clock.now() };
      if ((await store.add(application)) === 'conflict')
        throw new AppError('version-conflict', { detail: `there is an application ${id} already` });
      byKey.set(application.keyHash, application);
      changed();
      return { application, key };
    },
    list: (participant) => [...byKey.values()].filter((one) => one.participant === participant),
    remove: async (participant, id) => {
      for (const [hash, one] of byKey) if (one.participant === participant && one.id === id) byKey.delete(hash);
      const isRemoved = await store.remove(participant, id);
      changed();
      if (!isRemoved) throw new AppError('not-found');
    },
    ofKey: (key) => byKey.get(secretHashOf(key)),
    refresh: async () => {
      byKey = await read();
    },
  };
};
