/** `render --check` for dumps of ipvs mode: virtual servers and ipsets. */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { renderIpset, renderIpvsadm } from '../../control/src/compile/ipvs-render.ts';
import { resolveDatapath } from '../../control/src/model/datapath.ts';
import { compareItems, isUpToDate } from '../../control/src/ruleset/check.ts';
import { ipsetItems, virtualServerItems } from '../../control/src/ruleset/check-ipvs.ts';
import { parseIpsetSave } from '../../control/src/ruleset/ipset-save.ts';
import { parseIpvsadmSave } from '../../control/src/ruleset/ipvsadm-save.ts';
import { makeCluster, makeService, makeSlice } from '../compile/fixture.ts';
import { randomCluster, seeded } from '../compile/random-cluster.ts';

const config = resolveDatapath({});
const servers = (text: string) => virtualServerItems(parseIpvsadmSave('node.ipvs', text).virtualServers);
const sets = (text: string) => ipsetItems(parseIpsetSave('node.ipset', text).sets);

const SHOP = makeCluster({
  services: [makeService('shop/web', { clusterIPs: ['10.96.0.10'], ports: [{ name: 'http' }] })],
  endpointSlices: [
    makeSlice('shop/web', [{ name: 'http', port: 8080 }], [{ address: '10.244.0.7' }, { address: '10.244.1.7' }]),
  ],
});

const briefly = (findings: ReturnType<typeof compareItems>['findings']) =>
  findings.map(({ status, place, text, line }) => `${status} ${place}: ${text}${line === null ? '' : ` @${line}`}`);

describe('virtual servers and sets against manifests', () => {
  it('are up to date as they are printed', () => {
    fc.assert(
      fc.property(randomCluster, (cluster) => {
        const virtual = renderIpvsadm(cluster, config, 'node-1');
        const ipsets = renderIpset(cluster, config, 'node-1');
        expect(compareItems(servers(virtual), servers(virtual)).findings).toEqual([]);
        expect(compareItems(sets(ipsets), sets(ipsets)).findings).toEqual([]);
      }),
      seeded(20),
    );
  });

  it('lack a virtual server, keep another, drain a real server, hold foreign ones', () => {
    const text = renderIpvsadm(SHOP, config, 'node-1');
    const node = `${text.replace('10.244.1.7:8080 -m -w 1', '10.244.1.9:8080 -m -w 1')}-a -t 10.96.0.10:80 -r 10.244.1.8:8080 -m -w 0
-A -t 10.96.0.99:80 -s rr
-a -t 10.96.0.99:80 -r 10.244.0.7:80 -m -w 1
-A -f 5 -s wlc
-a -f 5 -r 10.0.0.1:0 -g -w 1
`;
    const result = compareItems(servers(text), servers(node));
    expect(isUpToDate(result)).toBe(false);
    expect(briefly(result.findings)).toEqual([
      'missing virtual server -t 10.96.0.10:80: -a -t 10.96.0.10:80 -r 10.244.1.7:8080 -m -w 1',
      'stale virtual server -t 10.96.0.10:80: -a -t 10.96.0.10:80 -r 10.244.1.9:8080 -m -w 1 @3',
      'stale virtual servers: -A -t 10.96.0.99:80 -s rr @5',
      'stale virtual server -t 10.96.0.99:80: -a -t 10.96.0.99:80 -r 10.244.0.7:80 -m -w 1 @6',
      'foreign virtual servers: -A -f 5 -s wlc @7',
      'foreign virtual server -f 5: -a -f 5 -r 10.0.0.1:0 -g -w 1 @8',
    ]);
  });

  it('lack an element, keep another, hold foreign sets', () => {
    const text = renderIpset(SHOP, config, 'node-1');
    const node = `${text.replace('add KUBE-CLUSTER-IP 10.96.0.10,tcp:80', 'add KUBE-CLUSTER-IP 10.96.0.12,tcp:80')}create cali40pools hash:net family inet
add cali40pools 10.244.0.0/16
`;
    const result = compareItems(sets(text), sets(node));
    expect(briefly(result.findings).map((line) => line.replace(/ @\d+$/, ''))).toEqual([
      'missing ipset KUBE-CLUSTER-IP: add KUBE-CLUSTER-IP 10.96.0.10,tcp:80',
      'stale ipset KUBE-CLUSTER-IP: add KUBE-CLUSTER-IP 10.96.0.12,tcp:80',
      'foreign ipsets: create cali40pools hash:net',
      'foreign ipset cali40pools: add cali40pools 10.244.0.0/16',
    ]);
  });
});
