/** Sets of pods as bits, one for each endpoint number: what selectors are computed with. */

export type PodSet = Uint32Array;

export function createPodSet(endpoints: number): PodSet {
  return new Uint32Array((endpoints + 31) >>> 5);
}

export function addPods(set: PodSet, endpoints: readonly number[]): void {
  for (const endpoint of endpoints) set[endpoint >>> 5]! |= 1 << (endpoint & 31);
}

/** Takes everything out of `set` that is not in `other`. */
export function keepPods(set: PodSet, other: PodSet): void {
  for (let word = 0; word < set.length; word++) set[word]! &= other[word]!;
}

/** Takes everything out of `set` that is in `other`. */
export function removePods(set: PodSet, other: PodSet): void {
  for (let word = 0; word < set.length; word++) set[word]! &= ~other[word]!;
}

/** The endpoint numbers of a set, ascending. */
export function listPods(set: PodSet): number[] {
  const endpoints: number[] = [];
  for (let word = 0; word < set.length; word++) {
    for (let bits = set[word]!; bits !== 0; bits &= bits - 1) {
      endpoints.push((word << 5) + 31 - Math.clz32(bits & -bits));
    }
  }
  return endpoints;
}
