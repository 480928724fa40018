/**
 * A node's interfaces, addresses and routes: what `ip -j addr` and `ip -j route` (also with -6, or `table all`) print, in
 * one file or several; arrays are told apart by what they hold, wherever they stand in the file.
 *
 * A family without any route in the input has the routes that its addresses bring along. Routes of tables other than main
 * and local are left out with a warning, because rules decide when they are asked; of a route with several next hops
 * the first is taken, with a warning.
 * Refused, all at once: what is not JSON, entries that lack a name, a prefix or an address that is one.
 */

import {
  RTN_ANYCAST,
  RTN_BLACKHOLE,
  RTN_BROADCAST,
  RTN_LOCAL,
  RTN_MULTICAST,
  RTN_PROHIBIT,
  RTN_UNICAST,
  RTN_UNREACHABLE,
} from '@flatpath/engine/programs/interface';
import { readText } from '../cluster/files.ts';
import { InputError, type Problem } from '../cluster/problem.ts';
import {
  type Address,
  type Family,
  makePrefix,
  type Prefix,
  parseAddress,
  parseAddressOrPrefix,
} from '../model/address.ts';

export interface InterfaceAddress {
  readonly address: Address;
  readonly length: number;
  /** Of the world, as against the link or the node itself. */
  readonly isGlobal: boolean;
  /** Another address of the same subnet came first. */
  readonly isSecondary: boolean;
  readonly broadcast: Address | null;
}

export interface NodeInterface {
  readonly name: string;
  readonly isLoopback: boolean;
  readonly isBridge: boolean;
  readonly addresses: readonly InterfaceAddress[];
}

export interface NodeRoute {
  /** RTN_… */
  readonly type: number;
  readonly prefix: Prefix;
  /** Name of the interface; null for a route that refuses. */
  readonly device: string | null;
  readonly gateway: Address | null;
  readonly metric: number;
}

export interface NodeAddresses {
  /** In the order of the input, which is that of the kernel. */
  readonly interfaces: readonly NodeInterface[];
  readonly routes: readonly NodeRoute[];
  readonly warnings: readonly string[];
}

/** @throws InputError with everything that is wrong in the files */
export function readNodeAddresses(files: readonly string[]): NodeAddresses {
  const reader = new AddressReader();
  for (const file of files) {
    const text = readText({ path: file, found: false }, reader.problems);
    if (text !== null) reader.readFile(file, text);
  }
  return reader.finish(files);
}

type Entry = Readonly<Record<string, unknown>>;

const ROUTE_TYPES: Readonly<Record<string, number>> = {
  unicast: RTN_UNICAST,
  local: RTN_LOCAL,
  broadcast: RTN_BROADCAST,
  anycast: RTN_ANYCAST,
  multicast: RTN_MULTICAST,
  blackhole: RTN_BLACKHOLE,
  unreachable: RTN_UNREACHABLE,
  prohibit: RTN_PROHIBIT,
};

class AddressReader {
  readonly problems: Problem[] = [];
  private readonly warnings: string[] = [];
  private readonly interfaces: NodeInterface[] = [];
  private readonly masters = new Set<string>();
  private readonly routes: NodeRoute[] = [];
  private readonly families = new Set<Family>();
  private readonly otherTables = new Set<string>();
  private sawAddresses = false;
  private file = '';

  readFile(file: string, text: string): void {
    this.file = file;
    const arrays: Entry[][] = [];
    const document = parseDocument(text);
    if (document === undefined) this.fail('', 'is not JSON: the output of ip -j addr and ip -j route is expected');
    else collectArrays(document, arrays);
    let used = 0;
    for (const entries of arrays) {
      if (entries.some((entry) => typeof entry['ifname'] === 'string')) {
        this.sawAddresses = true;
        used++;
        entries.forEach((entry, i) => {
          if (Object.keys(entry).length > 0) this.readInterface(entry, `[${i}]`);
        });
      } else if (entries.some((entry) => Object.hasOwn(entry, 'dst'))) {
        used++;
        this.readRoutes(entries);
      }
    }
    if (document !== undefined && used === 0 && !isEmpty(document)) {
      this.fail('', 'holds neither interfaces (ip -j addr) nor routes (ip -j route)');
    }
  }

  finish(files: readonly string[]): NodeAddresses {
    this.file = files.join(', ');
    if (this.problems.length === 0 && !this.sawAddresses) this.fail('', 'no interfaces: add the output of ip -j addr');
    if (this.problems.length === 0 && this.routes.length === 0)
      this.fail('', 'no routes: add the output of ip -j route');
    if (this.problems.length > 0) throw new InputError(this.problems);
    if (this.otherTables.size > 0) {
      this.warnings.push(
        `routes of table ${[...this.otherTables].join(', ')} are left out: rules that ask them are not known`,
      );
    }
    const interfaces = this.interfaces.map((entry) => ({
      ...entry,
      isBridge: entry.isBridge || this.masters.has(entry.name),
    }));
    return { interfaces, routes: [...this.connected(), ...this.routes], warnings: this.warnings };
  }

  private readInterface(entry: Entry, path: string): void {
    const name = entry['ifname'];
    if (typeof name !== 'string' || name === '') {
      this.fail(path, 'an interface without ifname');
      return;
    }
    // `eth0@if12` is how ip prints a veth; the name ends at the sign.
    const bare = name.replace(/@.*$/, '');
    const flags = Array.isArray(entry['flags']) ? entry['flags'] : [];
    if (typeof entry['master'] === 'string') this.masters.add(entry['master']);
    const info = entry['linkinfo'];
    const kind = isEntry(info) ? info['info_kind'] : undefined;
    const addresses: InterfaceAddress[] = [];
    for (const [i, given] of asEntries(entry['addr_info']).entries()) {
      const address = this.readInterfaceAddress(given, `${path}.addr_info[${i}]`);
      if (address !== null) addresses.push(address);
    }
    const isLoopback = flags.includes('LOOPBACK') || entry['link_type'] === 'loopback';
    this.interfaces.push({ name: bare, isLoopback, isBridge: kind === 'bridge', addresses });
  }

  private readInterfaceAddress(entry: Entry, path: string): InterfaceAddress | null {
    if (Object.keys(entry).length === 0) return null;
    const local = entry['local'];
    const address = typeof local === 'string' ? parseAddress(local) : null;
    const length = entry['prefixlen'];
    if (address === null || typeof length !== 'number' || length < 0 || length > (address.family === 4 ? 32 : 128)) {
      this.fail(path, 'is not an address with its prefixlen');
      return null;
    }
    const broadcast = entry['broadcast'];
    return {
      address,
      length,
      isGlobal: entry['scope'] === undefined || entry['scope'] === 'global' || entry['scope'] === 'site',
      isSecondary: entry['secondary'] === true,
      broadcast: typeof broadcast === 'string' ? parseAddress(broadcast) : null,
    };
  }

  /** All of one array are of one family: a default route does not say which. */
  private readRoutes(entries: readonly Entry[]): void {
    const family: Family = entries.some((entry) => saysFamily6(entry)) ? 6 : 4;
    this.families.add(family);
    entries.forEach((entry, i) => {
      this.readRoute(entry, family, `[${i}]`);
    });
  }

  private readRoute(entry: Entry, family: Family, path: string): void {
    const table = entry['table'];
    if (
      table !== undefined &&
      !['main', 'local', 'default', '254', '255', 254, 255].includes(table as string | number)
    ) {
      this.otherTables.add(String(table));
      return;
    }
    const dst = entry['dst'];
    const prefix =
      dst === 'default' || dst === 'all'
        ? makePrefix(family, [0, 0, 0, 0], 0)
        : typeof dst === 'string'
          ? parseAddressOrPrefix(dst)
          : null;
    if (prefix === null || prefix.family !== family) {
      this.fail(path, `dst '${String(dst)}' is not a prefix of IPv${family}`);
      return;
    }
    const typeName = typeof entry['type'] === 'string' ? entry['type'] : 'unicast';
    const type = Object.hasOwn(ROUTE_TYPES, typeName) ? ROUTE_TYPES[typeName]! : null;
    if (type === null) {
      this.warnings.push(`route ${prefix.text}: type '${typeName}' is left out`);
      return;
    }
    const hop = this.nextHop(entry, prefix);
    const device = typeof hop['dev'] === 'string' ? hop['dev'].replace(/@.*$/, '') : null;
    if (device === null && type === RTN_UNICAST) {
      this.fail(path, `route ${prefix.text} has no dev`);
      return;
    }
    const metric = entry['metric'];
    this.routes.push({
      type,
      prefix,
      device,
      gateway: readGateway(hop),
      metric: typeof metric === 'number' ? metric : 0,
    });
  }

  private nextHop(entry: Entry, prefix: Prefix): Entry {
    const hops = asEntries(entry['nexthops']);
    if (hops.length === 0) return entry;
    if (hops.length > 1) this.warnings.push(`route ${prefix.text} has ${hops.length} next hops: the first is taken`);
    return hops[0]!;
  }

  /** The routes of the interfaces' own subnets, of families whose routes were not given. */
  private connected(): NodeRoute[] {
    const routes: NodeRoute[] = [];
    for (const { name, isLoopback, addresses } of this.interfaces) {
      for (const { address, length } of addresses) {
        if (isLoopback || this.families.has(address.family)) continue;
        const prefix = makePrefix(address.family, address.words, length);
        routes.push({ type: RTN_UNICAST, prefix, device: name, gateway: null, metric: 0 });
      }
    }
    return routes;
  }

  private fail(field: string, message: string): void {
    this.problems.push({ severity: 'error', file: this.file, document: 0, object: '', field, message });
  }
}

/** One JSON value, or the arrays of several commands one behind the other. */
function parseDocument(text: string): unknown {
  for (const candidate of [text, `[${text.trim().replace(/([\]}])\s*\n\s*([[{])/g, '$1,$2')}]`]) {
    try {
      return JSON.parse(candidate);
    } catch {
      // Not one value: tried as several.
    }
  }
  return undefined;
}

/** Arrays of objects, at any depth of arrays and objects around them. */
function collectArrays(value: unknown, arrays: Entry[][]): void {
  if (Array.isArray(value)) {
    const entries = value.filter(isEntry);
    if (entries.length === value.length && entries.some((entry) => isListed(entry))) arrays.push(entries);
    else for (const item of value) collectArrays(item, arrays);
  } else if (isEntry(value)) {
    for (const item of Object.values(value)) collectArrays(item, arrays);
  }
}

function isListed(entry: Entry): boolean {
  return Object.hasOwn(entry, 'ifname') || Object.hasOwn(entry, 'dst');
}

function isEmpty(value: unknown): boolean {
  if (Array.isArray(value)) return value.every(isEmpty);
  return isEntry(value) && Object.values(value).every(isEmpty);
}

function isEntry(value: unknown): value is Entry {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function asEntries(value: unknown): Entry[] {
  return Array.isArray(value) ? value.filter(isEntry) : [];
}

function saysFamily6(entry: Entry): boolean {
  return ['dst', 'gateway', 'prefsrc'].some((key) => {
    const text = entry[key];
    return typeof text === 'string' && text.includes(':');
  });
}

/** `gateway`, or `via` where the next hop is of the other family: then no address of the route's own. */
function readGateway(hop: Entry): Address | null {
  const gateway = hop['gateway'];
  return typeof gateway === 'string' ? parseAddress(gateway) : null;
}
