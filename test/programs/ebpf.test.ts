/** The ebpf mode's path of a frame: known and new flows, both families, both directions, with real bytes. */
import { describe, expect, it } from 'vitest';
import { parseAddress } from '../../control/src/model/address.ts';
import { COUNT_EVICTIONS, COUNT_NEW_FLOWS } from '../../engine/src/programs/count.ts';
import { runBurst } from '../../engine/src/programs/journey.ts';
import {
  NAT_DESTINATION,
  NAT_OUTBOUND,
  NAT_REVERSE,
  NAT_SOURCE,
  VERDICT_DELIVERED,
  VERDICT_FORWARDED,
} from '../../engine/src/programs/verdict.ts';
import { ctClear, ctFlows } from '../../engine/src/tables/conntrack.ts';
import { verifyFrame } from '../../engine/src/wire/checksum.ts';
import { innerTuple, TUPLE_DPORT, TUPLE_DST, TUPLE_WORDS } from '../../engine/src/wire/quote.ts';
import { connectAndSend, makeWorld, reply, SYN, send, service, slices, type World } from './ebpf-fixture.ts';

const WEB = [{ port: 80, nodePort: 30_080 }];
const SLICE = [{ port: 8080 }];
const CLIENT = '203.0.113.7';
const CLIENT6 = '2001:db8:ffff::7';

function web(backends: readonly string[], spec: object = {}): object[] {
  return [service('web', 10, WEB, spec), ...slices('web', SLICE, backends)];
}

/** Pods' frames balanced at their interface. */
const PER_PACKET = { datapath: { ebpf: { socketLB: false } } };

const FAMILIES = [
  {
    family: 4,
    client: '10.244.0.10',
    vip: '10.96.0.10',
    web1: '10.244.0.11',
    web2: '10.244.1.12',
    node1: '192.168.0.1',
    node2: '192.168.0.2',
    outside: CLIENT,
    loopback: '169.254.42.1',
  },
  {
    family: 6,
    client: 'fd00:10:244::10',
    vip: 'fd00:10:96::a',
    web1: 'fd00:10:244::11',
    web2: 'fd00:10:244:1::12',
    node1: '2001:db8::1',
    node2: '2001:db8::2',
    outside: CLIENT6,
    loopback: 'fe80::1',
  },
] as const;

describe.each(FAMILIES)('IPv$family', ({ client, vip, web1, web2, node1, node2, outside, loopback }) => {
  // The fixture writes fd00:10:96::10; an IPv6 ClusterIP is named by the same digits.
  const clusterIP = vip.includes(':') ? 'fd00:10:96::10' : vip;

  it('connects a pod to a backend on another node, without NAT on the wire', () => {
    const world = makeWorld(web(['web-2']));
    const out = connectAndSend(world, { from: 'client', src: client, dst: clusterIP });
    expect(out).toMatchObject({ verdict: 'delivered', pod: 'web-2', dst: web2, dport: 8080, src: client, wrong: 0 });
    expect(out.nat).toBe(NAT_DESTINATION);
    const back = reply(world, out);
    expect(back).toMatchObject({ verdict: 'delivered', pod: 'client', src: web2, sport: 8080, nat: 0, wrong: 0 });
  });

  it('translates a frame that carries the ClusterIP at the pod’s interface, and its reply', () => {
    const world = makeWorld(web(['web-2']), PER_PACKET);
    const out = send(world, { from: 'client', src: client, dst: clusterIP });
    expect(out).toMatchObject({ verdict: 'delivered', pod: 'web-2', dport: 8080, nat: NAT_DESTINATION, wrong: 0 });
    const back = reply(world, out);
    expect(back).toMatchObject({ pod: 'client', src: clusterIP, sport: 80, nat: NAT_REVERSE, wrong: 0 });
    const more = send(world, { from: 'client', src: client, dst: clusterIP, flags: 0x10 });
    expect(more).toMatchObject({ pod: 'web-2', dport: 8080, wrong: 0 });
  });

  it('gives a pod that is balanced to itself a link-local peer', () => {
    const world = makeWorld(web(['client']), PER_PACKET);
    const out = send(world, { from: 'client', src: client, dst: clusterIP });
    expect(out).toMatchObject({ pod: 'client', src: loopback, nat: NAT_DESTINATION | NAT_SOURCE, wrong: 0 });
    const back = reply(world, out);
    expect(back).toMatchObject({ pod: 'client', src: clusterIP, sport: 80, dst: client, dport: 40_000, wrong: 0 });
  });

  it('lets a connected pod speak to itself by its own address', () => {
    const world = makeWorld(web(['client']));
    const out = connectAndSend(world, { from: 'client', src: client, dst: clusterIP });
    expect(out).toMatchObject({ pod: 'client', src: client, dst: client, nat: NAT_DESTINATION });
  });

  it('keeps the client’s address for a local backend of a nodePort', () => {
    const world = makeWorld(web(['web-1']));
    const out = send(world, { from: 'outside', src: outside, dst: node1, dport: 30_080 });
    expect(out).toMatchObject({ pod: 'web-1', src: outside, dst: web1, dport: 8080, nat: NAT_DESTINATION, wrong: 0 });
    const back = reply(world, out);
    expect(back).toMatchObject({ verdict: 'forwarded', src: node1, sport: 30_080, dst: outside, wrong: 0 });
  });

  it('masquerades toward a remote backend and undoes both on the way back', () => {
    const world = makeWorld(web(['web-2']));
    const out = send(world, { from: 'outside', src: outside, dst: node1, dport: 30_080 });
    expect(out).toMatchObject({
      pod: 'web-2',
      node: 1,
      src: node1,
      dst: web2,
      nat: NAT_DESTINATION | NAT_SOURCE,
      wrong: 0,
    });
    expect(out.sport).toBeGreaterThanOrEqual(32_768);
    const back = reply(world, out);
    expect(back).toMatchObject({
      verdict: 'forwarded',
      node: 0,
      src: node1,
      sport: 30_080,
      dst: outside,
      dport: 40_000,
      nat: NAT_REVERSE,
      wrong: 0,
    });
  });

  it('answers from the backend’s node with DSR', () => {
    const world = makeWorld(web(['web-2']), { datapath: { ebpf: { loadBalancerMode: 'dsr' } } });
    const out = send(world, { from: 'outside', src: outside, dst: node1, dport: 30_080 });
    expect(out).toMatchObject({ pod: 'web-2', src: outside, dst: web2, dport: 8080, nat: NAT_DESTINATION, wrong: 0 });
    const back = reply(world, out);
    expect(back).toMatchObject({ verdict: 'forwarded', node: 1, src: node1, sport: 30_080, dst: outside, wrong: 0 });
    const more = send(world, { from: 'outside', src: outside, dst: node1, dport: 30_080, flags: 0x10 });
    expect(more).toMatchObject({ pod: 'web-2', src: outside, wrong: 0 });
    expect(reply(world, more)).toMatchObject({ src: node1, sport: 30_080, dst: outside });
  });

  it('lets the last node that balanced a client’s tuple name the frontend (DSR)', () => {
    const world = makeWorld(web(['web-3']), { datapath: { ebpf: { loadBalancerMode: 'dsr' } } });
    const packet = { from: 'outside', src: outside, dport: 30_080 };
    send(world, { ...packet, node: 0, dst: node1 });
    const second = send(world, { ...packet, node: 1, dst: node2, timeMs: 10 });
    expect(second).toMatchObject({ pod: 'web-3' });
    expect(reply(world, second, { timeMs: 20 })).toMatchObject({ src: node2, sport: 30_080 });
  });

  it('masquerades pods’ traffic out of the cluster and finds the pod again', () => {
    const world = makeWorld([]);
    const out = send(world, { from: 'client', src: client, dst: outside, dport: 443 });
    expect(out).toMatchObject({ verdict: 'forwarded', src: node1, dst: outside, nat: NAT_OUTBOUND, wrong: 0 });
    const back = reply(world, out);
    expect(back).toMatchObject({ pod: 'client', dst: client, dport: 40_000, nat: NAT_REVERSE, wrong: 0 });
  });

  it('leaves pods’ traffic alone without masqueradeOutbound, and inside the cluster', () => {
    const off = makeWorld([], { datapath: { pods: { masqueradeOutbound: false } } });
    expect(send(off, { from: 'client', src: client, dst: outside })).toMatchObject({ src: client, nat: 0 });
    const on = makeWorld([]);
    expect(send(on, { from: 'client', src: client, dst: node2 })).toMatchObject({ verdict: 'delivered', src: client });
    expect(send(on, { from: 'client', src: client, dst: web2 })).toMatchObject({ pod: 'web-2', src: client });
    const hole = client.includes(':') ? 'fd00:10:244::99' : '10.244.0.99';
    expect(send(on, { from: 'client', src: client, dst: hole })).toMatchObject({ verdict: 'forwarded', src: client });
  });

  it('balances UDP in both directions', () => {
    const objects = [
      service('dns', 11, [{ port: 53, nodePort: 30_053, protocol: 'UDP' }]),
      ...slices('dns', [{ port: 5353, protocol: 'UDP' }], ['web-2']),
    ];
    const world = makeWorld(objects);
    const out = send(world, {
      from: 'outside',
      src: outside,
      dst: node1,
      dport: 30_053,
      protocol: 'udp',
      payload: new Uint8Array(33),
    });
    expect(out).toMatchObject({ pod: 'web-2', src: node1, dport: 5353, wrong: 0 });
    const back = reply(world, out, { protocol: 'udp', payload: new Uint8Array(512) });
    expect(back).toMatchObject({ verdict: 'forwarded', src: node1, sport: 30_053, dst: outside, wrong: 0 });
  });

  it('pings without balancing and masquerades the identifier', () => {
    const world = makeWorld(web(['web-2']));
    const v6 = client.includes(':');
    const echo = { protocol: v6 ? 'icmpv6' : 'icmp', type: v6 ? 128 : 8, id: 77, sequence: 1 } as const;
    const ping = send(world, { from: 'client', src: client, dst: outside, l4: echo });
    expect(ping).toMatchObject({ verdict: 'forwarded', src: node1, nat: NAT_OUTBOUND, wrong: 0 });
    const answer = { ...echo, type: v6 ? 129 : 0, id: ping.sport };
    const back = send(world, { from: 'outside', src: outside, dst: node1, l4: answer });
    expect(back).toMatchObject({ pod: 'client', sport: 77, nat: NAT_REVERSE, wrong: 0 });
    const vipPing = send(world, { from: 'client', src: client, dst: clusterIP, l4: echo });
    expect(vipPing).toMatchObject({ verdict: 'forwarded', nat: 0, dst: clusterIP });
  });

  it('translates an ICMP error with the packet it quotes', () => {
    const world = makeWorld(web(['web-2']));
    const out = send(world, { from: 'outside', src: outside, dst: node1, dport: 30_080 });
    const v6 = client.includes(':');
    const unreachable = { protocol: v6 ? 'icmpv6' : 'icmp', type: v6 ? 1 : 3, code: v6 ? 4 : 3 } as const;
    const quote = out.bytes.slice(14);
    const error = send(world, { from: 'web-2', src: web2, dst: node1, l4: unreachable, payload: quote });
    expect(error).toMatchObject({ verdict: 'forwarded', node: 0, src: node1, dst: outside, wrong: 0 });
    const seen = send(makeWorld([]), { from: 'outside', src: '203.0.113.9', dst: '192.168.0.1' });
    expect(seen.verdict).toBe('delivered');
    // The client reads its own packet: to the node's nodePort, from its own port.
    const inner = error.bytes.slice(14 + (v6 ? 40 : 20) + 8);
    const ports = inner.slice(v6 ? 40 : 20);
    expect([ports[0]! * 256 + ports[1]!, ports[2]! * 256 + ports[3]!]).toEqual([40_000, 30_080]);
  });
});

describe('checks at the pod’s interface', () => {
  it('drops a source that is not the pod’s, in either family', () => {
    const world = makeWorld([]);
    for (const src of ['10.244.0.11', '203.0.113.1', 'fd00:10:244::11']) {
      const dst = src.includes(':') ? 'fd00:10:244:1::12' : '10.244.1.12';
      expect(send(world, { from: 'client', src, dst })).toMatchObject({ verdict: 'dropped', reason: 'invalid-source' });
    }
  });

  it('lets an unlisted pod send what it likes', () => {
    const world = makeWorld(web(['web-2']));
    const out = send(world, { from: 'unlisted', src: '10.244.0.200', dst: '10.96.0.10' });
    expect(out).toMatchObject({ pod: 'web-2', src: '10.244.0.200' });
  });

  it('drops protocols that the maps have no keys for, and loopback addresses', () => {
    const world = makeWorld([]);
    const esp = send(world, { from: 'client', src: '10.244.0.10', dst: '10.244.1.12', l4: { protocol: 50 } });
    expect(esp).toMatchObject({ verdict: 'dropped', reason: 'unknown-l4' });
    const local = send(world, { from: 'client', src: '10.244.0.10', dst: '127.0.0.1' });
    expect(local).toMatchObject({ verdict: 'dropped', reason: 'martian' });
    for (const [src, dst] of [
      ['127.0.0.1', '192.168.0.1'],
      ['::1', '2001:db8::1'],
      ['224.0.0.9', '192.168.0.1'],
      ['0.0.0.0', '192.168.0.1'],
      ['203.0.113.7', '0.1.2.3'],
      ['203.0.113.7', '224.0.0.251'],
      ['2001:db8:ffff::7', 'ff05::2'],
      ['2001:db8:ffff::7', '::1'],
    ] as const) {
      expect(send(world, { from: 'outside', src, dst })).toMatchObject({ verdict: 'dropped', reason: 'martian' });
    }
    const groups = send(world, { from: 'outside', src: '0.0.0.0', dst: '255.255.255.255', protocol: 'udp' });
    expect(groups).toMatchObject({ verdict: 'delivered', pod: null });
  });

  it('drops an expired frame and answers its sender', () => {
    const world = makeWorld([]);
    const out = send(world, { from: 'client', src: '10.244.0.10', dst: '10.244.1.12', ip: { ttl: 1 } });
    expect(out).toMatchObject({ verdict: 'dropped', reason: 'ttl-exceeded' });
    expect(world.dp.answerCount).toBe(1);
  });
});

describe('answers of a node', () => {
  /** Runs the one answer that waits; its burst tells how it ended. */
  const runAnswer = (world: World) => {
    const { answers } = world.dp;
    expect(world.dp.answerCount).toBe(1);
    world.dp.answerCount = 0;
    runBurst(world.dp, answers, 1);
    expect(verifyFrame(answers, 0)).toBe(0);
    return answers;
  };

  it('reach a pod and a client outside', () => {
    const world = makeWorld([service('web', 10, WEB)], PER_PACKET);
    send(world, { from: 'client', src: '10.244.0.10', dst: '10.96.0.10' });
    let answers = runAnswer(world);
    expect([answers.verdict[0], answers.target[0]]).toEqual([VERDICT_DELIVERED, world.pods.get('client')]);
    send(world, { from: 'outside', src: CLIENT6, dst: '2001:db8::1', dport: 30_080 });
    answers = runAnswer(world);
    expect(answers.verdict[0]).toBe(VERDICT_FORWARDED);
  });

  it('quote a translated frame as its sender wrote it', () => {
    const world = makeWorld(web(['web-2']), PER_PACKET);
    send(world, { from: 'client', src: '10.244.0.10', dst: '10.96.0.10', ip: { ttl: 1 } });
    const answers = runAnswer(world);
    expect([answers.verdict[0], answers.target[0]]).toEqual([VERDICT_DELIVERED, world.pods.get('client')]);
    const inner = new Int32Array(TUPLE_WORDS);
    expect(innerTuple(answers, 0, inner)).toBe(0);
    expect([inner[TUPLE_DST], inner[TUPLE_DPORT]]).toEqual([parseAddress('10.96.0.10')!.words[0], 80]);
  });
});

describe('Services without a backend', () => {
  const none = () => makeWorld([service('web', 10, WEB)], PER_PACKET);

  it('rejects with an ICMP error', () => {
    const world = none();
    const out = send(world, { from: 'client', src: '10.244.0.10', dst: '10.96.0.10' });
    expect(out).toMatchObject({ verdict: 'rejected', reason: 'no-service-backend' });
    expect(world.dp.answerCount).toBe(1);
    const outside = send(none(), { from: 'outside', src: CLIENT, dst: '192.168.0.1', dport: 30_080 });
    expect(outside).toMatchObject({ verdict: 'rejected', reason: 'no-service-backend' });
  });

  it('fails a connect', () => {
    const world = makeWorld([service('web', 10, WEB)]);
    const out = connectAndSend(world, { from: 'client', src: '10.244.0.10', dst: '10.96.0.10' });
    expect(out).toMatchObject({ verdict: 'rejected', reason: 'no-service-backend' });
  });

  it('drops where only a Local policy leaves none', () => {
    const external = makeWorld(web(['web-2'], { externalTrafficPolicy: 'Local' }));
    const out = send(external, { from: 'outside', src: CLIENT, dst: '192.168.0.1', dport: 30_080 });
    expect(out).toMatchObject({ verdict: 'dropped', reason: 'no-service-backend' });
    expect(external.dp.answerCount).toBe(0);
    const there = send(external, { from: 'outside', node: 1, src: CLIENT, dst: '192.168.0.2', dport: 30_080 });
    expect(there).toMatchObject({ pod: 'web-2', src: CLIENT });
    const internal = makeWorld(web(['web-2'], { internalTrafficPolicy: 'Local' }));
    const inside = connectAndSend(internal, { from: 'client', src: '10.244.0.10', dst: '10.96.0.10' });
    expect(inside).toMatchObject({ verdict: 'dropped', reason: 'no-service-backend' });
  });
});

describe('from outside', () => {
  it('refuses ClusterIPs unless they are served outside', () => {
    const packet = { from: 'outside', src: CLIENT, dst: '10.96.0.10' };
    expect(send(makeWorld(web(['web-1'])), packet)).toMatchObject({ verdict: 'dropped', reason: 'is-cluster-ip' });
    const open = makeWorld(web(['web-1']), { datapath: { ebpf: { externalClusterIP: true } } });
    expect(send(open, packet)).toMatchObject({ pod: 'web-1' });
  });

  it('asks source ranges for load balancer addresses only', () => {
    const spec = {
      type: 'LoadBalancer',
      loadBalancerSourceRanges: [' 198.51.100.0/24', '2001:db8:ffff::/48'],
      externalIPs: ['198.18.7.7'],
      status: { loadBalancer: { ingress: [{ ip: '203.0.113.100' }, { ip: '2001:db8:1::100' }] } },
    };
    const world = makeWorld(web(['web-1'], spec));
    const to = (dst: string, src: string, dport = 80) => send(world, { from: 'outside', src, dst, dport });
    expect(to('203.0.113.100', CLIENT)).toMatchObject({ verdict: 'dropped', reason: 'not-in-source-range' });
    expect(to('203.0.113.100', '198.51.100.9')).toMatchObject({ pod: 'web-1' });
    expect(to('2001:db8:1::100', CLIENT6)).toMatchObject({ pod: 'web-1' });
    expect(to('2001:db8:1::100', '2001:db8:eeee::1')).toMatchObject({ reason: 'not-in-source-range' });
    expect(to('198.18.7.7', CLIENT)).toMatchObject({ pod: 'web-1' });
    expect(to('192.168.0.1', CLIENT, 30_080)).toMatchObject({ pod: 'web-1' });
    // Sockets of the cluster are not asked.
    const inside = connectAndSend(world, { from: 'client', src: '10.244.0.10', dst: '203.0.113.100' });
    expect(inside).toMatchObject({ pod: 'web-1' });
  });

  it('serves nodePorts on the node’s own addresses, within the ranges', () => {
    const world = makeWorld(web(['web-1']));
    const foreign = send(world, { from: 'outside', node: 0, src: CLIENT, dst: '192.168.0.3', dport: 30_080 });
    expect(foreign).toMatchObject({ node: 0, pod: 'web-1', src: '192.168.0.3' });
    const narrow = makeWorld(web(['web-1']), { datapath: { kubeProxy: { nodePortAddresses: ['192.168.0.1/32'] } } });
    const to = (dst: string, node: number) => send(narrow, { from: 'outside', node, src: CLIENT, dst, dport: 30_080 });
    expect(to('192.168.0.1', 0)).toMatchObject({ pod: 'web-1' });
    expect(to('192.168.0.2', 1)).toMatchObject({ verdict: 'delivered', pod: null, nat: 0 });
    // No range of this family: all of its addresses serve.
    const v6 = send(narrow, { from: 'outside', node: 1, src: CLIENT6, dst: '2001:db8::2', dport: 30_080 });
    expect(v6).toMatchObject({ pod: 'web-1', src: '2001:db8::2' });
  });

  it('routes what is not for a Service', () => {
    const world = makeWorld(web(['web-1']));
    const to = (dst: string, dport = 22) => send(world, { from: 'outside', src: CLIENT, dst, dport });
    expect(to('192.168.0.1')).toMatchObject({ verdict: 'delivered', pod: null, node: 0 });
    expect(to('10.244.1.12')).toMatchObject({ pod: 'web-2', src: CLIENT, nat: 0 });
    expect(to('10.96.0.10', 81)).toMatchObject({ verdict: 'forwarded', nat: 0 });
    expect(to('10.244.1.77')).toMatchObject({ verdict: 'forwarded', node: 1 });
  });
});

describe('the host', () => {
  it('connects to ClusterIPs and nodePorts, on loopback too', () => {
    const world = makeWorld(web(['web-2']));
    const from = (src: string, dst: string, dport: number) =>
      connectAndSend(world, { from: 'host', node: 0, src, dst, dport, sport: 50_000 + (dport % 100) });
    expect(from('192.168.0.1', '10.96.0.10', 80)).toMatchObject({ pod: 'web-2', src: '192.168.0.1' });
    expect(from('192.168.0.1', '192.168.0.3', 30_080)).toMatchObject({ pod: 'web-2' });
    expect(from('127.0.0.1', '127.0.0.1', 30_080)).toMatchObject({ pod: 'web-2', src: '192.168.0.1' });
    expect(from('::1', '::1', 30_080)).toMatchObject({ pod: 'web-2', src: '2001:db8::1' });
    expect(from('127.0.0.1', '127.0.0.1', 22)).toMatchObject({ verdict: 'delivered', pod: null, node: 0 });
  });

  it('has its sockets balanced even where pods’ are not', () => {
    const world = makeWorld(web(['web-2']), PER_PACKET);
    expect(connectAndSend(world, { from: 'host', src: '192.168.0.1', dst: '10.96.0.10' })).toMatchObject({
      pod: 'web-2',
    });
    const pod = connectAndSend(world, { from: 'client', src: '10.244.0.10', dst: '10.96.0.10' });
    expect(pod).toMatchObject({ pod: 'web-2', nat: NAT_DESTINATION });
  });

  it('sends frames of its own as they are', () => {
    const world = makeWorld(web(['web-2']));
    const raw = send(world, { from: 'host', src: '192.168.0.1', dst: '10.96.0.10' });
    expect(raw).toMatchObject({ verdict: 'forwarded', nat: 0 });
  });
});

describe('SCTP', () => {
  const sctp = (port: number, target: number) => [
    service('sig', 12, [{ port, nodePort: 30_036, protocol: 'SCTP' }]),
    ...slices('sig', [{ port: target, protocol: 'SCTP' }], ['web-2']),
  ];
  const packet = { from: 'client', src: '10.244.0.10', dst: '10.96.0.12', protocol: 'sctp', dport: 3868 } as const;

  it('is balanced where the port stays, without touching the CRC', () => {
    const world = makeWorld(sctp(3868, 3868));
    const out = connectAndSend(world, packet);
    expect(out).toMatchObject({ pod: 'web-2', dport: 3868, nat: NAT_DESTINATION, wrong: 0 });
    expect(reply(world, out, { protocol: 'sctp' })).toMatchObject({ pod: 'client', src: '10.96.0.12', wrong: 0 });
  });

  it('is dropped where the port would change, needs SNAT, or is switched off', () => {
    expect(connectAndSend(makeWorld(sctp(3868, 3869)), packet)).toMatchObject({
      reason: 'unsupported-service-protocol',
    });
    const outside = { ...packet, from: 'outside', src: CLIENT, dst: '192.168.0.1', dport: 30_036 };
    const same = [
      service('sig', 12, [{ port: 3868, nodePort: 30_036, protocol: 'SCTP' }]),
      ...slices('sig', [{ port: 30_036, protocol: 'SCTP' }], ['web-2']),
    ];
    expect(send(makeWorld(same), outside)).toMatchObject({ reason: 'nat-unsupported-protocol' });
    const off = makeWorld(sctp(3868, 3868), { datapath: { ebpf: { sctp: false } } });
    expect(send(off, packet)).toMatchObject({ verdict: 'dropped', reason: 'unknown-l4' });
  });

  it('leaves the cluster unmasqueraded', () => {
    const out = send(makeWorld([]), { ...packet, dst: CLIENT });
    expect(out).toMatchObject({ verdict: 'forwarded', src: '10.244.0.10', nat: 0, wrong: 0 });
  });
});

describe('conntrack', () => {
  const open = (world: World, timeMs: number, flags: number, sport = 40_000) =>
    send(world, { from: 'outside', src: CLIENT, dst: '192.168.0.1', dport: 30_080, sport, timeMs, flags });
  const flows = (world: World) => ctFlows(world.dp.conntrack4, 0);
  const isKnown = (world: World, timeMs: number) => {
    const before = world.dp.counters[COUNT_NEW_FLOWS]!;
    open(world, timeMs, 0x10);
    return world.dp.counters[COUNT_NEW_FLOWS] === before;
  };

  it('keeps a SYN for 60 s and an open flow for 8,000 s', () => {
    const syn = makeWorld(web(['web-1']));
    open(syn, 0, SYN);
    expect(isKnown(syn, 60_001)).toBe(false);
    const established = makeWorld(web(['web-1']));
    open(established, 0, SYN);
    open(established, 1000, 0x10);
    expect(isKnown(established, 8_000_500)).toBe(true);
    expect(isKnown(established, 16_100_000)).toBe(false);
  });

  it('forgets a flow 10 s after both sides closed it', () => {
    const world = makeWorld(web(['web-1']));
    const first = open(world, 0, SYN);
    open(world, 10, 0x10);
    open(world, 20, 0x11);
    expect(isKnown(world, 100_000)).toBe(true);
    reply(world, first, { flags: 0x11, timeMs: 100_010 });
    expect(isKnown(world, 105_000)).toBe(true);
    expect(isKnown(world, 110_020)).toBe(false);
  });

  it('forgets a reset flow 10 s later and opens it again for a new SYN', () => {
    const world = makeWorld(web(['web-1']));
    open(world, 0, SYN);
    open(world, 10, 0x04);
    open(world, 5000, SYN);
    open(world, 5010, 0x10);
    expect(isKnown(world, 1_000_000)).toBe(true);
    open(world, 1_000_010, 0x14);
    expect(isKnown(world, 1_010_020)).toBe(false);
  });

  it('keeps UDP for 60 s after the last packet of either side', () => {
    const objects = [
      service('dns', 11, [{ port: 53, protocol: 'UDP' }]),
      ...slices('dns', [{ port: 53, protocol: 'UDP' }], ['web-1']),
    ];
    const world = makeWorld(objects, PER_PACKET);
    const packet = { from: 'client', src: '10.244.0.10', dst: '10.96.0.11', dport: 53, protocol: 'udp' } as const;
    const out = send(world, packet);
    reply(world, out, { protocol: 'udp', timeMs: 50_000 });
    send(world, { ...packet, timeMs: 100_000 });
    expect(world.dp.counters[COUNT_NEW_FLOWS]).toBe(1);
    send(world, { ...packet, timeMs: 170_000 });
    expect(world.dp.counters[COUNT_NEW_FLOWS]).toBe(2);
  });

  it('gives up idle flows when it is full, and refuses no new one', () => {
    const world = makeWorld(web(['web-1']), { flows: 16 });
    for (let i = 0; i < 200; i++) expect(open(world, i, SYN, 20_000 + i).verdict).toBe('delivered');
    expect(flows(world)).toBe(16);
    expect(world.dp.counters[COUNT_EVICTIONS]).toBe(184);
  });

  it('counts a flow over two nodes once', () => {
    const world = makeWorld(web(['web-2']));
    send(world, { from: 'client', src: '10.244.0.10', dst: '10.244.1.12' });
    expect(world.dp.counters[COUNT_NEW_FLOWS]).toBe(1);
    open(world, 0, SYN);
    expect(world.dp.counters[COUNT_NEW_FLOWS]).toBe(2);
    ctClear(world.dp.conntrack4);
  });

  it('takes over a tuple that another flow holds', () => {
    const objects = [...web(['web-1']), service('other', 11, [{ port: 80 }]), ...slices('other', SLICE, ['web-1'])];
    const world = makeWorld(objects, PER_PACKET);
    const to = (dst: string) => send(world, { from: 'client', src: '10.244.0.10', dst });
    expect(to('10.96.0.10').pod).toBe('web-1');
    const second = to('10.96.0.11');
    expect(second.pod).toBe('web-1');
    expect(reply(world, second)).toMatchObject({ src: '10.96.0.11' });
  });

  it('runs out of masquerade ports with a reason', () => {
    const world = makeWorld(web(['web-2']), { flows: 100_000 });
    let dropped = 0;
    for (let i = 0; i < 32_770; i++) {
      const src = `198.51.100.${1 + (i >> 14)}`;
      const sport = 1024 + (i & 16_383);
      const out = send(world, {
        from: 'outside',
        src,
        dst: '192.168.0.1',
        dport: 30_080,
        sport,
        timeMs: i >> 8,
        flowHash: i,
      });
      if (out.reason === 'no-nat-mapping') dropped++;
    }
    expect(dropped).toBe(2);
  });
});

describe('fragments', () => {
  const udp = { protocol: 'udp', sport: 40_000, dport: 53, length: 1508 } as const;
  const dns = [
    service('dns', 11, [{ port: 53, protocol: 'UDP' }]),
    ...slices('dns', [{ port: 5353, protocol: 'UDP' }], ['web-2']),
  ];
  const first = { l4: udp, payload: new Uint8Array(1000), ip: { id: 9, moreFragments: true } };
  const later = { l4: { protocol: 17 }, payload: new Uint8Array(500), ip: { id: 9, fragmentOffset: 1008 } };

  it('follow the first of their datagram', () => {
    const world = makeWorld(dns, PER_PACKET);
    const packet = { from: 'client', src: '10.244.0.10', dst: '10.96.0.11' };
    expect(send(world, { ...packet, ...first })).toMatchObject({ pod: 'web-2', dst: '10.244.1.12' });
    expect(send(world, { ...packet, ...later })).toMatchObject({ pod: 'web-2', dst: '10.244.1.12', wrong: 0 });
  });

  it('are dropped without it, even where nothing would have to be translated', () => {
    const world = makeWorld(dns, PER_PACKET);
    const lost = send(world, { from: 'client', src: '10.244.0.10', dst: '10.96.0.11', ...later });
    expect(lost).toMatchObject({ verdict: 'dropped', reason: 'fragment-first-missing' });
    const plain = send(world, { from: 'client', src: '10.244.0.10', dst: '10.244.1.12', ...later });
    expect(plain).toMatchObject({ verdict: 'dropped', reason: 'fragment-first-missing' });
  });
});

describe('a connection that begins anew', () => {
  it('is balanced again when its backend has left the Service', () => {
    const before = makeWorld(web(['web-2']));
    const packet = { from: 'outside', src: CLIENT, dst: '192.168.0.1', dport: 30_080 };
    expect(send(before, packet).pod).toBe('web-2');
    const after = makeWorld(web(['web-1']));
    const moved = { ...after, dp: { ...after.dp, conntrack4: before.dp.conntrack4 } };
    expect(send(moved, { ...packet, flags: 0x10, timeMs: 10 }).pod).toBe('web-2');
    expect(send(moved, { ...packet, timeMs: 20 }).pod).toBe('web-1');
  });
});
