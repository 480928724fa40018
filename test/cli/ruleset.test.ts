/** Real nodes' dumps on the command line: trace, test, replay, render --check. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildFrame } from '../../engine/src/wire/build.ts';
import { readCapture } from '../../engine/src/wire/capture.ts';
import { pcapWriter } from '../../engine/src/wire/pcap.ts';
import { flatpath, makeFolder, ROOT, SHOP } from './command.ts';

const DOCKER = ['--ruleset', 'examples/dumps/docker.iptables', '--addresses', 'examples/dumps/docker.json'];

describe('trace --ruleset', () => {
  it('tells the story of a packet through a node of dumps', () => {
    const { status, stdout, stderr } = flatpath([
      'trace',
      ...DOCKER,
      '--from',
      '203.0.113.7',
      '--to',
      '192.0.2.10:8080',
    ]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain('node  enters by interface eth0');
    expect(stdout).toContain(
      '    -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80\n' +
        '      ← Ruleset dump (examples/dumps/docker.iptables:44)',
    );
    expect(stdout).toContain('  route: by interface docker0');
    expect(stdout).toContain('verdict: forwarded');
  });

  it('answers in JSON, dumps and all', () => {
    const { status, stdout } = flatpath([
      'trace',
      ...DOCKER,
      '--from',
      '198.51.100.7',
      '--to',
      '192.0.2.10:8080',
      '--json',
    ]);
    expect(status).toBe(1);
    const report = JSON.parse(stdout);
    expect(report.ruleset).toEqual({
      files: ['examples/dumps/docker.iptables'],
      mode: 'iptables',
      skipped: [],
      assumed: [],
    });
    expect(report.traces).toHaveLength(1);
    expect(report.traces[0]).toMatchObject({ mode: 'iptables', verdict: 'rejected', backends: ['172.17.0.2:80'] });
    expect(report.traces[0].branches[0].hops[0]).toMatchObject({ node: 'node', interface: 'eth0' });
    const refusal = report.traces[0].branches[0].hops[0].steps.find(
      (step: { rule?: string }) => step.rule?.includes('REJECT') === true,
    );
    expect(refusal.origin).toMatchObject({ file: 'examples/dumps/docker.iptables', line: 28 });
  });

  it('names every rule that needs addresses where there are none', () => {
    const { status, stdout, stderr } = flatpath([
      'trace',
      ...DOCKER.slice(0, 2),
      '--from',
      '10.1.2.3',
      '--to',
      '192.0.2.10:80',
    ]);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    const lines = stderr.trim().split('\n');
    expect(lines.length).toBeGreaterThan(8);
    for (const line of lines)
      expect(line).toMatch(/^error: examples\/dumps\/docker\.iptables:\d+: '.*': .*give --addresses/);
    expect(stderr).toContain(":39: '--dst-type LOCAL': depends on the node's addresses");
  });

  it('leniently takes what it does not understand as never matching, and says so', () => {
    const folder = makeFolder({
      'node.iptables': '*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m u32 --u32 "0=1" -j DROP\nCOMMIT\n',
    });
    const args = [
      'trace',
      '--ruleset',
      join(folder, 'node.iptables'),
      ...DOCKER.slice(2),
      '--from',
      '10.1.2.3',
      '--to',
      '172.17.0.2:80',
    ];
    const strict = flatpath(args);
    expect(strict.status).toBe(2);
    expect(strict.stderr).toMatch(/^error: .*node\.iptables:3: '-m u32': flatpath does not know this match\n$/);
    const lenient = flatpath([...args, '--lenient']);
    expect(lenient.status).toBe(0);
    expect(lenient.stdout).toMatch(
      /taken as never matching: .*node\.iptables:3: '-m u32' flatpath does not know this match\n$/,
    );
    const json = JSON.parse(flatpath([...args, '--lenient', '--json']).stdout);
    expect(json.ruleset.skipped).toMatchObject([{ line: 3, text: '-m u32' }]);
  });

  it('stands in a cluster of manifests too, whose other nodes keep kube-proxy’s rules', () => {
    const folder = makeFolder({ 'shop.yaml': SHOP });
    const rendered = flatpath(['render', '-f', 'shop.yaml', '--node', 'node-1', '--as', 'iptables-save'], {
      cwd: folder,
    });
    const broken = rendered.stdout.replace(/^-A KUBE-SERVICES -d 10\.96\.0\.10.*\n/m, '');
    expect(broken).not.toBe(rendered.stdout);
    writeFileSync(join(folder, 'good.iptables'), rendered.stdout);
    writeFileSync(join(folder, 'broken.iptables'), broken);
    const ask = (dump: string, ...more: string[]) =>
      JSON.parse(
        flatpath(
          [
            'trace',
            '-f',
            'shop.yaml',
            '--ruleset',
            dump,
            '--from',
            'pod/client',
            '--to',
            'svc/web:80',
            '--json',
            ...more,
          ],
          {
            cwd: folder,
          },
        ).stdout,
      ).traces[0];
    expect(ask('good.iptables', '--node', 'node-1').backends).toEqual(['10.244.1.10:8080', '10.244.2.10:8080']);
    expect(ask('broken.iptables', '--node', 'node-1')).toMatchObject({ verdict: 'forwarded', backends: [] });
    // The dumps are said to be node-2's: node-1, where the client is, runs what kube-proxy writes.
    expect(ask('broken.iptables', '--node', 'node-2').backends).toEqual(['10.244.1.10:8080', '10.244.2.10:8080']);
    const unnamed = flatpath(
      ['trace', '-f', 'shop.yaml', '--ruleset', 'good.iptables', '--from', 'pod/client', '--to', 'svc/web:80'],
      { cwd: folder },
    );
    expect(unnamed).toMatchObject({ status: 2, stderr: expect.stringContaining('--node says which node') });
  });

  it('refuses what does not go together', () => {
    const say = (...args: string[]) => flatpath(['trace', '--from', '10.1.2.3', '--to', '192.0.2.10:80', ...args]);
    expect(say()).toMatchObject({ status: 2, stderr: 'error: -f PATH or --ruleset FILE is needed\n' });
    expect(say('-f', 'examples/shop', '--lenient').stderr).toBe('error: --lenient belongs to --ruleset\n');
    expect(say('-f', 'examples/shop', '--addresses', 'x').stderr).toBe('error: --addresses belongs to --ruleset\n');
    expect(say(...DOCKER, '--mode', 'ebpf').stderr).toBe('error: --mode ebpf: the dumps hold rules of iptables\n');
    const six = flatpath(['trace', ...DOCKER, '--from', '2001:db8::1', '--to', '[2001:db8::2]:80']);
    expect(six).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('add --ruleset with the output of ip6tables-save'),
    });
  });
});

describe('test --ruleset', () => {
  const document = `apiVersion: flatpath.dev/v1alpha1
kind: ConnectivityTest
metadata: {name: docker}
spec:
  probes:
    - {name: published, from: 203.0.113.7, to: "192.0.2.10:8080", expect: {verdict: forwarded, backends: ["172.17.0.2:80"]}}
    - {name: blocked, from: 198.51.100.7, to: "192.0.2.10:8080", expect: {verdict: rejected}}
    - {name: direct, from: 203.0.113.7, to: "172.17.0.2:80", expect: {verdict: dropped, reason: rule-drop}}
`;

  it('runs documents against the dumps, in the mode of the dumps alone', () => {
    const folder = makeFolder({ 'docker.yaml': document });
    const { status, stdout } = flatpath(['test', join(folder, 'docker.yaml'), ...DOCKER, '--reporter', 'json']);
    const report = JSON.parse(stdout);
    expect(report.summary).toEqual({ tests: 1, probes: 3, passed: 3, failed: 0 });
    expect(report.tests[0].mode).toBe('iptables');
    expect(report.ruleset).toMatchObject({ mode: 'iptables', skipped: [] });
    expect(status).toBe(0);
  });

  it('says in the report what was taken leniently', () => {
    const folder = makeFolder({
      'docker.yaml': document.replace(/ {4}- \{name: direct.*\n/, ''),
      'more.iptables': readFileSync(join(ROOT, DOCKER[1]!), 'utf8').replace(
        '-A DOCKER-USER -j RETURN',
        '-A DOCKER-USER -m u32 --u32 "0=1" -j DROP\n-A DOCKER-USER -j RETURN',
      ),
    });
    const args = ['test', join(folder, 'docker.yaml'), '--ruleset', join(folder, 'more.iptables'), ...DOCKER.slice(2)];
    expect(flatpath(args).status).toBe(2);
    const { status, stdout } = flatpath([...args, '--lenient']);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^taken as never matching: .*more\.iptables:29: '-m u32'/);
    expect(stdout).toContain('2 probes in 1 tests: 2 passed, 0 failed');
  });
});

describe('replay --ruleset', () => {
  it('sends a capture through a node of dumps', () => {
    const folder = makeFolder({});
    const pieces: Uint8Array[] = [];
    const write = pcapWriter('microseconds', (piece) => pieces.push(piece.slice()));
    const frame = (to: number) =>
      buildFrame({
        ip: { family: 4, src: [0xcb007107 | 0, 0, 0, 0], dst: [to | 0, 0, 0, 0] },
        l4: { protocol: 'tcp', sport: 4000, dport: 8080, flags: 2, seq: 1, window: 1000 },
      });
    for (const data of [frame(0xc000020a), frame(0xac110002)]) write(0, 0, data, data.length);
    writeFileSync(join(folder, 'in.pcap'), Buffer.concat(pieces));
    const out = join(folder, 'out.pcap');
    const { status, stdout } = flatpath(['replay', join(folder, 'in.pcap'), '-o', out, ...DOCKER, '--json']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      mode: 'iptables',
      packets: 2,
      translated: 1,
      ends: { forwarded: 1, 'dropped rule-drop': 1 },
      ruleset: { mode: 'iptables' },
    });
    const [record] = [...readCapture(readFileSync(out))];
    expect([...record!.data.subarray(14 + 16, 14 + 20)]).toEqual([172, 17, 0, 2]);
  });
});

describe('render --check', () => {
  const folder = makeFolder({ 'shop.yaml': SHOP });
  const rendered = flatpath(['render', '-f', 'shop.yaml', '--node', 'node-1', '--as', 'iptables-save'], {
    cwd: folder,
  }).stdout;
  const check = (dump: string, ...more: string[]) => {
    writeFileSync(join(folder, 'dump'), dump);
    return flatpath(['render', '-f', 'shop.yaml', '--node', 'node-1', '--check', 'dump', ...more], { cwd: folder });
  };

  it('finds nothing in what the manifests give, counters, comments and spelling aside', () => {
    const { status, stdout } = check(rendered);
    expect(stdout).toMatch(/^dump: \d+ as they should be on node-1, 0 missing, 0 stale, 0 foreign\n$/);
    expect(status).toBe(0);
    const respelled = rendered
      .replaceAll('[0:0]', '[12:3456]')
      .replace(/-m comment --comment (".*?"|\S+) /g, '')
      .replaceAll('--set-xmark 0x4000/0x4000', '--or-mark 0x4000')
      .replace(/ -p tcp /g, ' -p 6 ');
    expect(check(respelled).status).toBe(0);
  });

  it('names what is missing, stale and foreign', () => {
    const dump = rendered
      .replace(/^-A KUBE-SERVICES -d 10\.96\.0\.10.*\n/m, '')
      .replace(
        /^(:KUBE-SERVICES - \[0:0\]\n)(?=[\s\S]*\*mangle)/m,
        '$1:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]\n:CNI-HOSTPORT-MASQ - [0:0]\n',
      )
      .replace(
        /^(COMMIT\n)/m,
        '-A KUBE-SERVICES -d 10.96.0.99/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA\n' +
          '-A CNI-HOSTPORT-MASQ -m u32 --u32 "0=1" -j ACCEPT\n-A FORWARD -j CNI-HOSTPORT-MASQ\n$1',
      );
    const { status, stdout } = check(dump);
    expect(status).toBe(1);
    expect(stdout).toContain('missing  nat KUBE-SERVICES: -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp');
    expect(stdout).toMatch(/stale {2}filter KUBE-SERVICES: -A KUBE-SERVICES -d 10\.96\.0\.99\/32 .* \(dump:\d+\)/);
    expect(stdout).toContain('stale  filter: :KUBE-SVC-AAAAAAAAAAAAAAAA');
    expect(stdout).toContain('foreign  filter FORWARD: -A FORWARD -j CNI-HOSTPORT-MASQ\n');
    expect(stdout).toContain('foreign  filter CNI-HOSTPORT-MASQ (1 entry)\n');
    const json = JSON.parse(check(dump, '--json').stdout);
    expect(json.missing).toHaveLength(1);
    expect(json.stale).toHaveLength(2);
    expect(json.foreign).toHaveLength(3);
    expect(json.stale[0]).toMatchObject({ place: 'filter KUBE-SERVICES', file: 'dump', line: expect.any(Number) });
  });

  it('foreign rules alone are no reason to fail, a family is told by the dump', () => {
    expect(check(rendered.replace(/^(COMMIT\n)/m, '-A INPUT -p tcp -j ACCEPT\n$1'))).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('1 foreign'),
    });
    const six = flatpath(['render', '-f', 'shop.yaml', '--node', 'node-1', '--as', 'ip6tables-save'], {
      cwd: folder,
    }).stdout;
    expect(check(six).status).toBe(0);
    expect(check(rendered + six).status).toBe(0);
  });

  it('needs a dump or a form, not both', () => {
    expect(flatpath(['render', '-f', 'shop.yaml'], { cwd: folder })).toMatchObject({
      status: 2,
      stderr: 'error: one of --as FORM and --check DUMP is needed\n',
    });
    expect(check('no dump').stderr).toContain('is not the output of iptables-save');
  });
});
