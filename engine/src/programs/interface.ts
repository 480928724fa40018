/**
 * Numbered interfaces: which one a frame comes in by and leaves by on the node of a real ruleset, and what its routing
 * table says of an address.
 *
 * An image of manifests knows classes of interfaces only (IFACE_…: a pod's, the uplink, lo). An image made for a real
 * node has names. Control sorts them by their bytes, so that an exact name is one number and a pattern with `+` or `*` a
 * range first … last; rules of iptables and nftables compare numbers.
 *
 * 1. What a local process sends has no incoming interface; what is delivered to the node has no outgoing one.
 * 2. A frame comes in by the interface of the node's route toward its source: a reverse-path check always holds.
 * 3. It leaves by the interface of the route toward its destination, lo for an address of the node.
 *
 * `rows`, ROUTE_WORDS words a route, numbered as the values of the two lookup tables:
 *
 *     +0 RTN_… as rtnetlink numbers them    +1 interface    +2–5 address to masquerade with (0: none)
 *
 * `devices`, DEVICE_WORDS words an interface:
 *
 *     +0 DEVICE_… flags    +1 first IPv4 address (0: none)    +2–5 first IPv6 address (0: none)
 *
 * Read only on the packet path. Only the one node `node` has numbers; the others of its cluster keep classes.
 */
import { attachLpm4, type Lpm4, lpm4Find } from '../tables/lpm4.ts';
import { attachLpm6, type Lpm6, lpm6Find } from '../tables/lpm6.ts';
import { IFACE_LOOPBACK } from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';

/** Types of a route, rtnetlink(7). */
export const RTN_UNICAST = 1;
export const RTN_LOCAL = 2;
export const RTN_BROADCAST = 3;
export const RTN_ANYCAST = 4;
export const RTN_MULTICAST = 5;
export const RTN_BLACKHOLE = 6;
export const RTN_UNREACHABLE = 7;
export const RTN_PROHIBIT = 8;

export const ROUTE_WORDS = 6;
const ROUTE_TYPE = 0;
const ROUTE_DEVICE = 1;
const ROUTE_SOURCE = 2;

/** The loopback interface. */
export const DEVICE_LOOPBACK = 1;
/** A bridge: what comes in and leaves by it is bridged, not routed, and netfilter sees it by way of br_netfilter. */
export const DEVICE_BRIDGE = 2;

export const DEVICE_WORDS = 6;
const DEVICE_FLAGS = 0;
export const DEVICE_ADDRESS4 = 1;
export const DEVICE_ADDRESS6 = 2;

/** No interface: of a local process's frame on its way in, and where no route says one. */
export const NO_DEVICE = -1;

export interface Interfaces {
  /** The node whose interfaces these are. */
  readonly node: number;
  readonly routes4: Lpm4;
  readonly routes6: Lpm6;
  readonly rows: Int32Array;
  readonly devices: Int32Array;
  /** Number of lo; NO_DEVICE if the node lacks it. */
  readonly loopback: number;
}

export interface InterfacesParts {
  readonly node: number;
  readonly routes4: SharedArrayBuffer;
  readonly routes6: SharedArrayBuffer;
  readonly rows: SharedArrayBuffer;
  readonly devices: SharedArrayBuffer;
  readonly loopback: number;
}

/** The interfaces for another thread; `rows` and `devices` are whole shared buffers, as control makes them. */
export function interfacesParts(interfaces: Interfaces): InterfacesParts {
  const { node, loopback, routes4, routes6, rows, devices } = interfaces;
  if (!(rows.buffer instanceof SharedArrayBuffer) || !(devices.buffer instanceof SharedArrayBuffer)) {
    throw new TypeError('interfaces for another thread lie in shared memory');
  }
  return {
    node,
    loopback,
    routes4: routes4.buffer,
    routes6: routes6.buffer,
    rows: rows.buffer,
    devices: devices.buffer,
  };
}

/** @throws TypeError if a buffer does not hold its table */
export function attachInterfaces(parts: InterfacesParts): Interfaces {
  return {
    node: parts.node,
    loopback: parts.loopback,
    routes4: attachLpm4(parts.routes4),
    routes6: attachLpm6(parts.routes6),
    rows: new Int32Array(parts.rows),
    devices: new Int32Array(parts.devices),
  };
}

/** The numbered interfaces of the frame's node, null where it has none. */
export function interfacesOf(dp: Datapath, b: Burst, s: number): Interfaces | null {
  const interfaces = dp.topology.interfaces;
  return interfaces !== null && interfaces.node === b.node[s] ? interfaces : null;
}

/** Number of the interface that a frame of class IFACE_… `kind` comes in by (rule 2 above). */
export function incomingDevice(dp: Datapath, interfaces: Interfaces, b: Burst, s: number, kind: number): number {
  if (kind === 0) return NO_DEVICE;
  if (kind === IFACE_LOOPBACK) return interfaces.loopback;
  return routeDevice(interfaces, findSourceRoute(dp, interfaces, b, s));
}

/** Number of the interface that it leaves by (rule 3). */
export function outgoingDevice(dp: Datapath, interfaces: Interfaces, b: Burst, s: number, kind: number): number {
  if (kind === 0) return NO_DEVICE;
  if (kind === IFACE_LOOPBACK) return interfaces.loopback;
  return routeDevice(interfaces, findDestinationRoute(dp, interfaces, b, s));
}

/** Row of the route toward the frame's source, as a word offset in `rows`; -1 for none. */
export function findSourceRoute(dp: Datapath, interfaces: Interfaces, b: Burst, s: number): number {
  dp.counters[COUNT_LOOKUPS]++;
  const row =
    b.family[s] === 4
      ? lpm4Find(interfaces.routes4, b.src0[s])
      : lpm6Find(interfaces.routes6, b.src0[s], b.src1[s], b.src2[s], b.src3[s]);
  return row === -1 ? -1 : row * ROUTE_WORDS;
}

/** Row of the route toward the frame's destination, as a word offset in `rows`; -1 for none. */
export function findDestinationRoute(dp: Datapath, interfaces: Interfaces, b: Burst, s: number): number {
  dp.counters[COUNT_LOOKUPS]++;
  const row =
    b.family[s] === 4
      ? lpm4Find(interfaces.routes4, b.dst0[s])
      : lpm6Find(interfaces.routes6, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s]);
  return row === -1 ? -1 : row * ROUTE_WORDS;
}

/** RTN_… of a row; 0 where there is no route. */
export function routeType(interfaces: Interfaces, row: number): number {
  return row === -1 ? 0 : interfaces.rows[row + ROUTE_TYPE];
}

/** Interface of a row that leads somewhere else; NO_DEVICE for no route, a refusing one, or an address of the node. */
export function routeDevice(interfaces: Interfaces, row: number): number {
  return routeType(interfaces, row) === RTN_UNICAST ? interfaces.rows[row + ROUTE_DEVICE] : NO_DEVICE;
}

/** Interface that holds an address of the node or a broadcast address, or leads to another; NO_DEVICE for neither. */
export function addressDevice(interfaces: Interfaces, row: number): number {
  return row === -1 ? NO_DEVICE : interfaces.rows[row + ROUTE_DEVICE];
}

/** Word `i` of the address that MASQUERADE takes on the way of a row; IPv4 has one word. */
export function masqueradeWord(interfaces: Interfaces, row: number, i: number): number {
  return interfaces.rows[row + ROUTE_SOURCE + i];
}

/** True for a bridge. */
export function isBridge(interfaces: Interfaces, device: number): boolean {
  return device !== NO_DEVICE && (interfaces.devices[device * DEVICE_WORDS + DEVICE_FLAGS] & DEVICE_BRIDGE) !== 0;
}

/** Word of an interface: DEVICE_ADDRESS4, or DEVICE_ADDRESS6 + 0 … 3. */
export function deviceWord(interfaces: Interfaces, device: number, word: number): number {
  return interfaces.devices[device * DEVICE_WORDS + word];
}
