/** Verification tags and chunks that may not stand together, as nf_conntrack_proto_sctp.c judges them. */

import { describe, expect, it } from 'vitest';
import {
  judgeAssociation,
  SCTP_KEEPS_TIME,
  SCTP_MISFIT,
  SCTP_STATE_BITS,
} from '../../engine/src/programs/netfilter-association.ts';
import {
  SCTP_CLOSED,
  SCTP_COOKIE_ECHOED,
  SCTP_COOKIE_WAIT,
  SCTP_ESTABLISHED,
  SCTP_HEARTBEAT_SENT,
  SCTP_NONE,
  SCTP_SHUTDOWN_ACK_SENT,
  SCTP_SHUTDOWN_SENT,
} from '../../engine/src/programs/netfilter-states.ts';
import { buildFrame, type SctpChunk } from '../../engine/src/wire/build.ts';
import { type Burst, createBurst, frameOffset } from '../../engine/src/wire/burst.ts';
import { parseFrame } from '../../engine/src/wire/parse.ts';
import {
  SCTP_ABORT,
  SCTP_COOKIE_ACK,
  SCTP_COOKIE_ECHO,
  SCTP_DATA,
  SCTP_HEARTBEAT,
  SCTP_HEARTBEAT_ACK,
  SCTP_INIT,
  SCTP_INIT_ACK,
  SCTP_SACK,
  SCTP_SHUTDOWN,
  SCTP_SHUTDOWN_ACK,
  SCTP_SHUTDOWN_COMPLETE,
} from '../../engine/src/wire/sctp.ts';
import { initChunk } from '../../engine/src/wire/sctp-chunk.ts';

const CLIENT_TAG = 0x11111111;
const SERVER_TAG = 0xeeeeeeee;
const OWN_WORDS = 8;
const MISFIT = 'misfit';
const KEPT = 'kept';

/** An association that judges packets one after the other; both directions' own words are apart, or are one slot's. */
class Association {
  private readonly words: Int32Array;
  private readonly rep: number;
  private readonly burst: Burst = createBurst(1);
  state = SCTP_NONE;

  constructor(isSelf = false) {
    this.words = new Int32Array(2 * OWN_WORDS);
    this.rep = isSelf ? 0 : OWN_WORDS;
  }

  client(tag: number, ...chunks: SctpChunk[]): number | string {
    return this.judge(0, tag, chunks);
  }

  server(tag: number, ...chunks: SctpChunk[]): number | string {
    return this.judge(1, tag, chunks);
  }

  /** The state, MISFIT, or KEPT where the packet passes and prolongs nothing. */
  private judge(reply: number, tag: number, chunks: readonly SctpChunk[]): number | string {
    const b = this.burst;
    const frame = buildFrame({
      ip: { family: 4, src: [1, 0, 0, 0], dst: [2, 0, 0, 0] },
      l4: { protocol: 'sctp', sport: 1, dport: 2, tag, chunks },
    });
    b.bytes.set(frame, frameOffset(b, 0));
    b.len[0] = frame.length;
    expect(parseFrame(b, 0)).toBe(0);
    const judged = judgeAssociation(this.words, 0, this.rep, reply, this.state, b, 0);
    this.state = judged & SCTP_STATE_BITS;
    if ((judged & SCTP_MISFIT) !== 0) return MISFIT;
    return (judged & SCTP_KEEPS_TIME) !== 0 ? KEPT : this.state;
  }
}

const chunk = (type: number, flags = 0): SctpChunk => ({ type, flags, value: new Uint8Array(8) });
const init = (tag: number) => initChunk('init', tag, 1000, 1, 1, 1);
const initAck = (tag: number) => initChunk('init-ack', tag, 1000, 1, 1, 1);

function established(isSelf = false): Association {
  const of = new Association(isSelf);
  expect(of.client(0, init(CLIENT_TAG))).toBe(SCTP_CLOSED);
  expect(of.server(CLIENT_TAG, initAck(SERVER_TAG))).toBe(SCTP_COOKIE_WAIT);
  expect(of.client(SERVER_TAG, chunk(SCTP_COOKIE_ECHO))).toBe(SCTP_COOKIE_ECHOED);
  expect(of.server(CLIENT_TAG, chunk(SCTP_COOKIE_ACK))).toBe(SCTP_ESTABLISHED);
  return of;
}

describe('an association', () => {
  it('is set up with the tags that both ends announce', () => {
    const of = established();
    expect(of.client(SERVER_TAG, chunk(SCTP_DATA))).toBe(SCTP_ESTABLISHED);
    expect(of.server(CLIENT_TAG, chunk(SCTP_SACK), chunk(SCTP_DATA))).toBe(SCTP_ESTABLISHED);
    expect(of.client(CLIENT_TAG, chunk(SCTP_DATA))).toBe(MISFIT);
    expect(of.server(SERVER_TAG, chunk(SCTP_SACK))).toBe(MISFIT);
    expect(of.state).toBe(SCTP_ESTABLISHED);
  });

  it('of an end with itself keeps its tags apart', () => {
    expect(established(true).client(SERVER_TAG, chunk(SCTP_DATA))).toBe(SCTP_ESTABLISHED);
  });

  it('begins with INIT and tag 0, with HEARTBEAT, or with SHUTDOWN-ACK', () => {
    expect(new Association().client(7, init(CLIENT_TAG))).toBe(MISFIT);
    expect(new Association().client(7, chunk(SCTP_HEARTBEAT))).toBe(SCTP_HEARTBEAT_SENT);
    expect(new Association().client(7, chunk(SCTP_SHUTDOWN_ACK))).toBe(SCTP_SHUTDOWN_ACK_SENT);
    const others = [SCTP_DATA, SCTP_SACK, SCTP_ABORT, SCTP_COOKIE_ECHO, SCTP_COOKIE_ACK, SCTP_SHUTDOWN_COMPLETE];
    for (const type of others) expect(new Association().client(7, chunk(type)), `chunk ${type}`).toBe(MISFIT);
    expect(new Association().client(7, initAck(SERVER_TAG))).toBe(MISFIT);
  });

  it('whose INIT comes again keeps its entry no longer', () => {
    const of = new Association();
    of.client(0, init(CLIENT_TAG));
    expect(of.client(0, init(CLIENT_TAG))).toBe(KEPT);
  });

  it('takes ABORT and SHUTDOWN-COMPLETE with either tag, as the T bit says', () => {
    for (const type of [SCTP_ABORT, SCTP_SHUTDOWN_COMPLETE]) {
      expect(established().client(CLIENT_TAG, chunk(type))).toBe(MISFIT);
      expect(established().client(SERVER_TAG, chunk(type, 1))).toBe(MISFIT);
      expect(established().client(CLIENT_TAG, chunk(type, 1))).not.toBe(MISFIT);
    }
    expect(established().server(CLIENT_TAG, chunk(SCTP_ABORT))).toBe(SCTP_CLOSED);
  });

  it('learns the tags of a second path from HEARTBEAT and its answer', () => {
    const of = new Association();
    expect(of.client(SERVER_TAG, chunk(SCTP_HEARTBEAT))).toBe(SCTP_HEARTBEAT_SENT);
    expect(of.server(CLIENT_TAG, chunk(SCTP_HEARTBEAT_ACK))).toBe(SCTP_ESTABLISHED);
    expect(of.client(SERVER_TAG, chunk(SCTP_DATA))).toBe(SCTP_ESTABLISHED);
    expect(of.server(CLIENT_TAG, chunk(SCTP_DATA))).toBe(SCTP_ESTABLISHED);
    // One of them has restarted: the answer tells its new tag, and the other way's is learnt afresh.
    expect(of.client(5, chunk(SCTP_HEARTBEAT))).toBe(KEPT);
    expect(of.client(5, chunk(SCTP_HEARTBEAT_ACK))).toBe(MISFIT);
    expect(of.server(6, chunk(SCTP_HEARTBEAT_ACK))).toBe(SCTP_ESTABLISHED);
    expect(of.client(5, chunk(SCTP_HEARTBEAT))).toBe(SCTP_ESTABLISHED);
    expect(of.server(6, chunk(SCTP_DATA))).toBe(SCTP_ESTABLISHED);
  });

  it('whose INITs cross lets each INIT-ACK announce what its INIT did', () => {
    const of = new Association();
    of.client(0, init(CLIENT_TAG));
    expect(of.server(0, init(SERVER_TAG))).toBe(KEPT);
    expect(of.server(CLIENT_TAG, initAck(3))).toBe(MISFIT);
    expect(of.server(CLIENT_TAG, initAck(SERVER_TAG))).toBe(SCTP_COOKIE_WAIT);
  });
});

describe('chunks', () => {
  it('that come first or alone make a packet INVALID anywhere else', () => {
    for (const type of [SCTP_COOKIE_ECHO, SCTP_COOKIE_ACK, SCTP_INIT_ACK, SCTP_SHUTDOWN_COMPLETE]) {
      expect(established().client(SERVER_TAG, chunk(SCTP_SACK), chunk(type)), `chunk ${type}`).toBe(MISFIT);
    }
    expect(established().client(SERVER_TAG, initAck(CLIENT_TAG), chunk(SCTP_DATA))).toBe(MISFIT);
    expect(established().client(SERVER_TAG, chunk(SCTP_COOKIE_ECHO), chunk(SCTP_DATA))).toBe(SCTP_ESTABLISHED);
  });

  it('without a length, or an INIT without its parameters, make it INVALID', () => {
    const second = { ...chunk(SCTP_DATA), length: 0 };
    expect(established().client(SERVER_TAG, chunk(SCTP_SACK), second)).toBe(MISFIT);
    expect(new Association().client(0, { type: SCTP_INIT, value: new Uint8Array(12) })).toBe(MISFIT);
  });

  it('before a misfit have had their effect', () => {
    const of = established();
    expect(of.client(SERVER_TAG, chunk(SCTP_SHUTDOWN), chunk(SCTP_ABORT, 1))).toBe(MISFIT);
    expect(of.state).toBe(SCTP_SHUTDOWN_SENT);
  });
});
