/** Policies on the command line: what trace says of them in text and JSON, what a failed test says, and --strict. */

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { flatpath, makeFolder, type Ran, SHOP } from './command.ts';

const POLICY = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
    - from:
        - ipBlock: {cidr: 203.0.113.0/24}
        - namespaceSelector: {matchLabels: {team: shop}}
      ports: [{port: 8080}]
`;
const FOREIGN = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: l7, namespace: default}
spec: {endpointSelector: {}}
`;
const TEST = `apiVersion: flatpath.dev/v1alpha1
kind: ConnectivityTest
metadata: {name: policies}
spec:
  manifests: [shop.yaml, policy.yaml]
  probes:
    - {name: the client, from: pod/client, to: "svc/web:80", expect: {verdict: delivered}}
    - {name: the office, from: 203.0.113.7, to: "pod/web-0:8080", expect: {verdict: delivered}}
`;
const DENIED = 'no rule of NetworkPolicy default/web (policy.yaml:1) allows it';

let folder = '';
beforeAll(() => {
  folder = makeFolder({ 'shop.yaml': SHOP, 'policy.yaml': POLICY, 'foreign.yaml': FOREIGN, 'test.yaml': TEST });
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

const trace = (from: string, to: string, ...args: string[]): Ran =>
  flatpath(['trace', '-f', 'shop.yaml', 'policy.yaml', '--from', from, '--to', to, ...args], { cwd: folder });

describe('flatpath trace', () => {
  it.each(BUILT_MODES)('says who denies, where it happens and at the end, on every path: %s', (mode) => {
    const { status, stdout, stderr } = trace('pod/client', 'svc/web:80', '--mode', mode);
    expect({ status, stderr }).toEqual({ status: 1, stderr: '' });
    const lines = stdout.split('\n');
    // Each mode takes the backends in an order of its own.
    const told = stdout.indexOf('pod default/web-1') < stdout.indexOf('pod default/web-0') ? 1 : 0;
    const sentence = `ingress of pod default/web-${told} is denied: ${DENIED}`;
    const story = lines.findIndex((line) => line.startsWith('    ') && line.trim() === sentence);
    expect(story).toBeGreaterThan(0);
    expect(lines[story + 1]).toMatch(/^ {2}dropped by node-[12]: policy-denied, /);
    const end = lines.slice(lines.findIndex((line) => line.startsWith('verdict: ')));
    const paths = [
      [`  10.244.${told + 1}.10:8080  dropped (policy-denied)`],
      [
        `  10.244.${2 - told}.10:8080  dropped (policy-denied)`,
        `    ingress of pod default/web-${1 - told} is denied: ${DENIED}`,
      ],
    ];
    expect(end).toEqual([
      'verdict: dropped (policy-denied)',
      'a Service translated it: yes, and masqueraded its source: no',
      'no policy selects pod default/client for egress',
      sentence,
      '2 possible paths:',
      ...paths.flat(),
      '',
    ]);
  });

  it.each(BUILT_MODES)('says which peer allows: %s', (mode) => {
    const { status, stdout } = trace('203.0.113.7', 'pod/web-0:8080', '--mode', mode);
    expect(status).toBe(0);
    const sentence =
      'ingress of pod default/web-0 is allowed by NetworkPolicy default/web spec.ingress[0].from[0] (policy.yaml:8)';
    const lines = stdout.split('\n').map((line) => line.trim());
    expect(lines.filter((line) => line === sentence)).toHaveLength(2);
    // The rule or entry before it does not say where it came from, too.
    expect(lines[lines.indexOf(sentence) - 1]).not.toContain('←');
  });

  it('shows it side by side', () => {
    const { stdout } = trace('pod/client', 'pod/web-0:8080', '--mode', 'all');
    const joined = stdout.replaceAll('│', ' ').replace(/\s+/g, ' ');
    expect(joined.split('verdict: dropped (policy-denied)')).toHaveLength(BUILT_MODES.length + 1);
    expect(stdout.match(/ingress of pod default\/web-0 is denied/g)!.length).toBe(2 * BUILT_MODES.length);
  });

  it.each(BUILT_MODES)('is complete as JSON: %s', (mode) => {
    const { stdout } = trace('pod/client', 'svc/web:80', '--mode', mode, '--json');
    const [{ branches }] = JSON.parse(stdout).traces;
    expect(branches).toHaveLength(2);
    for (const { policies, hops } of branches) {
      expect(policies.egress).toMatchObject({ pod: 'default/client', verdict: 'allowed', because: 'unselected' });
      expect(policies.ingress).toEqual({
        direction: 'ingress',
        pod: expect.stringMatching(/^default\/web-[01]$/),
        verdict: 'denied',
        because: 'isolated',
        policy: null,
        tier: null,
        priority: null,
        action: null,
        rule: null,
        peer: null,
        origin: null,
        policies: [
          {
            kind: 'NetworkPolicy',
            namespace: 'default',
            name: 'web',
            field: '',
            file: 'policy.yaml',
            document: 1,
            line: 1,
            column: 1,
          },
        ],
      });
      const steps = hops.flatMap((hop: { steps: { step: string }[] }) => hop.steps);
      expect(steps.filter(({ step }: { step: string }) => step === 'judgement')).toEqual([
        { step: 'judgement', ...policies.ingress },
      ]);
    }
  });
});

describe('flatpath test', () => {
  it('says who denied what was expected to arrive', () => {
    // Manifests of a document are found beside it.
    const denied = DENIED.replace('policy.yaml', join(folder, 'policy.yaml'));
    const text = flatpath(['test', 'test.yaml', '--mode', 'nftables'], { cwd: folder });
    expect(text.status).toBe(1);
    expect(text.stdout).toContain(
      [
        '  ✗ the client',
        '      verdict: expected delivered, got dropped (policy-denied)',
        `      ingress of pod default/web-0 is denied: ${denied}`,
        `      ingress of pod default/web-1 is denied: ${denied}`,
      ].join('\n'),
    );
    const json = JSON.parse(flatpath(['test', 'test.yaml', '--reporter', 'json'], { cwd: folder }).stdout);
    expect(json.summary).toEqual({ tests: 4, probes: 8, passed: 4, failed: 4 });
    const junit = flatpath(['test', 'test.yaml', '--reporter', 'junit'], { cwd: folder }).stdout;
    expect(junit).toContain(`ingress of pod default/web-0 is denied: ${denied}`);
  });

  it('--strict is about policies that are not enforced, which NetworkPolicies are', () => {
    const run = (...files: string[]): Ran =>
      flatpath(['trace', '-f', ...files, '--from', 'pod/client', '--to', 'pod/web-0:1', '--strict'], { cwd: folder });
    expect(run('shop.yaml', 'policy.yaml').status).toBe(1);
    expect(run('shop.yaml', 'policy.yaml', 'foreign.yaml')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('not enforced, but may change an answer: CiliumNetworkPolicy default/l7'),
    });
  });

  it('passes the recipes in every mode', () => {
    const { status, stdout } = flatpath(['test', 'examples/policies', '--reporter', 'json']);
    expect(status).toBe(0);
    const { summary, tests } = JSON.parse(stdout);
    expect(summary).toMatchObject({ failed: 0, tests: 17 * BUILT_MODES.length });
    expect(new Set(tests.map(({ mode }: { mode: string }) => mode)).size).toBe(BUILT_MODES.length);
  });
});
