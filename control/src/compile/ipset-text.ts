/**
 * ipsets as `ipset save` spells them: what `ipset restore` reads. A network of full length is printed as its address.
 */

import { dimensionsOf, type Ipset, type IpsetElement, type IpsetPart } from './ipset.ts';
import { libraryText } from './iptables-text.ts';

const PROTOCOL_NAMES: Readonly<Record<number, string>> = {
  1: 'icmp',
  6: 'tcp',
  17: 'udp',
  58: 'icmpv6',
  132: 'sctp',
  136: 'udplite',
};

/** Sizes with which kube-proxy creates its hashes, the defaults of ipset; a set of more elements gets room for them. */
const HASH_SIZE = 1024;
const MAX_ELEMENTS = 65_536;

/** The `create` line of a set and its `add` lines. */
export function ipsetLines(set: Ipset): string[] {
  const lines = [`create ${set.name} ${set.type} ${creation(set)}`];
  for (const element of set.elements) {
    lines.push(`add ${set.name} ${elementText(set, element)}${element.nomatch ? ' nomatch' : ''}`);
  }
  return lines;
}

/** An element as `add` takes it: `10.96.0.1,tcp:443`. */
export function elementText(set: Ipset, element: IpsetElement): string {
  const dimensions = dimensionsOf(set.type);
  return element.parts.map((part, i) => partText(part, dimensions[i] === 'port')).join(',');
}

function creation({ family, range, elements }: Ipset): string {
  if (range !== null) return `range ${range.first}-${range.last}`;
  const most = Math.max(MAX_ELEMENTS, elements.length);
  return `family ${family === 4 ? 'inet' : 'inet6'} hashsize ${HASH_SIZE} maxelem ${most}`;
}

function partText(part: IpsetPart, isPort: boolean): string {
  if (part.kind === 'prefix') {
    const { prefix } = part;
    const address = libraryText(prefix);
    return prefix.length === (prefix.family === 4 ? 32 : 128) ? address : `${address}/${prefix.length}`;
  }
  if (!isPort) throw new TypeError('a port stands where the type has an address');
  const ports = part.first === part.last ? `${part.first}` : `${part.first}-${part.last}`;
  if (part.protocol === null) return ports;
  return `${PROTOCOL_NAMES[part.protocol] ?? part.protocol}:${ports}`;
}
