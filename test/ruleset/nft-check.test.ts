/** `render --check` for nft dumps: what the manifests give is up to date, any change is named as what it is. */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { renderNft } from '../../control/src/compile/nft-save.ts';
import { type CheckResult, compareItems, isUpToDate } from '../../control/src/ruleset/check.ts';
import { nftItems } from '../../control/src/ruleset/check-nft.ts';
import { parseNftText } from '../../control/src/ruleset/nft-text.ts';
import { kubeProxyConfig, makeCluster, makeService, makeSlice } from '../compile/fixture.ts';
import { randomCluster, randomConfig, seeded } from '../compile/random-cluster.ts';
import { DOCKER } from './nft-nodes.ts';
import { hasNft, loadRuleset } from './real-nft.ts';

const items = (text: string) => nftItems(parseNftText('node.nft', text).ruleset);
const check = (expected: string, actual: string): CheckResult => compareItems(items(expected), items(actual));

const SHOP = makeCluster({
  services: [
    makeService('shop/web', { clusterIPs: ['10.96.0.10'], sessionAffinity: 'ClientIP', ports: [{ name: 'http' }] }),
    makeService('shop/api', { clusterIPs: ['10.96.0.11'], ports: [{ name: 'grpc', port: 5050 }] }),
  ],
  endpointSlices: [
    makeSlice('shop/web', [{ name: 'http', port: 8080 }], [{ address: '10.244.0.7' }, { address: '10.244.1.7' }]),
    makeSlice('shop/api', [{ name: 'grpc', port: 5050 }], [{ address: '10.244.0.8' }]),
  ],
});

describe("a node's nft rules against its manifests", () => {
  it.skipIf(!hasNft)('are up to date as the real nft lists them', () => {
    fc.assert(
      fc.property(randomCluster, randomConfig, (cluster, config) => {
        const text = renderNft(cluster, config, 'node-1');
        const result = check(text, loadRuleset(text).text);
        expect(result.findings).toEqual([]);
        expect(result.same).toBe(items(text).length);
      }),
      seeded(8),
    );
  });

  it('lack, keep too long, or hold what is not theirs', () => {
    const text = renderNft(SHOP, kubeProxyConfig(), 'node-1');
    const node = `${text
      .replace(/^\t+elements = \{ 10\.96\.0\.10 . tcp . 80 .*,\n/m, (line) => line.replace('10.96.0.10', '10.96.0.99'))
      .replace('\t\tmasquerade fully-random\n', '')
      .replace('ct state new', 'counter packets 5 bytes 9 ct state new')
      .replace(' comment "Drop traffic to unallocated ClusterIPs"', '')}${DOCKER}`;
    expect(node).toContain('10.96.0.99');
    const result = check(text, node);
    expect(isUpToDate(result)).toBe(false);
    const own = result.findings.filter(({ status }) => status !== 'foreign');
    const brief = own.map(({ status, place, text: part }) => `${status} ${place}: ${part.slice(0, 30)}`);
    expect(brief).toEqual([
      'missing ip kube-proxy masquerading: masquerade fully-random',
      'missing ip kube-proxy map service-ips: 10.96.0.10 . tcp . 80 : goto s',
      'stale ip kube-proxy map service-ips: 10.96.0.99 . tcp . 80 : goto s',
    ]);
    const stale = own.at(-1)!;
    expect(node.split('\n')[stale.line! - 1]).toContain('10.96.0.99');
    const foreign = result.findings.filter(({ status }) => status === 'foreign');
    expect(foreign.length).toBe(items(DOCKER).length);
    expect(foreign.map(({ place }) => place).every((place) => place.startsWith('ip docker-bridges'))).toBe(true);
  });

  it('are not compared in what packets write', () => {
    const text = renderNft(SHOP, kubeProxyConfig(), 'node-1');
    const seen = text.replace(
      /(\tset affinity-[^{]*\{(?:\n\t\t.*)*)\n\t\}/,
      '$1\n\t\telements = { 10.244.3.3 timeout 3h expires 2h59m }\n\t}',
    );
    expect(seen).not.toBe(text);
    expect(check(text, seen).findings).toEqual([]);
  });
});
