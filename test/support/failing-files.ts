import { AppError } from '../../contracts/errors.ts';
import type { AppendFile, FilePort } from '../../kernel/files.ts';

/** Files whose disk is full, or whose writes fail, for as long as the test says so. */
export interface FailingFiles extends FilePort {
  /** Writes and new files fail with this, until it is null again. */
  fault: Error | null;
}

export const diskFull = (): AppError => new AppError('disk-full');

export const failingFiles = (files: FilePort): FailingFiles => {
  const may = (): void => {
    if (failing.fault !== null) throw failing.fault;
  };
  const failingFile = (file: AppendFile): AppendFile => ({
    ...file,
    append: async (bytes) => {
      may();
      await file.append(bytes);
    },
    sync: async () => {
      may();
      await file.sync();
    },
  });
  const failing: FailingFiles = {
    ...files,
    fault: null,
    open: async (path) => {
      may();
      return failingFile(await files.open(path));
    },
    create: async (path) => {
      may();
      const file = await files.create(path);
      return file && failingFile(file);
    },
    allocate: async (path, size) => {
      may();
      const file = await files.allocate(path, size);
      return {
        ...file,
        write: async (bytes, offset) => {
          may();
          await file.write(bytes, offset);
        },
      };
    },
  };
  return failing;
};
