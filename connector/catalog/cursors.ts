import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import type { CursorSeal } from './ports.ts';

/**
 * Where a reader of the catalog stands, sealed: the last dataset that was looked at may be one that it may not see, and
 * what it could see before decides what it is told now. A cursor is good only for the caller it was given to.
 */

/** A place in the list of datasets: behind the dataset `after`, or in front of `before`. */
const pageCursor = z.tuple([z.literal('page'), z.string(), z.enum(['after', 'before']), z.string()]);
/** A place in the changes: the last one read, and whether the caller could make cosigned agreements then. */
const changeCursor = z.tuple([z.literal('changes'), z.string(), z.int().min(0), z.boolean()]);

export type PagePlace = { readonly after: string } | { readonly before: string };

export interface ChangePlace {
  readonly seq: number;
  readonly canCosign: boolean;
}

export interface Cursors {
  readonly page: (caller: Did, place: PagePlace) => string;
  /** @throws AppError `request-invalid` for a cursor that is none of ours, or somebody else's. */
  readonly readPage: (caller: Did, cursor: string) => PagePlace;
  readonly change: (caller: Did, place: ChangePlace) => string;
  readonly readChange: (caller: Did, cursor: string) => ChangePlace;
}

const maxLength = 4_096;

const notOurs = (cause?: unknown): AppError =>
  new AppError('request-invalid', { detail: 'the cursor is none that was given to you here', cause });

export const createCursors = ({ seal, unseal }: CursorSeal): Cursors => {
  const read = <Value extends readonly [string, string, ...unknown[]]>(
    schema: z.ZodType<Value>,
    caller: Did,
    cursor: string,
  ): Value => {
    if (cursor.length > maxLength) throw notOurs();
    let value: Value;
    try {
      value = schema.parse(JSON.parse(unseal(cursor)));
    } catch (cause) {
      throw notOurs(cause);
    }
    if (value[1] !== caller) throw notOurs();
    return value;
  };
  return {
    page: (caller, place) =>
      seal(
        JSON.stringify(
          'after' in place ? ['page', caller, 'after', place.after] : ['page', caller, 'before', place.before],
        ),
      ),
    readPage: (caller, cursor) => {
      const [, , side, id] = read(pageCursor, caller, cursor);
      return side === 'after' ? { after: id } : { before: id };
    },
    change: (caller, { seq, canCosign }) => seal(JSON.stringify(['changes', caller, seq, canCosign])),
    readChange: (caller, cursor) => {
      const [, , seq, canCosign] = read(changeCursor, caller, cursor);
      return { seq, canCosign };
    },
  };
};
