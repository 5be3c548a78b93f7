import { AppError } from '../../contracts/errors.ts';
import { type UsageClose, type UsageOpen, usageEntry } from '../../contracts/ledger/usage-entry.ts';
import { keyOf } from './account.ts';
import type { VisitEntry } from './segments.ts';

/** What a journal held at start, until somebody takes it. */

export interface ReplayedAccess {
  /** Without its proof: that stays in the journal. */
  readonly open: UsageOpen;
  readonly openPlace: number;
  close?: UsageClose;
  closePlace?: number;
}

export interface Replayed {
  /** Takes a line. @throws AppError `data-damaged`. */
  readonly visit: VisitEntry;
  /** What was read of an agreement, by request and part; it is given once. */
  readonly take: (agreement: string) => ReadonlyMap<string, ReplayedAccess>;
  readonly agreements: () => readonly string[];
}

const readEntry = (text: string, place: number): UsageOpen | UsageClose => {
  const damaged = (cause: unknown) =>
    new AppError('data-damaged', { detail: `usage journal: the entry at ${place} has no known form`, cause });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw damaged(cause);
  }
  const read = usageEntry.safeParse(value);
  if (!read.success) throw damaged(read.error);
  return read.data;
};

/** `onOpen` hears of each access that was opened, in order. */
export const createReplayed = (onOpen: (entry: UsageOpen, place: number) => void): Replayed => {
  const all = new Map<string, Map<string, ReplayedAccess>>();
  return {
    visit: (text, place) => {
      const entry = readEntry(text, place);
      const own = all.get(entry.agreement) ?? new Map<string, ReplayedAccess>();
      all.set(entry.agreement, own);
      const key = keyOf(entry.request, entry.part);
      const known = own.get(key);
      if (entry.t === 'open') {
        if (known === undefined) own.set(key, { open: { ...entry, proof: '' }, openPlace: place });
        onOpen(entry, place);
      } else if (known !== undefined && known.close === undefined) {
        known.close = entry;
        known.closePlace = place;
      }
    },
    take: (agreement) => {
      const own = all.get(agreement) ?? new Map<string, ReplayedAccess>();
      all.delete(agreement);
      return own;
    },
    agreements: () => [...all.keys()],
  };
};
