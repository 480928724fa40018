/**
 * SCTP as netfilter's conntrack sees it: the association's state from the types of its chunks.
 *
 * Guarantees: the transitions of linux nf_conntrack_proto_sctp.c. Which chunks may stand together, and verification tags,
 * are judged in netfilter-association.ts.
 */
import {
  SCTP_ABORT,
  SCTP_COOKIE_ACK,
  SCTP_COOKIE_ECHO,
  SCTP_ERROR,
  SCTP_HEARTBEAT,
  SCTP_HEARTBEAT_ACK,
  SCTP_INIT,
  SCTP_INIT_ACK,
  SCTP_SHUTDOWN,
  SCTP_SHUTDOWN_ACK,
  SCTP_SHUTDOWN_COMPLETE,
} from '../wire/sctp.ts';
import {
  SCTP_CLOSED,
  SCTP_COOKIE_ECHOED,
  SCTP_COOKIE_WAIT,
  SCTP_ESTABLISHED,
  SCTP_HEARTBEAT_SENT,
  SCTP_SHUTDOWN_ACK_SENT,
  SCTP_SHUTDOWN_RECD,
  SCTP_SHUTDOWN_SENT,
  SCTP_STATES,
  transitionTable,
} from './netfilter-states.ts';

/** Answer of `sctpTransition` beside a state: the packet belongs to no association. */
export const SCTP_INVALID = 9;

const STATE_CODES: Readonly<Record<string, number>> = {
  CL: SCTP_CLOSED,
  CW: SCTP_COOKIE_WAIT,
  CE: SCTP_COOKIE_ECHOED,
  ES: SCTP_ESTABLISHED,
  SS: SCTP_SHUTDOWN_SENT,
  SR: SCTP_SHUTDOWN_RECD,
  SA: SCTP_SHUTDOWN_ACK_SENT,
  HS: SCTP_HEARTBEAT_SENT,
  IV: SCTP_INVALID,
};

const CHUNKS = 11;

// New state by [direction][chunk][old state]; old states in the order of their numbers:
//   NONE, CL, CW, CE, ES, SS, SR, SA, HS
const TRANSITIONS = transitionTable(STATE_CODES, [
  // original direction
  'CL CL CW CE ES CL CL SA CW', // INIT: the entry waits in CLOSED until INIT-ACK answers it
  'CL CL CW CE ES SS SR SA CL', // INIT-ACK
  'CL CL CL CL CL CL CL CL CL', // ABORT
  'CL CL CW CE SS SS SR SA CL', // SHUTDOWN
  'SA CL CW CE ES SA SA SA SA', // SHUTDOWN-ACK
  'CL CL CW CE ES SS SR SA CL', // ERROR
  'CL CL CE CE ES SS SR SA CL', // COOKIE-ECHO
  'CL CL CW ES ES SS SR SA CL', // COOKIE-ACK
  'CL CL CW CE ES SS SR CL CL', // SHUTDOWN-COMPLETE
  'HS CL CW CE ES SS SR SA HS', // HEARTBEAT
  'CL CL CW CE ES SS SR SA HS', // HEARTBEAT-ACK
  // reply direction
  'IV CL CW CE ES SS SR SA IV', // INIT
  'IV CW CW CE ES SS SR SA IV', // INIT-ACK
  'IV CL CL CL CL CL CL CL IV', // ABORT
  'IV CL CW CE SR SS SR SA IV', // SHUTDOWN
  'IV CL CW CE ES SA SA SA IV', // SHUTDOWN-ACK
  'IV CL CW CL ES SS SR SA IV', // ERROR
  'IV CL CE CE ES SS SR SA IV', // COOKIE-ECHO
  'IV CL CW ES ES SS SR SA IV', // COOKIE-ACK
  'IV CL CW CE ES SS SR CL IV', // SHUTDOWN-COMPLETE
  'IV CL CW CE ES SS SR SA HS', // HEARTBEAT
  'IV CL CW CE ES SS SR SA ES', // HEARTBEAT-ACK
]);

/** Row of a chunk type; -1 for chunks that change no state (DATA, SACK, …). */
function chunkRow(chunk: number): number {
  switch (chunk) {
    case SCTP_INIT:
      return 0;
    case SCTP_INIT_ACK:
      return 1;
    case SCTP_ABORT:
      return 2;
    case SCTP_SHUTDOWN:
      return 3;
    case SCTP_SHUTDOWN_ACK:
      return 4;
    case SCTP_ERROR:
      return 5;
    case SCTP_COOKIE_ECHO:
      return 6;
    case SCTP_COOKIE_ACK:
      return 7;
    case SCTP_SHUTDOWN_COMPLETE:
      return 8;
    case SCTP_HEARTBEAT:
      return 9;
    case SCTP_HEARTBEAT_ACK:
      return 10;
  }
  return -1;
}

/**
 * State after a chunk of this type; SCTP_INVALID where it cannot come.
 * @param reply 1 in the reply direction, else 0
 */
export function sctpTransition(reply: number, chunk: number, state: number): number {
  const row = chunkRow(chunk);
  return row === -1 ? state : TRANSITIONS[(reply * CHUNKS + row) * SCTP_STATES + state];
}
