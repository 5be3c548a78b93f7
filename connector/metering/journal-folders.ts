import type { Clock } from '../../kernel/clock.ts';
import type { FilePort } from '../../kernel/files.ts';
import type { Logger } from '../../kernel/log.ts';
import { type OpenedBlockMeter, openBlockMeter } from './block-meter.ts';
import type { Lender } from './lender.ts';
import type { JournalMarkStore } from './ports.ts';

/** Journals of block meters, each in a folder that has its name. */

export interface JournalFolders {
  readonly files: FilePort;
  readonly folder: string;
  readonly marks: JournalMarkStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly segmentBytes?: number;
}

/** Opens a journal and its meter; what it holds is handed over first. @throws AppError as `openBlockMeter`. */
export const openJournal = async (
  { files, folder, marks, clock, log, segmentBytes }: JournalFolders,
  journal: string,
  lender: Pick<Lender, 'connect'>,
): Promise<OpenedBlockMeter> =>
  openBlockMeter({
    ...{ files, clock, log },
    folder: `${folder}/${journal}`,
    from: await marks.get(journal),
    connect: (recall) => lender.connect(journal, recall),
    ...(segmentBytes === undefined ? {} : { segmentBytes }),
  });

/** Takes over what journals of this folder hold, whether or not anybody will write them again. */
export const recoverJournals = async (
  its: JournalFolders,
  isWanted: (journal: string) => boolean,
  lenderOf: (journal: string) => Pick<Lender, 'connect' | 'disconnect'>,
): Promise<void> => {
  for (const journal of (await its.files.list(its.folder)).filter(isWanted)) {
    const lender = lenderOf(journal);
    const opened = await openJournal(its, journal, lender);
    await opened[Symbol.asyncDispose]();
    lender.disconnect(journal);
  }
};
