/**
 * Protocol states of netfilter's conntrack: their numbers (four bits of an entry), names and lives, in one place.
 *
 * Lives are those of a node that kube-proxy has set up. Sources: linux nf_conntrack_proto_{tcp,udp,sctp,icmp,icmpv6,gre,
 * generic}.c and Documentation/networking/nf_conntrack-sysctl.rst; kube-proxy's defaults tcpEstablishedTimeout 24h and
 * tcpCloseWaitTimeout 1h (the kernel's own: five days and 60 s). In milliseconds of virtual time.
 */
import { PROTO_ICMP } from '../wire/icmp4.ts';
import { PROTO_ICMPV6 } from '../wire/icmp6.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { PROTO_TCP } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';

export const PROTO_GRE = 47;

export const TCP_NONE = 0;
export const TCP_SYN_SENT = 1;
export const TCP_SYN_RECV = 2;
export const TCP_ESTABLISHED = 3;
export const TCP_FIN_WAIT = 4;
export const TCP_CLOSE_WAIT = 5;
export const TCP_LAST_ACK = 6;
export const TCP_TIME_WAIT = 7;
export const TCP_CLOSE = 8;
export const TCP_SYN_SENT2 = 9;
export const TCP_STATES = 10;

export const SCTP_NONE = 0;
export const SCTP_CLOSED = 1;
export const SCTP_COOKIE_WAIT = 2;
export const SCTP_COOKIE_ECHOED = 3;
export const SCTP_ESTABLISHED = 4;
export const SCTP_SHUTDOWN_SENT = 5;
export const SCTP_SHUTDOWN_RECD = 6;
export const SCTP_SHUTDOWN_ACK_SENT = 7;
export const SCTP_HEARTBEAT_SENT = 8;
export const SCTP_STATES = 9;

/** All other protocols: one state, and one more for UDP that has lasted and GRE that was answered. */
export const FLOW_FRESH = 1;
export const FLOW_STREAM = 2;

const SECOND = 1000;

/** Life by TCP state; NONE is never kept. */
export const TCP_LIFE_MS: Int32Array = Int32Array.of(
  0,
  120 * SECOND,
  60 * SECOND,
  86_400 * SECOND,
  120 * SECOND,
  3_600 * SECOND,
  30 * SECOND,
  120 * SECOND,
  10 * SECOND,
  120 * SECOND,
);
/**
 * nf_conntrack_tcp_timeout_unacknowledged: a flow with data that nobody acknowledged, or (picked up) without an answer; and
 * nf_conntrack_tcp_timeout_max_retrans: one that repeats itself, or whose end takes no data.
 */
export const TCP_UNACKNOWLEDGED_MS = 300 * SECOND;
export const TCP_RETRANS_MS = 300 * SECOND;

/** Life by SCTP state. */
export const SCTP_LIFE_MS: Int32Array = Int32Array.of(
  0,
  10 * SECOND,
  3 * SECOND,
  3 * SECOND,
  210 * SECOND,
  3 * SECOND,
  3 * SECOND,
  3 * SECOND,
  30 * SECOND,
);

export const UDP_LIFE_MS = 30 * SECOND;
export const UDP_STREAM_LIFE_MS = 120 * SECOND;
/** A UDP flow with answers is a stream from this age on. */
export const UDP_STREAM_AGE_MS = 2 * SECOND;

const ICMP_LIFE_MS = 30 * SECOND;
const GRE_LIFE_MS = 30 * SECOND;
const GRE_STREAM_LIFE_MS = 180 * SECOND;
const GENERIC_LIFE_MS = 600 * SECOND;

/** Life of a flow that has neither TCP's, SCTP's nor UDP's rules. */
export function plainLife(proto: number, state: number): number {
  if (proto === PROTO_ICMP || proto === PROTO_ICMPV6) return ICMP_LIFE_MS;
  if (proto === PROTO_GRE) return state === FLOW_STREAM ? GRE_STREAM_LIFE_MS : GRE_LIFE_MS;
  return GENERIC_LIFE_MS;
}

/**
 * A state machine as a flat table, one row of states per line; for module load.
 * @param codes number of each two-letter code
 */
export function transitionTable(codes: Readonly<Record<string, number>>, rows: readonly string[]): Int32Array {
  return Int32Array.from(rows.join(' ').split(' '), (code) => codes[code]);
}

const TCP_NAMES = [
  'NONE',
  'SYN_SENT',
  'SYN_RECV',
  'ESTABLISHED',
  'FIN_WAIT',
  'CLOSE_WAIT',
  'LAST_ACK',
  'TIME_WAIT',
  'CLOSE',
  'SYN_SENT2',
] as const;

const SCTP_NAMES = [
  'NONE',
  'CLOSED',
  'COOKIE_WAIT',
  'COOKIE_ECHOED',
  'ESTABLISHED',
  'SHUTDOWN_SENT',
  'SHUTDOWN_RECD',
  'SHUTDOWN_ACK_SENT',
  'HEARTBEAT_SENT',
] as const;

/** Name of a state as `conntrack -L` prints it; empty for protocols that have none there. For humans, not for packets. */
export function protocolStateName(proto: number, state: number): string {
  if (proto === PROTO_TCP) return TCP_NAMES[state] ?? '';
  if (proto === PROTO_SCTP) return SCTP_NAMES[state] ?? '';
  if (proto === PROTO_UDP) return state === FLOW_STREAM ? 'STREAM' : '';
  return '';
}
