/**
 * kube-proxy's encoded rules against the tables they were made from: what a node's directory holds, which rules a body
 * has, what a key finds in a set, and where each came from.
 */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Cluster } from '../../control/src/cluster/cluster.ts';
import { NftKubeProxyRules } from '../../control/src/compile/nft-kube-proxy.ts';
import type { NftElement, NftValue } from '../../control/src/compile/nft-ruleset.ts';
import { nftElementText, nftRuleText } from '../../control/src/compile/nft-text.ts';
import { type CompiledNft, compileNftables } from '../../control/src/compile/nftables.ts';
import type { Family } from '../../control/src/model/address.ts';
import type { DatapathConfig } from '../../control/src/model/datapath.ts';
import { describeOrigin } from '../../control/src/model/origin.ts';
import { findNftElement, SET_ID } from '../../engine/src/tables/nft-sets.ts';
import { kubeProxyConfig, makeCluster, makeNode, makeService, makeSlice } from './fixture.ts';
import { readBody } from './nft-reader.ts';
import { randomCluster, randomConfig, seeded } from './random-cluster.ts';

/** Chains of a node's row, by name. */
function chainsOf(compiled: CompiledNft, node: number): Map<string, number> {
  const { rules } = compiled;
  const row = rules.rows[node]!;
  const found = new Map<string, number>();
  for (let chain = 0; chain < rules.chains; chain++) {
    const start = rules.starts[row * rules.chains + chain]!;
    if (start >= 0) found.set(compiled.chain(chain).name, start);
  }
  return found;
}

/** Sets of a node's row, by name. */
function setsOf(compiled: CompiledNft, node: number): Map<string, number> {
  const { rules } = compiled;
  const row = rules.rows[node]!;
  const found = new Map<string, number>();
  for (let set = 0; set < rules.setCount; set++) {
    const start = rules.setStarts[row * rules.setCount + set]!;
    if (start >= 0) found.set(compiled.setName(rules.sets[start + SET_ID]!).slice(1), start);
  }
  return found;
}

function wordsOf(value: NftValue): number[] {
  if (value.kind === 'number') return [value.value];
  if (value.kind === 'address') return value.address.family === 4 ? [value.address.words[0]] : [...value.address.words];
  if (value.kind === 'concat') return value.parts.flatMap(wordsOf);
  throw new Error(value.kind);
}

const chainOfVerdict = ({ value }: NftElement): string | null =>
  value !== null && (value.kind === 'goto' || value.kind === 'jump') ? value.chain : null;

function checkNode(
  compiled: CompiledNft,
  cluster: Cluster,
  config: DatapathConfig,
  family: Family,
  node: number,
): void {
  const table = new NftKubeProxyRules(cluster, config, family).table(cluster.nodes[node]!);
  const starts = chainsOf(compiled, node);
  expect([...starts.keys()].filter((name) => name !== 'postrouting').sort()).toEqual(
    table.chains.map(({ name }) => name).sort(),
  );
  for (const chain of table.chains) {
    const read = readBody(compiled.rules, starts.get(chain.name)!).map(({ id }) => compiled.rule(id).text);
    expect(read).toEqual(chain.rules.map((rule) => nftRuleText(rule, table.family)));
  }
  const sets = setsOf(compiled, node);
  expect([...sets.keys()].sort()).toEqual(table.sets.map(({ name }) => name).sort());
  const { rules } = compiled;
  for (const set of table.sets) {
    for (const element of set.elements) {
      const key = Int32Array.from(wordsOf(element.key));
      const at = findNftElement(rules.sets, sets.get(set.name)!, key, 0);
      expect(compiled.element(rules.sets[at]!).text).toBe(nftElementText(element, set));
      const chain = chainOfVerdict(element);
      if (chain !== null) expect(compiled.chain(rules.sets[at + 2]!).name).toBe(chain);
      key[0] = key[0]! ^ 0x5a5a5a5a;
      const other = findNftElement(rules.sets, sets.get(set.name)!, key, 0);
      expect(other === -1 || set.elements.some(({ key: own }) => wordsOf(own)[0] === key[0])).toBe(true);
    }
  }
}

describe('kube-proxy rules', () => {
  it('have all chains, rules and elements on every node, for random clusters', () => {
    fc.assert(
      fc.property(randomCluster, randomConfig, (cluster, config) => {
        const names = cluster.nodes.map(({ metadata }) => metadata.name);
        const { family4, family6 } = compileNftables(cluster, config, names);
        names.forEach((_, node) => {
          checkNode(family4, cluster, config, 4, node);
          checkNode(family6, cluster, config, 6, node);
        });
        expect([...family4.unencodable, ...family6.unencodable]).toEqual([]);
      }),
      seeded(40),
    );
  });

  const SERVICE = makeService('ns/web', {
    clusterIPs: ['10.96.0.1'],
    externalIPs: ['203.0.113.1'],
    externalTrafficPolicy: 'Local',
    sessionAffinity: 'ClientIP',
    ports: [{ name: 'p', nodePort: 30_080 }],
  });
  const SLICE = makeSlice(
    'ns/web',
    [{ name: 'p', port: 8080 }],
    [{ address: '10.244.0.5', nodeName: 'node-1' }, { address: '10.244.0.6' }],
  );
  const nodes = [1, 2, 3].map((n) => makeNode(`node-${n}`, [`192.168.0.${n}`]));
  const cluster = makeCluster({ nodes, services: [SERVICE], endpointSlices: [SLICE] });

  it('share chains and sets between nodes where they are equal', () => {
    const { family4 } = compileNftables(cluster, kubeProxyConfig(), ['node-1', 'node-2', 'node-3']);
    const [one, two, three] = [0, 1, 2].map((node) => ({
      chains: chainsOf(family4, node),
      sets: setsOf(family4, node),
    }));
    const base = [...one!.chains.keys()].find((name) => name.startsWith('external-'))!;
    expect(two!.chains.get(base)).toBe(three!.chains.get(base));
    expect(one!.chains.get(base)).not.toBe(two!.chains.get(base));
    for (const name of ['services', 'mark-for-masquerade', base.replace('external', 'service')]) {
      expect(one!.chains.get(name)).toBe(two!.chains.get(name));
    }
    expect(one!.sets.get('service-ips')).toBe(two!.sets.get('service-ips'));
    expect(one!.sets.get('nodeport-ips')).not.toBe(two!.sets.get('nodeport-ips'));
    expect(one!.sets.get('no-endpoint-services')).not.toBe(two!.sets.get('no-endpoint-services'));
    expect(two!.sets.get('no-endpoint-services')).toBe(three!.sets.get('no-endpoint-services'));
  });

  it('cover only the nodes that are asked for', () => {
    const { family4 } = compileNftables(cluster, kubeProxyConfig(), ['node-2']);
    expect([...family4.rules.rows]).toEqual([-1, 0, -1]);
    expect(() => compileNftables(cluster, kubeProxyConfig(), ['nowhere'])).toThrow("no node 'nowhere'");
  });

  it('know where they come from', () => {
    const { family4 } = compileNftables(cluster, kubeProxyConfig(), ['node-1']);
    const said = (text: string): string[] => {
      for (let id = 0; id < family4.ruleCount; id++) {
        const rule = family4.rule(id);
        if (rule.text.startsWith(text)) return [rule.origin!, ...rule.further].map(describeOrigin);
      }
      throw new Error(text);
    };
    expect(said('meta l4proto tcp dnat to 10.244.0.5:8080')).toEqual([
      'EndpointSlice ns/web-abcde endpoints[0].addresses[0]',
      'EndpointSlice ns/web-abcde ports[0].port',
    ]);
    expect(said('update @affinity-')[0]).toBe('Service ns/web spec.sessionAffinity');
  });

  it('know where their elements come from', () => {
    const { family4 } = compileNftables(cluster, kubeProxyConfig(), ['node-1']);
    const start = setsOf(family4, 0).get('service-nodeports')!;
    const at = findNftElement(family4.rules.sets, start, Int32Array.from([6, 30_080]), 0);
    const { text, origin } = family4.element(family4.rules.sets[at]!);
    expect(text).toMatch(/^tcp \. 30080 : goto external-/);
    expect(describeOrigin(origin!)).toBe('Service ns/web spec.ports[0].nodePort');
    expect(() => family4.element(-1)).toThrow('there is no element -1');
    expect(() => family4.rule(1 << 20)).toThrow('there is no rule');
    expect(() => family4.chain(1 << 20)).toThrow('there is no chain');
    expect(() => family4.setName(1 << 20)).toThrow('there is no set');
  });

  it('give both families numbers of their own for stamps', () => {
    const dual = makeService('ns/dual', {
      clusterIPs: ['10.96.0.2', 'fd00:10:96::2'],
      sessionAffinity: 'ClientIP',
      ports: [{ name: 'p' }],
    });
    const slices = [
      makeSlice('ns/dual', [{ name: 'p', port: 80 }], [{ address: '10.244.0.7' }]),
      makeSlice('ns/dual', [{ name: 'p', port: 80 }], [{ address: 'fd00:10:244::7' }], {
        name: 'six',
        addressType: 'IPv6',
      }),
    ];
    const both = makeCluster({ services: [dual], endpointSlices: slices });
    expect(compileNftables(both, kubeProxyConfig(), ['node-1']).stamps).toBe(2);
  });
});
