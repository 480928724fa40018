/**
 * tshark as the judge: it must find nothing malformed and no wrong checksum in thousands of frames that were built,
 * rewritten, refused and translated here, and it must find the wrong checksums of a capture made to have them.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AddressWords, buildFrame, type FrameFields, type L4Fields } from '../../engine/src/wire/build.ts';
import { readCapture } from '../../engine/src/wire/capture.ts';
import { parseFrame } from '../../engine/src/wire/parse.ts';
import { pcapWriter } from '../../engine/src/wire/pcap.ts';
import {
  TUPLE_DPORT,
  TUPLE_DST,
  TUPLE_SPORT,
  TUPLE_SRC,
  TUPLE_WORDS,
  translateIcmpError,
} from '../../engine/src/wire/quote.ts';
import { writeIcmp4Error, writeIcmp6Error, writeTcpReset } from '../../engine/src/wire/reject.ts';
import {
  decrementTtl,
  rewriteDestination4,
  rewriteDestination6,
  rewriteSource4,
  rewriteSource6,
} from '../../engine/src/wire/rewrite.ts';
import { initChunk } from '../../engine/src/wire/sctp-chunk.ts';
import { addressOf, frameOf, makeBurst, port, put, take } from './support.ts';

const available = ['tshark', 'editcap'].every((tool) => spawnSync(tool, ['--version']).status === 0);
if (!available) {
  if (process.env['FLATPATH_REQUIRE_ALL'] === '1') throw new Error('tshark or editcap is missing');
  console.log('skipped: tshark or editcap is missing');
}

const CHECKSUMS = [
  'ip.check_checksum:TRUE',
  'tcp.check_checksum:TRUE',
  'udp.check_checksum:TRUE',
  'sctp.checksum:crc-32c',
];
const PROTOCOLS = ['ip', 'tcp', 'udp', 'sctp', 'icmp', 'icmpv6'] as const;
const FAULTS = ['_ws.malformed', ...PROTOCOLS.map((protocol) => `${protocol}.checksum.status==0`)].join(' || ');
/** tshark takes a quote for the whole packet, whose chunks must be whole, and its destination for the final one. */
const FAULTS_BUT_OF_QUOTES =
  '(_ws.malformed && !sctp) || ip.checksum.status==0 || icmp.checksum.status==0 || icmpv6.checksum.status==0';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flatpath-wire-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

function write(name: string, frames: readonly Uint8Array[]): string {
  const pieces: Uint8Array[] = [];
  const record = pcapWriter('nanoseconds', (piece) => pieces.push(piece));
  frames.forEach((frame, i) => {
    record(1_700_000_000 + i, i, frame, frame.length);
  });
  const path = join(folder, name);
  writeFileSync(path, Buffer.concat(pieces));
  return path;
}

/** Lines that tshark prints for a capture under a filter; payloads are data, whatever their ports say. */
/**
 * Application protocols that tshark recognises by their bytes: random payload sometimes looks like one of them, badly made.
 */
function guessedProtocols(): string[] {
  const { stdout } = spawnSync('tshark', ['-G', 'heuristic-decodes'], { encoding: 'utf8' });
  const guessed = new Set(stdout.split('\n').flatMap((line) => line.split('\t')[1] ?? []));
  for (const protocol of PROTOCOLS) guessed.delete(protocol);
  return [...guessed];
}
const noGuessing = available ? guessedProtocols().flatMap((protocol) => ['--disable-protocol', protocol]) : [];

function tshark(path: string, filter: string, ...fields: string[]): string[] {
  const asData = ['tcp', 'udp', 'sctp'].flatMap((protocol) => ['-d', `${protocol}.port==0-65535,data`]);
  const shown = fields.length === 0 ? [] : ['-T', 'fields', ...fields.flatMap((field) => ['-e', field])];
  const checks = CHECKSUMS.flatMap((option) => ['-o', option]);
  const run = spawnSync('tshark', ['-n', '-r', path, ...checks, ...asData, ...noGuessing, '-Y', filter, ...shown], {
    encoding: 'utf8',
  });
  expect(run.status, run.stderr).toBe(0);
  return run.stdout.split('\n').filter((line) => line !== '');
}

interface Case {
  readonly fields: FrameFields;
  readonly addresses: readonly [AddressWords, AddressWords, AddressWords];
  readonly ports: readonly [number, number];
  readonly cut: number;
}

const anyCase: fc.Arbitrary<Case> = fc.constantFrom(4 as const, 6 as const).chain((family) => {
  const address = addressOf(family);
  return fc.record({
    fields: frameOf(family),
    addresses: fc.tuple(address, address, address),
    ports: fc.tuple(port, port),
    cut: fc.integer({ min: 2, max: 60 }),
  });
});

interface Written {
  readonly frame: Uint8Array;
  /** The frame quotes a packet whose transport checksum cannot be judged from the quote alone. */
  readonly hasOddQuote: boolean;
}

/** All frames that come of one case: built, rewritten both ways, reset, refused, and the refusal translated. */
function framesOf({ fields, addresses, ports, cut }: Case): Written[] {
  const burst = makeBurst(3);
  const frames: Written[] = [];
  const parseInto = (slot: number, frame: Uint8Array) => {
    put(burst, slot, frame);
    expect(parseFrame(burst, slot)).toBe(0);
  };
  const keep = (slot: number, hasOddQuote = false) => frames.push({ frame: take(burst, slot), hasOddQuote });
  const [a, b, c] = addresses;
  const is4 = fields.ip.family === 4;
  parseInto(0, buildFrame(fields));
  keep(0);
  decrementTtl(burst, 0);
  if (is4) {
    rewriteSource4(burst, 0, a[0], ports[0]);
    rewriteDestination4(burst, 0, b[0], ports[1]);
  } else {
    rewriteSource6(burst, 0, ...a, ports[0]);
    rewriteDestination6(burst, 0, ...b, ports[1]);
  }
  keep(0);
  if (writeTcpReset(burst, 0, 1) > 0) keep(1);
  const length = is4 ? writeIcmp4Error(burst, 0, 1, 3, 3, c[0]) : writeIcmp6Error(burst, 0, 1, 1, 4, ...c);
  if (length > 0) {
    const whole = burst.end[0] - burst.l3[0];
    const isRouted =
      fields.ip.family === 6 &&
      fields.ip.extensions?.some((header) => header.kind === 'routing' && header.segmentsLeft > 0);
    keep(1, isRouted === true || whole > (is4 ? 548 : 1232));
    const ip = is4 ? { family: 4 as const, src: c, dst: a } : { family: 6 as const, src: c, dst: a };
    const l4 = is4 ? ({ protocol: 'icmp', type: 11 } as const) : ({ protocol: 'icmpv6', type: 3 } as const);
    const quote = burst.bytes.slice(burst.l3[0], Math.min(burst.end[0], burst.l4[0] + cut * 4));
    parseInto(2, buildFrame({ ip, l4, payload: quote }));
    const tuple = new Int32Array(TUPLE_WORDS);
    tuple.set(b, TUPLE_SRC);
    tuple.set(c, TUPLE_DST);
    tuple[TUPLE_SPORT] = ports[1];
    tuple[TUPLE_DPORT] = ports[0];
    expect(translateIcmpError(burst, 2, tuple, tuple)).toBe(0);
    keep(2, isRouted === true || whole > quote.length);
  }
  return frames;
}

function framesWhere(written: readonly Written[], hasOddQuote: boolean): Uint8Array[] {
  return written.filter((one) => one.hasOddQuote === hasOddQuote).map((one) => one.frame);
}

describe.runIf(available)('tshark', () => {
  const seed = Number(process.env['FLATPATH_SEED'] ?? Math.trunc(Math.random() * 2 ** 31));

  it('finds nothing wrong in what was written', { timeout: 120_000 }, () => {
    const written = fc.sample(anyCase, { numRuns: 600, seed }).flatMap(framesOf);
    const path = write('right.pcap', framesWhere(written, false));
    expect(tshark(path, FAULTS), `FLATPATH_SEED=${seed}`).toEqual([]);
    const odd = write('odd-quotes.pcap', framesWhere(written, true));
    expect(tshark(odd, FAULTS_BUT_OF_QUOTES), `FLATPATH_SEED=${seed}`).toEqual([]);
    // It did look: every protocol is there with checksums that it calls good.
    for (const protocol of PROTOCOLS) {
      expect(tshark(path, `${protocol}.checksum.status==1`).length, protocol).toBeGreaterThan(50);
    }
  });

  it('reassembles rewritten fragments without a fault', () => {
    const burst = makeBurst(1);
    const frames: Uint8Array[] = [];
    for (const family of [4, 6] as const) {
      const src: AddressWords = family === 4 ? [0x0a000001, 0, 0, 0] : [0x20010db8, 0, 0, 1];
      const dst: AddressWords = family === 4 ? [0x0a000002, 0, 0, 0] : [0x20010db8, 0, 0, 2];
      const parts: readonly L4Fields[] = [
        { protocol: 'udp', sport: 5000, dport: 6000 },
        { protocol: 'tcp', sport: 5000, dport: 6000 },
        family === 4 ? { protocol: 'icmp', type: 8, id: 5 } : { protocol: 'icmpv6', type: 128, id: 5 },
      ];
      for (const l4 of parts) {
        const id = frames.length + 1;
        const whole = buildFrame({ ip: { family, src, dst }, l4, payload: new Uint8Array(3000).map((_, i) => i) });
        const data = whole.subarray(family === 4 ? 34 : 54);
        const protocol = whole[family === 4 ? 23 : 20];
        for (let offset = 0; offset < data.length; offset += 1024) {
          const payload = data.subarray(offset, offset + 1024);
          const more = offset + 1024 < data.length;
          const ip =
            family === 4
              ? { family, src, dst, id, fragmentOffset: offset, moreFragments: more }
              : { family, src, dst, extensions: [{ kind: 'fragment' as const, offset, more, id }] };
          put(burst, 0, buildFrame({ ip, l4: { protocol }, payload }));
          expect(parseFrame(burst, 0)).toBe(0);
          if (family === 4) rewriteSource4(burst, 0, 0x0a0000fe, 1234);
          else rewriteSource6(burst, 0, 0x20010db8, 0, 0, 0xfe, 1234);
          frames.push(take(burst, 0));
        }
      }
    }
    const path = write('fragments.pcap', frames);
    expect(tshark(path, FAULTS)).toEqual([]);
    for (const protocol of ['tcp', 'udp', 'icmp', 'icmpv6']) {
      expect(tshark(path, `${protocol}.checksum.status==1`).length, protocol).toBeGreaterThan(0);
    }
  });

  it('reports one wrong checksum per protocol, each by its name', () => {
    const v4 = { family: 4, src: [0x0a000001, 0, 0, 0], dst: [0x0a000002, 0, 0, 0] } as const;
    const v6 = { family: 6, src: [0x20010db8, 0, 0, 1], dst: [0x20010db8, 0, 0, 2] } as const;
    const ports = { sport: 40_000, dport: 40_001 };
    const chunks = [initChunk('init', 1, 65_536, 1, 1, 1)];
    const frames = [
      buildFrame({ ip: { ...v4, checksum: 1 }, l4: { protocol: 'tcp', ...ports } }),
      buildFrame({ ip: v4, l4: { protocol: 'tcp', ...ports, checksum: 1 } }),
      buildFrame({ ip: v6, l4: { protocol: 'udp', ...ports, checksum: 1 } }),
      buildFrame({ ip: v4, l4: { protocol: 'sctp', ...ports, chunks, checksum: 1 } }),
      buildFrame({ ip: v4, l4: { protocol: 'icmp', type: 8, checksum: 1 } }),
      buildFrame({ ip: v6, l4: { protocol: 'icmpv6', type: 128, checksum: 1 } }),
    ];
    const path = write('wrong.pcap', frames);
    PROTOCOLS.forEach((protocol, i) => {
      expect(tshark(path, `${protocol}.checksum.status==0`, 'frame.number')).toEqual([String(i + 1)]);
    });
    expect(tshark(path, FAULTS)).toHaveLength(frames.length);
  });

  it('and we read the same packets out of what editcap makes of a capture', () => {
    const frames = framesWhere(fc.sample(anyCase, { numRuns: 50, seed }).flatMap(framesOf), false);
    const path = write('plain.pcap', frames);
    const before = [...readCapture(readFileSync(path))];
    expect(before.map((record) => record.data)).toEqual(frames.map((frame) => Buffer.from(frame)));
    for (const format of ['pcapng', 'nsecpcap', 'pcap']) {
      const converted = join(folder, `converted.${format}`);
      expect(spawnSync('editcap', ['-F', format, path, converted]).status).toBe(0);
      const after = [...readCapture(readFileSync(converted))];
      const rounded =
        format === 'pcap' ? before.map((r) => ({ ...r, nanoseconds: r.nanoseconds - (r.nanoseconds % 1000) })) : before;
      expect(after).toEqual(rounded);
    }
    const cut = join(folder, 'cut.pcapng');
    expect(spawnSync('editcap', ['-F', 'pcapng', '-s', '30', path, cut]).status).toBe(0);
    for (const [i, record] of [...readCapture(readFileSync(cut))].entries()) {
      expect(record.data).toEqual(Buffer.from(frames[i].subarray(0, 30)));
      expect(record.originalLength).toBe(frames[i].length);
    }
  });
});
