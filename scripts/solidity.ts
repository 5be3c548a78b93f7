import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import solc from 'solc';

/** The version of the compiler as its own program prints it, without what only its port to JavaScript has. */
export const solcVersion = (): string => solc.version().replace(/\.Emscripten.*$/, '');

/** Answers one standard JSON input; sources that it does not hold are looked for below `roots`, in order. */
export const compileStandard = (input: string, roots: readonly string[]): string =>
  solc.compile(input, {
    import: (path) => {
      const found = roots.map((root) => resolve(root, path)).find((file) => existsSync(file));
      return found === undefined ? { error: `${path} is not there` } : { contents: readFileSync(found, 'utf8') };
    },
  });
