/** Conntrack's own hash: tuples in sequence, which is what real traffic has, must lie as near their homes as random ones. */
import { describe, expect, it } from 'vitest';
import {
  type Conntrack,
  createConntrack,
  ctDst,
  ctFlows,
  ctHash4,
  ctHash6,
  ctInsert4,
  ctInsert6,
  ctPorts,
  ctProto,
  ctSrc,
  ctZone,
} from '../../engine/src/tables/conntrack.ts';
import { hashTuple4 } from '../../engine/src/tables/hash.ts';

const TCP = 6;
const FLOWS = 4096;
/** The first words of all IPv6 addresses here. */
const PREFIX = [0xfd000010 | 0, 0x02440000, 0] as const;

/** Mean distance of a slot from its home, in slots. */
function displacement(ct: Conntrack): number {
  let sum = 0;
  let used = 0;
  for (let i = 0; i <= ct.mask; i++) {
    const at = ct.slotsAt + i * ct.slotWords;
    if (ct.words[at + ct.metaAt] === 0) continue;
    const zone = ctZone(ct, at);
    const proto = ctProto(ct, at);
    const src = [0, 1, 2, 3].map((w) => ctSrc(ct, at, w)) as [number, number, number, number];
    const dst = [0, 1, 2, 3].map((w) => ctDst(ct, at, w)) as [number, number, number, number];
    const hash =
      ct.family === 4
        ? ctHash4(zone, proto, src[0], dst[0], ctPorts(ct, at))
        : ctHash6(zone, proto, ...src, ...dst, ctPorts(ct, at));
    sum += (i - (hash & ct.mask)) & ct.mask;
    used++;
  }
  return sum / used;
}

function add(ct: Conntrack, zone: number, src: number, dst: number, ports: number): void {
  if (ct.family === 4) ctInsert4(ct, 0, zone, TCP, src, dst, ports, src, dst, ports, 0, 0, 1, 0);
  else {
    const tuple = [...PREFIX, src, ...PREFIX, dst, ports] as const;
    ctInsert6(ct, 0, zone, TCP, ...tuple, ...tuple, 0, 0, 1, 0);
  }
}

const PATTERNS: Record<string, (n: number) => [zone: number, src: number, dst: number, ports: number]> = {
  'source ports in sequence': (n) => [0, 0x0a000001, 0x0a600001, ((1024 + n) << 16) | 80],
  'destination ports in sequence': (n) => [0, 0x0a000001, 0x0a600001, (40000 << 16) | n],
  'sources in sequence': (n) => [0, 0x0a000000 + n, 0x0a600001, (40000 << 16) | 80],
  'source subnets': (n) => [0, 0x0a000001 + (n << 8), 0x0a600001, (40000 << 16) | 80],
  'sources and ports': (n) => [0, 0x0a000000 + (n & 63), 0x0a600001, ((32768 + (n >> 6)) << 16) | 80],
  'sources and destinations': (n) => [0, 0x0a000000 + (n & 63), 0x0a600000 + (n >> 6), (40000 << 16) | 80],
  zones: (n) => [n, 0x0a000001, 0x0a600001, (40000 << 16) | 80],
  'ports that are equal modulo 256': (n) => [0, 0x0a000001 + (n >> 8), 0x0a600001, ((n & 255) << 24) | 80],
};

describe.each([4, 6])('the hash of conntrack, IPv%i', (family) => {
  // 8192 of 16384 slots: a random function has a mean displacement of 0.5.
  it.each(Object.keys(PATTERNS))('spreads %s', (pattern) => {
    const ct = createConntrack(family, 6144, 1);
    expect(ct.mask).toBe(16383);
    for (let n = 0; n < FLOWS; n++) add(ct, ...PATTERNS[pattern]!(n));
    expect(ctFlows(ct, 0)).toBe(FLOWS);
    expect(displacement(ct)).toBeLessThan(0.65);
  });
});

describe('the hash of conntrack', () => {
  it('does not follow the hash that chose the shard', () => {
    const ct = createConntrack(4, 6144, 1);
    for (let n = 0; ctFlows(ct, 0) < FLOWS; n++) {
      const src = 0x0a000000 + (n >> 14);
      const ports = ((n & 16383) << 16) | 80;
      if ((hashTuple4(1, src, 0x0a600001, ports, TCP) & 255) === 7) add(ct, 0, src, 0x0a600001, ports);
    }
    expect(displacement(ct)).toBeLessThan(0.65);
  });
});
