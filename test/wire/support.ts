/**
 * What the tests of the wire share: random frame descriptions, frames in and out of a burst, and a checksum that is
 * too plain to be wrong.
 */

import fc from 'fast-check';
import type {
  AddressWords,
  EthernetFields,
  FrameFields,
  IcmpFields,
  Ipv4Fields,
  Ipv6Fields,
  L4Fields,
} from '../../engine/src/wire/build.ts';
import { type Burst, CAPTURE_SLOT_BYTES, createBurst, frameOffset } from '../../engine/src/wire/burst.ts';
import { ETHERTYPE_QINQ } from '../../engine/src/wire/ethernet.ts';
import type { ExtensionHeader } from '../../engine/src/wire/extension-header.ts';
import { dataChunk, initChunk } from '../../engine/src/wire/sctp-chunk.ts';

const seed = process.env['FLATPATH_SEED'];

/** Parameters of a property: a fresh seed, which fast-check prints on failure, or the one of FLATPATH_SEED. */
export function runs(numRuns: number): { numRuns: number; seed?: number } {
  return seed === undefined ? { numRuns } : { numRuns, seed: Number(seed) };
}

/** Ones' complement sum by the definition: add words, subtract 65,535 whenever the sum exceeds it. */
export function plainChecksum(...parts: readonly (readonly number[] | Uint8Array)[]): number {
  const bytes = parts.flatMap((part) => [...part]);
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += bytes[i] * 256 + (bytes[i + 1] ?? 0);
    if (sum > 65_535) sum -= 65_535;
  }
  return 65_535 - sum;
}

/** Bytes from hex, blanks ignored. */
export function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replace(/\s+/g, ''), 'hex'));
}

/** A burst for frames of any length. */
export function makeBurst(slots = 4): Burst {
  return createBurst(slots, CAPTURE_SLOT_BYTES);
}

/** Puts a frame into a slot, behind garbage that a parser must not see. */
export function put(burst: Burst, slot: number, frame: Uint8Array): void {
  burst.bytes.fill(0xa5, slot * burst.slotBytes, (slot + 1) * burst.slotBytes);
  burst.bytes.set(frame, frameOffset(burst, slot));
  burst.len[slot] = frame.length;
}

/** A copy of the frame in a slot. */
export function take(burst: Burst, slot: number): Uint8Array {
  const off = frameOffset(burst, slot);
  return burst.bytes.slice(off, off + burst.len[slot]);
}

/** The header lanes of a slot as an object, offsets counted from the frame. */
export function lanes(burst: Burst, slot: number) {
  const off = frameOffset(burst, slot);
  return {
    l3: burst.l3[slot] - off,
    l4: burst.l4[slot] - off,
    end: burst.end[slot] - off,
    family: burst.family[slot],
    proto: burst.proto[slot],
    frag: burst.frag[slot],
    src: [burst.src0[slot], burst.src1[slot], burst.src2[slot], burst.src3[slot]],
    dst: [burst.dst0[slot], burst.dst1[slot], burst.dst2[slot], burst.dst3[slot]],
    sport: burst.sport[slot],
    dport: burst.dport[slot],
    info: burst.info[slot],
  };
}

/** Mostly random, sometimes the values at which ones' complement arithmetic trips. */
const word = fc.oneof(
  fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }),
  fc.constantFrom(0, -1, 0xffff, -65_536, 0x0a00_0001),
);
export const port = fc.oneof(fc.integer({ min: 0, max: 65_535 }), fc.constantFrom(0, 1, 0xffff, 0xfffe));

export function addressOf(family: 4 | 6): fc.Arbitrary<AddressWords> {
  return family === 4
    ? word.map((w): AddressWords => [w, 0, 0, 0])
    : fc.tuple(word, word, word, word).map(([a, b, c, d]): AddressWords => [a, b, c, d]);
}

const payload = fc.oneof(
  fc.uint8Array({ maxLength: 64 }),
  fc.integer({ min: 0, max: 40 }).map((length) => new Uint8Array(length)),
  // Long ones are cheap to draw and need not shrink byte by byte.
  fc.tuple(fc.integer({ min: 0, max: 1400 }), fc.nat(255)).map(([length, step]) => ramp(length, step)),
);

function ramp(length: number, step: number): Uint8Array {
  return new Uint8Array(length).map((_, i) => i * step + (i >>> 8));
}

const ethernet: fc.Arbitrary<EthernetFields> = fc.record({
  dst: fc.constantFrom(0x0200_0000_0002, 0x0a58_0af4_0101),
  src: fc.constantFrom(0x0200_0000_0001, 0xfe54_0012_3456),
  vlan: fc.oneof(
    fc.constant([]),
    fc.record({ id: fc.integer({ min: 1, max: 4094 }), priority: fc.integer({ min: 0, max: 7 }) }).map((tag) => [tag]),
    fc.constant([{ id: 100, type: ETHERTYPE_QINQ }, { id: 7 }]),
  ),
  padding: fc.constantFrom(0, 0, 6),
});

/** No operation, router alert and record route, in an order that makes lengths odd to 4. */
const ipv4Options = fc.constantFrom(
  new Uint8Array(0),
  hex('94040000'),
  hex('01 94040000'),
  hex('0707 04 00000000'),
  hex('44080500 00000000'),
);

const ipv4: fc.Arbitrary<Ipv4Fields> = fc.record({
  family: fc.constant(4 as const),
  src: addressOf(4),
  dst: addressOf(4),
  tos: fc.integer({ min: 0, max: 255 }),
  id: port,
  dontFragment: fc.boolean(),
  ttl: fc.integer({ min: 1, max: 255 }),
  options: ipv4Options,
});

/** Headers that any number of may precede a transport header and that leave the packet whole. */
const extension: fc.Arbitrary<ExtensionHeader> = fc.oneof(
  fc.constantFrom<ExtensionHeader>(
    { kind: 'destination-options' },
    { kind: 'destination-options', options: hex('1e0400000000 1e0100') },
    { kind: 'authentication', spi: 256, sequence: 1, icv: new Uint8Array(12) },
    { kind: 'routing', type: 2, segmentsLeft: 0, addresses: [[1, 2, 3, 4]] },
  ),
  fc.record({
    kind: fc.constant('routing' as const),
    type: fc.constantFrom(0, 4),
    segmentsLeft: fc.integer({ min: 0, max: 2 }),
    addresses: fc.tuple(addressOf(6), addressOf(6)),
  }),
);

const extensions: fc.Arbitrary<readonly ExtensionHeader[]> = fc.oneof(
  { weight: 2, arbitrary: fc.constant([]) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(
        fc.boolean(),
        fc.uniqueArray(extension, { maxLength: 3, selector: (header) => header.kind }),
        fc.option(fc.integer({ min: 0, max: 0xffff_ffff })),
      )
      .map(([hopByHop, middle, atomic]): ExtensionHeader[] => [
        ...(hopByHop ? [{ kind: 'hop-by-hop' as const, options: hex('05020000') }] : []),
        ...middle,
        ...(atomic === null ? [] : [{ kind: 'fragment' as const, offset: 0, more: false, id: atomic }]),
      ]),
  },
);

const ipv6: fc.Arbitrary<Ipv6Fields> = fc.record({
  family: fc.constant(6 as const),
  src: addressOf(6),
  dst: addressOf(6),
  trafficClass: fc.integer({ min: 0, max: 255 }),
  flowLabel: fc.integer({ min: 0, max: 0xfffff }),
  hopLimit: fc.integer({ min: 1, max: 255 }),
  extensions,
});

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const tcp: fc.Arbitrary<L4Fields> = fc.record({
  protocol: fc.constant('tcp' as const),
  sport: port,
  dport: port,
  seq: u32,
  ackSeq: u32,
  flags: fc.integer({ min: 0, max: 255 }),
  window: port,
  options: fc.constantFrom(new Uint8Array(0), hex('020405b4'), hex('020405b4 0402 080a0000000100000000 01 030307')),
});
const udp: fc.Arbitrary<L4Fields> = fc.record({ protocol: fc.constant('udp' as const), sport: port, dport: port });
const sctp: fc.Arbitrary<L4Fields> = fc
  .tuple(port, port, fc.integer({ min: 1, max: 0xffff_ffff }), u32, fc.uint8Array({ minLength: 1, maxLength: 300 }))
  .chain(([sport, dport, tag, tsn, message]) =>
    fc.constantFrom<L4Fields>(
      { protocol: 'sctp', sport, dport, tag: 0, chunks: [initChunk('init', tag, 106_496, 10, 10, tsn)] },
      { protocol: 'sctp', sport, dport, tag, chunks: [initChunk('init-ack', tag, 106_496, 10, 10, tsn)] },
      { protocol: 'sctp', sport, dport, tag, chunks: [dataChunk(tsn, 1, 2, 0, message)] },
      { protocol: 'sctp', sport, dport, tag, chunks: [{ type: 11, value: new Uint8Array(0) }] },
    ),
  );
function icmp(family: 4 | 6): fc.Arbitrary<IcmpFields> {
  return fc.record({
    protocol: fc.constant(family === 4 ? ('icmp' as const) : ('icmpv6' as const)),
    type: family === 4 ? fc.constantFrom(0, 8) : fc.constantFrom(128, 129),
    id: port,
    sequence: port,
  });
}

/** A whole, right frame of one of the protocols. */
export function frameOf(family: 4 | 6): fc.Arbitrary<FrameFields> {
  return fc
    .tuple(ethernet, family === 4 ? ipv4 : ipv6, fc.oneof(tcp, udp, sctp, icmp(family)), payload)
    .map(([link, ip, l4, data]) => {
      // An SCTP packet ends with its chunks; trailing bytes would be a chunk that lies.
      return { ethernet: link, ip, l4, payload: l4.protocol === 'sctp' ? new Uint8Array(0) : data };
    });
}

export const anyFrame: fc.Arbitrary<FrameFields> = fc.oneof(frameOf(4), frameOf(6));

/** The same packet with another source or destination: address, and port or identifier. */
export function readdressed(
  fields: FrameFields,
  side: 'src' | 'dst',
  address: AddressWords,
  newPort: number,
): FrameFields {
  const { l4 } = fields;
  const ip = { ...fields.ip, [side]: address };
  if (l4.protocol === 'icmp' || l4.protocol === 'icmpv6') return { ...fields, ip, l4: { ...l4, id: newPort } };
  return { ...fields, ip, l4: { ...l4, [side === 'src' ? 'sport' : 'dport']: newPort } };
}
