/** `flatpath replay`: a capture goes through, replies are translated back, and tshark finds the result clean. */

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { type AddressWords, buildFrame, type L4Fields } from '../../engine/src/wire/build.ts';
import { readCapture } from '../../engine/src/wire/capture.ts';
import { pcapWriter } from '../../engine/src/wire/pcap.ts';
import { flatpath, makeFolder, SHOP } from './command.ts';

const ip = (text: string): AddressWords => [
  text.split('.').reduce((word, part) => (word << 8) | Number(part), 0),
  0,
  0,
  0,
];
const dotted = (frame: Uint8Array, off: number): string => frame.subarray(off, off + 4).join('.');
/** `source:port > destination:port` of an IPv4 frame. */
function ends(frame: Uint8Array): string {
  const port = (off: number): number => (frame[off]! << 8) | frame[off + 1]!;
  return `${dotted(frame, 26)}:${port(34)} > ${dotted(frame, 30)}:${port(36)}`;
}

const SYN = 0x02;
const SYN_ACK = 0x12;
const ACK = 0x10;

function frame(src: string, dst: string, l4: L4Fields): Uint8Array {
  return buildFrame({ ip: { family: 4, src: ip(src), dst: ip(dst), dontFragment: true }, l4 });
}
const tcp = (src: string, sport: number, dst: string, dport: number, flags: number): Uint8Array =>
  frame(src, dst, { protocol: 'tcp', sport, dport, flags, seq: 1, window: 1000 });

let folder = '';
beforeAll(() => {
  // One endpoint, so that the reply is known beforehand.
  folder = makeFolder({ 'shop.yaml': SHOP.replace('name: web-1, labels: {app: web}', 'name: web-1') });
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

function writeCapture(name: string, frames: readonly Uint8Array[]): void {
  const pieces: Uint8Array[] = [];
  const record = pcapWriter('nanoseconds', (piece) => pieces.push(piece));
  frames.forEach((own, i) => {
    record(1_700_000_000, i * 1_000_000, own, own.length);
  });
  writeFileSync(join(folder, name), Buffer.concat(pieces));
}

const FLOW = [
  tcp('10.244.1.5', 41_000, '10.96.0.10', 80, SYN),
  tcp('10.244.1.10', 8080, '10.244.1.5', 41_000, SYN_ACK),
  tcp('10.244.1.5', 41_000, '10.96.0.10', 80, ACK),
  frame('10.244.1.5', '10.244.2.10', { protocol: 'udp', sport: 5000, dport: 53 }),
  tcp('10.244.1.5', 41_001, '10.96.0.11', 80, SYN),
];

describe.each(BUILT_MODES)('flatpath replay in %s', (mode) => {
  it('translates requests and translates replies back', () => {
    writeCapture('in.pcap', FLOW);
    const { status, stdout, stderr } = flatpath(
      ['replay', 'in.pcap', '-o', 'out.pcap', '-f', 'shop.yaml', '--mode', mode, '--json'],
      { cwd: folder },
    );
    expect(status, stderr).toBe(0);
    const summary = JSON.parse(stdout) as {
      packets: number;
      written: number;
      answers: number;
      ends: Record<string, number>;
    };
    expect(summary.packets).toBe(FLOW.length);
    expect(Object.values(summary.ends).reduce((sum, count) => sum + count, 0)).toBe(FLOW.length);
    const out = [...readCapture(readFileSync(join(folder, 'out.pcap')))].map(({ data }) => data);
    expect(out).toHaveLength(summary.written);
    expect(out.slice(0, 4).map(ends)).toEqual([
      '10.244.1.5:41000 > 10.244.1.10:8080',
      '10.96.0.10:80 > 10.244.1.5:41000',
      '10.244.1.5:41000 > 10.244.1.10:8080',
      '10.244.1.5:5000 > 10.244.2.10:53',
    ]);
    // The Service without endpoints: an ICMP port unreachable goes back to the client.
    expect(summary.answers).toBe(1);
    expect([out[4]![23], out[4]![34], out[4]![35], dotted(out[4]!, 30)]).toEqual([1, 3, 3, '10.244.1.5']);
  });

  it('writes a capture that tshark finds clean', ({ skip }) => {
    if (spawnSync('tshark', ['--version']).status !== 0) {
      if (process.env['FLATPATH_REQUIRE_ALL'] === '1') throw new Error('tshark is missing');
      console.log('skipped: tshark is missing');
      skip();
    }
    writeCapture('in.pcap', FLOW);
    flatpath(['replay', 'in.pcap', '-o', 'out.pcap', '-f', 'shop.yaml', '--mode', mode], { cwd: folder });
    const checks = ['ip.check_checksum:TRUE', 'tcp.check_checksum:TRUE', 'udp.check_checksum:TRUE'].flatMap((own) => [
      '-o',
      own,
    ]);
    const faults =
      '_ws.malformed || ip.checksum.status==0 || tcp.checksum.status==0 || udp.checksum.status==0 || icmp.checksum.status==0';
    // A quote is cut short by nature, so the answer's quoted TCP checksum is not asked for.
    const { status, stdout } = spawnSync('tshark', ['-n', '-r', 'out.pcap', ...checks, '-Y', `(${faults}) && !icmp`], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect([status, stdout]).toEqual([0, '']);
  });
});

describe('a capture that is wrong', () => {
  it.each([
    ['empty', (): Uint8Array => new Uint8Array(0)],
    ['cut', (): Uint8Array => readFileSync(join(folder, 'in.pcap')).subarray(0, 60)],
    ['no capture', (): Uint8Array => Buffer.from('this is no capture at all, it is text')],
  ])('is refused and leaves no output behind: %s', (_, bytes) => {
    writeCapture('in.pcap', FLOW);
    writeFileSync(join(folder, 'bad.pcap'), bytes());
    const { status, stdout, stderr } = flatpath(['replay', 'bad.pcap', '-o', 'none.pcap', '-f', 'shop.yaml'], {
      cwd: folder,
    });
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toContain('error: bad.pcap');
    expect([existsSync(join(folder, 'none.pcap')), existsSync(join(folder, 'none.pcap.partial'))]).toEqual([
      false,
      false,
    ]);
  });
});
