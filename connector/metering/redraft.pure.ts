import type { Have, StatementRefusal } from '../../contracts/ledger/statement.ts';
import { resolve } from './counts.pure.ts';
import { nextTry } from './cut.pure.ts';
import type { HeldRecord, StatedRow } from './ports.ts';

/** What becomes of the rows of a draft that was refused (wire §6): resolved by rule, tried once more, or held over. */

/** After so many refusals a row is held over. */
const rounds = 2;

export type RowFate =
  | { readonly kind: 'keep' }
  | { readonly kind: 'change'; readonly to: Have; readonly refusals: number }
  | { readonly kind: 'hold'; readonly held: HeldRecord }
  /** Refused even as disputed: it stays out of the statement, and goes to arbitration with the journals. */
  | { readonly kind: 'leave'; readonly held: HeldRecord };

/** It is never stated again on its own. */
export const never = Number.MAX_SAFE_INTEGER;

export interface FateFacts {
  readonly row: StatedRow;
  readonly refused: StatementRefusal['records'][number] | undefined;
  /** What our journal says. */
  readonly own: Have;
  readonly before: HeldRecord | undefined;
  readonly seq: number;
}

export const fateOf = ({ row, refused, own, before, seq }: FateFacts): RowFate => {
  if (refused === undefined) return { kind: 'keep' };
  const part = Number(row.part);
  const held = { request: row.request, part, claim: refused.have, isWrittenOff: before?.isWrittenOff ?? false };
  const holds = (before?.holds ?? 0) + 1;
  if (row.outcome === 'disputed') return { kind: 'leave', held: { ...held, holds, retryAt: never } };
  const refusals = row.refusals + 1;
  if (refusals >= rounds) return { kind: 'hold', held: { ...held, holds, retryAt: nextTry(seq, holds) } };
  const to = resolve(own, refused.have, part) ?? own;
  return { kind: 'change', to, refusals };
};
