/**
 * A few of kube-proxy's nftables rules by hand, in both families: Service svcOne:80/TCP and 53/UDP on podTwo and podThree,
 * its nodePort 30080, 8443/TCP with session affinity of 100 s, 81/TCP without endpoints, and a load balancer address that
 * only 198.51.100.0/24 (2001:db8:1::/48) may use.
 */
import {
  NFT_DROP,
  NFT_GOTO,
  SELECT_DADDR4,
  SELECT_DADDR6,
  SELECT_DPORT,
  SELECT_L4PROTO,
  SELECT_SADDR4,
  SELECT_SADDR6,
} from '../../engine/src/tables/nft-rules.ts';
import {
  HOOK_FORWARD,
  HOOK_INPUT,
  HOOK_OUTPUT,
  HOOK_POSTROUTING,
  HOOK_PREROUTING,
  REJECT_PORT_UNREACHABLE,
} from '../../engine/src/tables/rule-list.ts';
import { nodeOne, nodeTwo, podThree, podTwo, svcOne } from './addresses.ts';
import {
  addressWords,
  back,
  balance,
  ctState,
  daddr,
  dnat,
  dport,
  drop,
  goto,
  jump,
  l4proto,
  load,
  lookup,
  markLacks,
  masquerade,
  type NftRule,
  type NftSpec,
  notSaddr,
  orMark,
  reject,
  type SetSpec,
  saddr,
  update,
  vmap,
  xorMark,
} from './nft-fixture.ts';

const TCP = 6;
const UDP = 17;
const NEW = 8;
export const MASQ = 0x4000;
export const AFFINITY_MS = 100_000;

export const loadBalancer = { 4: '192.0.2.80', 6: '2001:db8:80::80' } as const;
export const unallocated = { 4: '10.96.7.7', 6: 'fd00:10:96::7:7' } as const;

export function kubeProxy(family: 4 | 6): NftSpec {
  const vip = svcOne[family];
  const four = family === 4;
  const words = four ? 1 : 4;
  const daddrOf = four ? SELECT_DADDR4 : SELECT_DADDR6;
  const saddrOf = four ? SELECT_SADDR4 : SELECT_SADDR6;
  const [pods, podBits] = four ? ['10.244.0.0', 16] : ['fd00:10:244::', 56];
  const key = (address: string, proto: number, port: number) => [...addressWords(address), proto, port];
  const verdicts = (fields: readonly number[], ...elements: SetSpec['elements']): SetSpec => ({
    fields,
    data: 'verdict',
    elements,
  });
  const frontend = [words, 1, 1];
  const go = (first: readonly number[], chain: string) => ({ first, verdict: NFT_GOTO, chain });
  const isNodeAddress = [...load(daddrOf), lookup('nodeport-ips')];
  const endpoint = (to: string, stamp: readonly NftRule[], port = 8080): NftRule[] => [
    [...saddr(to), jump('mark-for-masquerade')],
    ...stamp,
    [l4proto(TCP), ...dnat(to, port)],
    [l4proto(UDP), ...dnat(to, 8053)],
  ];
  const stamp = (name: string): NftRule[] => [[...load(saddrOf), update(name)]];
  const fromOutside = (port: number): NftRule => [
    ...daddr(vip),
    l4proto(TCP),
    dport(port),
    ...notSaddr(pods, podBits),
    jump('mark-for-masquerade'),
  ];
  const affinity = (stamps: number): SetSpec => ({
    fields: [words],
    data: 0,
    stamps: four ? stamps : stamps + 2,
    lifeMs: AFFINITY_MS,
    elements: [],
  });
  return {
    sets: {
      'service-ips': verdicts(
        frontend,
        go(key(vip, TCP, 80), 'service-web'),
        go(key(vip, UDP, 53), 'service-web'),
        go(key(vip, TCP, 8443), 'service-sticky'),
        go(key(loadBalancer[family], TCP, 80), 'external-web'),
      ),
      'service-nodeports': verdicts([1, 1], go([TCP, 30080], 'external-web')),
      'no-endpoint-services': verdicts(frontend, go(key(vip, TCP, 81), 'reject-chain')),
      'no-endpoint-nodeports': verdicts([1, 1], { first: [TCP, 30081], verdict: NFT_DROP }),
      'firewall-ips': verdicts(frontend, go(key(loadBalancer[family], TCP, 80), 'firewall-web')),
      'cluster-ips': { fields: [words], data: 0, elements: [{ first: addressWords(vip) }] },
      'nodeport-ips': {
        fields: [words],
        data: 0,
        elements: [nodeOne, nodeTwo].map((node) => ({ first: addressWords(node[family]) })),
      },
      'affinity-two': affinity(0),
      'affinity-three': affinity(1),
    },
    bases: [
      { chain: 'filter-prerouting', hook: HOOK_PREROUTING, priority: -110 },
      { chain: 'filter-input', hook: HOOK_INPUT, priority: -110 },
      { chain: 'filter-forward', hook: HOOK_FORWARD, priority: -110 },
      { chain: 'filter-output', hook: HOOK_OUTPUT, priority: -110 },
      { chain: 'filter-output-post-dnat', hook: HOOK_OUTPUT, priority: -90 },
      { chain: 'nat-prerouting', hook: HOOK_PREROUTING, nat: true, priority: -100 },
      { chain: 'nat-output', hook: HOOK_OUTPUT, nat: true, priority: -100 },
      { chain: 'nat-postrouting', hook: HOOK_POSTROUTING, nat: true, priority: 100 },
    ],
    chains: {
      'filter-prerouting': [[ctState(NEW), jump('firewall-check')]],
      'filter-input': [
        [ctState(NEW), jump('nodeport-endpoints-check')],
        [ctState(NEW), jump('service-endpoints-check')],
      ],
      'filter-forward': [
        [ctState(NEW), jump('service-endpoints-check')],
        [ctState(NEW), jump('cluster-ips-check')],
      ],
      'filter-output': [
        [ctState(NEW), jump('service-endpoints-check')],
        [ctState(NEW), jump('firewall-check')],
      ],
      'filter-output-post-dnat': [[ctState(NEW), jump('cluster-ips-check')]],
      'nat-prerouting': [[jump('services')]],
      'nat-output': [[jump('services')]],
      'nat-postrouting': [[jump('masquerading')]],
      services: [
        [...load(daddrOf, SELECT_L4PROTO, SELECT_DPORT), vmap('service-ips')],
        [...isNodeAddress, ...load(SELECT_L4PROTO, SELECT_DPORT), vmap('service-nodeports')],
      ],
      'firewall-check': [[...load(daddrOf, SELECT_L4PROTO, SELECT_DPORT), vmap('firewall-ips')]],
      'service-endpoints-check': [[...load(daddrOf, SELECT_L4PROTO, SELECT_DPORT), vmap('no-endpoint-services')]],
      'nodeport-endpoints-check': [
        [...isNodeAddress, ...load(SELECT_L4PROTO, SELECT_DPORT), vmap('no-endpoint-nodeports')],
      ],
      'cluster-ips-check': [
        [...load(daddrOf), lookup('cluster-ips'), reject(REJECT_PORT_UNREACHABLE)],
        [...(four ? daddr('10.96.0.0', 12) : daddr('fd00:10:96::', 112 - 16)), drop],
      ],
      'mark-for-masquerade': [orMark(MASQ)],
      masquerading: [[markLacks(MASQ), back], xorMark(MASQ), [masquerade()]],
      'reject-chain': [[reject(REJECT_PORT_UNREACHABLE)]],
      'firewall-web': [[...(four ? notSaddr('198.51.100.0', 24) : notSaddr('2001:db8:1::', 48)), drop]],
      'external-web': [[jump('mark-for-masquerade')], [goto('service-web')]],
      'service-web': [fromOutside(80), balance('endpoint-two', 'endpoint-three')],
      'endpoint-two': endpoint(podTwo[family], []),
      'endpoint-three': endpoint(podThree[family], []),
      'service-sticky': [
        fromOutside(8443),
        [...load(saddrOf), lookup('affinity-two'), goto('sticky-two')],
        [...load(saddrOf), lookup('affinity-three'), goto('sticky-three')],
        balance('sticky-two', 'sticky-three'),
      ],
      'sticky-two': endpoint(podTwo[family], stamp('affinity-two'), 8443),
      'sticky-three': endpoint(podThree[family], stamp('affinity-three'), 8443),
    },
  };
}
