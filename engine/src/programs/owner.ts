/**
 * Owners: who an address belongs to, one longest-prefix match per family for the whole cluster.
 *
 * A value of the owner table is `kind << 24 | index`; the index is an endpoint for OWNER_POD, a node for OWNER_NODE
 * and OWNER_POD_CIDR, 0 otherwise. No match: an address outside the cluster.
 */

/** A pod's address; the index is its endpoint. */
export const OWNER_POD = 1;
/** An address of a node. */
export const OWNER_NODE = 2;
/** Inside a node's pod CIDR, but no pod's. */
export const OWNER_POD_CIDR = 3;
/** Inside the cluster CIDR, but in no node's pod CIDR. */
export const OWNER_CLUSTER = 4;
/** A Service's address. */
export const OWNER_SERVICE = 5;

export const OWNER_BIT_NONE = 1;
export const OWNER_BIT_POD = 1 << OWNER_POD;
export const OWNER_BIT_NODE = 1 << OWNER_NODE;
export const OWNER_BIT_POD_CIDR = 1 << OWNER_POD_CIDR;
export const OWNER_BIT_CLUSTER = 1 << OWNER_CLUSTER;
export const OWNER_BIT_SERVICE = 1 << OWNER_SERVICE;

export function ownerValue(kind: number, index: number): number {
  return (kind << 24) | index;
}

export function ownerKind(value: number): number {
  return value >> 24;
}

export function ownerIndex(value: number): number {
  return value & 0xffffff;
}

/** OWNER_BIT_… of what an owner table answered. */
export function ownerBit(owner: number): number {
  return owner < 0 ? OWNER_BIT_NONE : 1 << ownerKind(owner);
}
