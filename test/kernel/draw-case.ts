/**
 * Random cases: a small cluster with every kind of Service, and flows that meet it from everywhere. A seed and a turn
 * always draw the same case. Of each case some flows are a tour of its first Service: every address of it, from clients
 * that take turns; the rest is drawn.
 */

import type { Mode } from '../../control/src/model/datapath.ts';
import { address } from '../conformance/matrix-world.ts';
import { familyOf, type World, type WorldFamily, type WorldService } from '../conformance/world.ts';
import type { Dress, Flow, FlowProtocol, KernelCase, Place } from './case.ts';
import { drawPolicies } from './draw-policies.ts';
import { drawHostSteps, drawSteps } from './draw-steps.ts';
import { drawWorld, FAMILIES, SECOND_ADDRESS } from './draw-world.ts';
import { modelOf } from './model.ts';
import { Random } from './random.ts';

const FLOWS = 64;
const UNSERVED_PORT = 99;

/** @param turn which of a run's cases it is: options and layouts take turns */
export function drawCase(seed: number, turn: number, mode: Mode): KernelCase {
  const random = new Random(seed);
  const world = drawWorld(random, turn);
  const drawer = new FlowDrawer(random, world, turn);
  const tour = FAMILIES.flatMap((family) => drawer.tourTargets(family));
  const flows = Array.from({ length: FLOWS }, (_, id) => drawer.draw(id, tour[id] ?? null));
  return { version: 2, mode, world, ...drawPolicies(random), tcpBeLiberal: turn % 4 === 1, flows };
}

interface Client {
  readonly place: Place;
  readonly source: string;
  readonly feature: string;
}

interface Target {
  readonly destination: string;
  readonly port: number;
  readonly protocol: FlowProtocol;
  readonly features: readonly string[];
}

class FlowDrawer {
  private readonly random: Random;
  private readonly world: World;
  private readonly turn: number;
  private readonly healthPorts: readonly number[];

  constructor(random: Random, world: World, turn: number) {
    this.random = random;
    this.world = world;
    this.turn = turn;
    const { cluster } = modelOf({ world, tcpBeLiberal: false, policies: [], profile: 'kubernetes' });
    this.healthPorts = cluster.services.map(({ spec }) => spec.healthCheckNodePort).filter((port) => port !== 0);
  }

  /** A flow to a target of the tour, or to one that is drawn. */
  draw(id: number, wanted: Target | null): Flow {
    const { random } = this;
    const target = wanted ?? this.target(random.pick(FAMILIES));
    const clients = this.clients(target);
    const client = wanted === null ? random.pick(clients) : clients[(id * 7 + this.turn) % clients.length]!;
    const isHost = client.place.kind === 'host';
    const protocol = isHost ? hostProtocol(target.protocol) : this.protocol(target.protocol);
    return {
      id,
      features: [...target.features, client.feature],
      family: familyOf(target.destination),
      protocol,
      from: client.place,
      source: client.source,
      destination: target.destination,
      // Low ports stay low when they are masqueraded.
      sport: (random.oneIn(10) ? random.pick([200, 600]) : 20_000) + id,
      dport: protocol === 'other' ? 253 : protocol === 'icmp' ? 0 : target.port,
      // A packet that dies here does not show the backend that affinity has remembered for it.
      ttl: random.oneIn(16) && !hasAffinity(target) ? random.pick([1, 2]) : 64,
      tos: random.oneIn(4) ? random.pick([0x10, 0xb8, 0x02]) : 0,
      label: random.oneIn(4) ? 0x12345 : 0,
      dress: isHost ? 'plain' : this.dress(protocol),
      steps: isHost ? drawHostSteps(random, hostProtocol(protocol)) : drawSteps(random, protocol),
    };
  }

  /** All targets that the first Service offers in a family. */
  tourTargets(family: WorldFamily): Target[] {
    const first = this.world.services[0]!;
    return first.ports.flatMap((_, port) => this.serviceTargets(first, port, family));
  }

  /** Mostly the target's own protocol. */
  private protocol(own: FlowProtocol): FlowProtocol {
    const { random } = this;
    return random.oneIn(24) ? random.pick<FlowProtocol>(['icmp', 'other', 'udp', 'tcp']) : own;
  }

  private dress(protocol: FlowProtocol): Dress {
    const { random } = this;
    if (random.oneIn(10)) return 'options';
    if (protocol !== 'udp' && protocol !== 'icmp') return 'plain';
    return random.oneIn(8) ? random.pick(['fragments', 'reordered fragments'] as const) : 'plain';
  }

  private target(family: WorldFamily): Target {
    const { random, world } = this;
    if (random.oneIn(4)) return this.plainTarget(family);
    const service = random.pick(world.services);
    const targets = this.serviceTargets(service, random.below(service.ports.length), family);
    return targets.length === 0 ? this.plainTarget(family) : random.pick(targets);
  }

  private serviceTargets(service: WorldService, index: number, family: WorldFamily): Target[] {
    const { port, nodePort, protocol } = service.ports[index]!;
    const features = serviceFeatures(service);
    const ofFamily = (texts: readonly string[]) => texts.filter((text) => familyOf(text) === family);
    const at = (destination: string, feature: string, number = port): Target => ({
      destination,
      port: number,
      protocol: protocol.toLowerCase() as FlowProtocol,
      features: [feature, ...features],
    });
    const targets = [
      ...ofFamily(service.clusterIPs).flatMap((ip) => [
        at(ip, 'ClusterIP'),
        at(ip, 'unserved port of a ClusterIP', UNSERVED_PORT),
      ]),
      ...ofFamily(service.externalIPs).map((ip) => at(ip, 'external IP')),
      ...service.ingress
        .filter(({ ip }) => familyOf(ip) === family)
        .map(({ ip, proxy }) => at(ip, proxy ? 'load balancer in proxy mode' : 'load balancer')),
    ];
    if (nodePort === 0) return targets;
    const own = ofFamily(this.world.nodes[0]!.addresses);
    return [
      ...targets,
      ...own.map((ip) => at(ip, ip === SECOND_ADDRESS ? 'nodePort on a second address' : 'nodePort', nodePort)),
      at(address(family, 'node', 2), 'nodePort of another node', nodePort),
      at(family === 4 ? '127.0.0.1' : '::1', 'nodePort on loopback', nodePort),
    ];
  }

  private plainTarget(family: WorldFamily): Target {
    const { random } = this;
    const protocol = random.pick<FlowProtocol>(['tcp', 'udp', 'sctp', 'icmp', 'other']);
    const own = address(family, 'node', 1);
    if (this.healthPorts.length > 0 && random.oneIn(4)) {
      const port = random.pick(this.healthPorts);
      return { destination: own, port, protocol: 'tcp', features: ['health check nodePort'] };
    }
    const [destination, feature] = random.pick<readonly [string, string]>([
      [address(family, 'pod1', 10), 'pod'],
      [address(family, 'pod1', 77), 'address of no pod'],
      [address(family, 'pod2', 10), 'remote pod'],
      [own, 'node'],
      [address(family, 'node', 2), 'other node'],
      [address(family, 'client', 5), 'outside address'],
      [address(family, 'cluster', 240), 'unallocated ClusterIP'],
    ]);
    return { destination, port: 7070, protocol, features: [feature] };
  }

  /** Who may speak to a target. */
  private clients(target: Target): Client[] {
    const family = familyOf(target.destination);
    const at = (place: Place, net: 'pod1' | 'pod2' | 'node' | 'client', host: number, feature: string): Client => ({
      place,
      source: address(family, net, host),
      feature,
    });
    const pod = (name: string, host: number, feature: string) => at({ kind: 'pod', pod: name }, 'pod1', host, feature);
    const outside: Place = { kind: 'outside' };
    const host: Place = { kind: 'host' };
    const far = at(outside, 'client', 5, 'outside client');
    if (isLoopback(target.destination)) {
      const own: Client = { place: host, source: target.destination, feature: 'local process on loopback' };
      return [own, own, own, far];
    }
    const own = at(host, 'node', 1, 'local process');
    return [
      own,
      pod('client-1', 2, 'pod client'),
      pod('self-1', 3, 'pod client'),
      pod('one-10', 10, 'pod that is an endpoint'),
      pod('one-11', 11, 'pod that is an endpoint'),
      at({ kind: 'stray' }, 'pod1', 200, 'unlisted pod'),
      at({ kind: 'peer' }, 'node', 2, 'other node as client'),
      at({ kind: 'peer' }, 'pod2', 10, 'remote pod as client'),
      far,
      at(outside, 'client', 99, 'outside client'),
      at(outside, 'pod1', 2, 'forged source'),
      own,
      // Nobody sees which backend a martian was to have, but affinity remembers it.
      hasAffinity(target) ? own : at(outside, 'node', 1, "node's own address from outside"),
    ];
  }
}

function hostProtocol(own: FlowProtocol): 'tcp' | 'udp' {
  return own === 'udp' ? 'udp' : 'tcp';
}

function isLoopback(text: string): boolean {
  return text === '127.0.0.1' || text === '::1';
}

function hasAffinity({ features }: Target): boolean {
  return features.includes('session affinity');
}

function serviceFeatures(service: WorldService): string[] {
  const endpoints = service.slices.flatMap((slice) => slice.endpoints);
  const isIn = (net: 'client' | 'node') => {
    const prefixes = FAMILIES.map((family) => address(family, net, 0).slice(0, -1));
    return endpoints.some((own) => prefixes.some((prefix) => own.address.startsWith(prefix)));
  };
  const features: readonly (readonly [string, boolean])[] = [
    [`type ${service.type}`, true],
    ['internalTrafficPolicy Local', service.internalLocal],
    ['externalTrafficPolicy Local', service.externalLocal],
    ['session affinity', service.affinity],
    ['load balancer source ranges', service.sourceRanges.length > 0],
    ['several ports', service.ports.length > 1],
    ['no endpoints', endpoints.length === 0],
    ['terminating endpoints', endpoints.some(({ terminating }) => terminating)],
    ['zone hints', endpoints.some(({ zones }) => zones.length > 0)],
    ['node hints', endpoints.some(({ nodes }) => nodes.length > 0)],
    ['endpoints outside the cluster', isIn('client')],
    ['host network endpoints', isIn('node')],
  ];
  return features.filter(([, has]) => has).map(([feature]) => feature);
}
