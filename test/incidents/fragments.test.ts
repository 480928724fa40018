/** Incidents of fragments: order, eviction, odd sizes, echo. FACTS §2. */
import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { countOf } from '../../engine/src/programs/count.ts';
import { VERDICT_DROPPED } from '../../engine/src/programs/verdict.ts';
import { buildFrame } from '../../engine/src/wire/build.ts';
import { REASON_FRAGMENT_FIRST_MISSING } from '../../engine/src/wire/reason.ts';
import { join, split } from '../programs/split.ts';
import {
  client,
  type Exit,
  FAMILIES,
  type Family,
  Lab,
  nodeOne,
  outside,
  packet,
  udp,
  vip,
  webB,
  webService,
} from './lab.ts';

const query = (family: Family, bytes: number): Uint8Array =>
  buildFrame(udp(client[family], 5000, vip(0)[family], 80, bytes));

/** All that came out, in order. */
function sendPieces(
  lab: Lab,
  from: Parameters<Lab['send']>[0],
  pieces: readonly Uint8Array[],
  atMs = 0,
): { exits: Exit[]; out: Exit[] } {
  const exits: Exit[] = [];
  const out: Exit[] = [];
  for (const piece of pieces) {
    const exit = lab.send(from, piece, atMs);
    exits.push(exit);
    if (/^(delivered|forwarded)/.test(exit.end)) out.push(exit);
    out.push(...lab.takeFragments());
  }
  return { exits, out };
}

describe.each(BUILT_MODES)('%s', (mode) => {
  const isKernel = mode !== 'ebpf';

  describe.each(FAMILIES)('IPv%i', (family) => {
    it('cilium#25709, #13349: a later fragment that comes first waits in the kernel, and is a counted drop in a map', () => {
      const lab = new Lab(mode, [webService(0, ['web-b'], 'UDP')]);
      const [first, second, third] = split(query(family, 3000), [1480, 2000], 77);
      const { exits, out } = sendPieces(lab, 'client', [third!, first!, second!]);
      if (isKernel) {
        expect(exits.map(({ end }) => end)).toEqual(['held', 'held', 'delivered web-b']);
        expect(out.length).toBe(3);
        const whole = lab.send('client', query(family, 3000));
        expect(join(out.map(({ bytes }) => bytes)).slice(34)).toEqual(whole.bytes.slice(34));
      } else {
        expect(exits.map(({ end }) => end)).toEqual([
          'dropped fragment-first-missing',
          'delivered web-b',
          'delivered web-b',
        ]);
        expect(lab.dp.counters[countOf(VERDICT_DROPPED, REASON_FRAGMENT_FIRST_MISSING)]).toBe(1);
      }
      expect(lab.unaccounted()).toBe(0);
    });

    it('cilium#43781: 8,192 newer datagrams push a first fragment out of the map; the kernel has no such limit', () => {
      const lab = new Lab(mode, [webService(0, ['web-b'], 'UDP')]);
      const [first, second] = split(query(family, 100), [64], 1);
      expect(lab.send('client', first!).end).toBe(isKernel ? 'held' : 'delivered web-b');
      const newer = isKernel ? 200 : 8192;
      for (let id = 2; id <= newer + 1; id++) lab.send('client', split(query(family, 40), [40], id)[0]!);
      const late = lab.send('client', second!);
      expect(late.end).toBe(isKernel ? 'delivered web-b' : 'dropped fragment-first-missing');
      if (isKernel) return;
      const again = new Lab(mode, [webService(0, ['web-b'], 'UDP')]);
      again.send('client', first!);
      for (let id = 2; id <= 8192; id++) again.send('client', split(query(family, 40), [40], id)[0]!);
      expect(again.send('client', second!).end).toBe('delivered web-b');
    });

    it('cilium#32427: a datagram whose last fragment has one to three bytes comes whole', () => {
      for (const bytes of [1473, 1474, 1475]) {
        const lab = new Lab(mode, [webService(0, ['web-b'], 'UDP')]);
        const from = buildFrame(udp(outside[family], 5000, nodeOne[family], 30_080, bytes));
        const { out } = sendPieces(lab, 'uplink-1', split(from, [1480], bytes));
        expect(out.map(({ end, src }) => `${end} ${src}`)).toEqual([
          `delivered web-b ${nodeOne[family]}`,
          `delivered web-b ${nodeOne[family]}`,
        ]);
        const joined = lab.send('uplink-1', join(split(from, [1480], bytes)));
        expect(join(out.map((exit) => exit.bytes)).slice(34)).toEqual(joined.bytes.slice(34));
      }
    });

    it('cilium#45339: an echo larger than the MTU reaches the other pod, and its answer comes back', () => {
      const lab = new Lab(mode, [webService(0, ['web-b'], 'UDP')]);
      const echo = (from: string, to: string, isReply: boolean) => {
        const type = family === 4 ? (isReply ? 0 : 8) : isReply ? 129 : 128;
        const l4 = { protocol: family === 4 ? 'icmp' : 'icmpv6', type, id: 77, sequence: 1 } as const;
        return buildFrame(packet(from, to, l4, new Uint8Array(3000).fill(7)));
      };
      const there = sendPieces(lab, 'client', split(echo(client[family], webB[family], false), [1480, 2960], 5));
      expect(there.out.map(({ end, src }) => `${end} ${src}`)).toEqual(
        Array(3).fill(`delivered web-b ${client[family]}`),
      );
      const answer = sendPieces(lab, 'web-b', split(echo(webB[family], client[family], true), [1480, 2960], 6));
      expect(answer.out.map(({ end, src }) => `${end} ${src}`)).toEqual(
        Array(3).fill(`delivered client ${webB[family]}`),
      );
    });
  });
});
