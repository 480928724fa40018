/**
 * ipsets: named sets of addresses, ports and their combinations, asked by rules (`-m set --match-set NAME src,dst`).
 *
 * All sets of all nodes and both families are one table. A rule names a *set*; what a node has under that name is an
 * *instance*, shared by the nodes whose contents are equal; a node may lack a set. Memory, in words:
 *
 *     header      capacity and count in elements; parameters: nodes, sets, rows, instances, log2 of slots
 *     nodes       row of each node in the directory, -1 for a node that was not compiled
 *     directory   per row `sets` words: the instance, -1 for none
 *     instances   12 words each: type (three dimensions of two bits), family (0: any), bits of the prefix lengths in use,
 *                 five words (length n is bit n & 31 of word n >> 5) for the first address and five for the second
 *     slots       2^n (at least twice the capacity) of 13 words, one element each:
 *       +0        tag: the key's hash with bit 0 set; 0 = free
 *       +1        instance
 *       +2        prefix length of the first address << 8 | of the second; 0 where there is none
 *       +3        protocol << 16 | port; 0 where there is no port
 *       +4 … +7   first address, +8 … +11 second address, both masked to their prefix
 *       +12       element id << 1 | nomatch
 *
 * An element without prefixes costs one probe. Of prefixes the longest that holds the packet decides, as in the kernel
 * (ip_set_hash_gen.h): lengths in use are tried from the longest on, of the first address before the second, and an
 * element with `nomatch` makes the answer no. bitmap:port is kept as elements too; it has no protocol.
 * Written by the compiler only, read by all; a change is a new table in a new image.
 */
import { mix32 } from './hash.ts';
import {
  attachTable,
  CAPACITY_AT,
  COUNT_AT,
  ceilPow2,
  createTable,
  HEADER_WORDS,
  KIND_IPSET,
  PARAMETERS_AT,
} from './table-header.ts';

const NODES_AT = PARAMETERS_AT;
const SETS_AT = PARAMETERS_AT + 1;
const ROWS_AT = PARAMETERS_AT + 2;
const INSTANCES_AT = PARAMETERS_AT + 3;
const SLOT_BITS_AT = PARAMETERS_AT + 4;

const INSTANCE_WORDS = 12;
const INSTANCE_TYPE = 0;
const INSTANCE_FAMILY = 1;
const INSTANCE_LENGTHS1 = 2;
const INSTANCE_LENGTHS2 = 7;
const LENGTH_WORDS = 5;

const SLOT_WORDS = 13;
const SLOT_INSTANCE = 1;
const SLOT_LENGTHS = 2;
const SLOT_PORT = 3;
const SLOT_ADDRESS1 = 4;
const SLOT_ADDRESS2 = 8;
const SLOT_ELEMENT = 12;

// Dimensions of a type, two bits each from the lowest on; 0 ends them.
export const SET_DIM_ADDRESS = 1;
const SET_DIM_PORT = 2;

// Types. An address of any of them may be a prefix: `hash:ip` and `hash:net` differ only in what they store.
/** hash:ip and hash:net. */
export const SET_ADDRESS = SET_DIM_ADDRESS;
/** hash:ip,port and hash:net,port. */
export const SET_ADDRESS_PORT = SET_DIM_ADDRESS | (SET_DIM_PORT << 2);
/** hash:ip,port,ip and hash:ip,port,net and hash:net,port,net. */
export const SET_ADDRESS_PORT_ADDRESS = SET_ADDRESS_PORT | (SET_DIM_ADDRESS << 4);
/** hash:net,net. */
export const SET_ADDRESS_ADDRESS = SET_DIM_ADDRESS | (SET_DIM_ADDRESS << 2);
/** bitmap:port: no protocol is stored, and only TCP and UDP are in it. */
export const SET_BITMAP_PORT = SET_DIM_PORT;

export interface IpSets {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly nodes: number;
  readonly sets: number;
  readonly directoryAt: number;
  readonly instancesAt: number;
  readonly slotsAt: number;
  /** Slots - 1. */
  readonly mask: number;
}

/** What a set's element holds; parts that its type lacks are ignored. */
export interface SetElement {
  /** Number by which the recorder names the element, 0 to 2^30 - 1. */
  readonly id: number;
  /** First address: four words (IPv4: word 0), and prefix length. */
  readonly address1: readonly number[];
  readonly length1: number;
  /** IANA number; ignored in bitmap:port. */
  readonly proto: number;
  /** Port; of ICMP type << 8 | code. */
  readonly port: number;
  /** Second address. */
  readonly address2: readonly number[];
  readonly length2: number;
  /** What it covers is not in the set although a shorter prefix covers it. */
  readonly nomatch: boolean;
}

/**
 * Takes sets from another thread.
 * @throws TypeError if the buffer does not hold them
 */
export function attachIpSets(buffer: SharedArrayBuffer): IpSets {
  const words = attachTable(KIND_IPSET, buffer);
  const nodes = words[NODES_AT];
  const sets = words[SETS_AT];
  const directoryAt = HEADER_WORDS + nodes;
  const instancesAt = directoryAt + words[ROWS_AT] * sets;
  const slotsAt = instancesAt + words[INSTANCES_AT] * INSTANCE_WORDS;
  const slots = 2 ** words[SLOT_BITS_AT];
  if (words.length !== slotsAt + slots * SLOT_WORDS) {
    throw new TypeError(`ipsets of ${words[INSTANCES_AT]} instances and ${slots} slots have not ${words.length} words`);
  }
  return { buffer, words, nodes, sets, directoryAt, instancesAt, slotsAt, mask: slots - 1 };
}

// ---- asking -----------------------------------------------------------------------------------------------------

/** The instance of a set on a node; -1 if the node has none. */
export function setInstance(t: IpSets, node: number, set: number): number {
  const row = t.words[HEADER_WORDS + node];
  return row === -1 ? -1 : t.words[t.directoryAt + row * t.sets + set];
}

/** Type of an instance (SET_…). */
export function setType(t: IpSets, instance: number): number {
  return t.words[t.instancesAt + instance * INSTANCE_WORDS + INSTANCE_TYPE];
}

/** True if packets of a family (4 or 6) can be in the instance. */
export function isSetOfFamily(t: IpSets, instance: number, family: number): boolean {
  const own = t.words[t.instancesAt + instance * INSTANCE_WORDS + INSTANCE_FAMILY];
  return own === 0 || own === family;
}

/**
 * The element that holds a key, or says that it is not in the set.
 * @param port protocol << 16 | port, 0 for a type without a port; bitmap:port: the port alone
 * @param a0,a1,a2,a3 first address, b0,b1,b2,b3 second; 0 where the type has none
 * @returns element id << 1 | nomatch; -1 if there is none
 */
export function findInSet(
  t: IpSets,
  instance: number,
  port: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  b0: number,
  b1: number,
  b2: number,
  b3: number,
): number {
  const at = t.instancesAt + instance * INSTANCE_WORDS;
  const lengths1 = at + INSTANCE_LENGTHS1;
  const lengths2 = at + INSTANCE_LENGTHS2;
  const words = t.words;
  const from2 = longestBelow(words, lengths2, LENGTH_WORDS * 32);
  for (let n1 = longestBelow(words, lengths1, LENGTH_WORDS * 32); n1 >= 0; n1 = longestBelow(words, lengths1, n1)) {
    const m0 = a0 & maskWord(n1);
    const m1 = a1 & maskWord(n1 - 32);
    const m2 = a2 & maskWord(n1 - 64);
    const m3 = a3 & maskWord(n1 - 96);
    for (let n2 = from2; n2 >= 0; n2 = longestBelow(words, lengths2, n2)) {
      const slot = locate(
        t,
        instance,
        (n1 << 8) | n2,
        port,
        m0,
        m1,
        m2,
        m3,
        b0 & maskWord(n2),
        b1 & maskWord(n2 - 32),
        b2 & maskWord(n2 - 64),
        b3 & maskWord(n2 - 96),
      );
      if (words[slot] !== 0) return words[slot + SLOT_ELEMENT];
    }
  }
  return -1;
}

/** The longest length below `n` whose bit is set, -1 if there is none. */
function longestBelow(words: Int32Array, at: number, n: number): number {
  let word = (n - 1) >> 5;
  let bits = word < 0 ? 0 : words[at + word] & (-1 >>> (31 - ((n - 1) & 31)));
  while (bits === 0) {
    if (--word < 0) return -1;
    bits = words[at + word];
  }
  return (word << 5) + 31 - Math.clz32(bits);
}

/** Mask of a word of which the first `length` bits count. */
function maskWord(length: number): number {
  if (length >= 32) return -1;
  return length <= 0 ? 0 : -1 << (32 - length);
}

/** Word offset of the slot with this key, or of the free slot where it belongs. */
function locate(
  t: IpSets,
  instance: number,
  lengths: number,
  port: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  b0: number,
  b1: number,
  b2: number,
  b3: number,
): number {
  const words = t.words;
  const tag = hashElement(instance, lengths, port, a0, a1, a2, a3, b0, b1, b2, b3) | 1;
  let i = (tag >>> 1) & t.mask;
  for (;;) {
    const at = t.slotsAt + i * SLOT_WORDS;
    if (words[at] === 0) return at;
    if (words[at] === tag && words[at + SLOT_INSTANCE] === instance && words[at + SLOT_LENGTHS] === lengths) {
      const first = (words[at + 4] ^ a0) | (words[at + 5] ^ a1) | (words[at + 6] ^ a2) | (words[at + 7] ^ a3);
      const second = (words[at + 8] ^ b0) | (words[at + 9] ^ b1) | (words[at + 10] ^ b2) | (words[at + 11] ^ b3);
      if ((first | second | (words[at + SLOT_PORT] ^ port)) === 0) return at;
    }
    i = (i + 1) & t.mask;
  }
}

function hashElement(
  instance: number,
  lengths: number,
  port: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  b0: number,
  b1: number,
  b2: number,
  b3: number,
): number {
  let h = (Math.imul(a0, 0x9e3779b1) + Math.imul(a1, 0x2545f491) + Math.imul(a2, 0x1b56c4e9)) | 0;
  h = (h ^ (h >>> 15)) + Math.imul(a3, 0x165667b1) + Math.imul(b0, 0x85ebca77) + Math.imul(b1, 0x5851f42d);
  h = (h ^ (h >>> 15)) + Math.imul(b2, 0x14057b7f) + Math.imul(b3, 0xc2b2ae3d) + Math.imul(port, 0x27d4eb2f);
  return mix32((h ^ (h >>> 16)) + Math.imul(instance, 0x9e3779b1) + Math.imul(lengths, 0x85ebca6b));
}

/** The elements of an instance, in no order; not for packets. */
export function setElements(t: IpSets, instance: number): SetElement[] {
  const { words } = t;
  const elements: SetElement[] = [];
  for (let at = t.slotsAt; at < words.length; at += SLOT_WORDS) {
    if (words[at] === 0 || words[at + SLOT_INSTANCE] !== instance) continue;
    elements.push({
      id: words[at + SLOT_ELEMENT]! >> 1,
      address1: [...words.subarray(at + SLOT_ADDRESS1, at + SLOT_ADDRESS1 + 4)],
      length1: words[at + SLOT_LENGTHS]! >> 8,
      proto: words[at + SLOT_PORT]! >>> 16,
      port: words[at + SLOT_PORT]! & 0xffff,
      address2: [...words.subarray(at + SLOT_ADDRESS2, at + SLOT_ADDRESS2 + 4)],
      length2: words[at + SLOT_LENGTHS]! & 0xff,
      nomatch: (words[at + SLOT_ELEMENT]! & 1) !== 0,
    });
  }
  return elements;
}

// ---- making -----------------------------------------------------------------------------------------------------

interface Instance {
  readonly type: number;
  readonly family: number;
  readonly elements: readonly SetElement[];
}

/** Collects sets; the compiler drives it and keeps what belongs to a set and to an element id. */
export class IpSetsBuilder {
  private readonly instances: Instance[] = [];
  private readonly placed: { readonly node: number; readonly set: number; readonly instance: number }[] = [];
  private readonly nodes: number;
  private readonly sets: number;

  /**
   * @param nodes nodes of the cluster
   * @param sets number of set names; a set's id is below it
   */
  constructor(nodes: number, sets: number) {
    this.nodes = nodes;
    this.sets = sets;
  }

  /**
   * Adds contents, to be placed on nodes.
   * @param type SET_…
   * @param family 4 or 6; 0 for bitmap:port
   * @returns the instance
   */
  instance(type: number, family: number, elements: readonly SetElement[]): number {
    this.instances.push({ type, family, elements });
    return this.instances.length - 1;
  }

  /** Gives a node an instance under a set's id. */
  place(node: number, set: number, instance: number): void {
    if (set < 0 || set >= this.sets) throw new RangeError(`set ${set} of ${this.sets}`);
    this.placed.push({ node, set, instance });
  }

  /**
   * The sets in shared memory. Of elements with one key the last counts.
   * @throws RangeError for a node, an instance or a prefix length that cannot be
   */
  build(): IpSets {
    const capacity = this.instances.reduce((sum, { elements }) => sum + elements.length, 0);
    const slots = Math.max(8, ceilPow2(2 * capacity));
    const rowOf = new Map<number, number>();
    for (const { node } of this.placed) if (!rowOf.has(node)) rowOf.set(node, rowOf.size);
    const rowWords = this.nodes + rowOf.size * this.sets;
    const body = rowWords + this.instances.length * INSTANCE_WORDS + slots * SLOT_WORDS;
    const words = createTable(KIND_IPSET, Math.max(1, capacity), body);
    words[NODES_AT] = this.nodes;
    words[SETS_AT] = this.sets;
    words[ROWS_AT] = rowOf.size;
    words[INSTANCES_AT] = this.instances.length;
    words[SLOT_BITS_AT] = Math.log2(slots);
    const t = attachIpSets(words.buffer);
    words.fill(-1, HEADER_WORDS, HEADER_WORDS + rowWords);
    for (const [node, row] of rowOf) {
      if (node < 0 || node >= this.nodes) throw new RangeError(`node ${node} of ${this.nodes}`);
      words[HEADER_WORDS + node] = row;
    }
    for (const { node, set, instance } of this.placed) {
      if (instance < 0 || instance >= this.instances.length) throw new RangeError(`there is no instance ${instance}`);
      words[t.directoryAt + rowOf.get(node)! * this.sets + set] = instance;
    }
    this.instances.forEach((instance, i) => {
      writeInstance(t, i, instance);
    });
    return t;
  }
}

function writeInstance(t: IpSets, number: number, instance: Instance): void {
  const words = t.words;
  const at = t.instancesAt + number * INSTANCE_WORDS;
  words[at + INSTANCE_TYPE] = instance.type;
  words[at + INSTANCE_FAMILY] = instance.family;
  const has = describeType(instance.type);
  for (const element of instance.elements) {
    const n1 = has.first ? checkLength(element.length1, instance.family) : 0;
    const n2 = has.second ? checkLength(element.length2, instance.family) : 0;
    const a = has.first ? element.address1 : NO_ADDRESS;
    const b = has.second ? element.address2 : NO_ADDRESS;
    let port = 0;
    if (has.port) port = instance.type === SET_BITMAP_PORT ? element.port : (element.proto << 16) | element.port;
    words[at + INSTANCE_LENGTHS1 + (n1 >> 5)] |= 1 << (n1 & 31);
    words[at + INSTANCE_LENGTHS2 + (n2 >> 5)] |= 1 << (n2 & 31);
    const a0 = a[0]! & maskWord(n1);
    const a1 = a[1]! & maskWord(n1 - 32);
    const a2 = a[2]! & maskWord(n1 - 64);
    const a3 = a[3]! & maskWord(n1 - 96);
    const b0 = b[0]! & maskWord(n2);
    const b1 = b[1]! & maskWord(n2 - 32);
    const b2 = b[2]! & maskWord(n2 - 64);
    const b3 = b[3]! & maskWord(n2 - 96);
    const slot = locate(t, number, (n1 << 8) | n2, port, a0, a1, a2, a3, b0, b1, b2, b3);
    if (words[slot] === 0) words[COUNT_AT]++;
    words[slot] = hashElement(number, (n1 << 8) | n2, port, a0, a1, a2, a3, b0, b1, b2, b3) | 1;
    words[slot + SLOT_INSTANCE] = number;
    words[slot + SLOT_LENGTHS] = (n1 << 8) | n2;
    words[slot + SLOT_PORT] = port;
    words.set([a0, a1, a2, a3], slot + SLOT_ADDRESS1);
    words.set([b0, b1, b2, b3], slot + SLOT_ADDRESS2);
    words[slot + SLOT_ELEMENT] = (element.id << 1) | (element.nomatch ? 1 : 0);
  }
}

const NO_ADDRESS: readonly number[] = [0, 0, 0, 0];

function describeType(type: number): { first: boolean; second: boolean; port: boolean } {
  let addresses = 0;
  let port = false;
  for (let rest = type; rest !== 0; rest >>= 2) {
    if ((rest & 3) === SET_DIM_ADDRESS) addresses++;
    else if ((rest & 3) === SET_DIM_PORT) port = true;
    else throw new RangeError(`type ${type} has a dimension ${rest & 3}`);
  }
  return { first: addresses > 0, second: addresses > 1, port };
}

function checkLength(length: number, family: number): number {
  const most = family === 4 ? 32 : 128;
  if (!Number.isInteger(length) || length < 0 || length > most) {
    throw new RangeError(`a prefix length of family ${family} is 0 to ${most}, not ${length}`);
  }
  return length;
}

/** Elements in the table. */
export function countElements(t: IpSets): number {
  return Math.min(t.words[COUNT_AT], t.words[CAPACITY_AT]);
}
