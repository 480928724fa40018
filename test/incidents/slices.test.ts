/** Incidents of EndpointSlices' limits. FACTS §2: k/k#99382, #106267. */
import { describe, expect, it } from 'vitest';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { objectsOf } from '../conformance/world.ts';
import { client, FAMILIES, Lab, SYN, tcp, vip, webA, webB, webService } from './lab.ts';

interface Slice {
  addressType: string;
  ports: { name: string; protocol: string; port: number }[];
  endpoints: { addresses: string[]; nodeName?: string; conditions: object }[];
}

/** The objects of a Service, its IPv4 slice changed. */
function changed(change: Partial<Slice>): object[] {
  const world = { nodes: [], pods: [], services: [webService(0, ['web-a'])], options: {} } as never;
  return objectsOf(world).map((object) => {
    const slice = structuredClone(object) as unknown as Slice & { kind: string };
    return slice.kind === 'EndpointSlice' && slice.addressType === 'IPv4' ? { ...slice, ...change } : slice;
  });
}

describe('loading', () => {
  const refuse = (change: Partial<Slice>): string => {
    try {
      loadCluster([], { objects: changed(change) });
    } catch (error) {
      return String(error instanceof Error ? error.message : error);
    }
    return '';
  };

  it('k/k#99382: a slice of more than 100 ports is refused, with its field', () => {
    const port = (i: number) => ({ name: `p${i}`, protocol: 'TCP', port: 1000 + i });
    expect(refuse({ ports: Array.from({ length: 100 }, (_, i) => port(i)) })).toBe('');
    const text = refuse({ ports: Array.from({ length: 101 }, (_, i) => port(i)) });
    expect(text).toMatch(/EndpointSlice .*svc-0-0.* ports/);
  });

  it('k/k#106267: a slice of more than 1,000 endpoints, an endpoint of more than 100 addresses', () => {
    const many = (count: number) => Array.from({ length: count }, (_, i) => `10.9.${i >> 8}.${i & 255}`);
    expect(refuse({ endpoints: many(1001).map((ip) => ({ addresses: [ip], conditions: {} })) })).toMatch(/endpoints/);
    expect(refuse({ endpoints: [{ addresses: many(101), conditions: {} }] })).toMatch(/endpoints\[0\]\.addresses/);
  });
});

describe.each(BUILT_MODES)('%s', (mode) => {
  it.each(FAMILIES)(
    'k/k#106267: of an endpoint’s addresses the first is the one that is balanced to, IPv%i',
    (family) => {
      const own = webService(0, ['web-a']);
      const lab = new Lab(mode, [own], { further: { [webA[family]]: [webB[family]] } });
      for (let i = 0; i < 20; i++) {
        expect(lab.send('client', tcp(client[family], 40_000 + i, vip(0)[family], 80, SYN)).end).toBe(
          'delivered web-a',
        );
      }
    },
  );
});
