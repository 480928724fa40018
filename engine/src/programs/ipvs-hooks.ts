/**
 * What IPVS does at its hooks (linux ip_vs_core.c): requests to virtual addresses at LOCAL_IN and LOCAL_OUT, answers of
 * real servers at LOCAL_IN, LOCAL_OUT and FORWARD, and ICMP errors about either.
 *
 * A request (`takeRequest`):
 * 1. A known connection keeps its real server. A new SYN or INIT on one that is closing, or whose real server has
 *    weight 0, is a new connection (conn_reuse_mode, expire_nodest_conn): scheduled at once if conntrack has made a new
 *    entry for it, else dropped, and scheduled when it is repeated.
 * 2. A connection whose real server is gone ends: the frame is scheduled if it may begin one and conntrack has made a
 *    new entry, else dropped. Without expire_nodest_conn it is dropped until the connection ends by itself.
 * 3. Without a connection, a frame that may begin one is scheduled; a virtual server that has nobody for it answers with
 *    port unreachable, whatever the protocol. Everything else goes on to the node itself.
 * An answer (`takeAnswer`) gets the virtual address as its source.
 *
 * Only TCP, UDP and SCTP, whole datagrams. Left out: AH and ESP, FTP's data connections, sloppy_sctp, tunnels and direct routing, and
 * errors about connections that conntrack does not know.
 */
import { CT_REPLY, ctFlags } from '../tables/conntrack.ts';
import {
  connFindIn,
  connFindOut,
  connGeneration,
  connPersistence,
  connPorts,
  connReal,
  connRealPort,
  connRealServer,
  connSetGeneration,
  connState,
  connVirtual,
  connVirtualServer,
} from '../tables/ipvs-connections.ts';
import {
  findReal,
  findServer,
  RS_ADDRESS,
  RS_PORT,
  RS_WEIGHT,
  realWord,
  serverWord,
  servicePort,
  VS_FLAGS,
  VS_ID,
  VS_MARK,
  VS_ONE_PACKET,
  VS_PERSISTENT,
  VS_PORT,
} from '../tables/ipvs-services.ts';
import { REJECT_PORT_UNREACHABLE } from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import { ICMP4_SOURCE_QUENCH, ICMP4_TIME_EXCEEDED, ICMP4_UNREACHABLE, PROTO_ICMP } from '../wire/icmp4.ts';
import {
  REASON_CONNECTION_REPLACED,
  REASON_CONNTRACK_FULL,
  REASON_NO_BACKEND,
  REASON_REAL_SERVER_GONE,
} from '../wire/reason.ts';
import { PROTO_SCTP, SCTP_INIT } from '../wire/sctp.ts';
import { PROTO_TCP, TCP_SYN } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import { answerReject } from './answer.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { beginConnection, endConnection, followConnection } from './ipvs-connection.ts';
import { isVirtualFlow } from './ipvs-flow.ts';
import {
  IPVS_EXPIRE_NODEST,
  IPVS_REUSE,
  IPVS_SLOPPY_TCP,
  MAP_CONNECTIONS,
  MAP_VIRTUAL_SERVERS,
  PASS_ANSWER,
  PASS_REQUEST,
} from './ipvs-image.ts';
import { chooseRealServer } from './ipvs-schedule.ts';
import {
  beginsSctp,
  beginsTcp,
  DIRECTION_IN,
  DIRECTION_OUT,
  VS_SCTP_CLOSED,
  VS_TCP_CLOSE,
  VS_TCP_TIME_WAIT,
} from './ipvs-states.ts';
import { untranslateAnswer } from './netfilter-nat.ts';
import { CT_STATE_RELATED, CT_STATE_UNTRACKED, EVENT_MAP, record2 } from './record.ts';
import {
  conntrackOf,
  setDestination,
  setSource,
  translateErrorDestination,
  translateErrorSource,
} from './translate.ts';
import { NAT_DESTINATION, NAT_REVERSE, VERDICT_REJECTED } from './verdict.ts';

/** Answer of `takeRequest` and `takeAnswer`: IPVS has translated the frame and its later hooks leave it alone. */
export const IPVS_TOOK = 32;

/** FTP's data port: such connections are the server's to begin. */
const FTP_DATA = 20;

function isBalanced(b: Burst, s: number): boolean {
  const proto = b.proto[s];
  return proto === PROTO_TCP || proto === PROTO_UDP || proto === PROTO_SCTP;
}

// ---- requests ---------------------------------------------------------------------------------------------------

/**
 * Takes a frame at LOCAL_IN or LOCAL_OUT for a virtual server.
 * @returns IPVS_TOOK with the frame on its way to a real server; 0 if it is not for IPVS; VERDICT_REJECTED; minus a reason
 */
export function takeRequest(dp: Datapath, b: Burst, s: number): number {
  if (b.ctState[s] === CT_STATE_RELATED) return takeRequestError(dp, b, s);
  if (!isBalanced(b, s)) return 0;
  const image = dp.ipvs!;
  const state = dp.ipvsState!;
  let at = findRequest(dp, b, s);
  if (at !== -1 && (image.options & IPVS_REUSE) !== 0 && isBeginning(b, s) && isOver(dp, b, s, at)) {
    const isOld = b.ct[s] !== -1;
    endConnection(dp, b.shard[s], at, b.timeMs[s], isOld);
    if (isOld) return dropTracked(b, s, REASON_CONNECTION_REPLACED);
    at = -1;
  }
  if (at !== -1 && isGone(dp, b, s, at)) {
    if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_CONNECTIONS, -1);
    if ((image.options & IPVS_EXPIRE_NODEST) === 0) return -REASON_REAL_SERVER_GONE;
    const isOld = b.ct[s] !== -1;
    endConnection(dp, b.shard[s], at, b.timeMs[s], isOld);
    if (isOld) return dropTracked(b, s, REASON_REAL_SERVER_GONE);
    at = -1;
  }
  if (at !== -1) {
    if (dp.ring.on) noteConnection(dp, b, s, at);
    followConnection(dp, b, s, at, DIRECTION_IN);
    const t = state.connections;
    const r0 = connReal(t, at, 0);
    const r1 = connReal(t, at, 1);
    const r2 = connReal(t, at, 2);
    return sendTo(dp, b, s, r0, r1, r2, connReal(t, at, 3), connRealPort(t, at));
  }
  if (!mayBegin(dp, b, s)) return 0;
  const row = findVirtualServer(dp, b, s);
  if (dp.ring.on) record2(dp.ring, EVENT_MAP, MAP_VIRTUAL_SERVERS, row);
  return row === -1 ? 0 : beginRequest(dp, b, s, row);
}

/** The frame's conntrack entry went with its connection. */
function dropTracked(b: Burst, s: number, reason: number): number {
  b.ct[s] = -1;
  return -reason;
}

function beginRequest(dp: Datapath, b: Burst, s: number, row: number): number {
  const services = dp.ipvs!.services;
  if (b.sport[s] === FTP_DATA) return 0;
  const flags = serverWord(services, row, VS_FLAGS);
  const own = serverWord(services, row, VS_PORT);
  const isOfPort = serverWord(services, row, VS_MARK) !== 0 || own === b.dport[s];
  // A service of any port is for persistent connections only.
  const real = isOfPort || (flags & VS_PERSISTENT) !== 0 ? chooseRealServer(dp, b, s, row) : -1;
  if (real === -1) return refuse(dp, b, s);
  const realPort = realWord(services, real, RS_PORT);
  const port = realPort === 0 || (own !== b.dport[s] && (flags & VS_PERSISTENT) !== 0) ? b.dport[s] : realPort;
  if ((flags & VS_ONE_PACKET) !== 0 && b.proto[s] === PROTO_UDP) b.ctState[s] = CT_STATE_UNTRACKED;
  else {
    const at = beginConnection(dp, b, s, row, real, port);
    if (at === -1) return -REASON_CONNTRACK_FULL;
    followConnection(dp, b, s, at, DIRECTION_IN);
  }
  return sendTo(
    dp,
    b,
    s,
    realWord(services, real, RS_ADDRESS),
    realWord(services, real, RS_ADDRESS + 1),
    realWord(services, real, RS_ADDRESS + 2),
    realWord(services, real, RS_ADDRESS + 3),
    port,
  );
}

function sendTo(
  dp: Datapath,
  b: Burst,
  s: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  port: number,
): number {
  const step = setDestination(dp, b, s, a0, a1, a2, a3, port, NAT_DESTINATION);
  if (step !== 0) return step;
  dp.ipvs!.scratch.words[PASS_REQUEST] = 1;
  return IPVS_TOOK;
}

/** Nobody takes the connection: port unreachable, to TCP too, whose socket does not exist. */
function refuse(dp: Datapath, b: Burst, s: number): number {
  const answer = answerReject(dp, b, s, REJECT_PORT_UNREACHABLE);
  if (answer !== -1) untranslateAnswer(dp, b, s, answer);
  b.reason[s] = REASON_NO_BACKEND;
  return VERDICT_REJECTED;
}

/** The connection of the frame as a request, -1 for none. */
function findRequest(dp: Datapath, b: Burst, s: number): number {
  dp.counters[COUNT_LOOKUPS]++;
  return connFindIn(
    dp.ipvsState!.connections,
    b.shard[s],
    b.node[s],
    b.family[s],
    b.proto[s],
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    (b.sport[s] << 16) | b.dport[s],
  );
}

/** The virtual server (row) that the frame is for: by its mark, by address and port, by address alone; -1 for none. */
function findVirtualServer(dp: Datapath, b: Burst, s: number): number {
  const services = dp.ipvs!.services;
  const node = b.node[s];
  const family = b.family[s];
  let row = -1;
  if (services.hasMarks !== 0 && b.mark[s] !== 0) {
    dp.counters[COUNT_LOOKUPS]++;
    row = findServer(services, node, b.mark[s], 0, 0, 0, servicePort(family, 0, 0));
    if (row !== -1) return row;
  }
  dp.counters[COUNT_LOOKUPS]++;
  const key = servicePort(family, b.dport[s], b.proto[s]);
  row = findServer(services, node, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s], key);
  if (row !== -1 || services.hasWildcards === 0) return row;
  dp.counters[COUNT_LOOKUPS]++;
  return findServer(services, node, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s], servicePort(family, 0, b.proto[s]));
}

/** True for a frame that opens a connection of its protocol (is_new_conn). */
function isBeginning(b: Burst, s: number): boolean {
  if (b.proto[s] === PROTO_TCP) return (b.info[s] & TCP_SYN) !== 0;
  return b.proto[s] === PROTO_SCTP && b.info[s] === SCTP_INIT;
}

/** True for a frame that a virtual server schedules. */
function mayBegin(dp: Datapath, b: Burst, s: number): boolean {
  if (b.proto[s] === PROTO_TCP) return beginsTcp(b.info[s], (dp.ipvs!.options & IPVS_SLOPPY_TCP) !== 0);
  return b.proto[s] === PROTO_UDP || beginsSctp(b.info[s]);
}

/** True if the connection has run its course: a new one on its tuple is expected, or its real server takes no more. */
function isOver(dp: Datapath, b: Burst, s: number, at: number): boolean {
  const t = dp.ipvsState!.connections;
  if ((dp.ipvs!.options & IPVS_EXPIRE_NODEST) !== 0) {
    const real = findConnectionReal(dp, b, s, at);
    if (real !== -1 && realWord(dp.ipvs!.services, real, RS_WEIGHT) === 0) return true;
  }
  if (connPersistence(t, at) !== -1) return false;
  const state = connState(t, at);
  if (b.proto[s] === PROTO_TCP) return state === VS_TCP_TIME_WAIT || state === VS_TCP_CLOSE;
  return state === VS_SCTP_CLOSED;
}

/** Row of the real server of a connection of this frame; -1 if it is gone. */
function findConnectionReal(dp: Datapath, b: Burst, s: number, at: number): number {
  const services = dp.ipvs!.services;
  const t = dp.ipvsState!.connections;
  const row = findVirtualServer(dp, b, s);
  if (row === -1 || serverWord(services, row, VS_ID) !== connVirtualServer(t, at)) return -1;
  return findReal(services, row, connRealServer(t, at));
}

/** True if the connection's real server is gone. Asked once per image: a connection remembers the last answer. */
function isGone(dp: Datapath, b: Burst, s: number, at: number): boolean {
  const t = dp.ipvsState!.connections;
  const generation = dp.ipvs!.services.generation;
  if (connGeneration(t, at) === generation) return false;
  if (findConnectionReal(dp, b, s, at) === -1) return true;
  connSetGeneration(t, at, generation);
  return false;
}

function noteConnection(dp: Datapath, b: Burst, s: number, at: number): void {
  record2(dp.ring, EVENT_MAP, MAP_CONNECTIONS, findConnectionReal(dp, b, s, at));
}

// ---- answers ----------------------------------------------------------------------------------------------------

/**
 * Gives the answer of a real server the virtual address as its source, at LOCAL_IN, LOCAL_OUT or FORWARD.
 * @returns IPVS_TOOK; 0 if it is not such an answer; minus a reason
 */
export function takeAnswer(dp: Datapath, b: Burst, s: number): number {
  if (b.ctState[s] === CT_STATE_RELATED) return takeAnswerError(dp, b, s);
  if (!isBalanced(b, s)) return 0;
  const t = dp.ipvsState!.connections;
  dp.counters[COUNT_LOOKUPS]++;
  const at = connFindOut(
    t,
    b.shard[s],
    b.node[s],
    b.family[s],
    b.proto[s],
    b.src0[s],
    b.src1[s],
    b.src2[s],
    b.src3[s],
    b.dst0[s],
    b.dst1[s],
    b.dst2[s],
    b.dst3[s],
    (b.sport[s] << 16) | b.dport[s],
  );
  if (at === -1) return 0;
  followConnection(dp, b, s, at, DIRECTION_OUT);
  const v0 = connVirtual(t, at, 0);
  const v1 = connVirtual(t, at, 1);
  const v2 = connVirtual(t, at, 2);
  const v3 = connVirtual(t, at, 3);
  const port = connPorts(t, at) & 0xffff;
  const step = setSource(dp, b, s, v0, v1, v2, v3, port, NAT_REVERSE);
  if (step !== 0) return step;
  dp.ipvs!.scratch.words[PASS_ANSWER] = 1;
  return IPVS_TOOK;
}

// ---- ICMP errors ------------------------------------------------------------------------------------------------

/** An error from the client's side about an answer: on to the real server. */
function takeRequestError(dp: Datapath, b: Burst, s: number): number {
  if (!isTranslatedError(b, s) || b.ct[s] === -1) return 0;
  if ((ctFlags(conntrackOf(dp, b, s), b.ct[s]) & CT_REPLY) !== 0 || !isVirtualFlow(dp, b, s)) return 0;
  const step = translateErrorDestination(dp, b, s);
  if (step !== 0) return step;
  dp.ipvs!.scratch.words[PASS_REQUEST] = 1;
  return IPVS_TOOK;
}

/** An error from the real server's side about a request: the virtual address sends it. */
function takeAnswerError(dp: Datapath, b: Burst, s: number): number {
  if (!isTranslatedError(b, s) || b.ct[s] === -1) return 0;
  if ((ctFlags(conntrackOf(dp, b, s), b.ct[s]) & CT_REPLY) === 0 || !isVirtualFlow(dp, b, s)) return 0;
  const step = translateErrorSource(dp, b, s);
  if (step !== 0) return step;
  dp.ipvs!.scratch.words[PASS_ANSWER] = 1;
  return IPVS_TOOK;
}

/** IPv4: unreachable, source quench, time exceeded; IPv6: all errors. */
function isTranslatedError(b: Burst, s: number): boolean {
  if (b.proto[s] !== PROTO_ICMP) return true;
  const type = b.info[s] >>> 8;
  return type === ICMP4_UNREACHABLE || type === ICMP4_SOURCE_QUENCH || type === ICMP4_TIME_EXCEEDED;
}
