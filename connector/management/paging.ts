import type { Page } from './ports.ts';

/** One page of a list by keyset: one more than asked for is read, to know whether there is another page. */
export const pageThrough = async <Row, View>(
  query: Page,
  read: (page: Page) => Promise<readonly Row[]>,
  keyOf: (row: Row) => string,
  show: (row: Row) => View | undefined,
): Promise<{ items: View[]; next: string | null }> => {
  const rows = await read({ after: query.after, limit: query.limit + 1 });
  const shown = rows.slice(0, query.limit);
  const last = shown.at(-1);
  return {
    items: shown.map(show).filter((view) => view !== undefined),
    next: rows.length > query.limit && last !== undefined ? keyOf(last) : null,
  };
};
