import { describe, expect, test } from 'vitest';
import { parsePromises, unproven } from './acceptance.ts';

const page = `# Page

| promise | test |
|---|---|
| Data flows. | \`data > flows\` |
| A bar \\| in a name works. | names > a \\| b |
`;

describe('acceptance', () => {
  test('reads promises and their tests from tables', () => {
    expect(parsePromises(page, 'p.md')).toEqual([
      { promise: 'Data flows.', test: 'data > flows', page: 'p.md' },
      { promise: 'A bar | in a name works.', test: 'names > a | b', page: 'p.md' },
    ]);
  });

  test('a row without a test is refused', () => {
    expect(() => parsePromises('| only a promise | |', 'p.md')).toThrow('needs a promise and a test');
  });

  test('names the promises whose test did not pass', () => {
    const promises = parsePromises(page, 'p.md');
    expect(unproven(promises, new Set(['data > flows'])).map((promised) => promised.test)).toEqual(['names > a | b']);
  });
});
