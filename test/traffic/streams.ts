/** Streams over the cluster of small-cluster.ts, and the sums that every run must satisfy. */
import { COUNT_ENTERED, countOf } from '../../engine/src/programs/count.ts';
import type { DestinationSpec, SourceSpec, StreamSpec } from '../../engine/src/traffic/stream.ts';
import { RESPOND_ACK } from '../../engine/src/traffic/stream.ts';
import { ENTRY_HOST, ENTRY_POD, ENTRY_UPLINK } from '../../engine/src/wire/burst.ts';
import { node4, node6, PODS_PER_NODE, pod4, pod6, type ServiceSpec } from './small-cluster.ts';

export function fromPod(endpoint: number, family: number): SourceSpec {
  return {
    node: Math.floor(endpoint / PODS_PER_NODE),
    entry: ENTRY_POD,
    endpoint,
    address: family === 4 ? [pod4(endpoint), 0, 0, 0] : pod6(endpoint),
  };
}

export function fromHost(node: number, family: number): SourceSpec {
  return { node, entry: ENTRY_HOST, endpoint: -1, address: family === 4 ? [node4(node), 0, 0, 0] : node6(node) };
}

export function fromOutside(node: number, n: number, family: number): SourceSpec {
  const address: SourceSpec['address'] = family === 4 ? [(203 << 24) | (113 << 8) | n, 0, 0, 0] : [0x20010db8, 0, 0, n];
  return { node, entry: ENTRY_UPLINK, endpoint: -1, address };
}

export function toService(s: ServiceSpec, family: number): DestinationSpec {
  return { address: family === 4 ? [s.address4, 0, 0, 0] : s.address6, port: s.port };
}

export function toPod(endpoint: number, port: number, family: number): DestinationSpec {
  return { address: family === 4 ? [pod4(endpoint), 0, 0, 0] : pod6(endpoint), port };
}

export function stream(changes: Partial<StreamSpec> & Pick<StreamSpec, 'sources' | 'destinations'>): StreamSpec {
  return {
    family: 4,
    proto: 6,
    portFirst: 32_768,
    portCount: 28_232,
    flows: 300,
    skew: 0,
    newFlows: 0,
    sizes: [{ bytes: 128, weight: 1 }],
    weight: 1,
    respond: RESPOND_ACK,
    ...changes,
  };
}

/** Sum of all ends in a datapath's counters: conservation says that it equals the frames that entered. */
export function endsOf(counters: Float64Array): number {
  let sum = 0;
  for (let verdict = 1; verdict <= 4; verdict++) {
    for (let reason = 0; reason < 256; reason++) sum += counters[countOf(verdict, reason)];
  }
  return sum;
}

/** The non-zero ends as `verdict/reason: frames`, for messages of failing tests. */
export function endsByName(counters: Float64Array): Record<string, number> {
  const ends: Record<string, number> = { entered: counters[COUNT_ENTERED] };
  for (let verdict = 1; verdict <= 4; verdict++) {
    for (let reason = 0; reason < 256; reason++) {
      const frames = counters[countOf(verdict, reason)];
      if (frames > 0) ends[`${verdict}/${reason}`] = frames;
    }
  }
  return ends;
}
