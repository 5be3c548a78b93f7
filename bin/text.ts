/** Text for terminals and spreadsheets. Much of it was written by others, so nothing in it may act. */

/** Control and formatting characters can move the cursor, hide text or turn it around: none reaches the terminal. */
export const plain = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '·');

const widthOf = (text: string): number => [...text].length;

/** Rows in columns, the first row as heading. Cells are made plain; the last column is not padded. */
export const table = (rows: readonly (readonly string[])[]): readonly string[] => {
  const cells = rows.map((row) => row.map(plain));
  const widths = (cells[0] ?? []).map((_cell, column) => Math.max(...cells.map((row) => widthOf(row[column] ?? ''))));
  return cells.map((row) =>
    row
      .map((cell, column) =>
        column === row.length - 1 ? cell : cell + ' '.repeat((widths[column] ?? 0) - widthOf(cell)),
      )
      .join('  ')
      .trimEnd(),
  );
};

/** A cell of RFC 4180; what a spreadsheet would take for a formula gets a quote before it. */
const cellOf = (text: string): string => {
  const tame = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(tame) ? `"${tame.replaceAll('"', '""')}"` : tame;
};

/** Rows as CSV, the first one as heading. */
export const csv = (rows: readonly (readonly string[])[]): readonly string[] =>
  rows.map((row) => row.map(cellOf).join(','));
