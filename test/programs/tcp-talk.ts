/**
 * A TCP conversation between two pods of one node, so that one node sees all of it: each end knows its numbers, and a test
 * may lie about them.
 */

import type { Datapath } from '../../engine/src/programs/datapath.ts';
import { protocolStateName } from '../../engine/src/programs/netfilter-states.ts';
import { ctExpiry, ctFlags, ctNext, ctPeer, ctState } from '../../engine/src/tables/conntrack.ts';
import type { FrameFields } from '../../engine/src/wire/build.ts';
import { podOne, podThree } from './addresses.ts';
import { buildDatapath, frame, type Outcome, sendOne } from './fixture.ts';

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const ACK = 0x10;

/** The only entry of node 0: its state, flags, and seconds until both directions have expired. */
export function entry(dp: Datapath, nowMs: number): { state: number; flags: number; seconds: number } | null {
  const ct = dp.conntrack4;
  const slot = ctNext(ct, -1);
  if (slot === -1) return null;
  const last = Math.max(ctExpiry(ct, slot), ctExpiry(ct, ctPeer(ct, 0, slot)));
  if (last <= nowMs) return null;
  return { state: ctState(ct, slot), flags: ctFlags(ct, slot), seconds: (last - nowMs) / 1000 };
}

/** What a segment says beside its flags; what is left out is what an honest end would say. */
export interface Segment {
  readonly seq?: number;
  readonly ack?: number;
  readonly bytes?: number;
  readonly window?: number;
  readonly options?: Uint8Array;
}

export interface End {
  /** Next number to send, and the next one that is expected. */
  seq: number;
  ack: number;
}

export class Talk {
  readonly dp: Datapath;
  readonly one: End = { seq: 1000, ack: 0 };
  readonly two: End = { seq: 500_000, ack: 0 };
  now = 0;

  constructor(dp = buildDatapath({ tcpBeLiberal: false })) {
    this.dp = dp;
  }

  client(flags: number, atMs = this.now, segment: Segment = {}): Outcome {
    this.now = atMs;
    const fields = this.segment(this.one, this.two, podOne[4], 40000, podThree[4], 80, flags, segment);
    return sendOne(this.dp, { pod: podOne, timeMs: atMs }, fields);
  }

  server(flags: number, atMs = this.now, segment: Segment = {}): Outcome {
    this.now = atMs;
    const fields = this.segment(this.two, this.one, podThree[4], 80, podOne[4], 40000, flags, segment);
    return sendOne(this.dp, { pod: podThree, timeMs: atMs }, fields);
  }

  /** `STATE seconds`, or `none`. */
  state(): string {
    const found = entry(this.dp, this.now);
    return found === null ? 'none' : `${protocolStateName(6, found.state)} ${found.seconds}`;
  }

  open(): this {
    this.client(SYN);
    this.server(SYN | ACK);
    this.client(ACK);
    return this;
  }

  /** Both ends close, the client first: TIME_WAIT. */
  close(): this {
    this.client(FIN | ACK);
    this.server(FIN | ACK);
    this.client(ACK);
    return this;
  }

  private segment(
    from: End,
    to: End,
    src: string,
    sport: number,
    dst: string,
    dport: number,
    flags: number,
    { seq = from.seq, ack = from.ack, bytes = 0, window, options }: Segment,
  ): FrameFields {
    const ackSeq = (flags & ACK) === 0 ? 0 : ack >>> 0;
    if (seq === from.seq) {
      from.seq += bytes + ((flags & SYN) === 0 ? 0 : 1) + ((flags & FIN) === 0 ? 0 : 1);
      to.ack = from.seq;
    }
    const l4 = {
      protocol: 'tcp',
      sport,
      dport,
      flags,
      seq: seq >>> 0,
      ackSeq,
      ...(window === undefined ? {} : { window }),
      ...(options === undefined ? {} : { options }),
    } as const;
    return frame(src, dst, l4, new Uint8Array(bytes));
  }
}
