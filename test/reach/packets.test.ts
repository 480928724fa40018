/**
 * Every sampled cell of a reachability matrix is what its own packet says: pods, nodes, outside addresses and ports that
 * were tried once for many are tried one by one here, by the simulator, in every mode and profile. 100,000 cells in all.
 */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ClusterModel } from '../../control/src/compile/image.ts';
import type { Family } from '../../control/src/model/address.ts';
import { BUILT_MODES, type DatapathInput, type Mode } from '../../control/src/model/datapath.ts';
import type { Source, Target } from '../../control/src/probe/connection.ts';
import type { Protocol } from '../../control/src/probe/reference.ts';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { summarizeBranches } from '../../control/src/probe/suite.ts';
import type { Frontend } from '../../control/src/reach/frontends.ts';
import { Reachability } from '../../control/src/reach/reachability.ts';
import { seeds } from '../conformance/random-world.ts';
import { Random } from '../kernel/random.ts';
import { modelOf } from '../policy/compare.ts';
import { allObjects, randomPolicyCluster } from '../policy/random-policies.ts';

const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP', 'ICMP'];
const PROFILES = ['kubernetes', 'cilium', 'calico'] as const;
/** Cells of a cluster, and clusters of a mode, profile and seed: 2 seeds × 4 modes × 3 profiles × 21 × 200 cells. */
const CELLS = 200;
const CLUSTERS = Number(process.env['FLATPATH_RUNS'] ?? 21);

const datapath: fc.Arbitrary<DatapathInput> = fc.record({
  kubeProxy: fc.record({ masqueradeAll: fc.constantFrom(false, false, true) }),
  ebpf: fc.record({
    socketLB: fc.boolean(),
    loadBalancerMode: fc.constantFrom('snat' as const, 'dsr' as const),
    algorithm: fc.constantFrom('random' as const, 'maglev' as const),
  }),
});

describe.each(BUILT_MODES)('%s', (mode) => {
  describe.each(PROFILES)('profile %s', (profile) => {
    it.each(seeds)('a cell is what its own packet says, seed %i', (seed) => {
      fc.assert(
        fc.property(randomPolicyCluster, datapath, fc.noShrink(fc.integer()), (drawn, input, draws) => {
          const model = modelOf(allObjects(drawn), { ...input, policy: { profile } });
          expect(differences(model, mode, new Random(draws))).toEqual([]);
        }),
        { seed, numRuns: CLUSTERS },
      );
    });
  });
});

/** Sampled cells that differ from their own packets. */
function differences(model: ClusterModel, mode: Mode, random: Random): string[] {
  const reach = new Reachability(model, mode);
  const simulator = new Simulator(model, mode);
  const frontends = reach.peers.flatMap((peer) => peer.frontends);
  const found: string[] = [];
  for (let i = 0; i < CELLS; i++) {
    const cell =
      frontends.length > 0 && random.oneIn(3)
        ? serviceCell(reach, random, random.pick(frontends))
        : pairCell(reach, random);
    if (cell === null) continue;
    const { source, target, protocol, said } = cell;
    const { family } = source.address;
    const branches = simulator.probe({ family, protocol, sources: [source], targets: [target] }, false);
    const { verdict, reason, translated, backends, masquerade } = summarizeBranches(branches);
    const own = cell.isService ? [verdict, reason, translated, backends.join(), masquerade] : [verdict, reason];
    if (own.join(' ') === said) continue;
    found.push(
      `${source.address.text} at node ${source.node} → ${target.address.text}:${target.port} ${protocol}: said ${said}, is ${own.join(' ')}`,
    );
  }
  return found.slice(0, 5);
}

interface SampledCell {
  readonly source: Source;
  readonly target: Target;
  readonly protocol: Protocol;
  readonly isService: boolean;
  readonly said: string;
}

function pairCell({ parties, pairs, rules }: Reachability, random: Random): SampledCell | null {
  const from = random.below(parties.count);
  const to = random.below(parties.count);
  const family: Family = random.oneIn(2) ? 4 : 6;
  const address = parties.addressOf(to, family);
  if (from === to || parties.addressOf(from, family) === null || address === null) return null;
  if (parties.kindOf(from) === 'outside' && parties.kindOf(to) === 'outside') return null;
  const key = pairs.keyOf(from, to, family);
  pairs.evaluate();
  const list = pairs.listOf(key).entries;
  const protocol = random.pick(PROTOCOLS);
  // Beginnings and ends of what rules name are where mistakes are.
  const cuts = rules.signatures.flatMap(({ cuts }) => (protocol === 'ICMP' ? [] : (cuts.get(protocol) ?? [])));
  const near = cuts.length > 0 && !random.oneIn(3) ? random.pick(cuts) - random.below(2) : random.between(1, 65_535);
  const port = protocol === 'ICMP' ? 0 : Math.max(1, near);
  const entry = list.find((own) => own.protocol === protocol && own.first <= port && port <= own.last);
  const isServed = parties.kindOf(to) === 'node' && pairs.isServed(protocol, port);
  if (entry === undefined || isServed) return null;
  const { verdict, reason } = entry.answer;
  const source = pairs.sourceOf(from, family, parties.nodeOf(to));
  return { source, target: { address, port }, protocol, isService: false, said: `${verdict} ${reason}` };
}

function serviceCell(
  { parties, pairs, services }: Reachability,
  random: Random,
  frontend: Frontend,
): SampledCell | null {
  const { family, protocol } = frontend.info;
  const from = random.below(parties.count);
  if (parties.addressOf(from, family) === null) return null;
  const isOutside = parties.kindOf(from) === 'outside';
  if (isOutside === (frontend.kind === 'ClusterIP')) return null;
  const node = isOutside ? random.below(parties.nodes) : parties.nodeOf(from);
  const address = frontend.address ?? parties.addressOf(parties.pods + node, family);
  if (address === null) return null;
  const key = services.keyOf(from, frontend, node);
  pairs.evaluate();
  services.evaluate();
  const { verdict, reason, translated, backends, masquerade } = services.answerOf(key).answer;
  const said = [verdict, reason, translated, backends.join(), masquerade].join(' ');
  const source = pairs.sourceOf(from, family, node);
  return { source, target: { address, port: frontend.port }, protocol, isService: true, said };
}
