/** A packet's story in nftables mode: base chains, lookups, the number drawn, and the fields that each came from. */

import { describe, expect, it } from 'vitest';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { modelCluster } from '../../control/src/compile/image.ts';
import type { Hop, Step } from '../../control/src/explain/story.ts';
import { formatStory } from '../../control/src/explain/story-text.ts';
import { resolveDatapath } from '../../control/src/model/datapath.ts';
import { resolveConnection } from '../../control/src/probe/connection.ts';
import { type Trace, traceConnection } from '../../control/src/probe/trace-report.ts';

const OBJECTS = [
  {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'node-1' },
    spec: { podCIDR: '10.244.1.0/24' },
    status: { addresses: [{ type: 'InternalIP', address: '192.168.0.1' }] },
  },
  ...['web-0', 'web-1', 'client-0'].map((name, i) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name.split('-')[0] } },
    spec: { nodeName: 'node-1', containers: [{ name: 'c' }] },
    status: { podIP: `10.244.1.${10 + i}` },
  })),
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web' },
    spec: {
      type: 'NodePort',
      clusterIP: '10.96.0.10',
      sessionAffinity: 'ClientIP',
      selector: { app: 'web' },
      ports: [{ name: 'http', port: 80, targetPort: 8080, nodePort: 30_080 }],
    },
  },
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'empty' },
    spec: { clusterIP: '10.96.0.11', selector: { app: 'nobody' }, ports: [{ port: 80 }] },
  },
];

function trace(from: string, to: string): Trace {
  const { cluster } = loadCluster([], { objects: OBJECTS });
  const model = modelCluster(cluster, resolveDatapath({}));
  return traceConnection(model, 'nftables', resolveConnection(model, { from, to }));
}

function onlyHop({ stories }: Trace): Hop {
  expect(stories[0]!.hops).toHaveLength(1);
  return stories[0]!.hops[0]!;
}

const chains = (steps: readonly Step[]): string[] =>
  steps.flatMap((step) => (step.step === 'base-chain' ? [`${step.hook} ${step.table} ${step.chain}`] : []));
const maps = (steps: readonly Step[]): (string | null)[][] =>
  steps.flatMap((step) => (step.step === 'map' ? [[step.map, step.entry, step.origin?.field ?? null]] : []));

describe('a story', () => {
  it('tells base chains in their order, with hook and table', () => {
    const hop = onlyHop(trace('pod/client-0', 'svc/web:80'));
    expect(chains(hop.steps)).toEqual([
      'PREROUTING ip kube-proxy filter-prerouting',
      'PREROUTING ip kube-proxy nat-prerouting',
      'FORWARD ip kube-proxy filter-forward',
      'POSTROUTING ip kube-proxy nat-postrouting',
      'POSTROUTING ip cni postrouting',
    ]);
    expect(hop.steps.find((step) => step.step === 'base-chain')).toMatchObject({ type: 'filter', priority: -110 });
  });

  it('tells what sets and maps were asked, what they held and which field that came from', () => {
    const { steps } = onlyHop(trace('pod/client-0', 'svc/web:80'));
    const told = maps(steps);
    expect(told[0]).toEqual(['@firewall-ips', null, null]);
    expect(told[1]![1]).toMatch(/^10\.96\.0\.10 \. tcp \. 80 : goto service-[A-Z2-7]{8}-default\/web\/tcp\/http$/);
    expect(told[1]![2]).toBe('spec.clusterIP');
    expect(told.filter(([map]) => map!.startsWith('@affinity-')).map(([, entry]) => entry)).toEqual([null, null]);
  });

  it('tells the number drawn, and every backend that it could have been', () => {
    const { branches, stories } = trace('pod/client-0', 'svc/web:80');
    expect(branches.map(({ backend }) => backend)).toEqual(['10.244.1.10:8080', '10.244.1.11:8080']);
    stories.forEach(({ hops }, i) => {
      const { steps } = hops[0]!;
      const choice = steps.find((step) => step.step === 'choice');
      expect(choice).toMatchObject({ chooser: 'selection', options: 2, taken: i });
      const drawn = maps(steps).find(([map]) => map === 'map of the rule')!;
      expect(drawn[1]).toContain(`${i} : goto endpoint-`);
      expect(drawn[1]).toContain(`__10.244.1.1${i}/8080`);
    });
  });

  it('tells masquerade by the rules that marked and did it', () => {
    const { steps } = onlyHop(trace('203.0.113.9', 'node/node-1:30080'));
    const rules = steps.flatMap((step) => (step.step === 'rule' ? [step] : []));
    const marked = rules.find(({ rule }) => rule === 'jump mark-for-masquerade')!;
    expect(marked.chain).toMatch(/^external-/);
    expect(marked.origin).toMatchObject({ kind: 'Service', name: 'web', field: 'spec.externalTrafficPolicy' });
    expect(rules.some(({ rule }) => rule === 'masquerade fully-random')).toBe(true);
    expect(steps.some((step) => step.step === 'nat' && step.kind === 'source')).toBe(true);
  });

  it('tells why a packet is refused', () => {
    const { steps } = onlyHop(trace('pod/client-0', 'svc/empty:80'));
    const [key, entry, field] = maps(steps).at(-1)!;
    expect([key, entry, field]).toEqual([
      '@no-endpoint-services',
      '10.96.0.11 . tcp . 80 comment "default/empty" : goto reject-chain',
      'spec.clusterIP',
    ]);
    expect(steps.at(-1)).toMatchObject({ step: 'verdict', verdict: 'rejected' });
  });

  it('is text, chain by chain', () => {
    const same = (text: string): string => text;
    const { stories } = trace('pod/client-0', 'svc/web:80');
    const text = formatStory(stories[0]!, { good: same, bad: same, dim: same, bold: same }).join('\n');
    expect(text).toContain('  PREROUTING filter-prerouting (ip kube-proxy, filter -110)');
    expect(text).toContain('    @firewall-ips: no entry');
    expect(text).toMatch(/numgen random mod 2 vmap \{ 0 : goto endpoint-\S+, 1 : goto endpoint-\S+ \}/);
  });
});
