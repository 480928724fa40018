/**
 * A node's addresses and routes as the engine's numbered interfaces (engine programs/interface.ts).
 *
 * Interfaces are numbered by name, in the order of code units. Routes of equal prefix: the lowest metric wins, and of these
 * the first; the node's own addresses and broadcast addresses stand above all, as in the kernel's local table.
 * The address that MASQUERADE takes is chosen as inet_select_addr does: of the outgoing interface the first address of the
 * world whose subnet holds the next hop, else its first, else the first of any interface.
 */

import {
  DEVICE_ADDRESS4,
  DEVICE_ADDRESS6,
  DEVICE_BRIDGE,
  DEVICE_LOOPBACK,
  DEVICE_WORDS,
  type Interfaces,
  NO_DEVICE,
  ROUTE_WORDS,
  RTN_BROADCAST,
  RTN_LOCAL,
} from '@flatpath/engine/programs/interface';
import { createLpm4, lpm4Insert } from '@flatpath/engine/tables/lpm4';
import { createLpm6, lpm6Insert } from '@flatpath/engine/tables/lpm6';
import { hostPrefix } from '../compile/iptables-rules.ts';
import { type Address, type Family, inPrefix, makePrefix, type Prefix, parsePrefix } from '../model/address.ts';
import type { NodeAddresses, NodeInterface } from './node-addresses.ts';

/** Names of a node's interfaces by their numbers. */
export function interfaceNames({ interfaces, routes }: NodeAddresses): string[] {
  const names = new Set(interfaces.map(({ name }) => name));
  for (const { device } of routes) if (device !== null) names.add(device);
  return [...names].sort();
}

/** The node's own addresses, that of the default route's interface first, without loopback ones. */
export function ownAddresses(addresses: NodeAddresses): Address[] {
  const own: Address[] = [];
  for (const family of [4, 6] as const) {
    const route = addresses.routes
      .filter(({ prefix }) => prefix.family === family && prefix.length === 0)
      .sort((a, b) => a.metric - b.metric)[0];
    const first = addresses.interfaces.filter(({ name }) => name === route?.device);
    const others = addresses.interfaces.filter(({ name, isLoopback }) => name !== route?.device && !isLoopback);
    const loopback = addresses.interfaces.filter(({ isLoopback }) => isLoopback);
    for (const { addresses: held } of [...first, ...others, ...loopback]) {
      const global = held.filter(({ isGlobal }) => isGlobal);
      for (const { address } of [...global, ...held.filter(({ isGlobal }) => !isGlobal)]) {
        if (address.family === family && !isLoopbackAddress(address)) own.push(address);
      }
    }
  }
  return own;
}

/** @param node number of the node in its cluster */
export function compileInterfaces(addresses: NodeAddresses, node: number): Interfaces {
  const names = interfaceNames(addresses);
  const rows = new RouteRows(addresses, names);
  const byMetric = [...addresses.routes].sort((a, b) => b.metric - a.metric);
  // Later ones replace earlier ones of the same prefix: the lowest metric, and of equal ones the first, comes last.
  for (const route of stableReverse(byMetric)) rows.add(route.type, route.prefix, route.device, route.gateway);
  for (const { name, isLoopback, addresses: held } of addresses.interfaces) {
    if (isLoopback) rows.add(RTN_LOCAL, LOOPBACK4, name, null);
    for (const { address, broadcast } of held) {
      if (broadcast !== null) rows.add(RTN_BROADCAST, hostPrefix(broadcast), name, null);
      rows.add(RTN_LOCAL, hostPrefix(address), name, null);
    }
  }
  const loopback = addresses.interfaces.find(({ isLoopback }) => isLoopback);
  return {
    node,
    ...rows.build(),
    devices: compileDevices(addresses, names),
    loopback: loopback === undefined ? NO_DEVICE : names.indexOf(loopback.name),
  };
}

const LOOPBACK4 = parsePrefix('127.0.0.0/8')!;

/** Routes sorted by falling metric, those of equal metric turned round. */
function stableReverse<T extends { readonly metric: number }>(routes: readonly T[]): T[] {
  const turned: T[] = [];
  for (let i = 0; i < routes.length; ) {
    let end = i;
    while (end < routes.length && routes[end]!.metric === routes[i]!.metric) end++;
    turned.push(...routes.slice(i, end).reverse());
    i = end;
  }
  return turned;
}

class RouteRows {
  private readonly addresses: NodeAddresses;
  private readonly names: readonly string[];
  private readonly words: number[] = [];
  private readonly values = new Map<string, { prefix: Prefix; row: number }>();

  constructor(addresses: NodeAddresses, names: readonly string[]) {
    this.addresses = addresses;
    this.names = names;
  }

  add(type: number, prefix: Prefix, device: string | null, gateway: Address | null): void {
    const row = this.words.length / ROUTE_WORDS;
    const source = this.masqueradeAddress(prefix, type === RTN_LOCAL ? null : device, gateway);
    this.words.push(type, device === null ? NO_DEVICE : this.names.indexOf(device), ...(source?.words ?? [0, 0, 0, 0]));
    this.values.set(prefix.text, { prefix, row });
  }

  build(): Pick<Interfaces, 'routes4' | 'routes6' | 'rows'> {
    const rows = shared(this.words);
    const routes4 = createLpm4(this.count(4));
    const routes6 = createLpm6(this.count(6));
    for (const { prefix, row } of this.values.values()) {
      const [w0, w1, w2, w3] = prefix.words;
      if (prefix.family === 4) lpm4Insert(routes4, w0, prefix.length, row);
      else lpm6Insert(routes6, w0, w1, w2, w3, prefix.length, row);
    }
    return { routes4, routes6, rows };
  }

  /** @param device null for what stays on the node: lo has no address of the world */
  private masqueradeAddress(prefix: Prefix, device: string | null, gateway: Address | null): Address | null {
    const nextHop = gateway ?? prefix;
    const out = this.addresses.interfaces.find(({ name }) => name === device);
    const own = out === undefined ? [] : globals(out, prefix.family);
    const near = own.find(({ address, length }) =>
      inPrefix(nextHop, makePrefix(address.family, address.words, length)),
    );
    if (near !== undefined) return near.address;
    if (own[0] !== undefined) return own[0].address;
    for (const other of this.addresses.interfaces) {
      const [first] = globals(other, prefix.family);
      if (first !== undefined) return first.address;
    }
    return null;
  }

  private count(family: Family): number {
    let count = 0;
    for (const { prefix } of this.values.values()) if (prefix.family === family) count++;
    return Math.max(count, 1);
  }
}

function globals(entry: NodeInterface, family: Family): NodeInterface['addresses'][number][] {
  return entry.addresses.filter(
    ({ address, isGlobal, isSecondary }) => address.family === family && isGlobal && !isSecondary,
  );
}

function compileDevices({ interfaces }: NodeAddresses, names: readonly string[]): Int32Array {
  const words = new Array<number>(names.length * DEVICE_WORDS).fill(0);
  for (const { name, isLoopback, isBridge, addresses } of interfaces) {
    const at = names.indexOf(name) * DEVICE_WORDS;
    words[at] = (isLoopback ? DEVICE_LOOPBACK : 0) | (isBridge ? DEVICE_BRIDGE : 0);
    const first4 = addresses.find(({ address, isSecondary }) => address.family === 4 && !isSecondary);
    const first6 =
      addresses.find(({ address, isGlobal }) => address.family === 6 && isGlobal) ??
      addresses.find(({ address }) => address.family === 6);
    if (first4 !== undefined) words[at + DEVICE_ADDRESS4] = first4.address.words[0];
    first6?.address.words.forEach((word, i) => {
      words[at + DEVICE_ADDRESS6 + i] = word;
    });
  }
  return shared(words);
}

function isLoopbackAddress({ family, words }: Address): boolean {
  return family === 4 ? words[0] >>> 24 === 127 : (words[0] | words[1] | words[2]) === 0 && words[3] === 1;
}

function shared(words: readonly number[]): Int32Array {
  const made = new Int32Array(new SharedArrayBuffer(words.length * 4));
  made.set(words);
  return made;
}
