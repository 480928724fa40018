/**
 * Topology hints of computed endpoints, as the EndpointSlice controller sets them.
 *
 * 1. Annotation topology-mode Auto (or the older topology-aware-hints): endpoints are shared out to zones by the CPU of
 *    their nodes; no hints at all where a zone would be overloaded by more than 20 %, where there are fewer endpoints
 *    than zones, or where a node or endpoint has no zone. The annotation beats trafficDistribution.
 * 2. trafficDistribution PreferSameZone (or PreferClose, its old name): every ready endpoint is for its own zone.
 * 3. PreferSameNode: every ready endpoint is for its own node, and for its own zone.
 */

import type { Endpoint, EndpointSlice } from '../model/endpoint-slice.ts';
import { isReady } from '../model/endpoint-slice.ts';
import { type Node, zoneOf } from '../model/node.ts';
import type { Service } from '../model/service.ts';

const OVERLOAD = 0.2;
const CONTROL_PLANE_LABELS = ['node-role.kubernetes.io/control-plane', 'node-role.kubernetes.io/master'];

/** Sets the hints of a Service's slices of one family, in place. */
export function addHints(service: Service, slices: readonly EndpointSlice[], nodes: readonly Node[]): void {
  const ready = slices.flatMap((slice) => slice.endpoints.filter(isReady));
  if (isAuto(service)) {
    shareByCpu(ready, nodes);
    return;
  }
  const preference = service.spec.trafficDistribution;
  if (preference === undefined) return;
  for (const endpoint of ready) {
    const hints: NonNullable<Endpoint['hints']> = {};
    if (endpoint.zone !== undefined) hints.forZones = [{ name: endpoint.zone }];
    if (preference === 'PreferSameNode' && endpoint.nodeName !== undefined) {
      hints.forNodes = [{ name: endpoint.nodeName }];
    }
    if (hints.forZones !== undefined || hints.forNodes !== undefined) endpoint.hints = hints;
  }
}

function isAuto({ metadata }: Service): boolean {
  const annotations = metadata.annotations ?? {};
  const mode =
    annotations['service.kubernetes.io/topology-aware-hints'] ?? annotations['service.kubernetes.io/topology-mode'];
  return mode === 'Auto' || mode === 'auto';
}

function shareByCpu(endpoints: readonly Endpoint[], nodes: readonly Node[]): void {
  const desired = allocate(endpoints.length, nodes);
  if (desired === null || endpoints.some(({ zone }) => zone === undefined || zone === '')) return;
  const counts = new Map<string, number>();
  for (const endpoint of endpoints) {
    const zone = endpoint.zone!;
    endpoint.hints = { forZones: [{ name: zone }] };
    counts.set(zone, (counts.get(zone) ?? 0) + 1);
  }
  const { giving, receiving } = findMoves(desired, counts);
  for (const endpoint of endpoints) {
    const give = giving.get(endpoint.zone!) ?? 0;
    if (give === 0) continue;
    for (const [zone, wanted] of receiving) {
      if (wanted === 0) continue;
      endpoint.hints = { forZones: [{ name: zone }] };
      giving.set(endpoint.zone!, give - 1);
      receiving.set(zone, wanted - 1);
      break;
    }
  }
}

/** Endpoints that each zone should have, or null where hints would overload a zone or too little is known. */
function allocate(endpoints: number, nodes: readonly Node[]): Map<string, number> | null {
  const shares = cpuShares(nodes);
  if (shares === null || shares.size < 2 || shares.size > endpoints) return null;
  const desired = new Map<string, number>();
  let left = endpoints;
  for (const [zone, share] of shares) {
    const exact = share * endpoints;
    const least = Math.ceil(exact / (1 + OVERLOAD));
    desired.set(zone, Math.max(exact, least));
    left -= least;
  }
  return left < 0 ? null : desired;
}

/** Share of the CPU of ready worker nodes by zone; nodes count alike where none says how much CPU it has. */
function cpuShares(nodes: readonly Node[]): Map<string, number> | null {
  const workers = nodes.filter(
    (node) =>
      isNodeReady(node) && !CONTROL_PLANE_LABELS.some((label) => Object.hasOwn(node.metadata.labels ?? {}, label)),
  );
  const isUnknown = workers.every((node) => node.status.allocatable?.cpu === undefined);
  const shares = new Map<string, number>();
  let total = 0;
  for (const node of workers) {
    const zone = zoneOf(node);
    const cpu = isUnknown ? 1 : readCpu(node.status.allocatable?.cpu);
    if (zone === '' || !(cpu > 0)) return null;
    shares.set(zone, (shares.get(zone) ?? 0) + cpu);
    total += cpu;
  }
  if (total === 0) return null;
  for (const [zone, cpu] of shares) shares.set(zone, cpu / total);
  return shares;
}

function isNodeReady(node: Node): boolean {
  const ready = node.status.conditions?.find(({ type }) => type === 'Ready');
  return ready === undefined || ready.status === 'True';
}

/** Cores of '3920m', '4' or 4; NaN for what is no quantity of CPU. */
function readCpu(quantity: number | string | undefined): number {
  if (typeof quantity === 'number') return quantity;
  const match = /^(\d+(?:\.\d+)?)(m?)$/.exec(quantity ?? '');
  if (match === null) return Number.NaN;
  return Number(match[1]) / (match[2] === 'm' ? 1000 : 1);
}

/** Whole endpoints that zones give and receive, the zone with most first. */
function findMoves(
  desired: ReadonlyMap<string, number>,
  counts: ReadonlyMap<string, number>,
): { giving: Map<string, number>; receiving: Map<string, number> } {
  const surplus = new Map<string, number>();
  const deficit = new Map<string, number>();
  for (const [zone, target] of desired) {
    const count = counts.get(zone) ?? 0;
    if (count > target) surplus.set(zone, count - target);
    else if (count < target) deficit.set(zone, target - count);
  }
  const giving = new Map<string, number>();
  const receiving = new Map<string, number>();
  for (;;) {
    const [from, give] = most(surplus);
    const [to, take] = most(deficit);
    if (from === '' || to === '' || (give < 1 && take < 1) || give < 0.5 || take < 0.5) break;
    giving.set(from, (giving.get(from) ?? 0) + 1);
    receiving.set(to, (receiving.get(to) ?? 0) + 1);
    surplus.set(from, give - 1);
    deficit.set(to, take - 1);
  }
  return { giving, receiving };
}

function most(zones: ReadonlyMap<string, number>): [string, number] {
  let name = '';
  let value = 0;
  for (const [zone, number] of zones) {
    if (number > value) {
      name = zone;
      value = number;
    }
  }
  return [name, value];
}
