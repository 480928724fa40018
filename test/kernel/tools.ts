/**
 * What the kernel judge needs of the machine: root, network namespaces, and Debian's iptables, ipset, nftables, iproute2,
 * tcpreplay and tcpdump. Without them the judge is skipped with one line; FLATPATH_REQUIRE_ALL=1 makes that a failure.
 */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { release } from 'node:os';

const TOOLS: readonly (readonly [string, string])[] = [
  ['ip', 'iproute2'],
  ['bridge', 'iproute2'],
  ['nsenter', 'util-linux'],
  ['taskset', 'util-linux'],
  ['iptables-legacy-restore', 'iptables'],
  ['ip6tables-legacy-restore', 'iptables'],
  ['ipset', 'ipset'],
  ['nft', 'nftables'],
  ['tcpreplay', 'tcpreplay'],
  ['tcpdump', 'tcpdump'],
];

/** What is missing, as words for people; empty where the judge can sit. */
export function missing(): string[] {
  if (process.getuid?.() !== 0) return ['root'];
  const lacking = TOOLS.filter(([tool]) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0);
  if (lacking.length > 0) return [...new Set(lacking.map(([tool, from]) => `${tool} (Debian package ${from})`))];
  const name = `fp-try-${process.pid}`;
  const script = `ip netns add ${name} && ip -n ${name} link add type veth && ip -n ${name} link add type bridge &&
    nsenter --net=/run/netns/${name} ipset create fp-try hash:ip &&
    nsenter --net=/run/netns/${name} iptables-legacy -A INPUT -m set --match-set fp-try src -j ACCEPT && nsenter --net=/run/netns/${name} nft list ruleset`;
  const tried = spawnSync('sh', ['-c', script], { encoding: 'utf8' });
  spawnSync('ip', ['netns', 'del', name]);
  return tried.status === 0
    ? []
    : [`network namespaces with veth, bridge, iptables with ipset, and nft: ${tried.stderr.trim()}`];
}

/** True where the judge can sit; says in one line why not, or throws where it has to. */
export function canJudge(): boolean {
  const lacking = missing();
  if (lacking.length === 0) return true;
  const words = `the kernel judge needs ${lacking.join(', ')}`;
  if (process.env['FLATPATH_REQUIRE_ALL'] === '1') throw new Error(words);
  console.log(`skipped: ${words}`);
  return false;
}

/** Version of the kernel, without what its builder appended. */
export const kernelRelease = release().replace(/-.*/, '');

/** The first processor that this process may use: replaying on one keeps packets in their order. */
export function firstProcessor(): string {
  const status = readFileSync('/proc/self/status', 'utf8');
  return /^Cpus_allowed_list:\s*(\d+)/m.exec(status)?.[1] ?? '0';
}
