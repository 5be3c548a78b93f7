import { readFileSync, writeFileSync } from 'node:fs';

/**
 * Completes package-lock.json: a registry that does not serve every platform's binary package leaves holes in the lock
 * that `npm ci` refuses. Each optional dependency without an entry gets one without integrity, so that the machine of
 * that platform can take the real package. Run after every change of a dependency; a test fails when it was not.
 */

interface LockEntry {
  version?: string;
  dev?: boolean;
  optional?: boolean;
  os?: string[];
  cpu?: string[];
  libc?: string[];
  optionalDependencies?: Record<string, string>;
}
interface LockFile {
  packages: Record<string, LockEntry>;
}

const systems = ['linux', 'darwin', 'win32', 'freebsd', 'openbsd', 'netbsd', 'sunos', 'aix', 'android', 'openharmony'];

const systemOf = (name: string): string | undefined => systems.find((system) => name.split(/[-/]/).includes(system));

const processorOf = (name: string): string | undefined => {
  if (/arm64|aarch64/.test(name)) return 'arm64';
  return /x64|amd64|x86_64/.test(name) ? 'x64' : undefined;
};

const missingEntry = (name: string, version: string, parent: LockEntry): LockEntry => {
  const system = systemOf(name);
  const processor = processorOf(name);
  return {
    version: version.replace(/^[\^~]/, ''),
    ...(parent.dev === true ? { dev: true } : {}),
    optional: true,
    ...(system === undefined ? {} : { os: [system] }),
    ...(processor === undefined ? {} : { cpu: [processor] }),
    ...(name.includes('musl') ? { libc: ['musl'] } : {}),
  };
};

/** The lock with an entry for every optional dependency, keys sorted. */
export const completeLock = (lock: LockFile): { lock: LockFile; added: string[] } => {
  const packages = { ...lock.packages };
  const added: string[] = [];
  for (const [place, entry] of Object.entries(lock.packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      const nested = place === '' ? undefined : `${place}/node_modules/${name}`;
      if (packages[`node_modules/${name}`] !== undefined || (nested !== undefined && packages[nested] !== undefined)) {
        continue;
      }
      packages[`node_modules/${name}`] = missingEntry(name, version, entry);
      added.push(name);
    }
  }
  const sorted = Object.fromEntries(Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1)));
  return { lock: { ...lock, packages: sorted }, added };
};

if (import.meta.main) {
  const path = new URL('../package-lock.json', import.meta.url);
  const { lock, added } = completeLock(JSON.parse(readFileSync(path, 'utf8')) as LockFile);
  writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
  process.stdout.write(`package-lock.json: ${added.length} entries added\n`);
}
