/** Columns of text beside each other, for a comparison of modes; in rows of as many as fit where the terminal is narrow. */

/** Narrowest column that still reads; a rule of kube-proxy is longer and gets wrapped. */
const MIN_COLUMN = 60;
const GAP = ' │ ';
const DEFAULT_WIDTH = 160;
const ANSI = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`, 'g');

/** @param width columns of the terminal, 0 for a pipe */
export function formatSideBySide(columns: readonly (readonly string[])[], width: number): string[] {
  const total = width > 0 ? width : DEFAULT_WIDTH;
  const fit = Math.max(1, Math.floor((total + GAP.length) / (MIN_COLUMN + GAP.length)));
  // Four in rows of two, rather than of three and one.
  const inRow = Math.ceil(columns.length / Math.ceil(columns.length / fit));
  if (inRow === 1) return columns.flatMap((column) => [...column, '']);
  const lines: string[] = [];
  for (let first = 0; first < columns.length; first += inRow) {
    if (first > 0) lines.push('');
    for (const line of formatRow(columns.slice(first, first + inRow), total)) lines.push(line);
  }
  return lines;
}

function formatRow(columns: readonly (readonly string[])[], total: number): string[] {
  const each = Math.floor((total - GAP.length * (columns.length - 1)) / columns.length);
  const wrapped = columns.map((column) => column.flatMap((line) => wrap(line, each)));
  const height = Math.max(...wrapped.map((column) => column.length));
  const lines: string[] = [];
  for (let row = 0; row < height; row++) {
    lines.push(
      wrapped
        .map((column) => pad(column[row] ?? '', each))
        .join(GAP)
        .trimEnd(),
    );
  }
  return lines;
}

/** Length on the screen: colours take none. */
function visibleLength(text: string): number {
  return text.replace(ANSI, '').length;
}

function pad(text: string, width: number): string {
  return text + ' '.repeat(Math.max(0, width - visibleLength(text)));
}

/** Breaks a line at spaces, its continuation indented under it; a coloured line loses its colour where it breaks. */
function wrap(line: string, width: number): string[] {
  if (visibleLength(line) <= width) return [line];
  const plain = line.replace(ANSI, '');
  const indent = `${/^ */.exec(plain)![0]}    `;
  const lines: string[] = [];
  let current = '';
  for (const word of plain.split(/(?<=\S) /)) {
    const next = current === '' ? word : `${current} ${word}`;
    if (next.length > width && current !== '') {
      lines.push(current);
      current = indent + word;
    } else current = next;
  }
  lines.push(current);
  return lines.flatMap((text) =>
    text.length <= width ? [text] : (text.match(new RegExp(`.{1,${width}}`, 'g')) ?? []),
  );
}
