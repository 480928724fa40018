/**
 * What both oracles share: the question, the answer, who owns an address, and which endpoints a node uses.
 *
 * Written from the published behaviour alone (FACTS §1.2 and §5), slow and plain on purpose: addresses are BigInts,
 * every lookup is a scan, nothing is shared with what is tested.
 */

import {
  familyOf,
  type World,
  type WorldEndpoint,
  type WorldFamily,
  type WorldPort,
  type WorldProtocol,
  type WorldService,
} from './world.ts';

/** A packet at a node. */
export interface Packet {
  readonly node: string;
  readonly entry: 'pod' | 'host' | 'uplink';
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  readonly protocol: WorldProtocol;
}

/** One way that a packet may go. */
export interface Outcome {
  readonly verdict: 'delivered' | 'forwarded' | 'dropped' | 'rejected';
  /** `ip:port` after translation, null without. */
  readonly backend: string | null;
  readonly masquerade: boolean;
}

export interface Answer {
  readonly verdict: string;
  readonly translated: boolean;
  readonly backends: readonly string[];
  readonly masquerade: boolean;
}

const SEVERITY = ['dropped', 'rejected', 'forwarded', 'delivered'];

/** All outcomes together, as DESIGN §7 sums them up. */
export function summarize(outcomes: readonly Outcome[]): Answer {
  const verdicts = outcomes.map(({ verdict }) => verdict as string);
  return {
    verdict: SEVERITY.find((verdict) => verdicts.includes(verdict)) ?? 'none',
    translated: outcomes.some(({ backend }) => backend !== null),
    backends: [...new Set(outcomes.flatMap(({ backend }) => (backend === null ? [] : [backend])))].sort(),
    masquerade: outcomes.some(({ masquerade }) => masquerade),
  };
}

// ---- addresses ---------------------------------------------------------------------------------------------------

function toNumber(address: string): bigint {
  if (familyOf(address) === 4) return address.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const [head = '', tail = ''] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === '' ? [] : tail.split(':');
  const middle = address.includes('::') ? new Array<string>(8 - left.length - right.length).fill('0') : [];
  return [...left, ...middle, ...right].reduce((sum, part) => sum * 65536n + BigInt(`0x${part}`), 0n);
}

export function isInside(address: string, prefix: string): boolean {
  const [base = '', length = ''] = prefix.trim().split('/');
  if (familyOf(address) !== familyOf(base)) return false;
  const shift = BigInt((familyOf(base) === 4 ? 32 : 128) - Number(length));
  return toNumber(address) >> shift === toNumber(base) >> shift;
}

export function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1';
}

/** `ip:port`, `[v6]:port`. */
export function endText(address: string, port: number): string {
  return familyOf(address) === 4 ? `${address}:${port}` : `[${address}]:${port}`;
}

/** The first address of a node in a family. */
export function nodeAddress(world: World, node: string, family: WorldFamily): string {
  return world.nodes.find(({ name }) => name === node)!.addresses.find((address) => familyOf(address) === family)!;
}

export function nodeOwning(world: World, address: string): string | null {
  return world.nodes.find(({ addresses }) => addresses.includes(address))?.name ?? null;
}

export type Place =
  | { readonly kind: 'pod'; readonly node: string }
  | { readonly kind: 'node'; readonly node: string }
  | { readonly kind: 'pod-cidr'; readonly node: string }
  | { readonly kind: 'outside' };

/** Where an address lies. */
export function placeOf(world: World, address: string): Place {
  const node = nodeOwning(world, address);
  if (node !== null) return { kind: 'node', node };
  const pod = world.pods.find((own) => !own.hostNetwork && own.addresses.includes(address));
  if (pod !== undefined) return { kind: 'pod', node: pod.node };
  if (isServiceAddress(world, address)) return { kind: 'outside' };
  const cidr = world.nodes.find(({ podCIDRs }) => podCIDRs.some((prefix) => isInside(address, prefix)));
  return cidr === undefined ? { kind: 'outside' } : { kind: 'pod-cidr', node: cidr.name };
}

function isServiceAddress(world: World, address: string): boolean {
  return world.services.some(
    (own) =>
      own.clusterIPs.includes(address) ||
      own.externalIPs.includes(address) ||
      own.ingress.some(({ ip }) => ip === address),
  );
}

// ---- frontends ---------------------------------------------------------------------------------------------------

export interface Frontend {
  readonly service: WorldService;
  readonly port: WorldPort;
  readonly kind: 'clusterIP' | 'externalIP' | 'loadBalancer' | 'nodePort';
}

/** The frontend at an exact address; nodePorts are the oracles' own business. */
export function findVip(world: World, packet: Packet): Frontend | null {
  for (const service of world.services) {
    if (!service.clusterIPs.some((ip) => familyOf(ip) === familyOf(packet.destination))) continue;
    const port = service.ports.find((own) => own.port === packet.port && own.protocol === packet.protocol);
    if (port === undefined) continue;
    if (service.clusterIPs.includes(packet.destination)) return { service, port, kind: 'clusterIP' };
    if (service.externalIPs.includes(packet.destination)) return { service, port, kind: 'externalIP' };
    if (service.ingress.some(({ ip, proxy }) => ip === packet.destination && !proxy)) {
      return { service, port, kind: 'loadBalancer' };
    }
  }
  return null;
}

export function findNodePort(world: World, packet: Packet): Frontend | null {
  const family = familyOf(packet.destination);
  for (const service of world.services) {
    if (!service.clusterIPs.some((ip) => familyOf(ip) === family)) continue;
    const port = service.ports.find((own) => own.nodePort === packet.port && own.protocol === packet.protocol);
    if (port !== undefined && port.nodePort !== 0) return { service, port, kind: 'nodePort' };
  }
  return null;
}

export function isPolicyLocal({ service, kind }: Frontend): boolean {
  if (kind === 'clusterIP') return service.internalLocal;
  const external = service.type !== 'ClusterIP' || service.externalIPs.length > 0;
  return external && service.externalLocal;
}

/** Source ranges of a family; where none is of that family none apply. */
export function rangesOf(service: WorldService, family: WorldFamily): string[] {
  return service.sourceRanges.filter((range) => familyOf(range.trim()) === family);
}

// ---- endpoints ---------------------------------------------------------------------------------------------------

export interface Backend extends WorldEndpoint {
  readonly port: number;
}

/** Every endpoint of a frontend's port in a family, whatever its state. */
export function allBackends({ service, port }: Frontend, family: WorldFamily): Backend[] {
  const found: Backend[] = [];
  for (const slice of service.slices) {
    if (slice.family !== family) continue;
    for (const own of slice.ports) {
      if (own.name !== port.name || own.protocol !== port.protocol || own.port === null) continue;
      for (const from of slice.endpoints) found.push({ ...from, port: own.port });
    }
  }
  return found;
}

const isReady = (from: Backend): boolean => from.ready !== false;
const isDraining = (from: Backend): boolean => !isReady(from) && from.serving !== false && from.terminating;

/** Ready ones, else those that serve while they terminate. */
function usable(from: readonly Backend[]): Backend[] {
  const ready = from.filter(isReady);
  return ready.length > 0 ? ready : from.filter(isDraining);
}

/** Endpoints of traffic policy Cluster as a node sees them, hints followed. */
export function clusterBackends(world: World, frontend: Frontend, family: WorldFamily, node: string): Backend[] {
  const all = allBackends(frontend, family);
  const ready = all.filter(isReady);
  const zone = world.nodes.find(({ name }) => name === node)!.zone;
  if (ready.length > 0 && ready.every(({ nodes }) => nodes.length > 0)) {
    const mine = ready.filter(({ nodes }) => nodes.includes(node));
    if (mine.length > 0) return mine;
  }
  if (ready.length > 0 && ready.every(({ zones }) => zones.length > 0)) {
    const mine = ready.filter(({ zones }) => zones.includes(zone));
    if (mine.length > 0) return mine;
  }
  return usable(all);
}

export function localBackends(frontend: Frontend, family: WorldFamily, node: string): Backend[] {
  return usable(allBackends(frontend, family).filter((from) => from.node === node));
}

/** Some node of the cluster can use one of them. */
export function hasAnyBackend(frontend: Frontend, family: WorldFamily): boolean {
  return usable(allBackends(frontend, family)).length > 0;
}
