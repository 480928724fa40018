/**
 * ICMP for IPv4 (RFC 792).
 *
 *     +0 type   +1 code   +2 checksum   +4 identifier (queries) or unused   +6 sequence   +8 data or quoted packet
 *
 * The checksum covers the message and no address. Types with an identifier are tracked by it, as if it were both
 * ports. Accessors are bare: `parseFrame` has checked the 8 bytes. Refuses nothing.
 */

export const PROTO_ICMP = 1;
export const ICMP_BYTES = 8;
export const ICMP_TYPE = 0;
export const ICMP_CODE = 1;
export const ICMP_CHECKSUM = 2;
export const ICMP_ID = 4;
export const ICMP_SEQUENCE = 6;

export const ICMP4_ECHO_REPLY = 0;
export const ICMP4_UNREACHABLE = 3;
export const ICMP4_SOURCE_QUENCH = 4;
export const ICMP4_REDIRECT = 5;
export const ICMP4_ECHO = 8;
export const ICMP4_TIME_EXCEEDED = 11;
export const ICMP4_PARAMETER_PROBLEM = 12;
/** The last type of the original set; to what lies above, no error is sent. */
export const ICMP4_LAST_KNOWN_TYPE = 18;

/** Codes of ICMP4_UNREACHABLE that a REJECT rule can send. */
export const ICMP4_NET_UNREACHABLE = 0;
export const ICMP4_HOST_UNREACHABLE = 1;
export const ICMP4_PROTOCOL_UNREACHABLE = 2;
export const ICMP4_PORT_UNREACHABLE = 3;
export const ICMP4_FRAGMENTATION_NEEDED = 4;
export const ICMP4_ADMIN_PROHIBITED = 13;

/** Bit t: type t carries an identifier (echo, timestamp, information, address mask; requests and replies). */
const IDENTIFIER_TYPES = (1 << 0) | (1 << 8) | (1 << 13) | (1 << 14) | (1 << 15) | (1 << 16) | (1 << 17) | (1 << 18);
/** Bit t: type t reports an error and quotes a packet. */
const ERROR_TYPES =
  (1 << ICMP4_UNREACHABLE) |
  (1 << ICMP4_SOURCE_QUENCH) |
  (1 << ICMP4_REDIRECT) |
  (1 << ICMP4_TIME_EXCEEDED) |
  (1 << ICMP4_PARAMETER_PROBLEM);

export function hasIcmp4Identifier(type: number): boolean {
  return type <= ICMP4_LAST_KNOWN_TYPE && ((IDENTIFIER_TYPES >>> type) & 1) !== 0;
}

export function isIcmp4Error(type: number): boolean {
  return type <= ICMP4_LAST_KNOWN_TYPE && ((ERROR_TYPES >>> type) & 1) !== 0;
}

/** `ICMP echo request id 7 sequence 1` or `ICMP type 3 code 1`. */
export function formatIcmp4(view: DataView, l4: number): string {
  const type = view.getUint8(l4 + ICMP_TYPE);
  const numbers = `id ${view.getUint16(l4 + ICMP_ID)} sequence ${view.getUint16(l4 + ICMP_SEQUENCE)}`;
  if (type === ICMP4_ECHO) return `ICMP echo request ${numbers}`;
  if (type === ICMP4_ECHO_REPLY) return `ICMP echo reply ${numbers}`;
  return `ICMP type ${type} code ${view.getUint8(l4 + ICMP_CODE)}`;
}
