/**
 * Policies and connections: replies, ICMP errors and fragments of what is allowed, and connections that live while policies
 * change, in every mode and profile.
 */

import { describe, expect, it } from 'vitest';
import { BUILT_MODES, type Mode } from '../../control/src/model/datapath.ts';
import { buildFrame, type FrameFields, type IcmpFields } from '../../engine/src/wire/build.ts';
import { ACK, packet, SYN, tcp, udp } from '../incidents/lab.ts';
import { split } from '../programs/split.ts';
import type { Profile } from './oracle.ts';
import { addressOf, type Exit, type Family, PolicyLab, policy, SERVICE } from './policy-lab.ts';
import type { KubeObject } from './random-cluster.ts';

const DENIED = 'dropped policy-denied';
const FAMILIES = [4, 6] as const;

const from = (app: string) => [{ podSelector: { matchLabels: { app } } }];
/** Nobody but these two, one way: the client may ask, the web may not. */
const ONE_WAY: readonly KubeObject[] = [
  policy('web', {
    policyTypes: ['Ingress', 'Egress'],
    ingress: [
      {
        from: from('client'),
        ports: [{ port: 8080 }, { protocol: 'UDP', port: 8080 }, { protocol: 'SCTP', port: 8080 }],
      },
    ],
  }),
  policy('client', { policyTypes: ['Ingress', 'Egress'], egress: [{ to: from('web') }] }),
];
const CLOSED: readonly KubeObject[] = [policy('web', { policyTypes: ['Ingress', 'Egress'] })];

/** The answer to what a pod got. */
function answer(exit: Exit, flags: number | null): FrameFields {
  return flags === null
    ? udp(exit.dst, exit.dport, exit.src, exit.sport, 20)
    : tcp(exit.dst, exit.dport, exit.src, exit.sport, flags, { seq: 5000, ack: 1001 });
}

/** SYN, SYN-ACK, ACK from the client to the Service; answers the client's next segment. */
function establish(lab: PolicyLab, family: Family): { next: FrameFields; reached: Exit } {
  const client = addressOf('client', family);
  const reached = lab.send('client', tcp(client, 40_000, SERVICE[family], 80, SYN), 0);
  expect(reached.end).toBe('delivered web');
  const back = lab.send('web', answer(reached, SYN | ACK), 1);
  expect([back.end, back.src, back.sport]).toEqual(['delivered client', SERVICE[family], 80]);
  const next = tcp(client, 40_000, SERVICE[family], 80, ACK, { seq: 1001, ack: 5001 });
  expect(lab.send('client', next, 2).end).toBe('delivered web');
  return { next, reached };
}

/** Packets of a connection that a policy allowed, after it no longer does: they pass. */
function keeps(mode: Mode, profile: Profile): boolean {
  if (profile === 'calico') return true;
  return profile === 'kubernetes' && mode !== 'ebpf';
}

const icmp = (family: Family, type: number, code: number, rest: Partial<IcmpFields> = {}): IcmpFields => ({
  protocol: family === 4 ? 'icmp' : 'icmpv6',
  type,
  code,
  id: 7,
  sequence: 1,
  ...rest,
});

describe.each(BUILT_MODES)('%s', (mode) => {
  describe.each(FAMILIES)('IPv%i', (family) => {
    const client = addressOf('client', family);
    const web = addressOf('web', family);

    it('lets replies through, and nothing that the other side begins', () => {
      const lab = new PolicyLab(mode, 'kubernetes', ONE_WAY);
      establish(lab, family);
      expect(lab.send('web', tcp(web, 50_000, client, 8080, SYN)).end).toBe(DENIED);
      expect(lab.send('near', tcp(addressOf('near', family), 40_000, SERVICE[family], 80, SYN)).end).toBe(DENIED);
      // Through the Service, and past it.
      for (const [to, port] of [[SERVICE[family], 80] as const, [web, 8080] as const]) {
        const asked = lab.send('client', udp(client, 41_000, to, port));
        expect(asked.end).toBe('delivered web');
        expect(lab.send('web', answer(asked, null), 1)).toMatchObject({
          end: 'delivered client',
          src: to,
          sport: port,
        });
      }
      expect(lab.send('web', udp(web, 51_000, client, 8080)).end).toBe(DENIED);
    });

    it('knows SCTP by its port and ICMP by rules without ports', () => {
      const lab = new PolicyLab(mode, 'kubernetes', ONE_WAY);
      const init = (port: number): FrameFields =>
        packet(client, web, {
          protocol: 'sctp',
          sport: 6000,
          dport: port,
          chunks: [{ type: 1, value: new Uint8Array(16) }],
        });
      expect(lab.send('client', init(8080)).end).toBe('delivered web');
      expect(lab.send('client', init(8081)).end).toBe(DENIED);
      const echo = packet(client, web, icmp(family, family === 4 ? 8 : 128, 0));
      expect(lab.send('client', echo).end).toBe(DENIED);
      const open = new PolicyLab(mode, 'kubernetes', [policy('web', { ingress: [{ from: from('client') }] })]);
      expect(open.send('client', echo).end).toBe('delivered web');
      const reply = packet(web, client, icmp(family, family === 4 ? 0 : 129, 0));
      expect(open.send('web', reply).end).toBe('delivered client');
      expect(
        open.send('near', packet(addressOf('near', family), web, icmp(family, family === 4 ? 8 : 128, 0))).end,
      ).toBe(DENIED);
    });

    it('lets ICMP errors about an allowed connection through', () => {
      const lab = new PolicyLab(mode, 'kubernetes', ONE_WAY);
      const asked = lab.send('client', udp(client, 42_000, SERVICE[family], 80, 40));
      expect(asked.end).toBe('delivered web');
      const about = asked.bytes.slice(14, 14 + 1200);
      const unreachable = family === 4 ? ([3, 3] as const) : ([1, 4] as const);
      const error = packet(web, client, icmp(family, unreachable[0], unreachable[1], { id: 0, sequence: 0 }), about);
      expect(lab.send('web', error, 1).end).toBe('delivered client');
    });

    it('judges all fragments of a datagram as one', () => {
      const pieces = (port: number, id: number): Uint8Array[] =>
        split(buildFrame(udp(client, 43_000, web, port, 2000)), [1200], id);
      const lab = new PolicyLab(mode, 'kubernetes', ONE_WAY);
      const run = (frames: Uint8Array[]): string[] => {
        const ends = frames.map((frame) => lab.send('client', frame).end);
        return [...ends, ...lab.takeFragments().map(({ end }) => end)].filter((end) => end !== 'held');
      };
      expect(run(pieces(8080, 1))).toEqual(['delivered web', 'delivered web']);
      const denied = run(pieces(8081, 2));
      expect(denied).toContain(DENIED);
      expect(denied.filter((end) => end.startsWith('delivered'))).toEqual([]);
    });

    it.each(['kubernetes', 'cilium', 'calico'] as const)(
      'a connection while its policy changes, profile %s',
      (profile) => {
        const lab = new PolicyLab(mode, profile, []);
        const { next, reached } = establish(lab, family);
        lab.change(CLOSED);
        expect(lab.send('client', next, 3).end).toBe(keeps(mode, profile) ? 'delivered web' : DENIED);
        // What was allowed once may be answered.
        expect(lab.send('web', answer(reached, ACK), 4).end).toBe('delivered client');
        expect(lab.send('client', tcp(client, 40_001, SERVICE[family], 80, SYN), 5).end).toBe(DENIED);
        lab.change([]);
        expect(lab.send('client', next, 6).end).toBe('delivered web');
        expect(lab.send('client', tcp(client, 40_001, SERVICE[family], 80, SYN), 1000).end).toBe('delivered web');
      },
    );

    it('forgets a connection that was denied: the next packet is judged again', () => {
      const lab = new PolicyLab(mode, 'kubernetes', CLOSED);
      for (const atMs of [0, 1000]) {
        expect(lab.send('client', udp(client, 44_000, SERVICE[family], 80), atMs).end).toBe(DENIED);
        expect(lab.send('client', tcp(client, 44_000, SERVICE[family], 80, SYN), atMs).end).toBe(DENIED);
      }
      lab.change(ONE_WAY);
      expect(lab.send('client', udp(client, 44_000, SERVICE[family], 80), 2000).end).toBe('delivered web');
      expect(lab.send('client', tcp(client, 44_000, SERVICE[family], 80, SYN), 2000).end).toBe('delivered web');
    });
  });
});
