import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** What the services said last, for whoever must find out why the demo failed. */

const linesPerLog = 5;
const maxLineLength = 600;
const warnLevel = 40;

/** A line of a service's log at or above `warn`, or anything that is no line of a log at all. */
const isWarning = (line: string): boolean => {
  const level = /"level":(\d+)/.exec(line)?.[1];
  return level === undefined ? !line.startsWith('{') : Number(level) >= warnLevel;
};

const linesOf = (file: string): readonly string[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '');

const lastOf = (logs: string, names: readonly string[], fits: (line: string) => boolean): readonly string[] =>
  names.flatMap((name) => {
    const lines = linesOf(join(logs, name)).filter(fits).slice(-linesPerLog);
    return lines.length === 0 ? [] : [`${name}:`, ...lines.map((line) => `  ${line.slice(0, maxLineLength)}`)];
  });

/** The last warnings and errors of each log; the last lines of each when there is no warning at all. */
export const lastWords = (logs: string): readonly string[] => {
  if (!existsSync(logs)) return [];
  const names = readdirSync(logs).filter((name) => !name.startsWith('anvil'));
  const warnings = lastOf(logs, names, isWarning);
  return warnings.length > 0 ? warnings : lastOf(logs, names, () => true);
};
