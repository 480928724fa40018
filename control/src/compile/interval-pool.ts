/**
 * Port maps while they are collected: intervals of ports with their decisions, in one array that grows. Port maps of one
 * policy map that turn out equal are kept once.
 */
import type { IntervalSink } from './ebpf-ports.ts';

const PAIR = 2;

export class IntervalPool {
  /** Slot << 16 | first port, decision. */
  private words = new Int32Array(1024);
  private used = 0;
  /** End of each port map, in words. */
  private readonly ends: number[] = [];
  private readonly open = { at: 0, hash: 0 };
  /** Port maps of the present policy map by the hash of their words. */
  private readonly byHash = new Map<number, number[]>();
  private owner = -1;

  /** Adds an interval to the port map that was begun. */
  readonly sink: IntervalSink = (slot, first, decision) => {
    if (this.used === this.words.length) {
      const larger = new Int32Array(this.words.length * 2);
      larger.set(this.words);
      this.words = larger;
    }
    const key = (slot << 16) | first;
    this.words[this.used] = key;
    this.words[this.used + 1] = decision;
    this.used += PAIR;
    this.open.hash = Math.imul(Math.imul(this.open.hash ^ key, 0x01000193) ^ decision, 0x85ebca6b);
  };

  get portMaps(): number {
    return this.ends.length;
  }

  get intervals(): number {
    return this.used / PAIR;
  }

  begin(): void {
    this.open.at = this.used;
    this.open.hash = 0;
  }

  /**
   * Ends the port map.
   * @param owner number of its policy map; these come in order
   * @returns its number, or that of an equal one of the same owner
   */
  end(owner: number): number {
    if (owner !== this.owner) {
      this.byHash.clear();
      this.owner = owner;
    }
    const { at, hash } = this.open;
    let same = this.byHash.get(hash);
    if (same === undefined) {
      same = [];
      this.byHash.set(hash, same);
    }
    for (const portMap of same) {
      if (!this.isEqual(portMap, at)) continue;
      this.used = at;
      return portMap;
    }
    const portMap = this.ends.push(this.used) - 1;
    same.push(portMap);
    return portMap;
  }

  /** Calls for each interval of a port map, by slot and port. */
  forEach(portMap: number, visit: IntervalSink): void {
    for (let at = this.startOf(portMap); at < this.ends[portMap]!; at += PAIR) {
      const key = this.words[at]!;
      visit(key >>> 16, key & 0xffff, this.words[at + 1]!);
    }
  }

  private isEqual(portMap: number, at: number): boolean {
    const start = this.startOf(portMap);
    const length = this.ends[portMap]! - start;
    if (length !== this.used - at) return false;
    for (let i = 0; i < length; i++) if (this.words[start + i] !== this.words[at + i]) return false;
    return true;
  }

  private startOf(portMap: number): number {
    return portMap === 0 ? 0 : this.ends[portMap - 1]!;
  }
}
