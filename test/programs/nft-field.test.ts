import { describe, expect, it } from 'vitest';
import { hashFlow } from '../../engine/src/programs/flow-lookup.ts';
import {
  DEVICE_WORDS,
  type Interfaces,
  ROUTE_WORDS,
  RTN_BROADCAST,
  RTN_LOCAL,
  RTN_UNICAST,
} from '../../engine/src/programs/interface.ts';
import { runBurst } from '../../engine/src/programs/journey.ts';
import { trackPacket } from '../../engine/src/programs/netfilter-conntrack.ts';
import { FLOW_IN, FLOW_IN_DEVICE, FLOW_OUT, FLOW_OUT_DEVICE } from '../../engine/src/programs/netfilter-scratch.ts';
import { loadField } from '../../engine/src/programs/nft-field.ts';
import { OWNER_BIT_NONE, OWNER_BIT_POD } from '../../engine/src/programs/owner.ts';
import { createLpm4, lpm4Insert } from '../../engine/src/tables/lpm4.ts';
import { createLpm6, lpm6Insert } from '../../engine/src/tables/lpm6.ts';
import {
  FIB_TYPE_BROADCAST,
  FIB_TYPE_LOCAL,
  FIB_TYPE_MULTICAST,
  FIB_TYPE_UNICAST,
  SELECT_CT_DIRECTION,
  SELECT_CT_L3PROTO,
  SELECT_CT_L4PROTO,
  SELECT_CT_MARK,
  SELECT_CT_ORIGINAL_DADDR4,
  SELECT_CT_ORIGINAL_DADDR6,
  SELECT_CT_ORIGINAL_DPORT,
  SELECT_CT_ORIGINAL_SADDR4,
  SELECT_CT_ORIGINAL_SADDR6,
  SELECT_CT_ORIGINAL_SPORT,
  SELECT_CT_REPLY_DADDR4,
  SELECT_CT_REPLY_DADDR6,
  SELECT_CT_REPLY_DPORT,
  SELECT_CT_REPLY_SADDR4,
  SELECT_CT_REPLY_SADDR6,
  SELECT_CT_REPLY_SPORT,
  SELECT_CT_STATUS,
  SELECT_DADDR_OWNER,
  SELECT_FIB_DADDR_IIF_TYPE,
  SELECT_FIB_DADDR_OIF,
  SELECT_FIB_DADDR_TYPE,
  SELECT_FIB_SADDR_IIF_OIF,
  SELECT_FIB_SADDR_IIF_TYPE,
  SELECT_FIB_SADDR_OIF,
  SELECT_FIB_SADDR_TYPE,
  SELECT_IIF,
  SELECT_IIF_CLASS,
  SELECT_OIF,
  SELECT_OIF_CLASS,
  SELECT_PKTTYPE,
  SELECT_SADDR_OWNER,
} from '../../engine/src/tables/nft-rules.ts';
import { IFACE_LOOPBACK, IFACE_POD, IFACE_UPLINK } from '../../engine/src/tables/rule-list.ts';
import { buildFrame, type FrameFields } from '../../engine/src/wire/build.ts';
import { type Burst, createBurst, ENTRY_POD, frameOffset } from '../../engine/src/wire/burst.ts';
import { parseFrame } from '../../engine/src/wire/parse.ts';
import { client, nodeOne, podOne, podTwo, svcOne, words } from './addresses.ts';
import { udp } from './fixture.ts';
import { addressWords, buildNftDatapath, daddr, dnat } from './nft-fixture.ts';

const LO = 0;
const ETH0 = 1;
const CNI0 = 2;

/** Node one: eth0 to everywhere, cni0 to its pods, 10.244.0.255 the broadcast address there. */
function interfaces(): Interfaces {
  const routes4 = createLpm4(16);
  const routes6 = createLpm6(16);
  const rows: number[] = [];
  const route = (address: string, bits: number, type: number, device: number) => {
    const [w0, w1, w2, w3] = words(address);
    const row = rows.length / ROUTE_WORDS;
    if (address.includes(':')) lpm6Insert(routes6, w0, w1, w2, w3, bits, row);
    else lpm4Insert(routes4, w0, bits, row);
    rows.push(type, device, 0, 0, 0, 0);
  };
  route('0.0.0.0', 0, RTN_UNICAST, ETH0);
  route('127.0.0.0', 8, RTN_LOCAL, LO);
  route(nodeOne[4], 32, RTN_LOCAL, ETH0);
  route('10.244.0.0', 24, RTN_UNICAST, CNI0);
  route('10.244.0.1', 32, RTN_LOCAL, CNI0);
  route('10.244.0.255', 32, RTN_BROADCAST, CNI0);
  route(podOne[6], 128, RTN_UNICAST, CNI0);
  return {
    node: 0,
    routes4,
    routes6,
    rows: Int32Array.from(rows),
    devices: new Int32Array(3 * DEVICE_WORDS),
    loopback: LO,
  };
}

type World = ReturnType<typeof buildNftDatapath>;

function frameOf(fields: FrameFields): Burst {
  const b = createBurst(1);
  const bytes = buildFrame(fields);
  b.bytes.set(bytes, frameOffset(b, 0));
  b.len[0] = bytes.length;
  expect(parseFrame(b, 0)).toBe(0);
  b.ct[0] = -1;
  return b;
}

/** Finds the frame's flow on the first node, as its PREROUTING does. */
function onFirstNode(dp: World, b: Burst): void {
  hashFlow(b, 0);
  expect(trackPacket(dp, b, 0)).toBe(0);
}

/** The words that a selector reads, null for a field that the packet does not have. */
function read(dp: World, b: Burst, selector: number, count = 1): number | number[] | null {
  const registers = new Int32Array(8);
  if (!loadField(dp, b, 0, selector, registers, 2)) return null;
  return count === 1 ? registers[2]! : [...registers.subarray(2, 2 + count)];
}

describe('fib and interface fields', () => {
  const numbered = (): World => {
    const dp = buildNftDatapath();
    return { ...dp, topology: { ...dp.topology, interfaces: interfaces() } };
  };
  const at = (dp: World, incoming: number, outgoing: number) => {
    const { flow } = dp.ports.scratch;
    flow[FLOW_IN_DEVICE] = incoming;
    flow[FLOW_OUT_DEVICE] = outgoing;
    flow[FLOW_IN] = incoming === LO ? IFACE_LOOPBACK : IFACE_UPLINK;
    flow[FLOW_OUT] = IFACE_POD;
  };

  it('number interfaces from 1 on, 0 for none', () => {
    const dp = numbered();
    const b = frameOf(udp(client[4], 1, podOne[4], 2));
    at(dp, ETH0, -1);
    expect([SELECT_IIF, SELECT_OIF].map((selector) => read(dp, b, selector))).toEqual([ETH0 + 1, 0]);
    expect(read(buildNftDatapath(), b, SELECT_IIF)).toBe(0);
    b.node[0] = 1;
    expect(read(dp, b, SELECT_IIF)).toBe(0);
    expect([SELECT_IIF_CLASS, SELECT_OIF_CLASS].map((selector) => read(dp, b, selector))).toEqual([
      IFACE_UPLINK,
      IFACE_POD,
    ]);
  });

  it('tell the type of an address, and on one interface', () => {
    const dp = numbered();
    const typesOf = (to: string, incoming: number) => {
      at(dp, incoming, -1);
      const b = frameOf(udp(client[4], 1, to, 2));
      return [read(dp, b, SELECT_FIB_DADDR_TYPE), read(dp, b, SELECT_FIB_DADDR_IIF_TYPE)];
    };
    expect(typesOf(nodeOne[4], ETH0)).toEqual([FIB_TYPE_LOCAL, FIB_TYPE_LOCAL]);
    expect(typesOf(nodeOne[4], CNI0)).toEqual([FIB_TYPE_LOCAL, FIB_TYPE_UNICAST]);
    expect(typesOf('127.0.0.1', LO)).toEqual([FIB_TYPE_LOCAL, FIB_TYPE_LOCAL]);
    expect(typesOf(podTwo[4], ETH0)).toEqual([FIB_TYPE_UNICAST, FIB_TYPE_UNICAST]);
    expect(typesOf('224.0.0.9', ETH0)[0]).toBe(FIB_TYPE_MULTICAST);
    expect(typesOf('10.244.0.255', CNI0)).toEqual([FIB_TYPE_BROADCAST, FIB_TYPE_BROADCAST]);
    at(dp, ETH0, -1);
    const own = frameOf(udp(nodeOne[4], 1, podOne[4], 2));
    expect(read(dp, own, SELECT_FIB_SADDR_TYPE)).toBe(FIB_TYPE_LOCAL);
    expect(read(dp, own, SELECT_FIB_SADDR_IIF_TYPE)).toBe(FIB_TYPE_LOCAL);
  });

  it('find the way back', () => {
    const dp = numbered();
    const back = (from: string, incoming: number) => {
      at(dp, incoming, -1);
      const b = frameOf(udp(from, 1, from.includes(':') ? podTwo[6] : podTwo[4], 2));
      return [read(dp, b, SELECT_FIB_SADDR_OIF), read(dp, b, SELECT_FIB_SADDR_IIF_OIF)];
    };
    expect(back(client[4], ETH0)).toEqual([ETH0 + 1, ETH0 + 1]);
    expect(back(podOne[4], CNI0)).toEqual([CNI0 + 1, CNI0 + 1]);
    expect(back(podOne[4], ETH0)).toEqual([CNI0 + 1, 0]);
    // An address of the node itself has no way out, but what came by lo leads back to lo.
    expect(back(nodeOne[4], ETH0)).toEqual([0, 0]);
    expect(back(nodeOne[4], LO)).toEqual([LO + 1, LO + 1]);
    expect(back(podOne[6], CNI0)).toEqual([CNI0 + 1, CNI0 + 1]);
    expect(back(client[6], ETH0)).toEqual([0, 0]);
    expect(read(dp, frameOf(udp(client[4], 1, podOne[4], 2)), SELECT_FIB_DADDR_OIF)).toBe(CNI0 + 1);
    expect(read(dp, frameOf(udp(client[4], 1, nodeOne[4], 2)), SELECT_FIB_DADDR_OIF)).toBe(0);
  });

  it('know classes alone where interfaces have no numbers', () => {
    const dp = buildNftDatapath();
    dp.ports.scratch.flow[FLOW_IN] = IFACE_POD;
    const b = frameOf(udp(podOne[4], 1, podTwo[4], 2));
    expect(read(dp, b, SELECT_FIB_SADDR_IIF_OIF)).toBe(IFACE_POD);
    expect(read(dp, b, SELECT_FIB_DADDR_OIF)).toBe(IFACE_UPLINK);
    const own = frameOf(udp(nodeOne[4], 1, podTwo[4], 2));
    expect(read(dp, own, SELECT_FIB_SADDR_OIF)).toBe(0);
    expect(read(dp, own, SELECT_FIB_SADDR_TYPE)).toBe(FIB_TYPE_LOCAL);
    dp.ports.scratch.flow[FLOW_IN] = IFACE_LOOPBACK;
    expect(read(dp, own, SELECT_FIB_SADDR_OIF)).toBe(IFACE_LOOPBACK);
  });
});

describe('fields of the packet', () => {
  const dp = buildNftDatapath();

  it('know whom the link layer sent it to', () => {
    const b = frameOf(udp(podOne[4], 1, podTwo[4], 2));
    const at = frameOffset(b, 0);
    expect(read(dp, b, SELECT_PKTTYPE)).toBe(0);
    b.bytes.fill(0xff, at, at + 6);
    expect(read(dp, b, SELECT_PKTTYPE)).toBe(1);
    b.bytes[at + 5] = 1;
    expect(read(dp, b, SELECT_PKTTYPE)).toBe(2);
  });

  it('know what owns an address', () => {
    const b = frameOf(udp(podOne[4], 1, client[4], 2));
    expect(read(dp, b, SELECT_SADDR_OWNER)).toBe(OWNER_BIT_POD);
    expect(read(dp, b, SELECT_DADDR_OWNER)).toBe(OWNER_BIT_NONE);
  });
});

describe('fields of the flow', () => {
  it('are missing without one', () => {
    const b = frameOf(udp(podOne[4], 1, podTwo[4], 2));
    const dp = buildNftDatapath();
    for (const selector of [
      SELECT_CT_STATUS,
      SELECT_CT_DIRECTION,
      SELECT_CT_MARK,
      SELECT_CT_L3PROTO,
      SELECT_CT_L4PROTO,
      SELECT_CT_ORIGINAL_SADDR4,
      SELECT_CT_REPLY_DPORT,
    ]) {
      expect(read(dp, b, selector)).toBe(null);
    }
  });

  for (const family of [4, 6] as const) {
    it(`tell both tuples, as a first packet and as a reply, IPv${family}`, () => {
      const spec = {
        chains: { pre: [[...daddr(svcOne[family]), ...dnat(podTwo[family], 8080)]] },
        bases: [{ chain: 'pre', hook: 0, nat: true, priority: -100 }],
      };
      const dp = buildNftDatapath(family === 4 ? spec : undefined, family === 6 ? spec : undefined);
      const four = family === 4;
      const tuple = (b: Burst) => ({
        original: [
          read(dp, b, four ? SELECT_CT_ORIGINAL_SADDR4 : SELECT_CT_ORIGINAL_SADDR6, four ? 1 : 4),
          read(dp, b, four ? SELECT_CT_ORIGINAL_DADDR4 : SELECT_CT_ORIGINAL_DADDR6, four ? 1 : 4),
          read(dp, b, SELECT_CT_ORIGINAL_SPORT),
          read(dp, b, SELECT_CT_ORIGINAL_DPORT),
        ],
        reply: [
          read(dp, b, four ? SELECT_CT_REPLY_SADDR4 : SELECT_CT_REPLY_SADDR6, four ? 1 : 4),
          read(dp, b, four ? SELECT_CT_REPLY_DADDR4 : SELECT_CT_REPLY_DADDR6, four ? 1 : 4),
          read(dp, b, SELECT_CT_REPLY_SPORT),
          read(dp, b, SELECT_CT_REPLY_DPORT),
        ],
        // Of the other family there is nothing to read.
        other: read(dp, b, four ? SELECT_CT_REPLY_SADDR6 : SELECT_CT_REPLY_SADDR4),
        proto: read(dp, b, SELECT_CT_L4PROTO),
        l3proto: read(dp, b, SELECT_CT_L3PROTO),
      });
      const flat = (address: string) => (four ? addressWords(address)[0]! : addressWords(address));
      const expected = {
        original: [flat(podOne[family]), flat(svcOne[family]), 5000, 53],
        reply: [flat(podTwo[family]), flat(podOne[family]), 8080, 5000],
        other: null,
        proto: 17,
        l3proto: four ? 2 : 10,
      };
      const b = frameOf(udp(podOne[family], 5000, svcOne[family], 53));
      b.entry[0] = ENTRY_POD;
      b.endpoint[0] = podOne.index;
      runBurst(dp, b, 1);
      // Behind its node the lanes are those of the second one, where the flow began translated.
      expect(b.node[0]).toBe(1);
      expect(read(dp, b, SELECT_CT_ORIGINAL_DPORT)).toBe(8080);
      const again = frameOf(udp(podOne[family], 5000, svcOne[family], 53));
      onFirstNode(dp, again);
      expect(tuple(again)).toEqual(expected);
      expect(read(dp, again, SELECT_CT_DIRECTION)).toBe(0);
      // Destination translated, nothing seen of a reply on this node yet, in the table.
      expect(read(dp, again, SELECT_CT_STATUS)).toBe(32 | 8);
      const reply = frameOf(udp(podTwo[family], 8080, podOne[family], 5000));
      onFirstNode(dp, reply);
      expect(tuple(reply)).toEqual(expected);
      expect(read(dp, reply, SELECT_CT_DIRECTION)).toBe(1);
      expect(read(dp, reply, SELECT_CT_STATUS)).toBe(32 | 8 | 2);
    });
  }
});
