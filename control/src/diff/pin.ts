/**
 * The same names keep the same places: what was made for the cluster before (nodes of pods, addresses, pod CIDRs,
 * nodePorts) is given to the objects of the same name after, wherever their manifests leave it open.
 *
 * Without it one pod more would move the addresses of all pods behind it, and a change would seem to do what only the
 * numbering did. What the manifests say themselves always wins.
 */

import type { Cluster } from '../cluster/cluster.ts';
import { KIND_NAMES } from '../cluster/kinds.ts';
import { canRunOn } from '../cluster/scheduling.ts';
import { ObjectStore } from '../cluster/store.ts';
import { overlaps, type Prefix, parseAddressOrPrefix, parsePrefix } from '../model/address.ts';
import { internalAddresses, type Node } from '../model/node.ts';
import { copyOrigin } from '../model/origin.ts';
import type { Pod } from '../model/pod.ts';
import { hasNoVirtualAddress, type Service } from '../model/service.ts';

/**
 * The desired state after a change with everything that the cluster before tells about its objects.
 *
 * @param given the desired state after; not changed
 * @param after the same, completed
 * @param before the completed cluster that it is compared with
 * @param keepsNodes neither side's manifests hold Nodes: those that were made before stay, whoever is named beside them
 */
export function pinToBefore(given: ObjectStore, after: Cluster, before: Cluster, keepsNodes: boolean): ObjectStore {
  const pinned = new ObjectStore();
  pinned.putAll(given);
  const claims = new Claims(given);
  const nodesBefore = byName(before.nodes);
  const nodesAfter = byName(after.nodes);
  for (const node of after.nodes) {
    const own = given.get('Node', '', node.metadata.name);
    pinned.put({ kind: 'Node', object: pinNode(node, own, nodesBefore.get(`/${node.metadata.name}`), claims) });
  }
  for (const node of keepsNodes ? before.nodes : []) {
    if (nodesAfter.has(`/${node.metadata.name}`)) continue;
    pinned.put({ kind: 'Node', object: node });
    nodesAfter.set(`/${node.metadata.name}`, node);
  }
  const podsBefore = byName(before.pods);
  for (const pod of after.pods) {
    const { namespace, name } = pod.metadata;
    const own = given.get('Pod', namespace, name);
    pinned.put({ kind: 'Pod', object: pinPod(pod, own, podsBefore.get(`${namespace}/${name}`), nodesAfter, claims) });
  }
  const servicesBefore = byName(before.services);
  for (const service of after.services) {
    const { namespace, name } = service.metadata;
    const own = given.get('Service', namespace, name);
    const known = servicesBefore.get(`${namespace}/${name}`);
    if (own !== undefined && known !== undefined) {
      pinned.put({ kind: 'Service', object: pinService(own, service, known, claims) });
    }
  }
  return pinned;
}

/** Every address and prefix that the objects name anywhere, so that the other side's made objects stay off them. */
export function listNamedAddresses(store: ObjectStore): string[] {
  const found = new Set<string>();
  for (const kind of KIND_NAMES) {
    // A ConfigMap's text is no single address, and its ranges are for made objects to take.
    if (kind !== 'ConfigMap') for (const object of store.list(kind)) collect(object, found);
  }
  return [...found].sort();
}

function collect(value: unknown, found: Set<string>): void {
  if (typeof value === 'string') {
    if (/^[0-9a-fA-F:.]{2,}(\/\d{1,3})?$/.test(value) && parseAddressOrPrefix(value) !== null) found.add(value);
  } else if (typeof value === 'object' && value !== null) {
    for (const part of Object.values(value)) collect(part, found);
  }
}

/** What the manifests after give to somebody themselves: nobody keeps that. */
class Claims {
  private readonly addresses: ReadonlySet<string>;
  private readonly podCidrs: readonly Prefix[];
  private readonly ports = new Set<number>();

  constructor(given: ObjectStore) {
    this.addresses = new Set(listNamedAddresses(given));
    const nodes = given.list('Node');
    this.podCidrs = nodes.flatMap(({ spec }) => [...spec.podCIDRs, spec.podCIDR].map(parsePrefix)).filter(isPrefix);
    for (const { spec } of given.list('Service')) for (const { nodePort } of spec.ports) this.ports.add(nodePort);
  }

  hasAddress(text: string): boolean {
    return this.addresses.has(text);
  }

  hasPort(port: number): boolean {
    return this.ports.has(port);
  }

  overlapsCidr(text: string): boolean {
    const prefix = parsePrefix(text);
    return prefix !== null && this.podCidrs.some((other) => overlaps(other, prefix));
  }
}

function isPrefix(prefix: Prefix | null): prefix is Prefix {
  return prefix !== null;
}

function byName<T extends { metadata: { namespace: string; name: string } }>(objects: readonly T[]): Map<string, T> {
  return new Map(objects.map((object) => [`${object.metadata.namespace}/${object.metadata.name}`, object]));
}

/** @param given as its manifest has it, undefined where it was made */
function pinNode(node: Node, given: Node | undefined, known: Node | undefined, claims: Claims): Node {
  const addresses = given?.status.addresses ?? [];
  const hasAddress = addresses.some(({ type }) => type === 'InternalIP');
  const kept = known === undefined || hasAddress ? [] : internalAddresses(known);
  const ownCidrs =
    given === undefined ? [] : [...given.spec.podCIDRs, given.spec.podCIDR].filter((text) => text !== '');
  const knownCidrs = (known?.spec.podCIDRs ?? []).filter((text) => !claims.overlapsCidr(text));
  const podCIDRs = ownCidrs.length > 0 ? node.spec.podCIDRs : knownCidrs;
  const pinned: Node = {
    ...node,
    spec: { ...node.spec, podCIDR: podCIDRs[0] ?? '', podCIDRs: [...podCIDRs] },
    status: {
      ...node.status,
      addresses: [
        ...addresses,
        ...kept.filter((text) => !claims.hasAddress(text)).map((address) => ({ type: 'InternalIP', address })),
      ],
    },
  };
  copyOrigin(pinned, node);
  return pinned;
}

function pinPod(
  pod: Pod,
  given: Pod | undefined,
  known: Pod | undefined,
  nodes: ReadonlyMap<string, Node>,
  claims: Claims,
): Pod {
  const spec = { ...pod.spec };
  const wasOn = known?.spec.nodeName ?? '';
  const node = nodes.get(`/${wasOn}`);
  if ((given?.spec.nodeName ?? '') === '' && node !== undefined && canRunOn(pod.spec, node)) spec.nodeName = wasOn;
  const status = { ...pod.status, hostIP: given?.status.hostIP ?? '' };
  const hasOwn = given !== undefined && (given.status.podIP !== '' || given.status.podIPs.length > 0);
  if (!hasOwn) {
    const stays = known !== undefined && spec.nodeName === wasOn && !spec.hostNetwork && !known.spec.hostNetwork;
    const isFree = stays && known.status.podIPs.every(({ ip }) => !claims.hasAddress(ip));
    status.podIPs = isFree ? [...known.status.podIPs] : [];
    status.podIP = status.podIPs[0]?.ip ?? '';
  }
  const pinned: Pod = { ...pod, spec, status };
  copyOrigin(pinned, pod);
  copyOrigin(spec, pod.spec);
  return pinned;
}

/** @param after the same, completed */
function pinService(given: Service, after: Service, known: Service, claims: Claims): Service {
  const spec = { ...given.spec };
  const { status } = given;
  const pinned: Service = { ...given, spec };
  copyOrigin(pinned, given);
  const isOpen = spec.clusterIP === '' && spec.clusterIPs.length === 0;
  if (isOpen && !hasNoVirtualAddress(known) && sameTexts(after.spec.ipFamilies, known.spec.ipFamilies)) {
    if (!known.spec.clusterIPs.some((text) => claims.hasAddress(text))) {
      spec.clusterIP = known.spec.clusterIP;
      spec.clusterIPs = [...known.spec.clusterIPs];
    }
  }
  spec.ports = spec.ports.map((port, index) => {
    if (port.nodePort !== 0 || after.spec.ports[index]?.nodePort === 0) return port;
    const was = known.spec.ports.find(({ name, protocol }) => name === port.name && protocol === port.protocol);
    return was === undefined || claims.hasPort(was.nodePort) ? port : { ...port, nodePort: was.nodePort };
  });
  const isMade = status.loadBalancer.ingress.length === 0 && spec.loadBalancerIP === '';
  const balancer = known.status.loadBalancer;
  if (
    isMade &&
    after.status.loadBalancer.ingress.length > 0 &&
    !balancer.ingress.some(({ ip }) => claims.hasAddress(ip))
  ) {
    pinned.status = { ...status, loadBalancer: balancer };
  }
  return pinned;
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, i) => text === b[i]);
}
