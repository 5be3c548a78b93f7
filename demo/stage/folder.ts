import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** The demo's data folder: everything it leaves behind is in here. */

export interface Folder {
  readonly path: string;
  readonly logs: string;
  /** A path below the folder. */
  readonly at: (...parts: string[]) => string;
  /** Makes a secret and answers the file that holds it, readable by its owner alone. */
  readonly secret: (name: string) => string;
  /** Keeps a secret that a service made; the answer is its file. */
  readonly keepSecret: (name: string, value: string) => string;
}

const marker = '.stekker-demo';
/** Stands in every secret of a run, so that one search over all output shows whether one was printed. */
const secretMarker = ['geheim', 'marker'].join('-');

const isOurs = (path: string): boolean =>
  !existsSync(path) || readdirSync(path).length === 0 || existsSync(join(path, marker));

/** Empties the folder of an earlier run. @throws when it holds anything that no demo has put there. */
export const prepareFolder = (place: string): Folder => {
  const path = resolve(place);
  if (!isOurs(path)) throw new Error(`${path} is not empty and no demo has made it: choose another folder with --data`);
  rmSync(path, { recursive: true, force: true });
  mkdirSync(join(path, 'secrets'), { recursive: true, mode: 0o700 });
  mkdirSync(join(path, 'result'));
  writeFileSync(join(path, marker), 'The demo empties this folder each time it starts.\n');
  const at = (...parts: string[]) => join(path, ...parts);
  const keepSecret = (name: string, value: string) => {
    const file = at('secrets', name);
    writeFileSync(file, `${value}\n`, { mode: 0o600 });
    return file;
  };
  return {
    path,
    logs: at('logs'),
    at,
    keepSecret,
    secret: (name) => keepSecret(name, `${secretMarker}-${randomBytes(24).toString('base64url')}`),
  };
};

export const readSecret = (file: string): string => readFileSync(file, 'utf8').trim();
