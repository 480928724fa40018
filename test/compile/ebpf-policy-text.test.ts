/** Policies in `render --as ebpf`: what it looks like, and that it is read back as the image that it was printed from. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileEbpf } from '../../control/src/compile/ebpf.ts';
import { compileEbpfPolicy } from '../../control/src/compile/ebpf-policy.ts';
import { renderEbpf } from '../../control/src/compile/ebpf-render.ts';
import type { ClusterModel } from '../../control/src/compile/image.ts';
import { compileEbpfDump } from '../../control/src/ruleset/ebpf-compile.ts';
import { dumpedSubjects } from '../../control/src/ruleset/ebpf-policy-compile.ts';
import { policySubjects } from '../../control/src/ruleset/ebpf-policy-structure.ts';
import { describeEbpfStructure, ebpfStructuralHash } from '../../control/src/ruleset/ebpf-structure.ts';
import { parseEbpfText } from '../../control/src/ruleset/ebpf-text.ts';
import { makeModel, randomPolicies } from './policy-models.ts';
import { seeded } from './random-cluster.ts';

const MODEL = makeModel();
const NODES = ['node-1', 'node-2', 'node-3'];

function render(model: ClusterModel, node: string): string {
  return renderEbpf(model.cluster, model.config, node, model);
}

function hashOf(text: string): string {
  const dump = parseEbpfText('node.ebpf', text);
  return ebpfStructuralHash(compileEbpfDump(dump), 0, dumpedSubjects(dump));
}

describe('text of policy maps', () => {
  it('is read back as the image that it was printed from', () => {
    fc.assert(
      fc.property(randomPolicies, fc.constantFrom(...NODES), (policies, name) => {
        const model = { ...MODEL, policies };
        const compiled = compileEbpfPolicy(model.cluster, model.topology, policies, model.identities);
        const { image } = compileEbpf(model.cluster, model.config, [name], compiled);
        const node = NODES.indexOf(name);
        const subjects = compiled && policySubjects(compiled.addresses, model.topology, node);
        const dump = parseEbpfText('node.ebpf', render(model, name));
        const read = compileEbpfDump(dump);
        const readSubjects = compiled && dumpedSubjects(dump);
        expect(describeEbpfStructure(read, 0, readSubjects)).toEqual(describeEbpfStructure(image, node, subjects));
      }),
      seeded(100),
    );
  });

  it('is nothing, not a line, where no policy selects a pod', () => {
    const text = renderEbpf(MODEL.cluster, MODEL.config, 'node-1');
    expect(render(MODEL, 'node-1')).toBe(text);
    expect(text).not.toContain('identity list');
  });

  const EXAMPLE = makeModel([0, 4], undefined, [
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: 'web', namespace: 'left' },
      spec: {
        podSelector: { matchLabels: { app: 'a' } },
        ingress: [
          {
            from: [
              { namespaceSelector: {}, podSelector: { matchLabels: { app: 'b' } } },
              { ipBlock: { cidr: '203.0.113.0/24', except: ['203.0.113.128/25'] } },
            ],
            ports: [{ port: 'http' }, { port: 8000, endPort: 8999 }],
          },
        ],
      },
    },
  ]);
  const numbers = new Map(
    compileEbpfPolicy(EXAMPLE.cluster, EXAMPLE.topology, EXAMPLE.policies, EXAMPLE.identities)!.identities.map(
      ({ labels, number }) => [labels.find((label) => /app|cidr/.test(label)), number],
    ),
  );

  it('tells identities, who has which, and what they may', () => {
    const text = render(EXAMPLE, 'node-1');
    const [a, b] = ['k8s:app=a', 'k8s:app=b'].map((label) => numbers.get(label));
    expect([a, b].every((number) => number! >= 256 && number! <= 65_535)).toBe(true);
    const section = (command: string) => text.split(`# cilium-dbg ${command}\n`)[1]!.split('\n\n')[0]!;
    const tidy = (lines: string) => lines.replaceAll(/ {2,}/g, '  ');
    expect(tidy(section('endpoint list'))).toBe(
      'ENDPOINT  INGRESS  EGRESS  IPS  POD\n1  1  -  10.244.0.10,fd00:10:244::10  left/a-0',
    );
    expect(tidy(section('identity list'))).toContain(`${b}  k8s:app=b k8s:io.cilium`);
    const cache = tidy(section('bpf ipcache list'));
    expect(cache).toContain('192.168.0.1/32  1  ');
    expect(cache).toContain('192.168.0.2/32  6  ');
    expect(cache).toContain(`10.244.0.10/32  ${a}  `);
    expect(cache).toMatch(/203\.0\.113\.128\/25 {2}16\d{6} {2}0 {2}-/);
    expect(tidy(section('bpf policy get --all')).replaceAll(/\d+,\d+$/gm, 'P')).toBe(
      [
        'MAP  DIRECTION  POLICY  PORT/PROTO  BY  PEERS',
        '1  ingress  Allow  80/TCP  NetworkPolicy left/web spec.ingress[0].from[1]  1',
        '1  ingress  Allow  8000-8999/TCP  NetworkPolicy left/web spec.ingress[0].from[1]  1',
        '1  ingress  Deny  ANY  isolated by NetworkPolicy left/web  1',
        '1  ingress  Allow  80/TCP  NetworkPolicy left/web spec.ingress[0].from[0]  4',
        '1  ingress  Allow  8000-8999/TCP  NetworkPolicy left/web spec.ingress[0].from[0]  4',
        '1  ingress  Deny  ANY  isolated by NetworkPolicy left/web  4',
        '1  ingress  Deny  ANY  isolated by NetworkPolicy left/web  *',
      ].join('\n'),
    );
  });

  it('has another structure where anything in it is another', () => {
    const text = render(EXAMPLE, 'node-1');
    const changes = [
      text,
      text.replace('80/TCP', '81/TCP'),
      text.replace(/Deny( +)ANY(.*)\*/, 'Allow$1ANY$2*'),
      text.replaceAll('203.0.113.128/25', '203.0.113.64/26'),
      text.replace(/(policy-hairpin +)allowed/, '$1judged'),
      text.replace(/(\n192\.168\.0\.2\/32 +)6 /, '$11 '),
      text.replace(/(left\/web spec.ingress\[0\].from\[1\] +)1\n/g, '$14\n'),
    ];
    expect(new Set(changes).size).toBe(changes.length);
    const hashes = changes.map(hashOf);
    expect(hashes.map((hash) => hashes.indexOf(hash))).toEqual(changes.map((_, i) => i));
    expect(hashOf(text.replaceAll('spec.ingress[0].from[1]', 'spec.ingress[0].from[7]'))).toBe(hashOf(text));
  });

  it('is refused with every line that does not fit', () => {
    const text = render(EXAMPLE, 'node-1');
    const wrong = (change: string) => () => parseEbpfText('node.ebpf', change);
    expect(wrong(text.replace('80/TCP', '80/ICMP'))).toThrow("'80/ICMP' is no port and protocol");
    expect(wrong(text.replace('8000-8999', '8999-8000'))).toThrow("'8999-8000/TCP' is no range of ports");
    expect(wrong(text.replace('Allow', 'Maybe'))).toThrow("'Maybe' is no verdict");
    expect(wrong(text.replace(/\n.*\*\n/, '\n'))).toThrow('policy map 1 has no line for all other peers');
  });
});
