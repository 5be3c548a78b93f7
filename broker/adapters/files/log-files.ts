import { AppError } from '../../../contracts/errors.ts';
import type { FilePort } from '../../../kernel/files.ts';
import type { LogFiles } from '../../ledger/ports.ts';

/** Where files are made before they get their name; nothing in it is served. */
const workshop = '.new';

const folderOf = (path: string): string => path.slice(0, path.lastIndexOf('/'));

/**
 * Files below a folder that is served: temporary name, sync, rename, sync of the folders (ledger §12 step 4). `token` is
 * different in each process: no two work under one temporary name.
 */
export const fileLogFiles = (files: FilePort, root: string, token: string): LogFiles => {
  let made = 0;

  const writeTemporary = async (bytes: Uint8Array): Promise<string> => {
    made += 1;
    const name = `${root}/${workshop}/${token}-${made}`;
    await files.remove(name); // what a crash left there is not appended to
    const file = await files.open(name);
    try {
      await file.append(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    return name;
  };

  /** A folder is only there after a crash when its parent was told so: every level up to the root. */
  const foldersOf = (paths: readonly string[]): string[] => {
    const folders = new Set<string>();
    for (const path of paths)
      for (let folder = folderOf(`${root}/${path}`); folder.length >= root.length; folder = folderOf(folder))
        folders.add(folder);
    return [...folders].toSorted((a, b) => b.length - a.length);
  };

  return {
    write: async (all) => {
      const names: string[] = [];
      for (const { bytes } of all) names.push(await writeTemporary(bytes));
      for (const [place, { path }] of all.entries()) {
        await files.makeFolder(folderOf(`${root}/${path}`));
        await files.rename(names[place] ?? '', `${root}/${path}`);
      }
      for (const folder of foldersOf(all.map(({ path }) => path))) await files.syncFolder(folder);
    },
    read: async (path) => {
      if (path.split('/').some((part) => part === '..' || part === ''))
        throw new AppError('invariant-broken', { detail: 'a path of the log leads out of its folder' });
      return await files.read(`${root}/${path}`);
    },
    dropPartials: (path) => files.remove(`${root}/${path}.p`),
    tidy: () => files.remove(`${root}/${workshop}`),
  };
};
