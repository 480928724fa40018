/** Incidents of conntrack's INVALID: segments outside their window, wrong checksums. FACTS §2, §5. */
import { describe, expect, it } from 'vitest';
import { BUILT_MODES, type Mode } from '../../control/src/model/datapath.ts';
import { buildFrame } from '../../engine/src/wire/build.ts';
import {
  ACK,
  back,
  client,
  type Exit,
  FAMILIES,
  FIN,
  Lab,
  type PodName,
  SYN,
  type TcpParts,
  tcp,
  udp,
  vip,
  webService,
} from './lab.ts';

/** A connection of `client` to Service 0, opened. */
class Connection {
  readonly lab: Lab;
  readonly service: string;
  readonly server: PodName;
  private readonly from: string;
  private readonly open: Exit;

  constructor(mode: Mode, family: 4 | 6, server: PodName, tcpBeLiberal: boolean) {
    this.lab = new Lab(mode, [webService(0, [server])], { kubeProxy: { tcpBeLiberal } });
    this.service = vip(0)[family];
    this.from = client[family];
    this.server = server;
    this.open = this.lab.send('client', tcp(this.from, 40_000, this.service, 80, SYN));
    this.reply(SYN | ACK, { seq: 5000, ack: 1001 });
    this.send(ACK, { seq: 1001, ack: 5001 });
  }

  send(flags: number, parts: TcpParts): Exit {
    return this.lab.send('client', tcp(this.from, 40_000, this.service, 80, flags, parts), 10);
  }

  reply(flags: number, parts: TcpParts): Exit {
    const { from, sport, to, dport } = back(this.open);
    return this.lab.send(this.server, tcp(from, sport, to, dport, flags, parts), 10);
  }
}

/** A megabyte behind what anybody has sent, and before what anybody may send. */
const FAR = 1_000_000;

describe.each(BUILT_MODES)('%s', (mode) => {
  describe.each(FAMILIES)('IPv%i', (family) => {
    describe.each(['web-a', 'web-b'] as const)('to %s', (server) => {
      it('k/k#74839, #117924, PRs #74840, #120412, #122663: an answer outside its window never comes untranslated by kube-proxy’s rules', () => {
        const talk = new Connection(mode, family, server, false);
        const good = talk.reply(ACK, { seq: 5001, ack: 1001, bytes: 100 });
        expect([good.end, good.src]).toEqual(['delivered client', talk.service]);
        const far = talk.reply(ACK, { seq: 5101 + FAR, ack: 1001, bytes: 100 });
        switch (mode) {
          case 'iptables':
            expect(far.end).toBe('dropped rule-drop');
            break;
          case 'nftables':
            // It writes no such rule (FACTS §1.4): the client sees a stranger, and resets.
            expect([far.end, far.src]).toEqual(['delivered client', good.src === far.src ? '' : far.src]);
            break;
          default:
            // IPVS knows the connection by its own table, Cilium has no windows.
            if (far.end !== 'dropped rule-drop') expect([far.end, far.src]).toEqual(['delivered client', talk.service]);
        }
        // The connection goes on.
        expect(talk.reply(ACK, { seq: 5101, ack: 1001, bytes: 10 })).toMatchObject({
          end: 'delivered client',
          src: talk.service,
        });
      });

      it('k/k#120412: with tcp_be_liberal it is translated like any other, in every mode', () => {
        const talk = new Connection(mode, family, server, true);
        const far = talk.reply(ACK, { seq: 5001 + FAR, ack: 1001, bytes: 100 });
        expect([far.end, far.src, far.sport, far.wrong]).toEqual(['delivered client', talk.service, 80, 0]);
        const wild = talk.send(ACK, { seq: 1001, ack: 5001 + 2 * FAR, bytes: 100 });
        expect([wild.end, wild.wrong]).toEqual([`delivered ${server}`, 0]);
      });

      it('k/k#74839: a late FIN of a closed window is not taken for the end of the connection', () => {
        const talk = new Connection(mode, family, server, false);
        talk.reply(FIN | ACK, { seq: 5001 + FAR, ack: 1001 });
        const data = talk.send(ACK, { seq: 1001, ack: 5001, bytes: 100 });
        expect(data.end).toBe(`delivered ${server}`);
        expect(talk.reply(ACK, { seq: 5001, ack: 1101, bytes: 100 })).toMatchObject({
          end: 'delivered client',
          src: talk.service,
        });
      });
    });

    it('nf_conntrack_checksum: a wrong transport checksum belongs to no flow, where the kernel looks', () => {
      const lab = new Lab(mode, [webService(0, ['web-b'], 'UDP')]);
      const wrong = buildFrame(udp(client[family], 5000, vip(0)[family], 80));
      wrong[wrong.length - 1]! ^= 0x55;
      const exit = lab.send('client', wrong);
      // IPVS and Cilium's maps do not ask: the checksum comes out as wrong as it went in.
      if (mode === 'ebpf' || mode === 'ipvs') expect([exit.end, exit.wrong]).toEqual(['delivered web-b', 2]);
      else expect(exit.end).not.toBe('delivered web-b');
      const right = lab.send('client', udp(client[family], 5000, vip(0)[family], 80));
      expect([right.end, right.wrong]).toEqual(['delivered web-b', 0]);
    });
  });
});
