/**
 * A cluster made by hand, for traffic: three nodes, two families, some pods on each, a few Services, in the iptables and
 * the ebpf mode, over connection state of 256 shards. Only what streams need; rules are the shape of kube-proxy's.
 */
import { COUNTERS } from '../../engine/src/programs/count.ts';
import { type Datapath, MODE_EBPF, MODE_IPTABLES, type Topology } from '../../engine/src/programs/datapath.ts';
import {
  attachEbpfImage,
  EBPF_SCTP,
  EBPF_SOCKET_LB,
  type EbpfImage,
  FE_AFFINITY_ID,
  FE_AFFINITY_MS,
  FE_EXTERNAL,
  FE_FLAGS,
  FE_HAS_BACKENDS,
  FE_INTERNAL,
  FE_IS_EXTERNAL_IP,
  FE_ROW,
  FRONTEND_KEY_WORDS,
  FRONTEND_WORDS,
  frontendPort,
  SEL_WORDS,
} from '../../engine/src/programs/ebpf-image.ts';
import { createActive } from '../../engine/src/programs/flow-lookup.ts';
import { createMasqueradePorts } from '../../engine/src/programs/masquerade.ts';
import { OWNER_NODE, OWNER_POD, OWNER_POD_CIDR, ownerValue } from '../../engine/src/programs/owner.ts';
import { createAffinity } from '../../engine/src/tables/affinity.ts';
import { addBackend, createBackends, setListEntry, takeList } from '../../engine/src/tables/backends.ts';
import { CT_OWN_WORDS, createConntrack } from '../../engine/src/tables/conntrack.ts';
import { createEventRing } from '../../engine/src/tables/event-ring.ts';
import { createHashTable, hashInsert5, setRowValue } from '../../engine/src/tables/hash-table.ts';
import { createLpm4, lpm4Insert } from '../../engine/src/tables/lpm4.ts';
import { createLpm6, lpm6Insert } from '../../engine/src/tables/lpm6.ts';
import { createMaglev } from '../../engine/src/tables/maglev.ts';
import {
  HOOK_FORWARD,
  HOOK_OUTPUT,
  HOOK_POSTROUTING,
  HOOK_PREROUTING,
  HOOKS,
  MASQUERADE_RANDOM_FULLY,
  MATCH_DPORT,
  MATCH_DST4,
  MATCH_DST6,
  MATCH_MARK,
  MATCH_PROTO,
  MATCH_STATISTIC,
  REJECT_PORT_UNREACHABLE,
  REJECT_TCP_RESET,
  RULE_TABLES,
  type RuleList,
  RuleListBuilder,
  TABLE_FILTER,
  TABLE_NAT,
  TARGET_ACCEPT,
  TARGET_DNAT,
  TARGET_MARK,
  TARGET_MASQUERADE,
  TARGET_REJECT,
} from '../../engine/src/tables/rule-list.ts';
import { createBurst } from '../../engine/src/wire/burst.ts';

export type Address = readonly [number, number, number, number];

export const NODES = 3;
export const PODS_PER_NODE = 8;
export const SHARDS = 256;

export interface ServiceSpec {
  readonly address4: number;
  readonly address6: Address;
  readonly proto: number;
  readonly port: number;
  readonly targetPort: number;
  /** Endpoint indices; none: the Service rejects. */
  readonly backends: readonly number[];
  /** Source is masqueraded on the way to the backend (iptables mode). */
  readonly masquerade: boolean;
  readonly affinityMs: number;
  /** Answer of the iptables mode where there is no backend. */
  readonly reset: boolean;
}

export function service(n: number, changes: Partial<ServiceSpec> = {}): ServiceSpec {
  return {
    address4: (10 << 24) | (96 << 16) | n,
    address6: [0xfd001096 | 0, 0, 0, n],
    proto: 6,
    port: 80,
    targetPort: 8080,
    backends: [1, PODS_PER_NODE + 2, 2 * PODS_PER_NODE + 3],
    masquerade: false,
    affinityMs: 0,
    reset: false,
    ...changes,
  };
}

export const pod4 = (endpoint: number): number =>
  (10 << 24) | (244 << 16) | (Math.floor(endpoint / PODS_PER_NODE) << 8) | (10 + (endpoint % PODS_PER_NODE));
export const pod6 = (endpoint: number): Address => [
  0xfd000244 | 0,
  Math.floor(endpoint / PODS_PER_NODE),
  0,
  10 + (endpoint % PODS_PER_NODE),
];
export const node4 = (node: number): number => (172 << 24) | (18 << 16) | (1 + node);
export const node6 = (node: number): Address => [0xfd000018 | 0, 0, 0, 1 + node];

function shared(from: ArrayLike<number>): Int32Array {
  const words = new Int32Array(new SharedArrayBuffer(from.length * 4));
  words.set(from);
  return words;
}

function makeTopology(): Topology {
  const pods = NODES * PODS_PER_NODE;
  const owners4 = createLpm4(256);
  const owners6 = createLpm6(256);
  const endpointAddress6 = new Int32Array(pods * 4);
  const nodeAddress6 = new Int32Array(NODES * 4);
  for (let node = 0; node < NODES; node++) {
    lpm4Insert(owners4, node4(node), 32, ownerValue(OWNER_NODE, node));
    lpm4Insert(owners4, pod4(node * PODS_PER_NODE) & ~255, 24, ownerValue(OWNER_POD_CIDR, node));
    lpm6Insert(owners6, ...node6(node), 128, ownerValue(OWNER_NODE, node));
    const [p0, p1] = pod6(node * PODS_PER_NODE);
    lpm6Insert(owners6, p0, p1, 0, 0, 64, ownerValue(OWNER_POD_CIDR, node));
    nodeAddress6.set(node6(node), node * 4);
  }
  for (let pod = 0; pod < pods; pod++) {
    lpm4Insert(owners4, pod4(pod), 32, ownerValue(OWNER_POD, pod));
    lpm6Insert(owners6, ...pod6(pod), 128, ownerValue(OWNER_POD, pod));
    endpointAddress6.set(pod6(pod), pod * 4);
  }
  return {
    nodes: NODES,
    owners4,
    owners6,
    endpointNode: shared(Array.from({ length: pods }, (_, pod) => Math.floor(pod / PODS_PER_NODE))),
    endpointAddress4: shared(Array.from({ length: pods }, (_, pod) => pod4(pod))),
    endpointAddress6: shared(endpointAddress6),
    nodeAddress4: shared(Array.from({ length: NODES }, (_, node) => node4(node))),
    nodeAddress6: shared(nodeAddress6),
    interfaces: null,
  };
}

const MASQUERADE_MARK = 0x4000;

function makeRules(family: number, services: readonly ServiceSpec[]): RuleList {
  const rules = new RuleListBuilder();
  let id = 0;
  const matchService = (s: ServiceSpec) => {
    if (family === 4) rules.match(MATCH_DST4, false, [s.address4, -1]);
    else rules.match(MATCH_DST6, false, [...s.address6, -1, -1, -1, -1]);
    rules.match(MATCH_PROTO, false, [s.proto]);
    rules.match(MATCH_DPORT, false, [s.port, s.port]);
  };
  const natAt = rules.beginBody();
  for (const s of services) {
    if (s.masquerade) {
      rules.rule(TARGET_MARK, id++, [MASQUERADE_MARK, MASQUERADE_MARK]);
      matchService(s);
    }
    s.backends.forEach((pod, i) => {
      const address = family === 4 ? [pod4(pod), 0, 0, 0] : pod6(pod);
      rules.rule(TARGET_DNAT, id++, [...address, s.targetPort, s.targetPort]);
      matchService(s);
      const left = s.backends.length - i;
      if (left > 1) rules.match(MATCH_STATISTIC, false, [Math.floor(2 ** 31 / left)]);
    });
  }
  rules.endBody();
  const postAt = rules.beginBody();
  rules.rule(TARGET_MASQUERADE, id++, [MASQUERADE_RANDOM_FULLY]);
  rules.match(MATCH_MARK, false, [MASQUERADE_MARK, MASQUERADE_MARK]);
  rules.endBody();
  const filterAt = rules.beginBody();
  for (const s of services) {
    if (s.backends.length > 0) continue;
    rules.rule(TARGET_REJECT, id++, [s.reset ? REJECT_TCP_RESET : REJECT_PORT_UNREACHABLE]);
    matchService(s);
  }
  rules.endBody();
  const bases = new Array<number>(HOOKS * RULE_TABLES).fill(-1);
  bases[HOOK_PREROUTING * RULE_TABLES + TABLE_NAT] = 0;
  bases[HOOK_OUTPUT * RULE_TABLES + TABLE_NAT] = 0;
  bases[HOOK_POSTROUTING * RULE_TABLES + TABLE_NAT] = 1;
  bases[HOOK_FORWARD * RULE_TABLES + TABLE_FILTER] = 2;
  bases[HOOK_OUTPUT * RULE_TABLES + TABLE_FILTER] = 2;
  const perNode = <T>(row: readonly T[]): T[] => Array.from({ length: NODES }, () => row).flat();
  return rules.build(
    3,
    Array.from({ length: NODES }, (_, node) => node),
    perNode([natAt, postAt, filterAt]),
    perNode(bases),
    perNode(new Array<number>(HOOKS * RULE_TABLES).fill(TARGET_ACCEPT)),
  );
}

function makeEbpf(services: readonly ServiceSpec[]): EbpfImage {
  const frontends = createHashTable(FRONTEND_KEY_WORDS, FRONTEND_WORDS, services.length * 2 + 8);
  const backends = createBackends(256, 512);
  const selections: number[] = [];
  services.forEach((s, i) => {
    for (const family of [4, 6]) {
      const list = takeList(backends, s.backends.length);
      s.backends.forEach((pod, k) => {
        const address: Address = family === 4 ? [pod4(pod), 0, 0, 0] : pod6(pod);
        const node = Math.floor(pod / PODS_PER_NODE);
        setListEntry(backends, list, k, addBackend(backends, ...address, s.targetPort, node, pod, 1 + pod, -1));
      });
      const set = selections.length / SEL_WORDS;
      selections.push(list, s.backends.length, -1, 0, 0);
      const key = frontendPort(family, s.port, s.proto);
      const row =
        family === 4
          ? hashInsert5(frontends, s.address4, 0, 0, 0, key)
          : hashInsert5(frontends, s.address6[0], s.address6[1], s.address6[2], s.address6[3], key);
      setRowValue(frontends, row, FE_ROW, i * 2 + (family === 6 ? 1 : 0));
      setRowValue(frontends, row, FE_FLAGS, FE_IS_EXTERNAL_IP | (s.backends.length > 0 ? FE_HAS_BACKENDS : 0));
      setRowValue(frontends, row, FE_EXTERNAL, set);
      setRowValue(frontends, row, FE_INTERNAL, set);
      setRowValue(frontends, row, FE_AFFINITY_MS, s.affinityMs);
      setRowValue(frontends, row, FE_AFFINITY_ID, i * 2 + (family === 6 ? 1 : 0));
    }
  });
  const empty = () => new SharedArrayBuffer(32);
  return attachEbpfImage({
    options: EBPF_SOCKET_LB | EBPF_SCTP,
    frontends: frontends.buffer,
    selections: shared(selections).buffer as SharedArrayBuffer,
    nodeSelections: createHashTable(2, 1, 8).buffer,
    nodeZone: shared(new Array<number>(NODES).fill(-1)).buffer as SharedArrayBuffer,
    backends: backends.buffer,
    rings: createMaglev(8).buffer,
    sourceRanges: empty(),
    nodePortRanges4: createLpm4(8).buffer,
    nodePortRanges6: createLpm6(8).buffer,
    policy: null,
  });
}

/** A datapath of the cluster with empty connection state. */
export function makeDatapath(mode: number, services: readonly ServiceSpec[], flows = 1 << 16): Datapath {
  return {
    mode,
    topology: makeTopology(),
    compiledNodes: shared(new Array<number>(NODES).fill(1)),
    iptables:
      mode === MODE_IPTABLES
        ? {
            rules4: makeRules(4, services),
            rules6: makeRules(6, services),
            conntrackMax: flows,
            tcpBeLiberal: true,
            routeLocalnet: true,
            recentLists: 0,
            sets: null,
          }
        : null,
    nftables: null,
    ipvs: null,
    ebpf: mode === MODE_EBPF ? makeEbpf(services) : null,
    conntrack4: createConntrack(4, flows, SHARDS, mode === MODE_EBPF ? 0 : CT_OWN_WORDS),
    conntrack6: createConntrack(6, flows, SHARDS, mode === MODE_EBPF ? 0 : CT_OWN_WORDS),
    affinity: createAffinity(4096, SHARDS, 64, 0, 0),
    ports: createMasqueradePorts(SHARDS),
    ipvsState: null,
    counters: new Float64Array(COUNTERS),
    ring: createEventRing(4096),
    active: createActive(),
    answers: createBurst(),
    answerCount: 0,
  };
}
