/**
 * What `render --as ebpf` prints, read back, compiles to the same image: by structural hash, for random clusters, nodes and
 * options.
 */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileEbpf } from '../../control/src/compile/ebpf.ts';
import { renderEbpf } from '../../control/src/compile/ebpf-render.ts';
import { resolveDatapath } from '../../control/src/model/datapath.ts';
import { compileEbpfDump } from '../../control/src/ruleset/ebpf-compile.ts';
import { describeEbpfStructure, ebpfStructuralHash } from '../../control/src/ruleset/ebpf-structure.ts';
import { parseEbpfText } from '../../control/src/ruleset/ebpf-text.ts';
import { makeCluster, makeService, makeSlice } from '../compile/fixture.ts';
import { randomCluster, seeded } from '../compile/random-cluster.ts';

const config = fc
  .record({
    ebpf: fc.record({
      socketLB: fc.boolean(),
      algorithm: fc.constantFrom('random' as const, 'maglev' as const),
      loadBalancerMode: fc.constantFrom('snat' as const, 'dsr' as const),
      externalClusterIP: fc.boolean(),
      sctp: fc.boolean(),
    }),
    pods: fc.record({ masqueradeOutbound: fc.boolean() }),
    kubeProxy: fc.record({
      nodePortAddresses: fc.constantFrom<string[][]>(
        [],
        ['primary'],
        ['192.168.0.0/24', '2001:db8::/32'],
        ['0.0.0.0/0'],
      ),
    }),
  })
  .map(resolveDatapath);

const NODES = ['node-1', 'node-2', 'node-3'];

const SHOP = makeCluster({
  services: [
    makeService('shop/web', {
      type: 'LoadBalancer',
      clusterIPs: ['10.96.0.10'],
      sessionAffinity: 'ClientIP',
      ports: [{ name: 'http', nodePort: 30080 }],
      ingress: [{ ip: '203.0.113.9' }],
      loadBalancerSourceRanges: ['198.51.100.0/24'],
    }),
  ],
  endpointSlices: [
    makeSlice('shop/web', [{ name: 'http', port: 8080 }], [{ address: '10.244.0.7' }, { address: '10.244.1.7' }]),
  ],
});

describe('text of eBPF maps', () => {
  it('is read back as the image that it was printed from', () => {
    fc.assert(
      fc.property(randomCluster, config, fc.constantFrom(...NODES), (cluster, datapath, name) => {
        const made = compileEbpf(cluster, datapath, [name]).image;
        const read = compileEbpfDump(parseEbpfText('node.ebpf', renderEbpf(cluster, datapath, name)));
        const node = NODES.indexOf(name);
        expect(describeEbpfStructure(read, 0)).toEqual(describeEbpfStructure(made, node));
        expect(ebpfStructuralHash(read, 0)).toBe(ebpfStructuralHash(made, node));
      }),
      seeded(60),
    );
  });

  it('has another structure where anything in it is another', () => {
    const maglev = resolveDatapath({ ebpf: { algorithm: 'maglev' } });
    const text = renderEbpf(SHOP, maglev, 'node-1');
    const hash = (change: string) => ebpfStructuralHash(compileEbpfDump(parseEbpfText('x', change)), 0);
    const changes = [
      text,
      text.replace('bpf-lb-mode                 snat', 'bpf-lb-mode                 dsr'),
      text.replaceAll('10.244.1.7:8080', '10.244.1.8:8080'),
      text.replace('198.51.100.0/24', '198.51.100.0/25'),
      text.replaceAll('10800s', '60s'),
      text.replaceAll(' 251 ', ' 509 '),
      text.replace('2    10.244.1.7:8080/TCP   active', '2    10.244.1.7:8080/TCP   terminating'),
      text.replaceAll('30080', '30081'),
    ];
    for (const change of changes.slice(1)) expect(change).not.toBe(text);
    expect(new Set(changes.map(hash)).size).toBe(changes.length);
  });

  it('lists every line that does not fit', () => {
    const text = `# cilium-dbg bpf lb list
10.96.0.10:80/TCP (0)   0.0.0.0:0 (1) (0) [ClusterIP]
10.96.0.10:80/TCP (1)   10.244.0.7/TCP (1) (1)
10.96.0.11:80/TCP (0)   0.0.0.0:0 (2) (0) [Something]
nonsense

# cilium-dbg bpf lb affinity list
9   60s   0

# cilium-dbg bpf policy get
1   2
`;
    let message = '';
    try {
      parseEbpfText('node.ebpf', text);
    } catch (error) {
      message = String(error);
    }
    expect(message.split('\n')).toEqual([
      "InputError: node.ebpf:3: '10.244.0.7/TCP' is no address, port and protocol",
      "node.ebpf:4: 'Something' is no kind of frontend",
      "node.ebpf:5: 'nonsense' is no line of a service",
      'node.ebpf:8: there is no frontend 9',
      "node.ebpf:11: 'bpf policy get' is no section of maps",
    ]);
  });
});
