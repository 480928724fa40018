/** Policies in the ebpf mode, packet by packet: who is judged, by what, when again, and what a refusal leaves behind. */
import { describe, expect, it } from 'vitest';
import type { DatapathInput } from '../../control/src/model/datapath.ts';
import { COUNT_LOOKUPS, COUNT_NEW_FLOWS } from '../../engine/src/programs/count.ts';
import { attachEbpfImage, ebpfImageParts, MAP_IPCACHE, MAP_POLICY } from '../../engine/src/programs/ebpf-image.ts';
import { EVENT_MAP } from '../../engine/src/programs/record.ts';
import { ctFlows } from '../../engine/src/tables/conntrack.ts';
import { resetEventRing } from '../../engine/src/tables/event-ring.ts';
import { changeImage, takeImage } from '../../engine/src/worker/transfer.ts';
import {
  connectAndSend,
  makeWorld,
  type Outcome,
  type Packet,
  reply,
  send,
  service,
  slices,
  type World,
} from './ebpf-fixture.ts';

const OUTSIDE = '203.0.113.7';
const CLIENT = '10.244.0.10';
const WEB1 = '10.244.0.11';
const WEB2 = '10.244.1.12';
const WEB3 = '10.244.2.13';
const CLIENT6 = 'fd00:10:244::10';
const WEB2_6 = 'fd00:10:244:1::12';
const NODE1 = '192.168.0.1';
const NODE2 = '192.168.0.2';
const VIP = '10.96.0.10';

const DENIED = { verdict: 'dropped', reason: 'policy-denied' };

function policy(name: string, app: string, spec: object): object {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: 'default' },
    spec: { podSelector: { matchLabels: { app } }, ...spec },
  };
}

const noIngress = (app: string) => policy(`no-ingress-${app}`, app, { policyTypes: ['Ingress'] });
const noEgress = (app: string) => policy(`no-egress-${app}`, app, { policyTypes: ['Egress'] });
const ingress = (app: string, from: object[], ports?: object[]) =>
  policy('ingress', app, { policyTypes: ['Ingress'], ingress: [{ from, ports }] });
const egress = (app: string, to: object[], ports?: object[]) =>
  policy('egress', app, { policyTypes: ['Egress'], egress: [{ to, ports }] });
const pods = (labels: object) => ({ podSelector: { matchLabels: labels } });
const cidr = (text: string, ...except: string[]) => ({ ipBlock: { cidr: text, except } });

function web(backends: readonly string[], spec: object = {}): object[] {
  const ports = [{ port: 80, nodePort: 30_080 }];
  return [service('web', 10, ports, spec), ...slices('web', [{ port: 8080 }], backends)];
}

const PER_PACKET: DatapathInput = { ebpf: { socketLB: false } };
const toWeb2: Packet = { from: 'client', src: CLIENT, dst: WEB2, dport: 8080 };

function worldOf(objects: readonly object[], datapath: DatapathInput = {}): World {
  return makeWorld(objects, { datapath });
}

/** The same connections under the image of other objects, as a worker takes it up. */
function change(world: World, objects: readonly object[], datapath: DatapathInput = {}): World {
  const next = worldOf(objects, datapath);
  const dp = { ...world.dp };
  changeImage(dp, structuredClone(takeImage(next.dp)));
  return { ...next, dp };
}

/** Sends with the recorder on; answers the judgements as text, and the identities that were asked for. */
function record(world: World, packet: Packet): { outcome: Outcome; judgements: string[]; identities: string[] } {
  const { ring, image } = world;
  resetEventRing(ring);
  ring.on = true;
  const outcome = send(world, packet);
  ring.on = false;
  const judgements: string[] = [];
  const identities: string[] = [];
  for (let at = 0; at < ring.used; at += ring.words[at]! >>> 8) {
    if ((ring.words[at]! & 0xff) !== EVENT_MAP) continue;
    const [map, row] = [ring.words[at + 1]!, ring.words[at + 2]!];
    const { text } = image.maps!.describeRow(map, row);
    if (map === MAP_POLICY) judgements.push(text);
    if (map === MAP_IPCACHE) identities.push(text);
  }
  return { outcome, judgements, identities };
}

const flowCount = ({ dp }: World): number => ctFlows(dp.conntrack4, 0) + ctFlows(dp.conntrack6, 0);

describe('a pod’s egress', () => {
  it('is judged where it leaves, and a refusal leaves no flow behind', () => {
    const world = worldOf([noEgress('client')]);
    for (const packet of [toWeb2, toWeb2, { ...toWeb2, flags: 0x10 }, { ...toWeb2, dst: OUTSIDE, dport: 443 }]) {
      expect(send(world, packet)).toMatchObject({ ...DENIED, node: 0 });
    }
    expect(send(world, { ...toWeb2, src: CLIENT6, dst: WEB2_6 })).toMatchObject(DENIED);
    expect([flowCount(world), world.dp.counters[COUNT_NEW_FLOWS]]).toEqual([0, 0]);
  });

  it('lets replies pass, from either side', () => {
    const world = worldOf([noEgress('web'), noIngress('client')]);
    const out = send(world, toWeb2);
    expect(out).toMatchObject({ verdict: 'delivered', pod: 'web-2' });
    expect(reply(world, out)).toMatchObject({ verdict: 'delivered', pod: 'client' });
    expect(send(world, { from: 'web-2', src: WEB2, dst: CLIENT, sport: 8080, dport: 41_000 })).toMatchObject(DENIED);
  });

  it('is judged by the backend, not by the Service', () => {
    const rules = [egress('client', [pods({ app: 'web' })], [{ port: 8080 }])];
    for (const datapath of [{}, PER_PACKET]) {
      const world = worldOf([...web(['web-2']), ...rules], datapath);
      const packet = { from: 'client', src: CLIENT, dst: VIP, dport: 80 };
      expect(connectAndSend(world, packet)).toMatchObject({ pod: 'web-2', dport: 8080 });
      const toVip = [egress('client', [cidr(`${VIP}/32`)])];
      const other = worldOf([...web(['web-2']), ...toVip], datapath);
      expect(connectAndSend(other, packet)).toMatchObject(DENIED);
      // A port that the Service has not: a packet to that address, which a CIDR may name.
      expect(connectAndSend(other, { ...packet, dport: 81 })).toMatchObject({ verdict: 'forwarded' });
      expect(connectAndSend(world, { ...packet, dport: 8080 })).toMatchObject(DENIED);
    }
  });

  it('comes behind the refusals of Services', () => {
    const world = worldOf([...web([]), noEgress('client')], PER_PACKET);
    const packet = { from: 'client', src: CLIENT, dst: VIP, dport: 80 };
    expect(send(world, packet)).toMatchObject({ verdict: 'rejected', reason: 'no-service-backend' });
  });

  it('is judged by the destination’s address before the source is masqueraded', () => {
    const world = worldOf([egress('client', [cidr('203.0.113.0/24', '203.0.113.8/32')])]);
    const out = send(world, { ...toWeb2, dst: OUTSIDE, dport: 443 });
    expect(out).toMatchObject({ verdict: 'forwarded', src: NODE1 });
    expect(send(world, { ...toWeb2, dst: '203.0.113.8', dport: 443 })).toMatchObject(DENIED);
  });

  it('resolves a named port in each destination', () => {
    const world = worldOf([egress('client', [pods({ app: 'web' })], [{ port: 'http' }])]);
    expect(send(world, toWeb2).pod).toBe('web-2');
    expect(send(world, { ...toWeb2, dport: 9090 })).toMatchObject(DENIED);
    expect(send(world, { ...toWeb2, dst: WEB3, dport: 9090 }).pod).toBe('web-3');
    expect(send(world, { ...toWeb2, dst: WEB3, dport: 8080 })).toMatchObject(DENIED);
    const anybody = worldOf([
      policy('named', 'client', { egress: [{ ports: [{ port: 'http' }] }], policyTypes: ['Egress'] }),
    ]);
    expect(send(anybody, toWeb2).pod).toBe('web-2');
    expect(send(anybody, { ...toWeb2, dst: OUTSIDE })).toMatchObject(DENIED);
  });
});

describe('a pod’s ingress', () => {
  it('is judged where the pod is, and a refusal leaves nothing that answers could use', () => {
    const world = worldOf([noIngress('web'), noEgress('web')]);
    expect(send(world, toWeb2)).toMatchObject({ ...DENIED, node: 1 });
    // What would be the reply is a flow of the pod's own.
    const back = { from: 'web-2', src: WEB2, sport: 8080, dst: CLIENT, dport: 40_000, flags: 0x12 };
    expect(send(world, back)).toMatchObject({ ...DENIED, node: 1 });
    expect(send(world, { ...toWeb2, flags: 0x10, timeMs: 5 })).toMatchObject(DENIED);
    const near = { ...toWeb2, dst: WEB1, sport: 41_000 };
    expect(send(world, near)).toMatchObject({ ...DENIED, node: 0 });
    expect(send(world, { ...back, from: 'web-1', src: WEB1, dport: 41_000 })).toMatchObject({ ...DENIED, node: 0 });
  });

  it('is judged by the source’s labels, in either family', () => {
    const world = worldOf([ingress('web', [pods({ app: 'client' })], [{ port: 8080 }])]);
    expect(send(world, toWeb2).pod).toBe('web-2');
    expect(send(world, { ...toWeb2, src: CLIENT6, dst: WEB2_6 }).pod).toBe('web-2');
    expect(send(world, { ...toWeb2, dport: 8081 })).toMatchObject(DENIED);
    expect(send(world, { from: 'web-1', src: WEB1, dst: WEB2, dport: 8080 })).toMatchObject(DENIED);
    // An address of the cluster that no Pod has is nobody's.
    expect(send(world, { from: 'unlisted', src: '10.244.0.200', dst: WEB2, dport: 8080 })).toMatchObject(DENIED);
    const byAddress = worldOf([ingress('web', [cidr('10.244.0.0/24')])]);
    expect(send(byAddress, { from: 'unlisted', src: '10.244.0.200', dst: WEB2, dport: 8080 }).pod).toBe('web-2');
  });

  it('sees a client of a nodePort as it arrives: itself, or the node that sent it on', () => {
    const packet = { from: 'outside', src: OUTSIDE, dst: NODE1, dport: 30_080 };
    const byClient = ingress('web', [cidr(`${OUTSIDE}/32`)]);
    const byNode = ingress('web', [cidr(`${NODE1}/32`)]);
    expect(send(worldOf([...web(['web-1']), byClient]), packet).pod).toBe('web-1');
    expect(send(worldOf([...web(['web-1']), byNode]), packet)).toMatchObject(DENIED);
    expect(send(worldOf([...web(['web-2']), byClient]), packet)).toMatchObject({ ...DENIED, node: 1, src: NODE1 });
    expect(send(worldOf([...web(['web-2']), byNode]), packet).pod).toBe('web-2');
    const nobody = worldOf([...web(['web-1']), noIngress('web')]);
    expect(send(nobody, packet)).toMatchObject({ ...DENIED, node: 0 });
    expect(flowCount(nobody)).toBe(0);
  });

  it('sees the client with Direct Server Return, and forgets the flow that it refuses', () => {
    const dsr: DatapathInput = { ebpf: { loadBalancerMode: 'dsr' } };
    const packet = { from: 'outside', src: OUTSIDE, dst: NODE1, dport: 30_080 };
    const allowed = worldOf([...web(['web-2']), ingress('web', [cidr(`${OUTSIDE}/32`)]), noEgress('web')], dsr);
    const out = send(allowed, packet);
    expect(out).toMatchObject({ pod: 'web-2', src: OUTSIDE });
    expect(reply(allowed, out)).toMatchObject({ verdict: 'forwarded', src: NODE1, sport: 30_080 });
    const refusing = worldOf([...web(['web-2']), noIngress('web'), noEgress('web')], dsr);
    for (const flags of [0x02, 0x10, 0x02]) {
      expect(send(refusing, { ...packet, flags })).toMatchObject({ ...DENIED, node: 1 });
    }
    const back = { from: 'web-2', src: WEB2, sport: 8080, dst: OUTSIDE, dport: 40_000, flags: 0x12 };
    expect(send(refusing, back)).toMatchObject({ ...DENIED, node: 1 });
  });

  it('resolves a named port in each pod that is judged', () => {
    const world = worldOf([ingress('web', [pods({ app: 'client' })], [{ port: 'http' }])]);
    expect(send(world, toWeb2).pod).toBe('web-2');
    expect(send(world, { ...toWeb2, dst: WEB3, dport: 9090 }).pod).toBe('web-3');
    expect(send(world, { ...toWeb2, dst: WEB3 })).toMatchObject(DENIED);
  });
});

describe('nodes and their pods', () => {
  const closed = [noIngress('web'), noEgress('web'), noIngress('client'), noEgress('client')];

  it('always reach each other', () => {
    const world = worldOf(closed);
    const down = send(world, { from: 'host', node: 0, src: NODE1, dst: WEB1, dport: 8080 });
    expect(down).toMatchObject({ pod: 'web-1' });
    expect(reply(world, down)).toMatchObject({ verdict: 'delivered', pod: null });
    const up = send(world, { from: 'client', src: CLIENT, dst: NODE1, dport: 10_250 });
    expect(up).toMatchObject({ verdict: 'delivered', node: 0 });
    expect(reply(world, up)).toMatchObject({ pod: 'client' });
  });

  it('but not the pods of other nodes, nor those other nodes', () => {
    const world = worldOf(closed);
    expect(send(world, { from: 'host', node: 1, src: NODE2, dst: WEB1, dport: 8080 })).toMatchObject(DENIED);
    expect(send(world, { from: 'client', src: CLIENT, dst: NODE2, dport: 10_250 })).toMatchObject(DENIED);
    const byAddress = worldOf([ingress('web', [cidr('192.168.0.2/32')]), egress('client', [cidr('192.168.0.2/32')])]);
    expect(send(byAddress, { from: 'host', node: 1, src: NODE2, dst: WEB1, dport: 8080 }).pod).toBe('web-1');
    expect(send(byAddress, { from: 'client', src: CLIENT, dst: NODE2, dport: 10_250 }).verdict).toBe('delivered');
  });

  it('with profile cilium the pod’s way to its node is judged, and CIDRs match neither pods nor nodes', () => {
    const cilium: DatapathInput = { policy: { profile: 'cilium' } };
    const everywhere = [egress('client', [cidr('0.0.0.0/0')]), ingress('web', [cidr('0.0.0.0/0')])];
    const world = worldOf(everywhere, cilium);
    expect(send(world, { from: 'client', src: CLIENT, dst: NODE1, dport: 10_250 })).toMatchObject(DENIED);
    expect(send(world, toWeb2)).toMatchObject({ ...DENIED, node: 0 });
    expect(send(world, { ...toWeb2, dst: OUTSIDE })).toMatchObject({ verdict: 'forwarded' });
    expect(send(world, { from: 'host', node: 0, src: NODE1, dst: WEB1, dport: 8080 }).pod).toBe('web-1');
    expect(send(world, { from: 'host', node: 1, src: NODE2, dst: WEB1, dport: 8080 })).toMatchObject(DENIED);
    expect(send(world, { from: 'outside', src: OUTSIDE, dst: WEB1, dport: 8080 }).pod).toBe('web-1');
    const open = worldOf([policy('open', 'client', { egress: [{}], policyTypes: ['Egress'] })], cilium);
    expect(send(open, { from: 'client', src: CLIENT, dst: NODE1, dport: 10_250 }).verdict).toBe('delivered');
    const kubernetes = worldOf(everywhere);
    expect(send(kubernetes, toWeb2).pod).toBe('web-2');
  });

  it('a Service whose backend is the pod’s node is that node', () => {
    const onHost = [
      service('agent', 12, [{ port: 80 }]),
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name: 'agent', namespace: 'default', labels: { 'kubernetes.io/service-name': 'agent' } },
        addressType: 'IPv4',
        ports: [{ name: '', port: 9000, protocol: 'TCP' }],
        endpoints: [{ addresses: [NODE1], nodeName: 'node-1' }],
      },
    ];
    const world = worldOf([...onHost, ...closed], PER_PACKET);
    const out = send(world, { from: 'client', src: CLIENT, dst: '10.96.0.12', dport: 80 });
    expect(out).toMatchObject({ verdict: 'delivered', node: 0, dst: NODE1, dport: 9000 });
  });
});

describe('a pod to itself through its Service', () => {
  const packet = { from: 'web-1', src: WEB1, dst: VIP, dport: 80 };
  const closed = [...web(['web-1']), noIngress('web'), noEgress('web')];

  it('passes', () => {
    const world = worldOf(closed, PER_PACKET);
    const out = send(world, packet);
    expect(out).toMatchObject({ pod: 'web-1', src: '169.254.42.1' });
    expect(reply(world, out)).toMatchObject({ pod: 'web-1', src: VIP, dport: 40_000 });
    expect(send(world, { ...packet, flags: 0x10, timeMs: 5 })).toMatchObject({ pod: 'web-1' });
  });

  it('is judged in both directions with profile calico, as the pod that it is', () => {
    const calico: DatapathInput = { ...PER_PACKET, policy: { profile: 'calico' } };
    expect(send(worldOf(closed, calico), packet)).toMatchObject(DENIED);
    const self = [...web(['web-1']), ingress('web', [pods({ app: 'web' })])];
    expect(send(worldOf(self, calico), packet)).toMatchObject({ pod: 'web-1', src: '169.254.42.1' });
  });
});

describe('ICMP', () => {
  const echo = { protocol: 'icmp', type: 8, id: 77, sequence: 1 } as const;
  const ping: Packet = { from: 'client', src: CLIENT, dst: WEB2, l4: echo };

  it('is matched by rules without ports only, and its answers pass', () => {
    const withPorts = worldOf([ingress('web', [pods({ app: 'client' })], [{ port: 8080 }])]);
    expect(send(withPorts, ping)).toMatchObject(DENIED);
    const world = worldOf([ingress('web', [pods({ app: 'client' })]), noEgress('web')]);
    expect(send(world, ping).pod).toBe('web-2');
    const answer = { from: 'web-2', src: WEB2, dst: CLIENT, l4: { ...echo, type: 0 } };
    expect(send(world, answer).pod).toBe('client');
    expect(send(world, { ...answer, l4: { ...echo, id: 78 } })).toMatchObject(DENIED);
  });

  it('errors about a flow pass, others are judged', () => {
    const world = worldOf([noEgress('web'), noIngress('client')]);
    const out = send(world, toWeb2);
    const l4 = { protocol: 'icmp', type: 3, code: 3 } as const;
    const error: Packet = { from: 'web-2', src: WEB2, dst: CLIENT, l4, payload: out.bytes.slice(14) };
    expect(send(world, error)).toMatchObject({ pod: 'client' });
    const strange = send(worldOf([]), { ...toWeb2, sport: 55_555 }).bytes.slice(14);
    expect(send(world, { ...error, payload: strange })).toMatchObject({ ...DENIED, node: 1 });
  });
});

describe('fragments', () => {
  const l4 = { protocol: 'udp', sport: 40_000, dport: 5353, length: 1508 } as const;
  const packet = { from: 'client', src: CLIENT, dst: WEB2 };
  const first: Packet = { ...packet, l4, payload: new Uint8Array(1000), ip: { id: 9, moreFragments: true } };
  const later: Packet = {
    ...packet,
    l4: { protocol: 17 },
    payload: new Uint8Array(500),
    ip: { id: 9, fragmentOffset: 1008 },
  };

  it('are judged like the first of their datagram', () => {
    const ports = [{ port: 5353, protocol: 'UDP' }];
    const allowed = worldOf([
      ingress('web', [pods({ app: 'client' })], ports),
      egress('client', [pods({ app: 'web' })], ports),
    ]);
    expect(send(allowed, first).pod).toBe('web-2');
    expect(send(allowed, later).pod).toBe('web-2');
    for (const objects of [[noIngress('web')], [noEgress('client')]]) {
      const refusing = worldOf(objects);
      expect(send(refusing, first)).toMatchObject(DENIED);
      expect(send(refusing, later)).toMatchObject(DENIED);
    }
  });
});

describe('a change of policy', () => {
  it('is taken up whole: what only the old one allowed goes, what only the new one allows comes', () => {
    const near = { ...toWeb2, dst: WEB1 };
    const before = worldOf([egress('client', [pods({ name: 'web-1' })]), ingress('web', [pods({ app: 'client' })])]);
    expect([send(before, near).pod, send(before, toWeb2).reason]).toEqual(['web-1', 'policy-denied']);
    const after = change(before, [
      egress('client', [pods({ name: 'web-2' })]),
      ingress('web', [pods({ app: 'client' })]),
    ]);
    expect([send(after, near).reason, send(after, toWeb2).pod]).toEqual(['policy-denied', 'web-2']);
  });

  const objects = [...web(['web-2'])];
  const packet = { from: 'client', src: CLIENT, dst: VIP, dport: 80 };
  const later = { ...packet, flags: 0x10, timeMs: 10 };
  const closings = [noIngress('web'), noEgress('client')];

  it('holds for known flows, frame by frame, but not for their replies', () => {
    for (const closing of closings) {
      const before = worldOf(objects, PER_PACKET);
      const out = send(before, packet);
      expect(out.pod).toBe('web-2');
      const after = change(before, [...objects, closing], PER_PACKET);
      expect(send(after, later)).toMatchObject(DENIED);
      expect(reply(after, out)).toMatchObject({ pod: 'client', src: VIP });
      const opened = change(after, objects, PER_PACKET);
      expect(send(opened, { ...later, timeMs: 20 })).toMatchObject({ pod: 'web-2' });
    }
  });

  it('leaves known flows alone with profile calico', () => {
    const calico: DatapathInput = { ...PER_PACKET, policy: { profile: 'calico' } };
    for (const closing of closings) {
      const before = worldOf(objects, calico);
      send(before, packet);
      const after = change(before, [...objects, closing], calico);
      expect(send(after, later)).toMatchObject({ pod: 'web-2' });
      expect(send(after, { ...packet, sport: 41_000 })).toMatchObject(DENIED);
    }
  });

  it('leaves known flows of Direct Server Return alone there too, once one was allowed', () => {
    const dsr: DatapathInput = { ebpf: { loadBalancerMode: 'dsr' }, policy: { profile: 'calico' } };
    const outside = { from: 'outside', src: OUTSIDE, dst: NODE1, dport: 30_080 };
    const open = [...objects, ingress('web', [cidr(`${OUTSIDE}/32`)])];
    const before = worldOf(open, dsr);
    expect(send(before, outside).pod).toBe('web-2');
    const after = change(before, [...objects, noIngress('web')], dsr);
    expect(send(after, { ...outside, flags: 0x10, timeMs: 10 })).toMatchObject({ pod: 'web-2' });
    expect(send(after, { ...outside, sport: 41_000 })).toMatchObject(DENIED);
    expect(send(after, { ...outside, sport: 41_000, flags: 0x10 })).toMatchObject(DENIED);
  });

  it('judges a connection that begins anew on a known tuple', () => {
    const before = worldOf(objects, PER_PACKET);
    send(before, packet);
    const after = change(before, [...web(['web-1']), noIngress('web')], PER_PACKET);
    expect(send(after, { ...packet, timeMs: 10 })).toMatchObject({ ...DENIED, node: 0 });
  });
});

describe('tiers', () => {
  const ranked = (name: string, tier: string, priority: number, rules: object[]) => ({
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata: { name },
    spec: { tier, priority, subject: { namespaces: {} }, ingress: rules },
  });
  const from = [{ pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: 'client' } } } }];

  it('end with the first rule that does not pass', () => {
    const deny = ranked('deny', 'Admin', 10, [{ action: 'Deny', from }]);
    const accept = ranked('accept', 'Admin', 5, [{ action: 'Accept', from }]);
    const pass = ranked('pass', 'Admin', 5, [{ action: 'Pass', from }]);
    const closing = ranked('closing', 'Baseline', 0, [{ action: 'Deny', from }]);
    expect(send(worldOf([deny]), toWeb2)).toMatchObject(DENIED);
    expect(send(worldOf([deny, accept, noIngress('web')]), toWeb2).pod).toBe('web-2');
    expect(send(worldOf([deny, pass]), toWeb2).pod).toBe('web-2');
    expect(send(worldOf([deny, pass, noIngress('web')]), toWeb2)).toMatchObject(DENIED);
    expect(send(worldOf([closing]), toWeb2)).toMatchObject(DENIED);
    expect(send(worldOf([closing, ingress('web', [pods({ app: 'client' })])]), toWeb2).pod).toBe('web-2');
  });
});

describe('what is recorded and counted', () => {
  it('is one judgement for each judged direction, with policy, rule and peer', () => {
    const world = worldOf([
      egress('client', [cidr('192.0.2.0/24'), pods({ app: 'web' })], [{ port: 8080 }]),
      policy('isolating', 'web', { policyTypes: ['Ingress'] }),
    ]);
    const { judgements, identities } = record(world, toWeb2);
    expect(judgements).toEqual([
      'egress allowed by NetworkPolicy default/egress spec.egress[0].to[1]',
      'ingress denied, isolated by NetworkPolicy default/isolating',
    ]);
    expect(identities).toHaveLength(2);
    expect(identities[0]).toMatch(/^identity \d+ \(app=web, name=web-2, namespace default\)$/);
    expect(identities[1]).toContain('(app=client, name=client, namespace default)');
    const identityOf = (dst: string) => record(world, { ...toWeb2, dst }).identities[0];
    expect(identityOf(OUTSIDE)).toBe('identity 2 (world)');
    expect(identityOf('192.0.2.9')).toMatch(/^identity 16\d{6} \(192\.0\.2\.0\/24\)$/);
    expect(identityOf(NODE2)).toBe('identity 6 (1 to its own pods; node node-2)');
    const other = record(world, { from: 'web-3', src: WEB3, dst: CLIENT });
    expect([other.outcome.pod, other.judgements, other.identities]).toEqual(['client', [], []]);
  });

  it('is nothing where the way is exempt', () => {
    const world = worldOf([noEgress('client'), noIngress('web')]);
    expect(record(world, { from: 'client', src: CLIENT, dst: NODE1 }).judgements).toEqual([]);
    expect(record(world, { from: 'host', node: 0, src: NODE1, dst: WEB1 }).judgements).toEqual([]);
  });

  it('leads from a row to its judgement', () => {
    const { image } = worldOf([noIngress('web')]);
    const maps = image.maps!;
    expect(maps.judgementOf(0)).toMatchObject({ direction: 'ingress', verdict: 'denied', rule: null });
    expect(maps.judgementOf(0)!.policies.map(({ metadata }) => metadata.name)).toEqual(['no-ingress-web']);
    expect(maps.judgementOf(99)).toBeNull();
  });

  it('is three lookups a judged direction, however many rules there are', () => {
    const many = (count: number) =>
      Array.from({ length: count }, (_, i) =>
        policy(`many-${i}`, 'web', {
          policyTypes: ['Ingress'],
          ingress: [{ from: [pods({ name: `other-${i}` }), cidr(`172.16.${i}.0/24`)], ports: [{ port: 1000 + i }] }],
        }),
      );
    const lookups = (objects: readonly object[]): number => {
      const world = worldOf([...objects, ingress('web', [pods({ app: 'client' })], [{ port: 8080 }])]);
      expect(send(world, toWeb2).pod).toBe('web-2');
      return world.dp.counters[COUNT_LOOKUPS]!;
    };
    const plain = worldOf([]);
    send(plain, toWeb2);
    expect(lookups([])).toBe(plain.dp.counters[COUNT_LOOKUPS]! + 3);
    expect(lookups(many(100))).toBe(lookups([]));
  });
});

describe('the image', () => {
  it('has no policy where no pod is selected', () => {
    expect(worldOf([]).image.ebpf!.policy).toBeNull();
    expect(worldOf([policy('nobody', 'nobody', {})]).image.ebpf!.policy).toBeNull();
  });

  it('goes to another thread as it is', () => {
    const world = worldOf([ingress('web', [pods({ app: 'client' })]), noEgress('client')]);
    const copy = attachEbpfImage(structuredClone(ebpfImageParts(world.image.ebpf!)));
    const moved = { ...world, dp: { ...world.dp, ebpf: copy } };
    expect(send(moved, toWeb2)).toMatchObject({ ...DENIED, node: 0 });
    expect(send(moved, { from: 'web-1', src: WEB1, dst: WEB2 })).toMatchObject({ ...DENIED, node: 1 });
    expect(send(moved, { from: 'web-1', src: WEB1, dst: CLIENT }).pod).toBe('client');
  });
});
