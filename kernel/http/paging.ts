import { z } from '@hono/zod-openapi';

/** Pages of lists in an operator's API, by keyset. */

const wholeNumber = (min: number, max: number, fallback: number) =>
  z
    .string()
    .regex(/^(0|[1-9]\d{0,8})$/, 'is no whole number')
    .transform(Number)
    .pipe(z.number().min(min, `is below ${min}`).max(max, `is above ${max}`))
    .default(fallback)
    .openapi({ type: 'integer', minimum: min, maximum: max, default: fallback });

/** At most `limit` items behind `after`, the `next` of the page before. */
export const pageQuery = z.strictObject({
  after: z.string().max(4096).default(''),
  limit: wholeNumber(1, 500, 100),
});

/** A page of a list; `next` is null on the last one. */
export const pageOf = <Item extends z.ZodType>(item: Item) =>
  z.object({
    items: z.array(item),
    next: z.string().nullable().openapi({ description: 'The `after` of the next page.' }),
  });

interface Page {
  readonly after: string;
  readonly limit: number;
}

/** One page of a list: one more than asked for is read, to know whether there is another page. */
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
