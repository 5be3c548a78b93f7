import { realpath, stat } from 'node:fs/promises';
import { isAbsolute, relative } from 'node:path';

/** Whether a path lies in a folder, or is the folder itself. Both are real paths. */
const isWithin = (path: string, folder: string): boolean => {
  const way = relative(folder, path);
  return way === '' || (!way.startsWith('..') && !isAbsolute(way));
};

/**
 * Checks a file or folder before it is published: it is there, of the kind that was named, and neither inside the
 * connector's own data nor around it, because there lie the keys.
 */
export const createPathCheck =
  (dataFolder: string) =>
  async (kind: 'file' | 'folder', path: string): Promise<string | undefined> => {
    if (!isAbsolute(path)) return 'is not an absolute path';
    try {
      const real = await realpath(path);
      const own = await realpath(dataFolder);
      if (isWithin(real, own) || isWithin(own, real)) return "holds or lies in the connector's own data";
      const found = await stat(real);
      if (kind === 'file' ? !found.isFile() : !found.isDirectory()) return `is no ${kind}`;
      return undefined;
    } catch {
      return 'is not there, or cannot be read by the connector';
    }
  };
