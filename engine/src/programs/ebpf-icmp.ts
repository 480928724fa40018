/**
 * ICMP messages that begin no flow: errors about a flow's packets (RELATED), and all others, which are only routed.
 *
 * An error is translated like the packet it quotes, in reverse: the quoted packet as its sender wrote it, the error to
 * its sender. A ping of a Service's address is never balanced: services are looked up for ports only.
 */
import { ctFind4, ctFind6, ctFlags } from '../tables/conntrack.ts';
import type { Burst } from '../wire/burst.ts';
import { ICMP4_ECHO, PROTO_ICMP } from '../wire/icmp4.ts';
import { ICMP6_ECHO } from '../wire/icmp6.ts';
import { innerTuple, TUPLE_DPORT, TUPLE_DST, TUPLE_PROTO, TUPLE_SPORT, TUPLE_SRC } from '../wire/quote.ts';
import { COUNT_LOOKUPS } from './count.ts';
import type { Datapath } from './datapath.ts';
import { EBPF_CT_TRANSLATED } from './ebpf-conntrack.ts';
import { isIcmp, isIcmpQuery, queryOfReply } from './flow-key.ts';
import { CT_STATE_RELATED, EVENT_CONNTRACK, record3 } from './record.ts';
import { conntrackOf, translateErrorDestination, translateErrorSource } from './translate.ts';

/** True for an ICMP query or reply: it belongs to a flow of its own. */
export function isIcmpFlow(b: Burst, s: number): boolean {
  const type = b.info[s] >>> 8;
  return isIcmpQuery(b.proto[s], type) || queryOfReply(b.proto[s], type) !== -1;
}

/**
 * Finds the flow whose packet the error quotes, as the direction in which the error travels; lanes `ct` and `ctState`
 * follow.
 * @returns true where there is one
 */
export function findQuotedFlow(dp: Datapath, b: Burst, s: number): boolean {
  const inner = dp.ports.scratch.inner;
  if (innerTuple(b, s, inner) < 0) return false;
  const proto = inner[TUPLE_PROTO];
  const id = inner[TUPLE_SPORT];
  let slot = -1;
  if (isIcmp(proto)) {
    // The quote's tuple does not tell a query from its reply: ask for both. Only pings are told apart from other queries.
    const echo = proto === PROTO_ICMP ? ICMP4_ECHO : ICMP6_ECHO;
    slot = findReverse(dp, b, s, inner, proto, (echo << 16) | id);
    if (slot < 0) slot = findReverse(dp, b, s, inner, proto, (id << 16) | echo);
  } else slot = findReverse(dp, b, s, inner, proto, (inner[TUPLE_DPORT] << 16) | id);
  if (slot < 0) return false;
  b.ct[s] = slot;
  b.ctState[s] = CT_STATE_RELATED;
  if (dp.ring.on) record3(dp.ring, EVENT_CONNTRACK, CT_STATE_RELATED, 0, 0);
  return true;
}

/** Destination half of an error's translation, before routing. 0, or minus a drop reason. */
export function translateRelatedDestination(dp: Datapath, b: Burst, s: number): number {
  return isTranslated(dp, b, s) ? translateErrorDestination(dp, b, s) : 0;
}

/** Source half, behind routing. 0, or minus a drop reason. */
export function translateRelatedSource(dp: Datapath, b: Burst, s: number): number {
  return isTranslated(dp, b, s) ? translateErrorSource(dp, b, s) : 0;
}

function isTranslated(dp: Datapath, b: Burst, s: number): boolean {
  return (ctFlags(conntrackOf(dp, b, s), b.ct[s]) & EBPF_CT_TRANSLATED) !== 0;
}

function findReverse(dp: Datapath, b: Burst, s: number, inner: Int32Array, proto: number, ports: number): number {
  dp.counters[COUNT_LOOKUPS]++;
  const now = b.timeMs[s];
  if (b.family[s] === 4) {
    return ctFind4(dp.conntrack4, b.shard[s], b.node[s], proto, inner[TUPLE_DST], inner[TUPLE_SRC], ports, now);
  }
  return ctFind6(
    dp.conntrack6,
    b.shard[s],
    b.node[s],
    proto,
    inner[TUPLE_DST],
    inner[TUPLE_DST + 1],
    inner[TUPLE_DST + 2],
    inner[TUPLE_DST + 3],
    inner[TUPLE_SRC],
    inner[TUPLE_SRC + 1],
    inner[TUPLE_SRC + 2],
    inner[TUPLE_SRC + 3],
    ports,
    now,
  );
}
