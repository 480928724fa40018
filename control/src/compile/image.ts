/**
 * An image as control holds it: the engine's tables of one mode, and what each of their rows means.
 *
 * The cluster part (topology, maps, shared chains) is made once; the node part covers the nodes that are asked for.
 */

import { type IptablesImage, MODE_EBPF, MODE_IPTABLES } from '@flatpath/engine/programs/datapath';
import type { EbpfImage } from '@flatpath/engine/programs/ebpf-image';
import type { Cluster } from '../cluster/cluster.ts';
import { resolveClusterCidr } from '../cluster/cluster-cidr.ts';
import type { Problem } from '../cluster/problem.ts';
import type { Prefix } from '../model/address.ts';
import type { DatapathConfig, Mode } from '../model/datapath.ts';
import { type CompiledEbpf, compileEbpf } from './ebpf.ts';
import { type CompiledRules, compileIptables } from './iptables.ts';
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
  readonly warnings: readonly Problem[];
}

export interface Image {
  readonly model: ClusterModel;
  readonly mode: Mode;
  /** Names of the nodes that the node part covers. */
  readonly nodes: readonly string[];
  readonly compiledNodes: Int32Array;
  readonly iptables: IptablesImage | null;
  readonly ebpf: EbpfImage | null;
  readonly rules4: CompiledRules | null;
  readonly rules6: CompiledRules | null;
  readonly maps: CompiledEbpf | null;
}

export function modelCluster(cluster: Cluster, config: DatapathConfig): ClusterModel {
  const { prefixes, warnings } = resolveClusterCidr(cluster, config.kubeProxy.clusterCIDR);
  const clusterCidr = config.kubeProxy.detectLocalMode === 'None' ? [] : prefixes;
  return { cluster, config, clusterCidr, topology: compileTopology(cluster, clusterCidr), warnings };
}

/** Number of a mode in the engine. */
export function engineMode(mode: Mode): number {
  switch (mode) {
    case 'iptables':
      return MODE_IPTABLES;
    case 'ebpf':
      return MODE_EBPF;
    default:
      throw new Error(`this build has no mode '${mode}'`);
  }
}

/** Compiles a mode's image for some nodes of the cluster. */
export function compileImage(model: ClusterModel, mode: Mode, nodes: readonly string[]): Image {
  const compiledNodes = new Int32Array(new SharedArrayBuffer(4 * model.cluster.nodes.length));
  for (const name of nodes) compiledNodes[model.topology.nodeIndex.get(name)!] = 1;
  const image = {
    model,
    mode,
    nodes,
    compiledNodes,
    iptables: null,
    ebpf: null,
    rules4: null,
    rules6: null,
    maps: null,
  };
  switch (mode) {
    case 'iptables': {
      const rules4 = compileIptables(model.cluster, model.config, 4, nodes);
      const rules6 = compileIptables(model.cluster, model.config, 6, nodes);
      return {
        ...image,
        rules4,
        rules6,
        iptables: {
          rules4: rules4.rules,
          rules6: rules6.rules,
          conntrackMax: CONNTRACK_MAX * Math.max(1, nodes.length),
          routeLocalnet: model.config.kubeProxy.localhostNodePorts,
          recentLists: Math.max(rules4.recentLists, rules6.recentLists),
        },
      };
    }
    case 'ebpf': {
      const maps = compileEbpf(model.cluster, model.config, nodes);
      return { ...image, maps, ebpf: maps.image };
    }
    default:
      throw new Error(`this build has no mode '${mode}'`);
  }
}
