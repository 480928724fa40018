/**
 * A rule as `iptables-save` (legacy, 1.8.9) spells it: header first (-s, -d, -i, -p), then the matches in their order,
 * then the target. Numbers, masks and quotes are those that the real tool prints after the kernel has normalised them.
 */

import { type Address, type Family, formatWords, type Prefix, type Words } from '../model/address.ts';
import type { Protocol } from '../model/port.ts';
import { MASQUERADE_MARK, type Match, type Rule, type Target } from './iptables-rules.ts';
import { PROTOCOL_NUMBER } from './service-ports.ts';

const PLAIN = /^[-_0-9A-Za-z]+$/;
const FULL_MASK: Readonly<Record<Family, string>> = {
  4: '255.255.255.255',
  6: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
};
const MARK = `0x${MASQUERADE_MARK.toString(16)}`;

/** The `-A` line of a rule; of a dump's rule the line that the dump has. */
export function ruleText(rule: Rule, family: Family): string {
  if (rule.text !== null) return rule.text;
  let text = `-A ${rule.chain}`;
  if (rule.source !== null) text += addressText('-s', rule.source.prefix, rule.source.invert);
  if (rule.destination !== null) text += addressText('-d', rule.destination.prefix, rule.destination.invert);
  if (rule.inInterface !== null) text += `${rule.inInterface.invert ? ' !' : ''} -i ${rule.inInterface.name}`;
  if (rule.protocol !== null) text += ` -p ${rule.protocol.toLowerCase()}`;
  for (const match of rule.matches) text += matchText(match, family);
  if (rule.target !== null) text += targetText(rule.target, family);
  return text;
}

function addressText(option: string, prefix: Prefix, invert: boolean): string {
  if (prefix.length === 0 && !invert) return '';
  const address = prefix.family === 6 ? embeddedText(prefix.words) : null;
  const text = address === null ? prefix.text : `${address}/${prefix.length}`;
  return `${invert ? ' !' : ''} ${option} ${text}`;
}

/** The C library writes `::a.b.c.d` for an address whose first six groups are the longest run of zeros. */
function embeddedText(words: Words): string | null {
  if ((words[0] | words[1] | words[2]) !== 0 || words[3] >>> 16 === 0) return null;
  const w = words[3];
  return `::${w >>> 24}.${(w >>> 16) & 255}.${(w >>> 8) & 255}.${w & 255}`;
}

/** An address as the tools print it, which leave it to the C library. */
export function libraryText(address: Pick<Address, 'family' | 'words'>): string {
  const { family, words } = address;
  return (family === 6 ? embeddedText(words) : null) ?? formatWords(family, words);
}

function matchText(match: Match, family: Family): string {
  switch (match.kind) {
    case 'comment':
      return ` -m comment --comment ${quote(match.text)}`;
    case 'port': {
      const module = ` -m ${match.protocol.toLowerCase()}`;
      return match.port === null ? module : `${module} --dport ${match.port}`;
    }
    case 'ports':
      return portsText(match.protocol, match.ranges);
    case 'icmp6':
      return ` -p ipv6-icmp -m icmp6 --icmpv6-type ${match.type}`;
    case 'addrtype':
      return ` -m addrtype${match.invert ? ' !' : ''} --${match.side}-type LOCAL`;
    case 'conntrack':
      return ` -m conntrack${match.invert ? ' !' : ''} --ctstate ${match.states.join(',')}`;
    case 'reply':
      return ' -m conntrack --ctstate ESTABLISHED --ctdir REPLY';
    case 'mark':
      return ` -m mark${match.invert ? ' !' : ''} --mark ${MARK}/${MARK}`;
    case 'statistic':
      return ` -m statistic --mode random --probability ${probabilityText(match.threshold)}`;
    case 'recent': {
      const action = match.seconds === 0 ? '--set' : `--rcheck --seconds ${match.seconds} --reap`;
      return ` -m recent ${action} --name ${match.list} --mask ${FULL_MASK[family]} --rsource`;
    }
    case 'nfacct':
      // Two spaces, as the extension prints it.
      return ` -m nfacct --nfacct-name  ${match.counter}`;
    case 'owner':
      return ` -m set${match.invert ? ' !' : ''} --match-set ${match.set} ${match.side}`;
    case 'set':
      return ` -m set${match.invert ? ' !' : ''} --match-set ${match.set} ${match.sides.join(',')}`;
    case 'ipvs': {
      const { address, port } = match;
      return ` -m ipvs --vproto ${PROTOCOL_NUMBER[match.protocol]} --vaddr ${libraryText(address)} --vport ${port}`;
    }
    case 'not-bridged':
      return ' -m physdev ! --physdev-is-in';
    case 'encoded':
      throw new Error('a rule of a dump has its own text');
  }
}

function portsText(protocol: Protocol, ranges: readonly (readonly [number, number])[]): string {
  const texts = ranges.map(([first, last]) => (first === last ? `${first}` : `${first}:${last}`));
  if (texts.length === 1) return ` -m ${protocol.toLowerCase()} --dport ${texts[0]}`;
  return ` -m multiport --dports ${texts.join(',')}`;
}

function targetText(target: Target, family: Family): string {
  switch (target.kind) {
    case 'accept':
      return ' -j ACCEPT';
    case 'drop':
    case 'deny':
      return ' -j DROP';
    case 'return':
      return ' -j RETURN';
    case 'reject':
      return ` -j REJECT --reject-with ${family === 4 ? 'icmp' : 'icmp6'}-port-unreachable`;
    case 'jump':
      return ` -j ${target.chain}`;
    case 'goto':
      return ` -g ${target.chain}`;
    case 'encoded':
      throw new Error('a rule of a dump has its own text');
    case 'mark':
      return ` -j MARK --set-xmark 0x${target.value.toString(16)}/0x${target.mask.toString(16)}`;
    case 'dnat': {
      const embedded = target.address.family === 6 ? embeddedText(target.address.words) : null;
      return ` -j DNAT --to-destination ${embedded === null ? target.text : `[${embedded}]:${target.port}`}`;
    }
    case 'masquerade':
      return ` -j MASQUERADE${target.randomFully ? ' --random-fully' : ''}`;
  }
}

function quote(text: string): string {
  return PLAIN.test(text) ? text : `"${text.replace(/["\\']/g, '\\$&')}"`;
}

const probabilities = new Map<number, string>();

/** A threshold of 2^31 with eleven decimals, half to even, as printf rounds a value that a double holds exactly. */
function probabilityText(threshold: number): string {
  let text = probabilities.get(threshold);
  if (text === undefined) {
    const scaled = BigInt(threshold) * 100_000_000_000n;
    const unit = 0x8000_0000n;
    let whole = scaled / unit;
    const rest = scaled % unit;
    if (rest * 2n > unit || (rest * 2n === unit && whole % 2n === 1n)) whole += 1n;
    text = `0.${whole.toString().padStart(11, '0')}`;
    probabilities.set(threshold, text);
  }
  return text;
}
