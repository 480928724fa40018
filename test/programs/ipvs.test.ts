/** The ipvs mode: where IPVS stands between the hooks, what it does to frames, and the cases that its users reported. */
import { describe, expect, it } from 'vitest';
import type { Datapath } from '../../engine/src/programs/datapath.ts';
import {
  IPVS_EXPIRE_NODEST,
  IPVS_EXPIRE_QUIESCENT,
  IPVS_KUBE_PROXY_OPTIONS,
  IPVS_SLOPPY_TCP,
  MAP_CONNECTIONS,
  MAP_REAL_SERVERS,
  MAP_SETS,
  MAP_VIRTUAL_SERVERS,
} from '../../engine/src/programs/ipvs-image.ts';
import { EVENT_CHOICE, EVENT_MAP } from '../../engine/src/programs/record.ts';
import { NAT_DESTINATION, NAT_REVERSE, NAT_SOURCE } from '../../engine/src/programs/verdict.ts';
import { ctFlows } from '../../engine/src/tables/conntrack.ts';
import { nextBranch, resetEventRing } from '../../engine/src/tables/event-ring.ts';
import { SET_ADDRESS_PORT, SET_BITMAP_PORT } from '../../engine/src/tables/ipset.ts';
import { connCount } from '../../engine/src/tables/ipvs-connections.ts';
import { SCHED_RR, SCHED_SH, VS_PERSISTENT } from '../../engine/src/tables/ipvs-services.ts';
import {
  ADDRTYPE_LOCAL,
  CTSTATE_DNAT,
  CTSTATE_NEW,
  HOOK_FORWARD,
  HOOK_INPUT,
  HOOK_OUTPUT,
  HOOK_POSTROUTING,
  HOOK_PREROUTING,
  MATCH_SET,
  REJECT_PORT_UNREACHABLE,
  TABLE_FILTER,
  TABLE_NAT,
} from '../../engine/src/tables/rule-list.ts';
import { PROTO_SCTP, SCTP_DATA, SCTP_INIT } from '../../engine/src/wire/sctp.ts';
import { PROTO_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../../engine/src/wire/tcp.ts';
import { PROTO_UDP } from '../../engine/src/wire/udp.ts';
import { client, nodeOne, nodeTwo, podOne, podThree, podTwo, svcOne } from './addresses.ts';
import { type Entry, frame, sendAnswers, sendOne, tcp, udp, unaccounted } from './fixture.ts';
import { buildIpvsDatapath, elementOf, type IpvsOptions, type RealServer, setIpvs } from './ipvs-fixture.ts';
import { accept, ctstate, drop, dst, dstType, mark, masquerade, match, reject, ruleList, setMark } from './rules.ts';

const MASQ = 0x4000;
const VIP = svcOne[4];

/** Masquerades what is marked, and marks what a test says. */
function masqueradeRules(...marked: Parameters<typeof setMark>[1][]) {
  return ruleList(2, { POST: [masquerade(0, mark(MASQ))], SERVICES: [setMark(MASQ, ...marked)] }, [
    { hook: HOOK_POSTROUTING, table: TABLE_NAT, chain: 'POST' },
    { hook: HOOK_PREROUTING, table: TABLE_NAT, chain: 'SERVICES' },
    { hook: HOOK_OUTPUT, table: TABLE_NAT, chain: 'SERVICES' },
  ]);
}

const twoReals: readonly RealServer[] = [
  { address: podThree[4], port: 8080 },
  { address: podTwo[4], port: 8080 },
];

function service(reals: readonly RealServer[], more: object = {}): IpvsOptions['servers'] {
  return [{ address: VIP, port: 80, reals, ...more }];
}

const fromPodOne: Entry = { pod: podOne };
const fromPodTwo: Entry = { pod: podTwo };

/** EVENT_MAP and EVENT_CHOICE events, as [code, operands…]. */
function mapEvents(dp: Datapath): number[][] {
  const events: number[][] = [];
  const { words, used } = dp.ring;
  for (let at = 0; at < used; at += words[at]! >>> 8) {
    const code = words[at]! & 0xff;
    if (code === EVENT_MAP || code === EVENT_CHOICE)
      events.push([code, ...words.subarray(at + 1, at + (words[at]! >>> 8))]);
  }
  return events;
}

describe('a request and its answers', () => {
  for (const family of [4, 6] as const) {
    it(`IPv${family}: a pod's frame to a virtual address goes to a real server, and its answer comes from the address`, () => {
      const dp = buildIpvsDatapath({
        servers: [{ address: svcOne[family], port: 80, reals: [{ address: podTwo[family], port: 8080 }] }],
      });
      const there = sendOne(dp, fromPodOne, tcp(podOne[family], 40_000, svcOne[family], 80, TCP_SYN));
      const [a, b] = family === 4 ? [podOne[4], podTwo[4]] : [`[${podOne[6]}]`, `[${podTwo[6]}]`];
      const vip = family === 4 ? VIP : `[${svcOne[6]}]`;
      expect(there.tuple).toBe(`${a}:40000 -> ${b}:8080`);
      expect([there.verdict, there.target, there.nat, there.wrong]).toEqual([
        'delivered',
        podTwo.index,
        NAT_DESTINATION,
        0,
      ]);
      // 64 at the pod: one from IPVS on the first node, one from forwarding on the second.
      expect(there.bytes[family === 4 ? 22 : 21]).toBe(62);
      const back = sendOne(dp, fromPodTwo, tcp(podTwo[family], 8080, podOne[family], 40_000, TCP_SYN | TCP_ACK));
      expect(back.tuple).toBe(`${vip}:80 -> ${a}:40000`);
      expect([back.verdict, back.target, back.nat, back.wrong]).toEqual(['delivered', podOne.index, NAT_REVERSE, 0]);
      const ack = sendOne(dp, fromPodOne, tcp(podOne[family], 40_000, svcOne[family], 80, TCP_ACK));
      expect([ack.verdict, ack.tuple]).toEqual(['delivered', `${a}:40000 -> ${b}:8080`]);
      expect(unaccounted(dp)).toBe(0);
    });
  }

  it('masquerades what the rules have marked, and finds the way back through both translations', () => {
    const dp = buildIpvsDatapath({
      rules4: masqueradeRules(dst(VIP)),
      servers: service([{ address: podTwo[4], port: 8080 }]),
    });
    const there = sendOne(dp, { uplink: 0 }, tcp(client[4], 40_000, VIP, 80, TCP_SYN));
    expect(there.tuple).toBe(`${nodeOne[4]}:40000 -> ${podTwo[4]}:8080`);
    expect([there.nat, there.wrong]).toEqual([NAT_DESTINATION | NAT_SOURCE, 0]);
    const back = sendOne(dp, fromPodTwo, tcp(podTwo[4], 8080, nodeOne[4], 40_000, TCP_SYN | TCP_ACK));
    expect(back.tuple).toBe(`${VIP}:80 -> ${client[4]}:40000`);
    expect([back.verdict, back.wrong]).toEqual(['forwarded', 0]);
    const on = sendOne(dp, { uplink: 0 }, tcp(client[4], 40_000, VIP, 80, TCP_ACK, 'data'));
    expect([on.tuple, on.wrong]).toEqual([`${nodeOne[4]}:40000 -> ${podTwo[4]}:8080`, 0]);
  });

  it('balances UDP and SCTP too; of SCTP only an INIT begins a connection', () => {
    const dp = buildIpvsDatapath({
      servers: [
        { address: VIP, port: 53, proto: PROTO_UDP, reals: [{ address: podTwo[4], port: 5353 }] },
        { address: VIP, port: 90, proto: PROTO_SCTP, reals: [{ address: podTwo[4], port: 9000 }] },
      ],
    });
    expect(sendOne(dp, fromPodOne, udp(podOne[4], 40_000, VIP, 53)).tuple).toBe(
      `${podOne[4]}:40000 -> ${podTwo[4]}:5353`,
    );
    const sctp = (type: number) =>
      frame(podOne[4], VIP, {
        protocol: 'sctp',
        sport: 41_000,
        dport: 90,
        chunks: [{ type, value: new Uint8Array(16) }],
      });
    const data = sendOne(dp, fromPodOne, sctp(SCTP_DATA));
    expect([data.verdict, data.node, data.tuple]).toEqual(['delivered', 0, `${podOne[4]}:41000 -> ${VIP}:90`]);
    const init = sendOne(dp, fromPodOne, sctp(SCTP_INIT));
    expect([init.verdict, init.tuple, init.wrong]).toEqual(['delivered', `${podOne[4]}:41000 -> ${podTwo[4]}:9000`, 0]);
  });

  it('takes turns, and a probe sees every real server with a weight', () => {
    const reals = [...twoReals, { address: nodeTwo[4], port: 6443, weight: 0 }];
    const dp = buildIpvsDatapath({ servers: service(reals) });
    const taken = [0, 1, 2, 3].map((i) => sendOne(dp, fromPodOne, tcp(podOne[4], 40_000 + i, VIP, 80, TCP_SYN)).tuple);
    // The list has the one added last in front.
    expect(taken.map((text) => text.split(' -> ')[1])).toEqual([
      `${podTwo[4]}:8080`,
      `${podThree[4]}:8080`,
      `${podTwo[4]}:8080`,
      `${podThree[4]}:8080`,
    ]);
    const seen: string[] = [];
    let port = 41_000;
    dp.ring.on = true;
    do {
      resetEventRing(dp.ring);
      seen.push(
        sendOne(dp, { ...fromPodOne, choice: 0 }, tcp(podOne[4], port++, VIP, 80, TCP_SYN)).tuple.split(' -> ')[1]!,
      );
    } while (nextBranch(dp.ring));
    expect(seen).toEqual([`${podTwo[4]}:8080`, `${podThree[4]}:8080`]);
    // The list: the node of weight 0, podTwo, podThree.
    expect(mapEvents(dp)).toEqual([
      [EVENT_MAP, MAP_VIRTUAL_SERVERS, 0],
      [EVENT_CHOICE, 0, 2, 1],
      [EVENT_MAP, MAP_REAL_SERVERS, 2],
    ]);
    resetEventRing(dp.ring);
    sendOne(dp, fromPodOne, tcp(podOne[4], 40_000, VIP, 80, TCP_ACK));
    expect(mapEvents(dp)).toEqual([[EVENT_MAP, MAP_CONNECTIONS, 1]]);
  });

  it('an answer of a real server that has no connection goes on as it is', () => {
    const dp = buildIpvsDatapath({ servers: service(twoReals) });
    const stray = sendOne(dp, fromPodTwo, udp(podTwo[4], 8080, podOne[4], 40_000));
    expect([stray.verdict, stray.tuple]).toEqual(['delivered', `${podTwo[4]}:8080 -> ${podOne[4]}:40000`]);
  });
});

describe('the node and its virtual addresses', () => {
  it('answers itself for a port that no virtual server has, unless a rule refuses it (kubernetes#72236)', () => {
    const options = {
      servers: service(twoReals),
      sets: [{ type: SET_ADDRESS_PORT, family: 4, elements: [servedPort()] }],
    };
    const open = buildIpvsDatapath(options);
    const other = sendOne(open, fromPodOne, tcp(podOne[4], 40_000, VIP, 22, TCP_SYN));
    expect([other.verdict, other.node, other.target, other.tuple]).toEqual([
      'delivered',
      0,
      -1,
      `${podOne[4]}:40000 -> ${VIP}:22`,
    ]);
    // KUBE-IPVS-FILTER: served ports return, others of the addresses are rejected while they are new.
    const filter = ruleList(
      2,
      {
        INPUT: [
          accept(match(MATCH_SET, 2, 0)),
          reject(REJECT_PORT_UNREACHABLE, ctstate(CTSTATE_NEW), match(MATCH_SET, 0, 0)),
        ],
      },
      [{ hook: HOOK_INPUT, table: TABLE_FILTER, chain: 'INPUT' }],
    );
    const guarded = buildIpvsDatapath({ ...options, rules4: filter });
    const refused = sendOne(guarded, fromPodOne, tcp(podOne[4], 40_000, VIP, 22, TCP_SYN));
    expect([refused.verdict, refused.reason]).toEqual(['rejected', 'rule-reject']);
    expect(sendAnswers(guarded).map(({ tuple, target }) => [tuple, target])).toEqual([
      [`${VIP}:0 -> ${podOne[4]}:0`, podOne.index],
    ]);
    expect(sendOne(guarded, fromPodOne, tcp(podOne[4], 40_001, VIP, 80, TCP_SYN)).nat).toBe(NAT_DESTINATION);
  });

  function servedPort() {
    return { ...elementOf(VIP, 7), proto: PROTO_TCP, port: 80 };
  }

  it('tells the recorder which element of a set holds the frame', () => {
    const rules = ruleList(2, { INPUT: [accept(match(MATCH_SET, 2, 0)), drop(match(MATCH_SET, 3, 1))] }, [
      { hook: HOOK_INPUT, table: TABLE_FILTER, chain: 'INPUT' },
    ]);
    const bitmap = { ...servedPort(), id: 9, port: 4000 };
    const dp = buildIpvsDatapath({
      rules4: rules,
      bound: [VIP],
      sets: [
        { type: SET_ADDRESS_PORT, family: 4, elements: [servedPort()] },
        { type: SET_BITMAP_PORT, family: 0, elements: [bitmap] },
      ],
    });
    const events = (sport: number, dport: number) => {
      resetEventRing(dp.ring);
      dp.ring.on = true;
      const { reason } = sendOne(dp, fromPodOne, udp(podOne[4], sport, VIP, dport));
      return [reason, ...mapEvents(dp).filter(([, map]) => map! >= MAP_SETS)];
    };
    // The first set holds 80/TCP, so UDP is not in it; the second holds source port 4000 of any protocol.
    expect(events(4000, 80)).toEqual(['rule-drop', [EVENT_MAP, MAP_SETS + 2, -1], [EVENT_MAP, MAP_SETS + 3, 9]]);
    expect(events(4001, 80)).toEqual(['none', [EVENT_MAP, MAP_SETS + 2, -1], [EVENT_MAP, MAP_SETS + 3, -1]]);
    resetEventRing(dp.ring);
    sendOne(dp, fromPodOne, tcp(podOne[4], 4000, VIP, 80, TCP_SYN));
    expect(mapEvents(dp)[0]).toEqual([EVENT_MAP, MAP_SETS + 2, 7]);
  });

  it('holds the addresses for its own: local to addrtype, no source for anybody else, an answer to a ping', () => {
    const local = ruleList(2, { PRE: [drop(dstType(ADDRTYPE_LOCAL))] }, [
      { hook: HOOK_INPUT, table: TABLE_FILTER, chain: 'PRE' },
    ]);
    const dp = buildIpvsDatapath({ rules4: local, servers: service(twoReals) });
    expect(sendOne(dp, fromPodOne, tcp(podOne[4], 1, VIP, 80, TCP_SYN)).reason).toBe('rule-drop');
    const open = buildIpvsDatapath({ servers: service(twoReals) });
    expect(sendOne(open, { uplink: 0 }, udp(VIP, 9, podOne[4], 9)).reason).toBe('martian');
    const echo = frame(podOne[4], VIP, { protocol: 'icmp', type: 8, id: 1 }, new Uint8Array(8));
    expect(sendOne(open, fromPodOne, echo)).toMatchObject({ verdict: 'delivered', node: 0, target: -1 });
  });

  it('refuses for a virtual server without real servers, TCP with ICMP too', () => {
    for (const reals of [[], [{ address: podTwo[4], port: 8080, weight: 0 }]]) {
      const dp = buildIpvsDatapath({ servers: service(reals) });
      const refused = sendOne(dp, fromPodOne, tcp(podOne[4], 40_000, VIP, 80, TCP_SYN));
      expect([refused.verdict, refused.reason]).toEqual(['rejected', 'no-service-backend']);
      const [answer] = sendAnswers(dp);
      // Port unreachable, from the address that was spoken to.
      expect([answer!.tuple, answer!.target, answer!.wrong]).toEqual([`${VIP}:0 -> ${podOne[4]}:0`, podOne.index, 0]);
      expect([...answer!.bytes.subarray(34, 36)]).toEqual([3, 3]);
      expect(unaccounted(dp)).toBe(0);
    }
  });

  it('answers for a request whose time to live ran out, from the virtual address', () => {
    const dp = buildIpvsDatapath({ servers: service(twoReals) });
    const dying = tcp(podOne[4], 40_000, VIP, 80, TCP_SYN);
    const gone = sendOne(dp, fromPodOne, { ...dying, ip: { ...dying.ip, ttl: 1 } as typeof dying.ip });
    expect(gone.reason).toBe('ttl-exceeded');
    expect(sendAnswers(dp)[0]!.tuple).toBe(`${VIP}:0 -> ${podOne[4]}:0`);
  });

  it('does not call it DNAT in conntrack, in the first frame and in later ones', () => {
    const rules = ruleList(2, { OUT: [drop(ctstate(CTSTATE_DNAT))], FWD: [drop(ctstate(CTSTATE_DNAT))] }, [
      { hook: HOOK_OUTPUT, table: TABLE_FILTER, chain: 'OUT' },
      { hook: HOOK_FORWARD, table: TABLE_FILTER, chain: 'FWD' },
    ]);
    const dp = buildIpvsDatapath({ rules4: rules, servers: service([{ address: podThree[4], port: 8080 }]) });
    expect(sendOne(dp, fromPodOne, tcp(podOne[4], 40_000, VIP, 80, TCP_SYN)).verdict).toBe('delivered');
    const answer = tcp(podThree[4], 8080, podOne[4], 40_000, TCP_SYN | TCP_ACK);
    expect(sendOne(dp, { pod: podThree }, answer).verdict).toBe('delivered');
    expect(sendOne(dp, fromPodOne, tcp(podOne[4], 40_000, VIP, 80, TCP_ACK)).verdict).toBe('delivered');
  });

  it('serves what a node alone has: nodePorts on its address', () => {
    const dp = buildIpvsDatapath({
      servers: [{ address: nodeOne[4], port: 30_080, nodes: [0], reals: [{ address: podTwo[4], port: 8080 }] }],
      bound: [],
    });
    expect(sendOne(dp, { uplink: 0 }, tcp(client[4], 40_000, nodeOne[4], 30_080, TCP_SYN)).nat).toBe(NAT_DESTINATION);
    const other = sendOne(dp, { uplink: 1 }, tcp(client[4], 40_000, nodeTwo[4], 30_080, TCP_SYN));
    expect([other.verdict, other.target, other.nat]).toEqual(['delivered', -1, 0]);
  });
});

describe('local processes', () => {
  it('are balanced on their way out, before filter, and hear the virtual address answer', () => {
    const rules = ruleList(2, { OUT: [drop(dst(VIP))] }, [{ hook: HOOK_OUTPUT, table: TABLE_FILTER, chain: 'OUT' }]);
    const dp = buildIpvsDatapath({ rules4: rules, servers: service([{ address: podTwo[4], port: 8080 }]) });
    const there = sendOne(dp, { host: 0 }, tcp(nodeOne[4], 40_000, VIP, 80, TCP_SYN));
    expect([there.verdict, there.tuple]).toEqual(['delivered', `${nodeOne[4]}:40000 -> ${podTwo[4]}:8080`]);
    const back = sendOne(dp, fromPodTwo, tcp(podTwo[4], 8080, nodeOne[4], 40_000, TCP_SYN | TCP_ACK));
    expect([back.verdict, back.node, back.tuple]).toEqual(['delivered', 0, `${VIP}:80 -> ${nodeOne[4]}:40000`]);
  });

  it('may be the real server: the frame stays on the node, and its answer gets the virtual address on the way out', () => {
    const dp = buildIpvsDatapath({ servers: service([{ address: nodeOne[4], port: 6443 }]) });
    const there = sendOne(dp, fromPodOne, tcp(podOne[4], 40_000, VIP, 80, TCP_SYN));
    expect([there.verdict, there.node, there.target, there.tuple]).toEqual([
      'delivered',
      0,
      -1,
      `${podOne[4]}:40000 -> ${nodeOne[4]}:6443`,
    ]);
    const back = sendOne(dp, { host: 0 }, tcp(nodeOne[4], 6443, podOne[4], 40_000, TCP_SYN | TCP_ACK));
    expect([back.verdict, back.tuple]).toEqual(['delivered', `${VIP}:80 -> ${podOne[4]}:40000`]);
    // A client on the node itself: out by lo and in again.
    const own = sendOne(dp, { host: 0 }, tcp(nodeOne[4], 41_000, VIP, 80, TCP_SYN));
    expect([own.verdict, own.node, own.tuple]).toEqual(['delivered', 0, `${nodeOne[4]}:41000 -> ${nodeOne[4]}:6443`]);
  });

  it('do not get out with a loopback source', () => {
    const dp = buildIpvsDatapath({ servers: service([{ address: podTwo[4], port: 8080 }]) });
    expect(sendOne(dp, { host: 0 }, tcp('127.0.0.1', 40_000, VIP, 80, TCP_SYN)).reason).toBe('martian');
  });
});

describe('ICMP errors', () => {
  it('from the way to the real server come from the virtual address and quote it', () => {
    const dp = buildIpvsDatapath({
      rules4: masqueradeRules(dst(VIP)),
      servers: service([{ address: podTwo[4], port: 8080 }]),
    });
    const sent = sendOne(dp, { uplink: 0 }, udp(client[4], 40_000, VIP, 80));
    expect(sent.nat).toBe(0);
    const there = sendOne(dp, { uplink: 0 }, tcp(client[4], 40_000, VIP, 80, TCP_SYN));
    const error = frame(
      podTwo[4],
      nodeOne[4],
      { protocol: 'icmp', type: 3, code: 3 },
      there.bytes.subarray(14, 14 + 28),
    );
    const back = sendOne(dp, fromPodTwo, error);
    expect([back.verdict, back.tuple, back.wrong]).toEqual(['forwarded', `${VIP}:0 -> ${client[4]}:0`, 0]);
    // The quoted packet: client:40000 -> VIP:80.
    const quoted = back.bytes.subarray(14 + 20 + 8);
    expect([...quoted.subarray(12, 24)]).toEqual([203, 0, 113, 9, 10, 96, 0, 10, 40_000 >> 8, 40_000 & 255, 0, 80]);
  });

  it('from the client about an answer reach the real server', () => {
    const dp = buildIpvsDatapath({ servers: service([{ address: podTwo[4], port: 8080 }]) });
    sendOne(dp, fromPodOne, tcp(podOne[4], 40_000, VIP, 80, TCP_SYN));
    const answer = sendOne(dp, fromPodTwo, tcp(podTwo[4], 8080, podOne[4], 40_000, TCP_SYN | TCP_ACK));
    const error = frame(podOne[4], VIP, { protocol: 'icmp', type: 3, code: 4 }, answer.bytes.subarray(14, 14 + 28));
    const there = sendOne(dp, fromPodOne, error);
    expect([there.verdict, there.target, there.tuple, there.wrong]).toEqual([
      'delivered',
      podTwo.index,
      `${podOne[4]}:0 -> ${podTwo[4]}:0`,
      0,
    ]);
    const quoted = there.bytes.subarray(14 + 20 + 8);
    expect([...quoted.subarray(12, 24)]).toEqual([
      10,
      244,
      1,
      7,
      10,
      244,
      0,
      5,
      8080 >> 8,
      8080 & 255,
      40_000 >> 8,
      40_000 & 255,
    ]);
  });
});

// ---- connections through time ---------------------------------------------------------------------------------------

/** Client on podOne; answers of whichever real server took the connection. */
class Talk {
  readonly dp: Datapath;
  now = 0;

  constructor(options: IpvsOptions) {
    this.dp = buildIpvsDatapath(options);
  }

  send(sport: number, flags: number, more: Entry = {}) {
    return sendOne(this.dp, { ...fromPodOne, timeMs: this.now, ...more }, tcp(podOne[4], sport, VIP, 80, flags));
  }

  /** The real server's address that a SYN goes to. */
  connect(sport: number): string {
    const outcome = this.send(sport, TCP_SYN);
    return outcome.nat === 0 ? outcome.reason : outcome.tuple.split(' -> ')[1]!.split(':')[0]!;
  }

  answer(from: typeof podTwo | typeof podThree, sport: number, flags: number) {
    return sendOne(this.dp, { pod: from, timeMs: this.now }, tcp(from[4], 8080, podOne[4], sport, flags));
  }

  open(sport: number): string {
    const real = this.connect(sport);
    this.answer(real === podTwo[4] ? podTwo : podThree, sport, TCP_SYN | TCP_ACK);
    this.send(sport, TCP_ACK);
    return real;
  }

  get connections(): number {
    return connCount(this.dp.ipvsState!.connections, 0);
  }
}

const bySource = { scheduler: SCHED_SH };

describe('removal (kubernetes#57841, #99162, #84322)', () => {
  it('weight 0: connections go on, new ones go elsewhere', () => {
    const talk = new Talk({ servers: service(twoReals) });
    const first = talk.open(40_000);
    expect(first).toBe(podTwo[4]);
    setIpvs(talk.dp, { servers: service([twoReals[0]!, { ...twoReals[1]!, weight: 0 }]) });
    expect(talk.send(40_000, TCP_ACK).tuple).toContain(`-> ${podTwo[4]}:8080`);
    expect([1, 2, 3].map((i) => talk.connect(40_000 + i))).toEqual([podThree[4], podThree[4], podThree[4]]);
    expect(talk.send(40_000, TCP_ACK).tuple).toContain(`-> ${podTwo[4]}:8080`);
  });

  it('removed: the next packet ends the connection with expire_nodest_conn, and the one behind it is scheduled', () => {
    const talk = new Talk({ servers: service(twoReals) });
    expect(talk.open(40_000)).toBe(podTwo[4]);
    setIpvs(talk.dp, { servers: service([twoReals[0]!]) });
    expect(talk.send(40_000, TCP_ACK).reason).toBe('real-server-gone');
    expect([talk.connections, ctFlows(talk.dp.conntrack4, 0)]).toEqual([0, 1]);
    expect(talk.connect(40_000)).toBe(podThree[4]);
  });

  it('removed, without expire_nodest_conn: packets are dropped until the connection ends by itself', () => {
    const options = IPVS_KUBE_PROXY_OPTIONS & ~IPVS_EXPIRE_NODEST;
    const talk = new Talk({ servers: service(twoReals), options });
    talk.open(40_000);
    setIpvs(talk.dp, { servers: service([twoReals[0]!]), options });
    for (const now of [0, 600_000, 899_999]) {
      talk.now = now;
      expect(talk.send(40_000, TCP_ACK).reason).toBe('real-server-gone');
    }
    talk.now = 900_000;
    expect(talk.connect(40_000)).toBe(podThree[4]);
  });

  it('UDP is not pinned to a server that is gone: one packet is lost, the next one finds another (kubernetes#84322)', () => {
    const servers = (reals: readonly RealServer[]) => [{ address: VIP, port: 53, proto: PROTO_UDP, reals }];
    const dp = buildIpvsDatapath({ servers: servers(twoReals) });
    const ask = (timeMs: number) => sendOne(dp, { ...fromPodOne, timeMs }, udp(podOne[4], 40_000, VIP, 53));
    expect(ask(0).tuple).toContain(podTwo[4]);
    setIpvs(dp, { servers: servers([twoReals[0]!]) });
    expect(ask(1000).reason).toBe('real-server-gone');
    expect(ask(1001).tuple).toContain(podThree[4]);
  });

  it('a new image that changes nothing for a connection leaves it alone', () => {
    const talk = new Talk({ servers: service(twoReals) });
    talk.open(40_000);
    setIpvs(talk.dp, { servers: service([...twoReals, { address: nodeTwo[4], port: 8080 }]) });
    expect(talk.send(40_000, TCP_ACK).tuple).toContain(`-> ${podTwo[4]}:8080`);
    setIpvs(talk.dp, { servers: [], bound: [VIP] });
    expect(talk.send(40_000, TCP_ACK).reason).toBe('real-server-gone');
  });
});

describe('reuse of a port (kubernetes#81775, kube-router#544)', () => {
  /** Opens and closes: FIN from both ends; the connection is in TIME_WAIT, conntrack too. */
  function closed(options: IpvsOptions): Talk {
    const talk = new Talk(options);
    expect(talk.open(40_000)).toBe(podTwo[4]);
    talk.send(40_000, TCP_FIN | TCP_ACK);
    talk.answer(podTwo, 40_000, TCP_FIN | TCP_ACK);
    talk.send(40_000, TCP_ACK);
    talk.now = 1000;
    return talk;
  }

  it('conn_reuse_mode 1: a SYN in TIME_WAIT is scheduled anew, and not dropped where conntrack reopens the entry', () => {
    const talk = closed({ servers: service(twoReals) });
    expect(talk.connect(40_000)).toBe(podThree[4]);
    expect(talk.connections).toBe(1);
  });

  it('conn_reuse_mode 0 (kube-proxy before Linux 5.9): it goes where the old one went, a server of weight 0 too', () => {
    const options = IPVS_KUBE_PROXY_OPTIONS & ~1;
    const talk = closed({ servers: service(twoReals), options });
    setIpvs(talk.dp, { servers: service([twoReals[0]!, { ...twoReals[1]!, weight: 0 }]), options });
    expect(talk.connect(40_000)).toBe(podTwo[4]);
  });

  it('conn_reuse_mode 1: a SYN on a connection to a server of weight 0 is scheduled anew', () => {
    const talk = closed({ servers: service(twoReals) });
    setIpvs(talk.dp, { servers: service([twoReals[0]!, { ...twoReals[1]!, weight: 0 }]) });
    expect(talk.connect(40_000)).toBe(podThree[4]);
  });

  it('where conntrack keeps its entry the SYN is lost, and its repetition a second later is scheduled', () => {
    const talk = new Talk({ servers: service(twoReals) });
    expect(talk.open(40_000)).toBe(podTwo[4]);
    setIpvs(talk.dp, { servers: service([twoReals[0]!, { ...twoReals[1]!, weight: 0 }]) });
    expect(talk.connect(40_000)).toBe('connection-replaced');
    expect(ctFlows(talk.dp.conntrack4, 0)).toBe(1);
    talk.now = 1000;
    expect(talk.connect(40_000)).toBe(podThree[4]);
  });
});

describe('time', () => {
  it("an idle connection ends after 900 s and takes its conntrack entry along; what comes then is the node's", () => {
    const talk = new Talk({ servers: service([{ address: podTwo[4], port: 8080 }]) });
    talk.open(40_000);
    talk.now = 899_999;
    expect(talk.send(40_000, TCP_ACK).target).toBe(podTwo.index);
    talk.now += 900_000;
    const late = talk.send(40_000, TCP_ACK);
    expect([late.verdict, late.node, late.target, late.tuple]).toEqual([
      'delivered',
      0,
      -1,
      `${podOne[4]}:40000 -> ${VIP}:80`,
    ]);
    expect(talk.connections).toBe(0);
  });

  it('sloppy_tcp lets any segment but RST begin a connection', () => {
    const talk = new Talk({
      servers: service([{ address: podTwo[4], port: 8080 }]),
      options: IPVS_KUBE_PROXY_OPTIONS | IPVS_SLOPPY_TCP,
    });
    expect(talk.send(40_000, TCP_ACK).target).toBe(podTwo.index);
    expect(talk.send(40_001, TCP_RST).target).toBe(-1);
  });

  it('UDP: the connection outlives its conntrack entry and gives the next one the same real server', () => {
    const dp = buildIpvsDatapath({ servers: [{ address: VIP, port: 53, proto: PROTO_UDP, reals: twoReals }] });
    const ask = (timeMs: number, sport: number) =>
      sendOne(dp, { ...fromPodOne, timeMs }, udp(podOne[4], sport, VIP, 53)).tuple.split(' -> ')[1];
    expect(ask(0, 40_000)).toBe(`${podTwo[4]}:8080`);
    expect(ask(0, 40_001)).toBe(`${podThree[4]}:8080`);
    expect(ask(299_000, 40_000)).toBe(`${podTwo[4]}:8080`);
    // 300 s after its last packet it is gone and the cursor goes on.
    expect(ask(598_999, 40_000)).toBe(`${podTwo[4]}:8080`);
    expect(ask(898_999, 40_000)).toBe(`${podTwo[4]}:8080`);
    expect(ask(1_198_999, 40_000)).toBe(`${podThree[4]}:8080`);
  });

  it('a full connection table refuses the next connection', () => {
    const talk = new Talk({ servers: service(twoReals), flows: 2 });
    expect([talk.connect(1), talk.connect(2), talk.connect(3)].at(-1)).toBe('conntrack-full');
    expect(unaccounted(talk.dp)).toBe(0);
  });

  it('a direct connection from the same port shares the way back: its answers get the virtual address (kubernetes#90042)', () => {
    const talk = new Talk({ servers: service([{ address: podTwo[4], port: 8080 }]) });
    const direct = () => sendOne(talk.dp, fromPodOne, tcp(podOne[4], 40_000, podTwo[4], 8080, TCP_SYN));
    expect(direct().tuple).toBe(`${podOne[4]}:40000 -> ${podTwo[4]}:8080`);
    const virtual = talk.send(40_000, TCP_SYN);
    // Conntrack gives the second one another source port, so that replies differ.
    expect(virtual.nat & NAT_SOURCE).toBe(NAT_SOURCE);
    expect(virtual.tuple).not.toContain(':40000 ->');
    const answer = talk.answer(podTwo, 40_000, TCP_SYN | TCP_ACK);
    expect(answer.tuple).toBe(`${VIP}:80 -> ${podOne[4]}:40000`);
  });
});

describe('persistence', () => {
  const persistent = { flags: VS_PERSISTENT, timeoutMs: 10_800_000, scheduler: SCHED_RR };

  it('a client stays with its real server, whatever its port, until no connection came for the timeout', () => {
    const talk = new Talk({ servers: service(twoReals, persistent) });
    expect([1, 2, 3, 4].map((sport) => talk.connect(sport))).toEqual(new Array(4).fill(podTwo[4]));
    const other = sendOne(talk.dp, { pod: podThree }, tcp(podThree[4], 9, VIP, 80, TCP_SYN));
    expect(other.tuple).toContain(`-> ${podThree[4]}:8080`);
    talk.now = 10_799_999;
    expect(talk.connect(5)).toBe(podTwo[4]);
    talk.now += 10_800_000;
    // The timer came up, nothing stands under it: scheduled, and the cursor stands behind podThree.
    expect(talk.connect(6)).toBe(podTwo[4]);
    talk.now += 10_800_000;
    expect(talk.connect(7)).toBe(podThree[4]);
  });

  it('a netmask keeps neighbours together', () => {
    const talk = new Talk({ servers: service(twoReals, { ...persistent, netmask: 24 }) });
    const first = talk.connect(1);
    const neighbour = sendOne(talk.dp, { pod: podThree }, tcp(podThree[4], 9, VIP, 80, TCP_SYN));
    expect(neighbour.tuple).toContain(`-> ${first}:8080`);
  });

  it('does not end while a connection stands, and lasts a minute at a time from then on', () => {
    const talk = new Talk({ servers: service(twoReals, { ...persistent, timeoutMs: 5000 }) });
    expect(talk.open(1)).toBe(podTwo[4]);
    // The timer came up at 5 s and is wound up for a minute while the connection stands (900 s).
    talk.now = 120_000;
    expect(talk.connect(2)).toBe(podTwo[4]);
    expect(talk.connect(3)).toBe(podTwo[4]);
    // Connection 1 ends at 900 s; 2 and 3, never answered, ended at 180 s. The timer comes up at 180 s and every minute.
    talk.now = 900_001;
    expect(talk.connect(4)).toBe(podThree[4]);
  });

  it('leaves a server of weight 0 with expire_quiescent_template, else stays', () => {
    const drained = service([twoReals[0]!, { ...twoReals[1]!, weight: 0 }], persistent);
    for (const [options, want] of [
      [IPVS_KUBE_PROXY_OPTIONS, podThree[4]],
      [IPVS_KUBE_PROXY_OPTIONS & ~IPVS_EXPIRE_QUIESCENT, podTwo[4]],
    ] as const) {
      const talk = new Talk({ servers: service(twoReals, persistent), options });
      expect(talk.connect(1)).toBe(podTwo[4]);
      setIpvs(talk.dp, { servers: drained, options });
      expect(talk.connect(2)).toBe(want);
    }
  });
});

describe('marks and any port', () => {
  it('a service by mark takes any address that the rules mark; by address with port 0 any port of a persistent one', () => {
    const dp = buildIpvsDatapath({
      rules4: ruleList(2, { PRE: [setMark(5, dst('10.96.0.20'))] }, [
        { hook: HOOK_PREROUTING, table: TABLE_NAT, chain: 'PRE' },
      ]),
      servers: [
        { address: '10.96.0.20', port: 0, mark: 5, reals: [{ address: podTwo[4], port: 0 }] },
        { address: VIP, port: 0, flags: VS_PERSISTENT, timeoutMs: 60_000, reals: [{ address: podTwo[4], port: 0 }] },
      ],
    });
    const marked = sendOne(dp, fromPodOne, tcp(podOne[4], 1, '10.96.0.20', 4711, TCP_SYN));
    expect(marked.tuple).toBe(`${podOne[4]}:1 -> ${podTwo[4]}:4711`);
    const any = sendOne(dp, fromPodOne, tcp(podOne[4], 2, VIP, 4712, TCP_SYN));
    expect(any.tuple).toBe(`${podOne[4]}:2 -> ${podTwo[4]}:4712`);
  });

  it("a connection from FTP's data port is not scheduled", () => {
    const talk = new Talk({ servers: service(twoReals, bySource) });
    expect(talk.send(20, TCP_SYN).target).toBe(-1);
  });
});
