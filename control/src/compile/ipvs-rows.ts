/**
 * What the rows, elements and numbers of an ipvs image mean: text and origin of everything that a story names.
 *
 * Worked out only when asked for: compiling a cluster makes no text.
 */

import {
  MAP_CONNECTIONS,
  MAP_PERSISTENCE,
  MAP_REAL_SERVERS,
  MAP_SETS,
  MAP_VIRTUAL_SERVERS,
} from '@flatpath/engine/programs/ipvs-image';
import type { Origin } from '../model/origin.ts';
import type { Ipset, IpsetElement } from './ipset.ts';
import { elementText } from './ipset-text.ts';
import { sourceOrigins } from './iptables-rules.ts';
import { type RealServer, type VirtualServer, virtualText } from './ipvs-ruleset.ts';

/** Real servers of a virtual server that its text names. */
const MOST_NAMED = 8;

/** A row in words, and the object and field that it came from. */
export interface IpvsRowText {
  readonly text: string;
  readonly origin: Origin | null;
  /** Other fields that the row's values come from. */
  readonly further: readonly Origin[];
}

/** What an image was compiled from, by the numbers that it uses. */
export interface IpvsEntries {
  /** By row. */
  readonly servers: readonly VirtualServer[];
  /** By row of a real server. */
  readonly reals: readonly RealServer[];
  /** Names of ipsets, by set id. */
  readonly setNames: readonly string[];
  /** By element id. */
  readonly elements: readonly { readonly set: Ipset; readonly element: IpsetElement }[];
}

/** Name of a map of EVENT_MAP: an ipset's own, or what of IPVS was asked. */
export function ipvsMapName(entries: IpvsEntries, map: number): string {
  switch (map) {
    case MAP_VIRTUAL_SERVERS:
      return 'virtual server';
    case MAP_REAL_SERVERS:
      return 'real server';
    case MAP_PERSISTENCE:
      return 'persistence';
    case MAP_CONNECTIONS:
      return 'connection';
  }
  const name = entries.setNames[map - MAP_SETS];
  if (name === undefined) throw new RangeError(`there is no map ${map}`);
  return `ipset ${name}`;
}

/** Text and origin of an EVENT_MAP row of 0 or more. */
export function describeIpvsRow(entries: IpvsEntries, map: number, row: number): IpvsRowText {
  if (map === MAP_VIRTUAL_SERVERS) return describeServer(entries, row);
  if (map >= MAP_SETS) {
    const found = known(entries.elements[row], 'element', row);
    return { text: elementText(found.set, found.element), ...originsOf(found.element.sources) };
  }
  const real = known(entries.reals[row], 'real server', row);
  const weight = real.weight === 1 ? '' : ` weight ${real.weight}`;
  return { text: `${real.text}${weight}`, ...originsOf(real.sources) };
}

/** Text and origin of the virtual server that made an EVENT_CHOICE. */
export function describeServer(entries: IpvsEntries, row: number): IpvsRowText {
  const server = known(entries.servers[row], 'virtual server', row);
  const { virtual, scheduler, persistentSeconds, realServers } = server;
  const protocol = virtual.kind === 'address' ? `${virtual.protocol} ` : '';
  const persistent = persistentSeconds > 0 ? ` persistent ${persistentSeconds}` : '';
  const text = `${protocol}${virtualText(virtual)} ${scheduler}${persistent}, ${listReals(realServers)}`;
  return { text, ...originsOf(server.sources) };
}

function listReals(realServers: readonly RealServer[]): string {
  if (realServers.length === 0) return 'no real servers';
  const named = realServers
    .slice(0, MOST_NAMED)
    .map(({ text, weight }) => (weight === 1 ? text : `${text} weight ${weight}`));
  const rest = realServers.length - named.length;
  return `real servers ${named.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

function originsOf(sources: Parameters<typeof sourceOrigins>[0]): Pick<IpvsRowText, 'origin' | 'further'> {
  const [origin, ...further] = sourceOrigins(sources);
  return { origin: origin ?? null, further };
}

function known<T>(value: T | undefined, what: string, number: number): T {
  if (value === undefined) throw new RangeError(`there is no ${what} ${number}`);
  return value;
}
