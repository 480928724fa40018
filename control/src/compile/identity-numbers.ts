/**
 * Numbers of security identities: one for each label set and each CIDR of a policy, given once.
 *
 * A number follows from what it stands for (a hash), so one cluster prints the same numbers wherever it is compiled; where
 * two hashes meet, the later one takes the next free number. Whoever keeps the object over changes of the cluster keeps
 * every number: it is handed from model to model.
 */

/** Cilium's: identities of the cluster from 256 on, those that a node makes itself (CIDRs) from 2^24 on. */
export type IdentityScope = 'cluster' | 'cidr';

const FIRST: Readonly<Record<IdentityScope, number>> = { cluster: 256, cidr: (1 << 24) + 1 };
/** Numbers of a scope that hashes lead to; half full, the scope goes on in turn behind them. */
const SPAN = 65_535 - 256 + 1;

export class IdentityNumbers {
  private readonly numbers: Readonly<Record<IdentityScope, Map<string, number>>> = {
    cluster: new Map(),
    cidr: new Map(),
  };
  private readonly taken = new Set<number>();

  /** @param key what the identity stands for: equal keys have equal numbers */
  numberOf(scope: IdentityScope, key: string): number {
    const known = this.numbers[scope];
    const has = known.get(key);
    if (has !== undefined) return has;
    const first = FIRST[scope];
    const isHashed = known.size < SPAN / 2;
    let number = isHashed ? first + (hashText(key) % SPAN) : first + SPAN + known.size;
    while (this.taken.has(number)) number = number === first + SPAN - 1 ? first : number + 1;
    this.taken.add(number);
    known.set(key, number);
    return number;
  }
}

/** FNV-1a over UTF-16 units. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash ^ (hash >>> 15)) >>> 0;
}
