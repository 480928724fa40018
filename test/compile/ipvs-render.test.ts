/**
 * What is printed for ipvs mode against the real tools: the sets restored into a network namespace by `ipset restore` and
 * saved again, then the rules by iptables-legacy-restore, must come back as they were. Kernels without xt_ipvs cannot take
 * `-m ipvs` rules, those without ip_vs no virtual servers: the former are left out there, the latter are read back here.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { renderIpset, renderIpvsadm, renderIpvsIptables } from '../../control/src/compile/ipvs-render.ts';
import { kubeProxyConfig, makeCluster } from './fixture.ts';
import { randomCluster, randomConfig, seeded } from './random-cluster.ts';

/** A network namespace of its own; without root also a user namespace, in which we are root. */
const UNSHARE = process.getuid?.() === 0 ? '-n' : '-rn';

function inNamespace(script: string): { status: number | null; stdout: string; stderr: string } {
  return spawnSync('unshare', [UNSHARE, 'sh', '-c', script], { encoding: 'utf8', maxBuffer: 1 << 28 });
}

const PROBE = `ipset create probe hash:ip,port,net && ip6tables-legacy -A INPUT -m physdev ! --physdev-is-in -j ACCEPT &&
  iptables-legacy -A INPUT -m set --match-set probe dst,dst,src -j ACCEPT`;
const available = inNamespace(PROBE).status === 0;
if (!available) {
  if (process.env['FLATPATH_REQUIRE_ALL'] === '1')
    throw new Error('ipset with iptables-legacy in a network namespace is missing');
  console.log('skipped: ipset with iptables-legacy in a network namespace is missing');
}
const hasIpvs = inNamespace('iptables-legacy -A INPUT -m ipvs --vaddr 192.0.2.1 -j DROP').status === 0;

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flatpath-ipvs-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface NodeText {
  readonly ipset: string;
  readonly rules4: string;
  readonly rules6: string;
}

/** The texts through the kernel, in the order in which a node needs them. */
function throughKernel(text: NodeText): NodeText {
  for (const [name, own] of Object.entries(text)) writeFileSync(join(folder, name), own);
  const { status, stdout, stderr } = inNamespace(`cd ${folder} && ipset restore < ipset && ipset save && printf '\\0' &&
    iptables-legacy-restore < rules4 && iptables-legacy-save && printf '\\0' &&
    ip6tables-legacy-restore < rules6 && ip6tables-legacy-save`);
  if (status !== 0) throw new Error(`${stderr}\n${Object.values(text).join('\n\n')}`);
  const [ipset = '', rules4 = '', rules6 = ''] = stdout.split('\0');
  return { ipset, rules4, rules6 };
}

/** Lines of an `ipset save`, hashes' own numbers left out; the kernel lists elements in the order of its hash. */
function setLines(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(/ bucketsize .*$/, ''))
    .sort();
}

/** Lines of each table, counters zeroed, comment lines left out. The order of tables depends on that of loading. */
function tablesOf(text: string): Record<string, string[]> {
  const tables: Record<string, string[]> = {};
  let lines: string[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('#') || line === '') continue;
    if (line.startsWith('*')) {
      lines = [];
      tables[line] = lines;
    }
    lines.push(line.replace(/\[\d+:\d+\]/, '[0:0]'));
  }
  return tables;
}

function withoutIpvs(text: string): string {
  if (hasIpvs) return text;
  return text
    .split('\n')
    .filter((line) => !line.includes(' -m ipvs '))
    .join('\n');
}

describe('ipset and iptables-save of ipvs mode', () => {
  it.skipIf(!available)('come back equal from the real tools, for random clusters', () => {
    fc.assert(
      fc.property(randomCluster, randomConfig, fc.constantFrom('node-1', 'node-3'), (cluster, config, node) => {
        const text = {
          ipset: renderIpset(cluster, config, node),
          rules4: withoutIpvs(renderIpvsIptables(cluster, config, node, 4)),
          rules6: withoutIpvs(renderIpvsIptables(cluster, config, node, 6)),
        };
        const saved = throughKernel(text);
        expect(setLines(saved.ipset)).toEqual(setLines(text.ipset));
        expect(tablesOf(saved.rules4)).toEqual(tablesOf(text.rules4));
        expect(tablesOf(saved.rules6)).toEqual(tablesOf(text.rules6));
      }),
      seeded(25),
    );
  });

  it('have the tables of kube-proxy in ipvs mode, without a canary', () => {
    const text = renderIpvsIptables(makeCluster({}), kubeProxyConfig(), 'node-1', 4);
    expect(text.split('\n').filter((line) => line.startsWith('*'))).toEqual(['*filter', '*nat']);
    expect(text).not.toContain('CANARY');
  });

  it('refuse a node that the cluster does not have', () => {
    for (const render of [renderIpset, renderIpvsadm]) {
      expect(() => render(makeCluster({}), kubeProxyConfig(), 'nowhere')).toThrow("the cluster has no node 'nowhere'");
    }
  });
});

/** ipvsadm's own grammar (ipvsadm(8)): what a line of `ipvsadm-restore` may be. */
const END = String.raw`(?:\d+\.\d+\.\d+\.\d+|\[[0-9a-f:.]+\]):\d+`;
const SERVICE = `(?:-t|-u|--sctp-service) ${END}`;
const LINE = new RegExp(
  String.raw`^(?:-A ${SERVICE} -s (?:rr|wrr|lc|wlc|lblc|lblcr|dh|sh|sed|nq|fo|ovf|mh)(?: -p \d+)?(?: -b [a-z0-9,-]+)?|-a ${SERVICE} -r ${END} -[mgi] -w \d+)$`,
);

describe('ipvsadm-save of ipvs mode', () => {
  it('adds every virtual server once, before its real servers', () => {
    fc.assert(
      fc.property(randomCluster, randomConfig, fc.constantFrom('rr', 'mh', 'sh'), (cluster, config, ipvsScheduler) => {
        const kubeProxy = { ...config.kubeProxy, ipvsScheduler };
        const lines = renderIpvsadm(cluster, { ...config, kubeProxy }, 'node-1')
          .split('\n')
          .slice(0, -1);
        const known = new Set<string>();
        for (const line of lines) {
          expect(line).toMatch(LINE);
          const service = line.split(' ').slice(1, 3).join(' ');
          if (line.startsWith('-A')) {
            expect(known).not.toContain(service);
            known.add(service);
          } else expect(known).toContain(service);
        }
        expect(new Set(lines).size).toBe(lines.length);
      }),
      seeded(100),
    );
  });
});
