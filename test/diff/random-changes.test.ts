/**
 * Random changes of random clusters: every change that is listed shows when its packets run alone on both sides, and of
 * what is not listed a sample runs alone too and does not differ.
 */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readInput } from '../../control/src/cluster/load.ts';
import { InputError } from '../../control/src/cluster/problem.ts';
import { type Change, Comparison } from '../../control/src/diff/changes.ts';
import { endsOf } from '../../control/src/diff/decision.ts';
import { isEntrance } from '../../control/src/diff/service-entrances.ts';
import { SideView } from '../../control/src/diff/side-view.ts';
import { completeSides, type SideInput, type Sides } from '../../control/src/diff/sides.ts';
import type { Member } from '../../control/src/diff/subjects.ts';
import { parseAddress } from '../../control/src/model/address.ts';
import { BUILT_MODES, type Mode } from '../../control/src/model/datapath.ts';
import type { Protocol } from '../../control/src/probe/reference.ts';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { CLUSTER_CIDR } from '../policy/compare.ts';
import type { KubeObject } from '../policy/random-cluster.ts';
import { allObjects, randomPolicyCluster } from '../policy/random-policies.ts';

const CLUSTERS_PER_MODE = 4;
const CHECKED = 60;
const PORTS = [53, 79, 80, 81, 8080, 9090, 30_500, 65_535];

/** A repeatable source of numbers below a bound. */
type Draw = (bound: number) => number;

function drawFrom(seed: number): Draw {
  let state = seed | 1;
  return (bound) => {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d);
    state = Math.imul(state ^ (state >>> 12), 0x297a2d39) ^ (state >>> 15);
    return (state >>> 0) % bound;
  };
}

/** The same objects with some things changed; policies may be another draw's. */
function change(objects: readonly KubeObject[], others: readonly KubeObject[], draw: Draw): KubeObject[] {
  const changed = objects.map((object) => structuredClone(object) as KubeObject & { spec?: Record<string, unknown> });
  const edits = 2 + draw(6);
  for (let edit = 0; edit < edits && changed.length > 4; edit++) {
    // Half of the edits are to policies and Services.
    const telling = changed.filter(({ kind }) => /Policy$|^Service$/.test(kind));
    const aimed = draw(2) === 0 && telling.length > 0 ? telling[draw(telling.length)]! : changed[draw(changed.length)]!;
    const at = changed.indexOf(aimed);
    const object = changed[at]!;
    const metadata = object.metadata as { labels?: Record<string, string> };
    switch (draw(5)) {
      case 0:
        if (object.kind !== 'Node') changed.splice(at, 1);
        break;
      case 1:
        if (object.kind === 'Pod' || object.kind === 'Namespace')
          metadata.labels = { app: 'web', env: 'dev', tier: 'back' };
        break;
      case 2:
        if (object.kind === 'Service')
          Object.assign(object.spec!, { selector: { app: 'db' }, internalTrafficPolicy: 'Local' });
        break;
      case 3:
        if (object.spec?.['podSelector'] !== undefined) object.spec['podSelector'] = {};
        break;
      default:
        changed.push(...others.slice(draw(others.length + 1)).slice(0, 2));
    }
  }
  return changed;
}

function sideOf(objects: readonly KubeObject[]): SideInput {
  const { store, errors, warnings } = readInput([], { objects: [...objects] });
  if (errors.length > 0) throw new InputError(errors);
  return { store, datapath: { kubeProxy: { clusterCIDR: CLUSTER_CIDR } }, isDump: false, warnings };
}

/** One side, packet by packet. */
class Side {
  readonly view: SideView;
  private readonly simulator: Simulator;

  constructor(view: SideView) {
    this.view = view;
    this.simulator = new Simulator(view.model, view.mode);
  }

  /** What becomes of a packet on all ways, in names. */
  run(
    source: ReturnType<typeof endsOf>['source'],
    target: ReturnType<typeof endsOf>['target'],
    protocol: Protocol,
  ): string {
    const { topology } = this.view.model;
    const family = target.address.family;
    const branches = this.simulator.probe({ family, protocol, sources: [source], targets: [target] }, false);
    const lines = branches.map(({ verdict, reason, masquerade, backend }) => {
      if (backend === null) return `${verdict} ${reason} ${masquerade}`;
      const text = backend.slice(0, backend.lastIndexOf(':')).replace(/[[\]]/g, '');
      const address = parseAddress(text)!.text;
      const node = topology.nodeByAddress.get(address);
      const pod = topology.endpoints[topology.endpointByAddress.get(address) ?? -1]?.pod.metadata;
      const name =
        node !== undefined
          ? topology.nodes[node]!.metadata.name
          : pod === undefined
            ? address
            : `${pod.namespace}/${pod.name}`;
      return `${verdict} ${reason} ${masquerade} ${name}${backend.slice(backend.lastIndexOf(':'))}`;
    });
    return [...new Set(lines)].sort().join(' | ');
  }
}

/** Checks a comparison; answers what it looked at. */
function check(sides: Sides, mode: Mode, draw: Draw): { listed: number; unlisted: number } {
  const before = new Side(new SideView(sides.before, mode));
  const after = new Side(new SideView(sides.after, mode));
  const comparison = new Comparison(before.view, after.view);
  const changes = comparison.run();
  const runBoth = (example: Change, port: number, protocol: Protocol): [string, string] => {
    const was = endsOf(before.view, 'before', example, port);
    const is = endsOf(after.view, 'after', example, port);
    return [before.run(was.source, was.target, protocol), after.run(is.source, is.target, protocol)];
  };
  let listed = 0;
  for (const found of pick(changes, CHECKED, draw)) {
    for (const { protocol, first, last, before: was, after: is } of found.ports) {
      for (const port of [first, last]) {
        if (was === null || is === null || isServed(comparison, found, protocol, port)) continue;
        const [one, other] = runBoth(found, port, protocol);
        expect(one, describeChange(found, protocol, port)).not.toBe(other);
        expect(one.startsWith('delivered') || one.startsWith('forwarded') || was.works !== 'yes').toBe(true);
        listed++;
      }
    }
  }
  let unlisted = 0;
  const { subjects, entrances } = comparison;
  for (let tries = 0; tries < CHECKED * 4 && unlisted < CHECKED; tries++) {
    const source = subjects[draw(subjects.length)]!;
    const target =
      draw(2) === 0 ? subjects[draw(subjects.length)]! : (entrances[draw(entrances.length)] ?? subjects[0]!);
    const family = draw(2) === 0 ? 4 : 6;
    const from = source.members[draw(source.members.length)]!;
    const to = isEntrance(target) ? null : target.members[draw(target.members.length)]!;
    if (from === to || !isThere(from) || (to !== null && !isThere(to))) continue;
    if (source.kind === 'outside' && (!isEntrance(target) ? target.kind === 'outside' : target.kind === 'ClusterIP'))
      continue;
    const entry = isEntrance(target) && source.kind === 'outside' ? pickNode(comparison, draw) : null;
    const example: Change = {
      source,
      target,
      ports: [],
      families: [family],
      pairs: 1,
      of: 1,
      example: { source: from, target: to, family, entry },
    };
    if (isEntrance(target) && (source.kind === 'outside') === (target.kind === 'ClusterIP')) continue;
    if (!hasAddresses(comparison, example)) continue;
    const protocol = isEntrance(target) ? target.protocol : (['TCP', 'UDP', 'SCTP', 'ICMP'] as const)[draw(4)]!;
    const port = isEntrance(target) ? target.port : protocol === 'ICMP' ? 0 : PORTS[draw(PORTS.length)]!;
    if (isServed(comparison, example, protocol, port)) continue;
    // Where only some pairs of two subjects change the list does not tell which.
    const known = changes.filter(
      (found) => found.source === source && found.target === target && found.families.includes(family),
    );
    const told = known.filter(({ ports }) =>
      ports.some((own) => own.protocol === protocol && own.first <= port && port <= own.last),
    );
    if (told.some(({ pairs, of }) => pairs < of)) continue;
    const [one, other] = runBoth(example, port, protocol);
    const text = describeChange(example, protocol, port);
    if (told.length === 0) expect(one, text).toBe(other);
    else expect(one, text).not.toBe(other);
    unlisted++;
  }
  return { listed, unlisted };
}

function isThere({ before, after }: Member): boolean {
  return before >= 0 && after >= 0;
}

function pickNode({ subjects }: Comparison, draw: Draw): Member {
  const { members } = subjects.find(({ kind }) => kind === 'nodes')!;
  return members[draw(members.length)]!;
}

/** Both ends have an address of the family on both sides. */
function hasAddresses({ before, after }: Comparison, { example, target }: Change): boolean {
  const { source, target: to, family, entry } = example;
  if (isEntrance(target)) {
    const own = target.families.find((candidate) => candidate.family === family);
    if (own === undefined || own.before === null || own.after === null) return false;
  }
  const sides = [
    [before.parties, source.before, to?.before, entry?.before],
    [after.parties, source.after, to?.after, entry?.after],
  ] as const;
  return sides.every(([parties, ...ends]) =>
    ends.every((end) => end === undefined || parties.addressOf(end, family) !== null),
  );
}

/** A port of a node, or of an address, that belongs to a Service: compared as that Service's. */
function isServed({ entrances }: Comparison, { target }: Change, protocol: Protocol, port: number): boolean {
  if (isEntrance(target) || target.kind !== 'nodes') return false;
  return entrances.some((own) => own.kind !== 'ClusterIP' && own.protocol === protocol && own.port === port);
}

function describeChange({ source, target, example }: Change, protocol: Protocol, port: number): string {
  return `${source.id} (${example.source.name}) > ${target.id} (${example.target?.name}) ${protocol} ${port} IPv${example.family}`;
}

function pick<T>(items: readonly T[], most: number, draw: Draw): T[] {
  if (items.length <= most) return [...items];
  return Array.from({ length: most }, () => items[draw(items.length)]!);
}

const seed = Number(process.env['FLATPATH_SEED'] ?? Date.now() % 1_000_000);

describe.each(BUILT_MODES)(`changes of random clusters, seed ${seed}, mode %s`, (mode) => {
  it('lists what differs and nothing else', { timeout: 120_000 }, () => {
    const drawn = fc.sample(randomPolicyCluster, { seed, numRuns: CLUSTERS_PER_MODE });
    const draw = drawFrom(seed);
    const seen = { listed: 0, unlisted: 0 };
    drawn.forEach((cluster, i) => {
      const others = drawn[(i + 1) % drawn.length]!.policies;
      const objects = allObjects(cluster);
      let sides: Sides;
      try {
        sides = completeSides(sideOf(objects), sideOf(change(objects, others, draw)), []);
      } catch (error) {
        // Two draws of policies may not go together (a second baseline).
        if (error instanceof InputError) return;
        throw error;
      }
      const checked = check(sides, mode, draw);
      seen.listed += checked.listed;
      seen.unlisted += checked.unlisted;
    });
    expect(seen.unlisted, `seed ${seed}`).toBeGreaterThan(100);
    expect(seen.listed, `seed ${seed}`).toBeGreaterThan(0);
  });
});
