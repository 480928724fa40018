/** The simulator: every branch once, each from a fresh client, whatever was asked before. */

import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { resolveConnection } from '../../control/src/probe/connection.ts';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { traceConnection } from '../../control/src/probe/trace-report.ts';
import { address, reachableService, worldOf } from '../conformance/matrix-world.ts';
import { modelOf } from '../conformance/run-world.ts';
import { endpoint } from '../conformance/world.ts';

const HOSTS = Array.from({ length: 40 }, (_, i) => 20 + i);
const WORLD = worldOf([
  reachableService(1, 'TCP', (family) => HOSTS.map((host) => endpoint(address(family, 'pod2', host), 'node-2')), {
    affinity: true,
  }),
]);

describe.each(BUILT_MODES)('%s', (mode) => {
  it('meets every endpoint exactly once, again and again', () => {
    const model = modelOf(WORLD);
    const simulator = new Simulator(model, mode);
    const wanted = HOSTS.map((host) => `${address(4, 'pod2', host)}:8080`).sort();
    for (let round = 0; round < 3; round++) {
      for (const from of [address(4, 'pod1', 2), address(4, 'node', 1)]) {
        const to = `${address(4, 'cluster', 1)}:80`;
        const branches = simulator.probe(resolveConnection(model, { from, to }), false);
        expect(branches.map(({ backend }) => backend).sort()).toEqual(wanted);
      }
    }
  });

  it('answers the same with the recorder on', () => {
    const model = modelOf(WORLD);
    const connection = resolveConnection(model, {
      from: address(6, 'client', 5),
      to: `[${address(6, 'node', 1)}]:30001`,
    });
    const silent = new Simulator(model, mode).probe(connection, false);
    const { branches, stories } = traceConnection(model, mode, connection);
    const outcome = ({ verdict, reason, backend, masquerade, node }: (typeof silent)[number]): object => ({
      verdict,
      reason,
      backend,
      masquerade,
      node,
    });
    expect(branches.map(outcome)).toEqual(silent.map(outcome));
    for (const { hops } of stories) {
      expect(hops.map(({ node }) => node)).toEqual(['node-1', 'node-2']);
      expect(hops.at(-1)!.steps.at(-1)).toMatchObject({ step: 'verdict', verdict: 'forwarded' });
    }
  });
});
