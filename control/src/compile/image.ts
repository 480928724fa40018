/**
 * An image as control holds it: the engine's tables of one mode, and what each of their rows means.
 *
 * The cluster part (topology, maps, shared chains) is made once; the node part covers the nodes that are asked for.
 */

import {
  type IptablesImage,
  MODE_EBPF,
  MODE_IPTABLES,
  MODE_IPVS,
  MODE_NFTABLES,
} from '@flatpath/engine/programs/datapath';
import type { EbpfImage } from '@flatpath/engine/programs/ebpf-image';
import type { IpvsImage } from '@flatpath/engine/programs/ipvs-image';
import { makeNftablesImage, type NftablesImage } from '@flatpath/engine/programs/nftables-image';
import type { Cluster } from '../cluster/cluster.ts';
import { resolveClusterCidr } from '../cluster/cluster-cidr.ts';
import type { Problem } from '../cluster/problem.ts';
import type { Prefix } from '../model/address.ts';
import type { DatapathConfig, Mode } from '../model/datapath.ts';
import { type PolicyModel, resolvePolicies } from '../policy/policy-model.ts';
import { policyProfile } from '../policy/profile.ts';
import { type CompiledEbpf, compileEbpf } from './ebpf.ts';
import { ebpfPolicyOf } from './ebpf-policy.ts';
import { IdentityNumbers } from './identity-numbers.ts';
import { IpsetEncoder } from './ipset-encode.ts';
import { type CompiledRules, compileIptables } from './iptables.ts';
import { kernelOptions } from './iptables-kube-proxy.ts';
import { type CompiledIpvs, compileIpvs, type IpvsBefore } from './ipvs.ts';
import { type CompiledNftables, compileNftables } from './nftables.ts';
import type { NodeRuleset } from './node-ruleset.ts';
import { NodePolicyMaker } from './policy-node.ts';
import { type CompiledSets, compileSets } from './ruleset-sets.ts';
import { type ClusterTopology, compileTopology } from './topology.ts';

/**
 * net.netfilter.nf_conntrack_max of a node as kube-proxy sets it: 32,768 a core, at least 131,072 (kube-proxy
 * configuration conntrack.maxPerCore and conntrack.min).
 */
const CONNTRACK_MAX = 131_072;

/** A cluster and a configuration, ready to be compiled for a mode: the same for all of them. */
export interface ClusterModel {
  readonly cluster: Cluster;
  readonly config: DatapathConfig;
  /** The prefixes that hold the pods; empty with detectLocalMode None. */
  readonly clusterCidr: readonly Prefix[];
  readonly topology: ClusterTopology;
  readonly policies: PolicyModel;
  /** Numbers of the ebpf mode's identities; a model that follows another has the same object. */
  readonly identities: IdentityNumbers;
  readonly warnings: readonly Problem[];
  /** The node whose rules come from dumps, null where all are kube-proxy's. */
  readonly ruleset: NodeRuleset | null;
}

export interface Image {
  readonly model: ClusterModel;
  readonly mode: Mode;
  /** Names of the nodes that the node part covers. */
  readonly nodes: readonly string[];
  readonly compiledNodes: Int32Array;
  readonly iptables: IptablesImage | null;
  readonly nftables: NftablesImage | null;
  readonly ipvs: IpvsImage | null;
  readonly ebpf: EbpfImage | null;
  readonly rules4: CompiledRules | null;
  readonly rules6: CompiledRules | null;
  readonly nft: CompiledNftables | null;
  readonly servers: CompiledIpvs | null;
  /** ipsets of the iptables mode: of a real node's dump, and of policies; null where there are none. */
  readonly sets: CompiledSets | null;
  readonly maps: CompiledEbpf | null;
}

/**
 * @param ruleset the node whose rules come from dumps
 * @param identities of the model that this one follows
 */
export function modelCluster(
  cluster: Cluster,
  config: DatapathConfig,
  ruleset: NodeRuleset | null = null,
  identities: IdentityNumbers = new IdentityNumbers(),
): ClusterModel {
  const { prefixes, warnings } = resolveClusterCidr(cluster, config.kubeProxy.clusterCIDR);
  const clusterCidr = config.kubeProxy.detectLocalMode === 'None' ? [] : prefixes;
  const topology = compileTopology(cluster, clusterCidr, ruleset?.interfaces ?? null);
  const policies = resolvePolicies(cluster, topology, policyProfile(config.policy.profile));
  const all = [...warnings, ...policies.warnings];
  return { cluster, config, clusterCidr, topology, policies, identities, warnings: all, ruleset };
}

/** Number of a mode in the engine. */
export function engineMode(mode: Mode): number {
  switch (mode) {
    case 'iptables':
      return MODE_IPTABLES;
    case 'nftables':
      return MODE_NFTABLES;
    case 'ipvs':
      return MODE_IPVS;
    case 'ebpf':
      return MODE_EBPF;
    default:
      throw new Error(`this build has no mode '${mode}'`);
  }
}

/**
 * Compiles a mode's image for some nodes of the cluster.
 * @param before in ipvs mode what it changes, so that connections to what is gone can end; null for none
 */
export function compileImage(
  model: ClusterModel,
  mode: Mode,
  nodes: readonly string[],
  before: IpvsBefore | null = null,
): Image {
  const compiledNodes = new Int32Array(new SharedArrayBuffer(4 * model.cluster.nodes.length));
  for (const name of nodes) compiledNodes[model.topology.nodeIndex.get(name)!] = 1;
  const image = {
    model,
    mode,
    nodes,
    compiledNodes,
    iptables: null,
    nftables: null,
    ipvs: null,
    ebpf: null,
    rules4: null,
    rules6: null,
    nft: null,
    servers: null,
    sets: null,
    maps: null,
  };
  switch (mode) {
    case 'iptables': {
      const { cluster, config, ruleset } = model;
      const encoder = new IpsetEncoder();
      for (const set of ruleset?.sets ?? []) encoder.add(ruleset!.node, set);
      const policies = new NodePolicyMaker('iptables', model);
      const kernel = kernelOptions(config);
      const rules4 = compileIptables(cluster, config, 4, nodes, kernel, ruleset, encoder, policies);
      const rules6 = compileIptables(cluster, config, 6, nodes, kernel, ruleset, encoder, policies);
      const sets = compileSets(encoder, cluster.nodes.length);
      return {
        ...image,
        rules4,
        rules6,
        sets,
        iptables: {
          rules4: rules4.rules,
          rules6: rules6.rules,
          conntrackMax: CONNTRACK_MAX * Math.max(1, nodes.length),
          tcpBeLiberal: config.kubeProxy.tcpBeLiberal,
          routeLocalnet: ruleset?.routeLocalnet ?? config.kubeProxy.localhostNodePorts,
          recentLists: Math.max(rules4.recentLists, rules6.recentLists),
          sets: sets?.image ?? null,
        },
      };
    }
    case 'nftables': {
      const nft = compileNftables(model.cluster, model.config, nodes, model.ruleset, model);
      const settings = {
        conntrackMax: CONNTRACK_MAX * Math.max(1, nodes.length),
        tcpBeLiberal: model.config.kubeProxy.tcpBeLiberal,
        // No nodePort is served on loopback, so kube-proxy has no reason to set it.
        routeLocalnet: false,
      };
      return { ...image, nft, nftables: makeNftablesImage(nft.family4.rules, nft.family6.rules, settings) };
    }
    case 'ipvs': {
      const { tcpBeLiberal } = model.config.kubeProxy;
      const kernel = { conntrackMax: CONNTRACK_MAX * Math.max(1, nodes.length), tcpBeLiberal };
      const policies = new NodePolicyMaker('ipvs', model);
      const servers = compileIpvs(model.cluster, model.config, nodes, kernel, before, model.ruleset, policies);
      const { image: ipvs, rules4, rules6 } = servers;
      return { ...image, servers, rules4, rules6, ipvs };
    }
    case 'ebpf': {
      const maps = compileEbpf(model.cluster, model.config, nodes, ebpfPolicyOf(model));
      return { ...image, maps, ebpf: maps.image };
    }
    default:
      throw new Error(`this build has no mode '${mode}'`);
  }
}
