/** The matrix as reports: counts, folding, filters, reasons; as text, JSON and a page. */

import { describe, expect, it } from 'vitest';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { modelCluster } from '../../control/src/compile/image.ts';
import { resolveDatapath } from '../../control/src/model/datapath.ts';
import type { ReachFilter } from '../../control/src/reach/filter.ts';
import { readPortFilter } from '../../control/src/reach/filter-ports.ts';
import { htmlPieces } from '../../control/src/reach/html.ts';
import { jsonPieces } from '../../control/src/reach/json.ts';
import { describeReached } from '../../control/src/reach/port-text.ts';
import { Reachability } from '../../control/src/reach/reachability.ts';
import { type ReachReport, reachMode, reportSteps } from '../../control/src/reach/report.ts';
import { formatReport } from '../../control/src/reach/text.ts';

const NOTHING: ReachFilter = { from: [], to: [], namespaces: [], ports: [] };

const node = (name: string, address: string, podCIDR: string): object => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name },
  spec: { podCIDR },
  status: { addresses: [{ type: 'InternalIP', address }] },
});

const workload = (name: string, replicas: number, port: number): object => ({
  apiVersion: 'apps/v1',
  kind: 'StatefulSet',
  metadata: { name, namespace: 'shop' },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name, ports: [{ name: 'main', containerPort: port }] }] },
    },
  },
});

const service = (name: string, port: number, targetPort: number | string): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec: { selector: { app: name }, ports: [{ port, targetPort }] },
});

const policy = (name: string, spec: object): object => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name, namespace: 'shop' },
  spec,
});

/** Two web pods, one database that only they and one range of the outside may use, and a job that is closed both ways. */
const SHOP: readonly object[] = [
  node('one', '192.168.0.1', '10.244.1.0/24'),
  node('two', '192.168.0.2', '10.244.2.0/24'),
  workload('web', 2, 8080),
  workload('db', 1, 5432),
  workload('job', 1, 9000),
  service('web', 80, 8080),
  service('db', 5432, 'main'),
  policy('db', {
    podSelector: { matchLabels: { app: 'db' } },
    ingress: [
      {
        from: [{ podSelector: { matchLabels: { app: 'web' } } }, { ipBlock: { cidr: '203.0.113.0/24' } }],
        ports: [{ port: 'main' }],
      },
    ],
  }),
  policy('job', { podSelector: { matchLabels: { app: 'job' } }, policyTypes: ['Ingress', 'Egress'] }),
];

function makeReport(filter: Partial<ReachFilter> = {}, objects: readonly object[] = SHOP): ReachReport {
  const { cluster } = loadCluster([], { objects: [...objects], reserved: [] });
  const model = modelCluster(cluster, resolveDatapath({}, cluster.defaults));
  const steps = reportSteps(new Reachability(model, reachMode(model)), { ...NOTHING, ...filter });
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  return step.value;
}

function reached(report: ReachReport, from: string, to: string): string {
  const at = (list: readonly number[], id: string): number => list.findIndex((i) => report.peers[i]!.id === id);
  const row = report.matrix[at(report.sources, from)]!;
  const target = at(report.targets, to);
  const cell = row[target]!;
  if (cell < 0) return 'left out';
  return describeReached(report.cells[cell]!, report.peers[report.targets[target]!]!.kind === 'service');
}

describe('a matrix', () => {
  const report = makeReport();

  it('lists workloads, nodes, the outside and Services', () => {
    expect(report.peers.map(({ id }) => id)).toEqual([
      'sts/shop/db',
      'sts/shop/job',
      'sts/shop/web',
      'nodes',
      '203.0.113.0/24',
      'outside',
      'svc/shop/db',
      'svc/shop/web',
    ]);
    expect(report.mode).toBe('ebpf');
  });

  it('says what policies leave open', () => {
    expect(reached(report, 'sts/shop/web', 'sts/shop/db')).toBe('TCP 5432');
    expect(reached(report, 'sts/shop/web', 'svc/shop/db')).toBe('TCP 5432');
    expect(reached(report, 'sts/shop/db', 'sts/shop/web')).toBe('all');
    expect(reached(report, 'sts/shop/job', 'sts/shop/web')).toBe('none');
    expect(reached(report, 'sts/shop/db', 'sts/shop/job')).toBe('none');
    expect(reached(report, '203.0.113.0/24', 'sts/shop/db')).toBe('TCP 5432');
    expect(reached(report, 'outside', 'sts/shop/db')).toBe('none');
    expect(reached(report, 'sts/shop/job', 'outside')).toBe('none');
    expect(reached(report, 'sts/shop/web', 'outside')).toBe('all');
  });

  it('counts the pods that share a node', () => {
    // One of the two nodes is the job's own, which always reaches it.
    expect(reached(report, 'nodes', 'sts/shop/job')).toBe('all (1 of 2)');
  });

  it('says which policies isolate, and in which direction it was denied', () => {
    const db = report.peers.find(({ id }) => id === 'sts/shop/db')!;
    expect(db.isolatedBy.ingress.map((i) => report.policies[i]!.name)).toEqual(['db']);
    expect(db.isolatedBy.egress).toEqual([]);
    const cell = report.cells[report.matrix[1]![0]!]!;
    expect(cell).toEqual([
      expect.objectContaining({ protocol: 'TCP', first: 1, last: 65_535 }),
      expect.objectContaining({ protocol: 'UDP', first: 1, last: 65_535 }),
      expect.objectContaining({ protocol: 'SCTP', first: 1, last: 65_535 }),
      expect.objectContaining({ protocol: 'ICMP', first: 0, last: 0 }),
    ]);
    expect(cell[0]!.outcomes).toEqual([{ verdict: 'dropped', reason: 'policy-denied', denied: 'egress' }]);
  });

  it('resolves Services', () => {
    const db = report.peers.find(({ id }) => id === 'svc/shop/db')!;
    expect(db.ports).toEqual([
      {
        name: '',
        protocol: 'TCP',
        port: 5432,
        nodePort: null,
        leadsTo: [{ peer: 'sts/shop/db', port: 5432, endpoints: 1 }],
      },
    ]);
  });

  it('covers every port of every protocol', () => {
    for (const [s, row] of report.matrix.entries()) {
      for (const [t, cell] of row.entries()) {
        const [source, target] = [report.peers[report.sources[s]!]!, report.peers[report.targets[t]!]!];
        if (target.kind === 'service' || (source.kind === 'outside' && target.kind === 'outside')) continue;
        if (source === target && source.members.length === 1) continue;
        for (const protocol of ['TCP', 'UDP', 'SCTP']) {
          let next = 1;
          for (const own of report.cells[cell]!.filter((candidate) => candidate.protocol === protocol)) {
            expect(own.first, `${source.id} to ${target.id} ${protocol}`).toBe(next);
            next = own.last + 1;
          }
          expect(next).toBe(65_536);
        }
      }
    }
  });
});

describe('filters', () => {
  it('takes references', () => {
    const report = makeReport({ from: ['pod/shop/web-0', '203.0.113.9'], to: ['svc/shop/db', 'node/one', 'outside'] });
    expect(report.sources.map((i) => report.peers[i]!.id)).toEqual(['pod/shop/web-0', '203.0.113.0/24']);
    expect(report.targets.map((i) => report.peers[i]!.id)).toEqual([
      'svc/shop/db',
      'node/one',
      '203.0.113.0/24',
      'outside',
    ]);
    expect(reached(report, 'pod/shop/web-0', 'svc/shop/db')).toBe('TCP 5432');
  });

  it('tries a pod of a workload against the others, never against itself', () => {
    const report = makeReport({ from: ['pod/shop/web-0'], to: ['sts/shop/web', 'pod/shop/web-0'] });
    expect(reached(report, 'pod/shop/web-0', 'sts/shop/web')).toBe('all');
    expect(report.cells[report.matrix[0]![1]!]).toEqual([]);
  });

  it('takes ports', () => {
    const ports = readPortFilter('5432, 53/udp, 5432/tcp')!;
    const report = makeReport({ ports });
    expect(reached(report, 'sts/shop/db', 'sts/shop/web')).toBe('TCP 5432; UDP 53, 5432; SCTP 5432');
    expect(reached(report, 'sts/shop/web', 'sts/shop/db')).toBe('TCP 5432');
  });

  it.each(['', '0', '70000', '9-8', '80/xyz', '80/icmp', 'icmp/80', '80,'])('refuses the ports %j', (text) => {
    expect(readPortFilter(text)).toBeNull();
  });

  it('leaves out pairs of other namespaces', () => {
    const report = makeReport({ namespaces: ['shop'] });
    expect(reached(report, 'sts/shop/web', 'outside')).toBe('all');
    expect(reached(report, 'nodes', 'outside')).toBe('left out');
    expect(() => makeReport({ namespaces: ['shoop'] })).toThrow("namespace 'shoop' does not exist");
  });

  it.each([
    ['svc/shop/db', 'a Service sends nothing'],
    ['deploy/shop/web', 'does not exist'],
    ['node/three', 'there is no such node'],
  ])('refuses the source %s', (text, message) => {
    expect(() => makeReport({ from: [text] })).toThrow(message);
  });
});

describe('the text', () => {
  const plain = { width: 100, bold: (text: string) => text, dim: (text: string) => text };

  /** How many packets it took may change. */
  const textOf = (report: ReachReport, denied: boolean): string =>
    [...formatReport(report, { ...plain, denied })].join('\n').replace(/; \d+ packets run/, '');

  it('folds what is alike', () => {
    expect(textOf(makeReport(), false)).toMatchInlineSnapshot(`
      "mode ebpf, profile kubernetes: 4 pods (3 workloads here), 2 nodes, 2 Services, 2 policies

      sts/shop/db
        all            sts/shop/db, sts/shop/web (2), nodes (2), all of the outside
        all its ports  all Services

      sts/shop/job
        all           sts/shop/job
        all (1 of 2)  nodes (2)

      sts/shop/web (2)
        all            sts/shop/web (2), nodes (2), all of the outside
        all its ports  all Services
        TCP 5432       sts/shop/db

      nodes (2)
        all                sts/shop/web (2), nodes (2), all of the outside
        all its ports      svc/shop/web
        all (1 of 2)       sts/shop/db, sts/shop/job
        TCP 5432 (1 of 2)  svc/shop/db

      203.0.113.0/24
        all       sts/shop/web (2), nodes (2)
        TCP 5432  sts/shop/db

      outside
        all   sts/shop/web (2), nodes (2)

      Services lead to
        svc/shop/db TCP 5432 → sts/shop/db:5432
        svc/shop/web TCP 80 → sts/shop/web:8080 (2)"
    `);
  });

  it('says why something is not reached', () => {
    const report = makeReport({ to: ['sts/shop/db'] });
    expect(textOf(report, true)).toMatchInlineSnapshot(`
      "mode ebpf, profile kubernetes: 4 pods (3 workloads here), 2 nodes, 2 Services, 2 policies

      sts/shop/db
        reaches everything that was asked

      sts/shop/job
        all: egress isolated  sts/shop/db

      sts/shop/web (2), 203.0.113.0/24
        all but TCP 5432: ingress isolated  sts/shop/db

      nodes (2)
        all (1 of 2): ingress isolated  sts/shop/db

      outside
        all: ingress isolated  sts/shop/db
      "
    `);
  });
});

describe('JSON and HTML', () => {
  it('is JSON piece by piece', () => {
    const report = makeReport();
    const read: unknown = JSON.parse([...jsonPieces(report)].join(''));
    expect(read).toEqual({ ...report, matrix: report.matrix.map((row) => [...row]) });
  });

  it('is the same for the same input', () => {
    expect([...jsonPieces(makeReport())].join('')).toBe([...jsonPieces(makeReport())].join(''));
  });

  it('is one page that loads nothing and cannot be broken out of', () => {
    const page = [...htmlPieces(makeReport(), 'a </title><script>alert(1)</script>')].join('');
    expect(page).not.toMatch(/https?:|src=|href=|@import|url\(/);
    expect(page).toContain('<title>a &lt;/title');
    const data = /<script type="application\/json" id="data">([\s\S]*?)<\/script>/.exec(page)![1]!;
    expect(data).not.toContain('<');
    expect(JSON.parse(data)).toMatchObject({ version: 1, mode: 'ebpf' });
  });
});
