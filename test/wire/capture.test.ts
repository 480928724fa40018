import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readCapture } from '../../engine/src/wire/capture.ts';
import { CaptureError, type CaptureRecord, MAX_CAPTURED_BYTES } from '../../engine/src/wire/capture-record.ts';
import { PCAP_MAGIC_MICROSECONDS, PCAP_MAGIC_NANOSECONDS, pcapWriter, readPcap } from '../../engine/src/wire/pcap.ts';
import { readPcapng } from '../../engine/src/wire/pcapng.ts';
import { hex, runs } from './support.ts';

/** Writes integers of given widths one after the other. */
function pack(little: boolean, ...fields: (readonly [bytes: 1 | 2 | 4, value: number] | Uint8Array)[]): Uint8Array {
  return Uint8Array.of(
    ...fields.flatMap((field) => {
      if (field instanceof Uint8Array) return [...field];
      const [bytes, value] = field;
      const view = new DataView(new ArrayBuffer(4));
      view.setUint32(0, value, little);
      const all = [...new Uint8Array(view.buffer)];
      return little ? all.slice(0, bytes) : all.slice(4 - bytes);
    }),
  );
}

function join(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.of(...parts.flatMap((part) => [...part]));
}

function pcapHeader(little: boolean, magic: number, linkType = 1, snapLength = 262_144): Uint8Array {
  return pack(little, [4, magic], [2, 2], [2, 4], [4, 0], [4, 0], [4, snapLength], [4, linkType]);
}

function pcapRecord(
  little: boolean,
  data: Uint8Array,
  seconds = 1,
  part = 2,
  captured = data.length,
  original = captured,
) {
  return pack(little, [4, seconds], [4, part], [4, captured], [4, original], data);
}

/** A pcapng block around a body, which is padded here. */
function block(little: boolean, type: number, body: Uint8Array): Uint8Array {
  const padded = join(body, new Uint8Array(-body.length & 3));
  return pack(little, [4, type], [4, padded.length + 12], padded, [4, padded.length + 12]);
}

function section(little: boolean): Uint8Array {
  return block(little, 0x0a0d0d0a, pack(little, [4, 0x1a2b3c4d], [2, 1], [2, 0], [4, 0xffff_ffff], [4, 0xffff_ffff]));
}

function description(little: boolean, linkType = 1, snapLength = 0, options = hex('')): Uint8Array {
  return block(little, 1, pack(little, [2, linkType], [2, 0], [4, snapLength], options));
}

function enhanced(
  little: boolean,
  id: number,
  time: [number, number],
  data: Uint8Array,
  original = data.length,
  captured = data.length,
) {
  const body = pack(little, [4, id], [4, time[0]], [4, time[1]], [4, captured], [4, original], data);
  return block(little, 6, body);
}

/** Everything that can be read, and the error at the end if there is one. */
function readAll(bytes: Uint8Array): { records: CaptureRecord[]; error: CaptureError | null } {
  const records: CaptureRecord[] = [];
  try {
    for (const record of readCapture(bytes)) records.push(record);
  } catch (error) {
    if (error instanceof CaptureError) return { records, error };
    throw error;
  }
  return { records, error: null };
}

const FRAME = hex('020000000002 020000000001 0800 45000014');

describe('pcap', () => {
  it.each([
    ['little-endian microseconds', true, PCAP_MAGIC_MICROSECONDS, 2000],
    ['big-endian microseconds', false, PCAP_MAGIC_MICROSECONDS, 2000],
    ['little-endian nanoseconds', true, PCAP_MAGIC_NANOSECONDS, 2],
    ['big-endian nanoseconds', false, PCAP_MAGIC_NANOSECONDS, 2],
  ])('reads %s', (_, little, magic, nanoseconds) => {
    const file = join(
      pcapHeader(little, magic),
      pcapRecord(little, FRAME, 7),
      pcapRecord(little, hex('01'), 8, 2, 1, 90),
    );
    expect(readAll(file)).toEqual({
      records: [
        { seconds: 7, nanoseconds, data: FRAME, originalLength: 18, interfaceId: 0 },
        { seconds: 8, nanoseconds, data: hex('01'), originalLength: 90, interfaceId: 0 },
      ],
      error: null,
    });
  });

  it('hands out views of the file, wherever that lies in its buffer', () => {
    const file = join(pcapHeader(true, PCAP_MAGIC_MICROSECONDS), pcapRecord(true, FRAME));
    const shifted = join(hex('ffffff'), file).subarray(3);
    const [record] = [...readPcap(shifted)];
    expect(record.data).toEqual(FRAME);
    expect(record.data.buffer).toBe(shifted.buffer);
  });

  it('reads an empty file and one whose link type says that frames have a check sequence', () => {
    expect(readAll(pcapHeader(true, PCAP_MAGIC_MICROSECONDS))).toEqual({ records: [], error: null });
    const file = join(pcapHeader(true, PCAP_MAGIC_MICROSECONDS, 0x5400_0001), pcapRecord(true, FRAME));
    expect(readAll(file).records).toHaveLength(1);
  });

  const good = join(pcapHeader(true, PCAP_MAGIC_MICROSECONDS, 1, 100), pcapRecord(true, FRAME));
  const behindGood = (...bad: Uint8Array[]) => join(good, ...bad);
  it.each<[string, Uint8Array, string]>([
    [
      'half a record header',
      behindGood(new Uint8Array(15)),
      'byte 58, packet 2: a record header of 16 bytes expected, 15 are there',
    ],
    [
      'a packet that is cut off',
      behindGood(pcapRecord(true, FRAME, 1, 1, 19)),
      '19 bytes of packet expected, 18 are there',
    ],
    [
      'more captured than there was',
      behindGood(pcapRecord(true, FRAME, 1, 1, 18, 17)),
      '18 bytes captured of a packet of 17',
    ],
    ['more captured than the limit', behindGood(pcapRecord(true, new Uint8Array(101))), 'snapshot length of 100'],
    [
      'a captured length of -4',
      behindGood(pcapRecord(true, FRAME, 1, 1, 0xfffffffc)),
      '4294967292 captured bytes are more than 262144',
    ],
    [
      'a fraction of more than a second',
      behindGood(pcapRecord(true, FRAME, 1, 1_000_000)),
      'byte 62, packet 2: 1000000 is more',
    ],
  ])('yields what precedes %s', (_, file, message) => {
    const { records, error } = readAll(file);
    expect(records).toHaveLength(1);
    expect(error?.message).toContain(message);
    expect(error?.packet).toBe(2);
    expect(error?.offset).toBeGreaterThanOrEqual(58);
  });

  it.each<[string, Uint8Array, string]>([
    ['nothing', hex(''), 'byte 0, packet 1: neither a pcap nor a pcapng file'],
    ['text', new TextEncoder().encode('No. Time Source'), 'neither'],
    ['half a file header', good.subarray(0, 23), 'a file header of 24 bytes expected, 23 are there'],
    ['version 2.3', join(good.subarray(0, 6), hex('0300'), good.subarray(8)), 'version 2.4 expected, 2.3 found'],
    ['WLAN', pcapHeader(true, PCAP_MAGIC_MICROSECONDS, 105), 'link type 105'],
  ])('refuses %s', (_, file, message) => {
    expect(readAll(file).error?.message).toContain(message);
  });

  it('limits packets without a snapshot length', () => {
    const data = new Uint8Array(MAX_CAPTURED_BYTES + 1);
    const head = pcapRecord(true, hex(''), 1, 1, data.length);
    const file = Buffer.concat([pcapHeader(true, PCAP_MAGIC_MICROSECONDS, 1, 0), head, data]);
    expect(readAll(file).error?.message).toContain('more than 262144');
  });

  it('reads back what it writes', () => {
    const record = fc.record({
      seconds: fc.integer({ min: 0, max: 0xffff_ffff }),
      nanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
      data: fc.uint8Array({ maxLength: 100 }),
      beyond: fc.nat(9000),
    });
    fc.assert(
      fc.property(fc.array(record), fc.boolean(), (records, fine) => {
        const pieces: Uint8Array[] = [];
        const write = pcapWriter(fine ? 'nanoseconds' : 'microseconds', (piece) => pieces.push(piece));
        for (const r of records) write(r.seconds, r.nanoseconds, r.data, r.data.length + r.beyond);
        const expected = records.map((r) => ({
          seconds: r.seconds,
          nanoseconds: fine ? r.nanoseconds : r.nanoseconds - (r.nanoseconds % 1000),
          data: r.data,
          originalLength: r.data.length + r.beyond,
          interfaceId: 0,
        }));
        expect(readAll(join(...pieces))).toEqual({ records: expected, error: null });
      }),
      runs(100),
    );
  });
});

describe('link types', () => {
  const ip = hex('4500');
  const macs = '000000000000 000000000000';
  it.each<[string, number, Uint8Array, Uint8Array]>([
    ['raw IPv4', 101, ip, hex(`${macs} 0800 4500`)],
    ['raw IPv6', 101, hex('6000'), hex(`${macs} 86dd 6000`)],
    ['raw IP of BSD', 12, hex('6000'), hex(`${macs} 86dd 6000`)],
    ['raw nothing', 101, hex(''), hex(`${macs} 0800`)],
    ['IPv4', 228, ip, hex(`${macs} 0800 4500`)],
    ['IPv6', 229, hex('6000'), hex(`${macs} 86dd 6000`)],
    ['null, little-endian', 0, hex('02000000 4500'), hex(`${macs} 0800 4500`)],
    ['null, big-endian', 0, hex('00000002 4500'), hex(`${macs} 0800 4500`)],
    ['null, IPv6 of macOS', 0, hex('1e000000 6000'), hex(`${macs} 86dd 6000`)],
    ['loop, IPv6 of OpenBSD', 108, hex('00000018 6000'), hex(`${macs} 86dd 6000`)],
    ['null, another family', 0, hex('07000000 6000'), hex(`${macs} ffff 6000`)],
    ['null, cut off', 0, hex('020000'), hex('')],
    ['cooked', 113, hex('0000 0001 0006 020000000001 0000 0800 4500'), hex('000000000000 020000000001 0800 4500')],
    ['cooked without a MAC', 113, hex('0004 0304 0000 0000000000000000 86dd 6000'), hex(`${macs} 86dd 6000`)],
    ['cooked, cut off', 113, hex('0000 0001 0006 020000000001 0000 08'), hex('')],
    [
      'cooked 2',
      276,
      hex('0800 0000 00000003 0001 00 06 020000000001 0000 4500'),
      hex('000000000000 020000000001 0800 4500'),
    ],
    ['cooked 2, cut off', 276, hex('0800 0000 00000003 0001 00 06 020000000001 00'), hex('')],
  ])('turns %s into Ethernet', (_, type, packet, frame) => {
    const file = join(
      pcapHeader(true, PCAP_MAGIC_MICROSECONDS, type),
      pcapRecord(true, packet, 1, 1, packet.length, packet.length + 5),
    );
    const { records, error } = readAll(file);
    expect(error).toBeNull();
    expect(records[0].data).toEqual(frame);
    expect(records[0].originalLength).toBe(frame.length + 5);
  });
});

describe('pcapng', () => {
  it.each([
    ['little', true],
    ['big', false],
  ])('reads every packet block, %s-endian, and skips the rest', (_, little) => {
    const file = join(
      section(little),
      block(little, 4, hex('00000000')),
      description(little, 1, 20),
      description(little, 101),
      enhanced(little, 1, [0x0005_0000, 0x0123_4567], hex('450000'), 60),
      block(little, 5, hex('0000000000000000')),
      block(little, 3, pack(little, [4, 90], new Uint8Array(20).fill(7))),
      block(little, 0x0bad, hex('0102030405')),
      block(little, 2, pack(little, [2, 0], [2, 9], [4, 0], [4, 1_500_000], [4, 18], [4, 18], FRAME)),
    );
    const micro = 0x0005_0000 * 2 ** 32 + 0x0123_4567;
    expect(readAll(file)).toEqual({
      records: [
        {
          seconds: Math.floor(micro / 1e6),
          nanoseconds: (micro % 1e6) * 1000,
          data: hex('000000000000000000000000 0800 450000'),
          originalLength: 74,
          interfaceId: 1,
        },
        { seconds: 0, nanoseconds: 0, data: new Uint8Array(20).fill(7), originalLength: 90, interfaceId: 0 },
        { seconds: 1, nanoseconds: 500_000_000, data: FRAME, originalLength: 18, interfaceId: 0 },
      ],
      error: null,
    });
  });

  it('starts anew with each section, in its own byte order, and counts interfaces through', () => {
    const file = join(
      section(true),
      description(true),
      enhanced(true, 0, [0, 1], FRAME),
      section(false),
      description(false, 228),
      enhanced(false, 0, [0, 2], hex('45')),
      enhanced(false, 1, [0, 3], FRAME),
    );
    const { records, error } = readAll(file);
    expect(records.map((r) => [r.interfaceId, r.nanoseconds])).toEqual([
      [0, 1000],
      [1, 2000],
    ]);
    expect(error?.message).toContain('packet 3: interface 1 of a section that describes 1');
  });

  it.each<[string, string, [number, number], [number, number]]>([
    ['milliseconds', '09000100 03000000', [0, 1234], [1, 234_000_000]],
    ['nanoseconds', '09000100 09000000', [0x178a_5a1e, 0x3b9a_c9ff], divide(0x178a_5a1e, 0x3b9a_c9ff, 1_000_000_000)],
    ['picoseconds', '09000100 0c000000', [0, 0xffff_ffff], [0, 4_294_967]],
    ['1/1024 of a second', '09000100 8a000000', [0, 1536], [1, 500_000_000]],
    ['2^-32 seconds', '09000100 a0000000', [5, 0x8000_0000], [5, 500_000_000]],
    ['seconds', '09000100 00000000', [0, 77], [77, 0]],
    ['microseconds with an offset', '0e000800 0a00000000000000', [0, 1_000_001], [11, 1000]],
    ['microseconds with a negative offset', '0e000800 ffffffffffffffff', [0, 9_000_000], [8, 0]],
    ['an option of another kind before', '02000300 65746800 09000100 03000000', [0, 5], [0, 5_000_000]],
    ['nothing after the end of options', '00000000 09000100 03000000', [0, 5], [0, 5000]],
  ])('counts time in %s', (_, options, time, [seconds, nanoseconds]) => {
    const file = join(section(true), description(true, 1, 0, hex(options)), enhanced(true, 0, time, FRAME));
    expect(readAll(file).records[0]).toMatchObject({ seconds, nanoseconds });
  });

  const good = join(section(true), description(true, 1, 100), enhanced(true, 0, [0, 1], FRAME));
  const at = good.length;
  it.each<[string, Uint8Array, string]>([
    ['half a block', hex('0600000020000000'), `byte ${at}, packet 2: a block expected, 8 bytes are there`],
    ['a block of 8 bytes', hex('06000000 08000000 08000000'), `byte ${at + 4}, packet 2: a block is 12 bytes or more`],
    ['a block of 13 bytes', hex('06000000 0d000000 0d000000 00000000'), 'a multiple of 4, not 13'],
    [
      'a block beyond the file',
      hex('06000000 fcffffff 00000000'),
      'a block of 4294967292 bytes expected, 12 are there',
    ],
    ['another length at its end', hex('06000000 0c000000 10000000'), 'ends with length 16, not 12'],
    ['a packet block without a packet', hex('06000000 0c000000 0c000000'), 'takes at least 32 bytes, not 12'],
    ['a simple block without a length', hex('03000000 0c000000 0c000000'), 'takes at least 16 bytes, not 12'],
    ['an interface block without an interface', hex('01000000 0c000000 0c000000'), 'takes at least 20 bytes, not 12'],
    ['a section without byte order', hex('0a0d0d0a 0c000000 0c000000'), 'no byte-order magic'],
    ['a short section', hex('0a0d0d0a 10000000 4d3c2b1a 10000000'), 'takes at least 28 bytes, not 16'],
    [
      'version 2',
      block(true, 0x0a0d0d0a, pack(true, [4, 0x1a2b3c4d], [2, 2], [2, 0], [4, 0], [4, 0])),
      'version 1 expected, 2 found',
    ],
    ['an unknown interface', enhanced(true, 4, [0, 0], FRAME), 'interface 4 of a section that describes 1'],
    [
      'more captured than the block holds',
      enhanced(true, 0, [0, 0], FRAME, 90, 21),
      '21 bytes of packet expected, 20 are there',
    ],
    ['more captured than there was', enhanced(true, 0, [0, 0], FRAME, 17), '18 bytes captured of a packet of 17'],
    ['more captured than the limit', enhanced(true, 0, [0, 0], new Uint8Array(101)), 'snapshot length of 100'],
    ['a huge captured length', enhanced(true, 0, [0, 0], FRAME, 0xffff_ffff, 0xffff_fffc), 'are more than 262144'],
    [
      'an option beyond its block',
      description(true, 1, 0, hex('0200ff00 65746800')),
      'an option of 255 bytes, 4 are there',
    ],
    ['time that is too fine', description(true, 1, 0, hex('09000100 10000000')), 'units of 10^-16 s are too fine'],
    ['a link that cannot be read', join(description(true, 105), enhanced(true, 1, [0, 0], FRAME)), 'link type 105'],
  ])('yields what precedes %s', (_, bad, message) => {
    const { records, error } = readAll(join(good, bad));
    expect(records).toHaveLength(1);
    expect(error?.message).toContain(message);
    expect(error).toMatchObject({ name: 'CaptureError', packet: 2 });
  });

  it('refuses thousands of interfaces in a section', () => {
    const many = Buffer.concat([section(true), ...new Array<Uint8Array>(4097).fill(description(true))]);
    expect(readAll(many).error?.message).toContain('more than 4096 interfaces');
  });

  it('does not mind an interface of an unknown link without packets', () => {
    expect(readAll(join(section(true), description(true, 105))).error).toBeNull();
    expect([...readPcapng(section(false))]).toEqual([]);
  });
});

describe('any bytes', () => {
  const little = fc.boolean();
  const file = little.chain((l) =>
    fc.array(fc.tuple(fc.uint8Array({ maxLength: 40 }), fc.nat(3)), { maxLength: 5 }).map((packets) => {
      const ng = packets.map(([data, kind]) => {
        if (kind === 0) return description(l, data.length % 2 === 0 ? 1 : 101);
        return kind === 1 ? block(l, 3, pack(l, [4, data.length], data)) : enhanced(l, 0, [1, 2], data);
      });
      return [
        join(pcapHeader(l, PCAP_MAGIC_NANOSECONDS), ...packets.map(([data]) => pcapRecord(l, data))),
        join(section(l), description(l), ...ng),
      ];
    }),
  );

  it('are read or refused with a CaptureError that says where', () => {
    const damage = fc.array(fc.tuple(fc.nat(400), fc.nat(255)), { maxLength: 3 });
    fc.assert(
      fc.property(file, damage, fc.nat(400), (files, changes, cut) => {
        for (const bytes of files) {
          const whole = readAll(bytes);
          expect(whole.error).toBeNull();
          const short = readAll(bytes.subarray(0, cut));
          expect(whole.records.slice(0, short.records.length)).toEqual(short.records);
          for (const [off, value] of changes) bytes[off % bytes.length] = value;
          const { records, error } = readAll(bytes);
          const held = records.reduce((sum, r) => sum + r.data.length, 0);
          // Made Ethernet headers are the only bytes that are not in the file.
          expect(held).toBeLessThanOrEqual(bytes.length + 14 * records.length);
          if (error !== null) expect(error.offset).toBeLessThanOrEqual(bytes.length);
          for (const r of records) expect(r.originalLength).toBeGreaterThanOrEqual(r.data.length);
        }
      }),
      runs(500),
    );
  });

  it('are safe when random behind a right beginning', () => {
    const start = fc.constantFrom(
      section(true),
      section(false),
      pcapHeader(true, PCAP_MAGIC_MICROSECONDS),
      hex('0a0d0d0a'),
      hex(''),
    );
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 200 }), (head, rest) => {
        readAll(join(head, rest));
      }),
      runs(500),
    );
  });
});

function divide(high: number, low: number, units: number): [number, number] {
  const all = (BigInt(high) << 32n) | BigInt(low);
  return [Number(all / BigInt(units)), Number(all % BigInt(units))];
}
