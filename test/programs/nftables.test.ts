import { describe, expect, it } from 'vitest';
import { COUNT_LOOKUPS, COUNT_NEW_FLOWS, COUNT_RULES } from '../../engine/src/programs/count.ts';
import type { Datapath } from '../../engine/src/programs/datapath.ts';
import { ELEMENT_ADDED } from '../../engine/src/programs/nftables-image.ts';
import {
  EVENT_BASE_CHAIN,
  EVENT_CHOICE,
  EVENT_CONNTRACK,
  EVENT_MAP,
  EVENT_NAT,
  EVENT_POLICY,
  EVENT_RULE,
} from '../../engine/src/programs/record.ts';
import { NAT_DESTINATION, NAT_REVERSE, NAT_SOURCE } from '../../engine/src/programs/verdict.ts';
import { nextBranch, resetEventRing } from '../../engine/src/tables/event-ring.ts';
import { HOOK_FORWARD, HOOK_INPUT, HOOK_POSTROUTING, HOOK_PREROUTING } from '../../engine/src/tables/rule-list.ts';
import { attachDatapath, takeImage, takeState } from '../../engine/src/worker/transfer.ts';
import { client, nodeOne, nodeTwo, podOne, podThree, podTwo, svcOne } from './addresses.ts';
import { type Outcome, send, sendAnswers, sendOne, tcp, udp, unaccounted } from './fixture.ts';
import { addressWords, buildNftDatapath, drop, jump } from './nft-fixture.ts';
import { kubeProxy, loadBalancer, unallocated } from './nft-kube-proxy.ts';

const SYN = 0x02;
const ACK = 0x10;
const SYNACK = 0x12;

const FOUR = kubeProxy(4);
const SIX = kubeProxy(6);
const kube = () => buildNftDatapath(FOUR, SIX);

function force(dp: Datapath, ...script: number[]): void {
  resetEventRing(dp.ring);
  dp.ring.script.fill(0);
  dp.ring.script.set(script);
}
const ends = (outcome: Outcome) => `${outcome.verdict} ${outcome.reason}`;
const portOf = (outcome: Outcome) => Number(outcome.tuple.split(' ')[0]!.split(':').pop());

for (const family of [4, 6] as const) {
  const at = (address: string, port: number) => (family === 4 ? `${address}:${port}` : `[${address}]:${port}`);

  describe(`IPv${family}: a ClusterIP in the nftables mode`, () => {
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
      expect(back.tuple).toBe(`${at(svcOne[family], 80)} -> ${at(podOne[family], 40000)}`);
      expect(back.nat).toBe(NAT_REVERSE);
      expect(back.wrong).toBe(0);
      expect(dp.counters[COUNT_NEW_FLOWS]).toBe(1);
      expect(unaccounted(dp)).toBe(0);
    });

    it('keeps its backend, and later packets meet no nat chain', () => {
      const dp = kube();
      force(dp, 1);
      sendOne(dp, { pod: podOne, choice: 0 }, tcp(podOne[family], 40000, svcOne[family], 80, SYN));
      force(dp, 0);
      sendOne(dp, { pod: podThree }, tcp(podThree[family], 8080, podOne[family], 40000, SYNACK));
      const rules = dp.counters[COUNT_RULES]!;
      const next = sendOne(dp, { pod: podOne, choice: 0 }, tcp(podOne[family], 40000, svcOne[family], 80, ACK, 'data'));
      expect(next.target).toBe(podThree.index);
      expect(next.wrong).toBe(0);
      // filter-prerouting has one rule, filter-forward two; none of them jumps.
      expect(dp.counters[COUNT_RULES]! - rules).toBe(3);
    });

    it('is found in every branch by running again', () => {
      const targets: number[] = [];
      const dp = kube();
      do {
        resetEventRing(dp.ring);
        const run = kube();
        run.ring.script.set(dp.ring.script);
        targets.push(sendOne(run, { pod: podOne, choice: 0 }, udp(podOne[family], 5000, svcOne[family], 53)).target);
        dp.ring.points = run.ring.points;
        dp.ring.options.set(run.ring.options);
      } while (nextBranch(dp.ring));
      expect(targets).toEqual([podTwo.index, podThree.index]);
    });

    it('is shared out evenly by the flows’ hashes', () => {
      const dp = buildNftDatapath(FOUR, SIX, { flows: 8192 });
      let two = 0;
      for (let i = 0; i < 2000; i++) {
        const entry = { pod: podOne, flowHash: Math.imul(i, 0x9e3779b1) };
        if (sendOne(dp, entry, udp(podOne[family], 1024 + i, svcOne[family], 53)).target === podTwo.index) two++;
      }
      // Six standard deviations of a fair coin.
      expect(Math.abs(two - 1000)).toBeLessThan(135);
    });

    it('masquerades a pod that is its own backend', () => {
      const dp = kube();
      force(dp, 0);
      const there = sendOne(dp, { pod: podTwo, choice: 0 }, tcp(podTwo[family], 40000, svcOne[family], 80, SYN));
      expect(there.target).toBe(podTwo.index);
      expect(there.nat).toBe(NAT_DESTINATION | NAT_SOURCE);
      expect(there.tuple.startsWith(family === 4 ? `${nodeTwo[4]}:` : `[${nodeTwo[6]}]:`)).toBe(true);
      const back = sendOne(dp, { pod: podTwo }, tcp(podTwo[family], 8080, nodeTwo[family], portOf(there), SYNACK));
      expect(back.tuple).toBe(`${at(svcOne[family], 80)} -> ${at(podTwo[family], 40000)}`);
      expect(back.wrong).toBe(0);
    });

    it('rejects a port without endpoints and a port that it does not serve, and drops its unallocated neighbours', () => {
      const dp = kube();
      for (const port of [81, 82]) {
        const there = sendOne(dp, { pod: podOne }, tcp(podOne[family], 40000 + port, svcOne[family], port, SYN));
        expect(ends(there)).toBe('rejected rule-reject');
        const [answer] = sendAnswers(dp);
        expect(ends(answer!)).toBe('delivered none');
        expect(answer!.target).toBe(podOne.index);
        expect(answer!.wrong).toBe(0);
      }
      const lost = sendOne(dp, { pod: podOne }, tcp(podOne[family], 41000, unallocated[family], 80, SYN));
      expect(ends(lost)).toBe('dropped rule-drop');
      expect(dp.counters[COUNT_NEW_FLOWS]).toBe(0);
      expect(unaccounted(dp)).toBe(0);
    });

    it('serves the node itself, whose unserved ports are judged behind the translation', () => {
      const dp = kube();
      force(dp, 0);
      const there = sendOne(dp, { host: 0, choice: 0 }, tcp(nodeOne[family], 40000, svcOne[family], 80, SYN));
      expect(ends(there)).toBe('delivered none');
      expect(there.target).toBe(podTwo.index);
      // The node is not in the pods' range.
      expect(there.nat).toBe(NAT_DESTINATION | NAT_SOURCE);
      const unserved = sendOne(dp, { host: 0 }, tcp(nodeOne[family], 40001, svcOne[family], 82, SYN));
      expect(ends(unserved)).toBe('rejected rule-reject');
      sendAnswers(dp);
      expect(unaccounted(dp)).toBe(0);
    });

    it('turns the answer about a translated packet around', () => {
      const dp = kube();
      force(dp, 0);
      sendOne(dp, { pod: podOne, choice: 0 }, udp(podOne[family], 5000, svcOne[family], 53));
      // The backend's port is closed: its ICMP error comes back through the translation of the flow.
      const quoted = sendOne(dp, { pod: podOne, choice: 0 }, udp(podOne[family], 5000, svcOne[family], 53));
      const error = {
        ip: { family, src: wordsOf(podTwo[family]), dst: wordsOf(podOne[family]) },
        l4:
          family === 4
            ? ({ protocol: 'icmp', type: 3, code: 3 } as const)
            : ({ protocol: 'icmpv6', type: 1, code: 4 } as const),
        payload: quoted.bytes.slice(14),
      };
      const back = sendOne(dp, { pod: podTwo }, error);
      expect(ends(back)).toBe('delivered none');
      expect(back.target).toBe(podOne.index);
      expect(back.tuple).toBe(`${at(svcOne[family], 0)} -> ${at(podOne[family], 0)}`);
      expect(back.wrong).toBe(0);
    });
  });

  describe(`IPv${family}: from outside in the nftables mode`, () => {
    it('masquerades at a nodePort, and the reply finds its way back over both nodes', () => {
      const dp = kube();
      force(dp, 0);
      const there = sendOne(dp, { uplink: 0, choice: 0 }, tcp(client[family], 50000, nodeOne[family], 30080, SYN));
      expect(ends(there)).toBe('delivered none');
      expect(there.target).toBe(podTwo.index);
      expect(there.nat).toBe(NAT_DESTINATION | NAT_SOURCE);
      const back = sendOne(dp, { pod: podTwo }, tcp(podTwo[family], 8080, nodeOne[family], portOf(there), SYNACK));
      expect(ends(back)).toBe('forwarded none');
      expect(back.tuple).toBe(`${at(nodeOne[family], 30080)} -> ${at(client[family], 50000)}`);
      expect(back.wrong).toBe(0);
      expect(unaccounted(dp)).toBe(0);
    });

    it('drops at a nodePort without local endpoints and leaves other ports to the node', () => {
      const dp = kube();
      const local = sendOne(dp, { uplink: 0 }, tcp(client[family], 50000, nodeOne[family], 30081, SYN));
      expect(ends(local)).toBe('dropped rule-drop');
      const other = sendOne(dp, { uplink: 0 }, tcp(client[family], 50000, nodeOne[family], 22, SYN));
      expect(ends(other)).toBe('delivered none');
    });

    it('checks source ranges in front of the translation', () => {
      const dp = kube();
      const stranger = sendOne(dp, { uplink: 0 }, tcp(client[family], 50000, loadBalancer[family], 80, SYN));
      expect(ends(stranger)).toBe('dropped rule-drop');
      const friend = family === 4 ? '198.51.100.7' : '2001:db8:1::7';
      const served = sendOne(dp, { uplink: 0 }, tcp(friend, 50000, loadBalancer[family], 80, SYN));
      expect(ends(served)).toBe('delivered none');
    });
  });
}

function wordsOf(address: string): [number, number, number, number] {
  const [a = 0, b = 0, c = 0, d = 0] = addressWords(address);
  return [a, b, c, d];
}

describe('what the nftables mode tells', () => {
  it('the recorder: base chains, elements, the choice, the rule in front of its effects, policies', () => {
    const dp = kube();
    force(dp, 1);
    dp.ring.on = true;
    const there = sendOne(dp, { pod: podOne, choice: 0 }, tcp(podOne[4], 40000, svcOne[4], 80, SYN));
    expect(there.target).toBe(podThree.index);
    const chains = Object.keys(FOUR.chains);
    const sets = Object.keys(FOUR.sets!);
    const told: string[] = [];
    const { words } = dp.ring;
    for (let e = 0; e < dp.ring.used; e += words[e]! >> 8) {
      const [a, b, c] = [words[e + 1]!, words[e + 2]!, words[e + 3]!];
      switch (words[e]! & 0xff) {
        case EVENT_BASE_CHAIN:
          told.push(`enter ${chains[a]} at ${b}`);
          break;
        case EVENT_MAP:
          told.push(`${sets[a] ?? 'anonymous'} ${b === -1 ? 'misses' : 'hits'}`);
          break;
        case EVENT_CHOICE:
          told.push(`choice ${c} of ${b}`);
          break;
        case EVENT_RULE:
          told.push('rule');
          break;
        case EVENT_NAT:
          told.push('nat');
          break;
        case EVENT_CONNTRACK:
          told.push('conntrack');
          break;
        case EVENT_POLICY:
          told.push(`policy of ${chains[b]}`);
          break;
      }
    }
    expect(told).toEqual([
      'conntrack',
      `enter filter-prerouting at ${HOOK_PREROUTING}`,
      'rule',
      'firewall-ips misses',
      'policy of filter-prerouting',
      `enter nat-prerouting at ${HOOK_PREROUTING}`,
      'rule',
      'service-ips hits',
      'rule',
      'choice 1 of 2',
      'anonymous hits',
      'rule',
      'rule',
      'nat',
      `enter filter-forward at ${HOOK_FORWARD}`,
      'rule',
      'no-endpoint-services misses',
      'rule',
      'cluster-ips misses',
      'policy of filter-forward',
      `enter nat-postrouting at ${HOOK_POSTROUTING}`,
      'rule',
      'rule',
      'policy of nat-postrouting',
    ]);
    expect(dp.counters[COUNT_LOOKUPS]).toBeGreaterThan(5);
  });

  it('an element that a packet added', () => {
    const dp = kube();
    const syn = (port: number) => tcp(podOne[4], port, svcOne[4], 8443, SYN);
    sendOne(dp, { pod: podOne }, syn(40000));
    dp.ring.on = true;
    sendOne(dp, { pod: podOne }, syn(40001));
    const rows: number[] = [];
    for (let e = 0; e < dp.ring.used; e += dp.ring.words[e]! >> 8) {
      if ((dp.ring.words[e]! & 0xff) === EVENT_MAP) rows.push(dp.ring.words[e + 2]!);
    }
    expect(rows).toContain(ELEMENT_ADDED);
  });
});

describe('an image of the nftables mode', () => {
  it('runs in another thread as it does here', () => {
    const dp = kube();
    const there = attachDatapath(
      structuredClone(takeImage(dp)),
      structuredClone(takeState(dp)),
      new Float64Array(dp.counters.length),
    );
    for (const family of [4, 6] as const) {
      const frames = [
        tcp(podOne[family], 40000, svcOne[family], 80, SYN),
        tcp(podOne[family], 40001, svcOne[family], 8443, SYN),
        tcp(podOne[family], 40002, svcOne[family], 81, SYN),
      ];
      const here = send(kube(), { pod: podOne }, ...frames);
      expect(send(there, { pod: podOne }, ...frames)).toEqual(here);
    }
  });

  it('reaches its chains by jumps from elsewhere', () => {
    const dp = buildNftDatapath({
      chains: { base: [[jump('far')]], far: [[drop]] },
      bases: [{ chain: 'base', hook: HOOK_INPUT }],
    });
    expect(ends(sendOne(dp, { uplink: 0 }, udp(client[4], 1, nodeOne[4], 2)))).toBe('dropped rule-drop');
  });
});
