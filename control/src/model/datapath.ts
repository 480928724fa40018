/**
 * The datapath configuration: which mode runs, and its options. The block `spec.datapath` of a ConnectivityTest, the
 * file behind `--datapath` and the API all carry this shape; unknown keys are errors, left-out keys take the default.
 */
import { type Static, Type } from '@sinclair/typebox';

export const MODES = ['iptables', 'nftables', 'ipvs', 'ebpf'] as const;
export type Mode = (typeof MODES)[number];

/** The modes that this build runs. */
export const BUILT_MODES: readonly Mode[] = ['iptables', 'nftables', 'ipvs', 'ebpf'];

const closed = { additionalProperties: false } as const;
const texts = () => Type.Array(Type.String());

export const KubeProxySchema = Type.Object(
  {
    detectLocalMode: Type.Optional(
      Type.Union(
        (['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix', 'None'] as const).map((mode) =>
          Type.Literal(mode),
        ),
      ),
    ),
    clusterCIDR: Type.Optional(texts()),
    bridgeInterface: Type.Optional(Type.String({ minLength: 1, maxLength: 15 })),
    interfaceNamePrefix: Type.Optional(Type.String({ minLength: 1, maxLength: 15 })),
    masqueradeAll: Type.Optional(Type.Boolean()),
    tcpBeLiberal: Type.Optional(Type.Boolean()),
    nodePortAddresses: Type.Optional(texts()),
    localhostNodePorts: Type.Optional(Type.Boolean()),
    ipvsScheduler: Type.Optional(Type.String()),
    serviceCIDRs: Type.Optional(texts()),
  },
  closed,
);

export const EbpfSchema = Type.Object(
  {
    socketLB: Type.Optional(Type.Boolean()),
    algorithm: Type.Optional(Type.Union([Type.Literal('random'), Type.Literal('maglev')])),
    maglevTableSize: Type.Optional(Type.Integer({ minimum: 0 })),
    loadBalancerMode: Type.Optional(Type.Union([Type.Literal('snat'), Type.Literal('dsr')])),
    externalClusterIP: Type.Optional(Type.Boolean()),
    sctp: Type.Optional(Type.Boolean()),
  },
  closed,
);

export const DatapathSchema = Type.Object(
  {
    modes: Type.Optional(Type.Array(Type.Union(MODES.map((mode) => Type.Literal(mode))))),
    kubeProxy: Type.Optional(KubeProxySchema),
    ebpf: Type.Optional(EbpfSchema),
    policy: Type.Optional(
      Type.Object(
        {
          profile: Type.Optional(
            Type.Union([Type.Literal('kubernetes'), Type.Literal('cilium'), Type.Literal('calico')]),
          ),
        },
        closed,
      ),
    ),
    pods: Type.Optional(Type.Object({ masqueradeOutbound: Type.Optional(Type.Boolean()) }, closed)),
  },
  closed,
);

export type DatapathInput = Static<typeof DatapathSchema>;

export type DetectLocalMode = 'ClusterCIDR' | 'NodeCIDR' | 'BridgeInterface' | 'InterfaceNamePrefix' | 'None';

/** A datapath configuration with every default filled in. */
export interface DatapathConfig {
  modes: Mode[];
  kubeProxy: {
    detectLocalMode: DetectLocalMode;
    /** Empty: resolved from the cluster (cluster/cluster-cidr.ts). */
    clusterCIDR: string[];
    bridgeInterface: string;
    interfaceNamePrefix: string;
    masqueradeAll: boolean;
    /** `conntrack.tcpBeLiberal` of kube-proxy: conntrack calls no segment INVALID for being outside its window. */
    tcpBeLiberal: boolean;
    /** Empty: the mode's own default (iptables: every local address; nftables: the first of each family). */
    nodePortAddresses: string[];
    localhostNodePorts: boolean;
    ipvsScheduler: string;
    serviceCIDRs: string[];
  };
  ebpf: {
    socketLB: boolean;
    algorithm: 'random' | 'maglev';
    /** 0: the smallest allowed size of at least 100 × backends. */
    maglevTableSize: number;
    loadBalancerMode: 'snat' | 'dsr';
    externalClusterIP: boolean;
    sctp: boolean;
  };
  policy: { profile: 'kubernetes' | 'cilium' | 'calico' };
  pods: { masqueradeOutbound: boolean };
}

/** `primary` alone in nodePortAddresses stands for each node's primary address of a family. */
export function isPrimaryOnly(nodePortAddresses: readonly string[]): boolean {
  return nodePortAddresses.length === 1 && nodePortAddresses[0] === 'primary';
}

/** Fills the defaults of DESIGN §7; `below` (from a cluster's ConfigMaps) stands between the two. */
export function resolveDatapath(input: DatapathInput = {}, below: DatapathInput = {}): DatapathConfig {
  const kubeProxy = { ...below.kubeProxy, ...input.kubeProxy };
  const ebpf = { ...below.ebpf, ...input.ebpf };
  return {
    modes: input.modes ?? below.modes ?? [...MODES],
    kubeProxy: {
      detectLocalMode: kubeProxy.detectLocalMode ?? 'ClusterCIDR',
      clusterCIDR: kubeProxy.clusterCIDR ?? [],
      bridgeInterface: kubeProxy.bridgeInterface ?? 'cni0',
      interfaceNamePrefix: kubeProxy.interfaceNamePrefix ?? 'veth',
      masqueradeAll: kubeProxy.masqueradeAll ?? false,
      tcpBeLiberal: kubeProxy.tcpBeLiberal ?? false,
      nodePortAddresses: kubeProxy.nodePortAddresses ?? [],
      localhostNodePorts: kubeProxy.localhostNodePorts ?? true,
      ipvsScheduler: kubeProxy.ipvsScheduler ?? 'rr',
      serviceCIDRs: kubeProxy.serviceCIDRs ?? ['10.96.0.0/12', 'fd00:10:96::/112'],
    },
    ebpf: {
      socketLB: ebpf.socketLB ?? true,
      algorithm: ebpf.algorithm ?? 'random',
      maglevTableSize: ebpf.maglevTableSize ?? 0,
      loadBalancerMode: ebpf.loadBalancerMode ?? 'snat',
      externalClusterIP: ebpf.externalClusterIP ?? false,
      sctp: ebpf.sctp ?? true,
    },
    policy: { profile: input.policy?.profile ?? below.policy?.profile ?? 'kubernetes' },
    pods: { masqueradeOutbound: input.pods?.masqueradeOutbound ?? below.pods?.masqueradeOutbound ?? true },
  };
}
