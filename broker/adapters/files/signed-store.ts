import { toBase64Url, utf8 } from '../../../contracts/bytes.ts';
import type { Crypto } from '../../../contracts/crypto.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { FilePort } from '../../../kernel/files.ts';
import type { SignedHead, SignedStore } from '../../ledger/ports.ts';

/**
 * The intent as lines that are appended and synced: `from to token check`, where `from` and `to` are `size:root`, or `size:root:fence`. Appending
 * is what makes it a compare-and-swap among processes: each reads the files again afterwards, and the first line that goes
 * on from the last decision has won. A torn line is no line; a line that goes on from nothing is damage.
 *
 * A file takes a fixed number of decisions, then the next one begins; only the two newest are read.
 */
const decisionsPerFile = 64;
const none = '-';

interface Decision {
  readonly from: string;
  readonly to: string;
  /** Who wrote it: two processes that decide the same at once are still two. */
  readonly token: string;
}

interface Tools {
  readonly files: FilePort;
  readonly crypto: Pick<Crypto, 'sha256'>;
  /** Random, different in each process. */
  readonly token: string;
}

type Sha256 = Pick<Crypto, 'sha256'>;

const bodyOf = (crypto: Sha256, { from, to, token }: Decision): string => {
  const text = `${from} ${to} ${token}`;
  return `${text} ${toBase64Url(crypto.sha256(utf8(text)).subarray(0, 12))}`;
};

const readDecision = (crypto: Sha256, line: string): Decision | undefined => {
  const [from, to, token] = line.split(' ');
  if (from === undefined || to === undefined || token === undefined) return undefined;
  return bodyOf(crypto, { from, to, token }) === line ? { from, to, token } : undefined;
};

/** Bytes as they are: what a crash left may be no text. */
const linesOf = (bytes: Uint8Array | undefined): string[] =>
  Buffer.from(bytes ?? [])
    .toString('latin1')
    .split('\n');

const textOfHead = (head: SignedHead | undefined): string => {
  if (head === undefined) return none;
  return `${head.size}:${head.root}${head.fence === undefined ? '' : `:${head.fence}`}`;
};

const headOf = (text: string): SignedHead => {
  const [size, root, fence] = text.split(':');
  return { size: Number(size), root: root ?? '', ...(fence === undefined ? {} : { fence: Number(fence) }) };
};

const nameOf = (number: number): string => `signed-${String(number).padStart(12, '0')}`;

interface Chain {
  /** What counts, in order; the first may go on from a file that is gone. */
  readonly decisions: readonly Decision[];
  /** The file that the next decision belongs in. */
  readonly next: number;
}

/** The intent in a folder of its own, which lies outside every backup of the rows. */
export const fileSignedStore = ({ files, crypto, token }: Tools, folder: string): SignedStore => {
  const numbers = async (): Promise<number[]> =>
    (await files.list(folder)).flatMap((name) => (/^signed-\d{12}$/.test(name) ? [Number(name.slice(7))] : []));

  const addFile = (chain: Decision[], lines: readonly string[]): number => {
    let count = 0;
    const earlier = new Set(chain.flatMap(({ from, to }) => [from, to]));
    for (const line of lines) {
      const decision = readDecision(crypto, line);
      if (decision === undefined) continue;
      const last = chain.at(-1);
      if (count < decisionsPerFile && (last === undefined || decision.from === last.to)) {
        chain.push(decision);
        count += 1;
      } else if (!earlier.has(decision.from)) {
        throw new AppError('data-damaged', { detail: 'the record of what was signed has a gap' });
      }
      earlier.add(decision.from).add(decision.to);
    }
    return count;
  };

  const load = async (): Promise<Chain> => {
    const newest = (await numbers()).slice(-2);
    const decisions: Decision[] = [];
    let next = newest.at(-1) ?? 1;
    for (const number of newest) {
      const count = addFile(decisions, linesOf(await files.read(`${folder}/${nameOf(number)}`)));
      next = count < decisionsPerFile ? number : number + 1;
    }
    return { decisions, next };
  };

  const append = async (number: number, decision: Decision): Promise<void> => {
    const file = await files.open(`${folder}/${nameOf(number)}`);
    try {
      await file.append(utf8(`\n${bodyOf(crypto, decision)}\n`)); // what a crash tore off before it is a line of its own
      await file.sync();
    } finally {
      await file.close();
    }
    await files.syncFolder(folder);
  };

  const removeOld = async (): Promise<void> => {
    for (const number of (await numbers()).slice(0, -3)) await files.remove(`${folder}/${nameOf(number)}`);
  };

  return {
    read: async () => {
      const last = (await load()).decisions.at(-1);
      return last && headOf(last.to);
    },
    swap: async (from, to) => {
      const before = await load();
      const expected = textOfHead(from);
      if ((before.decisions.at(-1)?.to ?? none) !== expected) return false;
      const mine: Decision = { from: expected, to: textOfHead(to), token };
      await append(before.next, mine);
      const won = (await load()).decisions.find((decision) => decision.from === expected);
      if (won?.token !== token || won.to !== mine.to) return false;
      await removeOld();
      return true;
    },
  };
};
