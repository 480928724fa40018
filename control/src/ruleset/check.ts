/**
 * A node's dump against what its manifests should give: what is missing, what is stale, what is foreign.
 *
 * Both sides are items, one a chain, rule, set, element or virtual server, compared within their place by what they do (their
 * key) and counted: two equal rules are two items. An item that only the dump has is *stale* where it is kube-proxy's and
 * *foreign* where it is somebody else's; one that only the manifests give is *missing*. Order is not compared, because
 * kube-proxy's own order of Services is arbitrary.
 */

export interface CheckItem {
  /** Where it stands: 'nat', 'nat KUBE-SERVICES', 'ipset KUBE-CLUSTER-IP'. */
  readonly place: string;
  /** What it is and does, apart from comments and spelling. */
  readonly key: string;
  /** As it is written. */
  readonly text: string;
  readonly file: string;
  /** 1-based; null where it has no line. */
  readonly line: number | null;
  /** Written by kube-proxy, as far as names tell. */
  readonly isOwn: boolean;
  /** The place of what stands in it: of a chain's rules, of a set's elements. Null where nothing does. */
  readonly holds: string | null;
}

export type FindingStatus = 'missing' | 'stale' | 'foreign';

export interface Finding {
  readonly status: FindingStatus;
  readonly place: string;
  readonly text: string;
  /** Of the dump; null for what is missing. */
  readonly file: string | null;
  readonly line: number | null;
  /** As in the item. */
  readonly holds: string | null;
}

export interface CheckResult {
  /** Missing ones in the order of the manifests' rules, then the others in the order of the dump. */
  readonly findings: readonly Finding[];
  /** Items that both sides have. */
  readonly same: number;
}

export function compareItems(expected: readonly CheckItem[], actual: readonly CheckItem[]): CheckResult {
  const open = new Map<string, number>();
  for (const item of expected) open.set(identityOf(item), (open.get(identityOf(item)) ?? 0) + 1);
  const extra: Finding[] = [];
  let same = 0;
  for (const item of actual) {
    const identity = identityOf(item);
    const count = open.get(identity) ?? 0;
    if (count > 0) {
      open.set(identity, count - 1);
      same++;
    } else {
      const { place, text, file, line, isOwn, holds } = item;
      extra.push({ status: isOwn ? 'stale' : 'foreign', place, text, file, line, holds });
    }
  }
  const missing: Finding[] = [];
  // Of several equal ones the last are named.
  for (const item of [...expected].reverse()) {
    const identity = identityOf(item);
    const count = open.get(identity)!;
    if (count === 0) continue;
    open.set(identity, count - 1);
    const { place, text, holds } = item;
    missing.unshift({ status: 'missing', place, text, file: null, line: null, holds });
  }
  return { findings: [...missing, ...extra], same };
}

function identityOf({ place, key }: CheckItem): string {
  return `${place}\n${key}`;
}

/** True where nothing of kube-proxy's is missing or left over. */
export function isUpToDate({ findings }: CheckResult): boolean {
  return findings.every(({ status }) => status === 'foreign');
}
