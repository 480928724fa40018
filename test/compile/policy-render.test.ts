/**
 * Rules and sets of policies against the real tools: `ipset restore`, then iptables-legacy-restore and
 * ip6tables-legacy-restore in a network namespace, must give back what was printed, in both modes and all profiles.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ClusterModel } from '../../control/src/compile/image.ts';
import { kernelOptions } from '../../control/src/compile/iptables-kube-proxy.ts';
import { renderIptablesSave, renderPolicyIpsets } from '../../control/src/compile/iptables-save.ts';
import { renderIpset, renderIpvsIptables } from '../../control/src/compile/ipvs-render.ts';
import { NodePolicyMaker, type PolicyMode } from '../../control/src/compile/policy-node.ts';
import type { Family } from '../../control/src/model/address.ts';
import { modelOf } from '../policy/compare.ts';
import { allObjects, randomPolicyCluster } from '../policy/random-policies.ts';
import { seeded } from './random-cluster.ts';

const UNSHARE = process.getuid?.() === 0 ? '-n' : '-rn';

function inNamespace(script: string): { status: number | null; stdout: string; stderr: string } {
  return spawnSync('unshare', [UNSHARE, 'sh', '-c', script], { encoding: 'utf8', maxBuffer: 1 << 28 });
}

const PROBE = `ipset create probe hash:net && ip6tables-legacy -A INPUT -m physdev ! --physdev-is-in -j ACCEPT &&
  iptables-legacy -A INPUT -m set --match-set probe src -j ACCEPT`;
const available = inNamespace(PROBE).status === 0;
if (!available) {
  if (process.env['FLATPATH_REQUIRE_ALL'] === '1')
    throw new Error('ipset with iptables-legacy in a network namespace is missing');
  console.log('skipped: ipset with iptables-legacy in a network namespace is missing');
}
const hasIpvs = inNamespace('iptables-legacy -A INPUT -m ipvs --vaddr 192.0.2.1 -j DROP').status === 0;

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flatpath-policies-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

interface NodeText {
  readonly ipset: string;
  readonly rules4: string;
  readonly rules6: string;
}

function renderNode(model: ClusterModel, mode: PolicyMode, node: string): NodeText {
  const { cluster, config } = model;
  const own = new NodePolicyMaker(mode, model);
  const rules = (family: Family): string =>
    mode === 'iptables'
      ? renderIptablesSave(cluster, config, node, family, kernelOptions(config), own)
      : withoutIpvs(renderIpvsIptables(cluster, config, node, family, own));
  const sets = mode === 'iptables' ? renderPolicyIpsets : renderIpset;
  return { ipset: sets(cluster, config, node, own), rules4: rules(4), rules6: rules(6) };
}

/** A kernel without xt_ipvs takes no such rules. */
function withoutIpvs(text: string): string {
  if (hasIpvs) return text;
  return text
    .split('\n')
    .filter((line) => !line.includes(' -m ipvs '))
    .join('\n');
}

function throughKernel(text: NodeText): NodeText {
  for (const [name, own] of Object.entries(text)) writeFileSync(join(folder, name), own);
  const { status, stdout, stderr } = inNamespace(`cd ${folder} && ipset restore < ipset && ipset save && printf '\\0' &&
    iptables-legacy-restore < rules4 && iptables-legacy-save && printf '\\0' &&
    ip6tables-legacy-restore < rules6 && ip6tables-legacy-save`);
  if (status !== 0) throw new Error(`${stderr}\n${Object.values(text).join('\n\n')}`);
  const [ipset = '', rules4 = '', rules6 = ''] = stdout.split('\0');
  return { ipset, rules4, rules6 };
}

/** Lines without the kernel's own numbers; it lists elements in the order of its hash. */
function setLines(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(/ bucketsize .*$/, ''))
    .sort();
}

/** Lines by table, in their order. */
function ruleLines(text: string): string[] {
  return text
    .split(/^(?=\*)/m)
    .sort()
    .flatMap((table) => table.split('\n'))
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.replace(/\[\d+:\d+\]/, '[0:0]'));
}

describe.each<PolicyMode>(['iptables', 'ipvs'])('rules and sets of policies, %s', (mode) => {
  it.skipIf(!available)('come back equal from the real tools, for random clusters', { timeout: 120_000 }, () => {
    const profile = fc.constantFrom('kubernetes' as const, 'cilium' as const, 'calico' as const);
    const node = fc.constantFrom('node-1', 'node-2', 'node-3');
    fc.assert(
      fc.property(randomPolicyCluster, profile, node, (drawn, own, name) => {
        const text = renderNode(modelOf(allObjects(drawn), { policy: { profile: own } }), mode, name);
        const saved = throughKernel(text);
        expect(setLines(saved.ipset)).toEqual(setLines(text.ipset));
        expect(ruleLines(saved.rules4)).toEqual(ruleLines(text.rules4));
        expect(ruleLines(saved.rules6)).toEqual(ruleLines(text.rules6));
      }),
      seeded(25),
    );
  });
});
