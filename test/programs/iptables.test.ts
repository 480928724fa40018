import { describe, expect, it } from 'vitest';
import { COUNT_NEW_FLOWS, COUNT_RULES } from '../../engine/src/programs/count.ts';
import { NAT_DESTINATION, NAT_REVERSE, NAT_SOURCE } from '../../engine/src/programs/verdict.ts';
import { nextBranch, resetEventRing } from '../../engine/src/tables/event-ring.ts';
import { client, nodeOne, nodeTwo, podOne, podThree, podTwo, svcOne } from './addresses.ts';
import { buildDatapath, frame, type Outcome, send, sendAnswers, sendOne, tcp, udp, unaccounted } from './fixture.ts';
import { kubeRules } from './kube-rules.ts';

const SYN = 0x02;
const ACK = 0x10;
const SYNACK = 0x12;
const RST = 0x04;

const kube = () => buildDatapath({ rules4: kubeRules(4), rules6: kubeRules(6) });
/** Forces the choice points: script[i] for the i-th. */
function force(dp: ReturnType<typeof buildDatapath>, ...script: number[]): void {
  resetEventRing(dp.ring);
  dp.ring.script.fill(0);
  dp.ring.script.set(script);
}
const ends = (outcome: Outcome) => `${outcome.verdict} ${outcome.reason}`;

for (const family of [4, 6] as const) {
  const at = (address: string, port: number) => (family === 4 ? `${address}:${port}` : `[${address}]:${port}`);
  describe(`IPv${family}: a ClusterIP`, () => {
    it('is translated on the way to a pod of another node and on the way back', () => {
      const dp = kube();
      force(dp, 0);
      const there = sendOne(dp, { pod: podOne, choice: 0 }, tcp(podOne[family], 40000, svcOne[family], 80, SYN));
      expect(ends(there)).toBe('delivered none');
      expect(there.target).toBe(podTwo.index);
      expect(there.tuple).toBe(`${at(podOne[family], 40000)} -> ${at(podTwo[family], 8080)}`);
      expect(there.nat).toBe(NAT_DESTINATION);
      expect(there.wrong).toBe(0);
      const back = sendOne(dp, { pod: podTwo }, tcp(podTwo[family], 8080, podOne[family], 40000, SYNACK));
      expect(ends(back)).toBe('delivered none');
      expect(back.target).toBe(podOne.index);
      expect(back.tuple).toBe(`${at(svcOne[family], 80)} -> ${at(podOne[family], 40000)}`);
      expect(back.nat).toBe(NAT_REVERSE);
      expect(back.wrong).toBe(0);
      expect(dp.counters[COUNT_NEW_FLOWS]).toBe(1);
    });

    it('keeps its backend for the whole flow, whatever a new choice would be', () => {
      const dp = kube();
      force(dp, 1);
      const first = sendOne(dp, { pod: podOne, choice: 0 }, tcp(podOne[family], 40000, svcOne[family], 80, SYN));
      expect(first.target).toBe(podThree.index);
      force(dp, 0);
      sendOne(dp, { pod: podThree }, tcp(podThree[family], 8080, podOne[family], 40000, SYNACK));
      const rules = dp.counters[COUNT_RULES]!;
      const next = sendOne(dp, { pod: podOne, choice: 0 }, tcp(podOne[family], 40000, svcOne[family], 80, ACK, 'data'));
      expect(next.target).toBe(podThree.index);
      expect(next.wrong).toBe(0);
      // Only the filter rules: nat rules are for the first packet of a flow.
      expect(dp.counters[COUNT_RULES]! - rules).toBeLessThan(6);
    });

    it('is found in every branch by running again', () => {
      const dp = kube();
      const targets: number[] = [];
      dp.ring.script.fill(0);
      do {
        resetEventRing(dp.ring);
        const run = buildDatapath({ rules4: kubeRules(4), rules6: kubeRules(6) });
        run.ring.script.set(dp.ring.script);
        targets.push(sendOne(run, { pod: podOne, choice: 0 }, udp(podOne[family], 5000, svcOne[family], 53)).target);
        dp.ring.points = run.ring.points;
        dp.ring.options.set(run.ring.options);
      } while (nextBranch(dp.ring));
      expect(targets).toEqual([podTwo.index, podThree.index]);
    });

    it('masquerades a pod that is its own backend', () => {
      const dp = kube();
      force(dp, 0);
      const there = sendOne(dp, { pod: podTwo, choice: 0 }, tcp(podTwo[family], 40000, svcOne[family], 80, SYN));
      expect(there.target).toBe(podTwo.index);
      expect(there.nat).toBe(NAT_DESTINATION | NAT_SOURCE);
      expect(there.tuple.startsWith(family === 4 ? `${nodeTwo[4]}:` : `[${nodeTwo[6]}]:`)).toBe(true);
      expect(there.wrong).toBe(0);
      const port = Number(there.tuple.split(' ')[0]!.split(':').pop());
      const back = sendOne(dp, { pod: podTwo }, tcp(podTwo[family], 8080, nodeTwo[family], port, SYNACK));
      expect(back.tuple).toBe(`${at(svcOne[family], 80)} -> ${at(podTwo[family], 40000)}`);
      expect(back.target).toBe(podTwo.index);
      expect(back.wrong).toBe(0);
    });

    it('rejects a port without endpoints, and the answer reaches the sender', () => {
      const dp = kube();
      const there = sendOne(dp, { pod: podOne }, tcp(podOne[family], 40000, svcOne[family], 81, SYN));
      expect(ends(there)).toBe('rejected rule-reject');
      expect(dp.answerCount).toBe(1);
      const [answer] = sendAnswers(dp);
      expect(ends(answer!)).toBe('delivered none');
      expect(answer!.target).toBe(podOne.index);
      expect(answer!.wrong).toBe(0);
      expect(answer!.tuple).toBe(`${at(nodeOne[family], 0)} -> ${at(podOne[family], 0)}`);
      expect(unaccounted(dp)).toBe(0);
    });
  });

  describe(`IPv${family}: a nodePort`, () => {
    it('masquerades an outside client, and the reply finds its way back over both nodes', () => {
      const dp = kube();
      force(dp, 0);
      const there = sendOne(dp, { uplink: 0, choice: 0 }, tcp(client[family], 50000, nodeOne[family], 30080, SYN));
      expect(ends(there)).toBe('delivered none');
      expect(there.target).toBe(podTwo.index);
      expect(there.nat).toBe(NAT_DESTINATION | NAT_SOURCE);
      expect(there.wrong).toBe(0);
      const port = Number(there.tuple.split(' ')[0]!.split(':').pop());
      expect(port).toBeGreaterThanOrEqual(1024);
      const back = sendOne(dp, { pod: podTwo }, tcp(podTwo[family], 8080, nodeOne[family], port, SYNACK));
      expect(ends(back)).toBe('forwarded none');
      expect(back.node).toBe(0);
      expect(back.tuple).toBe(`${at(nodeOne[family], 30080)} -> ${at(client[family], 50000)}`);
      expect(back.wrong).toBe(0);
      expect(unaccounted(dp)).toBe(0);
    });

    it('rejects in INPUT when nobody serves it, from the address that the client spoke to', () => {
      const dp = kube();
      const there = sendOne(dp, { uplink: 1 }, tcp(client[family], 50000, nodeTwo[family], 30081, SYN));
      expect(ends(there)).toBe('rejected rule-reject');
      const [answer] = sendAnswers(dp);
      expect(ends(answer!)).toBe('forwarded none');
      expect(answer!.tuple).toBe(`${at(nodeTwo[family], 0)} -> ${at(client[family], 0)}`);
    });

    it('reaches the node itself where no rule takes the port', () => {
      const dp = kube();
      const there = sendOne(dp, { uplink: 1 }, tcp(client[family], 50000, nodeTwo[family], 22, SYN));
      expect(ends(there)).toBe('delivered none');
      expect(there.target).toBe(-1);
    });
  });

  describe(`IPv${family}: a process of the node`, () => {
    it('reaches a Service masqueraded', () => {
      const dp = kube();
      force(dp, 0);
      const there = sendOne(dp, { host: 0, choice: 0 }, tcp(nodeOne[family], 40000, svcOne[family], 80, SYN));
      expect(there.target).toBe(podTwo.index);
      expect(there.nat).toBe(NAT_DESTINATION | NAT_SOURCE);
      const port = Number(there.tuple.split(' ')[0]!.split(':').pop());
      const back = sendOne(dp, { pod: podTwo }, tcp(podTwo[family], 8080, nodeOne[family], port, SYNACK));
      expect(ends(back)).toBe('delivered none');
      expect(back.target).toBe(-1);
      expect(back.tuple).toBe(`${at(svcOne[family], 80)} -> ${at(nodeOne[family], 40000)}`);
      expect(back.wrong).toBe(0);
    });

    it('reaches itself over lo, both ways', () => {
      const dp = kube();
      const there = sendOne(dp, { host: 0 }, tcp(nodeOne[family], 40000, nodeOne[family], 9000, SYN));
      expect(ends(there)).toBe('delivered none');
      const back = sendOne(dp, { host: 0 }, tcp(nodeOne[family], 9000, nodeOne[family], 40000, SYNACK));
      expect(ends(back)).toBe('delivered none');
      // A reset before any answer removes the entry; the frame itself still arrives.
      const other = sendOne(dp, { host: 0 }, tcp(nodeOne[family], 40001, nodeOne[family], 9000, SYN));
      expect(ends(other)).toBe('delivered none');
      const reset = sendOne(dp, { host: 0 }, tcp(nodeOne[family], 40001, nodeOne[family], 9000, RST));
      expect(ends(reset)).toBe('delivered none');
      const after = sendOne(dp, { host: 0 }, tcp(nodeOne[family], 40001, nodeOne[family], 9000, RST));
      expect(after.ctState).toBe(5);
    });
  });

  describe(`IPv${family}: an ICMP error`, () => {
    it('comes back translated with the packet that it quotes', () => {
      const dp = kube();
      force(dp, 0);
      sendOne(dp, { uplink: 0, choice: 0 }, udp(client[family], 50000, svcOne[family], 53));
      const dpAfter = sendOne(dp, { uplink: 0, choice: 0 }, udp(client[family], 50000, svcOne[family], 53));
      const quoted = dpAfter.bytes.subarray(14);
      const error =
        family === 4
          ? frame(podTwo[4], nodeOne[4], { protocol: 'icmp', type: 3, code: 3 }, quoted)
          : frame(podTwo[6], nodeOne[6], { protocol: 'icmpv6', type: 1, code: 4 }, quoted);
      const back = sendOne(dp, { pod: podTwo }, error);
      expect(ends(back)).toBe('forwarded none');
      expect(back.ctState).toBe(4);
      expect(back.tuple).toBe(`${at(svcOne[family], 0)} -> ${at(client[family], 0)}`);
      expect(back.nat & NAT_REVERSE).toBe(NAT_REVERSE);
      expect(back.wrong).toBe(0);
      // The quoted packet is the one that the client sent: to the Service, from its own port.
      const inner = back.bytes.subarray(14 + (family === 4 ? 20 : 40) + 8);
      const view = new DataView(inner.buffer, inner.byteOffset);
      const ports = family === 4 ? 20 : 40;
      expect(view.getUint16(ports)).toBe(50000);
      expect(view.getUint16(ports + 2)).toBe(53);
    });

    it('about a flow that nobody knows is INVALID and dropped when forwarded', () => {
      const dp = kube();
      const quoted = sendOne(kube(), { pod: podOne }, udp(podOne[family], 5000, podTwo[family], 53)).bytes.subarray(14);
      const error =
        family === 4
          ? frame(podTwo[4], podOne[4], { protocol: 'icmp', type: 3, code: 3 }, quoted)
          : frame(podTwo[6], podOne[6], { protocol: 'icmpv6', type: 1, code: 4 }, quoted);
      expect(ends(sendOne(dp, { pod: podTwo }, error))).toBe('dropped rule-drop');
    });

    it('answers a frame whose TTL ran out, in the words of its sender', () => {
      const dp = kube();
      force(dp, 0);
      const syn = tcp(podOne[family], 40000, svcOne[family], 80, SYN);
      const ip = syn.ip.family === 4 ? { ...syn.ip, ttl: 1 } : { ...syn.ip, hopLimit: 1 };
      const there = sendOne(dp, { pod: podOne, choice: 0 }, { ...syn, ip });
      expect(ends(there)).toBe('dropped ttl-exceeded');
      const [answer] = sendAnswers(dp);
      expect(ends(answer!)).toBe('delivered none');
      expect(answer!.target).toBe(podOne.index);
      expect(answer!.wrong).toBe(0);
      const inner = answer!.bytes.subarray(14 + (family === 4 ? 20 : 40) + 8);
      const view = new DataView(inner.buffer, inner.byteOffset);
      expect(view.getUint16((family === 4 ? 20 : 40) + 2)).toBe(80);
      expect(answer!.tuple).toBe(`${at(svcOne[family], 0)} -> ${at(podOne[family], 0)}`);
    });
  });

  describe(`IPv${family}: an echo`, () => {
    const echo = (from: string, to: string, type: number, id: number) =>
      frame(from, to, { protocol: family === 4 ? 'icmp' : 'icmpv6', type, id, sequence: 1 }, new Uint8Array(8));
    const request = family === 4 ? 8 : 128;
    const reply = family === 4 ? 0 : 129;

    it('passes both ways, also when both sides ask with one identifier', () => {
      const dp = kube();
      expect(sendOne(dp, { pod: podOne }, echo(podOne[family], podTwo[family], request, 9)).ctState).toBe(1);
      expect(sendOne(dp, { pod: podTwo }, echo(podTwo[family], podOne[family], request, 9)).ctState).toBe(1);
      expect(sendOne(dp, { pod: podTwo }, echo(podTwo[family], podOne[family], reply, 9)).ctState).toBe(3);
      expect(sendOne(dp, { pod: podOne }, echo(podOne[family], podTwo[family], reply, 9)).ctState).toBe(3);
    });

    it('reply without a request is INVALID', () => {
      const dp = kube();
      const out = sendOne(dp, { pod: podOne }, echo(podOne[family], podTwo[family], reply, 9));
      expect(ends(out)).toBe('dropped rule-drop');
      expect(out.ctState).toBe(5);
    });
  });
}

describe('conservation', () => {
  it('counts every frame of a burst once', () => {
    const dp = kube();
    const out = send(
      dp,
      { pod: podOne },
      tcp(podOne[4], 1, svcOne[4], 80, SYN),
      tcp(podOne[4], 2, svcOne[4], 81, SYN),
      tcp(podOne[4], 3, client[4], 443, SYN),
      new Uint8Array([1, 2, 3]),
    );
    expect(out.map((o) => o.verdict)).toEqual(['delivered', 'rejected', 'forwarded', 'dropped']);
    expect(unaccounted(dp)).toBe(0);
  });
});
