/**
 * Taking a datapath apart into shared buffers and numbers, and putting it together again in a thread.
 *
 * An *image* is what packets only read: topology and the tables of the mode. The *state* is what they write: connection
 * tables, stamps, masquerade ports; it outlives a change of the image. Everything else of a datapath (counters, recorder,
 * answers) belongs to the thread and is made there. Nothing is copied but views that are not shared yet.
 */
import {
  type Datapath,
  type IptablesImage,
  MODE_EBPF,
  MODE_IPTABLES,
  MODE_IPVS,
  MODE_NFTABLES,
  type Topology,
} from '../programs/datapath.ts';
import { attachEbpfImage, type EbpfImageParts, ebpfImageParts } from '../programs/ebpf-image.ts';
import { createActive } from '../programs/flow-lookup.ts';
import { attachInterfaces, type InterfacesParts, interfacesParts } from '../programs/interface.ts';
import { attachIpvsImage, type IpvsImage, type IpvsImageParts, ipvsImageParts } from '../programs/ipvs-image.ts';
import { attachIpvsState, type IpvsStateParts, ipvsStateParts } from '../programs/ipvs-state.ts';
import { attachMasqueradePorts } from '../programs/masquerade.ts';
import { attachNftablesImage, type NftablesImageParts, nftablesImageParts } from '../programs/nftables-image.ts';
import { attachAffinity } from '../tables/affinity.ts';
import { attachConntrack } from '../tables/conntrack.ts';
import { createEventRing } from '../tables/event-ring.ts';
import { attachIpSets } from '../tables/ipset.ts';
import { attachLpm4 } from '../tables/lpm4.ts';
import { attachLpm6 } from '../tables/lpm6.ts';
import type { RuleList } from '../tables/rule-list.ts';
import { createBurst } from '../wire/burst.ts';

/** A run records nothing; the ring is there because a datapath has one. */
const RING_WORDS = 64;

export interface TopologyParts {
  readonly nodes: number;
  readonly owners4: SharedArrayBuffer;
  readonly owners6: SharedArrayBuffer;
  readonly endpointNode: SharedArrayBuffer;
  readonly endpointAddress4: SharedArrayBuffer;
  readonly endpointAddress6: SharedArrayBuffer;
  readonly nodeAddress4: SharedArrayBuffer;
  readonly nodeAddress6: SharedArrayBuffer;
  readonly interfaces: InterfacesParts | null;
}

export interface RuleListParts {
  readonly words: SharedArrayBuffer;
  readonly chains: number;
  readonly rows: SharedArrayBuffer;
  readonly starts: SharedArrayBuffer;
  readonly runs: SharedArrayBuffer;
  readonly bases: SharedArrayBuffer;
  readonly policies: SharedArrayBuffer;
}

/** Numbers as in the image, rule lists taken apart. */
export interface IptablesParts extends Omit<IptablesImage, 'rules4' | 'rules6' | 'sets'> {
  readonly sets: SharedArrayBuffer | null;
  readonly rules4: RuleListParts;
  readonly rules6: RuleListParts;
}

export interface IpvsParts {
  readonly tables: IpvsImageParts;
  readonly rules4: RuleListParts;
  readonly rules6: RuleListParts;
}

export interface ImageParts {
  readonly mode: number;
  readonly topology: TopologyParts;
  readonly compiledNodes: SharedArrayBuffer;
  readonly iptables: IptablesParts | null;
  readonly nftables: NftablesImageParts | null;
  readonly ipvs: IpvsParts | null;
  readonly ebpf: EbpfImageParts | null;
}

export interface StateParts {
  readonly conntrack4: SharedArrayBuffer;
  readonly conntrack6: SharedArrayBuffer;
  readonly affinity: SharedArrayBuffer;
  readonly ports: SharedArrayBuffer;
  readonly ipvs: IpvsStateParts | null;
}

/** The image of a datapath, for another thread. */
export function takeImage(dp: Datapath): ImageParts {
  const { topology, iptables } = dp;
  return {
    mode: dp.mode,
    topology: {
      nodes: topology.nodes,
      owners4: topology.owners4.buffer,
      owners6: topology.owners6.buffer,
      endpointNode: shared(topology.endpointNode),
      endpointAddress4: shared(topology.endpointAddress4),
      endpointAddress6: shared(topology.endpointAddress6),
      nodeAddress4: shared(topology.nodeAddress4),
      nodeAddress6: shared(topology.nodeAddress6),
      interfaces: topology.interfaces && interfacesParts(topology.interfaces),
    },
    compiledNodes: shared(dp.compiledNodes),
    iptables: iptables && {
      ...iptables,
      sets: iptables.sets === null ? null : iptables.sets.buffer,
      rules4: takeRules(iptables.rules4),
      rules6: takeRules(iptables.rules6),
    },
    nftables: dp.nftables && nftablesImageParts(dp.nftables),
    ipvs: dp.ipvs && {
      tables: ipvsImageParts(dp.ipvs),
      rules4: takeRules(dp.ipvs.rules4),
      rules6: takeRules(dp.ipvs.rules6),
    },
    ebpf: dp.ebpf && ebpfImageParts(dp.ebpf),
  };
}

/** The connection state of a datapath, for another thread. */
export function takeState(dp: Datapath): StateParts {
  return {
    conntrack4: dp.conntrack4.buffer,
    conntrack6: dp.conntrack6.buffer,
    affinity: dp.affinity.buffer,
    ports: dp.ports.buffer,
    ipvs: dp.ipvsState && ipvsStateParts(dp.ipvsState),
  };
}

/**
 * Builds a thread's datapath.
 * @param counters lanes of programs/count.ts, the thread's own
 * @throws TypeError if a buffer does not hold what it should
 */
export function attachDatapath(image: ImageParts, state: StateParts, counters: Float64Array): Datapath {
  return {
    mode: image.mode,
    topology: attachTopology(image.topology),
    compiledNodes: new Int32Array(image.compiledNodes),
    iptables: image.iptables && attachIptables(image.iptables),
    nftables: image.nftables && attachNftablesImage(image.nftables),
    ipvs: image.ipvs && attachIpvs(image.ipvs),
    ebpf: image.ebpf && attachEbpfImage(image.ebpf),
    conntrack4: attachConntrack(state.conntrack4),
    conntrack6: attachConntrack(state.conntrack6),
    affinity: attachAffinity(state.affinity),
    ports: attachMasqueradePorts(state.ports),
    ipvsState: state.ipvs && attachIpvsState(state.ipvs),
    counters,
    ring: createEventRing(RING_WORDS),
    active: createActive(),
    answers: createBurst(),
    answerCount: 0,
  };
}

/**
 * Checks what a thread would find out only when it takes the image up.
 * @throws TypeError if a buffer does not hold its table, or the tables of the image's mode are missing
 */
export function checkImage(image: ImageParts): void {
  attachTopology(image.topology);
  if (image.mode === MODE_IPTABLES && image.iptables === null) throw new TypeError('an iptables image has no rules');
  if (image.mode === MODE_NFTABLES && image.nftables === null) throw new TypeError('an nftables image has no rules');
  if (image.mode === MODE_IPVS && image.ipvs === null) throw new TypeError('an ipvs image has no virtual servers');
  if (image.mode === MODE_EBPF && image.ebpf === null) throw new TypeError('an ebpf image has no maps');
  if (image.ipvs !== null) attachIpvs(image.ipvs);
  if (image.ebpf !== null) attachEbpfImage(image.ebpf);
}

/**
 * Puts a datapath under another image of the same mode; connections, counters and scratch stay.
 * @throws TypeError if the image is of another mode or a buffer does not hold what it should
 */
export function changeImage(dp: Datapath, image: ImageParts): void {
  if (image.mode !== dp.mode)
    throw new TypeError(`a run in mode ${dp.mode} cannot take an image of mode ${image.mode}`);
  dp.topology = attachTopology(image.topology);
  dp.compiledNodes = new Int32Array(image.compiledNodes);
  dp.iptables = image.iptables && attachIptables(image.iptables);
  dp.nftables = image.nftables && attachNftablesImage(image.nftables);
  dp.ipvs = image.ipvs && attachIpvs(image.ipvs);
  dp.ebpf = image.ebpf && attachEbpfImage(image.ebpf);
}

function attachTopology(parts: TopologyParts): Topology {
  return {
    nodes: parts.nodes,
    owners4: attachLpm4(parts.owners4),
    owners6: attachLpm6(parts.owners6),
    endpointNode: new Int32Array(parts.endpointNode),
    endpointAddress4: new Int32Array(parts.endpointAddress4),
    endpointAddress6: new Int32Array(parts.endpointAddress6),
    nodeAddress4: new Int32Array(parts.nodeAddress4),
    nodeAddress6: new Int32Array(parts.nodeAddress6),
    interfaces: parts.interfaces && attachInterfaces(parts.interfaces),
  };
}

function attachIptables(parts: IptablesParts): IptablesImage {
  const sets = parts.sets && attachIpSets(parts.sets);
  return { ...parts, rules4: attachRules(parts.rules4), rules6: attachRules(parts.rules6), sets };
}

function attachIpvs(parts: IpvsParts): IpvsImage {
  return attachIpvsImage(parts.tables, attachRules(parts.rules4), attachRules(parts.rules6));
}

function takeRules(rules: RuleList): RuleListParts {
  return {
    words: shared(rules.words),
    chains: rules.chains,
    rows: shared(rules.rows),
    starts: shared(rules.starts),
    runs: shared(rules.runs),
    bases: shared(rules.bases),
    policies: shared(rules.policies),
  };
}

function attachRules(parts: RuleListParts): RuleList {
  return {
    words: new Int32Array(parts.words),
    chains: parts.chains,
    rows: new Int32Array(parts.rows),
    starts: new Int32Array(parts.starts),
    runs: new Int32Array(parts.runs),
    bases: new Int32Array(parts.bases),
    policies: new Int32Array(parts.policies),
  };
}

/** The buffer of a view if it is shared and whole, else a shared copy of what the view shows. */
function shared(words: Int32Array): SharedArrayBuffer {
  const { buffer } = words;
  if (buffer instanceof SharedArrayBuffer && buffer.byteLength === words.byteLength) return buffer;
  const copy = new SharedArrayBuffer(words.byteLength);
  new Int32Array(copy).set(words);
  return copy;
}
