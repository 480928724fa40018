/**
 * The cluster and the traffic of the end-to-end benchmarks: established TCP flows of pods to one Service in the ebpf
 * mode, clients balanced at their sockets. Each data frame of 128 bytes is answered by the pod it reaches with an ACK.
 */
import { COUNTERS } from '@flatpath/engine/programs/count';
import { type Datapath, MODE_EBPF } from '@flatpath/engine/programs/datapath';
import {
  attachEbpfImage,
  EBPF_SOCKET_LB,
  FE_FLAGS,
  FE_HAS_BACKENDS,
  FE_IS_CLUSTER_IP,
  FRONTEND_KEY_WORDS,
  FRONTEND_WORDS,
  frontendPort,
  SEL_WORDS,
} from '@flatpath/engine/programs/ebpf-image';
import { createActive } from '@flatpath/engine/programs/flow-lookup';
import { createMasqueradePorts } from '@flatpath/engine/programs/masquerade';
import { OWNER_POD, OWNER_POD_CIDR, ownerValue } from '@flatpath/engine/programs/owner';
import { createAffinity } from '@flatpath/engine/tables/affinity';
import { addBackend, createBackends, setListEntry, takeList } from '@flatpath/engine/tables/backends';
import { createConntrack } from '@flatpath/engine/tables/conntrack';
import { createEventRing } from '@flatpath/engine/tables/event-ring';
import { createHashTable, hashInsert5, setRowValue } from '@flatpath/engine/tables/hash-table';
import { createLpm4, lpm4Insert } from '@flatpath/engine/tables/lpm4';
import { createLpm6 } from '@flatpath/engine/tables/lpm6';
import { createMaglev } from '@flatpath/engine/tables/maglev';
import { compileTraffic } from '@flatpath/engine/traffic/compile';
import { SHARDS } from '@flatpath/engine/traffic/shard';
import { RESPOND_ACK, type Traffic } from '@flatpath/engine/traffic/stream';
import { createBurst, ENTRY_POD } from '@flatpath/engine/wire/burst';

const TCP = 6;
export const FLOWS = 65_536;
const PODS = 16;
const SERVICE = (10 << 24) | (96 << 16) | 1;

const podAddress = (node: number, pod: number) => (10 << 24) | (244 << 16) | (node << 8) | (10 + pod);

function shared(from: ArrayLike<number>): Int32Array<SharedArrayBuffer> {
  const words = new Int32Array(new SharedArrayBuffer(from.length * 4));
  words.set(from);
  return words;
}

/** Two nodes of 16 pods; one Service whose backends are the pods of node `home`. Endpoint = node × 16 + pod. */
export function makeDatapath(home: number): Datapath {
  const owners4 = createLpm4(128);
  const endpoints = Array.from({ length: 2 * PODS }, (_, i) => ({ node: Math.floor(i / PODS), pod: i % PODS }));
  for (const node of [0, 1]) {
    lpm4Insert(owners4, podAddress(node, 0) & ~255, 24, ownerValue(OWNER_POD_CIDR, node));
  }
  endpoints.forEach(({ node, pod }, i) => {
    lpm4Insert(owners4, podAddress(node, pod), 32, ownerValue(OWNER_POD, i));
  });
  const frontends = createHashTable(FRONTEND_KEY_WORDS, FRONTEND_WORDS, 8);
  const backends = createBackends(PODS, PODS);
  const list = takeList(backends, PODS);
  for (let pod = 0; pod < PODS; pod++) {
    const index = addBackend(backends, podAddress(home, pod), 0, 0, 0, 8080, home, home * PODS + pod, pod, -1);
    setListEntry(backends, list, pod, index);
  }
  const row = hashInsert5(frontends, SERVICE, 0, 0, 0, frontendPort(4, 80, TCP));
  setRowValue(frontends, row, FE_FLAGS, FE_IS_CLUSTER_IP | FE_HAS_BACKENDS);
  const selection = new Int32Array(SEL_WORDS);
  selection.set([list, PODS, -1, 0, 0]);
  return {
    mode: MODE_EBPF,
    topology: {
      nodes: 2,
      owners4,
      owners6: createLpm6(8),
      endpointNode: shared(endpoints.map(({ node }) => node)),
      endpointAddress4: shared(endpoints.map(({ node, pod }) => podAddress(node, pod))),
      endpointAddress6: shared(new Int32Array(endpoints.length * 4)),
      nodeAddress4: shared([0, 0]),
      nodeAddress6: shared(new Int32Array(8)),
      interfaces: null,
    },
    compiledNodes: shared([1, 1]),
    iptables: null,
    nftables: null,
    ipvs: null,
    ipvsState: null,
    ebpf: attachEbpfImage({
      options: EBPF_SOCKET_LB,
      frontends: frontends.buffer,
      selections: shared(selection).buffer,
      nodeSelections: createHashTable(2, 1, 8).buffer,
      nodeZone: shared([-1, -1]).buffer,
      backends: backends.buffer,
      rings: createMaglev(8).buffer,
      sourceRanges: new SharedArrayBuffer(32),
      nodePortRanges4: createLpm4(8).buffer,
      nodePortRanges6: createLpm6(8).buffer,
      policy: null,
    }),
    conntrack4: createConntrack(4, FLOWS * 3, SHARDS, 0),
    conntrack6: createConntrack(6, SHARDS, SHARDS, 0),
    affinity: createAffinity(8, SHARDS, 8, 0, 0),
    ports: createMasqueradePorts(SHARDS),
    counters: new Float64Array(COUNTERS),
    ring: createEventRing(64),
    active: createActive(),
    answers: createBurst(1),
    answerCount: 0,
  };
}

/** TCP flows of the pods of node 0 to the Service. */
export function makeTraffic(flows: number, packets: number): Traffic {
  return compileTraffic({
    seed: 1,
    packets,
    packetsPerSecond: 5_000_000,
    streams: [
      {
        family: 4,
        proto: TCP,
        sources: Array.from({ length: PODS }, (_, pod) => ({
          node: 0,
          entry: ENTRY_POD,
          endpoint: pod,
          address: [podAddress(0, pod), 0, 0, 0] as const,
        })),
        destinations: [{ address: [SERVICE, 0, 0, 0], port: 80 }],
        portFirst: 32_768,
        portCount: 28_232,
        flows,
        skew: 0,
        newFlows: 0,
        sizes: [{ bytes: 128, weight: 1 }],
        weight: 1,
        respond: RESPOND_ACK,
      },
    ],
  });
}
