/** Pairs of numbers in the order in which they were met, to be read once more in that order. 8 bytes a pair. */

const CHUNK_PAIRS = 1 << 16;

export class KeyLog {
  private readonly chunks: Int32Array[] = [];
  private written = 0;
  private read = 0;

  push(before: number, after: number): void {
    const at = this.written % CHUNK_PAIRS;
    if (at === 0) this.chunks.push(new Int32Array(2 * CHUNK_PAIRS));
    const chunk = this.chunks[this.chunks.length - 1]!;
    chunk[2 * at] = before;
    chunk[2 * at + 1] = after;
    this.written++;
  }

  /** Goes on to the next pair; `before` and `after` are its numbers then. */
  next(): void {
    const at = this.read % CHUNK_PAIRS;
    const chunk = this.chunks[(this.read - at) / CHUNK_PAIRS]!;
    this.before = chunk[2 * at]!;
    this.after = chunk[2 * at + 1]!;
    this.read++;
  }
  before = -1;
  after = -1;
}
