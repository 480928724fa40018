/**
 * References: what a user writes for a source or target (`pod/shop/frontend-0`, `svc/checkout:5050`, `node/worker-1`,
 * `203.0.113.2`, `[2001:db8::1]:80`, `checkout.shop.svc.cluster.local:grpc`), read and looked up in a cluster.
 *
 * A reference that cannot be read or found is a `UnresolvedReference` whose sentence says what was looked for.
 */

import type { Cluster } from '../cluster/cluster.ts';
import { type Address, type Family, parseAddress } from '../model/address.ts';
import { hasEnded, type Pod } from '../model/pod.ts';
import type { Service, ServicePort } from '../model/service.ts';

export type Protocol = 'TCP' | 'UDP' | 'SCTP' | 'ICMP';

export type ReferenceKind = 'pod' | 'svc' | 'deploy' | 'sts' | 'ds' | 'node' | 'address';

/** A reference as it was written. `port` is a number, a port's name or null. */
export interface Reference {
  readonly text: string;
  readonly kind: ReferenceKind;
  readonly namespace: string;
  readonly name: string;
  readonly address: Address | null;
  readonly port: number | string | null;
}

export class UnresolvedReference extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UnresolvedReference';
  }
}

const KINDS: Readonly<Record<string, ReferenceKind>> = {
  pod: 'pod',
  pods: 'pod',
  po: 'pod',
  svc: 'svc',
  service: 'svc',
  services: 'svc',
  deploy: 'deploy',
  deployment: 'deploy',
  deployments: 'deploy',
  sts: 'sts',
  statefulset: 'sts',
  statefulsets: 'sts',
  ds: 'ds',
  daemonset: 'ds',
  daemonsets: 'ds',
  node: 'node',
  nodes: 'node',
};

const WORKLOAD_KINDS: Readonly<Record<string, string>> = { deploy: 'Deployment', sts: 'StatefulSet', ds: 'DaemonSet' };

/** Reads a reference. */
export function parseReference(text: string): Reference {
  const trimmed = text.trim();
  const { host, port } = splitPort(trimmed);
  const address = parseAddress(host);
  if (address !== null) return { text: trimmed, kind: 'address', namespace: '', name: '', address, port };
  const slash = host.indexOf('/');
  if (slash < 0) return parseDnsName(trimmed, host, port);
  const kind = Object.hasOwn(KINDS, host.slice(0, slash)) ? KINDS[host.slice(0, slash)] : undefined;
  if (kind === undefined) {
    throw new UnresolvedReference(
      `'${trimmed}': '${host.slice(0, slash)}' is not one of pod, svc, deploy, sts, ds, node`,
    );
  }
  const parts = host.slice(slash + 1).split('/');
  if (parts.some((part) => part === '')) throw new UnresolvedReference(`'${trimmed}' lacks a name`);
  if (kind === 'node') {
    if (parts.length !== 1) throw new UnresolvedReference(`'${trimmed}': a node has no namespace`);
    return { text: trimmed, kind, namespace: '', name: parts[0]!, address: null, port };
  }
  if (parts.length > 2) throw new UnresolvedReference(`'${trimmed}' has more parts than kind/namespace/name`);
  const name = parts[parts.length - 1]!;
  return { text: trimmed, kind, namespace: parts.length === 2 ? parts[0]! : 'default', name, address: null, port };
}

/** The literal address in a reference's text, null where there is none: made addresses must not take it. */
export function literalAddress(text: string): string | null {
  try {
    return parseReference(text).address?.text ?? null;
  } catch (error) {
    if (error instanceof UnresolvedReference) return null;
    throw error;
  }
}

/** The pods behind a pod or workload reference, by name; empty where there are none. */
export function findPods(cluster: Cluster, reference: Reference): Pod[] {
  const { kind, namespace, name } = reference;
  if (kind === 'pod') {
    return cluster.pods.filter((pod) => pod.metadata.namespace === namespace && pod.metadata.name === name);
  }
  const owner = WORKLOAD_KINDS[kind];
  if (owner === undefined) return [];
  return cluster.pods.filter((pod) => pod.metadata.namespace === namespace && isOwnedBy(pod, owner, name));
}

/** The one pod that a reference stands for: the named one, or the first by name of a workload. */
export function findPod(cluster: Cluster, reference: Reference): Pod {
  const pods = findPods(cluster, reference);
  const pod = pods.find((candidate) => !hasEnded(candidate)) ?? pods[0];
  if (pod === undefined) throw new UnresolvedReference(notFound(cluster, reference));
  if (hasEnded(pod))
    throw new UnresolvedReference(`'${reference.text}' has ended (${pod.status.phase}) and has no address`);
  return pod;
}

export function findService(cluster: Cluster, reference: Reference): Service {
  const service = cluster.services.find(
    (candidate) => candidate.metadata.namespace === reference.namespace && candidate.metadata.name === reference.name,
  );
  if (service === undefined) throw new UnresolvedReference(notFound(cluster, reference));
  return service;
}

/** The port of a Service that a reference means: by name, by number, or its only one. */
export function findServicePort(service: Service, reference: Reference, protocol: Protocol | null): ServicePort | null {
  const { port, text } = reference;
  const ports = service.spec.ports;
  if (port === null) {
    const fitting = protocol === null ? ports : ports.filter((candidate) => candidate.protocol === protocol);
    if (fitting.length === 1) return fitting[0]!;
    throw new UnresolvedReference(`'${text}' needs a port: ${listPorts(ports)}`);
  }
  if (typeof port === 'number') return ports.find((candidate) => candidate.port === port) ?? null;
  const named = ports.filter((candidate) => candidate.name === port);
  const found = named.find((candidate) => candidate.protocol === protocol) ?? named[0];
  if (found === undefined) throw new UnresolvedReference(`'${text}': no port '${port}'; there is ${listPorts(ports)}`);
  return found;
}

/** The number of a pod's named container port; pods may share a port's name between protocols. */
export function findContainerPort(
  pod: Pod,
  reference: Reference,
  protocol: Protocol | null,
): { port: number; protocol: Protocol } {
  const ports = [...pod.spec.containers, ...pod.spec.initContainers].flatMap((container) => container.ports);
  const named = ports.filter((candidate) => candidate.name !== '' && candidate.name === reference.port);
  const found = named.find((candidate) => candidate.protocol === protocol) ?? named[0];
  if (found === undefined) {
    const names = ports.filter((candidate) => candidate.name !== '').map((candidate) => candidate.name);
    throw new UnresolvedReference(
      `'${reference.text}': the pod has no container port '${reference.port}'${names.length > 0 ? `; there is ${names.join(', ')}` : ''}`,
    );
  }
  return { port: found.containerPort, protocol: found.protocol };
}

/** The family that a source and target have in common: IPv4 where both have it, else IPv6. */
export function commonFamily(from: readonly Address[], to: readonly Address[]): Family | null {
  for (const family of [4, 6] as const) {
    if (from.some((address) => address.family === family) && to.some((address) => address.family === family)) {
      return family;
    }
  }
  return null;
}

function splitPort(text: string): { host: string; port: number | string | null } {
  const bracketed = /^\[([^\]]*)\](?::(.+))?$/.exec(text);
  if (bracketed !== null) return { host: bracketed[1]!, port: readPort(text, bracketed[2]) };
  // An IPv6 address without brackets has no port behind it.
  if (parseAddress(text) !== null) return { host: text, port: null };
  const colon = text.lastIndexOf(':');
  if (colon < 0) return { host: text, port: null };
  return { host: text.slice(0, colon), port: readPort(text, text.slice(colon + 1)) };
}

function readPort(text: string, port: string | undefined): number | string | null {
  if (port === undefined) return null;
  if (/^\d+$/.test(port)) {
    const number = Number(port);
    if (number < 1 || number > 65_535) throw new UnresolvedReference(`'${text}': ${port} is not a port (1 to 65535)`);
    return number;
  }
  if (!/^[A-Za-z0-9-]+$/.test(port))
    throw new UnresolvedReference(`'${text}': '${port}' is not a port or a port's name`);
  return port;
}

function parseDnsName(text: string, host: string, port: number | string | null): Reference {
  const match = /^([^.]+)\.([^.]+)\.svc(?:\.cluster\.local)?\.?$/i.exec(host);
  if (match === null) {
    throw new UnresolvedReference(
      `'${text}' is not a reference: pod/NS/NAME, svc/NS/NAME, deploy/, sts/, ds/, node/NAME, an address, or name.ns.svc`,
    );
  }
  const [, name, namespace] = match;
  return {
    text,
    kind: 'svc',
    namespace: namespace!.toLowerCase(),
    name: name!.toLowerCase(),
    address: null,
    port,
  };
}

function isOwnedBy(pod: Pod, kind: string, name: string): boolean {
  for (const owner of pod.metadata.ownerReferences ?? []) {
    if (owner.kind === kind && owner.name === name) return true;
    // A Deployment owns its pods through a ReplicaSet named after it.
    if (kind === 'Deployment' && owner.kind === 'ReplicaSet' && isReplicaSetOf(owner.name, name)) return true;
  }
  return false;
}

function isReplicaSetOf(replicaSet: string, deployment: string): boolean {
  return replicaSet.startsWith(`${deployment}-`) && !replicaSet.slice(deployment.length + 1).includes('-');
}

function listPorts(ports: readonly ServicePort[]): string {
  if (ports.length === 0) return 'no port at all';
  return ports.map((port) => `${port.name === '' ? '' : `${port.name} = `}${port.port}/${port.protocol}`).join(', ');
}

/** What to say of a name that is not there: the nearest thing that is. */
function notFound(cluster: Cluster, reference: Reference): string {
  const { kind, namespace, name, text } = reference;
  const inNamespace =
    kind === 'svc'
      ? cluster.services.filter((service) => service.metadata.namespace === namespace)
      : cluster.pods.filter((pod) => pod.metadata.namespace === namespace);
  const names = inNamespace.map((object) => object.metadata.name);
  if (names.length === 0) return `'${text}': nothing of that kind in namespace '${namespace}'`;
  const near = names.filter((candidate) => candidate.startsWith(name.slice(0, 3)));
  const hint = (near.length > 0 ? near : names).slice(0, 5).join(', ');
  return `'${text}' does not exist; namespace '${namespace}' has ${hint}`;
}
