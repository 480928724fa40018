/**
 * What `render` prints of a node in ipvs mode (virtual servers, sets, rules of both families), read back as dumps of a
 * real node, compiles to the same image: by structural hash, for random clusters.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Cluster } from '../../control/src/cluster/cluster.ts';
import { compileImage, modelCluster } from '../../control/src/compile/image.ts';
import type { CompiledIpvs } from '../../control/src/compile/ipvs.ts';
import { renderIpset, renderIpvsadm, renderIpvsIptables } from '../../control/src/compile/ipvs-render.ts';
import { type DatapathConfig, resolveDatapath } from '../../control/src/model/datapath.ts';
import { describeIpvsStructure, ipvsStructuralHash } from '../../control/src/ruleset/ipvs-structure.ts';
import { loadRuleset } from '../../control/src/ruleset/ruleset.ts';
import { randomCluster, seeded } from '../compile/random-cluster.ts';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flatpath-ipvs-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const NODE = 1;

function compileKubeProxy(cluster: Cluster, config: DatapathConfig): CompiledIpvs {
  return compileImage(modelCluster(cluster, config), 'ipvs', ['node-2']).servers!;
}

/** Prints the node, reads what was printed, compiles it. */
function compileDumps(cluster: Cluster, config: DatapathConfig, change: (text: string) => string): CompiledIpvs {
  const texts = [
    renderIpvsIptables(cluster, config, 'node-2', 4),
    renderIpvsIptables(cluster, config, 'node-2', 6),
    renderIpset(cluster, config, 'node-2'),
    renderIpvsadm(cluster, config, 'node-2'),
  ];
  const files = texts.flatMap((text, i) => {
    // A node without virtual servers has nothing to print.
    if (text === '') return [];
    const path = join(folder, `${i}`);
    writeFileSync(path, change(text));
    return [path];
  });
  const { bridgeInterface, interfaceNamePrefix } = config.kubeProxy;
  const place = { kind: 'cluster' as const, podInterfaces: [bridgeInterface, `${interfaceNamePrefix}+`] };
  const { ruleset } = loadRuleset(files, { node: NODE, place, interfaces: null }, false);
  return compileImage(modelCluster(cluster, config, ruleset), 'ipvs', ['node-2']).servers!;
}

const config = fc
  .record({
    detectLocalMode: fc.constantFrom('ClusterCIDR' as const, 'NodeCIDR' as const, 'None' as const),
    masqueradeAll: fc.boolean(),
    ipvsScheduler: fc.constantFrom('rr', 'wlc', 'mh', 'sh'),
  })
  // What the CNI masquerades is no part of what kube-proxy prints.
  .map((kubeProxy) => resolveDatapath({ kubeProxy, pods: { masqueradeOutbound: false } }));

describe('structure of a node in ipvs mode', () => {
  it('is that of the dumps that were printed', () => {
    fc.assert(
      fc.property(
        randomCluster.filter(({ services }) => services.some(({ spec }) => spec.ports.length > 0)),
        config,
        (cluster, datapath) => {
          const made = compileKubeProxy(cluster, datapath);
          fc.pre(describeIpvsStructure(made, NODE).some((line) => line.startsWith('server')));
          const read = compileDumps(cluster, datapath, (text) => text);
          expect(describeIpvsStructure(read, NODE)).toEqual(describeIpvsStructure(made, NODE));
          expect(ipvsStructuralHash(read, NODE)).toBe(ipvsStructuralHash(made, NODE));
        },
      ),
      seeded(30),
    );
  });

  it('is another one where a weight, an element or a rule is another one', () => {
    const [cluster] = fc.sample(
      randomCluster.filter((one) =>
        describeIpvsStructure(compileKubeProxy(one, resolveDatapath()), NODE).some((line) =>
          /^server .*: ./.test(line),
        ),
      ),
      { numRuns: 1, seed: 7 },
    );
    const datapath = resolveDatapath({ pods: { masqueradeOutbound: false } });
    const hash = (change: (text: string) => string) =>
      ipvsStructuralHash(compileDumps(cluster!, datapath, change), NODE);
    const hashes = [
      hash((text) => text),
      hash((text) => text.replace(/ -w 1$/m, ' -w 2')),
      hash((text) => text.replace(/^(add KUBE-CLUSTER-IP 10\.96\.0)\.(\d+)/m, '$1.1$2')),
      hash((text) => text.replace(/^-A KUBE-FORWARD.*\n/m, '')),
    ];
    expect(new Set(hashes).size).toBe(hashes.length);
    expect(hashes[0]).toBe(ipvsStructuralHash(compileKubeProxy(cluster!, datapath), NODE));
  });
});
