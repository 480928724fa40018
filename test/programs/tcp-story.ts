/**
 * TCP conversations that are half honest: handshakes, data, FIN, RST and SYN at odd moments, sequence numbers a little or
 * far beside the truth, windows with and without scale, selective acknowledgments. For the kernel and flatpath to judge.
 */
import { buildFrame } from '../../engine/src/wire/build.ts';
import { words } from '../tables/runs.ts';
import { ACK, FIN, RST, SYN } from './tcp-talk.ts';

export interface Line {
  readonly flow: number;
  /** For people. */
  readonly text: string;
  readonly frame: Uint8Array;
}

export interface Setting {
  readonly client: number;
  readonly server: number;
  readonly srcMac: number;
  readonly dstMac: number;
}

const PSH = 0x08;
const URG = 0x20;
const SERVER_PORT = 80;
const FIRST_PORT = 10_000;
const CIRCLE = 2 ** 32;
const WINDOWS = [0, 1, 500, 8000, 64_240, 65_535] as const;
/** How far beside the truth a number may be. */
const BESIDE = [-1, 1, -10, 10, -1000, 1000, -4000, 4000, -65_000, 65_000, -66_000, 66_001, -200_000, 200_000, 2 ** 31];

interface End {
  seq: number;
  ack: number;
  window: number;
}

class Writer {
  private readonly next: () => number;
  private readonly setting: Setting;
  private readonly tight: boolean;
  readonly lines: Line[] = [];

  constructor(seed: number, setting: Setting, tight: boolean) {
    this.next = words(seed);
    this.setting = setting;
    this.tight = tight;
  }

  private below(count: number): number {
    return (this.next() >>> 0) % count;
  }

  private oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  private pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  conversation(flow: number, length: number): void {
    const ends: [End, End] = [this.end(), this.end()];
    // 0 SYN, 1 SYN/ACK, 2 ACK, 3 anything; some are seen from their middle on.
    let phase = this.oneIn(7) ? 3 : 0;
    for (let n = 0; n < length; n++) {
      let side = this.below(2);
      let flags = ACK;
      let bytes = 0;
      if (phase === 0) [side, flags] = [0, SYN];
      else if (phase === 1) [side, flags] = [1, this.oneIn(20) ? SYN : SYN | ACK];
      else if (phase === 2) side = 0;
      else [flags, bytes] = this.kind();
      if (phase < 3 && !this.oneIn(7)) phase++;
      if (flags === SYN && phase === 3 && this.oneIn(3)) {
        ends[side]!.seq = (ends[side]!.seq + this.pick([0, 1, 1000, 100_000])) % CIRCLE;
        phase = 1;
      }
      this.segment(flow, ends, side, flags, bytes, n > 2 && this.oneIn(4));
    }
  }

  private end(): End {
    return { seq: this.next() >>> 0, ack: 0, window: this.pick(WINDOWS) };
  }

  private kind(): [flags: number, bytes: number] {
    const draw = this.below(100);
    if (draw < 45) return [ACK, this.pick([1, 10, 100, 1000, 1400])];
    if (draw < 75) return [ACK, 0];
    if (draw < 83) return [FIN | ACK, 0];
    if (draw < 88) return [this.pick([RST, RST | ACK]), 0];
    if (draw < 92) return [SYN, 0];
    if (draw < 95) return [SYN | ACK, 0];
    if (draw < 97) return [this.pick([0, SYN | FIN, FIN, RST | FIN, URG | ACK, PSH | ACK, ACK | 0xc0]), 0];
    return [ACK, 0];
  }

  private segment(flow: number, ends: [End, End], side: number, kind: number, size: number, lies: boolean): void {
    const own = ends[side]!;
    const far = ends[1 - side]!;
    let flags = kind;
    let bytes = size;
    let { seq, ack, window } = own;
    if (this.tight) {
      // Few numbers, so that equality decides as often as order does.
      if (flow % 3 > 0) flags = this.pick([SYN, SYN | ACK, ACK, ACK, ACK, FIN | ACK, RST, RST | ACK]);
      bytes = flags === ACK ? this.pick([0, 0, 100]) : 0;
      seq = (side + 1) * 1_000_000 + this.pick([-1, 0, 1, 100, 101, 201]);
      ack = (2 - side) * 1_000_000 + this.pick([0, 1, 2, 101, 201]);
      if (this.oneIn(10)) seq = 0;
    } else if (lies) {
      if (this.oneIn(2)) seq += this.pick(BESIDE);
      if (this.oneIn(2)) ack += this.pick(BESIDE);
      if (this.oneIn(10)) seq = 0;
      if (this.oneIn(10)) ack = 0;
      if (this.oneIn(5)) window = this.pick(WINDOWS);
    }
    if ((flags & ACK) === 0 && !this.oneIn(5)) ack = 0;
    this.write(flow, side, flags, seq, ack, window, bytes);
    if (lies) return;
    own.seq = (own.seq + bytes + ((flags & SYN) >>> 1) + (flags & FIN)) % CIRCLE;
    if (!this.oneIn(10)) far.ack = own.seq;
    if (this.oneIn(10)) own.window = this.pick(WINDOWS);
  }

  private write(
    flow: number,
    side: number,
    flags: number,
    seq: number,
    ack: number,
    window: number,
    bytes: number,
  ): void {
    const { client, server, srcMac, dstMac } = this.setting;
    const options = this.oneIn(3) ? new Uint8Array(0) : this.options((flags & SYN) !== 0, ack);
    const isClient = side === 0;
    const port = FIRST_PORT + flow;
    const frame = buildFrame({
      ethernet: { src: srcMac, dst: dstMac },
      ip: {
        family: 4,
        src: [isClient ? client : server, 0, 0, 0],
        dst: [isClient ? server : client, 0, 0, 0],
        id: this.lines.length + 1,
      },
      l4: {
        protocol: 'tcp',
        sport: isClient ? port : SERVER_PORT,
        dport: isClient ? SERVER_PORT : port,
        flags,
        seq: seq >>> 0,
        ackSeq: ack >>> 0,
        window,
        options,
      },
      payload: new Uint8Array(bytes),
    });
    const hex = Buffer.from(options).toString('hex');
    const text = `${isClient ? '>' : '<'} flags ${flags.toString(16)} seq ${seq >>> 0} ack ${ack >>> 0} window ${window} bytes ${bytes} options ${hex}`;
    this.lines.push({ flow, text, frame });
  }

  private options(isSyn: boolean, ack: number): Uint8Array {
    const out: number[] = [];
    if (isSyn) {
      if (!this.oneIn(3)) out.push(2, 4, 5, 180);
      if (!this.oneIn(3)) out.push(4, 2);
      if (!this.oneIn(3)) out.push(1, 3, 3, this.pick([0, 2, 7, 14, 15]));
    } else if (this.oneIn(5)) out.push(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2);
    if (this.oneIn(6)) {
      const edge = (ack + this.pick([0, 100, 1000, -50, 100_000])) >>> 0;
      out.push(1, 1, 5, 10);
      for (const word of [edge - 100, edge])
        out.push((word >>> 24) & 255, (word >>> 16) & 255, (word >>> 8) & 255, word & 255);
    }
    while (out.length % 4 !== 0) out.push(this.below(2));
    return Uint8Array.from(out);
  }
}

/**
 * Conversations one after the other; the IP id of a line is its place, counted from 1.
 * @param tight few different sequence numbers, any flags
 */
export function tcpStory(seed: number, flows: number, length: number, setting: Setting, tight: boolean): Line[] {
  const writer = new Writer(seed, setting, tight);
  for (let flow = 0; flow < flows; flow++) writer.conversation(flow, length);
  return writer.lines;
}
