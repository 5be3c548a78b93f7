import { z } from 'zod';
import { textOf } from '../../contracts/bytes.ts';
import { AppError, type Fault } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { type Json, parseJson } from '../../contracts/json.ts';
import { draftPageHead, draftRow, maxPageRecords, type StatementDraft } from '../../contracts/ledger/draft.ts';
import { statementDigest, statementText } from '../../contracts/ledger/statement.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { faultsOf } from '../../kernel/http/body.ts';
import type { StatementRoutes } from './routes.ts';

/** Drafts of over 5,000 records come in pages under one digest (wire §6): NDJSON, a head and then the rows. */

/** Drafts that are half here; the oldest one goes when there are more. */
const maxAssembling = 8;
const maxLineBytes = 1 << 14;
const maxFaults = 100;

type Head = z.infer<typeof draftPageHead>;

export interface DraftPages {
  /** Adds a page; the draft when it is whole, else the numbers of the pages that are here. @throws AppError `body-invalid`. */
  readonly add: (from: string, bytes: Uint8Array) => StatementDraft | { readonly received: readonly number[] };
}

const parseLine = (line: string, index: number): Json => {
  try {
    return parseJson(new TextEncoder().encode(line), { maxBytes: maxLineBytes, maxDepth: 8 });
  } catch (cause) {
    throw new AppError('body-invalid', { faults: [{ path: `/${index}`, message: 'is no line of JSON' }], cause });
  }
};

const readPage = (bytes: Uint8Array): { readonly head: Head; readonly rows: StatementDraft['records'] } => {
  const lines = (textOf(bytes) ?? '').split('\n').filter((line) => line !== '');
  const values = lines.slice(0, maxPageRecords + 2).map(parseLine);
  const head = draftPageHead.safeParse(values[0]);
  const faults: Fault[] = head.success
    ? []
    : faultsOf(head.error).map(({ path, message }) => ({ path: `/0${path}`, message }));
  const rows = z.array(draftRow).min(1).max(maxPageRecords).safeParse(values.slice(1));
  if (!rows.success) faults.push(...faultsOf(rows.error).slice(0, maxFaults));
  if (!head.success || !rows.success) throw new AppError('body-invalid', { faults });
  return { head: head.data, rows: rows.data };
};

interface Assembling {
  readonly head: Head;
  readonly pages: Map<number, StatementDraft['records']>;
}

export const createDraftPages = (): DraftPages => {
  const all = new Map<string, Assembling>();

  /** One draft for each caller and agreement: another digest begins anew. */
  const placeFor = (from: string, head: Head): Assembling => {
    const key = `${from} ${head.payload.agreementDigest}`;
    const digest = statementDigest(nodeCrypto, statementText(head.payload));
    const known = all.get(key);
    const isSame =
      known !== undefined &&
      known.head.pages === head.pages &&
      statementDigest(nodeCrypto, statementText(known.head.payload)) === digest;
    if (isSame) return known;
    const [oldest] = all.keys();
    if (all.size >= maxAssembling && oldest !== undefined) all.delete(oldest);
    const fresh = { head, pages: new Map<number, StatementDraft['records']>() };
    all.delete(key);
    all.set(key, fresh);
    return fresh;
  };

  return {
    add: (from, bytes) => {
      const { head, rows } = readPage(bytes);
      if (head.page > head.pages)
        throw new AppError('body-invalid', { faults: [{ path: '/0/page', message: 'is behind the last page' }] });
      const place = placeFor(from, head);
      place.pages.set(head.page, rows);
      if (place.pages.size < head.pages) return { received: [...place.pages.keys()].toSorted((a, b) => a - b) };
      all.delete(`${from} ${head.payload.agreementDigest}`);
      const { page: _page, pages: count, ...frame } = head;
      const records = Array.from({ length: count }, (_, index) => place.pages.get(index + 1) ?? []).flat();
      return { ...frame, records };
    },
  };
};

/** Puts drafts together, and answers whoever brought the last page. */
export const createPagedDrafts = (
  answer: (participant: ParticipantId, caller: Did, draft: StatementDraft) => Promise<Json>,
): StatementRoutes['page'] => {
  const pages = createDraftPages();
  return async (participant, caller, bytes) => {
    const added = pages.add(`${participant} ${caller}`, bytes);
    return 'received' in added ? added : { answer: await answer(participant, caller, added) };
  };
};
