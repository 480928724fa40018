/**
 * IPVS services: which virtual server a packet meets on a node, its options, its real servers, and the tables over them
 * that its scheduler indexes.
 *
 * A *service* is an address, port and protocol, or a mark. Nodes agree on most: `services` holds the row of the virtual
 * server of every node, and `nodeServers` the rows of single nodes that have another one (a Local policy, topology
 * hints) or that alone have it (nodePorts on their addresses). Virtual servers that are equal are one row.
 *
 *     services      (address words 0-3, family << 24 | port << 8 | proto) -> number, row or -1, 1 if nodes differ
 *                   a mark: (mark, 0, 0, 0, family << 24)
 *     nodeServers   (number of the service, node) -> row, -1 for none there
 *     words         rows of VS_WORDS words, then real servers of RS_WORDS words, then rings
 *
 * Real servers stand in the order in which the kernel's list has them, which rr, wrr, sh, dh and mh go by: the one added
 * last comes first (ip_vs_ctl.c adds at the head). The builder turns the order of adding around.
 * A ring is the lookup table of sh, dh (256) or mh (4,093): positions of real servers in their virtual server, -1 for none.
 * Refuses other ways to forward than translation (masq); kube-proxy asks for no other.
 * Written by the compiler only, read by all; a change is a new image. Ids live longer: connections and counts are kept by
 * VS_ID and RS_ID, so an id must mean the same in every image of a cluster.
 */
import { mix32 } from './hash.ts';
import {
  attachHashTable,
  createHashTable,
  type HashTable,
  hashFind2,
  hashFind5,
  hashInsert2,
  hashInsert5,
  rowValue,
  setRowValue,
} from './hash-table.ts';
import { fillDestinationRing, fillMaglevRing, fillSourceRing, MH_RING, SH_RING } from './ipvs-rings.ts';
import {
  attachTable,
  CAPACITY_AT,
  createTable,
  HEADER_WORDS,
  KIND_IPVS_SERVICES,
  PARAMETERS_AT,
} from './table-header.ts';

// Schedulers.
export const SCHED_RR = 0;
export const SCHED_WRR = 1;
export const SCHED_LC = 2;
export const SCHED_WLC = 3;
export const SCHED_LBLC = 4;
export const SCHED_LBLCR = 5;
export const SCHED_SH = 6;
export const SCHED_DH = 7;
export const SCHED_SED = 8;
export const SCHED_NQ = 9;
export const SCHED_MH = 10;
export const SCHED_FO = 11;
export const SCHED_OVF = 12;

/** Names as ipvsadm prints them, by SCHED_…. */
export const SCHEDULER_NAMES = [
  'rr',
  'wrr',
  'lc',
  'wlc',
  'lblc',
  'lblcr',
  'sh',
  'dh',
  'sed',
  'nq',
  'mh',
  'fo',
  'ovf',
] as const;

// A virtual server's row.
/** 0 to 2^31 - 1: the same virtual server in every image; on all nodes the same. */
export const VS_ID = 0;
export const VS_SCHEDULER = 1;
/** VS_… bits. */
export const VS_FLAGS = 2;
/** Persistence in ms; only with VS_PERSISTENT. */
export const VS_TIMEOUT_MS = 3;
/** Prefix length by which persistence knows a client. */
export const VS_NETMASK = 4;
/** First real server (row) and their number. */
export const VS_FIRST = 5;
export const VS_COUNT = 6;
/** Word offset of the ring in `words`, 0 without one. */
export const VS_RING = 7;
/** Of the weights: greatest common divisor (1 if all are 0) and largest. */
export const VS_GCD = 8;
export const VS_MAX_WEIGHT = 9;
/** What the service is: its port (0: any, or a mark) and its mark (0: none). */
export const VS_PORT = 10;
export const VS_MARK = 11;
/** Hash of the real servers' ids and weights in their order: when it changes, cursors look where they stand. */
export const VS_LIST = 12;
const VS_WORDS = 13;

export const VS_PERSISTENT = 1;
/** Each UDP packet is scheduled on its own and leaves no connection behind. */
export const VS_ONE_PACKET = 2;
/** sh and mh: another real server where the chosen one cannot take the connection (flag 1 of the scheduler). */
export const VS_FALLBACK = 4;
/** sh and mh: the client's port is hashed too (flag 2 of the scheduler). */
export const VS_HASH_PORT = 8;

// A real server's row.
/** 0 to 2^31 - 1: the same real server of the same virtual server in every image. */
export const RS_ID = 0;
/** Address words 0 to 3; IPv4 is word 0. */
export const RS_ADDRESS = 1;
export const RS_PORT = 5;
/** 0: no new connections (quiesced). */
export const RS_WEIGHT = 6;
/** Connections from which on it gets no more, and below which it does again; 0: none. */
export const RS_UPPER = 7;
export const RS_LOWER = 8;
/** Row of the virtual server that it belongs to. */
export const RS_SERVER = 9;
const RS_WORDS = 10;

const SERVERS_AT = PARAMETERS_AT;
const REALS_AT = PARAMETERS_AT + 1;
const RINGS_AT = PARAMETERS_AT + 2;
const MARKS_AT = PARAMETERS_AT + 3;
const WILDCARDS_AT = PARAMETERS_AT + 4;
const GENERATION_AT = PARAMETERS_AT + 5;

const SERVICE_NUMBER = 0;
const SERVICE_ROW = 1;
const SERVICE_DIFFERS = 2;

export interface IpvsServices {
  readonly services: HashTable;
  readonly nodeServers: HashTable;
  readonly words: Int32Array;
  readonly buffer: SharedArrayBuffer;
  /** Word offsets of row 0. */
  readonly serversAt: number;
  readonly realsAt: number;
  /** 1 if there are services by mark, or with port 0 (any port). */
  readonly hasMarks: number;
  readonly hasWildcards: number;
  /** Hash of all of it: equal in images with equal services. */
  readonly generation: number;
}

export interface IpvsServicesParts {
  readonly services: SharedArrayBuffer;
  readonly nodeServers: SharedArrayBuffer;
  readonly words: SharedArrayBuffer;
}

export function ipvsServicesParts(t: IpvsServices): IpvsServicesParts {
  return { services: t.services.buffer, nodeServers: t.nodeServers.buffer, words: t.buffer };
}

/**
 * Takes services from another thread.
 * @throws TypeError if a buffer does not hold its table
 */
export function attachIpvsServices(parts: IpvsServicesParts): IpvsServices {
  const words = attachTable(KIND_IPVS_SERVICES, parts.words);
  const realsAt = HEADER_WORDS + words[SERVERS_AT] * VS_WORDS;
  const end = realsAt + words[REALS_AT] * RS_WORDS + words[RINGS_AT];
  if (words.length !== end) {
    throw new TypeError(`${words[SERVERS_AT]} virtual servers have not ${words.length} words`);
  }
  return {
    services: attachHashTable(parts.services),
    nodeServers: attachHashTable(parts.nodeServers),
    words,
    buffer: parts.words,
    serversAt: HEADER_WORDS,
    realsAt,
    hasMarks: words[MARKS_AT],
    hasWildcards: words[WILDCARDS_AT],
    generation: words[GENERATION_AT],
  };
}

// ---- asking -----------------------------------------------------------------------------------------------------

/** The fifth key word of a service; port and proto are 0 for a mark. */
export function servicePort(family: number, port: number, proto: number): number {
  return (family << 24) | (port << 8) | proto;
}

/** The virtual server of a key on a node: its row, -1 for none. */
export function findServer(
  t: IpvsServices,
  node: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  port: number,
): number {
  const at = hashFind5(t.services, a0, a1, a2, a3, port);
  if (at === -1) return -1;
  if (rowValue(t.services, at, SERVICE_DIFFERS) !== 0) {
    const own = hashFind2(t.nodeServers, rowValue(t.services, at, SERVICE_NUMBER), node);
    if (own !== -1) return rowValue(t.nodeServers, own, 0);
  }
  return rowValue(t.services, at, SERVICE_ROW);
}

/** A word (VS_…) of a virtual server's row. */
export function serverWord(t: IpvsServices, row: number, word: number): number {
  return t.words[t.serversAt + row * VS_WORDS + word];
}

/** A word (RS_…) of a real server's row. */
export function realWord(t: IpvsServices, real: number, word: number): number {
  return t.words[t.realsAt + real * RS_WORDS + word];
}

/** Row of the real server with this id in a virtual server, -1 if it is not there. */
export function findReal(t: IpvsServices, row: number, id: number): number {
  const first = serverWord(t, row, VS_FIRST);
  const end = first + serverWord(t, row, VS_COUNT);
  for (let real = first; real < end; real++) if (realWord(t, real, RS_ID) === id) return real;
  return -1;
}

// ---- making -----------------------------------------------------------------------------------------------------

export interface RealServerRow {
  readonly id: number;
  /** Four words; IPv4 is word 0. */
  readonly address: readonly number[];
  readonly port: number;
  /** 0 to 65,535. */
  readonly weight: number;
  /** The weight it last had above 0, which mh's ring goes by while it drains (ip_vs_mh.c); `weight` where that is not 0. */
  readonly lastWeight: number;
  readonly upper: number;
  readonly lower: number;
}

export interface VirtualServerRow {
  readonly id: number;
  readonly scheduler: number;
  readonly flags: number;
  readonly timeoutMs: number;
  readonly netmask: number;
  readonly family: number;
  /** The service's port, 0 for any port or a mark. */
  readonly port: number;
  /** The service's mark, 0 for a service by address. */
  readonly mark: number;
  /** In the order in which they were added. */
  readonly realServers: readonly RealServerRow[];
}

/** What a packet carries to meet a virtual server. */
export interface ServiceKey {
  readonly family: number;
  /** Four words; of a mark (mark, 0, 0, 0). */
  readonly address: readonly number[];
  /** 0 for any port, and of a mark. */
  readonly port: number;
  /** IANA number; 0 of a mark. */
  readonly proto: number;
}

/** Collects virtual servers; the compiler drives it and keeps what belongs to a row. */
export class IpvsServicesBuilder {
  private readonly servers: VirtualServerRow[] = [];
  private readonly keys = new Map<string, { readonly key: ServiceKey; row: number }>();
  private readonly own: { readonly service: string; readonly node: number; readonly row: number }[] = [];
  private reals = 0;

  /**
   * Adds a virtual server, to be found by `listen` or `listenOn`; the caller shares what is equal.
   * @returns its row, and the row of the real server that was added first; the one added n-th has the row `real - n`
   */
  server(server: VirtualServerRow): { readonly row: number; readonly real: number } {
    this.servers.push(server);
    this.reals += server.realServers.length;
    return { row: this.servers.length - 1, real: this.reals - 1 };
  }

  /** Every node has this virtual server at a key, but those that `listenOn` tells otherwise. */
  listen(key: ServiceKey, row: number): void {
    this.service(key).row = row;
  }

  /** A node has this virtual server at a key, or none (-1). */
  listenOn(node: number, key: ServiceKey, row: number): void {
    this.service(key);
    this.own.push({ service: keyText(key), node, row });
  }

  /** The services in shared memory. */
  build(): IpvsServices {
    const services = createHashTable(5, 3, Math.max(1, this.keys.size));
    const nodeServers = createHashTable(2, 1, Math.max(1, this.own.length));
    const rings = this.servers.reduce((sum, { scheduler }) => sum + ringSize(scheduler), 0);
    const body = this.servers.length * VS_WORDS + this.reals * RS_WORDS + rings;
    const words = createTable(KIND_IPVS_SERVICES, Math.max(1, this.servers.length), body);
    words[SERVERS_AT] = this.servers.length;
    words[REALS_AT] = this.reals;
    words[RINGS_AT] = rings;
    const numbers = new Map<string, number>();
    const differ = new Set(this.own.map(({ service }) => service));
    for (const [text, { key, row }] of this.keys) {
      const [a0, a1, a2, a3] = key.address as [number, number, number, number];
      const at = hashInsert5(services, a0, a1, a2, a3, servicePort(key.family, key.port, key.proto));
      setRowValue(services, at, SERVICE_NUMBER, numbers.size);
      setRowValue(services, at, SERVICE_ROW, row);
      setRowValue(services, at, SERVICE_DIFFERS, differ.has(text) ? 1 : 0);
      numbers.set(text, numbers.size);
      if (key.proto === 0) words[MARKS_AT] = 1;
      else if (key.port === 0) words[WILDCARDS_AT] = 1;
    }
    for (const { service, node, row } of this.own) {
      setRowValue(nodeServers, hashInsert2(nodeServers, numbers.get(service)!, node), 0, row);
    }
    const parts = { services: services.buffer, nodeServers: nodeServers.buffer, words: words.buffer };
    this.writeServers(attachIpvsServices(parts));
    words[GENERATION_AT] = hashWords([hashWords(words), hashWords(services.words), hashWords(nodeServers.words)]);
    return attachIpvsServices(parts);
  }

  private service(key: ServiceKey): { readonly key: ServiceKey; row: number } {
    const text = keyText(key);
    let service = this.keys.get(text);
    if (service === undefined) {
      service = { key, row: -1 };
      this.keys.set(text, service);
    }
    return service;
  }

  private writeServers(t: IpvsServices): void {
    let real = 0;
    let ring = t.realsAt + this.reals * RS_WORDS;
    this.servers.forEach((server, row) => {
      const list = server.realServers.toReversed();
      const weights = list.map(({ weight }) => weight);
      const size = ringSize(server.scheduler);
      t.words.set(
        [
          server.id,
          server.scheduler,
          server.flags,
          server.timeoutMs,
          server.netmask,
          real,
          list.length,
          size === 0 ? 0 : ring,
          weights.reduce(gcd, 0) || 1,
          Math.max(0, ...weights),
          server.port,
          server.mark,
          hashWords(list.flatMap(({ id, weight }) => [id, weight])),
        ],
        t.serversAt + row * VS_WORDS,
      );
      fillRing(t.words.subarray(ring, ring + size), server, list);
      ring += size;
      for (const { id, address, port, weight, upper, lower } of list) {
        t.words.set([id, ...address, port, weight, upper, lower, row], t.realsAt + real * RS_WORDS);
        real++;
      }
    });
  }
}

/** Virtual servers in the table. */
export function countServers(t: IpvsServices): number {
  return Math.min(t.words[SERVERS_AT], t.words[CAPACITY_AT]);
}

function keyText({ family, address, port, proto }: ServiceKey): string {
  return `${family} ${address.map((word) => word | 0).join(' ')} ${port} ${proto}`;
}

function ringSize(scheduler: number): number {
  if (scheduler === SCHED_SH || scheduler === SCHED_DH) return SH_RING;
  return scheduler === SCHED_MH ? MH_RING : 0;
}

function fillRing(ring: Int32Array, server: VirtualServerRow, list: readonly RealServerRow[]): void {
  if (server.scheduler === SCHED_SH) fillSourceRing(ring, list);
  else if (server.scheduler === SCHED_DH) fillDestinationRing(ring, list.length);
  else if (server.scheduler === SCHED_MH) fillMaglevRing(ring, list);
}

function hashWords(words: ArrayLike<number>): number {
  let hash = 0;
  for (let i = 0; i < words.length; i++) hash = mix32((Math.imul(hash, 31) + words[i]! + 0x9e3779b1) | 0);
  return hash;
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
