import type { UsageMeter } from '../../connector/data-plane/ports.ts';
import { prepared } from '../../connector/data-plane/prepared.ts';
import { type OpenedBlockMeter, openBlockMeter } from '../../connector/metering/block-meter.ts';
import type { AppError } from '../../contracts/errors.ts';
import type { UsageClose, UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import type { MeterParty } from './meter-pair.ts';

/** A worker over the metering of a provider: a journal of its own, blocks of the window, records handed over. */
export const startBlockWorker = async (
  party: MeterParty,
  number: number,
  its: { readonly clock?: Clock; readonly segmentBytes?: number } = {},
): Promise<OpenedBlockMeter> => {
  const journal = party.metering.journalOf(number);
  const { files, marks } = party.options;
  party.metering.lender.disconnect(journal);
  return openBlockMeter({
    ...{ files, clock: its.clock ?? systemClock, log: silentLogger },
    folder: `/journal/${journal}`,
    from: await marks.get(journal),
    segmentBytes: its.segmentBytes ?? 1 << 16,
    connect: (recall) => party.metering.lender.connect(journal, recall),
  });
};

/** Does something with the next access as the data plane does: in the turn in which it was prepared and counted. */
export const counted = <Value>(meter: UsageMeter, agreement: string, work: () => Value): Promise<Awaited<Value>> =>
  prepared(meter, { agreement, isCounted: true }, work);

/** Opens an access; null, or why not. */
export const openOn = (meter: UsageMeter, entry: UsageOpen): Promise<AppError | null> =>
  counted(meter, entry.agreement, () => new Promise<AppError | null>((resolve) => meter.open(entry, resolve)));

/** Closes an access; true when the journal did not take it. */
export const closeOn = (meter: UsageMeter, entry: UsageClose): Promise<boolean> =>
  new Promise((resolve) => meter.close(entry, resolve));
