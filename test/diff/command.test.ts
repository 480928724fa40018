/** What a change does to a small cluster, and the command as a user runs it: exit codes, forms of output, recorded flows. */

import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { type Difference, findDifference, type Views, viewSides } from '../../control/src/diff/difference.ts';
import {
  type FlowDifference,
  findFlowDifference,
  listRecordedAddresses,
} from '../../control/src/diff/flow-difference.ts';
import { readRecording } from '../../control/src/diff/read-recording.ts';
import { completeSides, readSides } from '../../control/src/diff/sides.ts';
import { parseAddress } from '../../control/src/model/address.ts';
import { buildFrame } from '../../engine/src/wire/build.ts';
import { pcapWriter } from '../../engine/src/wire/pcap.ts';
import { TCP_SYN } from '../../engine/src/wire/tcp.ts';
import { flatpath, makeFolder } from '../cli/command.ts';

const CLUSTER = `apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec: {containers: [{name: c, ports: [{containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: front, namespace: shop}
spec:
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: batch, namespace: shop}
spec: {containers: [{name: c}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  clusterIP: 10.96.0.77
  selector: {app: cart}
  ports: [{port: 80, targetPort: 8080}]
`;

const ONLY_FRONT = `# who may talk to the cart
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: cart, namespace: shop}
spec:
  podSelector: {matchLabels: {app: cart}}
  ingress:
    - from:
        - podSelector: {matchLabels: {app: front}}
      ports:
        - port: 8080
`;

const folder = makeFolder({
  'before/shop.yaml': CLUSTER,
  'after/shop.yaml': CLUSTER,
  'after/policy.yaml': ONLY_FRONT,
  'broken/shop.yaml': 'kind: Service\n',
  'empty-service/shop.yaml': CLUSTER.replace('selector: {app: cart}\n  ports', 'selector: {app: nobody}\n  ports'),
});

const diff = (...args: string[]) => flatpath(['diff', ...args], { cwd: folder });

/** The same without a process of its own. */
function compare(
  before: readonly string[],
  after: readonly string[],
  recorded: readonly string[] = [],
): { views: Views; difference: Difference; flows: FlowDifference } {
  const recordings = recorded.map(readRecording);
  const inputs = readSides({ paths: before, datapath: {} }, { paths: after, datapath: {} }, folder);
  const sides = completeSides(inputs.before, inputs.after, listRecordedAddresses(recordings));
  const views = viewSides(sides, { before: 'ebpf', after: 'ebpf' });
  return { views, difference: findDifference(views), flows: findFlowDifference(views, recordings) };
}

function rowsOf(before: readonly string[], after: readonly string[]): string[] {
  const { difference } = compare(before, after);
  return difference.rows.map(({ kind, source, target }) => `${kind} ${source.id} > ${target.id}`);
}

const BEFORE = `${folder}/before`;
const AFTER = `${folder}/after`;

describe('flatpath diff', () => {
  it('says that nothing changes, and ends with 0', () => {
    const { status, stdout } = diff('-f', 'before', '--to', 'before');
    expect(status).toBe(0);
    expect(stdout).toContain('nothing changes for any connection');
  });

  it('ends with 1 when something breaks, and tells who decides', () => {
    const { status, stdout } = diff('-f', 'before', '--to', 'after', '--declared-ports');
    expect(status).toBe(1);
    expect(stdout).toContain('+ NetworkPolicy shop/cart (after/policy.yaml:2)');
    expect(stdout).toMatch(/pod\/shop\/batch.* → svc\/shop\/cart:80 {2}TCP 80/);
    expect(stdout).toMatch(
      /now .*dropped \(policy-denied\); ingress of pod shop\/cart-\S+ is denied: no rule of NetworkPolicy shop\/cart/,
    );
    expect(stdout).not.toContain('deploy/shop/front →');
    expect(stdout.trimEnd().split('\n').at(-1)).toMatch(/^breaks: \d+ \(\d+ pairs compared, mode ebpf\)$/);
  });

  it('ends with 0 when things only open', () => {
    const { status, stdout } = diff('-f', 'after', '--to', 'before');
    expect(status).toBe(0);
    expect(stdout).toContain('opens:');
    expect(stdout).not.toContain('breaks');
  });

  it('ends with 2 on bad input, with the place', () => {
    expect(diff('-f', 'before', '--to', 'broken')).toMatchObject({ status: 2, stdout: '' });
    const git = diff('-f', 'git:HEAD:.', '--to', 'after');
    expect(git.status).toBe(2);
    expect(git.stderr).toContain('error: git:HEAD:.: git: not a git repository');
    expect(diff('-f', 'before', '--to', 'after', '--flows', 'absent.json')).toMatchObject({ status: 2 });
    expect(diff('-f', 'before', '--to', 'after', '--json', '--sarif')).toMatchObject({ status: 2 });
  });

  it('reads the side before from a commit', () => {
    const repository = makeFolder({ 'deploy/shop.yaml': CLUSTER });
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', repository, '-c', 'user.name=T', '-c', 'user.email=t@example.com', ...args]);
    git('init', '--quiet');
    git('add', '.');
    git('commit', '--quiet', '-m', 'first');
    const { status, stdout } = flatpath(['diff', '-f', 'git:HEAD:deploy', '--to', `${folder}/after`], {
      cwd: repository,
    });
    expect(status).toBe(1);
    expect(stdout).toContain('breaks');
  });

  it('has everything as JSON', () => {
    const { status, stdout } = diff('-f', 'before', '--to', 'after', '--json');
    expect(status).toBe(1);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({
      version: 1,
      modes: { before: 'ebpf', after: 'ebpf' },
      objects: [{ change: 'added', kind: 'NetworkPolicy', namespace: 'shop', name: 'cart' }],
      flows: null,
    });
    const row = report.changes.find(
      ({ source, target }: { source: string; target: string }) =>
        source === 'pod/shop/batch' && target === 'svc/shop/cart',
    );
    expect(row).toMatchObject({
      kind: 'breaks',
      ports: [{ protocol: 'TCP', first: 80, last: 80 }],
      before: { works: 'yes', backends: ['deploy/shop/cart:8080'], decidedBy: null },
      after: {
        works: 'no',
        reason: 'policy-denied',
        decidedBy: { kind: 'NetworkPolicy', namespace: 'shop', name: 'cart', file: 'after/policy.yaml', line: 2 },
      },
      causes: [{ change: 'added', kind: 'NetworkPolicy', namespace: 'shop', name: 'cart' }],
    });
    // The one that the policy lets in loses the ports that it does not name.
    const find = (source: string, target: string) =>
      report.changes.find((own: { source: string; target: string }) => own.source === source && own.target === target);
    expect(find('deploy/shop/front', 'deploy/shop/cart')).toMatchObject({ kind: 'breaks', declaredPorts: [] });
    expect(find('deploy/shop/front', 'svc/shop/cart')).toBe(undefined);
  });

  it('tells Services that lose their endpoints', () => {
    const { difference } = compare([BEFORE], [`${folder}/empty-service`]);
    const row = difference.rows.find(
      ({ source, target }) => source.id === 'pod/shop/batch' && target.id === 'svc/shop/cart',
    );
    expect(row).toMatchObject({ kind: 'breaks', after: { outcome: { works: 'no', reason: 'no-service-backend' } } });
    expect(row!.after.decision.origin).toMatchObject({ kind: 'Service', name: 'cart' });
    expect(row!.causes).toMatchObject([{ change: 'changed', kind: 'Service', name: 'cart' }]);
  });

  it('tells workloads that come and go', () => {
    const gone = makeFolder({
      'shop.yaml': CLUSTER.split('---\n')
        .filter((text) => !text.includes('kind: Pod'))
        .join('---\n'),
    });
    const removed = rowsOf([BEFORE], [gone]);
    expect(removed).toContain('breaks deploy/shop/front > pod/shop/batch');
    expect(removed.filter((row) => row.includes('pod/shop/batch >'))).toEqual([]);
    const added = rowsOf([gone], [BEFORE]);
    expect(added).toContain('opens deploy/shop/front > pod/shop/batch');
    expect(added).toContain('opens pod/shop/batch > svc/shop/cart');
    expect(added.filter((row) => row.startsWith('breaks'))).toEqual([]);
  });

  it('takes a workload of another kind for the same, and scaling for none of its business', () => {
    const other = makeFolder({
      'shop.yaml': CLUSTER.replace(
        'kind: Deployment\nmetadata: {name: cart',
        'kind: StatefulSet\nmetadata: {name: cart',
      ).replace('replicas: 2', 'replicas: 5'),
    });
    const { difference } = compare([BEFORE], [other]);
    expect(difference.rows.filter(({ kind }) => kind !== 'changes')).toEqual([]);
    expect(difference.scaled).toMatchObject([{ id: 'sts/shop/cart', scaledFrom: 2, scaledTo: 5 }]);
  });

  it('is not moved by pods that shift the addresses of others', () => {
    const batch = CLUSTER.split('---\n')[3]!;
    const more = makeFolder({
      'shop.yaml': `${CLUSTER}---\n${batch.replace('name: batch', 'name: aardvark')}`,
      'node.yaml': 'apiVersion: v1\nkind: Pod\nmetadata: {name: zz}\nspec: {nodeName: a-node, containers: []}\n',
    });
    const block = `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: b, namespace: shop}\nspec: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.244.1.0/28}}]}]}\n`;
    const policy = makeFolder({ 'block.yaml': block });
    const rows = rowsOf([BEFORE, policy], [more, policy]);
    expect(rows.filter((row) => !row.includes('aardvark') && !row.includes('default/zz'))).toEqual([]);
  });

  it('writes Markdown', () => {
    const { status, stdout } = diff('-f', 'before', '--to', 'after', '--markdown');
    expect(status).toBe(1);
    expect(stdout).toMatch(/^### flatpath/);
    expect(stdout).toContain('<details open><summary>breaks (');
    expect(stdout).toContain('| from | to | ports | before | now |');
    expect(stdout.split('<details').length).toBe(stdout.split('</details>').length);
    for (const line of stdout.split('\n').filter((text) => text.startsWith('| '))) {
      expect(line.replace(/\\\|/g, '').split('|').length).toBe(7);
    }
  });
});

describe('flatpath diff --flows', () => {
  const list = (port: number, source: string, client: number): string =>
    `tcp      6 86399 ESTABLISHED src=${source} dst=10.96.0.77 sport=${client} dport=${port} src=10.244.9.9 dst=${source} sport=8080 dport=${client} [ASSURED] mark=0 use=1\n`;
  const flow = (from: string, to: object, client: number): string =>
    `${JSON.stringify({
      flow: {
        verdict: 'FORWARDED',
        IP: { source: '10.1.2.3', destination: '10.1.2.4', ipVersion: 'IPv4' },
        l4: { TCP: { source_port: client, destination_port: 8080, flags: { SYN: true } } },
        source: { namespace: 'shop', pod_name: from },
        destination: to,
        is_reply: false,
      },
    })}\n`;
  const cart = {
    namespace: 'shop',
    pod_name: 'cart-6d5f8c9b7-x2x4z',
    workloads: [{ name: 'cart', kind: 'Deployment' }],
  };

  function judge(text: string): FlowDifference {
    const recorded = makeFolder({ flows: text });
    return compare([BEFORE], [AFTER], [`${recorded}/flows`]).flows;
  }

  it('counts the connections that break, by names that a rollout has changed', () => {
    const flows = judge(flow('batch', cart, 1) + flow('batch', cart, 2) + flow('front-77f9c6d5b-abcde', cart, 3));
    expect(flows).toMatchObject({ connections: 3, unplaced: 0, unknown: 0 });
    expect(flows.rows).toMatchObject([
      { kind: 'breaks', source: 'pod/shop/batch', target: 'deploy/shop/cart', connections: 2, port: 8080 },
    ]);
  });

  it('knows Services by their address in a conntrack list', () => {
    const flows = judge(list(80, '192.0.2.7', 40_000) + list(80, '192.0.2.8', 40_000));
    expect(flows).toMatchObject({ connections: 2, recordings: [{ format: 'conntrack', connections: 2 }] });
    // The outside has no way to a ClusterIP, before or after.
    expect(flows.rows).toEqual([]);
  });

  it('ends with 0 when no recorded flow breaks, whatever else does', () => {
    const recorded = makeFolder({ flows: flow('front-77f9c6d5b-abcde', cart, 3) });
    const { status, stdout } = diff('-f', 'before', '--to', 'after', '--flows', `${recorded}/flows`, '--json');
    expect(status).toBe(0);
    const { flows, summary } = JSON.parse(stdout);
    expect(summary.breaks).toBeGreaterThan(0);
    expect(flows).toMatchObject({ unit: 'connections', connections: 1, summary: { breaks: 0 }, changes: [] });
  });

  it('reads captures', () => {
    const words = (text: string) => parseAddress(text)!.words;
    const frame = buildFrame({
      ip: { family: 4, src: words('198.51.100.9'), dst: words('198.51.100.10') },
      l4: { protocol: 'tcp', sport: 40_000, dport: 443, flags: TCP_SYN },
    });
    const pieces: Uint8Array[] = [];
    pcapWriter('nanoseconds', (piece) => pieces.push(piece.slice()))(1, 0, frame, frame.length);
    const recorded = makeFolder({ 'in.pcap': '' });
    execFileSync('tee', [`${recorded}/in.pcap`], { input: Buffer.concat(pieces) });
    const { status, stdout } = diff('-f', 'before', '--to', 'after', '--flows', `${recorded}/in.pcap`);
    expect(status).toBe(0);
    expect(stdout).toContain('in.pcap: capture, 1 connection');
    expect(stdout).toContain('1 have ends that nobody in the manifests has');
    expect(stdout).toContain('none of them changes');
  });

  it('tells flows in Markdown', () => {
    const recorded = makeFolder({ flows: flow('batch', cart, 1) });
    const { stdout } = diff('-f', 'before', '--to', 'after', '--flows', `${recorded}/flows`, '--markdown');
    expect(stdout).toContain('**breaks: 1 recorded connection**');
    expect(stdout).toContain('| 1 | `pod/shop/batch` | `deploy/shop/cart` | TCP 8080 |');
  });
});

describe('flatpath diff --sarif', () => {
  const report = JSON.parse(diff('-f', 'before', '--to', 'after', '--sarif').stdout);

  it('is SARIF 2.1.0 with rules, places and fingerprints', () => {
    expect(report.version).toBe('2.1.0');
    expect(report.$schema).toMatch(/sarif-schema-2\.1\.0\.json$/);
    const [run] = report.runs;
    expect(run.tool.driver).toMatchObject({ name: 'flatpath', version: expect.stringMatching(/^\d+\.\d+\.\d+$/) });
    expect(run.results.length).toBeGreaterThan(0);
    for (const result of run.results) {
      expect(run.tool.driver.rules[result.ruleIndex].id).toBe(result.ruleId);
      expect(['error', 'warning', 'note']).toContain(result.level);
      expect(result.message.text.length).toBeGreaterThan(10);
      expect(result.partialFingerprints['flatpathConnection/v1']).toMatch(/^[0-9a-f]{64}$/);
      expect(result.locations[0].physicalLocation).toMatchObject({
        artifactLocation: { uri: 'after/policy.yaml', uriBaseId: '%SRCROOT%' },
        region: { startLine: 2 },
      });
    }
    const prints = run.results.map((result: { partialFingerprints: object }) =>
      JSON.stringify(result.partialFingerprints),
    );
    expect(new Set(prints).size).toBe(prints.length);
  });

  it('keeps its fingerprints when lines move', () => {
    const moved = makeFolder({ 'shop.yaml': CLUSTER, 'policy.yaml': `\n\n# moved\n${ONLY_FRONT}` });
    const other = JSON.parse(diff('-f', 'before', '--to', moved, '--sarif').stdout);
    const prints = (log: typeof report) =>
      log.runs[0].results.map((result: { partialFingerprints: object }) => result.partialFingerprints);
    expect(prints(other)).toEqual(prints(report));
  });
});
