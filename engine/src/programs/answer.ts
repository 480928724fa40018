/**
 * Answers: what a node sends back to the sender of a frame that it refuses, an ICMP error or a TCP reset.
 *
 * The answer is built in the next free slot of `dp.answers` as a local packet of the node (ENTRY_ANSWER) that keeps the
 * frame's shard, time and hashes; the caller of the journey sends it on its way. The frame itself is not changed.
 * The last slot of `dp.answers` is never handed out: the refused frame is copied there to be quoted.
 *
 * Refuses, as the kernel does, to answer errors, later fragments, groups and frames with a wrong transport checksum; and
 * when `dp.answers` is full, the frame is longer than its slots, or the node has no address of the family. The frame's
 * own verdict does not depend on it.
 */

import {
  REJECT_ADMIN_PROHIBITED,
  REJECT_HOST_PROHIBITED,
  REJECT_HOST_UNREACHABLE,
  REJECT_NET_PROHIBITED,
  REJECT_NET_UNREACHABLE,
  REJECT_POLICY_FAIL,
  REJECT_PROTO_UNREACHABLE,
  REJECT_ROUTE,
  REJECT_TCP_RESET,
} from '../tables/rule-list.ts';
import { type Burst, ENTRY_ANSWER, FRAG_NONE, FRAME_HEADROOM, frameOffset } from '../wire/burst.ts';
import { foldSum, onesSum, pseudoSum } from '../wire/checksum.ts';
import {
  ICMP4_ADMIN_PROHIBITED,
  ICMP4_HOST_UNREACHABLE,
  ICMP4_NET_UNREACHABLE,
  ICMP4_PORT_UNREACHABLE,
  ICMP4_PROTOCOL_UNREACHABLE,
  ICMP4_TIME_EXCEEDED,
  ICMP4_UNREACHABLE,
} from '../wire/icmp4.ts';
import {
  ICMP6_ADDRESS_UNREACHABLE,
  ICMP6_ADMIN_PROHIBITED,
  ICMP6_NO_ROUTE,
  ICMP6_PORT_UNREACHABLE,
  ICMP6_TIME_EXCEEDED,
  ICMP6_UNREACHABLE,
} from '../wire/icmp6.ts';
import { parseFrame } from '../wire/parse.ts';
import { writeIcmp4Error, writeIcmp6Error, writeTcpReset } from '../wire/reject.ts';
import { PROTO_SCTP } from '../wire/sctp.ts';
import { PROTO_TCP } from '../wire/tcp.ts';
import { getUdpChecksum, PROTO_UDP } from '../wire/udp.ts';
import type { Datapath } from './datapath.ts';
import { isBoundDestination } from './ipvs-address.ts';
import { PROTO_GRE } from './netfilter-states.ts';
import { OWNER_NODE, ownerIndex, ownerKind } from './owner.ts';
import { findDestinationOwner, isLoopbackDestination } from './route.ts';

const ICMP4_NET_PROHIBITED = 9;
const ICMP4_HOST_PROHIBITED = 10;
const ICMP6_POLICY_FAIL = 5;
const ICMP6_REJECT_ROUTE = 6;
const PROTO_ESP = 50;
const PROTO_AH = 51;
const PROTO_UDPLITE = 136;

/**
 * Answers a rejected frame.
 * @param kind REJECT_… of tables/rule-list.ts
 * @returns the answer's slot in `dp.answers`, parsed; -1 if none was made
 */
export function answerReject(dp: Datapath, b: Burst, s: number, kind: number): number {
  if (!isFitToAnswer(b, s)) return -1;
  const to = beginAnswer(dp, b, s);
  if (to === -1) return -1;
  const from = dp.answers.slots - 1;
  let length = 0;
  if (kind === REJECT_TCP_RESET) length = writeTcpReset(dp.answers, from, to);
  else if (b.family[s] === 4) length = writeError4(dp, b, s, from, to, ICMP4_UNREACHABLE, code4(kind));
  else length = writeError6(dp, b, s, from, to, ICMP6_UNREACHABLE, code6(kind));
  return finishAnswer(dp, b, s, to, length);
}

/**
 * What the kernel wants to be right before it rejects (nf_reject_verify_csum, nf_ip_checksum, nf_ip6_checksum): the sum
 * of TCP, of UDP that has one, and of ICMP; of every protocol that it does not know, as if all of it were summed.
 */
function isFitToAnswer(b: Burst, s: number): boolean {
  const proto = b.proto[s];
  const l4 = b.l4[s];
  switch (proto) {
    case PROTO_UDP:
      if (getUdpChecksum(b.view, l4) === 0) return true;
      break;
    case PROTO_GRE:
    case PROTO_ESP:
    case PROTO_AH:
    case PROTO_SCTP:
    case PROTO_UDPLITE:
      return true;
  }
  if (b.frag[s] !== FRAG_NONE) return true;
  const length = b.end[s] - l4;
  const isPseudo = b.family[s] === 6 || proto === PROTO_TCP || proto === PROTO_UDP;
  const start = isPseudo ? pseudoSum(b.view, b.family[s], b.l3[s], l4, proto, length) : 0;
  return foldSum(onesSum(b.bytes, l4, length, start)) === 0xffff;
}

/**
 * Answers a frame whose time to live ran out.
 * @returns the answer's slot in `dp.answers`, parsed; -1 if none was made
 */
export function answerTimeExceeded(dp: Datapath, b: Burst, s: number): number {
  const to = beginAnswer(dp, b, s);
  if (to === -1) return -1;
  const from = dp.answers.slots - 1;
  const length =
    b.family[s] === 4
      ? writeError4(dp, b, s, from, to, ICMP4_TIME_EXCEEDED, 0)
      : writeError6(dp, b, s, from, to, ICMP6_TIME_EXCEEDED, 0);
  return finishAnswer(dp, b, s, to, length);
}

/** Copies the frame to where the writers of answers can quote it; the slot for the answer, or -1. */
function beginAnswer(dp: Datapath, b: Burst, s: number): number {
  const answers = dp.answers;
  const copy = answers.slots - 1;
  if (dp.answerCount >= copy || b.len[s] > answers.slotBytes - FRAME_HEADROOM) return -1;
  const to = frameOffset(answers, copy);
  const from = frameOffset(b, s);
  for (let i = 0; i < b.len[s]; i++) answers.bytes[to + i] = b.bytes[from + i];
  answers.len[copy] = b.len[s];
  return parseFrame(answers, copy) < 0 ? -1 : dp.answerCount;
}

function finishAnswer(dp: Datapath, b: Burst, s: number, to: number, length: number): number {
  const answers = dp.answers;
  if (length === 0 || parseFrame(answers, to) < 0) return -1;
  answers.entry[to] = ENTRY_ANSWER;
  answers.node[to] = b.node[s];
  answers.endpoint[to] = -1;
  answers.shard[to] = b.shard[s];
  answers.timeMs[to] = b.timeMs[s];
  answers.choice[to] = b.choice[s];
  answers.flowHash[to] = b.flowHash[s];
  answers.tag[to] = b.tag[s];
  dp.answerCount = to + 1;
  return to;
}

/** The kernel answers from the address that was spoken to if it is the node's, else from the node's first. */
function isForNode(dp: Datapath, b: Burst, s: number): boolean {
  if (isLoopbackDestination(b, s) || isBoundDestination(dp, b, s)) return true;
  const owner = findDestinationOwner(dp, b, s);
  return owner >= 0 && ownerKind(owner) === OWNER_NODE && ownerIndex(owner) === b.node[s];
}

function writeError4(dp: Datapath, b: Burst, s: number, from: number, to: number, type: number, code: number): number {
  const src = isForNode(dp, b, s) ? b.dst0[s] : dp.topology.nodeAddress4[b.node[s]];
  return src === 0 ? 0 : writeIcmp4Error(dp.answers, from, to, type, code, src);
}

function writeError6(dp: Datapath, b: Burst, s: number, from: number, to: number, type: number, code: number): number {
  if (isForNode(dp, b, s)) {
    return writeIcmp6Error(dp.answers, from, to, type, code, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s]);
  }
  const own = dp.topology.nodeAddress6;
  const at = b.node[s] * 4;
  if ((own[at] | own[at + 1] | own[at + 2] | own[at + 3]) === 0) return 0;
  return writeIcmp6Error(dp.answers, from, to, type, code, own[at], own[at + 1], own[at + 2], own[at + 3]);
}

function code4(kind: number): number {
  switch (kind) {
    case REJECT_HOST_UNREACHABLE:
      return ICMP4_HOST_UNREACHABLE;
    case REJECT_NET_UNREACHABLE:
      return ICMP4_NET_UNREACHABLE;
    case REJECT_PROTO_UNREACHABLE:
      return ICMP4_PROTOCOL_UNREACHABLE;
    case REJECT_NET_PROHIBITED:
      return ICMP4_NET_PROHIBITED;
    case REJECT_HOST_PROHIBITED:
      return ICMP4_HOST_PROHIBITED;
    case REJECT_ADMIN_PROHIBITED:
      return ICMP4_ADMIN_PROHIBITED;
  }
  return ICMP4_PORT_UNREACHABLE;
}

/** IPv6 has other kinds: no route, address, port, administratively prohibited, source policy, rejecting route. */
function code6(kind: number): number {
  switch (kind) {
    case REJECT_HOST_UNREACHABLE:
      return ICMP6_ADDRESS_UNREACHABLE;
    case REJECT_NET_UNREACHABLE:
      return ICMP6_NO_ROUTE;
    case REJECT_NET_PROHIBITED:
    case REJECT_HOST_PROHIBITED:
    case REJECT_ADMIN_PROHIBITED:
      return ICMP6_ADMIN_PROHIBITED;
    case REJECT_POLICY_FAIL:
      return ICMP6_POLICY_FAIL;
    case REJECT_ROUTE:
      return ICMP6_REJECT_ROUTE;
  }
  return ICMP6_PORT_UNREACHABLE;
}
