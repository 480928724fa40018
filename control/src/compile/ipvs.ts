/**
 * The ipvs mode's compile: rulesets of nodes -> the engine's image (programs/ipvs-image.ts), and what its numbers mean.
 *
 * Both families share the virtual servers' table and the ipsets; rules are a list each. What nodes have in common is
 * written once. Ids of virtual servers and real servers are hashes of what they are, so connections keep theirs over a
 * change of image.
 *
 * The CNI's outbound masquerade is part of what runs, though not of what is printed for kube-proxy.
 */

import {
  IPVS_KUBE_PROXY_OPTIONS,
  IPVS_TCP_FIN_TIMEOUT_MS,
  IPVS_TCP_TIMEOUT_MS,
  IPVS_UDP_TIMEOUT_MS,
  type IpvsImage,
  makeIpvsImage,
} from '@flatpath/engine/programs/ipvs-image';
import type { Cluster } from '../cluster/cluster.ts';
import type { Address, Family } from '../model/address.ts';
import type { DatapathConfig } from '../model/datapath.ts';
import { IpsetEncoder } from './ipset-encode.ts';
import { type CompiledRules, withOutbound } from './iptables.ts';
import { outboundMasquerade } from './iptables-base.ts';
import { RuleEncoder } from './iptables-encode.ts';
import { findNode } from './iptables-kube-proxy.ts';
import type { Chain } from './iptables-rules.ts';
import { drainRemoved } from './ipvs-drain.ts';
import { ServerEncoder } from './ipvs-encode.ts';
import { KubeProxyIpvs } from './ipvs-kube-proxy.ts';
import { describeIpvsRow, describeServer, type IpvsEntries, type IpvsRowText, ipvsMapName } from './ipvs-rows.ts';
import type { IpvsRuleset, VirtualServer } from './ipvs-ruleset.ts';
import { setName } from './ipvs-sets.ts';
import { type NodeRuleset, rulesetOf } from './node-ruleset.ts';
import type { NodePolicyMaker } from './policy-node.ts';
import { withPolicySets } from './policy-services.ts';

const FAMILIES: readonly Family[] = [4, 6];

export interface CompiledIpvs extends IpvsEntries {
  readonly image: IpvsImage;
  readonly rules4: CompiledRules;
  readonly rules6: CompiledRules;
  /** Name of a map by its MAP_… number. */
  mapName(map: number): string;
  /** Text and origins of an EVENT_MAP row of 0 or more. */
  describeRow(map: number, row: number): IpvsRowText;
  /** Text and origins of the virtual server that made an EVENT_CHOICE. */
  describeServer(row: number): IpvsRowText;
  /** What was compiled for a node. */
  rulesetsOf(node: number): readonly IpvsRuleset[];
  /** RS_ID of a real server, by its position in its virtual server: connections are counted by it. */
  realServerId(server: VirtualServer, real: number): number;
  /** True for an address of a node's kube-ipvs0: what a local process sends there has it as its source too. */
  isBound(node: number, address: Address): boolean;
}

/** The rulesets of a node: one a family at most. */
export interface NodeRulesets {
  /** Position in `cluster.nodes`. */
  readonly node: number;
  readonly rulesets: readonly IpvsRuleset[];
}

/** What an image has beside its tables. */
export interface IpvsSettings {
  /** Names of the ipsets that hold the addresses of kube-ipvs0, by family; null for none. */
  readonly localSets: Readonly<Record<Family, string | null>>;
  readonly conntrackMax: number;
  readonly tcpBeLiberal: boolean;
}

/** The image before, whose connections may still run. */
export interface IpvsBefore {
  readonly compiled: CompiledIpvs;
  /** True if no connection of a node goes to the real server with this RS_ID. */
  isIdle(node: number, realServerId: number): boolean;
}

/**
 * Compiles what kube-proxy programs, for some nodes.
 * @param before what it changes; null for a first sync
 * @param ruleset the node whose rules were read from dumps
 * @param policies of the cluster; null for none
 * @throws RangeError for a node or a scheduler that there is not
 */
export function compileIpvs(
  cluster: Cluster,
  config: DatapathConfig,
  nodeNames: readonly string[],
  kernel: Omit<IpvsSettings, 'localSets'>,
  before: IpvsBefore | null = null,
  ruleset: NodeRuleset | null = null,
  policies: NodePolicyMaker | null = null,
): CompiledIpvs {
  const sources = FAMILIES.map((family) => new KubeProxyIpvs(cluster, config, family));
  const outbound = config.pods.masqueradeOutbound ? outboundMasquerade() : null;
  // Nodes that share a chain share its extension too.
  const extended = new Map<Chain, Chain>();
  const guarded = new Map<Chain, Chain>();
  const rows = nodeNames.map((name) => {
    const node = findNode(cluster, name);
    const index = cluster.nodes.indexOf(node);
    const own = rulesetOf(ruleset, index);
    if (own !== null) return { node: index, rulesets: FAMILIES.map((family) => ipvsOfFamily(own, family)) };
    const rulesets = sources.map((source) => {
      const ruleset = followBefore(source.nodeRuleset(node), index, before);
      const chains = outbound === null ? ruleset.chains : withOutbound(ruleset.chains, outbound, extended);
      return withPolicySets({ ...ruleset, chains }, index, policies, guarded);
    });
    return { node: index, rulesets };
  });
  const localSets = { 4: setName('KUBE-IPVS-IPS', 4), 6: setName('KUBE-IPVS-IPS', 6) };
  return encodeIpvs(cluster.nodes.length, rows, { ...kernel, localSets });
}

/** What a real node's dumps hold of one family. */
function ipvsOfFamily({ iptables, sets, virtualServers }: NodeRuleset, family: Family): IpvsRuleset {
  const own = virtualServers.filter(({ virtual }) =>
    virtual.kind === 'fwmark' ? virtual.family === family : virtual.address.family === family,
  );
  const bound = own.flatMap(({ virtual }) => (virtual.kind === 'address' ? [virtual.address] : []));
  return {
    family,
    virtualServers: own,
    // Port bitmaps have no family and serve the rules of both.
    sets: sets.flatMap((set) => (set.range !== null ? [{ ...set, family }] : set.family === family ? [set] : [])),
    chains: iptables[family]?.chains ?? [],
    dropping: iptables[family]?.dropping ?? [],
    boundAddresses: bound,
  };
}

function followBefore(next: IpvsRuleset, node: number, before: IpvsBefore | null): IpvsRuleset {
  const ruleset = before?.compiled.rulesetsOf(node).find(({ family }) => family === next.family);
  if (before === null || ruleset === undefined) return next;
  const isIdle = (server: VirtualServer, real: number): boolean =>
    before.isIdle(node, before.compiled.realServerId(server, real));
  return drainRemoved(next, { ruleset, isIdle });
}

/**
 * The image of some nodes' rulesets.
 * @param nodes nodes of the cluster
 * @throws RangeError for a rule that asks an ipset which no node has
 */
export function encodeIpvs(nodes: number, rows: readonly NodeRulesets[], settings: IpvsSettings): CompiledIpvs {
  const sets = new IpsetEncoder();
  const servers = new ServerEncoder();
  for (const { node, rulesets } of rows) {
    servers.addNode(node);
    for (const ruleset of rulesets) {
      for (const set of ruleset.sets) sets.add(node, set);
      for (const server of ruleset.virtualServers) servers.add(node, server);
    }
  }
  const [rules4, rules6] = FAMILIES.map((family) => {
    const encoder = new RuleEncoder(family, (name) => sets.setId(name));
    for (const { node, rulesets } of rows) {
      const own = rulesets.find((ruleset) => ruleset.family === family);
      if (own !== undefined) encoder.addNode(node, own.chains, [], own.dropping);
    }
    return encoder.finish(nodes);
  }) as [CompiledRules, CompiledRules];
  const localSet = (name: string | null): number =>
    name !== null && sets.names.includes(name) ? sets.setId(name) : -1;
  const image = makeIpvsImage({
    services: servers.build(),
    sets: sets.build(nodes),
    rules4: rules4.rules,
    rules6: rules6.rules,
    localSet4: localSet(settings.localSets[4]),
    localSet6: localSet(settings.localSets[6]),
    options: IPVS_KUBE_PROXY_OPTIONS,
    tcpTimeoutMs: IPVS_TCP_TIMEOUT_MS,
    tcpFinTimeoutMs: IPVS_TCP_FIN_TIMEOUT_MS,
    udpTimeoutMs: IPVS_UDP_TIMEOUT_MS,
    conntrackMax: settings.conntrackMax,
    tcpBeLiberal: settings.tcpBeLiberal,
    // kube-proxy needs it for nodePorts on 127.0.0.1 only, which this mode has not.
    routeLocalnet: false,
    recentLists: Math.max(rules4.recentLists, rules6.recentLists),
  });
  const bound = new Map(
    rows.map(({ node, rulesets }) => [
      node,
      new Set(rulesets.flatMap(({ boundAddresses }) => boundAddresses.map(({ text }) => text))),
    ]),
  );
  const entries: IpvsEntries = {
    servers: servers.servers,
    reals: servers.reals,
    setNames: sets.names,
    elements: sets.elements,
  };
  return {
    ...entries,
    image,
    rules4,
    rules6,
    mapName: (map) => ipvsMapName(entries, map),
    describeRow: (map, row) => describeIpvsRow(entries, map, row),
    describeServer: (row) => describeServer(entries, row),
    rulesetsOf: (node) => rows.find((row) => row.node === node)?.rulesets ?? [],
    realServerId: (server, real) => servers.idOf(server, real),
    isBound: (node, address) => bound.get(node)?.has(address.text) ?? false,
  };
}
