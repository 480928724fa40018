/**
 * Clusters in ipvs mode through the whole of flatpath: what is documented of kube-proxy's ipvs mode and of the kernel's
 * IPVS, packet by packet. Each case carries its source.
 */

import { describe, expect, it } from 'vitest';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { ipvsBefore } from '../../control/src/compile/attach.ts';
import { type ClusterModel, modelCluster } from '../../control/src/compile/image.ts';
import { type Step, tellStory } from '../../control/src/explain/story.ts';
import { parseAddress } from '../../control/src/model/address.ts';
import { type DatapathInput, resolveDatapath } from '../../control/src/model/datapath.ts';
import { resolveConnection } from '../../control/src/probe/connection.ts';
import { type Injected, Injector } from '../../control/src/probe/injector.ts';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { buildFrame, type L4Fields } from '../../engine/src/wire/build.ts';
import { ENTRY_HOST } from '../../engine/src/wire/burst.ts';
import { describeFrame } from '../../engine/src/wire/describe.ts';
import { TCP_ACK, TCP_FIN, TCP_SYN } from '../../engine/src/wire/tcp.ts';

const VIP = '10.96.0.10';
const CLIENT = '10.244.1.100';
const NODE_1 = '192.168.0.1';
const SECOND = 1000;

const NODES = [1, 2].map((n) => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: `node-${n}` },
  spec: { podCIDR: `10.244.${n}.0/24` },
  status: { addresses: [{ type: 'InternalIP', address: `192.168.0.${n}` }] },
}));

/** A Service `web` with the endpoints `10.244.N.H` (port 8080) that are named, and a client on node-1. */
function modelOf(
  endpoints: readonly string[],
  spec: object = {},
  more: { protocol?: string; datapath?: DatapathInput } = {},
): ClusterModel {
  const { protocol = 'TCP', datapath = {} } = more;
  const pods = [...new Set([...endpoints, CLIENT])].map((ip) => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `pod-${ip.replaceAll('.', '-')}` },
    spec: { nodeName: `node-${ip.split('.')[2]}`, containers: [{ name: 'c' }] },
    status: { podIP: ip },
  }));
  const objects = [
    ...NODES,
    ...pods,
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web' },
      spec: { clusterIP: VIP, ports: [{ port: 80, protocol }], ...spec },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } },
      addressType: 'IPv4',
      ports: [{ port: 8080, protocol }],
      endpoints: endpoints.map((ip) => ({ addresses: [ip], nodeName: `node-${ip.split('.')[2]}` })),
    },
  ];
  const { cluster } = loadCluster([], { objects });
  return modelCluster(cluster, resolveDatapath({ pods: { masqueradeOutbound: false }, ...datapath }));
}

interface Sent {
  readonly from?: string;
  readonly to?: string;
  readonly sport?: number;
  readonly dport?: number;
  readonly protocol?: 'tcp' | 'udp';
  readonly flags?: number;
  readonly seq?: number;
  readonly timeMs?: number;
  /** The node whose process sends it. */
  readonly host?: number;
}

/** A node's clock and its packets. */
class Node {
  injector: Injector;

  constructor(model: ClusterModel) {
    this.injector = new Injector(model, 'ipvs');
  }

  send(sent: Sent): Injected {
    const { from = CLIENT, to = VIP, sport = 40_000, dport = 80, protocol = 'tcp', flags = TCP_SYN, timeMs = 0 } = sent;
    const { seq = 1 } = sent;
    const l4: L4Fields =
      protocol === 'tcp' ? { protocol, sport, dport, flags, seq, ackSeq: 1 } : { protocol, sport, dport };
    const frame = buildFrame({ ip: { family: 4, src: parseAddress(from)!.words, dst: parseAddress(to)!.words }, l4 });
    const entry = sent.host === undefined ? null : { node: sent.host, entry: ENTRY_HOST, endpoint: -1 };
    return this.injector.inject(frame, entry, 0, timeMs, true);
  }

  /** The cluster changes; connections go on, as a live server has them (api/injection.ts). */
  change(model: ClusterModel): void {
    const old = this.injector;
    const next = new Injector(model, 'ipvs', ipvsBefore(old.image, old.datapath));
    const { conntrack4, conntrack6, ipvsState, ports } = old.datapath;
    next.datapath = { ...next.datapath, conntrack4, conntrack6, ipvsState, ports };
    this.injector = next;
  }

  steps(injected: Injected): Step[] {
    return tellStory(this.injector.image, injected.events).hops.flatMap(({ steps }) => [...steps]);
  }
}

/** Source and destination of what came out. */
function ends({ frame }: Injected): string {
  const { ip, l4 } = describeFrame(frame!);
  return `${ip!.src}:${l4!.sport} > ${ip!.dst}:${l4!.dport}`;
}

function targetOf(injected: Injected): string {
  return injected.frame === null ? injected.verdict : ends(injected).split(' > ')[1]!;
}

describe("a virtual address is the node's own (kubernetes pkg/proxy/ipvs/README.md, FACTS §1.3)", () => {
  it('so that a request is seen by INPUT, translated there, and leaves by OUTPUT and POSTROUTING', () => {
    const node = new Node(modelOf(['10.244.1.10']));
    const request = node.send({});
    expect(ends(request)).toBe(`${CLIENT}:40000 > 10.244.1.10:8080`);
    const hooks = node.steps(request).flatMap((step) => (step.step === 'hook' ? [`${step.table} ${step.hook}`] : []));
    expect(hooks).toEqual(['nat PREROUTING', 'filter INPUT', 'filter OUTPUT', 'nat POSTROUTING']);
    const reply = node.send({ from: '10.244.1.10', to: CLIENT, sport: 8080, dport: 40_000, flags: TCP_SYN | TCP_ACK });
    expect(ends(reply)).toBe(`${VIP}:80 > ${CLIENT}:40000`);
  });

  it("and a port that nobody serves is refused, not the host's (kubernetes#72236)", () => {
    const node = new Node(modelOf(['10.244.1.10']));
    const refused = node.send({ dport: 22 });
    expect([refused.verdict, refused.reason]).toEqual(['rejected', 'rule-reject']);
    expect(describeFrame(refused.answers[0]!).ip!.src).toBe(VIP);
    const icmp = buildFrame({
      ip: { family: 4, src: parseAddress(CLIENT)!.words, dst: parseAddress(VIP)!.words },
      l4: { protocol: 'icmp', type: 8, id: 1 },
    });
    expect(node.injector.inject(icmp, null, 0, 0, false).verdict).toBe('rejected');
  });

  it("while the ports of the node's other addresses are its own", () => {
    expect(new Node(modelOf([])).send({ from: '203.0.113.5', to: NODE_1, dport: 22 }).verdict).toBe('delivered');
  });

  it('without a real server IPVS answers port unreachable (FACTS §5.14; linux ip_vs_core.c ip_vs_leave)', () => {
    const refused = new Node(modelOf([])).send({});
    expect([refused.verdict, refused.reason]).toEqual(['rejected', 'no-service-backend']);
    expect(describeFrame(refused.answers[0]!).l4).toMatchObject({ type: 3, code: 3 });
  });
});

describe('masquerade (FACTS §1.3, §2 "Hairpin")', () => {
  it('of a pod that meets itself: kubernetes#53775, #134884', () => {
    const node = new Node(modelOf([CLIENT]));
    expect(ends(node.send({}))).toBe(`${NODE_1}:40000 > ${CLIENT}:8080`);
  });

  it('of clients outside, whose replies come back from the virtual address', () => {
    const node = new Node(modelOf(['10.244.2.10']));
    const request = node.send({ from: '203.0.113.5' });
    const [source, target] = ends(request).split(' > ') as [string, string];
    expect(source.startsWith(`${NODE_1}:`)).toBe(true);
    expect(target).toBe('10.244.2.10:8080');
    const reply = node.send({
      from: '10.244.2.10',
      to: NODE_1,
      sport: 8080,
      dport: Number(source.split(':')[1]),
      flags: TCP_SYN | TCP_ACK,
    });
    expect([reply.verdict, ends(reply)]).toEqual(['forwarded', `${VIP}:80 > 203.0.113.5:40000`]);
  });

  it('not of what a policy Local sends to remote endpoints for want of others (kubernetes#97081)', () => {
    const spec = { type: 'NodePort', externalTrafficPolicy: 'Local', ports: [{ port: 80, nodePort: 30_080 }] };
    const request = new Node(modelOf(['10.244.2.10'], spec)).send({ from: '203.0.113.5', to: NODE_1, dport: 30_080 });
    expect(ends(request)).toBe('203.0.113.5:40000 > 10.244.2.10:8080');
  });
});

describe('the node itself', () => {
  const balancer = {
    type: 'LoadBalancer',
    externalIPs: ['203.0.113.80'],
    loadBalancerSourceRanges: ['198.51.100.0/24'],
  };

  it('at a nodePort on loopback meets nobody (FACTS §1.4)', () => {
    const spec = { type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] };
    const sent = new Node(modelOf(['10.244.1.10'], spec)).send({
      from: '127.0.0.1',
      to: '127.0.0.1',
      dport: 30_080,
      host: 0,
    });
    expect([sent.verdict, sent.translated]).toEqual(['delivered', false]);
  });

  it('at an external IP is masqueraded by its rule, and balanced', () => {
    const sent = new Node(modelOf(['10.244.2.10'], balancer)).send({
      from: '203.0.113.80',
      to: '203.0.113.80',
      host: 0,
    });
    expect([sent.verdict, sent.masquerade, targetOf(sent)]).toEqual(['delivered', true, '10.244.2.10:8080']);
  });
});

describe('connections (FACTS §2 "IPVS removal kills connections": kubernetes#57841, #99162)', () => {
  const talk = (node: Node, timeMs: number, flags = TCP_ACK): Injected => node.send({ flags, timeMs });

  it('outlive the removal of their real server, which gets no new ones', () => {
    const node = new Node(modelOf(['10.244.1.10']));
    expect(targetOf(node.send({}))).toBe('10.244.1.10:8080');
    node.send({ from: '10.244.1.10', to: CLIENT, sport: 8080, dport: 40_000, flags: TCP_SYN | TCP_ACK, timeMs: 1 });
    expect(targetOf(talk(node, 2))).toBe('10.244.1.10:8080');
    node.change(modelOf(['10.244.1.11']));
    expect(targetOf(talk(node, SECOND))).toBe('10.244.1.10:8080');
    for (let sport = 41_000; sport < 41_010; sport++) {
      expect(targetOf(node.send({ sport, timeMs: SECOND }))).toBe('10.244.1.11:8080');
    }
    // Also where it was the last one.
    node.change(modelOf([]));
    expect(targetOf(talk(node, 2 * SECOND))).toBe('10.244.1.10:8080');
    expect(node.send({ sport: 42_000, timeMs: 2 * SECOND }).verdict).toBe('rejected');
  });

  it('are reaped with it once they are idle', () => {
    const node = new Node(modelOf(['10.244.1.10']));
    const reals = (): string[] =>
      node.injector.image.servers!.reals.map(({ text, weight }) => `${text} ${weight}`).sort();
    node.send({});
    node.change(modelOf(['10.244.1.11']));
    node.send({ sport: 41_000, timeMs: SECOND });
    expect(reals()).toEqual(['10.244.1.10:8080 0', '10.244.1.11:8080 1']);
    // SYN_RECV lasts a minute (linux ip_vs_proto_tcp.c).
    node.send({ sport: 42_000, timeMs: 62 * SECOND });
    node.change(modelOf(['10.244.1.11']));
    node.send({ sport: 43_000, timeMs: 63 * SECOND });
    expect(reals()).toEqual(['10.244.1.11:8080 1']);
  });

  it('of UDP end with their real server (kubernetes#84322: not kept too long)', () => {
    const udp = (timeMs: number, sport = 40_000): Sent => ({ protocol: 'udp', sport, timeMs });
    const node = new Node(modelOf(['10.244.1.10'], {}, { protocol: 'UDP' }));
    expect(targetOf(node.send(udp(0)))).toBe('10.244.1.10:8080');
    node.change(modelOf(['10.244.1.11'], {}, { protocol: 'UDP' }));
    // The packet that finds the real server gone is lost, the next one is scheduled (expire_nodest_conn).
    const after = [node.send(udp(SECOND)), node.send(udp(2 * SECOND))].map(targetOf);
    expect(after).not.toContain('10.244.1.10:8080');
    expect(after[1]).toBe('10.244.1.11:8080');
  });

  it('that are over make way for a new SYN on their tuple (kubernetes#81775, kube-router#544)', () => {
    const node = new Node(modelOf(['10.244.1.10']));
    node.send({});
    const server = { from: '10.244.1.10', to: CLIENT, sport: 8080, dport: 40_000 };
    node.send({ ...server, flags: TCP_SYN | TCP_ACK, timeMs: 1 });
    talk(node, 2);
    talk(node, 3, TCP_FIN | TCP_ACK);
    node.send({ ...server, flags: TCP_FIN | TCP_ACK, timeMs: 4 });
    talk(node, 5);
    const again = [node.send({ timeMs: SECOND }), node.send({ timeMs: 2 * SECOND })].map(targetOf);
    expect(again).toContain('10.244.1.10:8080');
  });

  it('to a Service and to its endpoint from one port stay apart (kubernetes#90042)', () => {
    const node = new Node(modelOf(['10.244.1.10']));
    expect(ends(node.send({}))).toBe(`${CLIENT}:40000 > 10.244.1.10:8080`);
    const direct = node.send({ to: '10.244.1.10', dport: 8080, timeMs: 1 });
    // netfilter gives the second another source port, or the endpoint could not tell them apart.
    expect(ends(direct)).toMatch(new RegExp(`^${CLIENT}:(?!40000 )\\d+ > 10.244.1.10:8080$`));
    const source = Number(ends(direct).split(' ')[0]!.split(':')[1]);
    const reply = { from: '10.244.1.10', to: CLIENT, sport: 8080, flags: TCP_SYN | TCP_ACK, timeMs: 2 };
    expect(ends(node.send({ ...reply, dport: source }))).toBe(`10.244.1.10:8080 > ${CLIENT}:40000`);
    expect(ends(node.send({ ...reply, dport: 40_000 }))).toBe(`${VIP}:80 > ${CLIENT}:40000`);
  });
});

describe('session affinity is persistence (FACTS §1.3)', () => {
  const sticky = { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } };
  const four = ['10.244.1.10', '10.244.1.11', '10.244.2.10', '10.244.2.11'];

  it("a client stays with its real server, for the Service's time", () => {
    const node = new Node(modelOf(four, sticky));
    const first = targetOf(node.send({}));
    for (let i = 1; i < 20; i++) expect(targetOf(node.send({ sport: 40_000 + i, timeMs: i * SECOND }))).toBe(first);
  });

  it('of one address of the Service: another virtual server knows nothing of it (linux ip_vs_core.c)', () => {
    const node = new Node(modelOf(four, { ...sticky, externalIPs: ['203.0.113.80'] }));
    node.send({});
    const steps = node.steps(node.send({ to: '203.0.113.80', sport: 41_000, timeMs: 1 }));
    expect(steps.find((step) => step.step === 'map' && step.map === 'persistence')).toMatchObject({ entry: null });
  });
});

describe('the scheduler of the configuration (FACTS §1.3)', () => {
  const four = ['10.244.1.10', '10.244.1.11', '10.244.2.10', '10.244.2.11'];
  const spread = (ipvsScheduler: string): string[] => {
    const node = new Node(modelOf(four, {}, { datapath: { kubeProxy: { ipvsScheduler } } }));
    return Array.from({ length: 8 }, (_, i) => targetOf(node.send({ sport: 40_000 + i, timeMs: i })));
  };

  it('rr takes them in turn', () => {
    const taken = spread('rr');
    expect(new Set(taken.slice(0, 4)).size).toBe(4);
    expect(taken.slice(4)).toEqual(taken.slice(0, 4));
  });

  it('sh sends a client to one of them', () => {
    expect(new Set(spread('sh')).size).toBe(1);
  });

  it('lc and wlc count connections that are not established, sed and nq do not (linux ip_vs_lc.c, ip_vs_sed.c)', () => {
    for (const scheduler of ['lc', 'wlc']) expect(new Set(spread(scheduler)).size).toBe(4);
    for (const scheduler of ['sed', 'nq']) expect(new Set(spread(scheduler)).size).toBe(1);
  });
});

describe('a story', () => {
  it('names the sets, the virtual server, the choice among its real servers, and the rule that marked', () => {
    const simulator = new Simulator(modelOf(['10.244.1.10', '10.244.2.10']), 'ipvs');
    const connection = resolveConnection(simulator.model, { from: '203.0.113.5', to: `${VIP}:80` });
    const [branch] = simulator.probe(connection, true);
    const steps = tellStory(simulator.image, branch!.events).hops.flatMap((hop) => [...hop.steps]);
    const found = (step: object): void => expect(steps).toContainEqual(expect.objectContaining(step));
    found({ step: 'map', map: 'ipset KUBE-CLUSTER-IP', entry: '10.96.0.10,tcp:80' });
    found({ step: 'rule', chain: 'KUBE-MARK-MASQ' });
    found({
      step: 'map',
      map: 'virtual server',
      entry: 'TCP 10.96.0.10:80 rr, real servers 10.244.1.10:8080, 10.244.2.10:8080',
    });
    found({ step: 'choice', chooser: 'scheduler', options: 2 });
    found({ step: 'map', map: 'real server', origin: expect.objectContaining({ kind: 'EndpointSlice' }) });
    found({ step: 'nat', kind: 'destination' });
    found({ step: 'nat', kind: 'source' });
  });

  it('of the node itself begins at the address that it speaks from (kubernetes#119656)', () => {
    const spec = { type: 'LoadBalancer', loadBalancerIP: '203.0.113.9', loadBalancerSourceRanges: ['198.51.100.0/24'] };
    const model = modelOf(['10.244.1.10'], { ...spec, externalIPs: [] });
    const ip = model.cluster.services.find(({ metadata }) => metadata.name === 'web')!.status.loadBalancer.ingress[0]!
      .ip;
    const simulator = new Simulator(model, 'ipvs');
    const [branch] = simulator.probe(resolveConnection(model, { from: 'node/node-1', to: `${ip}:80` }), true);
    expect([branch!.verdict, branch!.reason, branch!.backend]).toEqual(['dropped', 'rule-drop', '10.244.1.10:8080']);
    const [hop] = tellStory(simulator.image, branch!.events).hops;
    expect(hop!.tuple).toMatchObject({ source: ip, destination: ip });
    expect(hop!.steps).toContainEqual(expect.objectContaining({ step: 'rule', chain: 'KUBE-IPVS-OUT-FILTER' }));
  });
});
