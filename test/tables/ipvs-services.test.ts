import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attachIpvsServices,
  countServers,
  findReal,
  findServer,
  IpvsServicesBuilder,
  ipvsServicesParts,
  type RealServerRow,
  RS_ADDRESS,
  RS_ID,
  RS_LOWER,
  RS_PORT,
  RS_SERVER,
  RS_UPPER,
  RS_WEIGHT,
  realWord,
  SCHED_MH,
  SCHED_RR,
  SCHED_SH,
  SCHED_WRR,
  SCHEDULER_NAMES,
  type ServiceKey,
  serverWord,
  servicePort,
  type VirtualServerRow,
  VS_COUNT,
  VS_FIRST,
  VS_GCD,
  VS_ID,
  VS_LIST,
  VS_MAX_WEIGHT,
  VS_RING,
  VS_SCHEDULER,
} from '../../engine/src/tables/ipvs-services.ts';
import { runs } from './runs.ts';

function real(id: number, weight: number): RealServerRow {
  return { id, address: [0x0af40000 + id, 0, 0, 0], port: 8080, weight, lastWeight: weight, upper: 9, lower: 3 };
}

function server(id: number, scheduler: number, realServers: readonly RealServerRow[]): VirtualServerRow {
  return { id, scheduler, flags: 0, timeoutMs: 0, netmask: 32, family: 4, port: 80, mark: 0, realServers };
}

const vip: ServiceKey = { family: 4, address: [0x0a60000a, 0, 0, 0], port: 80, proto: 6 };

describe('IPVS services', () => {
  it('hold real servers with the one added last in front, as the kernel lists them', () => {
    const builder = new IpvsServicesBuilder();
    const first = builder.server(server(1, SCHED_RR, []));
    const { row, real: realOf } = builder.server(server(7, SCHED_WRR, [real(1, 4), real(2, 0), real(3, 6)]));
    builder.listen(vip, row);
    const t = attachIpvsServices(ipvsServicesParts(builder.build()));
    expect([first.row, row, countServers(t)]).toEqual([0, 1, 2]);
    expect(findServer(t, 3, 0x0a60000a, 0, 0, 0, servicePort(4, 80, 6))).toBe(row);
    expect(findServer(t, 3, 0x0a60000a, 0, 0, 0, servicePort(4, 80, 17))).toBe(-1);
    expect([VS_ID, VS_SCHEDULER, VS_COUNT, VS_GCD, VS_MAX_WEIGHT].map((w) => serverWord(t, row, w))).toEqual([
      7,
      SCHED_WRR,
      3,
      2,
      6,
    ]);
    const at = serverWord(t, row, VS_FIRST);
    expect([0, 1, 2].map((i) => realWord(t, at + i, RS_ID))).toEqual([3, 2, 1]);
    expect([0, 1, 2].map((n) => realWord(t, realOf - n, RS_ID))).toEqual([1, 2, 3]);
    expect([RS_ADDRESS, RS_PORT, RS_WEIGHT, RS_UPPER, RS_LOWER, RS_SERVER].map((w) => realWord(t, at, w))).toEqual([
      0x0af40003,
      8080,
      6,
      9,
      3,
      row,
    ]);
    expect(findReal(t, row, 2)).toBe(at + 1);
    expect(findReal(t, row, 9)).toBe(-1);
    expect(serverWord(t, row, VS_RING)).toBe(0);
    expect(serverWord(t, 0, VS_GCD)).toBe(1);
  });

  it('give each node what it alone has, and the others what all have', () => {
    const place = fc.record({ key: fc.nat(5), node: fc.option(fc.nat(4)), row: fc.integer({ min: -1, max: 3 }) });
    fc.assert(
      fc.property(fc.array(place, { maxLength: 40 }), (places) => {
        const builder = new IpvsServicesBuilder();
        const rows = [0, 1, 2, 3].map((id) => builder.server(server(id, SCHED_RR, [real(id, 1)])).row);
        const keyOf = (n: number): ServiceKey => ({ ...vip, port: 80 + (n % 3), proto: n < 3 ? 6 : 17 });
        const common = new Map<number, number>();
        const own = new Map<string, number>();
        for (const { key, node, row } of places) {
          const to = row === -1 ? -1 : rows[row]!;
          if (node === null) {
            builder.listen(keyOf(key), to);
            common.set(key, to);
          } else {
            builder.listenOn(node, keyOf(key), to);
            own.set(`${key} ${node}`, to);
          }
        }
        const t = builder.build();
        for (let key = 0; key < 6; key++) {
          for (let node = 0; node < 5; node++) {
            const { port, proto } = keyOf(key);
            const want = own.get(`${key} ${node}`) ?? common.get(key) ?? -1;
            expect(findServer(t, node, 0x0a60000a, 0, 0, 0, servicePort(4, port, proto))).toBe(want);
          }
        }
      }),
      runs(100),
    );
  });

  it('know whether there are marks and wildcard ports to look for', () => {
    const builder = new IpvsServicesBuilder();
    const { row } = builder.server({ ...server(1, SCHED_RR, []), port: 0, mark: 5 });
    builder.listen({ family: 6, address: [5, 0, 0, 0], port: 0, proto: 0 }, row);
    const marked = builder.build();
    expect([marked.hasMarks, marked.hasWildcards]).toEqual([1, 0]);
    expect(findServer(marked, 0, 5, 0, 0, 0, servicePort(6, 0, 0))).toBe(row);
    expect(findServer(marked, 0, 5, 0, 0, 0, servicePort(4, 0, 0))).toBe(-1);
    builder.listen({ ...vip, port: 0 }, row);
    expect(builder.build().hasWildcards).toBe(1);
  });

  it('are equal in number when equal in content, and change their list word with ids, weights and order', () => {
    const make = (list: readonly RealServerRow[]) => {
      const builder = new IpvsServicesBuilder();
      const { row } = builder.server(server(1, SCHED_SH, list));
      builder.listen(vip, row);
      return builder.build();
    };
    const base = make([real(1, 1), real(2, 1)]);
    expect(make([real(1, 1), real(2, 1)]).generation).toBe(base.generation);
    for (const other of [[real(2, 1), real(1, 1)], [real(1, 1), real(2, 2)], [real(1, 1)]]) {
      const changed = make(other);
      expect(changed.generation).not.toBe(base.generation);
      expect(serverWord(changed, 0, VS_LIST)).not.toBe(serverWord(base, 0, VS_LIST));
    }
  });

  it('carry the rings of the hashing schedulers', () => {
    const builder = new IpvsServicesBuilder();
    const sh = builder.server(server(1, SCHED_SH, [real(1, 2), real(2, 1)]));
    const mh = builder.server(server(2, SCHED_MH, [real(3, 1)]));
    const t = builder.build();
    const ring = serverWord(t, sh.row, VS_RING);
    expect([...t.words.subarray(ring, ring + 4)]).toEqual([0, 1, 1, 0]);
    expect(serverWord(t, mh.row, VS_RING)).toBe(ring + 256);
    expect(new Set(t.words.subarray(ring + 256))).toEqual(new Set([0]));
  });

  it('name the schedulers by their numbers', () => {
    expect(SCHEDULER_NAMES[SCHED_SH]).toBe('sh');
    expect(SCHEDULER_NAMES[SCHED_MH]).toBe('mh');
  });
});
