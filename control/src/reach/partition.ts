/** A partition of 0 … size - 1 into classes: it starts as one class and is split until nothing more tells members apart. */

export class Partition {
  /** Class of each member. */
  readonly classOf: Int32Array;
  private readonly sizes: number[];

  constructor(size: number) {
    this.classOf = new Int32Array(size);
    this.sizes = [size];
  }

  get count(): number {
    return this.sizes.length;
  }

  /** Tells these members apart from the others. Takes time for them alone. */
  split(members: readonly number[]): void {
    const { classOf, sizes } = this;
    const inside = new Map<number, number>();
    for (const member of members) inside.set(classOf[member]!, (inside.get(classOf[member]!) ?? 0) + 1);
    const renamed = new Map<number, number>();
    for (const [old, count] of inside) {
      if (count === sizes[old]) continue;
      renamed.set(old, sizes.length);
      sizes[old]! -= count;
      sizes.push(count);
    }
    if (renamed.size === 0) return;
    for (const member of members) classOf[member] = renamed.get(classOf[member]!) ?? classOf[member]!;
  }

  /** Tells members apart whose keys differ. */
  splitBy(keyOf: (member: number) => string): void {
    const { classOf } = this;
    const groups = new Map<string, number[]>();
    for (let member = 0; member < classOf.length; member++) {
      const key = keyOf(member);
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [member]);
      else group.push(member);
    }
    for (const group of groups.values()) this.split(group);
  }
}
