/** `flatpath reach` as a user runs it, and /flatpath/v1/reachability: the same matrix, the same refusals. */

import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ReachReport } from '../../control/src/reach/report.ts';
import { startSmall } from '../api/support.ts';
import { flatpath } from '../cli/command.ts';

const REACHABILITY = '/flatpath/v1/reachability';

describe('flatpath reach', () => {
  it('prints a table', () => {
    const { status, stdout, stderr } = flatpath(['reach', '-f', 'examples/shop', '--to', 'svc/shop/cart']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^mode ebpf, profile kubernetes: /);
    expect(stdout).toContain('svc/shop/cart TCP 7070 → deploy/shop/cart:');
    expect(stderr).not.toContain('error');
  });

  it('prints JSON, and a page beside it', () => {
    const page = join(mkdtempSync(join(tmpdir(), 'flatpath-reach-')), 'reach.html');
    const args = ['--from', 'outside', '--ports', '80,443', '--mode', 'nftables', '--json', '--html', page];
    const { status, stdout } = flatpath(['reach', '-f', 'examples/shop', ...args]);
    expect(status).toBe(0);
    const report = JSON.parse(stdout) as ReachReport;
    expect(report.mode).toBe('nftables');
    expect(report.matrix).toHaveLength(report.sources.length);
    expect(new Set(report.cells.flat().map(({ first }) => first))).toEqual(new Set([80, 443]));
    expect(readFileSync(page, 'utf8')).toContain(stdout.slice(0, 200));
  });

  it.each([
    [['--mode', 'all'], 'reach answers for one mode'],
    [['--mode', 'bridge'], '--mode bridge'],
    [['--ports', '80/xyz'], '--ports 80/xyz'],
    [['--from', 'deploy/shop/nobody'], "'deploy/shop/nobody' does not exist"],
    [['--namespace', 'shoop'], "namespace 'shoop' does not exist"],
    [['--datapath', '/nowhere.yaml'], '/nowhere.yaml'],
  ])('%j is bad input', (args, message) => {
    const { status, stdout, stderr } = flatpath(['reach', '-f', 'examples/shop', ...args]);
    expect(status).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain(message);
  });

  it('has help with an example', () => {
    const { status, stdout } = flatpath(['reach', '--help']);
    expect(status).toBe(0);
    expect(stdout).toContain('flatpath reach -f examples/shop');
  });
});

describe(REACHABILITY, () => {
  it('answers GET and POST alike', async () => {
    const server = await startSmall();
    const asked = await server.ask('GET', `${REACHABILITY}?from=pod/client,outside&to=svc/web&ports=80`);
    const posted = await server.ask('POST', REACHABILITY, {
      from: ['pod/client', 'outside'],
      to: ['svc/web'],
      ports: ['80'],
    });
    expect(asked.code).toBe(200);
    expect(posted.text).toBe(asked.text);
    const report = JSON.parse(asked.text) as ReachReport;
    expect(report.mode).toBe('ebpf');
    expect(report.sources.map((i) => report.peers[i]!.id)).toEqual(['pod/default/client', 'outside']);
    expect(report.cells[report.matrix[0]![0]!]).toEqual([
      { via: 'ClusterIP', protocol: 'TCP', first: 80, last: 80, outcomes: [{ verdict: 'delivered', reason: 'none' }] },
    ]);
  });

  it('follows changes, and the mode of the server', async () => {
    const server = await startSmall({ mode: 'iptables' });
    const ask = async (): Promise<ReachReport> =>
      JSON.parse((await server.ask('GET', `${REACHABILITY}?from=pod/client&to=pod/web-1`)).text) as ReachReport;
    expect((await ask()).cells[0]![0]!.outcomes[0]!.verdict).toBe('delivered');
    const put = await server.ask('PUT', '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies/deny', {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'deny', namespace: 'default' },
      spec: { podSelector: {} },
    });
    expect(put.code).toBe(201);
    const after = await ask();
    expect(after.mode).toBe('iptables');
    expect(after.policies).toEqual([{ kind: 'NetworkPolicy', namespace: 'default', name: 'deny' }]);
    expect(after.cells[after.matrix[0]![0]!]![0]!.outcomes).toEqual([
      { verdict: 'dropped', reason: 'policy-denied', denied: 'ingress' },
    ]);
  });

  it.each([
    [{ from: ['pod/nobody'] }, 'from'],
    [{ to: ['svc/nobody'] }, 'to'],
    [{ namespaces: ['nowhere'] }, 'namespaces'],
    [{ ports: ['80/xyz'] }, 'ports'],
    [{ mode: 'bridge' }, 'mode'],
    [{ colour: 'red' }, 'colour'],
  ])('refuses %j', async (body, field) => {
    const server = await startSmall();
    const answer = await server.ask('POST', REACHABILITY, body);
    expect(answer.code).toBeGreaterThanOrEqual(400);
    expect(answer.code).toBeLessThan(500);
    expect(answer.text).toContain(field);
  });

  it('is in the description', async () => {
    const server = await startSmall();
    const description = await server.ask('GET', '/openapi.json');
    expect(Object.keys(description.json['paths']![REACHABILITY]!)).toEqual(['get', 'post']);
  });
});
