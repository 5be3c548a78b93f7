import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One promise of the product and the full name of the test that proves it. */
export interface Promised {
  readonly promise: string;
  readonly test: string;
  readonly page: string;
}

/** Reads the promises from the text of one page: table rows with two cells, the heading rows apart. */
export const parsePromises = (text: string, page: string): Promised[] =>
  text
    .split('\n')
    .filter((line) => line.startsWith('|') && !/^\|\s*(promise|-+)\s*\|/.test(line))
    .map((line) => line.slice(1, -1).split(/(?<!\\)\|/))
    .map((cells) => {
      const [promise, test] = cells.map((cell) =>
        cell
          .trim()
          .replaceAll('\\|', '|')
          .replace(/^`(.*)`$/, '$1'),
      );
      if (cells.length !== 2 || !promise || !test)
        throw new Error(`${page}: a row needs a promise and a test: ${cells.join('|')}`);
      return { promise, test, page };
    });

/** All promises of docs/acceptance.md and the pages of docs/acceptance/. */
export const readPromises = (root: string): Promised[] => {
  const folder = join(root, 'docs/acceptance');
  const pages = ['docs/acceptance.md', ...readdirSync(folder).map((name) => `docs/acceptance/${name}`)];
  return pages.flatMap((page) => parsePromises(readFileSync(join(root, page), 'utf8'), page));
};

/** The promises whose test is not among the names of the tests that passed. */
export const unproven = (promises: readonly Promised[], passed: ReadonlySet<string>): Promised[] =>
  promises.filter((promised) => !passed.has(promised.test));
