/**
 * TCP header (RFC 9293).
 *
 *     +0 source port   +2 destination port   +4 sequence   +8 acknowledgment
 *     +12 data offset, flags   +14 window   +16 checksum   +18 urgent   +20 options
 *
 * Accessors are bare: `parseFrame` has checked that 20 bytes and the options lie inside the packet. Refuses nothing.
 */

export const PROTO_TCP = 6;
export const TCP_BYTES = 20;
export const TCP_SRC_PORT = 0;
export const TCP_DST_PORT = 2;
export const TCP_SEQ = 4;
export const TCP_ACK_SEQ = 8;
export const TCP_OFFSET_FLAGS = 12;
export const TCP_WINDOW = 14;
export const TCP_CHECKSUM = 16;
export const TCP_URGENT = 18;

export const TCP_FIN = 0x01;
export const TCP_SYN = 0x02;
export const TCP_RST = 0x04;
export const TCP_PSH = 0x08;
export const TCP_ACK = 0x10;
export const TCP_URG = 0x20;
export const TCP_ECE = 0x40;
export const TCP_CWR = 0x80;

const FLAG_NAMES = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR'] as const;

/** Sequence number, unsigned. */
export function getTcpSeq(view: DataView, l4: number): number {
  return view.getUint32(l4 + TCP_SEQ);
}

/** Acknowledgment number, unsigned. */
export function getTcpAckSeq(view: DataView, l4: number): number {
  return view.getUint32(l4 + TCP_ACK_SEQ);
}

/** Header length in bytes, options included. */
export function getTcpHeaderBytes(view: DataView, l4: number): number {
  return (view.getUint8(l4 + TCP_OFFSET_FLAGS) >>> 4) << 2;
}

/** The flags byte, CWR to FIN. */
export function getTcpFlags(view: DataView, l4: number): number {
  return view.getUint8(l4 + TCP_OFFSET_FLAGS + 1);
}

export function getTcpWindow(view: DataView, l4: number): number {
  return view.getUint16(l4 + TCP_WINDOW);
}

/** Writes a header with checksum and urgent pointer 0; `headerBytes` counts the options, which the caller writes. */
export function writeTcp(
  view: DataView,
  l4: number,
  sport: number,
  dport: number,
  seq: number,
  ackSeq: number,
  headerBytes: number,
  flags: number,
  window: number,
): void {
  view.setUint16(l4 + TCP_SRC_PORT, sport);
  view.setUint16(l4 + TCP_DST_PORT, dport);
  view.setUint32(l4 + TCP_SEQ, seq);
  view.setUint32(l4 + TCP_ACK_SEQ, ackSeq);
  view.setUint16(l4 + TCP_OFFSET_FLAGS, ((headerBytes >>> 2) << 12) | flags);
  view.setUint16(l4 + TCP_WINDOW, window);
  view.setUint16(l4 + TCP_CHECKSUM, 0);
  view.setUint16(l4 + TCP_URGENT, 0);
}

/** Names of the set flags, from FIN up. */
export function tcpFlagNames(flags: number): string[] {
  return FLAG_NAMES.filter((_, bit) => (flags & (1 << bit)) !== 0);
}

/** `TCP 51000 > 443 SYN,ACK seq 1 ack 2 window 64240`. */
export function formatTcp(view: DataView, l4: number): string {
  const flags = tcpFlagNames(getTcpFlags(view, l4)).join(',') || 'no flags';
  const ports = `${view.getUint16(l4 + TCP_SRC_PORT)} > ${view.getUint16(l4 + TCP_DST_PORT)}`;
  return `TCP ${ports} ${flags} seq ${getTcpSeq(view, l4)} ack ${getTcpAckSeq(view, l4)} window ${getTcpWindow(view, l4)}`;
}
