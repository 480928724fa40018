/** Every other command from the outside: help, usage, bad input, trace, render and run. */

import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { flatpath, makeFolder, SHOP } from './command.ts';

const COMMANDS = ['up', 'run', 'trace', 'test', 'render', 'replay'];

/** Each with what its message has to name. */
const BAD_INPUT: readonly (readonly [what: string, text: string, words: readonly string[]])[] = [
  ['not YAML', 'a: [b\nc: }', []],
  ['an unknown apiVersion', 'apiVersion: v9\nkind: Service\nmetadata: {name: s}', ['Service s', 'apiVersion: v9']],
  [
    'a wrong type',
    'apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: 80}',
    ['Service default/s', 'spec.ports'],
  ],
  [
    'a port out of range',
    'apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec:\n  ports:\n  - port: 70000',
    [':6: Service default/s spec.ports[0].port', '70000'],
  ],
  [
    'two Services with one ClusterIP',
    ['a', 'b']
      .map(
        (name) =>
          `apiVersion: v1\nkind: Service\nmetadata: {name: ${name}}\nspec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}`,
      )
      .join('\n---\n'),
    ['Service default/b', 'spec.clusterIP', '10.96.0.9', 'default/a'],
  ],
  [
    'an address that is not one',
    'apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 10.96.0.256, ports: [{port: 80}]}',
    ['Service default/s', 'spec.clusterIP', '10.96.0.256'],
  ],
  [
    'a pod CIDR that is used up',
    `apiVersion: v1\nkind: Node\nmetadata: {name: n}\nspec: {podCIDR: 10.0.0.0/30}\n---\n${Array.from(
      { length: 5 },
      (_, i) => `apiVersion: v1\nkind: Pod\nmetadata: {name: p${i}}\nspec: {nodeName: n, containers: []}`,
    ).join('\n---\n')}`,
    ['10.0.0.0/30', 'Pod default/p'],
  ],
  [
    'an alias bomb',
    `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefgh'
      .split('')
      .map((name, i) => `${name}: &${name} [${new Array(9).fill(`*${'abcdefgh'[i]}`).join(',')}]`)
      .join('\n')}`,
    ['alias'],
  ],
  ['a __proto__ key', 'apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n__proto__: {polluted: true}', ['__proto__']],
];

let folder = '';
beforeAll(() => {
  folder = makeFolder({ 'shop.yaml': SHOP, 'scenario.yaml': SCENARIO });
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe('flatpath', () => {
  it.each(COMMANDS)('%s --help ends with an example', (command) => {
    const { status, stdout } = flatpath([command, '--help']);
    expect(status).toBe(0);
    expect(stdout).toMatch(new RegExp(`Examples?:\\n {2}flatpath ${command} `));
  });

  it('lists its commands', () => {
    const { status, stdout } = flatpath(['--help']);
    expect(status).toBe(0);
    for (const command of COMMANDS) expect(stdout).toContain(`  ${command} `);
  });

  it.each([
    [['trace']],
    [['trace', '-f', 'shop.yaml', '--from', 'pod/client', '--to', 'svc/web:80', '--mode', 'tables']],
    [['trace', '-f', 'nowhere.yaml', '--from', 'pod/client', '--to', 'svc/web:80']],
    [['trace', '-f', 'shop.yaml', '--datapath', 'nowhere.yaml', '--from', 'pod/client', '--to', 'svc/web:80']],
    [['render', '-f', 'shop.yaml', '--as', 'ebpf', '--node', 'node-9']],
    [['run', 'nowhere.yaml']],
    [['replay', 'nowhere.pcap', '-o', 'out.pcap', '-f', 'shop.yaml']],
  ])('exits 2 on bad usage with a sentence on stderr: %j', (args) => {
    const { status, stderr } = flatpath(args, { cwd: folder });
    expect(status).toBe(2);
    expect(stderr).toMatch(/^error: /m);
    // A stack is for what nobody foresaw.
    expect(stderr).not.toContain('    at ');
  });

  it('says of every file what is wrong with it, all at once, and applies nothing', () => {
    const own = makeFolder(Object.fromEntries(BAD_INPUT.map(([what, text]) => [`${what}.yaml`, `${text}\n`])));
    const { status, stdout, stderr } = flatpath(['render', '-f', '.', '--as', 'ebpf'], { cwd: own });
    rmSync(own, { recursive: true });
    expect([status, stdout]).toEqual([2, '']);
    for (const [what, , words] of BAD_INPUT) {
      const lines = stderr.split('\n').filter((line) => line.startsWith(`error: ${what}.yaml`));
      expect(lines, what).not.toEqual([]);
      for (const word of words) expect(lines.join('\n')).toContain(word);
    }
  });
});

const trace = (...args: string[]): ReturnType<typeof flatpath> =>
  flatpath(['trace', '-f', 'shop.yaml', ...args], { cwd: folder });

describe('flatpath trace', () => {
  it('tells node, hook, rule, object, field, line, tuples, state, verdict and every backend', () => {
    const { status, stdout } = trace('--from', 'pod/client', '--to', 'svc/web:80');
    expect(status).toBe(0);
    for (const word of [
      'node-1  enters by the interface of pod default/client',
      '10.244.1.5:40000 → 10.96.0.10:80 TCP',
      'conntrack NEW',
      'nat PREROUTING',
      '-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp',
      'Service default/web spec.clusterIP (shop.yaml:',
      'becomes 10.244.1.5:40000 → 10.244.1.10:8080 TCP',
      'delivered to pod default/web-0',
      'verdict: delivered',
      '10.244.1.10:8080  pod default/web-0',
      '10.244.2.10:8080  pod default/web-1',
    ]) {
      expect(stdout).toContain(word);
    }
    expect(stdout).not.toContain('\u001b');
  });

  it('names the pod whose socket is balanced', () => {
    const { stdout } = trace('--from', 'pod/client', '--to', 'svc/web:80', '--mode', 'ebpf');
    expect(stdout).toContain('node-1  the socket of pod default/client connects');
    expect(stdout).toContain('takes backend 1 of 2');
    expect(stdout).toContain('cilium_lb_backends: 10.244.1.10:8080/TCP on node-1');
  });

  it('answers 1 where the packet does not arrive, and tells the branch that decides', () => {
    const { status, stdout } = trace('--from', 'pod/client', '--to', 'svc/empty:80');
    expect(status).toBe(1);
    expect(stdout).toContain('rejected by node-1: rule-reject');
    expect(stdout).toContain('Service default/empty');
  });

  it('puts the modes side by side', () => {
    const { stdout } = trace('--from', 'pod/client', '--to', 'svc/web:80', '--mode', 'all');
    expect(stdout).toMatch(/mode iptables +│ mode nftables\n[\s\S]*mode ipvs +│ mode ebpf\n/);
  });

  it.each(BUILT_MODES)('is complete as JSON: %s', (mode) => {
    const { status, stdout } = trace(
      '--from',
      '203.0.113.9',
      '--node',
      'node-1',
      '--to',
      '192.168.0.1:30080',
      '--mode',
      mode,
      '--json',
    );
    expect(status).toBe(0);
    const { version, traces } = JSON.parse(stdout) as {
      version: number;
      traces: {
        mode: string;
        verdict: string;
        masquerade: boolean;
        backends: string[];
        branches: { backend: string; deliveredTo: string; hops: { node: string; entry: string; steps: Step[] }[] }[];
      }[];
    };
    expect(version).toBe(1);
    expect(traces).toHaveLength(1);
    const [one] = traces;
    expect(one).toMatchObject({
      mode,
      verdict: 'delivered',
      masquerade: true,
      backends: ['10.244.1.10:8080', '10.244.2.10:8080'],
    });
    const far = one!.branches.find(({ backend }) => backend === '10.244.2.10:8080')!;
    expect(far.deliveredTo).toBe('pod default/web-1');
    expect(far.hops.map(({ node, entry }) => [node, entry])).toEqual([
      ['node-1', 'uplink'],
      ['node-2', 'uplink'],
    ]);
    const steps = far.hops.flatMap((hop) => hop.steps);
    const origins = steps.flatMap(({ origin }) => (origin == null ? [] : [origin]));
    expect(
      origins.some(
        ({ kind, field, file, line }) =>
          kind === 'Service' && field === 'spec.ports[0].nodePort' && file === 'shop.yaml' && line > 0,
      ),
    ).toBe(true);
    expect(steps.at(-1)).toMatchObject({ step: 'verdict', verdict: 'delivered' });
    const kinds =
      mode === 'iptables' ? ['hook', 'rule', 'conntrack', 'nat', 'route'] : ['map', 'choice', 'nat', 'route'];
    for (const kind of kinds) expect(steps.map(({ step }) => step)).toContain(kind);
  });
});

interface Step {
  readonly step: string;
  readonly origin?: { kind: string; field: string; file: string; line: number } | null;
}

describe('flatpath render', () => {
  it.each(['iptables-save', 'ip6tables-save', 'ebpf'])('prints %s and nothing else', (form) => {
    const { status, stdout, stderr } = flatpath(['render', '-f', 'shop.yaml', '--node', 'node-2', '--as', form], {
      cwd: folder,
    });
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout.endsWith('\n')).toBe(true);
    if (form === 'iptables-save') expect(stdout).toContain('-A KUBE-SERVICES -d 10.96.0.10/32');
    if (form === 'ebpf') expect(stdout).toContain('10.96.0.10:80');
  });
});

interface Run {
  readonly mode: string;
  readonly packets: number;
  readonly digest: string;
  readonly outcomes: readonly { readonly packets: number }[];
  readonly broken: number;
}

const SCENARIO = `apiVersion: flatpath.dev/v1alpha1
kind: Scenario
metadata: {name: small}
spec:
  manifests: [shop.yaml]
  datapath: {modes: [iptables, nftables, ipvs, ebpf]}
  seed: 7
  packets: 20000
  streams:
    - {name: inside, from: pod/client, to: "svc/web:80", flows: 256, newFlows: 0.02, weight: 3}
    - {name: outside, from: 203.0.113.9, to: "192.168.0.2:30080", flows: 64, newFlows: 0.1, weight: 1}
    - {name: nobody, from: pod/client, to: "svc/empty:80", flows: 16, newFlows: 0.5, weight: 1}
`;

describe('flatpath run', () => {
  const run = (workers: number): readonly Run[] => {
    const { status, stdout, stderr } = flatpath(['run', 'scenario.yaml', '--workers', `${workers}`, '--json'], {
      cwd: folder,
    });
    expect(status, stderr).toBe(0);
    return (JSON.parse(stdout) as { runs: readonly Run[] }).runs;
  };
  /** What does not depend on the clock. */
  const stable = (runs: readonly Run[]): object[] =>
    runs.map(({ mode, packets, digest, outcomes, broken }) => ({ mode, packets, digest, outcomes, broken }));

  it('delivers what trace delivers: a process on loopback reaches the port of a nodePort in every mode', () => {
    const loopback = SCENARIO.replace(/ {2}streams:\n[\s\S]*/, '').replace('packets: 20000', 'packets: 500');
    const streams = `  streams:\n    - {from: 127.0.0.1, node: node-1, to: '127.0.0.1:30080', flows: 20, newFlows: 0.2}\n`;
    const { status, stdout, stderr } = flatpath(['run', '-', '--json'], { cwd: folder, input: loopback + streams });
    expect(status, stderr).toBe(0);
    for (const { mode, outcomes } of (JSON.parse(stdout) as { runs: readonly Run[] }).runs) {
      expect(outcomes, mode).toMatchObject([{ verdict: 'delivered' }]);
    }
  });

  it('gives the same answer with one worker or many, and loses no packet', () => {
    const first = run(1);
    expect(first.map(({ mode }) => mode)).toEqual([...BUILT_MODES]);
    for (const { packets, outcomes, broken } of first) {
      expect(outcomes.reduce((sum, outcome) => sum + outcome.packets, 0)).toBe(packets);
      expect(outcomes.length).toBeGreaterThan(1);
      expect(broken).toBe(0);
    }
    for (const workers of [2, 3]) expect(stable(run(workers))).toEqual(stable(first));
  });
});
