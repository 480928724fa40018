/** What must hold for every input, against oracles that are too simple to be wrong. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Cluster } from '../../control/src/cluster/cluster.ts';
import { InputError, type Problem } from '../../control/src/cluster/problem.ts';
import { inPrefix, parseAddress, parsePrefix } from '../../control/src/model/address.ts';
import { isReady, serviceNameOf } from '../../control/src/model/endpoint-slice.ts';
import { selects } from '../../control/src/model/label-selector.ts';
import { internalAddresses } from '../../control/src/model/node.ts';
import { hasEnded, isPodReady } from '../../control/src/model/pod.ts';
import { hasNoVirtualAddress } from '../../control/src/model/service.ts';
import { deployment, linesOf, loadObjects, node, pod, seed, service } from './support.ts';

const name = fc.integer({ min: 0, max: 40 }).map((n) => `x${n}`);
const app = fc.constantFrom('a', 'b', 'c');

const someService = fc
  .record({
    name,
    type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer'),
    app,
    headless: fc.boolean(),
    local: fc.boolean(),
    policy: fc.constantFrom(undefined, 'SingleStack', 'PreferDualStack', 'RequireDualStack'),
    ports: fc.uniqueArray(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 3 }),
    targetPort: fc.constantFrom(undefined, 8080, 'http', 'dns'),
    publishNotReady: fc.boolean(),
  })
  .map((s) =>
    service(s.name, {
      type: s.headless ? 'ClusterIP' : s.type,
      clusterIP: s.headless ? 'None' : undefined,
      selector: { app: s.app },
      ipFamilyPolicy: s.policy,
      externalTrafficPolicy: s.local ? 'Local' : 'Cluster',
      publishNotReadyAddresses: s.publishNotReady,
      ports: s.ports.map((port) => ({ name: `p${port}`, port, targetPort: s.targetPort })),
    }),
  );

const somePod = fc
  .record({
    name,
    app,
    node: fc.constantFrom('', 'n1', 'n2', 'n9'),
    hostNetwork: fc.boolean(),
    phase: fc.constantFrom('', 'Running', 'Pending', 'Succeeded', 'Failed'),
    ready: fc.constantFrom(undefined, 'True', 'False'),
    deleted: fc.boolean(),
    http: fc.constantFrom(undefined, 80, 8081),
    address: fc.constantFrom('', '', '', '10.244.1.2', '10.244.2.3', '10.50.0.9'),
  })
  .map((p) => {
    const ports = p.http === undefined ? [] : [{ name: 'http', containerPort: p.http }];
    const spec = { nodeName: p.node, hostNetwork: p.hostNetwork, containers: [{ ports }] };
    const conditions = p.ready === undefined ? undefined : [{ type: 'Ready', status: p.ready }];
    const object = pod(p.name, { app: p.app }, spec, { phase: p.phase, podIP: p.address, conditions });
    if (p.deleted) Object.assign(Reflect.get(object, 'metadata'), { deletionTimestamp: '2025-01-01T00:00:00Z' });
    return object;
  });

const someObject = fc.oneof(
  { weight: 4, arbitrary: someService },
  { weight: 4, arbitrary: somePod },
  {
    weight: 1,
    arbitrary: fc.tuple(name, fc.integer({ min: 0, max: 5 })).map(([n, replicas]) => deployment(n, replicas)),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.integer({ min: 1, max: 3 }), fc.boolean())
      .map(([n, cidr]) => node(`n${n}`, cidr ? { podCIDR: `10.244.${n}.0/24` } : {}, `192.0.2.${n}`)),
  },
);
const someObjects = fc.array(someObject, { maxLength: 40 });

function checkAll(check: (cluster: Cluster, objects: object[]) => void, numRuns = 150): void {
  fc.assert(
    fc.property(someObjects, (objects) => {
      check(loadObjects(objects).cluster, objects);
    }),
    { seed: seed(), numRuns },
  );
}

describe('every completed cluster', () => {
  it('gives no address and no port twice', () => {
    checkAll((cluster) => {
      const clusterIPs: string[] = [];
      const nodePorts: number[] = [];
      const loadBalancers: string[] = [];
      for (const { spec, status } of cluster.services) {
        if (spec.clusterIP !== 'None') clusterIPs.push(...spec.clusterIPs);
        nodePorts.push(...spec.ports.map(({ nodePort }) => nodePort), spec.healthCheckNodePort);
        loadBalancers.push(...status.loadBalancer.ingress.map(({ ip }) => ip));
      }
      const given = new Set(['10.244.1.2', '10.244.2.3', '10.50.0.9']);
      const pods = cluster.pods
        .filter(({ spec }) => !spec.hostNetwork)
        .flatMap(({ status }) => status.podIPs.map(({ ip }) => ip))
        .filter((ip) => !given.has(ip));
      const nodes = cluster.nodes.flatMap(internalAddresses);
      const ports = nodePorts.filter((port) => port !== 0);
      expect(new Set(ports).size).toBe(ports.length);
      const all = [...clusterIPs, ...loadBalancers, ...pods, ...nodes];
      expect(new Set(all).size).toBe(all.length);
    });
  });

  it('is complete', () => {
    checkAll((cluster) => {
      const nodeNames = new Set(cluster.nodes.map(({ metadata }) => metadata.name));
      const namespaces = new Set(cluster.namespaces.map(({ metadata }) => metadata.name));
      for (const node of cluster.nodes) expect(internalAddresses(node).length).toBeGreaterThan(0);
      for (const object of cluster.pods) {
        expect(nodeNames).toContain(object.spec.nodeName);
        expect(namespaces).toContain(object.metadata.namespace);
        expect(object.status.podIP === '').toBe(hasEnded(object));
        expect(object.status.podIPs[0]?.ip ?? '').toBe(object.status.podIP);
      }
      for (const object of cluster.services) {
        const { spec, status } = object;
        expect(spec.clusterIPs[0]).toBe(spec.clusterIP);
        if (hasNoVirtualAddress(object)) continue;
        expect(spec.clusterIPs.map((ip) => `IPv${parseAddress(ip)!.family}`)).toEqual(spec.ipFamilies);
        if (spec.type !== 'ClusterIP') expect(spec.ports.every(({ nodePort }) => nodePort >= 30_086)).toBe(true);
        expect(status.loadBalancer.ingress.length > 0).toBe(spec.type === 'LoadBalancer');
        expect(spec.healthCheckNodePort > 0).toBe(
          spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local',
        );
      }
    });
  });

  it('has pods in their node’s CIDR, and CIDRs that do not overlap', () => {
    checkAll((cluster, objects) => {
      const given = new Set(objects.map((object) => JSON.stringify(Reflect.get(object, 'status')?.podIP ?? '')));
      const blocks = cluster.nodes.flatMap(({ spec }) => spec.podCIDRs.map((text) => parsePrefix(text)!));
      for (const [i, block] of blocks.entries()) {
        for (const other of blocks.slice(i + 1)) expect(inPrefix(other, block) || inPrefix(block, other)).toBe(false);
      }
      for (const { spec, status } of cluster.pods) {
        if (spec.hostNetwork) continue;
        const node = cluster.nodes.find(({ metadata }) => metadata.name === spec.nodeName)!;
        for (const { ip } of status.podIPs) {
          if (given.has(JSON.stringify(ip))) continue;
          const address = parseAddress(ip)!;
          expect(node.spec.podCIDRs.some((text) => inPrefix(address, parsePrefix(text)!))).toBe(true);
        }
      }
    });
  });

  it('has every selected pod in exactly one slice a family and port set, and nobody else', () => {
    checkAll((cluster) => {
      for (const { metadata, spec } of cluster.services) {
        const slices = cluster.endpointSlices.filter(
          (slice) => slice.metadata.namespace === metadata.namespace && serviceNameOf(slice) === metadata.name,
        );
        for (const family of ['IPv4', 'IPv6'] as const) {
          // The oracle: look at every pod, one by one.
          const expected: string[] = [];
          for (const object of cluster.pods) {
            if (object.metadata.namespace !== metadata.namespace || hasEnded(object)) continue;
            if (!selects({ matchLabels: spec.selector }, object.metadata.labels)) continue;
            const ip = object.status.podIPs.find((entry) => entry.ip.includes(':') === (family === 'IPv6'))?.ip;
            if (ip === undefined || !spec.ipFamilies.includes(family)) continue;
            const http = object.spec.containers[0]?.ports[0]?.containerPort;
            const ports = spec.ports.flatMap(({ name, port, targetPort }) => {
              if (targetPort === 'dns' || (targetPort === 'http' && http === undefined)) return [];
              return [`${name}=${targetPort === 'http' ? http : (targetPort ?? port)}`];
            });
            const alive = isPodReady(object);
            const isGoing = object.metadata.deletionTimestamp !== undefined;
            const ready = spec.publishNotReadyAddresses || (alive && !isGoing);
            expected.push(`${object.metadata.name} ${ip} ${ports} ${ready} ${alive} ${isGoing}`);
          }
          const found = slices
            .filter(({ addressType }) => addressType === family)
            .flatMap(({ endpoints, ports }) =>
              endpoints.map((endpoint) => {
                const { serving, terminating } = endpoint.conditions;
                const list = ports.map(({ name, port }) => `${name}=${port}`);
                return `${endpoint.targetRef!.name} ${endpoint.addresses[0]} ${list} ${isReady(endpoint)} ${serving} ${terminating}`;
              }),
            );
          expect(found.sort()).toEqual(expected.sort());
        }
      }
    });
  });

  it('is sorted, and the same in every order of the input', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(someObject, {
          maxLength: 30,
          selector: (object) => `${Reflect.get(object, 'kind')}/${Reflect.get(object, 'metadata').name}`,
        }),
        fc.integer(),
        (objects, shift) => {
          const { cluster } = loadObjects(objects);
          const turned = [
            ...objects.slice(shift % (objects.length + 1)),
            ...objects.slice(0, shift % (objects.length + 1)),
          ];
          if (turned.length === objects.length) expect(loadObjects(turned.reverse()).cluster).toEqual(cluster);
          for (const list of [
            cluster.nodes,
            cluster.pods,
            cluster.services,
            cluster.endpointSlices,
            cluster.namespaces,
          ]) {
            const keys = list.map(({ metadata }) => `${metadata.namespace}\u0000${metadata.name}`);
            expect(keys).toEqual([...keys].sort());
          }
        },
      ),
      { seed: seed(), numRuns: 100 },
    );
  });
});

describe('every rejected input', () => {
  it('names an object and a field, for any damage to any field', () => {
    const damage = fc.constantFrom<unknown>(-1, 1.5, 'x y', true, [], {}, [[]], '', 99_999, '10.0.0.999', { a: {} });
    const base = (): object[] => [
      service('web', {
        type: 'LoadBalancer',
        clusterIP: '10.96.0.9',
        ports: [{ name: 'a', port: 80, targetPort: 8080, nodePort: 30080 }],
      }),
      pod(
        'p',
        { app: 'web' },
        { nodeName: 'n1', containers: [{ ports: [{ name: 'a', containerPort: 80 }] }] },
        { podIP: '10.244.1.2' },
      ),
      node('n1', { podCIDRs: ['10.244.1.0/24'] }, '192.0.2.1'),
      deployment('d', 2),
    ];
    const paths = base().flatMap((object, index) => pathsOf(object).map((path) => [index, ...path]));
    fc.assert(
      fc.property(fc.constantFrom(...paths), damage, (path, value) => {
        const objects = base();
        let holder: unknown = objects;
        for (const part of path.slice(0, -1)) holder = Reflect.get(holder as object, part);
        Reflect.set(holder as object, path[path.length - 1]!, value);
        // Damage may be harmless; what is refused must say where.
        for (const { object, field, message, document } of problemsOf(objects)) {
          expect(message).not.toBe('');
          expect(object !== '' ? field : document, `${object} ${field}: ${message}`).not.toBe('');
        }
      }),
      { seed: seed(), numRuns: 400 },
    );
  });

  it('never throws anything but an InputError, whatever the object', () => {
    const key = fc.constantFrom(
      'apiVersion',
      'kind',
      'metadata',
      'spec',
      'name',
      'ports',
      'items',
      'status',
      'constructor',
      'a',
    );
    const leaf = fc.oneof(
      fc.constantFrom<unknown>('v1', 'Service', 'Pod', 'List', 'apps/v1', 'Deployment', null, 1, ''),
      fc.string(),
    );
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { maxDepth: 4 },
        leaf,
        fc.array(tie('tree'), { maxLength: 3 }),
        fc.dictionary(key, tie('tree'), { maxKeys: 5 }),
      ),
    }));
    fc.assert(
      fc.property(fc.array(tree, { maxLength: 3 }), (objects) => {
        linesOf(() => loadObjects(objects));
      }),
      { seed: seed(), numRuns: 500 },
    );
  });
});

function problemsOf(objects: readonly unknown[]): readonly Problem[] {
  try {
    return loadObjects(objects).warnings;
  } catch (error) {
    if (error instanceof InputError) return error.problems;
    throw error;
  }
}

function pathsOf(value: unknown): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [];
  const keys: (string | number)[] = Array.isArray(value) ? value.map((_, i) => i) : Object.keys(value);
  return keys.flatMap((key) => [[key], ...pathsOf(Reflect.get(value, key)).map((path) => [key, ...path])]);
}
