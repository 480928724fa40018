/**
 * Policies on one node, in the iptables and ipvs modes: who is sent to which pod's chains, and from where.
 *
 *     filter FORWARD -> POLICY-FORWARD, in front of everything
 *       known flows return (where the profile judges them, their replies and what is related alone)
 *       iptables: what kube-proxy refuses here returns to it, by the set POLICY-SERVICES
 *       from a judged pod of the node (set POLICY-PODS-OUT) -> POLICY-OUT -> its chain
 *       to a judged pod of the node (set POLICY-PODS-IN)    -> POLICY-IN -> its chain
 *     filter INPUT -> POLICY-INPUT, where the profile judges what a pod sends to its own node: the same for from a judged pod
 *     ipvs: filter OUTPUT -> POLICY-OUTPUT, for what no local process sends: IPVS translates at LOCAL_IN and sends on from
 *       LOCAL_OUT; what comes to it at LOCAL_IN (KUBE-IPVS-IPS and, at the node's own addresses, POLICY-SERVICES) is not
 *       judged there
 *
 * So a packet is judged where it has its destination behind a Service and still its own source; once a direction. What
 * another node sends back with a pod's own source has left the pod before, so FORWARD and INPUT ask for the pods' interfaces
 * too: `kubeProxy.bridgeInterface` where that tells local pods, else what begins with `kubeProxy.interfaceNamePrefix`.
 * A node without a judged pod has nothing of this. Both sets keep other packets from walking the pods' rules.
 */

import type { Address, Family } from '../model/address.ts';
import type { DatapathConfig } from '../model/datapath.ts';
import type { Protocol } from '../model/port.ts';
import type { PolicyModel } from '../policy/policy-model.ts';
import type { Direction, JudgementOrder } from '../policy/policy-rules.ts';
import type { PolicyProfile } from '../policy/profile.ts';
import type { Ipset, IpsetElement } from './ipset.ts';
import {
  type Chain,
  type ConntrackState,
  comment,
  type Header,
  hostMatch,
  jump,
  type Match,
  makeRule,
  type Rule,
  type Source,
  type Target,
} from './iptables-rules.ts';
import { ruleText } from './iptables-text.ts';
import { addressPart, portPart, setName } from './ipvs-sets.ts';
import { type PodChains, PolicyChains, policyName, subjects } from './policy-chains.ts';
import { PolicySets, type Side } from './policy-sets.ts';
import type { ClusterTopology } from './topology.ts';

/** What policies add to a node in one family. */
export interface NodePolicies {
  readonly chains: readonly Chain[];
  readonly sets: readonly Ipset[];
  /** Rules that stand first in the base chains that they name. */
  readonly jumps: readonly Rule[];
}

/** An address and port of a Service whose packets the node answers by itself. */
export interface ServicePlace {
  readonly protocol: Protocol;
  readonly address: Address;
  readonly port: number;
  readonly sources: readonly Source[];
}

/** What policies are about: a cluster's pods and nodes, and how a node tells its pods. */
export interface PolicedCluster {
  readonly topology: ClusterTopology;
  readonly policies: PolicyModel;
  readonly config: DatapathConfig;
}

/** The mode that policies stand in. */
export type PolicyMode = 'iptables' | 'ipvs';

/** A pod of the node with the chains of a judged direction. */
interface Judged {
  readonly endpoint: number;
  readonly address: Address;
  readonly order: JudgementOrder;
  readonly chains: PodChains;
}

const PROFILE: readonly Source[] = [{ option: 'policy.profile' }];
const KUBE_PROXY: readonly Source[] = [{ option: 'kubeProxy' }];
/** Router solicitation, neighbour solicitation and advertisement. */
const NEIGHBOUR_DISCOVERY = [133, 135, 136];
const RETURN: Target = { kind: 'return' };
const DST_DST: readonly Side[] = ['dst', 'dst'];
const NEW: Match = { kind: 'conntrack', states: ['NEW'], invert: false };
const DISPATCH: Readonly<Record<Direction, string>> = { egress: 'POLICY-OUT', ingress: 'POLICY-IN' };
const SIDE: Readonly<Record<Direction, Side>> = { egress: 'src', ingress: 'dst' };

/** Makes the policies' rules of the nodes of a cluster, in both families. */
export class NodePolicyMaker {
  private readonly mode: PolicyMode;
  private readonly podInterface: string;
  private readonly topology: ClusterTopology;
  private readonly policies: PolicyModel;
  private readonly families: Readonly<Record<Family, { readonly sets: PolicySets; readonly chains: PolicyChains }>>;
  /** Chains that nodes have alike. */
  private readonly heads = new Map<string, Chain>();
  /** Endpoint numbers by node. */
  private readonly pods: number[][] = [];
  private readonly jumps: Readonly<Record<'FORWARD' | 'INPUT' | 'OUTPUT', Rule>>;

  constructor(mode: PolicyMode, { topology, policies, config }: PolicedCluster) {
    this.mode = mode;
    this.podInterface = podInterface(config);
    this.topology = topology;
    this.policies = policies;
    const of = (family: Family): { sets: PolicySets; chains: PolicyChains } => {
      const sets = new PolicySets(family, topology, policies.profile);
      return { sets, chains: new PolicyChains(family, sets, policies.profile) };
    };
    this.families = { 4: of(4), 6: of(6) };
    const words = comment('network policies');
    const remote: Match = { kind: 'addrtype', side: 'src', invert: true };
    this.jumps = {
      FORWARD: makeRule('filter', 'FORWARD', {}, [words], jump('POLICY-FORWARD'), PROFILE),
      INPUT: makeRule('filter', 'INPUT', {}, [words], jump('POLICY-INPUT'), PROFILE),
      OUTPUT: makeRule('filter', 'OUTPUT', {}, [words, remote], jump('POLICY-OUTPUT'), PROFILE),
    };
  }

  /**
   * What policies add to a node; null where none of its pods is judged.
   * @param node position in the topology
   * @param services iptables: places that kube-proxy refuses on the node; ipvs: virtual servers at its own addresses
   */
  onNode(family: Family, node: number, services: () => readonly ServicePlace[]): NodePolicies | null {
    const out = this.judgedPods(family, node, 'egress');
    const into = this.judgedPods(family, node, 'ingress');
    if (out.length === 0 && into.length === 0) return null;
    const { sets: maker } = this.families[family];
    const chains = new Set<Chain>();
    const sets = new Set<Ipset>();
    for (const { chains: own } of [...out, ...into]) {
      chains.add(own.entry);
      for (const chain of own.tiers) chains.add(chain);
      for (const set of own.sets) sets.add(set);
    }

    const judgesInput = this.policies.profile.ownNodeEgress === 'judged' && out.length > 0;
    const places = this.mode === 'iptables' || judgesInput ? services() : [];
    const served = places.length === 0 ? null : maker.nodeSet('SERVICES', 'hash:ip,port', elementsOf(places));
    if (served !== null) sets.add(served);
    const guards = new Map<Direction, Ipset>();
    for (const [direction, pods] of [
      ['egress', out],
      ['ingress', into],
    ] as const) {
      if (pods.length === 0) continue;
      const elements = pods.map(({ endpoint }) => maker.podElement(endpoint)!);
      const guard = maker.nodeSet(direction === 'egress' ? 'PODS-OUT' : 'PODS-IN', 'hash:ip', elements);
      guards.set(direction, guard);
      sets.add(guard);
      chains.add(this.dispatch(direction, pods));
    }

    const jumps: Rule[] = [this.jumps.FORWARD];
    const refused = this.mode === 'iptables' && served !== null ? [refusedRule('POLICY-FORWARD', served)] : [];
    chains.add(this.headChain('POLICY-FORWARD', refused, guards));
    if (this.mode === 'ipvs') {
      jumps.push(this.jumps.OUTPUT);
      chains.add(this.headChain('POLICY-OUTPUT', [], guards));
    }
    if (judgesInput) {
      jumps.push(this.jumps.INPUT);
      const own = [...(family === 6 ? neighbourRules('POLICY-INPUT') : []), ...this.inputRules(family, served)];
      chains.add(this.headChain('POLICY-INPUT', own, new Map([['egress', guards.get('egress')!]])));
    }
    return { chains: [...chains], sets: [...sets], jumps };
  }

  private judgedPods(family: Family, node: number, direction: Direction): Judged[] {
    const { sets, chains } = this.families[family];
    return this.podsOf(node).flatMap((endpoint) => {
      const order = this.policies[direction][endpoint] ?? null;
      const address = order === null ? null : sets.podAddress(endpoint);
      if (order === null || address === null) return [];
      const { pod } = this.topology.endpoints[endpoint]!;
      return [{ endpoint, address, order, chains: chains.podChains(address, pod, order) }];
    });
  }

  /** Endpoint numbers of a node's pods. */
  private podsOf(node: number): readonly number[] {
    if (this.pods.length === 0) {
      for (const _node of this.topology.nodes) this.pods.push([]);
      this.topology.endpoints.forEach((endpoint, number) => {
        this.pods[endpoint.node]!.push(number);
      });
    }
    return this.pods[node]!;
  }

  /** From a pod's address to its chain. By GOTO: what the pod's chain returns is through with this one too. */
  private dispatch(direction: Direction, pods: readonly Judged[]): Chain {
    const name = DISPATCH[direction];
    const rules = pods.map(({ endpoint, address, order, chains }) => {
      const words = comment(policyName(this.topology.endpoints[endpoint]!.pod));
      const own = hostMatch(address);
      const header: Header = direction === 'egress' ? { source: own } : { destination: own };
      const target: Target = { kind: 'goto', chain: chains.entry.name };
      return makeRule('filter', name, header, [words], target, subjects(order.policies));
    });
    return { table: 'filter', name, rules };
  }

  /**
   * POLICY-FORWARD, POLICY-INPUT or POLICY-OUTPUT; the same chain for all nodes where it says the same.
   * @param exempt rules for what is not judged, behind known flows
   */
  private headChain(name: string, exempt: readonly Rule[], guards: ReadonlyMap<Direction, Ipset>): Chain {
    const rules = [...knownFlows(name, this.policies.profile), ...exempt];
    for (const [direction, guard] of guards) {
      const matches = [comment(`judged for ${direction}`), asks(guard, [SIDE[direction]])];
      // LOCAL_OUT knows no interface that a packet came in by.
      const isFromPod = direction === 'egress' && name !== 'POLICY-OUTPUT';
      const header: Header = isFromPod ? { inInterface: { name: this.podInterface, invert: false } } : {};
      rules.push(makeRule('filter', name, header, matches, jump(DISPATCH[direction]), PROFILE));
    }
    // Only sets tell the families apart, and they carry their own names.
    const key = rules.map((rule) => ruleText(rule, 4)).join(' ');
    let chain = this.heads.get(key);
    if (chain === undefined) {
      chain = { table: 'filter', name, rules };
      this.heads.set(key, chain);
    }
    return chain;
  }

  /** What comes to Services at INPUT: kube-proxy's refusals, or all that IPVS takes or refuses. */
  private inputRules(family: Family, served: Ipset | null): Rule[] {
    const rules: Rule[] = [];
    if (this.mode === 'ipvs') {
      const virtual: Match = { kind: 'set', set: setName('KUBE-IPVS-IPS', family), sides: ['dst'], invert: false };
      rules.push(makeRule('filter', 'POLICY-INPUT', {}, [comment('virtual addresses'), virtual], RETURN, KUBE_PROXY));
      if (served === null) return rules;
      const matches = [comment('Services that IPVS takes'), asks(served, DST_DST)];
      rules.push(makeRule('filter', 'POLICY-INPUT', {}, matches, RETURN, KUBE_PROXY));
    } else if (served !== null) rules.push(refusedRule('POLICY-INPUT', served));
    return rules;
  }
}

/** Only new flows: what kube-proxy refuses by now may have flows that began before, and those are judged like others. */
function refusedRule(chain: string, refused: Ipset): Rule {
  const matches = [comment('Services that kube-proxy refuses'), NEW, asks(refused, DST_DST)];
  return makeRule('filter', chain, {}, matches, RETURN, KUBE_PROXY);
}

/** Without them a pod finds no node. */
function neighbourRules(chain: string): Rule[] {
  return NEIGHBOUR_DISCOVERY.map((type) =>
    makeRule('filter', chain, {}, [{ kind: 'icmp6', type }, comment('neighbour discovery')], RETURN, PROFILE),
  );
}

/** The pods' side of a node, as iptables writes it: a name, or the beginning of names and `+`. */
export function podInterface({ kubeProxy }: DatapathConfig): string {
  const { detectLocalMode, bridgeInterface, interfaceNamePrefix } = kubeProxy;
  return detectLocalMode === 'BridgeInterface' ? bridgeInterface : `${interfaceNamePrefix}+`;
}

/** Flows that are not judged again. */
function knownFlows(chain: string, { establishedFlows }: PolicyProfile): Rule[] {
  const returns = (words: string, match: Match): Rule =>
    makeRule('filter', chain, {}, [comment(words), match], RETURN, PROFILE);
  const known = (states: readonly ConntrackState[]): Match => ({ kind: 'conntrack', states, invert: false });
  if (establishedFlows !== 'judged') return [returns('known flows', known(['RELATED', 'ESTABLISHED']))];
  return [returns('about known flows', known(['RELATED'])), returns('replies', { kind: 'reply' })];
}

function asks(set: Ipset, sides: readonly Side[]): Match {
  return { kind: 'set', set: set.name, sides, invert: false };
}

/** One element a place: Services may share one. */
function elementsOf(places: readonly ServicePlace[]): IpsetElement[] {
  const elements = new Map<string, IpsetElement>();
  for (const { address, protocol, port, sources } of places) {
    const key = `${address.text} ${protocol} ${port}`;
    if (elements.has(key)) continue;
    elements.set(key, { parts: [addressPart(address), portPart(protocol, port)], nomatch: false, sources });
  }
  return [...elements.values()];
}

/** A node's chains with the policies' behind them and their jumps in front of the base chains. */
export function withPolicies(
  chains: readonly Chain[],
  policies: NodePolicies | null,
  extended: Map<Chain, Chain>,
): readonly Chain[] {
  if (policies === null) return chains;
  const longer = chains.map((chain) => {
    const jump = policies.jumps.find((rule) => rule.table === chain.table && rule.chain === chain.name);
    if (jump === undefined) return chain;
    let made = extended.get(chain);
    if (made === undefined) {
      made = { ...chain, rules: [jump, ...chain.rules] };
      extended.set(chain, made);
    }
    return made;
  });
  return [...longer, ...policies.chains];
}
