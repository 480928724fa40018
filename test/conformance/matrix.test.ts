/** Every Service type × port kind × traffic policy × client × family × protocol against the oracles. */

import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { LAYOUTS, PROTOCOLS, questionsAbout, reachableService, worldOf } from './matrix-world.ts';
import { disagreements } from './run-world.ts';
import type { WorldOptions, WorldService } from './world.ts';

/** Layouts that between them meet every way a packet may take. */
const TELLING = ['both', 'remote', 'none', 'self', 'host network', 'outside'];

/** Every policy × layout of a protocol. */
function everyService(
  protocol: (typeof PROTOCOLS)[number],
  more: Partial<WorldService> = {},
  layouts: readonly string[] = TELLING,
): WorldService[] {
  const services: WorldService[] = [];
  for (const layout of layouts.map((name) => LAYOUTS[name]!)) {
    for (const internalLocal of [false, true]) {
      for (const externalLocal of [false, true]) {
        services.push(
          reachableService(services.length + 1, protocol, layout, { internalLocal, externalLocal, ...more }),
        );
      }
    }
  }
  return services;
}

const OPTIONS: Readonly<Record<string, Partial<WorldOptions>>> = {
  'masquerade all': { masqueradeAll: true },
  'no local detection': { detectLocalMode: 'None' },
  'no local detection, masquerade all': { detectLocalMode: 'None', masqueradeAll: true },
  'node CIDRs': { detectLocalMode: 'NodeCIDR' },
  'bridge interface': { detectLocalMode: 'BridgeInterface' },
  'interface names': { detectLocalMode: 'InterfaceNamePrefix' },
  'nodePorts on one node': { nodePortAddresses: ['192.168.0.1/32', 'fd00:168::1/128'] },
  'nodePorts on IPv4 only': { nodePortAddresses: ['192.168.0.0/24'] },
  'nodePorts everywhere': { nodePortAddresses: ['0.0.0.0/0', '::/0'] },
  'nodePorts on loopback': { nodePortAddresses: ['127.0.0.0/8'] },
  'no nodePorts on localhost': { localhostNodePorts: false },
  'balancing per packet': { socketLB: false },
  'direct server return': { loadBalancerMode: 'dsr' },
  'ClusterIPs from outside': { externalClusterIP: true },
  maglev: { algorithm: 'maglev', externalClusterIP: true },
};

describe.each(BUILT_MODES)('%s', (mode) => {
  it.each(PROTOCOLS)('answers every client of every Service over %s', (protocol) => {
    const services = everyService(protocol, {}, Object.keys(LAYOUTS));
    expect(disagreements(worldOf(services), mode, services.flatMap(questionsAbout))).toEqual([]);
  });

  it.each(['ClusterIP', 'NodePort', 'LoadBalancer'] as const)('treats the ports of a %s Service alike', (type) => {
    const services = everyService('TCP', { type, affinity: true });
    expect(disagreements(worldOf(services), mode, services.flatMap(questionsAbout))).toEqual([]);
  });

  it.each(Object.keys(OPTIONS))('follows its options: %s', (name) => {
    const services = everyService('UDP');
    expect(disagreements(worldOf(services, OPTIONS[name]), mode, services.flatMap(questionsAbout))).toEqual([]);
  });

  it.each([
    ['clients', [' 192.0.2.0/24', '2001:db8:2::/64 ']],
    ['nobody here', ['100.64.0.0/10', '64:ff9b::/96']],
    ['nodes', ['192.168.0.0/24', 'fd00:168::/64']],
    ['pods', ['10.244.0.0/16', 'fd00:10:244::/56']],
    ['one family', ['192.0.2.0/24']],
  ])('lets source ranges through: %s', (_, sourceRanges) => {
    const services = everyService('TCP', { sourceRanges });
    expect(disagreements(worldOf(services), mode, services.flatMap(questionsAbout))).toEqual([]);
  });

  it('serves a family that has a ClusterIP, and no other', () => {
    const services = everyService('TCP').map((service, i) => ({
      ...service,
      clusterIPs: [service.clusterIPs[i % 2]!],
    }));
    const questions = everyService('TCP').flatMap(questionsAbout);
    expect(disagreements(worldOf(services), mode, questions)).toEqual([]);
  });

  it('does not capture load balancer addresses of ipMode Proxy', () => {
    const services = everyService('TCP').map((service) => ({
      ...service,
      ingress: service.ingress.map(({ ip }) => ({ ip, proxy: true })),
    }));
    expect(disagreements(worldOf(services), mode, services.flatMap(questionsAbout))).toEqual([]);
  });
});
