import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';

/** EDC's released jars, brought together once by Maven and kept outside of what git sees. */

const cache = resolve(import.meta.dirname, '../../../node_modules/.cache/stekker/edc');
const pom = join(import.meta.dirname, 'pom.xml');

/** How many jars a complete connector has, at least: fewer are an assembly that was cut off. */
const leastJars = 200;

/**
 * The folder with the jars of EDC 0.15.1; they are fetched when they are not there yet, or the list of them has changed.
 *
 * @throws when Maven is missing or cannot reach Maven Central.
 */
export const assembleEdc = (): string => {
  const digest = createHash('sha256').update(readFileSync(pom)).digest('hex').slice(0, 16);
  const jars = join(cache, digest);
  if (existsSync(jars)) return jars;
  const target = join(cache, `${digest}.${process.pid}`);
  mkdirSync(target, { recursive: true });
  try {
    execFileSync('mvn', ['-q', '-B', '-f', pom, `-Dlib=${target}`, 'package'], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const found = readdirSync(target).filter((name) => name.endsWith('.jar')).length;
    if (found < leastJars) throw new Error(`Maven brought only ${found} jars of EDC`);
    renameSync(target, jars);
  } finally {
    rmSync(target, { recursive: true, force: true });
  }
  return jars;
};
