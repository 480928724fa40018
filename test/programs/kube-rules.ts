/**
 * A few of kube-proxy's rules by hand, in both families: Service svcOne:80/TCP and 53/UDP on podTwo:8080 and
 * podThree:8080, nodePort 30080, masquerade for sources outside the pods, hairpin, and the fixed chains.
 */
import {
  ADDRTYPE_LOCAL,
  CTSTATE_ESTABLISHED,
  CTSTATE_INVALID,
  CTSTATE_NEW,
  CTSTATE_RELATED,
  HOOK_FORWARD,
  HOOK_INPUT,
  HOOK_OUTPUT,
  HOOK_POSTROUTING,
  HOOK_PREROUTING,
  REJECT_PORT_UNREACHABLE,
  type RuleList,
  TABLE_FILTER,
  TABLE_NAT,
} from '../../engine/src/tables/rule-list.ts';
import { podThree, podTwo, svcOne } from './addresses.ts';
import {
  accept,
  type Base,
  back,
  ctstate,
  dnat,
  dport,
  drop,
  dst,
  dstType,
  flipMark,
  jump,
  mark,
  masquerade,
  not,
  proto,
  type Rule,
  reject,
  ruleList,
  setMark,
  src,
  statistic,
} from './rules.ts';

export const MARK_MASQ = 0x4000;
const TCP = 6;
const UDP = 17;

export const KUBE_BASES: readonly Base[] = [
  { hook: HOOK_PREROUTING, table: TABLE_NAT, chain: 'PREROUTING' },
  { hook: HOOK_OUTPUT, table: TABLE_NAT, chain: 'OUTPUT' },
  { hook: HOOK_POSTROUTING, table: TABLE_NAT, chain: 'POSTROUTING' },
  { hook: HOOK_INPUT, table: TABLE_FILTER, chain: 'INPUT' },
  { hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'FORWARD' },
  { hook: HOOK_OUTPUT, table: TABLE_FILTER, chain: 'FILTER-OUTPUT' },
];

export function kubeChains(family: 4 | 6): Record<string, readonly Rule[]> {
  const vip = svcOne[family];
  const podCidr = family === 4 ? '10.244.0.0' : 'fd00:10:244::';
  const podBits = family === 4 ? 16 : 56;
  const endpoint = (pod: { readonly 4: string; readonly 6: string }): Rule[] => [
    jump('KUBE-MARK-MASQ', src(pod[family])),
    dnat(pod[family], 8080, proto(TCP)),
    dnat(pod[family], 8053, proto(UDP)),
  ];
  return {
    PREROUTING: [jump('KUBE-SERVICES')],
    OUTPUT: [jump('KUBE-SERVICES')],
    POSTROUTING: [jump('KUBE-POSTROUTING')],
    'KUBE-SERVICES': [
      jump('KUBE-SVC', dst(vip), proto(TCP), dport(80)),
      jump('KUBE-SVC', dst(vip), proto(UDP), dport(53)),
      jump('KUBE-NODEPORTS', dstType(ADDRTYPE_LOCAL)),
    ],
    'KUBE-NODEPORTS': [jump('KUBE-EXT', proto(TCP), dport(30080))],
    'KUBE-EXT': [jump('KUBE-MARK-MASQ'), jump('KUBE-SVC')],
    'KUBE-SVC': [
      jump('KUBE-MARK-MASQ', not(src(podCidr, podBits)), dst(vip)),
      jump('KUBE-SEP-TWO', statistic(0.5)),
      jump('KUBE-SEP-THREE'),
    ],
    'KUBE-SEP-TWO': endpoint(podTwo),
    'KUBE-SEP-THREE': endpoint(podThree),
    'KUBE-MARK-MASQ': [setMark(MARK_MASQ)],
    'KUBE-POSTROUTING': [back(not(mark(MARK_MASQ))), flipMark(MARK_MASQ), masquerade()],
    INPUT: [jump('KUBE-EXTERNAL-SERVICES', ctstate(CTSTATE_NEW))],
    FORWARD: [jump('KUBE-FORWARD'), jump('KUBE-SERVICES-FILTER', ctstate(CTSTATE_NEW))],
    'FILTER-OUTPUT': [jump('KUBE-SERVICES-FILTER', ctstate(CTSTATE_NEW))],
    'KUBE-FORWARD': [
      drop(ctstate(CTSTATE_INVALID)),
      accept(mark(MARK_MASQ)),
      accept(ctstate(CTSTATE_RELATED | CTSTATE_ESTABLISHED)),
    ],
    'KUBE-SERVICES-FILTER': [reject(REJECT_PORT_UNREACHABLE, dst(vip), proto(TCP), dport(81))],
    'KUBE-EXTERNAL-SERVICES': [reject(REJECT_PORT_UNREACHABLE, dstType(ADDRTYPE_LOCAL), proto(TCP), dport(30081))],
  };
}

export function kubeRules(family: 4 | 6, more: Record<string, readonly Rule[]> = {}, bases = KUBE_BASES): RuleList {
  return ruleList(2, { ...kubeChains(family), ...more }, bases);
}
