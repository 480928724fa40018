/** What `render` prints, parsed back, compiles to rules of the same structure: random clusters, both families. */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { CompiledRules } from '../../control/src/compile/iptables.ts';
import { compileIptables } from '../../control/src/compile/iptables.ts';
import { RuleEncoder } from '../../control/src/compile/iptables-encode.ts';
import { renderIptablesSave } from '../../control/src/compile/iptables-save.ts';
import type { Family } from '../../control/src/model/address.ts';
import { type DatapathConfig, resolveDatapath } from '../../control/src/model/datapath.ts';
import { compileDump, type DumpChains } from '../../control/src/ruleset/iptables-dump.ts';
import { readIptablesSave } from '../../control/src/ruleset/iptables-save.ts';
import { describeStructure, structuralHash } from '../../control/src/ruleset/structural-hash.ts';
import { makeCluster, makeService, makeSlice } from '../compile/fixture.ts';
import { randomCluster, randomConfig, seeded } from '../compile/random-cluster.ts';

/** Without the CNI's rules, which kube-proxy does not write. */
function kubeProxyOnly(config: DatapathConfig): DatapathConfig {
  return { ...config, pods: { masqueradeOutbound: false } };
}

function readBack(text: string, { kubeProxy }: DatapathConfig): DumpChains {
  const problems: never[] = [];
  const dump = readIptablesSave('dump', text, problems);
  expect(problems).toEqual([]);
  const podInterfaces = [kubeProxy.bridgeInterface, `${kubeProxy.interfaceNamePrefix}+`];
  return compileDump(dump, { place: { kind: 'cluster', podInterfaces }, sets: new Set(), hasIpvs: false });
}

function encode(dump: DumpChains, family: Family): CompiledRules {
  const encoder = new RuleEncoder(family);
  encoder.addNode(0, dump.chains, [], dump.dropping);
  return encoder.finish(1);
}

describe('the structure of a rendered node', () => {
  it.each([4, 6] as const)('is that of its own text, IPv%i', (family) => {
    fc.assert(
      fc.property(randomCluster, randomConfig, fc.constantFrom('node-1', 'node-3'), (cluster, given, node) => {
        const config = kubeProxyOnly(given);
        const made = compileIptables(cluster, config, family, [node]);
        const read = readBack(renderIptablesSave(cluster, config, node, family), config);
        expect(read.notUnderstood).toEqual([]);
        expect(read.assumed).toEqual([]);
        const index = cluster.nodes.findIndex(({ metadata }) => metadata.name === node);
        expect(describeStructure(encode(read, family), 0)).toEqual(describeStructure(made, index));
        expect(structuralHash(encode(read, family), 0)).toBe(structuralHash(made, index));
      }),
      seeded(60),
    );
  });

  it('changes with a rule, its order, a policy and the name of a list, not with comments and numbers', () => {
    const config = resolveDatapath({ pods: { masqueradeOutbound: false } });
    const cluster = makeCluster({
      services: [
        makeService('ns/web', { clusterIPs: ['10.96.0.1'], sessionAffinity: 'ClientIP', ports: [{ name: 'p' }] }),
      ],
      endpointSlices: [
        makeSlice('ns/web', [{ name: 'p', port: 80 }], [{ address: '10.244.0.1' }, { address: '10.244.0.2' }]),
      ],
    });
    const text = renderIptablesSave(cluster, config, 'node-1', 4);
    const hashOf = (changed: string): string => structuralHash(encode(readBack(changed, config), 4), 0);
    const whole = hashOf(text);
    expect(hashOf(text.replace(/-m comment --comment (".*?"|\S+) /g, ''))).toBe(whole);
    expect(hashOf(text.replaceAll('[0:0]', '[7:420]'))).toBe(whole);
    const lists = /--name (KUBE-SEP-\w+)/.exec(text)![1]!;
    const different = [
      text.replace(/^-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n/m, ''),
      text.replace(/^(-A KUBE-MARK-MASQ .*)$/m, '-A KUBE-MARK-MASQ -s 10.0.0.1/32 -j RETURN\n$1'),
      text.replace(':FORWARD ACCEPT', ':FORWARD DROP'),
      text.replaceAll(`--name ${lists}`, '--name OTHER'),
      text.replace('--dport 80', '--dport 81'),
      text.replace('--probability 0.50000000000', '--probability 0.50000000047'),
    ];
    for (const changed of different) {
      expect(changed).not.toBe(text);
      expect(hashOf(changed)).not.toBe(whole);
    }
    expect(new Set(different.map(hashOf)).size).toBe(different.length);
  });
});
