/**
 * The terminal: colour only where somebody looks (a TTY, and neither NO_COLOR nor TERM=dumb says otherwise), a progress
 * line on stderr that is overwritten on a TTY and sparse in a log.
 */
import type { Palette } from '../probe/report.ts';

const plain = (text: string): string => text;

/** The palette for a stream: ANSI colours on a terminal, nothing in a pipe. */
export function paletteFor(stream: { isTTY?: boolean }): Palette {
  const colour = stream.isTTY === true && process.env['NO_COLOR'] === undefined && process.env['TERM'] !== 'dumb';
  if (!colour) return { good: plain, bad: plain, dim: plain, bold: plain };
  const wrap = (code: number) => (text: string) => `\u001b[${code}m${text}\u001b[0m`;
  return { good: wrap(32), bad: wrap(31), dim: wrap(2), bold: wrap(1) };
}

/** Milliseconds between two progress lines: on a terminal, and in a log. */
const TTY_INTERVAL_MS = 100;
const LOG_INTERVAL_MS = 5000;

/** A live line on stderr. */
export class Progress {
  private readonly tty = process.stderr.isTTY === true;
  private last = Date.now();
  private shown = false;

  /** Shows a line, if the last one has stood long enough. */
  update(text: () => string): void {
    const now = Date.now();
    if (now - this.last < (this.tty ? TTY_INTERVAL_MS : LOG_INTERVAL_MS)) return;
    this.last = now;
    this.shown = true;
    const columns = process.stderr.columns || 120;
    process.stderr.write(this.tty ? `\r\u001b[K${text().slice(0, columns - 1)}` : `${text()}\n`);
  }

  /** Clears the live line. */
  end(): void {
    if (this.tty && this.shown) process.stderr.write('\r\u001b[K');
  }
}
