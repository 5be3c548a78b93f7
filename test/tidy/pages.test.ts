import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { errorTable } from '../../contracts/errors.ts';
import { readMutants } from '../../scripts/mutants.ts';

const root = resolve(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const tracked = execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' }).split('\n').filter(Boolean);
const sources = tracked.filter((path) => path.endsWith('.ts') && !/\.test\.ts$|^test\//.test(path));
/** Names of the files of a folder of pages. */
const pagesOf = (folder: string) =>
  tracked
    .filter((path) => path.startsWith(`${folder}/`) && path.endsWith('.md'))
    .map((path) => path.slice(folder.length + 1));
const slicesOf = (service: string) => {
  const folders = readdirSync(join(root, service), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders.map(({ name }) => name).filter((name) => name !== 'adapters');
};

describe('what the pages say', () => {
  test('every error code is used somewhere', () => {
    const texts = sources.filter((path) => path !== 'contracts/errors.ts').map(read);
    const codes = Object.keys(errorTable);
    expect(codes.length).toBeGreaterThan(50);
    expect(codes.filter((code) => !texts.some((text) => text.includes(`'${code}'`)))).toEqual([]);
  });

  test('every mutant still finds its place, and its tests are there', () => {
    const mutants = readMutants([]);
    expect(mutants.length).toBeGreaterThan(100);
    for (const { name, file, find, tests } of mutants) {
      expect(
        [file, ...tests].filter((path) => !existsSync(join(root, path))),
        name,
      ).toEqual([]);
      expect(read(file).split(find).length - 1, `${name}: its text stands once in ${file}`).toBe(1);
    }
  });

  test('every rule of what must never happen has a mutant', () => {
    const rules = readMutants([]).map(({ rule }) => rule);
    const numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((number) => `DESIGN §5.${number}`);
    expect(rules.filter((rule) => !numbers.includes(rule))).toEqual([]);
    expect(numbers.filter((number) => !rules.includes(number))).toEqual([]);
  });

  test('a decision is dated, has its three parts, and fits on a page', () => {
    const pages = pagesOf('docs/decisions');
    expect(pages.length).toBeGreaterThan(5);
    for (const page of pages) {
      expect(page).toMatch(/^\d{4}-\d{2}-\d{2}-[a-z0-9-]+\.md$/);
      const text = read(`docs/decisions/${page}`);
      expect(text.split('\n').length, page).toBeLessThan(45);
      for (const part of ['**Decision.**', '**Rationale.**', '**Approach.**']) expect(text, page).toContain(part);
    }
  });

  test('no function is excused from the limits of size, and every other exception has its reason', () => {
    const comments = tracked
      .filter((path) => /\.(ts|json)$/.test(path) && path !== 'test/tidy/pages.test.ts')
      .flatMap((path) => read(path).match(/(biome-ignore|oxlint-disable|eslint-disable|@ts-).*/g) ?? []);
    expect(comments.filter((comment) => comment.includes('lint/complexity'))).toEqual([]);
    expect(comments.filter((comment) => !/^biome-ignore lint\/[a-zA-Z/]+: .{10,}/.test(comment))).toEqual([]);
    expect(comments.length, 'exceptions only become fewer').toBeLessThanOrEqual(7);
  });

  test('the overview pages name every page and every slice', () => {
    for (const [folder, overview] of [
      ['docs/acceptance', 'docs/acceptance.md'],
      ['docs/spec', 'docs/spec/README.md'],
    ] as const) {
      const pages = pagesOf(folder).filter((page) => page !== 'README.md');
      expect(pages.length).toBeGreaterThan(5);
      expect(pages.filter((page) => !read(overview).includes(`${page})`))).toEqual([]);
    }
    const architecture = read('docs/architecture.md');
    const slices = [...slicesOf('connector'), ...slicesOf('broker')];
    expect(slices.length).toBeGreaterThan(15);
    expect(slices.filter((slice) => !architecture.includes(`\`${slice}\``))).toEqual([]);
    const folders = new Set(sources.map((path) => path.split('/')[0] ?? '').filter((name) => !name.endsWith('.ts')));
    expect([...folders].filter((folder) => !architecture.includes(`| \`${folder}/\` |`))).toEqual([]);
  });
});
