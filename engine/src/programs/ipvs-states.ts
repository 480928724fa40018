/**
 * Protocol states of IPVS connections: numbers, transitions and timeouts.
 *
 * Sources: linux ip_vs_proto_tcp.c (`tcp_states`, secure_tcp off), ip_vs_proto_sctp.c (`sctp_states`), ip_vs_proto_udp.c,
 * enum of include/net/ip_vs.h. IPVS sees both directions of what it translates, so the tables for balancers that see
 * the client's side only are left out. Timeouts of TCP's established and FIN_WAIT states and of UDP are settings
 * (`ipvsadm --set`), the others are fixed.
 */
import { SCTP_INIT } from '../wire/sctp.ts';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../wire/tcp.ts';
import { transitionTable } from './netfilter-states.ts';

/** From the client, toward the real server. */
export const DIRECTION_IN = 0;
/** From the real server. */
export const DIRECTION_OUT = 1;

/** State of a connection that no packet has touched yet, in every protocol. */
const VS_NONE = 0;

export const VS_TCP_ESTABLISHED = 1;
const VS_TCP_SYN_SENT = 2;
const VS_TCP_SYN_RECV = 3;
export const VS_TCP_FIN_WAIT = 4;
export const VS_TCP_TIME_WAIT = 5;
export const VS_TCP_CLOSE = 6;
const VS_TCP_CLOSE_WAIT = 7;
const VS_TCP_LAST_ACK = 8;
const VS_TCP_LISTEN = 9;
const VS_TCP_SYNACK = 10;
const VS_TCP_STATES = 11;

export const VS_SCTP_ESTABLISHED = 8;
export const VS_SCTP_CLOSED = 13;
const VS_SCTP_STATES = 14;

const SECOND = 1000;

/** Timeout by TCP state in ms; ESTABLISHED and FIN_WAIT are settings of the image. */
export const VS_TCP_TIMEOUT_MS: Int32Array = Int32Array.of(
  2 * SECOND,
  900 * SECOND,
  120 * SECOND,
  60 * SECOND,
  120 * SECOND,
  120 * SECOND,
  10 * SECOND,
  60 * SECOND,
  30 * SECOND,
  120 * SECOND,
  120 * SECOND,
);

const SCTP_MAX_RTO = 61 * SECOND;

/** Timeout by SCTP state in ms. */
export const VS_SCTP_TIMEOUT_MS: Int32Array = Int32Array.of(
  2 * SECOND,
  4 * SECOND,
  SCTP_MAX_RTO,
  SCTP_MAX_RTO,
  SCTP_MAX_RTO,
  SCTP_MAX_RTO,
  SCTP_MAX_RTO,
  SCTP_MAX_RTO,
  900 * SECOND,
  SCTP_MAX_RTO,
  SCTP_MAX_RTO,
  SCTP_MAX_RTO,
  4 * SECOND,
  SCTP_MAX_RTO,
);

const TCP_CODES: Readonly<Record<string, number>> = {
  NO: VS_NONE,
  ES: VS_TCP_ESTABLISHED,
  SS: VS_TCP_SYN_SENT,
  SR: VS_TCP_SYN_RECV,
  FW: VS_TCP_FIN_WAIT,
  TW: VS_TCP_TIME_WAIT,
  CL: VS_TCP_CLOSE,
  CW: VS_TCP_CLOSE_WAIT,
  LA: VS_TCP_LAST_ACK,
  LI: VS_TCP_LISTEN,
  SA: VS_TCP_SYNACK,
};

const TCP_EVENTS = 4;

// New state by [direction][event][old state]; old states in the order of their numbers:
//   NO, ES, SS, SR, FW, TW, CL, CW, LA, LI, SA
const TCP_TRANSITIONS = transitionTable(TCP_CODES, [
  // from the client
  'SR ES ES SR SR SR SR SR SR SR SR', // SYN
  'CL CW SS TW TW TW CL CW LA LI TW', // FIN
  'ES ES SS ES FW TW CL CW CL LI ES', // ACK
  'CL CL CL SR CL CL CL CL LA LI SR', // RST
  // from the real server
  'SS ES SS SR SS SS SS SS SS LI SR', // SYN
  'TW FW SS TW FW TW CL TW LA LI TW', // FIN
  'ES ES SS ES FW TW CL CW LA ES ES', // ACK
  'CL CL SS CL CL TW CL CL CL CL CL', // RST
]);

/** State after a TCP segment; a segment with none of RST, SYN, FIN and ACK closes. @param flags the TCP flags byte */
export function nextTcpState(direction: number, flags: number, state: number): number {
  let event = 2;
  if ((flags & TCP_RST) !== 0) event = 3;
  else if ((flags & TCP_SYN) !== 0) event = 0;
  else if ((flags & TCP_FIN) !== 0) event = 1;
  else if ((flags & TCP_ACK) === 0) return VS_TCP_CLOSE;
  return TCP_TRANSITIONS[(direction * TCP_EVENTS + event) * VS_TCP_STATES + state];
}

const SCTP_CODES: Readonly<Record<string, number>> = {
  NO: VS_NONE,
  I1: 1,
  IN: 2,
  CS: 3,
  CR: 4,
  CW: 5,
  CO: 6,
  CE: 7,
  ES: VS_SCTP_ESTABLISHED,
  SS: 9,
  SR: 10,
  SA: 11,
  RJ: 12,
  CL: VS_SCTP_CLOSED,
};

/** Row of the table below by chunk type; types behind the last are data. */
const SCTP_EVENT_OF_CHUNK = Int32Array.of(0, 1, 2, 0, 0, 0, 9, 5, 6, 8, 3, 4, 0, 0, 7);
const SCTP_EVENTS = 10;

// New state by [direction][event][old state]; old states in the order of their numbers:
//   NO, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL
const SCTP_TRANSITIONS = transitionTable(SCTP_CODES, [
  // from the client
  'ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL', // DATA and others
  'I1 IN IN CS CR CW CO CE ES SS SR SA IN IN', // INIT
  'CW CW CW CS CR CO CO CE ES SS SR SA RJ CL', // INIT ACK
  'CR IN IN CR CR CW CO CE ES SS SR SA RJ CL', // COOKIE ECHO
  'ES I1 IN CS CR CW CO ES ES SS SR SA RJ CL', // COOKIE ACK
  'SR I1 IN CS CR CW CO CE SR SS SR SA RJ CL', // SHUTDOWN
  'CL IN IN CS CR CW CO CE ES CL SR CL RJ CL', // SHUTDOWN ACK
  'CL CL CL CS CR CW CO CE ES SS SR CL RJ CL', // SHUTDOWN COMPLETE
  'CL I1 IN CS CR CW CO CL ES SS SR SA RJ CL', // ERROR
  'CL CL CL CL CL RJ CL CL CL CL CL CL CL CL', // ABORT
  // from the real server
  'ES I1 IN CS CR CW CO CE ES SS SR SA RJ CL', // DATA and others
  'CW CW CW CW CW CW CW CW ES CW CW CW CW CW', // INIT
  'CS CS CS CS CR CW CO CE ES SS SR SA RJ CL', // INIT ACK
  'CE CE CE CE CE CE CE CE ES SS SR SA RJ CL', // COOKIE ECHO
  'ES ES ES ES ES ES ES ES ES SS SR SA RJ CL', // COOKIE ACK
  'SS SS SS SS SS SS SS SS SS SS SR SA RJ CL', // SHUTDOWN
  'SA SA SA SA SA CW CO CE ES SA SA SA RJ CL', // SHUTDOWN ACK
  'CL I1 IN CS CR CW CO CE ES SS SR SA RJ CL', // SHUTDOWN COMPLETE
  'CL CL CL CL CL CW CO CE ES SS SR SA RJ CL', // ERROR
  'CL RJ CL CL CL CL CL CL CL CL CL CL CL CL', // ABORT
]);

/** State after an SCTP packet. @param chunk type of its first chunk */
export function nextSctpState(direction: number, chunk: number, state: number): number {
  const event = chunk < SCTP_EVENT_OF_CHUNK.length ? SCTP_EVENT_OF_CHUNK[chunk] : 0;
  return SCTP_TRANSITIONS[(direction * SCTP_EVENTS + event) * VS_SCTP_STATES + state];
}

/** True for a TCP segment that may begin a connection. @param sloppy segments other than SYN may */
export function beginsTcp(flags: number, sloppy: boolean): boolean {
  return (flags & TCP_RST) === 0 && (sloppy || (flags & TCP_SYN) !== 0);
}

/** True for an SCTP packet that may begin a connection. */
export function beginsSctp(chunk: number): boolean {
  return chunk === SCTP_INIT;
}
