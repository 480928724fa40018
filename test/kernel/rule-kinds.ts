/**
 * The kinds of chains, matches and targets that rules are counted under, and what every run has to meet: all kinds that
 * the rulesets of the run contain, and these lists, so that a ruleset which lost a kind is noticed too.
 */

import type { Mode } from '../../control/src/model/datapath.ts';

/** The kinds of one rule: its chain, its matches, its target. */
export function ruleKinds(mode: Mode, table: string, chain: string, rule: string): string[] {
  return mode === 'nftables' ? nftablesKinds(chain, rule) : iptablesKinds(table, chain, rule);
}

/** The chain, and the rule with its addresses, numbers and Services' names left out, for both families alike. */
function nftablesKinds(chain: string, rule: string): string[] {
  const shape = rule
    .replace(/ comment ".*"$/, '')
    .replace(/\{ [^}]* \}/g, '{ … }')
    .replace(/\bip6\b/g, 'ip')
    .replace(/ to \S+$/, ' to …')
    .replace(/\bmod \d+/, 'mod …')
    .replace(/(saddr|daddr)( !=)? [0-9a-f:][0-9a-f.:/]*(?= |$)/g, '$1$2 …');
  const words = shape.split(' ').map(shortName).join(' ');
  const kinds = [`chain ${shortName(chain)}`];
  if (POLICY_CHAIN.test(chain)) return [...kinds, ...policyKinds(words)];
  return NEVER_SENT.test(words) ? kinds : [...kinds, `rule ${words}`];
}

const POLICY_CHAIN = /^(?:egress|ingress)-[a-z]+-[0-9a-f]{16}-/;
/** Between hosts of a link; the judge answers for them. */
const NEVER_SENT = /^icmpv6 type \{ … \} accept$/;

/**
 * Each match of a policy's rule, and what it does: peers, ports and actions meet in too many ways. Which sets are asked is
 * counted where they are.
 */
function policyKinds(words: string): string[] {
  return words
    .split(/(?<! \.) (?=ip |(?:tcp|udp|sctp) dport|meta l4proto|return$|drop$|goto )/)
    .map((part) =>
      part
        .replace(/^ip [sd]addr != .*/, 'not peer')
        .replace(/^ip [sd]addr @.*/, 'peer in a set')
        .replace(/^ip [sd]addr …/, 'peer in a block')
        .replace(/^(?:tcp|udp|sctp) dport .*/, 'ports of a protocol')
        .replace(/^meta l4proto (?!\.).*/, 'whole protocols')
        .replace(/^goto .*/, 'goto the next tier'),
    )
    .map((part) => `policy ${part}`);
}

/**
 * `service-`, `endpoint-` and so on without the Service, sets and chains of policies without their hash; other names as they
 * are.
 */
export function shortName(name: string): string {
  const own = name.replace(/^(ipset )POLICY-(?:6-)?([A-Z]+)-[A-Z2-7]{16}$/, '$1POLICY-$2-…');
  const policy = own
    .replace(/^(@(?:pods|nodes|ports|cluster))-[0-9a-f]{16}$/, '$1-…')
    .replace(/^((?:egress|ingress)-[a-z]+)-[0-9a-f]{16}-.*/, '$1-…');
  return policy.replace(/^(@?(?:service|local|external|firewall|endpoint|affinity)-)[A-Z2-7]{8}-.*/, '$1…');
}

const PER_SERVICE = /^(KUBE-(?:SVC|SVL|EXT|FW|SEP))-[A-Z2-7]{16}$/;

/** Chains and sets of policies that carry a hash. */
const BY_HASH = /^(POLICY-(?:6-)?[A-Z]+)-[A-Z2-7]{16}$/;

function iptablesKinds(table: string, chain: string, rule: string): string[] {
  const kinds = [`chain ${table} ${chain.replace(PER_SERVICE, '$1').replace(BY_HASH, '$1')}`];
  // No packet of the judge's finds neighbours: all are static.
  if (rule.includes(' --icmpv6-type ')) return kinds;
  const words = rule
    .replace(/"(?:\\.|[^"\\])*"/g, '""')
    .split(' ')
    .slice(2);
  for (const [i, word] of words.entries()) {
    const invert = words[i - 1] === '!' ? '! ' : '';
    const value = words[i + 1] ?? '';
    if (word === '-j') kinds.push(`target ${/^(KUBE|POLICY)-/.test(value) ? 'jump' : value}`);
    else if (word === '-g') kinds.push('target goto');
    else if (word === '--match-set') {
      kinds.push(`match ${invert}${word} ${value.replace(BY_HASH, '$1').replace('-6-', '-')}`);
    } else if (word === '-p' || word === '--ctstate') kinds.push(`match ${invert}${word} ${value}`);
    else if (word.startsWith('-') && !SILENT_OPTIONS.has(word)) kinds.push(`match ${invert}${word}`);
  }
  return kinds;
}

/** Options that say no more than the match or target that they belong to. */
const SILENT_OPTIONS = new Set([
  '-m',
  '--comment',
  '--seconds',
  '--reap',
  '--name',
  '--mask',
  '--rsource',
  '--mode',
  '--reject-with',
  '--set-xmark',
  '--to-destination',
  '--random-fully',
]);

const IPTABLES_CHAINS = [
  ...['INPUT', 'FORWARD', 'OUTPUT', 'KUBE-SERVICES', 'KUBE-EXTERNAL-SERVICES', 'KUBE-NODEPORTS'],
  ...['KUBE-PROXY-FIREWALL', 'KUBE-FORWARD', 'KUBE-FIREWALL'],
].map((chain) => `chain filter ${chain}`);
const IPTABLES_NAT_CHAINS = [
  ...['PREROUTING', 'OUTPUT', 'POSTROUTING', 'KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-MARK-MASQ', 'KUBE-POSTROUTING'],
  ...['KUBE-EXT', 'KUBE-FW', 'KUBE-SVC', 'KUBE-SVL', 'KUBE-SEP'],
].map((chain) => `chain nat ${chain}`);
const IPTABLES_MATCHES = [
  ...['-s', '! -s', '-d', '! -d', '-i', '! -i', '-p tcp', '-p udp', '-p sctp', '--dport'],
  ...['--src-type', '--dst-type', '--mark', '! --mark', '--probability', '--rcheck', '--set'],
  ...['--ctstate NEW', '--ctstate INVALID', '--ctstate RELATED,ESTABLISHED', '! --ctstate RELATED,ESTABLISHED,DNAT'],
].map((match) => `match ${match}`);
const IPTABLES_TARGETS = ['jump', 'ACCEPT', 'DROP', 'REJECT', 'RETURN', 'MARK', 'DNAT', 'MASQUERADE'].map(
  (target) => `target ${target}`,
);

const IPTABLES = [...IPTABLES_CHAINS, ...IPTABLES_NAT_CHAINS, ...IPTABLES_MATCHES, ...IPTABLES_TARGETS];

const NFTABLES_CHAINS = [
  ...['filter-prerouting', 'filter-input', 'filter-forward', 'filter-output', 'filter-output-post-dnat'],
  ...['nat-prerouting', 'nat-output', 'nat-postrouting', 'services', 'masquerading', 'mark-for-masquerade'],
  ...['firewall-check', 'service-endpoints-check', 'nodeport-endpoints-check', 'cluster-ips-check', 'reject-chain'],
  ...['service-…', 'local-…', 'external-…', 'firewall-…', 'endpoint-…', 'forward', 'input'],
  ...['admin', 'network', 'baseline'].flatMap((tier) => [`egress-${tier}-…`, `ingress-${tier}-…`]),
].map((chain) => `chain ${chain}`);
const NFTABLES_SETS = [
  ...['cluster-ips', 'nodeport-ips', 'service-ips', 'service-nodeports', 'no-endpoint-services'],
  ...['no-endpoint-nodeports', 'firewall-ips', 'affinity-…'],
  ...['egress-pods', 'ingress-pods', 'pods-to-themselves', 'pods-…', 'nodes-…', 'ports-…', 'cluster-…'],
].map((set) => `set @${set}`);
const NFTABLES_RULES = [
  ...['reject', 'ip daddr @cluster-ips reject', 'ip daddr … drop', 'ip saddr != … drop', 'ip saddr != { … } drop'],
  ...['masquerade fully-random', 'meta mark set meta mark | 0x00004000', 'meta mark set meta mark ^ 0x00004000'],
  ...['numgen random mod … vmap { … }', 'update @affinity-… { … }', 'ip saddr @affinity-… goto endpoint-…'],
  ...['tcp', 'udp', 'sctp'].map((protocol) => `meta l4proto ${protocol} dnat to …`),
  ...['fib saddr type local goto service-…', 'iifname "cni0" goto service-…', 'iifname "veth*" goto service-…'],
].map((rule) => `rule ${rule}`);
const NFTABLES = [...NFTABLES_CHAINS, ...NFTABLES_SETS, ...NFTABLES_RULES];

const FAMILIES = ['IPv4', 'IPv6'];
const ERRORS = ['port-unreachable', 'host-unreachable', 'too-big', 'time-exceeded', 'parameter-problem'];

const FEATURES = [
  ...['type ClusterIP', 'type NodePort', 'type LoadBalancer', 'several ports', 'session affinity', 'no endpoints'],
  ...['internalTrafficPolicy Local', 'externalTrafficPolicy Local', 'load balancer source ranges'],
  ...['terminating endpoints', 'zone hints', 'node hints', 'endpoints outside the cluster', 'host network endpoints'],
  ...['ClusterIP', 'unserved port of a ClusterIP', 'unallocated ClusterIP', 'external IP', 'load balancer'],
  ...['load balancer in proxy mode', 'nodePort', 'nodePort of another node', 'nodePort on loopback'],
  ...['nodePort on a second address', 'health check nodePort', 'hairpin'],
  ...['pod', 'remote pod', 'address of no pod', 'node', 'other node', 'outside address'],
  ...['pod client', 'pod that is an endpoint', 'unlisted pod', 'other node as client', 'remote pod as client'],
  ...['outside client', 'forged source', 'local process', 'local process on loopback'],
  "node's own address from outside",
  ...['from pod', 'from stray', 'from peer', 'from outside', 'from host'],
  ...['out to pod', 'out to peer', 'out to outside', 'out to host', "client's packet", "server's packet"],
  ...['tcp', 'udp', 'sctp', 'icmp', 'other'].flatMap((of) => FAMILIES.map((family) => `${of} over ${family}`)),
  ...FAMILIES.map((family) => `answer over ${family}`),
  ...['options', 'fragments', 'reordered fragments'].flatMap((of) => FAMILIES.map((family) => `${of} over ${family}`)),
  ...['server', 'router', 'client'].map((from) => `error of the ${from}`),
  ...ERRORS.flatMap((error) => FAMILIES.map((family) => `error ${error} over ${family}`)),
  ...['syn', 'syn-ack', 'ack', 'data', 'fin', 'rst', 'no-flags', 'syn-fin'].map((form) => `tcp ${form}`),
  ...['out-of-window', 'bad-checksum'].map((form) => `tcp ${form}`),
  ...['datagram', 'no-checksum', 'bad-checksum'].map((form) => `udp ${form}`),
  ...['init', 'init-ack', 'cookie-echo', 'cookie-ack', 'data', 'sack', 'heartbeat', 'heartbeat-ack'].map(
    (form) => `sctp ${form}`,
  ),
  ...['shutdown', 'shutdown-ack', 'shutdown-complete', 'abort', 'bad-checksum'].map((form) => `sctp ${form}`),
  ...['echo', 'echo-reply', 'timestamp', 'bad-checksum'].map((form) => `icmp ${form}`),
  ...['martian', 'rule-drop', 'ttl-exceeded'].map((reason) => `ends ${reason}`),
].map((feature) => `feature ${feature}`);

const CONNTRACK = [
  ...['NEW original', 'ESTABLISHED original', 'ESTABLISHED reply', 'RELATED original', 'RELATED reply'],
  'INVALID original',
].map((state) => `conntrack ${state}`);

/** What a run in a mode has to meet, whatever its rulesets contain. */
export function requiredKinds(mode: Mode): string[] {
  return [...(mode === 'nftables' ? NFTABLES : IPTABLES), ...FEATURES, ...CONNTRACK];
}
