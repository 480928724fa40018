/**
 * Address blocks of policies over addresses of the cluster: pods (real implementations disagree), nodes (masqueraded traffic
 * comes from there), Services (no policy sees their addresses). A block of everything (`0.0.0.0/0`) is not doubted.
 */

import { type ClusterTopology, nodeAddresses } from '../compile/topology.ts';
import { type Address, inPrefix, overlaps, type Prefix, parseAddress, parsePrefix } from '../model/address.ts';
import { hasNoVirtualAddress } from '../model/service.ts';
import { isWithin } from './cover.ts';
import type { LintContext } from './lint-context.ts';
import type { WrittenPeer, WrittenPolicy } from './written-policy.ts';

type Block = Extract<WrittenPeer, { kind: 'block' }>;

export function checkBlocks(context: LintContext): void {
  const { topology, clusterCidr, config } = context.model;
  const pods = topology.endpoints.flatMap(({ addresses }) => addresses);
  const services = serviceAddresses(context);
  const serviceRanges = config.kubeProxy.serviceCIDRs.flatMap((text) => parsePrefix(text) ?? []);
  for (const own of context.policies) {
    for (const rule of [...(own.ingress ?? []), ...(own.egress ?? [])]) {
      for (const peer of rule.peers) {
        if (peer.kind !== 'block' || peer.prefix.length === 0) continue;
        checkPods(context, own, peer, pods, clusterCidr);
        checkNodes(context, own, peer, topology);
        checkServices(context, own, peer, services, serviceRanges);
      }
    }
  }
}

function checkPods(
  context: LintContext,
  { policy, tier }: WrittenPolicy,
  peer: Block,
  pods: readonly Address[],
  clusterCidr: readonly Prefix[],
): void {
  const held = pods.filter((address) => holds(peer, address));
  const inRange = clusterCidr.some((range) => isWithin(peer.prefix, range));
  if (held.length === 0 && !inRange) return;
  const what =
    held.length === 0
      ? `lies in the pods' range, and no pod of the input has an address in it`
      : `holds the addresses of ${held.length} pod${held.length === 1 ? '' : 's'} (${held[0]!.text}${held.length > 1 ? ', …' : ''})`;
  context.report(policy, peer.field, {
    rule: 'block-over-pods',
    severity: 'warning',
    message: `${peer.prefix.text} ${what}: pods' addresses change, and Cilium matches no pod by its address`,
    advice: `select pods by their labels${tier === 'network' ? ' (podSelector, namespaceSelector)' : ''}${held.length > 0 && !inRange ? ', and except their range from the block' : ''}`,
  });
}

function checkNodes(context: LintContext, { policy }: WrittenPolicy, peer: Block, topology: ClusterTopology): void {
  const names = topology.nodes
    .filter((node) => nodeAddresses(node).some((address) => holds(peer, address)))
    .map(({ metadata }) => metadata.name);
  if (names.length === 0) return;
  context.report(policy, peer.field, {
    rule: 'block-over-nodes',
    severity: 'info',
    message: `${peer.prefix.text} holds addresses of ${names.slice(0, 3).join(', ')}${names.length > 3 ? ', …' : ''}: with them come the pods of the host network there and everything that these nodes masquerade, and Cilium matches no node by its address`,
    advice: 'mean it, or except the nodes',
  });
}

function checkServices(
  context: LintContext,
  { policy }: WrittenPolicy,
  peer: Block,
  services: readonly { readonly address: Address; readonly name: string }[],
  ranges: readonly Prefix[],
): void {
  const held = services.filter(({ address }) => holds(peer, address));
  const within = ranges.some((range) => isWithin(peer.prefix, range));
  const alone = peer.prefix.length === (peer.prefix.family === 4 ? 32 : 128) && held.length > 0;
  if (!within && !alone) return;
  const first = held[0];
  context.report(policy, peer.field, {
    rule: 'block-over-services',
    severity: 'warning',
    message: `${peer.prefix.text} ${first === undefined ? "lies in the Services' range" : `is the address of Service ${first.name}${held.length > 1 ? ' and others' : ''}`}: policies see the packet after the Service has translated it, with the address of a pod`,
    advice: 'select the pods behind the Service by their labels',
  });
}

function holds({ prefix, except }: Block, address: Address): boolean {
  return inPrefix(address, prefix) && !except.some((hole) => inPrefix(address, hole));
}

function serviceAddresses({ cluster }: LintContext): { address: Address; name: string }[] {
  return cluster.services.flatMap((service) => {
    if (hasNoVirtualAddress(service)) return [];
    const name = `${service.metadata.namespace}/${service.metadata.name}`;
    const found = service.spec.clusterIPs.flatMap((text) => parseAddress(text) ?? []);
    return found.map((address) => ({ address, name }));
  });
}

/** Ranges of pods, Services and nodes that share addresses. (Two nodes that share pod addresses are refused when loading.) */
export function checkRanges(context: LintContext): void {
  const { cluster, clusterCidr, config } = context.model;
  for (const { address, name } of serviceAddresses(context)) {
    const range = clusterCidr.find((prefix) => inPrefix(address, prefix));
    const service = cluster.services.find((own) => `${own.metadata.namespace}/${own.metadata.name}` === name);
    if (range === undefined || service === undefined) continue;
    context.report(service, 'spec.clusterIP', {
      rule: 'range-overlap',
      severity: 'error',
      message: `the ClusterIP ${address.text} lies in the pods' range ${range.text}: a pod may get it`,
      advice: 'keep the ranges of Services and pods apart',
    });
  }
  for (const node of cluster.nodes) {
    for (const address of nodeAddresses(node)) {
      const range = clusterCidr.find((prefix) => inPrefix(address, prefix));
      if (range === undefined) continue;
      context.report(node, 'status.addresses', {
        rule: 'range-overlap',
        severity: 'error',
        message: `the address ${address.text} lies in the pods' range ${range.text}: what is masqueraded, and who is a pod, is decided by that range`,
        advice: 'keep the ranges of nodes and pods apart, or give the true one in kubeProxy.clusterCIDR',
      });
    }
  }
  for (const text of config.kubeProxy.serviceCIDRs) {
    const range = parsePrefix(text);
    const other = range === null ? undefined : clusterCidr.find((prefix) => overlaps(prefix, range));
    if (range === null || other === undefined) continue;
    context.reportInput({
      rule: 'range-overlap',
      severity: 'warning',
      message: `the Services' range ${range.text} overlaps the pods' range ${other.text}`,
      advice: 'keep them apart; where the cluster has another range for Services, give it in kubeProxy.serviceCIDRs',
    });
  }
}
