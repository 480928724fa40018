import { describe, expect, it } from 'vitest';
import type { Datapath } from '../../engine/src/programs/datapath.ts';
import {
  FLOW_STREAM,
  protocolStateName,
  TCP_CLOSE,
  TCP_CLOSE_WAIT,
  TCP_ESTABLISHED,
  TCP_FIN_WAIT,
  TCP_LAST_ACK,
  TCP_SYN_RECV,
  TCP_SYN_SENT,
  TCP_SYN_SENT2,
  TCP_TIME_WAIT,
} from '../../engine/src/programs/netfilter-states.ts';
import {
  hasSoundFlags,
  segmentOf,
  TCP_IGNORE,
  TCP_INVALID,
  tcpFirst,
  tcpTransition,
} from '../../engine/src/programs/netfilter-tcp.ts';
import {
  CT_STATE_ESTABLISHED,
  CT_STATE_INVALID,
  CT_STATE_NEW,
  CT_STATE_REPLY,
} from '../../engine/src/programs/record.ts';
import { CT_ASSURED, CT_SEEN_REPLY, ctFlows } from '../../engine/src/tables/conntrack.ts';
import {
  CTSTATE_INVALID,
  HOOK_FORWARD,
  HOOK_PREROUTING,
  MATCH_PROTO,
  TABLE_FILTER,
  TABLE_RAW,
  TARGET_DROP,
  TARGET_NOTRACK,
} from '../../engine/src/tables/rule-list.ts';
import { client, podOne, podThree, podTwo, svcOne } from './addresses.ts';
import { buildDatapath, frame, type Outcome, sendOne, tcp, udp, unaccounted } from './fixture.ts';
import { kubeRules } from './kube-rules.ts';
import { ctstate, dport, drop, match, notrack, ruleList } from './rules.ts';
import { ACK, entry, FIN, RST, SYN, Talk } from './tcp-talk.ts';

const S = 1000;

describe('TCP', () => {
  it('goes through its life to TIME_WAIT with kube-proxy’s and the kernel’s lives', () => {
    const talk = new Talk();
    expect(talk.client(SYN).ctState).toBe(CT_STATE_NEW);
    expect(talk.state()).toBe('SYN_SENT 120');
    // The same SYN again, which keeps nothing alive.
    expect(talk.client(SYN, 40 * S, { seq: 1000 }).ctState).toBe(CT_STATE_NEW);
    expect(talk.state()).toBe('SYN_SENT 80');
    expect(talk.server(SYN | ACK).ctState).toBe(CT_STATE_REPLY);
    expect(talk.state()).toBe('SYN_RECV 60');
    expect(talk.client(ACK).ctState).toBe(CT_STATE_ESTABLISHED);
    expect(talk.state()).toBe('ESTABLISHED 86400');
    expect(entry(talk.dp, talk.now)!.flags & (CT_ASSURED | CT_SEEN_REPLY)).toBe(CT_ASSURED | CT_SEEN_REPLY);
    talk.client(FIN | ACK, 42 * S);
    expect(talk.state()).toBe('FIN_WAIT 120');
    talk.server(ACK);
    expect(talk.state()).toBe('CLOSE_WAIT 3600');
    talk.server(FIN | ACK);
    expect(talk.state()).toBe('LAST_ACK 30');
    talk.client(ACK);
    expect(talk.state()).toBe('TIME_WAIT 120');
    expect(talk.client(ACK, 43 * S).ctState).toBe(CT_STATE_ESTABLISHED);
    expect(ctFlows(talk.dp.conntrack4, 0)).toBe(1);
  });

  it('reopens a TIME_WAIT with a new SYN: the entry is another one', () => {
    const talk = new Talk().open();
    talk.close();
    expect(talk.state()).toBe('TIME_WAIT 120');
    const again = talk.client(SYN, 5 * S);
    expect(again.ctState).toBe(CT_STATE_NEW);
    expect(talk.state()).toBe('SYN_SENT 120');
    expect(entry(talk.dp, talk.now)!.flags & CT_SEEN_REPLY).toBe(0);
    expect(ctFlows(talk.dp.conntrack4, 0)).toBe(1);
  });

  it('chooses anew when a Service flow in TIME_WAIT is reopened', () => {
    const dp = buildDatapath({ rules4: kubeRules(4) });
    const out = (flags: number, choice: number) => {
      dp.ring.script[0] = choice;
      dp.ring.points = 0;
      return sendOne(dp, { pod: podOne, choice: 0 }, tcp(podOne[4], 40000, svcOne[4], 80, flags));
    };
    const back = (flags: number) => sendOne(dp, { pod: podThree }, tcp(podThree[4], 8080, podOne[4], 40000, flags));
    expect(out(SYN, 1).target).toBe(podThree.index);
    back(SYN | ACK);
    out(ACK, 0);
    out(FIN | ACK, 0);
    back(FIN | ACK);
    expect(out(ACK, 0).target).toBe(podThree.index);
    expect(out(SYN, 0).target).toBe(podTwo.index);
  });

  it('forgets a connection that was reset before it answered, and keeps one that was reset later for 10 s', () => {
    const refused = new Talk();
    refused.client(SYN);
    expect(refused.server(RST | ACK).ctState).toBe(CT_STATE_REPLY);
    expect(refused.state()).toBe('none');
    const talk = new Talk().open();
    talk.server(RST);
    expect(talk.state()).toBe('CLOSE 10');
  });

  it('lets a SYN pass over a connection that the server reset, and follows the SYN/ACK', () => {
    const talk = new Talk().open();
    talk.server(RST);
    expect(talk.client(SYN).ctState).toBe(CT_STATE_ESTABLISHED);
    expect(talk.state()).toBe('CLOSE 10');
    talk.server(SYN | ACK);
    expect(talk.state()).toBe('SYN_RECV 60');
  });

  it('picks up a connection in its middle, for 300 s until it is answered', () => {
    const talk = new Talk();
    expect(talk.client(ACK).ctState).toBe(CT_STATE_NEW);
    expect(talk.state()).toBe('ESTABLISHED 300');
    talk.server(ACK);
    expect(talk.state()).toBe('ESTABLISHED 300');
    talk.client(ACK);
    expect(talk.state()).toBe('ESTABLISHED 86400');
  });

  it('opens from both ends at once', () => {
    const talk = new Talk();
    talk.client(SYN);
    talk.server(SYN);
    expect(talk.state()).toBe('SYN_SENT2 120');
    talk.client(SYN | ACK);
    expect(talk.state()).toBe('SYN_RECV 60');
    talk.server(ACK);
    expect(talk.state()).toBe('ESTABLISHED 86400');
  });

  it('calls INVALID what fits no connection, and makes no entry of it', () => {
    for (const flags of [SYN | ACK, FIN | ACK, RST, 0, SYN | FIN, FIN, 0x29]) {
      const talk = new Talk();
      expect(talk.client(flags).ctState).toBe(CT_STATE_INVALID);
      expect(talk.state()).toBe('none');
    }
    const talk = new Talk();
    talk.client(SYN);
    expect(talk.client(ACK).ctState).toBe(CT_STATE_INVALID);
    expect(talk.state()).toBe('SYN_SENT 120');
  });

  it('has the kernel’s transitions where they are easily wrong', () => {
    const original = (flags: number, state: number) => tcpTransition(0, segmentOf(flags), state);
    const reply = (flags: number, state: number) => tcpTransition(1, segmentOf(flags), state);
    expect(tcpFirst(SYN)).toBe(TCP_SYN_SENT);
    expect(tcpFirst(ACK)).toBe(TCP_ESTABLISHED);
    expect(tcpFirst(FIN | ACK)).toBe(TCP_INVALID);
    expect(original(SYN, TCP_ESTABLISHED)).toBe(TCP_IGNORE);
    expect(original(SYN, TCP_CLOSE)).toBe(TCP_SYN_SENT);
    expect(original(SYN | ACK, TCP_SYN_SENT2)).toBe(TCP_SYN_RECV);
    expect(original(SYN | ACK, TCP_ESTABLISHED)).toBe(TCP_INVALID);
    expect(original(FIN | ACK, TCP_SYN_RECV)).toBe(TCP_FIN_WAIT);
    expect(original(FIN | ACK, TCP_FIN_WAIT)).toBe(TCP_LAST_ACK);
    expect(original(ACK, TCP_FIN_WAIT)).toBe(TCP_CLOSE_WAIT);
    expect(original(ACK, TCP_LAST_ACK)).toBe(TCP_TIME_WAIT);
    expect(original(RST, TCP_TIME_WAIT)).toBe(TCP_CLOSE);
    expect(reply(SYN, TCP_SYN_SENT)).toBe(TCP_SYN_SENT2);
    expect(reply(SYN, TCP_ESTABLISHED)).toBe(TCP_INVALID);
    expect(reply(SYN | ACK, TCP_ESTABLISHED)).toBe(TCP_IGNORE);
    expect(reply(ACK, TCP_SYN_SENT)).toBe(TCP_IGNORE);
    expect(reply(ACK, TCP_SYN_RECV)).toBe(TCP_SYN_RECV);
    expect(reply(FIN | ACK, TCP_SYN_SENT)).toBe(TCP_INVALID);
    expect(reply(SYN, TCP_TIME_WAIT)).toBe(TCP_SYN_SENT);
  });

  it('knows the flags that stand together', () => {
    const sound = [];
    for (let flags = 0; flags < 64; flags++) if (hasSoundFlags(flags) && (flags & 8) === 0) sound.push(flags);
    // SYN, RST, ACK, FIN+ACK, SYN+ACK, RST+ACK, and URG with SYN, ACK, FIN+ACK.
    expect(sound.sort((a, b) => a - b)).toEqual([0x02, 0x04, 0x10, 0x11, 0x12, 0x14, 0x22, 0x30, 0x31]);
    expect(hasSoundFlags(0xc2)).toBe(true);
  });
});

describe('UDP', () => {
  const out = (dp: Datapath, timeMs: number) =>
    sendOne(dp, { pod: podOne, timeMs }, udp(podOne[4], 5000, podThree[4], 53));
  const back = (dp: Datapath, timeMs: number) =>
    sendOne(dp, { pod: podThree, timeMs }, udp(podThree[4], 53, podOne[4], 5000));

  it('lives 30 s, and 120 s once it has answered and lasted two seconds', () => {
    const dp = buildDatapath();
    expect(out(dp, 0).ctState).toBe(CT_STATE_NEW);
    expect(back(dp, 100).ctState).toBe(CT_STATE_REPLY);
    expect(entry(dp, 100)!.seconds).toBe(30);
    expect(out(dp, 2 * S).ctState).toBe(CT_STATE_ESTABLISHED);
    expect(entry(dp, 2 * S)!.seconds).toBe(30);
    expect(entry(dp, 2 * S)!.flags & CT_ASSURED).toBe(0);
    back(dp, 2 * S + 1);
    expect(entry(dp, 2 * S + 1)).toMatchObject({ state: FLOW_STREAM, seconds: 120 });
    expect(entry(dp, 2 * S + 1)!.flags & CT_ASSURED).toBe(CT_ASSURED);
    expect(out(dp, 120 * S).ctState).toBe(CT_STATE_ESTABLISHED);
    expect(out(dp, 240 * S - 1).ctState).toBe(CT_STATE_ESTABLISHED);
  });

  it('expires by the clock: an answer that comes too late begins a flow of its own', () => {
    const dp = buildDatapath();
    out(dp, 0);
    out(dp, 29 * S);
    expect(back(dp, 59 * S - 1).ctState).toBe(CT_STATE_REPLY);
    const late = buildDatapath();
    out(late, 0);
    expect(back(late, 30 * S).ctState).toBe(CT_STATE_NEW);
  });
});

describe('SCTP', () => {
  const chunk = (from: string, sport: number, to: string, dp: number, type: number) =>
    frame(from, to, { protocol: 'sctp', sport, dport: dp, chunks: [{ type, value: new Uint8Array(16) }] });
  it('goes through its handshake and its shutdown', () => {
    const dp = buildDatapath();
    const names: string[] = [];
    const client4 = (type: number) => sendOne(dp, { pod: podOne }, chunk(podOne[4], 7000, podThree[4], 38412, type));
    const server4 = (type: number) => sendOne(dp, { pod: podThree }, chunk(podThree[4], 38412, podOne[4], 7000, type));
    const [init, initAck, heartbeat, shutdown, shutdownAck, cookieEcho, cookieAck, complete, data] = [
      1, 2, 4, 7, 8, 10, 11, 14, 0,
    ];
    const talk: [(type: number) => Outcome, number][] = [
      [client4, init!],
      [server4, initAck!],
      [client4, cookieEcho!],
      [server4, cookieAck!],
      [client4, data!],
      [server4, heartbeat!],
      [client4, shutdown!],
      [server4, shutdownAck!],
      [client4, complete!],
    ];
    for (const [say, type] of talk) {
      say(type);
      const found = entry(dp, 0)!;
      names.push(`${protocolStateName(132, found.state)} ${found.seconds}`);
    }
    expect(names).toEqual([
      'CLOSED 10',
      'COOKIE_WAIT 3',
      'COOKIE_ECHOED 3',
      'ESTABLISHED 210',
      'ESTABLISHED 210',
      'ESTABLISHED 210',
      'SHUTDOWN_SENT 3',
      'SHUTDOWN_ACK_SENT 3',
      'CLOSED 10',
    ]);
  });

  it('calls an association that begins in its middle INVALID', () => {
    for (const type of [0, 6, 11, 14]) {
      expect(sendOne(buildDatapath(), { pod: podOne }, chunk(podOne[4], 1, podTwo[4], 2, type)).ctState).toBe(
        CT_STATE_INVALID,
      );
    }
  });
});

describe('the table', () => {
  it('refuses a newcomer only when all others are assured, and counts him', () => {
    const dp = buildDatapath({ flows: 8, conntrackMax: 8 });
    for (let i = 0; i < 8; i++) {
      sendOne(dp, { pod: podOne }, tcp(podOne[4], 1000 + i, podThree[4], 80, SYN));
      sendOne(dp, { pod: podThree }, tcp(podThree[4], 80, podOne[4], 1000 + i, SYN | ACK));
      sendOne(dp, { pod: podOne }, tcp(podOne[4], 1000 + i, podThree[4], 80, ACK));
    }
    const refused = sendOne(dp, { pod: podOne }, tcp(podOne[4], 2000, podThree[4], 80, SYN));
    expect(`${refused.verdict} ${refused.reason}`).toBe('dropped conntrack-full');
    // An established flow goes on.
    expect(sendOne(dp, { pod: podOne }, tcp(podOne[4], 1000, podThree[4], 80, ACK)).verdict).toBe('delivered');
    expect(unaccounted(dp)).toBe(0);
    // A day later all of them have expired.
    const later = sendOne(dp, { pod: podOne, timeMs: 86_401 * S }, tcp(podOne[4], 2000, podThree[4], 80, SYN));
    expect(later.verdict).toBe('delivered');
  });

  it('throws out a flow that is not assured to take a new one', () => {
    const dp = buildDatapath({ flows: 8, conntrackMax: 8 });
    for (let i = 0; i < 20; i++) {
      expect(sendOne(dp, { pod: podOne }, udp(podOne[4], 1000 + i, podThree[4], 53)).verdict).toBe('delivered');
    }
    expect(ctFlows(dp.conntrack4, 0)).toBe(8);
  });

  it('has no entry of a frame that was dropped behind conntrack', () => {
    const chains = { FORWARD: [drop(match(MATCH_PROTO, 17))] };
    const dp = buildDatapath({
      rules4: ruleList(2, chains, [{ hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'FORWARD' }]),
    });
    const out = sendOne(dp, { pod: podOne }, udp(podOne[4], 1, podThree[4], 53));
    expect(`${out.verdict} ${out.reason}`).toBe('dropped rule-drop');
    expect(ctFlows(dp.conntrack4, 0)).toBe(0);
  });

  it('drops what comes to the end of a chain with policy DROP', () => {
    const dp = buildDatapath({
      rules4: ruleList(2, { FORWARD: [] }, [
        { hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'FORWARD', policy: TARGET_DROP },
      ]),
    });
    expect(sendOne(dp, { pod: podOne }, udp(podOne[4], 1, podThree[4], 53)).reason).toBe('chain-policy');
  });

  it('leaves alone what NOTRACK has marked', () => {
    const chains = { RAW: [notrack(TARGET_NOTRACK, dport(53))], FORWARD: [drop(ctstate(CTSTATE_INVALID))] };
    const dp = buildDatapath({
      rules4: ruleList(2, chains, [
        { hook: HOOK_PREROUTING, table: TABLE_RAW, chain: 'RAW' },
        { hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'FORWARD' },
      ]),
    });
    const out = sendOne(dp, { pod: podOne }, udp(podOne[4], 1, podThree[4], 53));
    expect(out.verdict).toBe('delivered');
    expect(out.ctState).toBe(6);
    expect(ctFlows(dp.conntrack4, 0)).toBe(0);
  });

  it('moves the source port when another flow has the reply’s tuple', () => {
    const dp = buildDatapath({ rules4: kubeRules(4) });
    dp.ring.script[0] = 1;
    // Through the Service and straight to its backend, from one port: k8s#90042.
    sendOne(dp, { pod: podOne, choice: 0 }, tcp(podOne[4], 40000, svcOne[4], 80, SYN));
    const straight = sendOne(dp, { pod: podOne }, tcp(podOne[4], 40000, podThree[4], 8080, SYN));
    expect(straight.verdict).toBe('delivered');
    expect(straight.wrong).toBe(0);
    const port = Number(straight.tuple.split(' ')[0]!.split(':').pop());
    expect(port).not.toBe(40000);
    const back = sendOne(dp, { pod: podThree }, tcp(podThree[4], 8080, podOne[4], port, SYN | ACK));
    expect(back.tuple).toBe(`${podThree[4]}:8080 -> ${podOne[4]}:40000`);
    const other = sendOne(dp, { pod: podThree }, tcp(podThree[4], 8080, podOne[4], 40000, SYN | ACK));
    expect(other.tuple).toBe(`${svcOne[4]}:80 -> ${podOne[4]}:40000`);
  });

  it('keeps nodes apart: each is a zone', () => {
    const dp = buildDatapath();
    sendOne(dp, { pod: podOne }, udp(podOne[4], 1, podTwo[4], 53));
    expect(ctFlows(dp.conntrack4, 0)).toBe(2);
    sendOne(dp, { uplink: 1 }, udp(client[4], 1, podTwo[4], 53));
    expect(ctFlows(dp.conntrack4, 0)).toBe(3);
  });
});

describe('states', () => {
  it('have the numbers that the kernel’s tables are in', () => {
    expect([TCP_SYN_SENT, TCP_SYN_RECV, TCP_ESTABLISHED, TCP_FIN_WAIT]).toEqual([1, 2, 3, 4]);
    expect([TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_TIME_WAIT, TCP_CLOSE, TCP_SYN_SENT2]).toEqual([5, 6, 7, 8, 9]);
  });
});
