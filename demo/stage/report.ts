/** What the demo tells while it runs: steps, the command lines it uses, and what came of them. */
export interface Report {
  /** Begins a step of the story; a failure names it. */
  readonly step: (title: string) => void;
  readonly say: (...lines: readonly string[]) => void;
  /** A command line as its user would type it. */
  readonly command: (who: string, args: readonly string[]) => void;
  readonly table: (rows: readonly (readonly string[])[]) => void;
  /** The step under way. */
  readonly current: () => string;
}

const quoted = (word: string): string =>
  /^[\w@%+=:,./?&-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** A command line in a form that a shell takes. */
export const commandLine = (args: readonly string[]): string => `stekker ${args.map(quoted).join(' ')}`;

const widthOf = (text: string): number => [...text].length;

const inColumns = (rows: readonly (readonly string[])[]): readonly string[] => {
  const widths = (rows[0] ?? []).map((_cell, column) => Math.max(...rows.map((row) => widthOf(row[column] ?? ''))));
  return rows.map((row) =>
    row
      .map((cell, column) => cell + ' '.repeat(Math.max(0, (widths[column] ?? 0) - widthOf(cell))))
      .join('  ')
      .trimEnd(),
  );
};

/** Writes through `out`, or only remembers the step when `out` is undefined. */
export const createReport = (out: ((line: string) => void) | undefined): Report => {
  const startedAt = performance.now();
  let steps = 0;
  let current = 'start';
  const write = (line: string) => out?.(line);
  const say = (...lines: readonly string[]) => {
    for (const line of lines) write(`  ${line}`);
  };
  return {
    step: (title) => {
      steps += 1;
      current = title;
      const seconds = ((performance.now() - startedAt) / 1_000).toFixed(1);
      write(`\n${steps}. ${title}  (${seconds} s)`);
    },
    say,
    command: (who, args) => say(`${who} $ ${commandLine(args)}`),
    table: (rows) => say(...inColumns(rows)),
    current: () => current,
  };
};
