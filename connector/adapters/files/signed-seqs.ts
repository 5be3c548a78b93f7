import { toBase64Url, utf8 } from '../../../contracts/bytes.ts';
import type { Crypto } from '../../../contracts/crypto.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { AppendFile, FilePort } from '../../../kernel/files.ts';
import { createTurns } from '../../../kernel/turns.ts';
import type { AccountKey, SignedSeqs } from '../../metering/ports.ts';

/**
 * Which statement was signed last, for each side of each agreement, as lines that are appended and synced before the
 * signature: `number participant role agreement seq digest check` (ledger §8 "Never twice"). The folder lies outside every
 * backup of the rows. Lines are numbered without gaps, so one that is gone is found; a torn line is no line, and what it
 * would have allowed was never signed.
 */

interface Line {
  readonly number: number;
  readonly key: string;
  readonly seq: number;
  readonly digest: string;
}

interface Tools {
  readonly files: FilePort;
  readonly crypto: Pick<Crypto, 'sha256'>;
}

/** A file is written anew when most of its lines are overtaken. */
const spareLines = 4_096;
const maxFiles = 64;

const keyText = ({ participant, role, agreement }: AccountKey): string =>
  `${encodeURIComponent(participant)} ${role} ${agreement}`;

const bodyOf = (crypto: Tools['crypto'], { number, key, seq, digest }: Line): string => {
  const text = `${number} ${key} ${seq} ${digest}`;
  return `${text} ${toBase64Url(crypto.sha256(utf8(text)).subarray(0, 12))}`;
};

const readLine = (crypto: Tools['crypto'], text: string): Line | undefined => {
  const [number, participant, role, agreement, seq, digest = ''] = text.split(' ');
  const line = { number: Number(number), key: `${participant} ${role} ${agreement}`, seq: Number(seq), digest };
  return bodyOf(crypto, line) === text ? line : undefined;
};

const nameOf = (number: number): string => `signed-${String(number).padStart(12, '0')}`;

const damaged = (): AppError => new AppError('data-damaged', { detail: 'the record of signed statements has a gap' });

interface Loaded {
  readonly newest: Map<string, Line>;
  readonly lines: number;
  readonly last: number;
  readonly file: number;
  readonly files: number;
}

/** One writer at a time: claims wait for each other. */
export const openSignedSeqs = async ({ files, crypto }: Tools, folder: string): Promise<SignedSeqs> => {
  const numbers = async (): Promise<number[]> =>
    (await files.list(folder)).flatMap((name) => (/^signed-\d{12}$/.test(name) ? [Number(name.slice(7))] : []));

  const linesIn = async (file: number): Promise<Line[]> =>
    Buffer.from((await files.read(`${folder}/${nameOf(file)}`)) ?? [])
      .toString('latin1')
      .split('\n')
      .flatMap((text) => readLine(crypto, text) ?? []);

  const load = async (): Promise<Loaded> => {
    const all = await numbers();
    const lines: Line[] = [];
    for (const file of all) lines.push(...(await linesIn(file)));
    // A line that failed and may be there all the same has the number of the one that was written in its place.
    const hasGap = lines.some(({ number }, index) => {
      const before = lines[index - 1]?.number ?? number;
      return number < before || number > before + 1;
    });
    if (hasGap) throw damaged();
    const newest = new Map(lines.map((line) => [line.key, line]));
    return { newest, lines: lines.length, last: lines.at(-1)?.number ?? 0, file: all.at(-1) ?? 0, files: all.length };
  };

  const write = async (file: AppendFile, lines: readonly Line[]): Promise<void> => {
    await file.append(utf8(lines.map((line) => `\n${bodyOf(crypto, line)}\n`).join('')));
    await file.sync();
  };

  /** The newest line of each key in a file of their own, under numbers that go on; then the others may go. */
  const compact = async (loaded: Loaded): Promise<Loaded> => {
    const older = await numbers();
    const kept = [...loaded.newest.values()].sort((a, b) => a.number - b.number);
    const lines = kept.map((line, index) => ({ ...line, number: loaded.last + 1 + index }));
    const number = loaded.file + 1;
    const temporary = `${folder}/.new`;
    await files.remove(temporary);
    const file = await files.open(temporary);
    await write(file, lines);
    await file.close();
    await files.rename(temporary, `${folder}/${nameOf(number)}`);
    await files.syncFolder(folder);
    for (const old of older) {
      await files.remove(`${folder}/${nameOf(old)}`);
      await files.syncFolder(folder); // one after the other: what is left has no gap
    }
    const newest = new Map(lines.map((line) => [line.key, line]));
    return { newest, lines: lines.length, last: loaded.last + lines.length, file: number, files: 1 };
  };

  let state = await load();
  if (state.files > maxFiles || state.lines > 4 * state.newest.size + spareLines) state = await compact(state);
  const { newest } = state;
  let { last } = state;
  let fileNumber = Math.max(1, state.file);
  const inTurn = createTurns();

  /** A file whose write failed is given up; the next line goes into a new one. */
  const appendLine = async (line: Line): Promise<void> => {
    let file: AppendFile | undefined;
    try {
      file = await files.open(`${folder}/${nameOf(fileNumber)}`);
      await files.syncFolder(folder);
      await write(file, [line]);
    } catch (error) {
      fileNumber += 1;
      throw error;
    } finally {
      await file?.close();
    }
  };

  const claim = async (key: string, seq: number, digest: string): Promise<boolean> => {
    const before = newest.get(key);
    if (before !== undefined && before.seq >= seq) return before.seq === seq && before.digest === digest;
    const line: Line = { number: last + 1, key, seq, digest };
    await appendLine(line);
    last = line.number;
    newest.set(key, line);
    return true;
  };

  return {
    newest: (key) => {
      const line = newest.get(keyText(key));
      return line && { seq: line.seq, digest: line.digest };
    },
    claim: (key, seq, digest) => inTurn(() => claim(keyText(key), seq, digest)),
  };
};
