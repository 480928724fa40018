/**
 * The targets of the nat table: DNAT, SNAT, MASQUERADE, and taking a node's answer back through a flow's translation.
 *
 * They run once per flow, for its first frame; later frames follow the entry (translate.ts). A target changes the frame
 * at once, so that the rules behind it see the new tuple, and `confirmFlow` enters the two tuples it finds.
 * Refuses: a source for which no port is free, or a node without an address of the family (REASON_NO_NAT_MAPPING).
 */
import { CT_REPLY, ctDst, ctFlags, ctPorts, ctSrc } from '../tables/conntrack.ts';
import { mix32 } from '../tables/hash.ts';
import {
  MASQUERADE_OUTBOUND,
  MASQUERADE_PORTS,
  MASQUERADE_RANDOM,
  MASQUERADE_RANDOM_FULLY,
  RULE_HEAD,
} from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import { innerTuple, TUPLE_DPORT, TUPLE_DST, TUPLE_SPORT, TUPLE_SRC, translateIcmpError } from '../wire/quote.ts';
import { REASON_CT_INSERT_FAILED, REASON_NO_NAT_MAPPING } from '../wire/reason.ts';
import { rewriteDestination4, rewriteDestination6, rewriteSource4, rewriteSource6 } from '../wire/rewrite.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { PROTO_TCP } from '../wire/tcp.ts';
import { PROTO_UDP } from '../wire/udp.ts';
import { COUNT_CHOICES } from './count.ts';
import type { Datapath } from './datapath.ts';
import { isIcmp } from './flow-key.ts';
import { findDestinationRoute, interfacesOf, masqueradeWord } from './interface.ts';
import { allocatePort } from './masquerade.ts';
import { FLOW_DST, FLOW_FLAGS, FLOW_PORTS, FLOW_SRC } from './netfilter-scratch.ts';
import { CT_STATE_NEW } from './record.ts';
import { CT_NAT_OUTBOUND, conntrackOf, setDestination, setSource } from './translate.ts';
import { NAT_DESTINATION, NAT_OUTBOUND, NAT_SOURCE } from './verdict.ts';

/** The rule at word `r` of `words` is a DNAT: the frame goes to its address and port. */
export function applyDnat(dp: Datapath, b: Burst, s: number, words: Int32Array, r: number): number {
  const at = r + RULE_HEAD;
  dp.counters[COUNT_CHOICES]++;
  const first = words[at + 4];
  const last = words[at + 5];
  let port = b.dport[s];
  if (first >= 0)
    port = last > first ? first + ((mix32(b.flowHash[s] ^ words[r + 3]) >>> 0) % (last - first + 1)) : first;
  return setDestination(dp, b, s, words[at], words[at + 1], words[at + 2], words[at + 3], port, NAT_DESTINATION);
}

/** The rule at word `r` of `words` is an SNAT: the frame comes from its address. */
export function applySnat(dp: Datapath, b: Burst, s: number, words: Int32Array, r: number): number {
  const at = r + RULE_HEAD;
  const first = words[at + 4];
  const last = words[at + 5];
  const own = portRange(b.proto[s], b.sport[s]);
  const from = first >= 0 ? first : firstPort(own);
  const to = first >= 0 ? last : lastPort(own);
  return takeSource(dp, b, s, words[at], words[at + 1], words[at + 2], words[at + 3], from, to, b.sport[s], NAT_SOURCE);
}

/**
 * MASQUERADE: the frame comes from the node's first address of its family, or, on a node with numbered interfaces, from
 * the address that its route has.
 * @param flags MASQUERADE_…; with MASQUERADE_PORTS the port is one of `low` … `high`
 */
export function applyMasquerade(dp: Datapath, b: Burst, s: number, flags: number, low: number, high: number): number {
  const own = portRange(b.proto[s], b.sport[s]);
  const hasPorts = (flags & MASQUERADE_PORTS) !== 0;
  const first = hasPorts ? low : firstPort(own);
  const last = hasPorts ? high : lastPort(own);
  const keep = (flags & (MASQUERADE_RANDOM_FULLY | MASQUERADE_RANDOM)) !== 0 ? -1 : b.sport[s];
  const outbound = (flags & MASQUERADE_OUTBOUND) !== 0;
  const flag = outbound ? NAT_OUTBOUND : NAT_SOURCE;
  const node = b.node[s];
  let a0 = dp.topology.nodeAddress4[node];
  let a1 = 0;
  let a2 = 0;
  let a3 = 0;
  if (b.family[s] === 6) {
    const own = dp.topology.nodeAddress6;
    a0 = own[node * 4];
    a1 = own[node * 4 + 1];
    a2 = own[node * 4 + 2];
    a3 = own[node * 4 + 3];
  }
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces !== null) {
    const row = findDestinationRoute(dp, interfaces, b, s);
    if (row === -1) return -REASON_NO_NAT_MAPPING;
    a0 = masqueradeWord(interfaces, row, 0);
    a1 = masqueradeWord(interfaces, row, 1);
    a2 = masqueradeWord(interfaces, row, 2);
    a3 = masqueradeWord(interfaces, row, 3);
  }
  if ((a0 | a1 | a2 | a3) === 0) return -REASON_NO_NAT_MAPPING;
  if (outbound) dp.ports.scratch.flow[FLOW_FLAGS] |= CT_NAT_OUTBOUND;
  return takeSource(dp, b, s, a0, a1, a2, a3, first, last, keep, flag);
}

/** Gives the frame another source port because another flow has its reply's tuple. */
export function movePort(dp: Datapath, b: Burst, s: number): number {
  const range = portRange(b.proto[s], b.sport[s]);
  if (range === NO_PORTS) return -REASON_CT_INSERT_FAILED;
  const a0 = b.src0[s];
  const a1 = b.src1[s];
  const a2 = b.src2[s];
  const a3 = b.src3[s];
  return takeSource(dp, b, s, a0, a1, a2, a3, firstPort(range), lastPort(range), -1, NAT_SOURCE);
}

/**
 * Gives the frame a source address and a port of first … last (or its own, `keep`) whose reply tuple is free.
 * @returns 0, or minus a drop reason
 */
export function takeSource(
  dp: Datapath,
  b: Burst,
  s: number,
  a0: number,
  a1: number,
  a2: number,
  a3: number,
  first: number,
  last: number,
  keep: number,
  flag: number,
): number {
  let port = b.sport[s];
  if (portRange(b.proto[s], port) !== NO_PORTS) {
    port = allocatePort(dp, b, s, a0, a1, a2, a3, first, last, keep);
    if (port < 0) return port;
  }
  return setSource(dp, b, s, a0, a1, a2, a3, port, flag);
}

// ---- ranges -----------------------------------------------------------------------------------------------------

/** Of a protocol without ports. */
const NO_PORTS = -1;
const RANGE_ICMP = 65_535;
const RANGE_LOW = (1 << 16) | 511;
const RANGE_SYSTEM = (600 << 16) | 1023;
const RANGE_USER = (1024 << 16) | 65_535;

/**
 * The ports among which the kernel looks for a new source port, first << 16 | last: low ports stay low, because some
 * servers ask for that; ICMP takes any identifier (nf_nat_core.c). NO_PORTS for protocols without ports.
 */
export function portRange(proto: number, sport: number): number {
  if (isIcmp(proto)) return RANGE_ICMP;
  if (proto !== PROTO_TCP && proto !== PROTO_UDP && proto !== PROTO_SCTP) return NO_PORTS;
  if (sport < 512) return RANGE_LOW;
  return sport < 1024 ? RANGE_SYSTEM : RANGE_USER;
}

export function firstPort(range: number): number {
  return range >>> 16;
}

export function lastPort(range: number): number {
  return range & 0xffff;
}

// ---- answers ----------------------------------------------------------------------------------------------------

/**
 * Takes the answer in slot `a` of `dp.answers` back through the translation of the frame that it answers: the sender is
 * to recognise its own packet, and hears it from the address that it spoke to.
 */
export function untranslateAnswer(dp: Datapath, b: Burst, s: number, a: number): void {
  const original = dp.ports.scratch.outer;
  if (!readOriginal(dp, b, s, original)) return;
  const answers = dp.answers;
  if (!isIcmp(answers.proto[a])) {
    writeSource(answers, a, original, TUPLE_DST, original[TUPLE_DPORT]);
    writeDestination(answers, a, original, TUPLE_SRC, original[TUPLE_SPORT]);
    return;
  }
  const inner = dp.ports.scratch.inner;
  if (innerTuple(answers, a, inner) < 0) return;
  const spokenTo = isSameAddress(inner, original, TUPLE_DST);
  for (let i = 0; i < 4; i++) {
    inner[TUPLE_SRC + i] = original[TUPLE_SRC + i];
    inner[TUPLE_DST + i] = original[TUPLE_DST + i];
  }
  inner[TUPLE_SPORT] = original[TUPLE_SPORT];
  inner[TUPLE_DPORT] = original[TUPLE_DPORT];
  // From here on `original` is the error's own header: from the address that was spoken to, to the original source.
  for (let i = 0; i < 4; i++) {
    const from = spokenTo ? lane(answers, a, i) : original[TUPLE_DST + i];
    original[TUPLE_DST + i] = original[TUPLE_SRC + i];
    original[TUPLE_SRC + i] = from;
  }
  translateIcmpError(answers, a, inner, original);
}

function isSameAddress(inner: Int32Array, original: Int32Array, at: number): boolean {
  for (let i = 0; i < 4; i++) if (inner[at + i] !== original[at + i]) return false;
  return true;
}

function lane(b: Burst, s: number, i: number): number {
  switch (i) {
    case 0:
      return b.src0[s];
    case 1:
      return b.src1[s];
    case 2:
      return b.src2[s];
  }
  return b.src3[s];
}

/** The tuple with which the frame came to this node; false if it has no flow, and so no translation. */
function readOriginal(dp: Datapath, b: Burst, s: number, out: Int32Array): boolean {
  const slot = b.ct[s];
  let ports = 0;
  let reply = false;
  out.fill(0);
  if (slot !== -1) {
    const ct = conntrackOf(dp, b, s);
    for (let i = 0; i < ct.addressWords; i++) {
      out[TUPLE_SRC + i] = ctSrc(ct, slot, i);
      out[TUPLE_DST + i] = ctDst(ct, slot, i);
    }
    ports = ctPorts(ct, slot);
    reply = (ctFlags(ct, slot) & CT_REPLY) !== 0;
  } else {
    if (b.ctState[s] !== CT_STATE_NEW) return false;
    const flow = dp.ports.scratch.flow;
    for (let i = 0; i < 4; i++) {
      out[TUPLE_SRC + i] = flow[FLOW_SRC + i];
      out[TUPLE_DST + i] = flow[FLOW_DST + i];
    }
    ports = flow[FLOW_PORTS];
  }
  out[TUPLE_SPORT] = ports >>> 16;
  out[TUPLE_DPORT] = ports & 0xffff;
  if (isIcmp(b.proto[s])) {
    const id = reply ? out[TUPLE_DPORT] : out[TUPLE_SPORT];
    out[TUPLE_SPORT] = id;
    out[TUPLE_DPORT] = id;
  }
  return true;
}

function writeSource(b: Burst, s: number, tuple: Int32Array, at: number, port: number): void {
  if (b.family[s] === 4) rewriteSource4(b, s, tuple[at], port);
  else rewriteSource6(b, s, tuple[at], tuple[at + 1], tuple[at + 2], tuple[at + 3], port);
}

function writeDestination(b: Burst, s: number, tuple: Int32Array, at: number, port: number): void {
  if (b.family[s] === 4) rewriteDestination4(b, s, tuple[at], port);
  else rewriteDestination6(b, s, tuple[at], tuple[at + 1], tuple[at + 2], tuple[at + 3], port);
}
