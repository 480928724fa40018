/**
 * A cluster with policies in one mode, real frames through it one after the other, and policies that change under living
 * connections, as they do under streams.
 *
 *     node-1  192.168.0.1  fd00:168::1    client 10.244.1.2   near 10.244.1.3
 *     node-2  192.168.0.2  fd00:168::2    web    10.244.2.2
 */

import { attachDatapath, ipvsBefore, reattachDatapath } from '../../control/src/compile/attach.ts';
import { compileImage, type Image } from '../../control/src/compile/image.ts';
import { formatWords, type Words } from '../../control/src/model/address.ts';
import type { Mode } from '../../control/src/model/datapath.ts';
import type { Datapath } from '../../engine/src/programs/datapath.ts';
import { runBurst } from '../../engine/src/programs/journey.ts';
import { takeReleased } from '../../engine/src/programs/netfilter-fragment.ts';
import { VERDICT_NAMES } from '../../engine/src/programs/verdict.ts';
import { createEventRing } from '../../engine/src/tables/event-ring.ts';
import { hashTuple4, hashTuple6 } from '../../engine/src/tables/hash.ts';
import { buildFrame, type FrameFields } from '../../engine/src/wire/build.ts';
import { type Burst, CAPTURE_SLOT_BYTES, createBurst, ENTRY_POD, frameOffset } from '../../engine/src/wire/burst.ts';
import { parseFrame } from '../../engine/src/wire/parse.ts';
import { reasonName } from '../../engine/src/wire/reason.ts';
import { modelOf } from './compare.ts';
import type { Profile } from './oracle.ts';
import { type DrawnPod, type KubeObject, nodeAddress, nodeName, podAddress, podObject } from './random-cluster.ts';

export type Family = 4 | 6;
export const PODS = ['client', 'near', 'web'] as const;
export type PodName = (typeof PODS)[number];

const NUMBERS = { client: 1, near: 2, web: 1 } as const;
const PLACES = { client: 1, near: 1, web: 2 } as const;
export const addressOf = (name: PodName, family: Family): string => podAddress(PLACES[name], NUMBERS[name] + 1, family);
export const NODE_PORT = 30_080;
export const SERVICE = { 4: '10.96.0.80', 6: 'fd00:10:96::80' } as const;

const PORTS: DrawnPod['ports'] = [
  { name: 'http', protocol: 'TCP', port: 8080 },
  { name: 'dns', protocol: 'UDP', port: 8080 },
];

/** The cluster without policies; `web` stands behind a Service of TCP and UDP. */
export function labCluster(): KubeObject[] {
  const nodes = ([1, 2] as const).map((node) => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: nodeName(node) },
    spec: { podCIDRs: [`10.244.${node}.0/24`, `fd00:10:244:${node}::/64`] },
    status: {
      addresses: ([4, 6] as const).map((family) => ({ type: 'InternalIP', address: nodeAddress(node, family) })),
    },
  }));
  const pods = PODS.map((name) => {
    const pod = podObject({
      name: `pod-${NUMBERS[name]}`,
      namespace: 'default',
      node: PLACES[name],
      labels: { app: name },
      ports: PORTS,
      sidecarPorts: 0,
      hostNetwork: false,
      families: [4, 6],
      ended: false,
    });
    return { ...pod, metadata: { ...pod.metadata, name } };
  });
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'default' },
    spec: {
      type: 'NodePort',
      clusterIP: SERVICE[4],
      clusterIPs: [SERVICE[4], SERVICE[6]],
      ipFamilies: ['IPv4', 'IPv6'],
      ipFamilyPolicy: 'RequireDualStack',
      selector: { app: 'web' },
      ports: ['TCP', 'UDP'].map((protocol) => ({
        name: protocol.toLowerCase(),
        protocol,
        port: 80,
        targetPort: 8080,
        nodePort: NODE_PORT,
      })),
    },
  };
  return [...nodes, ...pods, service];
}

/** A NetworkPolicy for one app; what is left out of `spec` is as in the API. */
export function policy(app: string, spec: object): KubeObject {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: `${app}-${Object.keys(spec).join('-').toLowerCase()}`, namespace: 'default' },
    spec: { podSelector: { matchLabels: { app } }, ...spec },
  };
}

/** What became of a frame. */
export interface Exit {
  /** `delivered web`, `forwarded`, `dropped REASON`, `rejected REASON`, `held`. */
  readonly end: string;
  readonly src: string;
  readonly dst: string;
  readonly sport: number;
  readonly dport: number;
  readonly bytes: Uint8Array;
}

export class PolicyLab {
  readonly mode: Mode;
  private readonly profile: Profile;
  private image: Image;
  private dp: Datapath;
  private readonly burst: Burst = createBurst(1, CAPTURE_SLOT_BYTES);
  private readonly released: Burst = createBurst(1, CAPTURE_SLOT_BYTES);

  constructor(mode: Mode, profile: Profile, policies: readonly KubeObject[]) {
    this.mode = mode;
    this.profile = profile;
    this.image = compileImage(this.model(policies), mode, [nodeName(1), nodeName(2)]);
    this.dp = attachDatapath(this.image, 4096, 64, createEventRing(4096), 1);
  }

  /** Other policies from now on; connections live on. */
  change(policies: readonly KubeObject[]): void {
    const before = ipvsBefore(this.image, this.dp);
    this.image = compileImage(this.model(policies), this.mode, this.image.nodes, before);
    this.dp = reattachDatapath(this.dp, this.image);
  }

  /** A frame out of a pod's interface. */
  send(from: PodName, frame: FrameFields | Uint8Array, atMs = 0): Exit {
    const b = this.burst;
    const bytes = frame instanceof Uint8Array ? frame : buildFrame(frame);
    b.bytes.set(bytes, frameOffset(b, 0));
    b.len[0] = bytes.length;
    b.node[0] = PLACES[from] - 1;
    b.entry[0] = ENTRY_POD;
    const { endpoints } = this.image.model.topology;
    b.endpoint[0] = endpoints.findIndex(({ pod }) => pod.metadata.name === from);
    b.shard[0] = 0;
    b.timeMs[0] = atMs;
    b.choice[0] = -1;
    b.unverified[0] = 1;
    b.tag[0] = 0;
    b.flowHash[0] = 0;
    if (parseFrame(b, 0) >= 0) b.flowHash[0] = hashOf(b);
    runBurst(this.dp, b, 1);
    return this.exit(b);
  }

  /** Fragments that waited and were sent on. */
  takeFragments(): Exit[] {
    const out: Exit[] = [];
    while (takeReleased(this.dp, 0, this.released, 0)) out.push(this.exit(this.released));
    return out;
  }

  private model(policies: readonly KubeObject[]) {
    return modelOf([...labCluster(), ...policies], { policy: { profile: this.profile } });
  }

  private exit(b: Burst): Exit {
    const family = b.family[0] === 6 ? 6 : 4;
    const verdict = VERDICT_NAMES[b.verdict[0]!]!;
    const pod = this.image.model.topology.endpoints[b.target[0]!]?.pod.metadata.name;
    const where = verdict === 'delivered' ? ` ${pod ?? `node-${b.node[0]! + 1}`}` : '';
    const why = b.reason[0] === 0 ? '' : ` ${reasonName(b.reason[0]!)}`;
    const at = frameOffset(b, 0);
    return {
      end: `${verdict}${where}${why}`,
      src: formatWords(family, [b.src0[0]!, b.src1[0]!, b.src2[0]!, b.src3[0]!]),
      dst: formatWords(family, [b.dst0[0]!, b.dst1[0]!, b.dst2[0]!, b.dst3[0]!]),
      sport: b.sport[0]!,
      dport: b.dport[0]!,
      bytes: b.bytes.slice(at, at + b.len[0]!),
    };
  }
}

function hashOf(b: Burst): number {
  const ports = (b.sport[0]! << 16) | b.dport[0]!;
  const src: Words = [b.src0[0]!, b.src1[0]!, b.src2[0]!, b.src3[0]!];
  const dst: Words = [b.dst0[0]!, b.dst1[0]!, b.dst2[0]!, b.dst3[0]!];
  return b.family[0] === 4
    ? hashTuple4(0, src[0], dst[0], ports, b.proto[0]!)
    : hashTuple6(0, ...src, ...dst, ports, b.proto[0]!);
}
