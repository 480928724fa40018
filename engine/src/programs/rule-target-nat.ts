/**
 * The nat targets of real nodes' rules that kube-proxy does not write: DNAT and SNAT to ranges, REDIRECT, NETMAP.
 *
 * Which address of a range a flow takes is a choice point: the flow's hash decides, or the recorder's script where the
 * frame is a probe and the range has no more than RANGE_CHOICES addresses. Of a port range DNAT keeps the frame's own
 * port where it lies inside, else takes the first; with RANGE_RANDOM any (nf_nat_core.c).
 * Refuses (REASON_NO_NAT_MAPPING): a REDIRECT on an interface without an address of the family, and what takeSource refuses.
 */
import { takeChoice } from '../tables/event-ring.ts';
import { mix32 } from '../tables/hash.ts';
import {
  HOOK_INPUT,
  HOOK_OUTPUT,
  HOOK_POSTROUTING,
  RANGE_ADDRESS,
  RANGE_OFFSET,
  RANGE_PERSISTENT,
  RANGE_PORTS,
  RANGE_RANDOM,
  RULE_HEAD,
} from '../tables/rule-list.ts';
import type { Burst } from '../wire/burst.ts';
import { REASON_NO_NAT_MAPPING } from '../wire/reason.ts';
import { COUNT_CHOICES } from './count.ts';
import type { Datapath } from './datapath.ts';
import { DEVICE_ADDRESS4, DEVICE_ADDRESS6, deviceWord, interfacesOf, NO_DEVICE } from './interface.ts';
import { firstPort, lastPort, portRange, takeSource } from './netfilter-nat.ts';
import { FLOW_HOOK, FLOW_IN_DEVICE } from './netfilter-scratch.ts';
import { EVENT_CHOICE, record3 } from './record.ts';
import { setDestination, setSource } from './translate.ts';
import { NAT_DESTINATION, NAT_SOURCE } from './verdict.ts';

/** Ranges with more addresses than this are not tried one by one. */
export const RANGE_CHOICES = 4096;
const LOOPBACK4 = 0x7f00_0001;

/** TARGET_DNAT_RANGE at word `r`. */
export function applyDnatRange(dp: Datapath, b: Burst, s: number, words: Int32Array, r: number): number {
  const at = r + RULE_HEAD;
  const flags = words[at];
  dp.counters[COUNT_CHOICES]++;
  const port = destinationPort(b, s, flags, words[at + 1], words[at + 2], words[at + 3], words[r + 3]);
  if ((flags & RANGE_ADDRESS) === 0) {
    return setDestination(dp, b, s, b.dst0[s], b.dst1[s], b.dst2[s], b.dst3[s], port, NAT_DESTINATION);
  }
  const offset = chooseAddress(dp, b, s, words, at, words[r + 3]);
  if (b.family[s] === 4) return setDestination(dp, b, s, (words[at + 4] + offset) | 0, 0, 0, 0, port, NAT_DESTINATION);
  const low = (words[at + 7] + offset) | 0;
  return setDestination(dp, b, s, words[at + 4], words[at + 5], words[at + 6], low, port, NAT_DESTINATION);
}

/** TARGET_SNAT_RANGE at word `r`. */
export function applySnatRange(dp: Datapath, b: Burst, s: number, words: Int32Array, r: number): number {
  const at = r + RULE_HEAD;
  const flags = words[at];
  const own = portRange(b.proto[s], b.sport[s]);
  const hasPorts = (flags & RANGE_PORTS) !== 0;
  const first = hasPorts ? words[at + 1] : firstPort(own);
  const last = hasPorts ? words[at + 2] : lastPort(own);
  const keep = (flags & RANGE_RANDOM) !== 0 ? -1 : b.sport[s];
  if ((flags & RANGE_ADDRESS) === 0) {
    return takeSource(dp, b, s, b.src0[s], b.src1[s], b.src2[s], b.src3[s], first, last, keep, NAT_SOURCE);
  }
  const offset = chooseAddress(dp, b, s, words, at, words[r + 3]);
  if (b.family[s] === 4) {
    return takeSource(dp, b, s, (words[at + 4] + offset) | 0, 0, 0, 0, first, last, keep, NAT_SOURCE);
  }
  const low = (words[at + 7] + offset) | 0;
  return takeSource(dp, b, s, words[at + 4], words[at + 5], words[at + 6], low, first, last, keep, NAT_SOURCE);
}

/** TARGET_REDIRECT at word `r`: to the node itself, on the address of the interface that the frame came in by. */
export function applyRedirect(dp: Datapath, b: Burst, s: number, words: Int32Array, r: number): number {
  const at = r + RULE_HEAD;
  const flow = dp.ports.scratch.flow;
  const port = destinationPort(b, s, words[at], words[at + 1], words[at + 2], 0, words[r + 3]);
  if (flow[FLOW_HOOK] === HOOK_OUTPUT) {
    if (b.family[s] === 4) return setDestination(dp, b, s, LOOPBACK4, 0, 0, 0, port, NAT_DESTINATION);
    return setDestination(dp, b, s, 0, 0, 0, 1, port, NAT_DESTINATION);
  }
  const interfaces = interfacesOf(dp, b, s);
  if (interfaces === null) return redirectToNode(dp, b, s, port);
  const device = flow[FLOW_IN_DEVICE];
  if (device === NO_DEVICE) return -REASON_NO_NAT_MAPPING;
  if (b.family[s] === 4) {
    const address = deviceWord(interfaces, device, DEVICE_ADDRESS4);
    if (address === 0) return -REASON_NO_NAT_MAPPING;
    return setDestination(dp, b, s, address, 0, 0, 0, port, NAT_DESTINATION);
  }
  const a0 = deviceWord(interfaces, device, DEVICE_ADDRESS6);
  const a1 = deviceWord(interfaces, device, DEVICE_ADDRESS6 + 1);
  const a2 = deviceWord(interfaces, device, DEVICE_ADDRESS6 + 2);
  const a3 = deviceWord(interfaces, device, DEVICE_ADDRESS6 + 3);
  if ((a0 | a1 | a2 | a3) === 0) return -REASON_NO_NAT_MAPPING;
  return setDestination(dp, b, s, a0, a1, a2, a3, port, NAT_DESTINATION);
}

/** A node without numbered interfaces has one address a family. */
function redirectToNode(dp: Datapath, b: Burst, s: number, port: number): number {
  const node = b.node[s];
  if (b.family[s] === 4) {
    const address = dp.topology.nodeAddress4[node];
    if (address === 0) return -REASON_NO_NAT_MAPPING;
    return setDestination(dp, b, s, address, 0, 0, 0, port, NAT_DESTINATION);
  }
  const own = dp.topology.nodeAddress6;
  const at = node * 4;
  if ((own[at] | own[at + 1] | own[at + 2] | own[at + 3]) === 0) return -REASON_NO_NAT_MAPPING;
  return setDestination(dp, b, s, own[at], own[at + 1], own[at + 2], own[at + 3], port, NAT_DESTINATION);
}

/** TARGET_NETMAP at word `r`: one network onto another, host by host; the source behind routing, else the destination. */
export function applyNetmap(dp: Datapath, b: Burst, s: number, words: Int32Array, r: number): number {
  const at = r + RULE_HEAD;
  const hook = dp.ports.scratch.flow[FLOW_HOOK];
  if (hook === HOOK_POSTROUTING || hook === HOOK_INPUT) {
    const a0 = mapWord(b.src0[s], words, at);
    const a1 = mapWord(b.src1[s], words, at + 1);
    const a2 = mapWord(b.src2[s], words, at + 2);
    const a3 = mapWord(b.src3[s], words, at + 3);
    return setSource(dp, b, s, a0, a1, a2, a3, b.sport[s], NAT_SOURCE);
  }
  const a0 = mapWord(b.dst0[s], words, at);
  const a1 = mapWord(b.dst1[s], words, at + 1);
  const a2 = mapWord(b.dst2[s], words, at + 2);
  const a3 = mapWord(b.dst3[s], words, at + 3);
  return setDestination(dp, b, s, a0, a1, a2, a3, b.dport[s], NAT_DESTINATION);
}

function mapWord(word: number, words: Int32Array, at: number): number {
  return (word & ~words[at + 4]) | (words[at] & words[at + 4]);
}

/** The port that a DNAT gives the frame; ports stay where the rule names none. */
function destinationPort(
  b: Burst,
  s: number,
  flags: number,
  first: number,
  last: number,
  base: number,
  ruleId: number,
): number {
  const port = b.dport[s];
  if ((flags & RANGE_PORTS) === 0) return port;
  const size = last - first + 1;
  if ((flags & RANGE_OFFSET) !== 0) return first + ((((port - base) % size) + size) % size);
  if ((flags & RANGE_RANDOM) !== 0) return first + ((mix32(b.flowHash[s] ^ ruleId) >>> 0) % size);
  return port >= first && port <= last ? port : first;
}

/** Distance of the chosen address from the first of the range, in its lowest word. */
function chooseAddress(dp: Datapath, b: Burst, s: number, words: Int32Array, at: number, ruleId: number): number {
  const low = b.family[s] === 4 ? at + 4 : at + 7;
  const options = ((words[low + 4] - words[low]) >>> 0) + 1;
  if (options === 1) return 0;
  let taken = 0;
  if (b.choice[s] >= 0 && options <= RANGE_CHOICES) taken = takeChoice(dp.ring, options);
  else taken = addressHash(b, s, words[at], ruleId) % options;
  if (dp.ring.on) record3(dp.ring, EVENT_CHOICE, ruleId, options, taken);
  return taken;
}

/** With RANGE_PERSISTENT a client's flows share the address. */
function addressHash(b: Burst, s: number, flags: number, ruleId: number): number {
  if ((flags & RANGE_PERSISTENT) === 0) return mix32(b.flowHash[s] ^ Math.imul(ruleId + 1, 0x9e3779b1)) >>> 0;
  return mix32(b.src0[s] ^ Math.imul(b.src1[s], 3) ^ Math.imul(b.src2[s], 5) ^ Math.imul(b.src3[s], 7)) >>> 0;
}
