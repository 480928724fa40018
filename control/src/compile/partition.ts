/**
 * Partition refinement: members that no set tells apart share a class.
 *
 * Linear in the sizes of the sets. A class that lies whole in a set keeps its number, so there are never more classes
 * than members.
 */

export class Partition {
  /** Class of each member. */
  readonly classOf: Int32Array;
  private readonly sizes: number[];
  /** Scratch of a split, by class: members of the set, and the class that they move to. */
  private readonly hits: number[] = [0];
  private readonly moved: number[] = [0];

  /** All members in class 0. */
  constructor(members: number) {
    this.classOf = new Int32Array(members);
    this.sizes = [members];
  }

  /** Classes; without members there is one all the same. */
  get count(): number {
    return this.sizes.length;
  }

  /**
   * Tells the members of a set from all others.
   * @param members distinct
   * @param visit called for each class that has members in the set, with the class that these are in afterwards
   */
  split(members: ArrayLike<number>, visit: ((from: number, to: number) => void) | null): void {
    const { classOf, sizes, hits, moved } = this;
    const touched: number[] = [];
    for (let i = 0; i < members.length; i++) {
      const from = classOf[members[i]!]!;
      if (hits[from]!++ === 0) touched.push(from);
    }
    for (const from of touched) {
      if (hits[from] === sizes[from]) moved[from] = from;
      else {
        const to = sizes.push(hits[from]!) - 1;
        sizes[from]! -= hits[from]!;
        moved[from] = to;
        hits.push(0);
        moved.push(0);
      }
    }
    for (let i = 0; i < members.length; i++) classOf[members[i]!] = moved[classOf[members[i]!]!]!;
    for (const from of touched) {
      hits[from] = 0;
      visit?.(from, moved[from]!);
    }
  }

  /** Tells members apart whose keys differ. */
  splitBy(keyOf: (member: number) => string): void {
    const groups = new Map<string, number[]>();
    for (let member = 0; member < this.classOf.length; member++) {
      const key = keyOf(member);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [member]);
      else group.push(member);
    }
    for (const group of groups.values()) this.split(group, null);
  }
}
