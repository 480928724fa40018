/**
 * A connection of IPVS from its first packet to its end: entering it, following its protocol, and what goes with it.
 *
 * Guarantees: connections end at their time, in the order of their times, before the node looks at the next frame of
 * their shard; netfilter's entry of a connection goes with it, as net.ipv4.vs.conntrack has it (ip_vs_nfct.c); counts and
 * persistence follow. Left out: applications (FTP), synchronisation, secure_tcp and the other defences.
 */
import { type Conntrack, CT_REPLY, ctFind4, ctFind6, ctFlags, ctRemove } from '../tables/conntrack.ts';
import {
  CONN_INACTIVE,
  connClient,
  connDue,
  connExpiry,
  connFamily,
  connFlags,
  connInsert,
  connNode,
  connPersistence,
  connPorts,
  connProto,
  connRealServer,
  connRemove,
  connSetState,
  connState,
  connTouch,
  connVirtual,
} from '../tables/ipvs-connections.ts';
import {
  RS_ADDRESS,
  RS_ID,
  realWord,
  serverWord,
  VS_FLAGS,
  VS_ID,
  VS_NETMASK,
  VS_PERSISTENT,
} from '../tables/ipvs-services.ts';
import type { Burst } from '../wire/burst.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { PROTO_TCP } from '../wire/tcp.ts';
import type { Datapath } from './datapath.ts';
import { countBegin, countChange, countEnd } from './ipvs-load.ts';
import { addControlled, releaseControlled } from './ipvs-persistence.ts';
import {
  nextSctpState,
  nextTcpState,
  VS_SCTP_ESTABLISHED,
  VS_SCTP_TIMEOUT_MS,
  VS_TCP_ESTABLISHED,
  VS_TCP_FIN_WAIT,
  VS_TCP_TIMEOUT_MS,
} from './ipvs-states.ts';

/** Timeout of a connection before its first packet gives it a state. */
const FRESH_MS = 3000;

/** Ends the shard's connections whose time has come. */
export function endDueConnections(dp: Datapath, shard: number, nowMs: number): void {
  const t = dp.ipvsState!.connections;
  for (let at = connDue(t, shard, nowMs); at !== -1; at = connDue(t, shard, nowMs)) {
    endConnection(dp, shard, at, connExpiry(t, at) | 0, true);
  }
}

/**
 * Ends a connection.
 * @param endMs virtual time of its end
 * @param withFlow its conntrack entry goes too; positions in conntrack may change then
 */
export function endConnection(dp: Datapath, shard: number, at: number, endMs: number, withFlow: boolean): void {
  const state = dp.ipvsState!;
  const t = state.connections;
  const inactive = (connFlags(t, at) & CONN_INACTIVE) !== 0;
  countEnd(state, shard, connNode(t, at), connRealServer(t, at), inactive, endMs);
  if (connPersistence(t, at) !== -1) releaseControlled(state, shard, at, endMs);
  if (withFlow) dropFlow(dp, shard, at, endMs);
  connRemove(t, shard, at);
}

/** Removes the conntrack entry that a connection's client began, if it stands. */
function dropFlow(dp: Datapath, shard: number, at: number, nowMs: number): void {
  const t = dp.ipvsState!.connections;
  const node = connNode(t, at);
  const proto = connProto(t, at);
  const ports = connPorts(t, at);
  let ct: Conntrack = dp.conntrack4;
  let slot = -1;
  if (connFamily(t, at) === 4) {
    slot = ctFind4(ct, shard, node, proto, connClient(t, at, 0), connVirtual(t, at, 0), ports, nowMs);
  } else {
    ct = dp.conntrack6;
    slot = ctFind6(
      ct,
      shard,
      node,
      proto,
      connClient(t, at, 0),
      connClient(t, at, 1),
      connClient(t, at, 2),
      connClient(t, at, 3),
      connVirtual(t, at, 0),
      connVirtual(t, at, 1),
      connVirtual(t, at, 2),
      connVirtual(t, at, 3),
      ports,
      nowMs,
    );
  }
  if (slot !== -1 && (ctFlags(ct, slot) & CT_REPLY) === 0) ctRemove(ct, shard, slot);
}

/**
 * Enters the connection of a frame that stands before its virtual address.
 * @param row virtual server, `real` its real server
 * @param port of the real server
 * @returns the slot; -1 if the table is full
 */
export function beginConnection(dp: Datapath, b: Burst, s: number, row: number, real: number, port: number): number {
  const state = dp.ipvsState!;
  const services = dp.ipvs!.services;
  const persistent = (serverWord(services, row, VS_FLAGS) & VS_PERSISTENT) !== 0;
  const at = connInsert(
    state.connections,
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
    realWord(services, real, RS_ADDRESS),
    realWord(services, real, RS_ADDRESS + 1),
    realWord(services, real, RS_ADDRESS + 2),
    realWord(services, real, RS_ADDRESS + 3),
    port,
    serverWord(services, row, VS_ID),
    realWord(services, real, RS_ID),
    persistent ? serverWord(services, row, VS_NETMASK) : -1,
    services.generation,
    b.timeMs[s] + FRESH_MS,
  );
  if (at === -1) return -1;
  countBegin(state, services, b.shard[s], b.node[s], real, b.timeMs[s]);
  if (persistent) addControlled(state, b.shard[s], at, b.timeMs[s]);
  return at;
}

/** What a frame makes of its connection: state, counts, time. @param direction DIRECTION_… */
export function followConnection(dp: Datapath, b: Burst, s: number, at: number, direction: number): void {
  const image = dp.ipvs!;
  const t = dp.ipvsState!.connections;
  const proto = b.proto[s];
  const old = connState(t, at);
  let next = old;
  let timeout = image.udpTimeoutMs;
  if (proto === PROTO_TCP) {
    next = nextTcpState(direction, b.info[s], old);
    timeout = VS_TCP_TIMEOUT_MS[next];
    if (next === VS_TCP_ESTABLISHED) timeout = image.tcpTimeoutMs;
    else if (next === VS_TCP_FIN_WAIT) timeout = image.tcpFinTimeoutMs;
  } else if (proto === PROTO_SCTP) {
    next = nextSctpState(direction, b.info[s], old);
    timeout = VS_SCTP_TIMEOUT_MS[next];
  }
  if (next !== old) changeState(dp, b, s, at, next);
  connTouch(t, b.shard[s], at, b.timeMs[s] + timeout);
}

function changeState(dp: Datapath, b: Burst, s: number, at: number, next: number): void {
  const state = dp.ipvsState!;
  const t = state.connections;
  const established = b.proto[s] === PROTO_TCP ? VS_TCP_ESTABLISHED : VS_SCTP_ESTABLISHED;
  const active = next === established;
  let flags = connFlags(t, at);
  if (active === ((flags & CONN_INACTIVE) !== 0)) {
    flags ^= CONN_INACTIVE;
    countChange(state, b.shard[s], b.node[s], connRealServer(t, at), active, b.timeMs[s]);
  }
  connSetState(t, at, next, flags);
}
