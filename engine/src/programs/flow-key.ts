/**
 * The ports word of a conntrack key: `sport << 16 | dport`, and what stands there for ICMP, which has no ports.
 *
 * An ICMP query and its reply carry one identifier and differ in their type, and A may ping B while B pings A with the
 * same identifier. So the word of a query is `identifier << 16 | type of the query` and that of its reply is
 * `type of the query << 16 | identifier`: swapping the halves gives the other direction, as with ports.
 */
import type { Burst } from '../wire/burst.ts';
import { PROTO_ICMP } from '../wire/icmp4.ts';
import { PROTO_ICMPV6 } from '../wire/icmp6.ts';

/** Type of the query that this ICMP type answers, for both families; -1 for what answers nothing. */
export function queryOfReply(proto: number, type: number): number {
  if (proto === PROTO_ICMP) {
    switch (type) {
      case 0:
        return 8;
      case 14:
        return 13;
      case 16:
        return 15;
      case 18:
        return 17;
    }
    return -1;
  }
  switch (type) {
    case 129:
      return 128;
    case 140:
      return 139;
  }
  return -1;
}

/** True for an ICMP type that may begin a flow. */
export function isIcmpQuery(proto: number, type: number): boolean {
  if (proto === PROTO_ICMP) return type === 8 || type === 13 || type === 15 || type === 17;
  return type === 128 || type === 139;
}

export function isIcmp(proto: number): boolean {
  return proto === PROTO_ICMP || proto === PROTO_ICMPV6;
}

/** The ports word of the frame as its lanes stand now. */
export function flowPorts(b: Burst, s: number): number {
  const proto = b.proto[s];
  if (!isIcmp(proto)) return (b.sport[s] << 16) | b.dport[s];
  return icmpPorts(proto, b.info[s] >>> 8, b.sport[s]);
}

/** The ports word of an ICMP message. */
export function icmpPorts(proto: number, type: number, id: number): number {
  const query = queryOfReply(proto, type);
  return query === -1 ? (id << 16) | type : (query << 16) | id;
}
