/**
 * ICMPv6 (RFC 4443). The layout is that of ICMP for IPv4 and its offsets are used; the numbers are not.
 *
 * The checksum covers the message and a pseudo header, so a rewritten address changes it. Types below 128 are errors.
 * Accessors are bare: `parseFrame` has checked the 8 bytes. Refuses nothing.
 */

import { ICMP_CODE, ICMP_ID, ICMP_SEQUENCE, ICMP_TYPE } from './icmp4.ts';

export const PROTO_ICMPV6 = 58;

export const ICMP6_UNREACHABLE = 1;
export const ICMP6_PACKET_TOO_BIG = 2;
export const ICMP6_TIME_EXCEEDED = 3;
export const ICMP6_PARAMETER_PROBLEM = 4;
export const ICMP6_ECHO = 128;
export const ICMP6_ECHO_REPLY = 129;
export const ICMP6_REDIRECT = 137;

/** Codes of ICMP6_UNREACHABLE that a REJECT rule can send. */
export const ICMP6_NO_ROUTE = 0;
export const ICMP6_ADMIN_PROHIBITED = 1;
export const ICMP6_ADDRESS_UNREACHABLE = 3;
export const ICMP6_PORT_UNREACHABLE = 4;

export function hasIcmp6Identifier(type: number): boolean {
  return type === ICMP6_ECHO || type === ICMP6_ECHO_REPLY;
}

export function isIcmp6Error(type: number): boolean {
  return type < 128;
}

/** `ICMPv6 echo request id 7 sequence 1` or `ICMPv6 type 1 code 4`. */
export function formatIcmp6(view: DataView, l4: number): string {
  const type = view.getUint8(l4 + ICMP_TYPE);
  const numbers = `id ${view.getUint16(l4 + ICMP_ID)} sequence ${view.getUint16(l4 + ICMP_SEQUENCE)}`;
  if (type === ICMP6_ECHO) return `ICMPv6 echo request ${numbers}`;
  if (type === ICMP6_ECHO_REPLY) return `ICMPv6 echo reply ${numbers}`;
  return `ICMPv6 type ${type} code ${view.getUint8(l4 + ICMP_CODE)}`;
}
