/** `flatpath test` from the outside: reports, exit codes, and what goes where. */

import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { flatpath, makeFolder, SHOP } from './command.ts';

const head = 'apiVersion: flatpath.dev/v1alpha1\nkind: ConnectivityTest\n';

const PASSES = `${head}metadata: {name: same name}
spec:
  manifests: [./shop.yaml]
  datapath: {modes: [iptables, ebpf]}
  probes:
    - name: the Service answers
      from: pod/client
      to: svc/web:80
      expect: {verdict: delivered, translated: true, backends: ["10.244.2.10:8080", "10.244.1.10:8080"], masquerade: false}
    - {from: pod/client, to: svc/empty:80, expect: {}}
    - {from: pod/client, to: "svc/empty:80", expect: {verdict: rejected}}
`;
const FAILS = `${head}metadata: {name: same name}
spec:
  manifests: [shop.yaml]
  datapath: {modes: [ebpf]}
  probes: [{name: "wrong <&> \\"quoted\\"", from: pod/client, to: "svc/web:80", expect: {backends: [], masquerade: true}}]
`;
const EVERY_MODE = `${head}metadata: {name: all modes}
spec: {probes: [{from: 203.0.113.1, to: "203.0.113.2:80"}]}
`;
const ERRS = `${head}metadata: {name: cannot load}
spec:
  datapath: {modes: [iptables]}
  objects: [{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {ports: [{port: 99999}]}}]
  probes: [{name: a, from: 203.0.113.1, to: "203.0.113.2:80"}, {name: b, from: pod/x, to: pod/y}]
---
${head}metadata: {name: half resolves}
spec:
  manifests: [shop.yaml]
  datapath: {modes: [iptables]}
  probes: [{name: no such pod, from: pod/nobody, to: "svc/web:80"}, {name: fine, from: pod/client, to: "svc/web:80"}]
`;

let folder = '';
beforeAll(() => {
  folder = makeFolder({
    'shop.yaml': SHOP,
    'passes.yaml': PASSES,
    'fails.yaml': FAILS,
    'every-mode.yaml': EVERY_MODE,
    'errs.yaml': ERRS,
    'both/one.yaml': `${PASSES.replace('./shop.yaml', '../shop.yaml')}---\n${FAILS.replace('shop.yaml', '../shop.yaml')}`,
    'both/notes.txt': 'ConnectivityTest',
    'empty.yaml': `${head}spec: {}\n---\n${head}spec: {probes: []}\n`,
    'array.json': JSON.stringify([
      { apiVersion: 'flatpath.dev/v1alpha1', kind: 'ConnectivityTest', spec: { datapath: { modes: ['ebpf'] } } },
      { apiVersion: 'flatpath.dev/v1alpha1', kind: 'ConnectivityTest', spec: { datapath: { modes: ['iptables'] } } },
    ]),
  });
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface JsonReport {
  readonly version: number;
  readonly summary: Record<string, number>;
  readonly tests: readonly {
    readonly name: string;
    readonly mode: string;
    readonly error: string | null;
    readonly probes: readonly {
      readonly name: string;
      readonly passed: boolean;
      readonly expected: object;
      readonly actual: object;
      readonly error: string | null;
    }[];
  }[];
}

function report(...args: string[]): { status: number | null; json: JsonReport; stderr: string } {
  const { status, stdout, stderr } = flatpath(['test', ...args, '--reporter', 'json'], { cwd: folder });
  return { status, json: JSON.parse(stdout) as JsonReport, stderr };
}

describe('flatpath test', () => {
  it('exits 0 when all hold, 1 when a probe fails, 2 when anything has an error', () => {
    expect(flatpath(['test', 'passes.yaml'], { cwd: folder }).status).toBe(0);
    expect(flatpath(['test', 'passes.yaml', 'fails.yaml'], { cwd: folder }).status).toBe(1);
    expect(flatpath(['test', 'errs.yaml', 'fails.yaml'], { cwd: folder }).status).toBe(2);
  });

  it('reports every field of every probe as JSON', () => {
    const { status, json } = report('passes.yaml', 'fails.yaml');
    expect(status).toBe(1);
    expect(json.version).toBe(1);
    expect(json.summary).toEqual({ tests: 3, probes: 7, passed: 6, failed: 1 });
    expect(json.tests.map(({ name, mode, error }) => [name, mode, error])).toEqual([
      ['same name', 'iptables', null],
      ['same name', 'ebpf', null],
      ['same name', 'ebpf', null],
    ]);
    expect(json.tests[0]!.probes[0]).toMatchObject({
      name: 'the Service answers',
      passed: true,
      error: null,
      actual: {
        verdict: 'delivered',
        reason: 'none',
        translated: true,
        backends: ['10.244.1.10:8080', '10.244.2.10:8080'],
        masquerade: false,
      },
    });
    for (const { probes } of json.tests) {
      for (const probe of probes) {
        expect(Object.keys(probe)).toEqual(expect.arrayContaining(['name', 'passed', 'expected', 'actual', 'error']));
        expect(Object.keys(probe.actual)).toEqual(['verdict', 'reason', 'translated', 'backends', 'masquerade']);
      }
    }
  });

  it('runs all modes of a document that lists none', () => {
    const { status, json } = report('every-mode.yaml');
    expect(status).toBe(0);
    expect(json.tests.map(({ mode, error }) => [mode, error])).toEqual([
      ['iptables', null],
      ['nftables', null],
      ['ipvs', null],
      ['ebpf', null],
    ]);
    expect(json.summary).toEqual({ tests: 4, probes: 4, passed: 4, failed: 0 });
    expect(report('every-mode.yaml', '--mode', 'nftables').json.tests).toHaveLength(1);
  });

  it('picks a mode among those that a document lists', () => {
    const { status, json } = report('fails.yaml', '--mode', 'iptables');
    expect(status).toBe(0);
    expect(json.tests).toEqual([]);
  });

  it('runs what can run beside what cannot', () => {
    const { status, json } = report('errs.yaml');
    expect(status).toBe(2);
    const [bad, half] = json.tests;
    expect(bad!.error).toMatch(/errs\.yaml.*document 1.*Service default\/bad spec\.ports\[0\]\.port: 99999/);
    expect(bad!.probes.map(({ name, passed }) => [name, passed])).toEqual([
      ['a', false],
      ['b', false],
    ]);
    expect(half!.error).toBeNull();
    expect(half!.probes.map(({ passed, error }) => [passed, error === null])).toEqual([
      [false, false],
      [true, true],
    ]);
  });

  it('runs the other paths where one does not exist', () => {
    const { status, json, stderr } = report('nowhere.yaml', 'passes.yaml');
    expect(status).toBe(2);
    expect(stderr).toContain('nowhere.yaml');
    expect(json.summary['passed']).toBe(6);
  });

  it('reads folders, arrays, standard input and documents without probes', () => {
    expect(report('both').json.tests).toHaveLength(3);
    expect(report('array.json').json.tests.map(({ mode }) => mode)).toEqual(['ebpf', 'iptables']);
    expect(report('empty.yaml', '--mode', 'ebpf').status).toBe(0);
    const { status, stdout } = flatpath(['test', '-'], { cwd: folder, input: PASSES });
    expect([status, stdout.split('\n').length]).toEqual([0, 4]);
  });

  it('takes names as free text', () => {
    const text = `${head}metadata: {name: 7}\nspec: {probes: [{name: y, from: 203.0.113.1, to: "203.0.113.2:1"}]}`;
    const { stdout } = flatpath(['test', '-', '--mode', 'ebpf', '--reporter', 'json'], { input: text });
    const [test] = (JSON.parse(stdout) as JsonReport).tests;
    expect([test!.name, test!.probes[0]!.name]).toEqual(['7', 'y']);
  });

  it('names file, document and field of everything that is wrong with tests', () => {
    const wrong: readonly (readonly [spec: string, place: string])[] = [
      ['{probe: []}', 'document 2 spec'],
      ['{probes: [{from: 10.0.0.1}]}', 'document 2 spec.probes[0]'],
      [
        '{probes: [{from: 10.0.0.1, to: 10.0.0.2, expect: {verdict: lost}}]}',
        'document 2 spec.probes[0].expect.verdict',
      ],
      ['{probes: [{from: 10.0.0.1, to: 10.0.0.2, expect: {reason: no}}]}', 'document 2 spec.probes[0].expect.reason'],
      ['{datapath: {modes: [ebpf, tables]}}', 'document 2 spec.datapath.modes[1]'],
      ['{datapath: {kubeProxy: {clusterCIDR: [10.0.0.0/99]}}}', 'document 2 spec.datapath.kubeProxy.clusterCIDR[0]'],
      ['[', 'is not YAML'],
    ];
    const files = wrong.map(([spec], i) => [`${i}.yaml`, `a: b\n---\n${head}spec: ${spec}\n`] as const);
    const own = makeFolder(Object.fromEntries(files));
    const { status, stdout } = flatpath(['test', '.', '--mode', 'ebpf'], { cwd: own });
    rmSync(own, { recursive: true });
    expect(status).toBe(2);
    wrong.forEach(([, place], i) => {
      const line = stdout.split('\n').find((text) => text.startsWith(`    ${i}.yaml:`));
      expect(line).toContain(place);
    });
  });

  it('writes no colour into a pipe', () => {
    const { stdout } = flatpath(['test', 'fails.yaml'], { cwd: folder });
    expect(stdout).toContain('masquerade: expected true, got false');
    expect(stdout).not.toContain('\u001b');
  });

  it('reports as JUnit', () => {
    const { stdout } = flatpath(
      ['test', 'passes.yaml', 'fails.yaml', 'errs.yaml', 'empty.yaml', '--reporter', 'junit'],
      {
        cwd: folder,
      },
    );
    const tags = readXml(stdout);
    const [all] = tags;
    expect(all!.name).toBe('testsuites');
    const cases = tags.filter(({ name }) => name === 'testcase').length;
    const failures = tags.filter(({ name }) => name === 'failure').length;
    const errors = tags.filter(({ name }) => name === 'error').length;
    expect(all!.attributes).toEqual({
      name: 'flatpath',
      tests: `${cases}`,
      failures: `${failures}`,
      errors: `${errors}`,
    });
    expect([failures, errors > 0]).toEqual([1, true]);
    expect(tags.some(({ attributes }) => attributes['name'] === 'wrong <&> "quoted"')).toBe(true);
  });

  it('finishes a suite of a thousand documents', () => {
    const documents = Array.from({ length: 1000 }, (_, i) => ({
      apiVersion: 'flatpath.dev/v1alpha1',
      kind: 'ConnectivityTest',
      metadata: { name: `test ${i}` },
      spec: {
        objects: [
          {
            apiVersion: 'v1',
            kind: 'Pod',
            metadata: { name: 'p' },
            spec: { nodeName: 'n' },
            status: { podIP: '10.244.0.9' },
          },
        ],
        datapath: { modes: ['ebpf'] },
        probes: [{ from: '203.0.113.1', to: 'pod/p:80', expect: { verdict: 'delivered' } }],
      },
    }));
    const own = makeFolder({ 'suite.json': JSON.stringify(documents) });
    const { status, stdout } = flatpath(['test', 'suite.json'], { cwd: own });
    rmSync(own, { recursive: true });
    expect(status).toBe(0);
    expect(stdout).toContain('1000 probes in 1000 tests: 1000 passed, 0 failed');
  });

  it('says what ConfigMaps decided and which policies nothing enforces; --strict makes those an error', () => {
    const objects = [
      { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a' } },
      { apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy', metadata: { name: 'deny' }, spec: {} },
      {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'kube-proxy', namespace: 'kube-system' },
        data: { 'config.conf': 'kind: KubeProxyConfiguration\nmode: iptables\nclusterCIDR: 10.42.0.0/16\n' },
      },
    ];
    const spec = {
      datapath: { modes: ['ebpf'] },
      objects,
      probes: [{ name: 'out', from: 'pod/a', to: '192.0.2.1:80' }],
    };
    const document = { apiVersion: 'flatpath.dev/v1alpha1', kind: 'ConnectivityTest', metadata: { name: 't' }, spec };
    const own = makeFolder({ 'suite.json': JSON.stringify(document) });
    const { status, stdout, stderr } = flatpath(['test', 'suite.json'], { cwd: own });
    expect(status).toBe(0);
    expect(stdout).toContain('not enforced, but may change an answer: CiliumNetworkPolicy default/deny');
    expect(stderr).toContain('clusterCIDR 10.42.0.0/16 from ConfigMap kube-system/kube-proxy');
    const junit = flatpath(['test', 'suite.json', '--reporter', 'junit'], { cwd: own });
    expect(junit.stdout).toContain('CiliumNetworkPolicy default/deny</system-out>');
    const strict = flatpath(['test', 'suite.json', '--strict', '--reporter', 'json'], { cwd: own });
    rmSync(own, { recursive: true });
    expect(strict.status).toBe(2);
    const report = JSON.parse(strict.stdout) as { tests: { error: string; probes: { passed: boolean }[] }[] };
    expect(report.tests[0]!.error).toContain('CiliumNetworkPolicy default/deny');
    expect(report.tests[0]!.probes[0]!.passed).toBe(false);
  });
});

interface Tag {
  readonly name: string;
  readonly attributes: Record<string, string>;
}

/** The opening tags of an XML text, which must be well formed. */
function readXml(text: string): Tag[] {
  const ENTITIES: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', '#10': '\n' };
  const plain = (value: string): string =>
    value.replace(/&([^;]*);/g, (whole, name: string) => {
      expect(Object.keys(ENTITIES), whole).toContain(name);
      return ENTITIES[name]!;
    });
  const open: string[] = [];
  const tags: Tag[] = [];
  const body = text.replace('<?xml version="1.0" encoding="UTF-8"?>\n', '').trim();
  let at = 0;
  for (const match of body.matchAll(/<(\/?)([a-z-]+)((?: [a-z]+="[^"<]*")*)(\/?)>\s*/g)) {
    expect(match.index).toBe(at);
    at += match[0].length;
    const [, closes, name, rest, alone] = match;
    if (closes === '/') expect(open.pop()).toBe(name);
    else {
      const attributes = [...rest!.matchAll(/ ([a-z]+)="([^"]*)"/g)].map(([, key, value]) => [key, plain(value!)]);
      tags.push({ name: name!, attributes: Object.fromEntries(attributes) as Record<string, string> });
      if (alone === '') open.push(name!);
    }
  }
  expect([at, open]).toEqual([body.length, []]);
  return tags;
}
