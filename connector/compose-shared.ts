import type { ParticipantId } from '../contracts/ids.ts';
import { startRepeating } from '../kernel/lifecycle.ts';
import type { Base } from './base.ts';
import type { Applications } from './data-plane/applications.ts';
import type { Grants } from './data-plane/grants.ts';
import type { ProcessEventNotice } from './exchange/ports.ts';
import type { ProcessFeed } from './management/feed.ts';

/** What several processes of one connector tell each other. Each word says where to look; what is so stands in the rows. */

const processChannel = 'process';
const grantChannel = 'grants';
const applicationChannel = 'applications';

/** A process changed here: whoever watches elsewhere hears of it. `run` names this start of this process. */
export const tellProcess = ({ wakeups, isShared }: Base, run: string, notice: ProcessEventNotice): void => {
  if (isShared) wakeups.notify(processChannel, JSON.stringify({ run, notice }));
};

/** A transfer was opened or closed here. */
export const tellGrant = ({ wakeups, isShared }: Base, participant: ParticipantId, transfer: string): void => {
  if (isShared) wakeups.notify(grantChannel, JSON.stringify({ participant, transfer }));
};

/** Own applications changed here. */
export const tellApplications = ({ wakeups, isShared }: Base): void => {
  if (isShared) wakeups.notify(applicationChannel, 'changed');
};

/** What other processes did, for those who watch here and for what was remembered here. */
export const hearProcesses = (
  { wakeups, isShared }: Base,
  run: string,
  { feed, fetched }: { readonly feed: ProcessFeed; readonly fetched: { readonly changed: () => void } },
): void => {
  if (!isShared) return;
  wakeups.listen(processChannel, (payload) => {
    if (payload === '') {
      fetched.changed();
      feed.missed();
      return;
    }
    const told = JSON.parse(payload) as { readonly run: string; readonly notice: ProcessEventNotice }; // by `tellProcess`
    if (told.run === run) return;
    fetched.changed();
    feed.publish(told.notice);
  });
};

const repairMs = 1_000;

/**
 * Transfers and applications as the other processes left them. What could not be read when the word came is read again
 * every second until it can be: what is closed elsewhere is served here for no longer (DESIGN §5.4).
 */
export const hearData = (
  { wakeups, isShared, own, clock, log }: Base,
  { grants, applications }: { readonly grants: Grants; readonly applications: Applications },
): void => {
  if (!isShared) return;
  let isStale = true; // what was read at the start may have changed before we listened
  const attempt = (work: Promise<void>): void => {
    work.catch((error: unknown) => {
      isStale = true;
      log.warn({ error }, 'what another process did could not be read; it is tried again');
    });
  };
  const repair = async (): Promise<void> => {
    if (!isStale) return;
    isStale = false;
    try {
      await grants.refreshAll();
      await applications.refresh();
    } catch (error) {
      isStale = true;
      throw error;
    }
  };
  wakeups.listen(grantChannel, (payload) => {
    if (payload === '') isStale = true;
    else {
      const told = JSON.parse(payload) as { readonly participant: ParticipantId; readonly transfer: string }; // by `tellGrant`
      attempt(grants.refresh(told.participant, told.transfer));
    }
  });
  wakeups.listen(applicationChannel, () => attempt(applications.refresh()));
  own(startRepeating({ everyMs: repairMs, work: repair, clock, log }));
};
