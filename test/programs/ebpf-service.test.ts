/** Which backends a client of the ebpf mode may reach, by policy, readiness, hints, affinity and algorithm. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { COUNT_CHOICES } from '../../engine/src/programs/count.ts';
import { EVENT_CHOICE, EVENT_MAP, EVENT_NAT, EVENT_ROUTE } from '../../engine/src/programs/record.ts';
import {
  type BackendParts,
  connectAndSend,
  makeWorld,
  type Packet,
  reachable,
  send,
  service,
  slices,
  type World,
  type WorldOptions,
} from './ebpf-fixture.ts';

const WEB = [{ port: 80, nodePort: 30_080 }];
const SLICE = [{ port: 8080 }];
const CLIENT = '203.0.113.7';
const SEED = process.env['FLATPATH_SEED'];
const runs = (numRuns: number) => ({ numRuns, ...(SEED === undefined ? {} : { seed: Number(SEED) }) });

const POD: Packet = { from: 'client', src: '10.244.0.10', dst: '10.96.0.10' };
const OUTSIDE: Packet = { from: 'outside', src: CLIENT, dst: '192.168.0.1', dport: 30_080 };

function world(
  backends: readonly (string | BackendParts)[],
  spec: object = {},
  options: WorldOptions = {},
): () => World {
  const objects = [service('web', 10, WEB, spec), ...slices('web', SLICE, backends)];
  return () => makeWorld(objects, options);
}

const ALL = ['web-1', 'web-2', 'web-3'];
const ALL_REACHED = ['web-1 8080', 'web-2 8080', 'web-3 8080'];

describe('traffic policies', () => {
  it('binds only traffic from outside with externalTrafficPolicy Local', () => {
    const make = world(ALL, { externalTrafficPolicy: 'Local' });
    expect(reachable(make, OUTSIDE)).toEqual(['web-1 8080']);
    expect(reachable(make, { ...OUTSIDE, node: 1, dst: '192.168.0.2' })).toEqual(['web-2 8080']);
    expect(reachable(make, POD, true)).toEqual(ALL_REACHED);
    expect(reachable(make, { ...POD, dst: '192.168.0.2', dport: 30_080 }, true)).toEqual(ALL_REACHED);
    const host = { from: 'host', src: '192.168.0.1', dst: '192.168.0.1', dport: 30_080 };
    expect(reachable(make, host, true)).toEqual(ALL_REACHED);
    expect(reachable(make, { ...host, src: '127.0.0.1', dst: '127.0.0.1' }, true)).toEqual(ALL_REACHED);
  });

  it('binds the ClusterIP alone with internalTrafficPolicy Local', () => {
    const make = world(ALL, { internalTrafficPolicy: 'Local' });
    expect(reachable(make, POD, true)).toEqual(['web-1 8080']);
    expect(reachable(make, { ...POD, dst: '192.168.0.1', dport: 30_080 }, true)).toEqual(ALL_REACHED);
    expect(reachable(make, OUTSIDE)).toEqual(ALL_REACHED);
  });

  it('binds frames at the pod’s interface as it binds sockets', () => {
    const make = world(ALL, { internalTrafficPolicy: 'Local' }, { datapath: { ebpf: { socketLB: false } } });
    expect(reachable(make, POD)).toEqual(['web-1 8080']);
    expect(reachable(make, { ...POD, dst: '192.168.0.3', dport: 30_080 })).toEqual(ALL_REACHED);
  });

  it('captures external and load balancer addresses, but not those of ipMode Proxy', () => {
    const make = world(ALL, {
      type: 'LoadBalancer',
      externalIPs: ['198.18.7.7'],
      status: { loadBalancer: { ingress: [{ ip: '203.0.113.100' }, { ip: '203.0.113.101', ipMode: 'Proxy' }] } },
    });
    for (const dst of ['198.18.7.7', '203.0.113.100']) {
      expect(reachable(make, { ...POD, dst }, true)).toEqual(ALL_REACHED);
      expect(reachable(make, { ...OUTSIDE, dst, dport: 80 })).toEqual(ALL_REACHED);
    }
    expect(reachable(make, { ...POD, dst: '203.0.113.101' }, true)).toEqual(['forwarded 80']);
    expect(reachable(make, { ...OUTSIDE, dst: '203.0.113.101', dport: 80 })).toEqual(['forwarded 80']);
  });
});

describe('readiness and hints', () => {
  const terminating = { ready: false, serving: true, terminating: true };
  const unready = { ready: false, serving: false, terminating: false };

  it('uses terminating backends only where there is no ready one, for each list by itself', () => {
    const draining: BackendParts[] = [
      { pod: 'web-1', conditions: terminating },
      { pod: 'web-2' },
      { pod: 'web-3', conditions: unready },
    ];
    const make = world(draining, { externalTrafficPolicy: 'Local' });
    expect(reachable(make, POD, true)).toEqual(['web-2 8080']);
    expect(reachable(make, OUTSIDE)).toEqual(['web-1 8080']);
    const last = world([
      { pod: 'web-1', conditions: terminating },
      { pod: 'web-3', conditions: unready },
    ]);
    expect(reachable(last, POD, true)).toEqual(['web-1 8080']);
  });

  it('drops where the only usable backend of a Local policy drains elsewhere', () => {
    const make = world([{ pod: 'web-2', conditions: terminating }], { externalTrafficPolicy: 'Local' });
    expect(reachable(make, OUTSIDE)).toEqual(['dropped no-service-backend']);
    const none = world([{ pod: 'web-2', conditions: unready }], { externalTrafficPolicy: 'Local' });
    expect(reachable(none, OUTSIDE)).toEqual(['rejected no-service-backend']);
  });

  it('follows zone hints that cover every ready backend', () => {
    const zone = (pod: string, name: string): BackendParts => ({ pod, hints: { forZones: [{ name }] } });
    const make = world([zone('web-1', 'zone-a'), zone('web-2', 'zone-b'), zone('web-3', 'zone-b')]);
    expect(reachable(make, POD, true)).toEqual(['web-1 8080']);
    expect(reachable(make, { ...OUTSIDE, node: 2, dst: '192.168.0.3' })).toEqual(['web-2 8080', 'web-3 8080']);
    const partly = world([zone('web-1', 'zone-a'), 'web-2']);
    expect(reachable(partly, POD, true)).toEqual(['web-1 8080', 'web-2 8080']);
  });

  it('prefers node hints to zone hints', () => {
    const both = (pod: string, node: string): BackendParts => ({
      pod,
      hints: { forNodes: [{ name: node }], forZones: [{ name: 'zone-a' }] },
    });
    const make = world([both('web-1', 'node-1'), both('web-2', 'node-3')]);
    expect(reachable(make, POD, true)).toEqual(['web-1 8080']);
    expect(reachable(make, { ...OUTSIDE, node: 1, dst: '192.168.0.2' })).toEqual(['web-1 8080', 'web-2 8080']);
    expect(reachable(make, { ...OUTSIDE, node: 2, dst: '192.168.0.3' })).toEqual(['web-2 8080']);
  });
});

describe('session affinity', () => {
  const spec = { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 100 } } };
  const backendOf = (made: World, sport: number, timeMs: number, packet: Packet = OUTSIDE) =>
    send(made, { ...packet, sport, timeMs, flowHash: sport * 7919 }).pod;

  it('keeps a client with its backend until the timeout has passed', () => {
    const made = world(ALL, spec)();
    const first = backendOf(made, 1024, 0);
    for (let i = 1; i <= 50; i++) expect(backendOf(made, 1024 + i, i * 99_999)).toBe(first);
    const fresh = new Set<string | null>();
    for (let i = 0; i < 50; i++) fresh.add(backendOf(made, 2000 + i, 6_000_000 + i * 100_000));
    expect(fresh.size).toBe(3);
  });

  it('is of one client, one frontend and one node', () => {
    const made = world(ALL, spec)();
    const seen = new Set<string | null>();
    for (let i = 0; i < 40; i++) seen.add(backendOf(made, 1024 + i, 0, { ...OUTSIDE, src: `203.0.113.${i + 1}` }));
    expect(seen.size).toBe(3);
    const nodes = new Set<string | null>();
    for (let i = 0; i < 40; i++) {
      const src = `198.51.100.${i + 1}`;
      const one = backendOf(made, 1024 + i, 0, { ...OUTSIDE, src });
      const other = backendOf(made, 2048 + i, 0, { ...OUTSIDE, src, node: 1, dst: '192.168.0.2' });
      nodes.add(`${one === other}`);
    }
    expect(nodes.size).toBe(2);
  });

  it('holds for sockets too, of a host whatever address they speak from', () => {
    const made = world(ALL, spec)();
    const connect = (src: string, sport: number) =>
      connectAndSend(made, { from: 'host', src, dst: '10.96.0.10', sport, flowHash: sport * 7919 }).pod;
    const first = connect('192.168.0.1', 1024);
    for (let i = 1; i < 20; i++) expect(connect(i % 2 === 0 ? '192.168.0.1' : '127.0.0.1', 1024 + i)).toBe(first);
  });

  it('chooses again when the backend has gone', () => {
    const before = world(ALL, spec)();
    const first = backendOf(before, 1024, 0);
    const left = ALL.filter((pod) => pod !== first);
    const after = world(left, spec)();
    const moved = { ...after, dp: { ...after.dp, affinity: before.dp.affinity } };
    expect(left).toContain(backendOf(moved, 1025, 1000));
  });
});

describe('algorithms', () => {
  const counts = (made: World, packet: Packet, flows: number): Map<string | null, number> => {
    const found = new Map<string | null, number>();
    for (let i = 0; i < flows; i++) {
      const out = send(made, { ...packet, sport: 1024 + i, flowHash: Math.imul(i + 1, 0x9e3779b1) });
      found.set(out.pod, (found.get(out.pod) ?? 0) + 1);
    }
    return found;
  };

  it('spreads flows evenly, at random and by rings', () => {
    for (const algorithm of ['random', 'maglev'] as const) {
      const made = world(ALL, {}, { flows: 16_384, datapath: { ebpf: { algorithm } } })();
      for (const share of counts(made, OUTSIDE, 6000).values()) {
        expect(share).toBeGreaterThan(1800);
        expect(share).toBeLessThan(2200);
      }
    }
  });

  it('gives a packet one backend on every node and every address with Maglev', () => {
    const make = world(
      ALL,
      { externalIPs: ['198.18.7.7', '198.18.7.8'] },
      { datapath: { ebpf: { algorithm: 'maglev' } }, flows: 4096 },
    );
    const made = make();
    for (let i = 0; i < 200; i++) {
      const packet = { ...OUTSIDE, sport: 1024 + i, dport: 80 };
      const pods = ['198.18.7.7', '198.18.7.8'].flatMap((dst) =>
        [0, 1, 2].map((node) => send(made, { ...packet, dst, node, flowHash: i * 31 + node }).pod),
      );
      expect(new Set(pods).size).toBe(1);
    }
  });

  it('moves few flows when a Maglev backend leaves', () => {
    // Of one size: a ring that grows or shrinks with its backends moves most flows.
    const options = { datapath: { ebpf: { algorithm: 'maglev', maglevTableSize: 1021 } }, flows: 8192 } as const;
    const before = world(ALL, {}, options)();
    const after = world(['web-1', 'web-3'], {}, options)();
    let moved = 0;
    let kept = 0;
    for (let i = 0; i < 2000; i++) {
      const packet = { ...OUTSIDE, sport: 1024 + i };
      const was = send(before, packet).pod;
      if (was === 'web-2') continue;
      if (send(after, packet).pod === was) kept++;
      else moved++;
    }
    expect(moved / (moved + kept)).toBeLessThan(0.05);
  });

  it('ignores the source port of a Maglev client with session affinity', () => {
    const spec = { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 1 } } };
    const made = world(ALL, spec, { datapath: { ebpf: { algorithm: 'maglev' } } })();
    const pods = new Set<string | null>();
    for (let i = 0; i < 30; i++) pods.add(send(made, { ...OUTSIDE, sport: 1024 + i, timeMs: i * 5000 }).pod);
    expect(pods.size).toBe(1);
  });

  it('draws the same backend for the same flow again', () => {
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 1024, max: 65_535 }), (flowHash, sport) => {
        const packet = { ...OUTSIDE, flowHash, sport };
        expect(send(world(ALL)(), packet).pod).toBe(send(world(ALL)(), packet).pod);
      }),
      runs(5),
    );
  });
});

describe('the recorder', () => {
  const codes = (made: World): number[] => {
    const found: number[] = [];
    for (let at = 0; at < made.ring.used; at += made.ring.words[at]! >> 8) found.push(made.ring.words[at]! & 255);
    return found;
  };

  it('tells every map, the choice, the translation and the route', () => {
    const made = world(ALL)();
    made.ring.on = true;
    const out = send(made, OUTSIDE);
    const told = codes(made);
    for (const code of [EVENT_MAP, EVENT_CHOICE, EVENT_NAT, EVENT_ROUTE]) expect(told).toContain(code);
    expect(made.dp.counters[COUNT_CHOICES]).toBe(1);
    const maps = made.image.maps!;
    const rows: string[] = [];
    for (let at = 0; at < made.ring.used; at += made.ring.words[at]! >> 8) {
      if ((made.ring.words[at]! & 255) !== EVENT_MAP) continue;
      const [map, row] = [made.ring.words[at + 1]!, made.ring.words[at + 2]!];
      if (row >= 0) rows.push(`${maps.mapName(map)}: ${maps.describeRow(map, row).text}`);
    }
    expect(rows[0]).toBe('cilium_lb_services: 0.0.0.0:30080/TCP (NodePort of default/web)');
    expect(rows[1]).toBe('cilium_lb_services slots: 3 backends, traffic policy Cluster');
    expect(rows[2]).toContain(`on ${made.image.model.topology.nodes[out.node]!.metadata.name}`);
  });

  it('changes nothing', () => {
    const silent = send(world(ALL)(), OUTSIDE);
    const made = world(ALL)();
    made.ring.on = true;
    expect(send(made, OUTSIDE)).toEqual(silent);
  });
});
