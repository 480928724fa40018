/**
 * A burst's journey through the cluster: parse, run each node's program, cross to the next node, end once, count once.
 *
 *     enter -> parseFrame -> node program -> STEP_TO_NODE: next hop by that node's uplink
 *                                         -> verdict or -reason: `endFrame`
 *
 * All frames of a burst make their first hop before any makes its second, so lookups of one hop are independent.
 */
import { type Burst, ENTRY_UPLINK, FRAG_FIRST, FRAG_NONE } from '../wire/burst.ts';
import { parseFrame } from '../wire/parse.ts';
import { REASON_CT_TRUNCATED, REASON_HOP_LIMIT, REASON_NODE_NOT_COMPILED } from '../wire/reason.ts';
import { COUNT_BYTES, COUNT_ENTERED, COUNT_HOPS, countOf } from './count.ts';
import { type Datapath, MODE_EBPF, MODE_IPTABLES, MODE_IPVS, MODE_NFTABLES } from './datapath.ts';
import { ebpfNode } from './ebpf.ts';
import { foreseeFlows, hashFlow } from './flow-lookup.ts';
import { wholeDatagram } from './fragment-state.ts';
import { iptablesNode } from './iptables.ts';
import { ipvsNode } from './ipvs.ts';
import { DATAGRAM_WHOLE, gatherFragment, releaseFragments } from './netfilter-fragment.ts';
import { nftablesNode } from './nftables.ts';
import { EVENT_ENTER, EVENT_VERDICT, record2, record3, recordTuple } from './record.ts';
import { STEP_TO_NODE, VERDICT_DROPPED } from './verdict.ts';

/** Nodes that a frame may cross. Two are usual; a NodePort on a third node and its reply make no more than four. */
export const MAX_HOPS = 8;

/**
 * Runs the first `count` frames of a burst to their ends. Entry lanes must be set; verdict, reason, target and nat
 * lanes tell the outcome. Answers to rejected frames are left in `dp.answers`.
 */
export function runBurst(dp: Datapath, b: Burst, count: number): void {
  const { active, counters } = dp;
  const { len, verdict, reason, target, nat } = b;
  let going = 0;
  let bytes = 0;
  for (let s = 0; s < count; s++) {
    bytes += len[s];
    verdict[s] = 0;
    reason[s] = 0;
    target[s] = -1;
    nat[s] = 0;
    const parsed = parseFrame(b, s);
    if (parsed < 0 && !isPieceOfHeader(dp, b, s, parsed)) endFrame(dp, b, s, parsed);
    else active[going++] = s;
  }
  counters[COUNT_ENTERED] += count;
  counters[COUNT_BYTES] += bytes;
  for (let hop = 0; going > 0 && hop < MAX_HOPS; hop++) going = runHop(dp, b, going);
  for (let i = 0; i < going; i++) endFrame(dp, b, active[i], -REASON_HOP_LIMIT);
}

/** A first fragment that ends within its transport header: IPv4 puts it together all the same, IPv6 does not (RFC 8200). */
function isPieceOfHeader(dp: Datapath, b: Burst, s: number, parsed: number): boolean {
  return parsed === -REASON_CT_TRUNCATED && b.frag[s] === FRAG_FIRST && b.family[s] === 4 && dp.mode !== MODE_EBPF;
}

/** One hop of the active frames; answers how many go on to another node, kept at the front of `dp.active`. */
function runHop(dp: Datapath, b: Burst, going: number): number {
  const { active, compiledNodes } = dp;
  const { node, entry } = b;
  let left = 0;
  foreseeFlows(dp, b, going);
  dp.counters[COUNT_HOPS] += going;
  for (let i = 0; i < going; i++) {
    const s = active[i];
    enterNode(dp, b, s);
    const step = runNode(dp, b, s);
    if (step !== STEP_TO_NODE) endFrame(dp, b, s, step);
    else if (compiledNodes[node[s]] === 0) endFrame(dp, b, s, -REASON_NODE_NOT_COMPILED);
    else {
      entry[s] = ENTRY_UPLINK;
      active[left++] = s;
    }
  }
  return left;
}

function enterNode(dp: Datapath, b: Burst, s: number): void {
  b.mark[s] = 0;
  b.ct[s] = -1;
  b.ctState[s] = 0;
  if (!dp.ring.on) return;
  record3(dp.ring, EVENT_ENTER, b.node[s], b.entry[s], b.endpoint[s]);
  recordTuple(dp.ring, b, s);
}

function runNode(dp: Datapath, b: Burst, s: number): number {
  if (dp.mode !== MODE_EBPF && b.frag[s] !== FRAG_NONE) return runFragment(dp, b, s);
  return runProgram(dp, b, s);
}

/** A fragment in a mode of the kernel: it waits, or completes its datagram, which then makes the whole rest of its way. */
function runFragment(dp: Datapath, b: Burst, s: number): number {
  const step = gatherFragment(dp, b, s);
  return step === DATAGRAM_WHOLE
    ? releaseFragments(dp, b, s, runDatagram(dp, wholeDatagram(dp.ports.fragments)))
    : step;
}

function runDatagram(dp: Datapath, whole: Burst): number {
  for (let hop = 0; hop < MAX_HOPS; hop++) {
    if (hop > 0) {
      enterNode(dp, whole, 0);
      hashFlow(whole, 0);
      dp.counters[COUNT_HOPS]++;
    }
    const step = runProgram(dp, whole, 0);
    if (step !== STEP_TO_NODE) return step;
    if (dp.compiledNodes[whole.node[0]] === 0) return -REASON_NODE_NOT_COMPILED;
    whole.entry[0] = ENTRY_UPLINK;
  }
  return -REASON_HOP_LIMIT;
}

function runProgram(dp: Datapath, b: Burst, s: number): number {
  switch (dp.mode) {
    case MODE_IPTABLES:
      return iptablesNode(dp, b, s);
    case MODE_NFTABLES:
      return nftablesNode(dp, b, s);
    case MODE_IPVS:
      return ipvsNode(dp, b, s);
    case MODE_EBPF:
      return ebpfNode(dp, b, s);
  }
  return -REASON_HOP_LIMIT;
}

/** The one exit: a verdict, or minus a drop reason. */
function endFrame(dp: Datapath, b: Burst, s: number, step: number): void {
  if (step < 0) {
    b.verdict[s] = VERDICT_DROPPED;
    b.reason[s] = -step;
  } else b.verdict[s] = step;
  dp.counters[countOf(b.verdict[s], b.reason[s])]++;
  if (dp.ring.on) record2(dp.ring, EVENT_VERDICT, b.verdict[s], b.reason[s]);
}
