import { AppError } from '../../contracts/errors.ts';
import type { FilePort } from '../../kernel/files.ts';

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
  const failing: FailingFiles = {
    ...files,
    fault: null,
    open: async (path) => {
      may();
      const file = await files.open(path);
      return {
        ...file,
        append: async (bytes) => {
          may();
          await file.append(bytes);
        },
        sync: async () => {
          may();
          await file.sync();
        },
      };
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
