/** The engine's tables of the ipvs mode against the rulesets that they were made from. */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Cluster } from '../../control/src/cluster/cluster.ts';
import type { Ipset } from '../../control/src/compile/ipset.ts';
import { hostPrefix, type Match, makeRule } from '../../control/src/compile/iptables-rules.ts';
import { type CompiledIpvs, compileIpvs, encodeIpvs } from '../../control/src/compile/ipvs.ts';
import { KubeProxyIpvs } from '../../control/src/compile/ipvs-kube-proxy.ts';
import type { IpvsRuleset, VirtualServer } from '../../control/src/compile/ipvs-ruleset.ts';
import { PROTOCOL_NUMBER } from '../../control/src/compile/service-ports.ts';
import { parseAddress, parsePrefix } from '../../control/src/model/address.ts';
import type { DatapathConfig } from '../../control/src/model/datapath.ts';
import { MAP_REAL_SERVERS, MAP_SETS, MAP_VIRTUAL_SERVERS } from '../../engine/src/programs/ipvs-image.ts';
import { findInSet, setInstance } from '../../engine/src/tables/ipset.ts';
import {
  findReal,
  findServer,
  RS_ADDRESS,
  RS_PORT,
  RS_WEIGHT,
  realWord,
  SCHED_MH,
  SCHED_RR,
  SCHEDULER_NAMES,
  serverWord,
  servicePort,
  VS_COUNT,
  VS_FIRST,
  VS_FLAGS,
  VS_HASH_PORT,
  VS_ID,
  VS_PERSISTENT,
  VS_SCHEDULER,
  VS_TIMEOUT_MS,
} from '../../engine/src/tables/ipvs-services.ts';
import { kubeProxyConfig, makeCluster, makeNode, makeService, makeSlice } from './fixture.ts';
import { randomCluster, randomConfig, seeded } from './random-cluster.ts';

const KERNEL = { conntrackMax: 1024, tcpBeLiberal: false };

function compile(cluster: Cluster, config: DatapathConfig, nodes: readonly string[]): CompiledIpvs {
  return compileIpvs(cluster, config, nodes, KERNEL);
}

function rowOf({ image }: CompiledIpvs, node: number, { virtual }: VirtualServer): number {
  if (virtual.kind !== 'address') throw new Error('kube-proxy makes no virtual server by mark');
  const { address, port, protocol } = virtual;
  const [a0, a1, a2, a3] = address.words;
  const key = servicePort(address.family, port, PROTOCOL_NUMBER[protocol]);
  return findServer(image.services, node, a0, a1, a2, a3, key);
}

/** The element of a set that holds one of its own elements; -1 for none. */
function findElement({ image, setNames }: CompiledIpvs, node: number, set: Ipset, index: number): number {
  const { parts } = set.elements[index]!;
  const port = parts.find((part) => part.kind === 'port');
  const [a, b] = parts.flatMap((part) => (part.kind === 'prefix' ? [part.prefix.words] : []));
  const word = port === undefined ? 0 : ((port.protocol ?? 0) << 16) | port.first;
  const instance = setInstance(image.sets, node, setNames.indexOf(set.name));
  const found = findInSet(
    image.sets,
    instance,
    word,
    a?.[0] ?? 0,
    a?.[1] ?? 0,
    a?.[2] ?? 0,
    a?.[3] ?? 0,
    b?.[0] ?? 0,
    b?.[1] ?? 0,
    b?.[2] ?? 0,
    b?.[3] ?? 0,
  );
  return found === -1 ? -1 : found >> 1;
}

function expectServer(compiled: CompiledIpvs, node: number, server: VirtualServer): void {
  const { services } = compiled.image;
  const row = rowOf(compiled, node, server);
  expect(compiled.servers[row]).toEqual(server);
  expect(SCHEDULER_NAMES[serverWord(services, row, VS_SCHEDULER)]).toBe(server.scheduler);
  expect((serverWord(services, row, VS_FLAGS) & VS_PERSISTENT) !== 0).toBe(server.persistentSeconds > 0);
  expect(serverWord(services, row, VS_TIMEOUT_MS)).toBe(server.persistentSeconds * 1000);
  const first = serverWord(services, row, VS_FIRST);
  const count = serverWord(services, row, VS_COUNT);
  expect(count).toBe(server.realServers.length);
  // The kernel puts what is added at the head.
  server.realServers.toReversed().forEach((real, i) => {
    expect(compiled.reals[first + i]).toEqual(real);
    expect(realWord(services, first + i, RS_PORT)).toBe(real.port);
    expect(realWord(services, first + i, RS_WEIGHT)).toBe(real.weight);
    expect([0, 1, 2, 3].map((word) => realWord(services, first + i, RS_ADDRESS + word))).toEqual([
      ...real.address.words,
    ]);
  });
}

function expectRuleset(compiled: CompiledIpvs, node: number, ruleset: IpvsRuleset): void {
  for (const server of ruleset.virtualServers) expectServer(compiled, node, server);
  for (const set of ruleset.sets) {
    set.elements.forEach((element, i) => {
      const found = compiled.elements[findElement(compiled, node, set, i)];
      // Of prefixes the longest decides, which may be another element.
      if (set.type === 'hash:ip,port,net') expect(found).toBeDefined();
      else expect(found?.element).toEqual(element);
    });
  }
}

describe('the image of the ipvs mode', () => {
  it('holds what kube-proxy programs, on every node, for random clusters', () => {
    fc.assert(
      fc.property(randomCluster, randomConfig, (cluster, config) => {
        const compiled = compile(
          cluster,
          config,
          cluster.nodes.map((node) => node.metadata.name),
        );
        for (const family of [4, 6] as const) {
          const source = new KubeProxyIpvs(cluster, config, family);
          cluster.nodes.forEach((node, i) => {
            expectRuleset(compiled, i, source.nodeRuleset(node));
          });
        }
      }),
      seeded(60),
    );
  });

  it('holds nothing of other nodes, and nothing of nodes that are not compiled', () => {
    fc.assert(
      fc.property(randomCluster, randomConfig, (cluster, config) => {
        const all = compile(cluster, config, ['node-1', 'node-3']);
        const sources = ([4, 6] as const).map((family) => new KubeProxyIpvs(cluster, config, family));
        const own = [0, 2].map((node) =>
          sources.flatMap((source) => source.nodeRuleset(cluster.nodes[node]!).virtualServers),
        );
        const keys = new Set(own[0]!.map(({ virtual }) => JSON.stringify(virtual)));
        for (const server of own[1]!) {
          if (!keys.has(JSON.stringify(server.virtual))) expect(rowOf(all, 0, server)).toBe(-1);
        }
        expect(setInstance(all.image.sets, 1, 0)).toBe(-1);
        expect(setInstance(all.image.sets, 0, 0)).not.toBe(-1);
      }),
      seeded(40),
    );
  });

  it('names the sets of kube-ipvs0', () => {
    const cluster = makeCluster({
      services: [makeService('ns/s', { clusterIPs: ['10.96.0.1', 'fd00::1'], ports: [{}] })],
    });
    const { image, setNames, elements } = compile(cluster, kubeProxyConfig(), ['node-1']);
    expect([setNames[image.localSet4], setNames[image.localSet6]]).toEqual(['KUBE-IPVS-IPS', 'KUBE-6-IPVS-IPS']);
    const [a0, a1, a2, a3] = parseAddress('fd00::1')!.words;
    const found = findInSet(image.sets, setInstance(image.sets, 0, image.localSet6), 0, a0, a1, a2, a3, 0, 0, 0, 0);
    expect(elements[found >> 1]!.element.parts).toEqual([
      { kind: 'prefix', prefix: hostPrefix(parseAddress('fd00::1')!) },
    ]);
  });

  it('keeps the ids of what is the same in another image', () => {
    const before = clusterWith(['10.244.1.1', '10.244.1.2']);
    const after = clusterWith(['10.244.1.0', '10.244.1.2', '10.244.1.3']);
    const [one, two] = [before, after].map((cluster) => compile(cluster, kubeProxyConfig(), ['node-1'])) as [
      CompiledIpvs,
      CompiledIpvs,
    ];
    const server = one.servers[0]!;
    const [rowOne, rowTwo] = [rowOf(one, 0, server), rowOf(two, 0, server)];
    expect(serverWord(two.image.services, rowTwo, VS_ID)).toBe(serverWord(one.image.services, rowOne, VS_ID));
    const idOf = (compiled: CompiledIpvs, row: number, text: string): number => {
      const real = compiled.reals.findIndex((own) => own.text === text);
      const id = realWord(compiled.image.services, real, 0);
      expect(findReal(compiled.image.services, row, id)).toBe(real);
      return id;
    };
    expect(idOf(two, rowTwo, '10.244.1.2:8080')).toBe(idOf(one, rowOne, '10.244.1.2:8080'));
    expect(idOf(two, rowTwo, '10.244.1.3:8080')).not.toBe(idOf(one, rowOne, '10.244.1.1:8080'));
  });

  it('has the options of the scheduler', () => {
    const scheduled = (ipvsScheduler: string): [number, number] => {
      const compiled = compile(clusterWith(['10.244.1.1']), kubeProxyConfig({ ipvsScheduler }), ['node-1']);
      const { services } = compiled.image;
      return [serverWord(services, 0, VS_SCHEDULER), serverWord(services, 0, VS_FLAGS)];
    };
    expect(scheduled('rr')).toEqual([SCHED_RR, 0]);
    expect(scheduled('mh')).toEqual([SCHED_MH, VS_HASH_PORT]);
  });

  it('says what its numbers mean', () => {
    const compiled = compile(clusterWith(['10.244.1.1', '10.244.1.2']), kubeProxyConfig(), ['node-1']);
    expect(compiled.mapName(MAP_VIRTUAL_SERVERS)).toBe('virtual server');
    expect(compiled.mapName(MAP_SETS + compiled.setNames.indexOf('KUBE-CLUSTER-IP'))).toBe('ipset KUBE-CLUSTER-IP');
    expect(compiled.describeRow(MAP_VIRTUAL_SERVERS, 0)).toMatchObject({
      text: 'TCP 10.96.0.1:80 rr, real servers 10.244.1.1:8080, 10.244.1.2:8080',
      origin: { kind: 'Service', name: 'svc1', field: 'spec.clusterIP' },
    });
    const real = compiled.reals.findIndex(({ text }) => text === '10.244.1.2:8080');
    expect(compiled.describeRow(MAP_REAL_SERVERS, real)).toMatchObject({
      text: '10.244.1.2:8080',
      origin: { kind: 'EndpointSlice', field: 'endpoints[1].addresses[0]' },
    });
    const element = compiled.elements.findIndex(({ set }) => set.name === 'KUBE-CLUSTER-IP');
    expect(compiled.describeRow(MAP_SETS, element)).toMatchObject({ text: '10.96.0.1,tcp:80' });
    expect(() => compiled.describeRow(MAP_VIRTUAL_SERVERS, 9)).toThrow('there is no virtual server 9');
    expect(() => compiled.mapName(MAP_SETS + 999)).toThrow('there is no map');
  });
});

describe('rulesets of any kind', () => {
  const source = [{ option: 'test' }];
  const prefix = (text: string) => ({ kind: 'prefix' as const, prefix: parsePrefix(text)! });

  it('may have port ranges, exceptions, marks and masks', () => {
    const set: Ipset = {
      name: 'zoo',
      type: 'hash:net,port',
      family: 4,
      range: null,
      elements: [
        {
          parts: [prefix('10.0.0.0/8'), { kind: 'port', protocol: 6, first: 80, last: 82 }],
          nomatch: false,
          sources: source,
        },
        {
          parts: [prefix('10.1.0.0/16'), { kind: 'port', protocol: 6, first: 81, last: 81 }],
          nomatch: true,
          sources: source,
        },
      ],
    };
    const server: VirtualServer = {
      virtual: { kind: 'fwmark', family: 4, mark: 7 },
      scheduler: 'sh',
      schedulerFlags: 3,
      persistentSeconds: 30,
      persistentPrefix: 24,
      onePacket: false,
      realServers: [],
      sources: source,
    };
    const ruleset: IpvsRuleset = { family: 4, virtualServers: [server], sets: [set], chains: [], boundAddresses: [] };
    const compiled = encodeIpvs(1, [{ node: 0, rulesets: [ruleset] }], {
      ...KERNEL,
      localSets: { 4: null, 6: 'absent' },
    });
    const { image } = compiled;
    const ask = (address: string, port: number): number =>
      findInSet(
        image.sets,
        setInstance(image.sets, 0, 0),
        (6 << 16) | port,
        parseAddress(address)!.words[0],
        0,
        0,
        0,
        0,
        0,
        0,
        0,
      );
    expect([ask('10.2.0.1', 80), ask('10.2.0.1', 82), ask('10.2.0.1', 83)]).toEqual([0, 0, -1]);
    expect([ask('10.1.0.1', 80), ask('10.1.0.1', 81)]).toEqual([0, 3]);
    expect(findServer(image.services, 0, 7, 0, 0, 0, servicePort(4, 0, 0))).toBe(0);
    expect([image.localSet4, image.localSet6]).toEqual([-1, -1]);
  });

  it('may not ask a set that no node has', () => {
    const asks: Match = { kind: 'set', set: 'nothing', sides: ['dst'], invert: false };
    const rule = makeRule('nat', 'PREROUTING', {}, [asks], { kind: 'accept' }, source);
    const chains = [{ table: 'nat' as const, name: 'PREROUTING', rules: [rule] }];
    const ruleset: IpvsRuleset = { family: 4, virtualServers: [], sets: [], chains, boundAddresses: [] };
    expect(() =>
      encodeIpvs(1, [{ node: 0, rulesets: [ruleset] }], { ...KERNEL, localSets: { 4: null, 6: null } }),
    ).toThrow("there is no ipset 'nothing'");
  });
});

function clusterWith(addresses: readonly string[]): Cluster {
  return makeCluster({
    nodes: [makeNode('node-1', ['192.168.0.1'])],
    services: [makeService('ns1/svc1', { clusterIPs: ['10.96.0.1'], ports: [{ name: 'p80' }] })],
    endpointSlices: [
      makeSlice(
        'ns1/svc1',
        [{ name: 'p80', port: 8080 }],
        addresses.map((address) => ({ address })),
      ),
    ],
  });
}
