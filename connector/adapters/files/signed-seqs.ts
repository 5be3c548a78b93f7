import { utf8 } from '../../../contracts/bytes.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { AppendFile } from '../../../kernel/files.ts';
import { createTurns } from '../../../kernel/turns.ts';
import type { AccountKey, SignedSeqs } from '../../metering/ports.ts';
import {
  headText,
  type Line,
  type Loaded,
  lineText,
  loadSigned,
  nameOf,
  numbersIn,
  type Tools,
} from './signed-files.ts';

/**
 * Which statement was signed last, for each side of each agreement, as lines that are appended and synced before the
 * signature (ledger §8 "Never twice"). The folder lies outside every backup of the rows, and is the same for all processes
 * that sign.
 *
 * They sign one after the other, each as long as it has a lease, and a process that stood still goes on without one. So each
 * opening begins a file, and then reads; and a claim holds only when no later file is there after its line was written. Either
 * the later opener reads that line, or the earlier one sees that file: no number is given to two.
 */

/** Files and lines are written together when there are more. */
const spareLines = 4_096;
const maxFiles = 64;

const keyText = ({ participant, role, agreement }: AccountKey): string =>
  `${encodeURIComponent(participant)} ${role} ${agreement}`;

const overtaken = (): AppError =>
  new AppError('data-in-use', {
    detail: 'another process signs statements now, with the same folder of signed numbers',
  });

/** The files that one opener writes in a folder. */
const createWriter = ({ files, crypto }: Tools, folder: string) => {
  const own = new Set<number>();
  const place = (number: number) => `${folder}/${nameOf(number)}`;

  const isOvertaken = async (): Promise<boolean> => {
    const [first = Number.POSITIVE_INFINITY] = own;
    return (await numbersIn(files, folder)).some((number) => number > first && !own.has(number));
  };

  /** For what may fail because a later opener took away files that it had replaced. */
  const orOvertaken = async <Value>(work: Promise<Value>): Promise<Value> => {
    try {
      return await work;
    } catch (error) {
      throw (await isOvertaken()) ? overtaken() : error;
    }
  };

  /** A file of our own behind all others; its name is durable. @throws AppError `data-in-use` when it is not our first. */
  const begin = async (): Promise<number> => {
    for (;;) {
      if (await isOvertaken()) throw overtaken();
      const number = ((await numbersIn(files, folder)).at(-1) ?? 0) + 1;
      const file = await files.create(place(number));
      if (file === undefined) continue;
      own.add(number);
      await file.close();
      await files.syncFolder(folder);
      return number;
    }
  };

  const write = async (path: string, text: string): Promise<void> => {
    const file: AppendFile = await files.open(path);
    try {
      await file.append(utf8(text));
      await file.sync();
    } finally {
      await file.close();
    }
  };

  /** The lines that were kept, in one step in the place of our file; then the files before it may go. */
  const replace = async (number: number, base: number, lines: readonly Line[]): Promise<void> => {
    const temporary = `${folder}/.new-${number}`;
    await files.remove(temporary);
    const texts = [headText(crypto, { base, kept: lines.length }), ...lines.map((line) => lineText(crypto, line))];
    await write(temporary, texts.join(''));
    await orOvertaken(files.rename(temporary, place(number)));
    await files.syncFolder(folder);
  };

  const removeBefore = async (number: number): Promise<void> => {
    for (const name of await files.list(folder))
      if (/^\.new(-\d+)?$/.test(name) && Number(name.slice(5)) < number) await files.remove(`${folder}/${name}`);
    for (const older of await numbersIn(files, folder)) if (older < number) await files.remove(place(older));
    await files.syncFolder(folder);
  };

  return {
    begin,
    isOvertaken,
    orOvertaken,
    replace,
    removeBefore,
    writeHead: (number: number, base: number) => write(place(number), headText(crypto, { base, kept: undefined })),
    writeLine: (number: number, line: Line) => write(place(number), lineText(crypto, line)),
    /** What another opener wrote and had not synced yet when we read it must not be lost after we went by it. */
    settle: (number: number) => write(place(number), ''),
  };
};

const inOrder = (lines: Iterable<Line>): readonly Line[] => [...lines].sort((a, b) => a.number - b.number);

/** Lines of another folder that say more than ours, numbered behind ours. */
const furtherLines = ({ newest, last }: Loaded, others: Loaded): readonly Line[] =>
  inOrder(others.newest.values())
    .filter(({ key, seq }) => seq > (newest.get(key)?.seq ?? 0))
    .map((line, index) => ({ ...line, number: last + 1 + index }));

/** Begins a file, and reads what counts. @throws AppError `data-damaged`, `data-in-use`. */
const openFolder = async (tools: Tools, folder: string, others?: Loaded) => {
  const writer = createWriter(tools, folder);
  const file = await writer.begin();
  const loaded = await writer.orOvertaken(loadSigned(tools, folder, file));
  if (loaded.lastFile !== undefined) await writer.settle(loaded.lastFile);
  const further = others === undefined ? [] : furtherLines(loaded, others);
  const last = loaded.last + further.length;
  const isMany = loaded.files > maxFiles || loaded.lines > 4 * loaded.newest.size + spareLines;
  if (isMany || further.length > 0) {
    await writer.replace(file, last, [...inOrder(loaded.newest.values()), ...further]);
    if (!(await writer.isOvertaken())) await writer.removeBefore(file);
  } else {
    await writer.writeHead(file, last);
  }
  const newest = new Map(loaded.newest);
  for (const line of further) newest.set(line.key, line);
  return { writer, file, newest, last };
};

/**
 * Opens the folder for one process after another: from now on claims of those who opened it before fail with `data-in-use`,
 * and so do ours once somebody opens it after us. Whoever may sign then opens it anew.
 *
 * @throws AppError `data-damaged`, `disk-full`; `data-in-use` when somebody else opens it at this moment.
 */
export const openSignedSeqs = async (tools: Tools, folder: string): Promise<SignedSeqs> => {
  const opened = await openFolder(tools, folder);
  const { writer, newest } = opened;
  let { last } = opened;
  let file: number | undefined = opened.file;
  const inTurn = createTurns();

  /** A file whose write failed is given up; the next line goes into a new one. */
  const appendLine = async (line: Line): Promise<void> => {
    const begun = file;
    file = undefined;
    const number = begun ?? (await writer.begin());
    if (begun === undefined) await writer.writeHead(number, last);
    await writer.writeLine(number, line);
    if (await writer.isOvertaken()) throw overtaken();
    file = number;
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

/**
 * What was signed while the numbers were kept in another folder counts in this one from now on; then those files go. A crash
 * in between loses nothing: it is done again. For whoever signs now it is as if another process had opened the folder.
 */
export const takeOverSignedSeqs = async (tools: Tools, from: string, into: string): Promise<void> => {
  const { files } = tools;
  const old = await numbersIn(files, from);
  if (old.length === 0) return;
  const others = await loadSigned(tools, from);
  let { writer } = await openFolder(tools, into, others);
  // Who opened it meanwhile may not have read it.
  while (await writer.isOvertaken()) writer = (await openFolder(tools, into, others)).writer;
  for (const number of old) await files.remove(`${from}/${nameOf(number)}`);
  await files.syncFolder(from);
};
