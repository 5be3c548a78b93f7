import { sameBytes, toBase64Url } from '../../contracts/bytes.ts';
import type { Crypto } from '../../contracts/crypto.ts';
import { AppError } from '../../contracts/errors.ts';
import { bundlePath, tilePath, tilesOf, tileWidth } from '../../contracts/ledger/tiles.ts';
import type { Logger } from '../../kernel/log.ts';
import { emptyEdge, rootOfEdge } from './edge.pure.ts';
import type { LogFile, LogFiles, LogStore, Origin, Published } from './ports.ts';
import { filesBetween } from './publisher.ts';

/** The audit of what a log serves: each file is a function of the rows, and the rows lead to the published root. */

export interface AuditReport {
  readonly checked: number;
  /** Paths of files that were missing or changed. */
  readonly damaged: readonly string[];
  readonly isRepaired: boolean;
}

interface AuditTools {
  readonly origin: Origin;
  readonly store: LogStore;
  readonly files: LogFiles;
  readonly crypto: Pick<Crypto, 'sha256'>;
  readonly log: Logger;
}

/** The files that a tree of `size` has; forms of before may lie about and mean nothing. */
const pathsOf = (size: number): Set<string> => {
  const bundles = Array.from({ length: Math.ceil(size / tileWidth) }, (_, index) =>
    bundlePath(index, Math.min(tileWidth, size - index * tileWidth)),
  );
  return new Set([...bundles, ...tilesOf(size).map(tilePath)]);
};

/**
 * Compares every file of the published tree with the rows, and writes the damaged ones again when asked.
 *
 * @throws AppError `data-damaged` when the rows themselves do not lead to the published root: then nothing is repaired.
 */
export const auditFiles = async (
  tools: AuditTools,
  published: Published | undefined,
  { repair }: { readonly repair: boolean },
): Promise<AuditReport> => {
  if (published === undefined) return { checked: 0, damaged: [], isRepaired: false };
  const paths = pathsOf(published.size);
  const damaged: LogFile[] = [];
  let edge = emptyEdge;
  for await (const piece of filesBetween(tools, emptyEdge, published.size)) {
    edge = piece.edge;
    for (const file of piece.files) {
      if (!paths.has(file.path)) continue;
      const served = await tools.files.read(file.path);
      if (served === undefined || !sameBytes(served, file.bytes)) damaged.push(file);
    }
  }
  if (toBase64Url(rootOfEdge(tools.crypto, edge)) !== published.root)
    throw new AppError('data-damaged', { detail: 'the rows do not lead to the published root' });
  const isRepaired = repair && damaged.length > 0;
  if (isRepaired) await tools.files.write(damaged);
  const names = damaged.map(({ path }) => path);
  if (names.length > 0)
    tools.log.error({ origin: tools.origin, files: names.slice(0, 20), isRepaired }, 'served files were damaged');
  return { checked: paths.size, damaged: names, isRepaired };
};
