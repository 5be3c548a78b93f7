import { toBase64Url, utf8 } from '../../../contracts/bytes.ts';
import type { Crypto } from '../../../contracts/crypto.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { FilePort } from '../../../kernel/files.ts';

/**
 * The files of signed numbers as they are read. One opener writes a file, and never into that of another. Its head says up to
 * which line its opener had read when it began: what an earlier opener appends after that is numbered beyond it, was never
 * allowed, and does not count. What did count is numbered without gaps, so a line or a file that is gone is found.
 */

export interface Line {
  readonly number: number;
  readonly key: string;
  readonly seq: number;
  readonly digest: string;
}

interface Head {
  /** The number of the last line that counts of the files before; the lines of this one go on behind it. */
  readonly base: number;
  /** Of a file that replaces all before it: so many lines up to `base` stand in it, the newest of each key. */
  readonly kept: number | undefined;
}

export interface Tools {
  readonly files: FilePort;
  readonly crypto: Pick<Crypto, 'sha256'>;
}

type Hash = Tools['crypto'];

const checked = (crypto: Hash, text: string): string =>
  `${text} ${toBase64Url(crypto.sha256(utf8(text)).subarray(0, 12))}`;

/** Between line breaks: what a crash tore before it is no part of it. */
export const lineText = (crypto: Hash, { number, key, seq, digest }: Line): string =>
  `\n${checked(crypto, `${number} ${key} ${seq} ${digest}`)}\n`;

export const headText = (crypto: Hash, { base, kept }: Head): string =>
  `\n${checked(crypto, `head ${base} ${kept ?? '-'}`)}\n`;

const readLine = (crypto: Hash, text: string): Line | undefined => {
  const [number, participant, role, agreement, seq, digest = ''] = text.split(' ');
  const line = { number: Number(number), key: `${participant} ${role} ${agreement}`, seq: Number(seq), digest };
  return lineText(crypto, line) === `\n${text}\n` ? line : undefined;
};

const readHead = (crypto: Hash, text: string): Head | undefined => {
  const [, base, kept] = text.split(' ');
  const head = { base: Number(base), kept: kept === '-' ? undefined : Number(kept) };
  return headText(crypto, head) === `\n${text}\n` ? head : undefined;
};

export const nameOf = (number: number): string => `signed-${String(number).padStart(12, '0')}`;

/** Numbers of the files in a folder, rising. */
export const numbersIn = async (files: FilePort, folder: string): Promise<readonly number[]> =>
  (await files.list(folder)).flatMap((name) => (/^signed-\d{12}$/.test(name) ? [Number(name.slice(7))] : []));

interface SignedFile {
  readonly number: number;
  readonly head: Head | undefined;
  readonly lines: readonly Line[];
}

/** Nothing when there is no such file. */
const readFile = async ({ files, crypto }: Tools, folder: string, number: number): Promise<SignedFile | undefined> => {
  const bytes = await files.read(`${folder}/${nameOf(number)}`);
  if (bytes === undefined) return undefined;
  const texts = Buffer.from(bytes).toString('latin1').split('\n');
  const head = texts.reduce<Head | undefined>((found, text) => found ?? readHead(crypto, text), undefined);
  return { number, head, lines: texts.flatMap((text) => readLine(crypto, text) ?? []) };
};

/**
 * The files below a number, rising. One that went meanwhile was replaced by one that was begun before us and is read after it,
 * or by a later opener, who has overtaken us.
 */
const readFiles = async (tools: Tools, folder: string, below: number): Promise<readonly SignedFile[]> => {
  const read: SignedFile[] = [];
  for (const number of await numbersIn(tools.files, folder)) {
    const file = number < below ? await readFile(tools, folder, number) : undefined;
    if (file !== undefined) read.push(file);
  }
  return read;
};

const damaged = (): AppError => new AppError('data-damaged', { detail: 'the record of signed statements has a gap' });

interface Chain {
  /** The lines that count so far. */
  readonly lines: readonly Line[];
  /** The number of the last of them. */
  readonly last: number;
  /** The highest number of any line, also of those that do not count: one opener may have read what another had not. */
  readonly highest: number;
}

const empty: Chain = { lines: [], last: 0, highest: 0 };

const behind = ({ lines, highest }: Chain, base: number): Chain => ({
  lines: lines.filter(({ number }) => number <= base),
  last: base,
  highest: Math.max(highest, base),
});

/** Lines one after the other behind the chain. */
const goOn = ({ lines, last, highest }: Chain, more: readonly Line[]): Chain => {
  if (more.some(({ number }, index) => number !== last + 1 + index)) throw damaged();
  const end = last + more.length;
  return { lines: [...lines, ...more], last: end, highest: Math.max(highest, end) };
};

/** A file that replaces all before it: it took its name when it was whole. */
const replacing = ({ lines }: SignedFile, base: number, kept: number): Chain => {
  const before = lines.slice(0, kept);
  if (before.length !== kept || before.some(({ number }) => number > base)) throw damaged();
  return goOn({ lines: before, last: base, highest: base }, lines.slice(kept));
};

/**
 * A file without a head: its opener died before it wrote one, or it is of before there were heads. Then it was begun because
 * a write failed, or at a start, and a line that failed and may be there all the same has the number of the one that was
 * written in its place.
 */
const headless = (chain: Chain, { lines }: SignedFile): Chain => {
  const [first] = lines;
  if (first === undefined) return chain;
  const base = first.number - 1;
  const isNext = chain.lines.length === 0 || first.number === chain.last || first.number === chain.last + 1;
  if (!isNext) throw damaged();
  return goOn(behind(chain, base), lines);
};

/** @throws AppError `data-damaged` when something that counted is gone. */
const follow = (files: readonly SignedFile[]): Chain => {
  const whole = files.findLastIndex(({ head }) => head?.kept !== undefined);
  let chain = empty;
  for (const [index, file] of files.entries()) {
    const { head, lines, number } = file;
    if (index < whole) continue;
    if (head === undefined) {
      chain = headless(chain, file);
    } else if (head.kept !== undefined) {
      chain = replacing(file, head.base, head.kept);
    } else {
      const isNext = number === (files[index - 1]?.number ?? 0) + 1;
      if (!isNext || head.base > chain.highest) throw damaged();
      chain = goOn(behind(chain, head.base), lines);
    }
  }
  return chain;
};

export interface Loaded {
  readonly newest: ReadonlyMap<string, Line>;
  readonly lines: number;
  readonly last: number;
  readonly files: number;
  /** The last file with anything in it. */
  readonly lastFile: number | undefined;
}

/** What counts in the files of a folder below a number, of each key the newest. @throws AppError `data-damaged`. */
export const loadSigned = async (tools: Tools, folder: string, below = Number.POSITIVE_INFINITY): Promise<Loaded> => {
  const files = await readFiles(tools, folder, below);
  const { lines, last } = follow(files);
  const newest = new Map(lines.map((line) => [line.key, line]));
  const lastFile = files.findLast((file) => file.head !== undefined || file.lines.length > 0)?.number;
  return { newest, lines: lines.length, last, files: files.length, lastFile };
};
