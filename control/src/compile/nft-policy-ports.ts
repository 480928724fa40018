/**
 * The numbered ports of a policy's rule as one statement of nftables: `tcp dport { 80, 8000-8080 }`, `meta l4proto udp` for a
 * whole protocol, `meta l4proto . th dport { tcp . 80, udp . 53 }` for ports of several protocols.
 *
 * Ranges that overlap or touch are merged, as nft itself would do or refuse to load.
 */

import type { Protocol } from '../model/port.ts';
import type { PolicyPort } from '../policy/policy-rules.ts';
import type { NftExpression, NftPayloadField, NftStatement, NftValue } from './nft-ruleset.ts';
import { isOneOf, isProtocol, L4_PROTOCOL, PROTOCOL_AND_PORT, protocolValue } from './nft-statements.ts';

interface PortRange {
  readonly first: number;
  last: number;
}

const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];
const DESTINATION_PORT: Readonly<Record<Protocol, NftPayloadField>> = {
  TCP: 'tcp dport',
  UDP: 'udp dport',
  SCTP: 'sctp dport',
};
const LAST_PORT = 65_535;

/** True for packets to one of the numbered ports; null where all ports have names. */
export function isDestinationPort(ports: readonly PolicyPort[]): NftStatement | null {
  const ranges = PROTOCOLS.map((protocol) => ({ protocol, ranges: mergeRanges(ports, protocol) })).filter(
    (found) => found.ranges.length > 0,
  );
  if (ranges.length === 0) return null;
  if (ranges.length === 1) return isPortOf(ranges[0]!.protocol, ranges[0]!.ranges);
  if (ranges.every((found) => isWhole(found.ranges))) {
    return isOneOf(
      L4_PROTOCOL,
      ranges.map(({ protocol }) => protocolValue(protocol)),
    );
  }
  return isOneOf(
    PROTOCOL_AND_PORT,
    ranges.flatMap((found) =>
      found.ranges.map((range): NftValue => {
        return { kind: 'concat', parts: [protocolValue(found.protocol), portValue(range)] };
      }),
    ),
  );
}

function isPortOf(protocol: Protocol, ranges: readonly PortRange[]): NftStatement {
  if (isWhole(ranges)) return isProtocol(protocol);
  const field: NftExpression = { kind: 'payload', field: DESTINATION_PORT[protocol] };
  return isOneOf(field, ranges.map(portValue));
}

function isWhole([range]: readonly PortRange[]): boolean {
  return range!.first === 0 && range!.last === LAST_PORT;
}

function mergeRanges(ports: readonly PolicyPort[], protocol: Protocol): PortRange[] {
  const ranges = ports.filter((port) => port.kind === 'range').filter((port) => port.protocol === protocol);
  const merged: PortRange[] = [];
  for (const { first, last } of [...ranges].sort((a, b) => a.first - b.first)) {
    const before = merged.at(-1);
    if (before === undefined || first > before.last + 1) merged.push({ first, last });
    else if (last > before.last) before.last = last;
  }
  return merged;
}

function portValue({ first, last }: PortRange): NftValue {
  const from: NftValue = { kind: 'number', value: first };
  return first === last ? from : { kind: 'range', from, to: { kind: 'number', value: last } };
}
