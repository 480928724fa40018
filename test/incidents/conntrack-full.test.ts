/** Incidents of a full connection table: SYN floods. FACTS §2: k/k#18604, cilium#42366. */
import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { COUNT_EVICTIONS, countOf } from '../../engine/src/programs/count.ts';
import { VERDICT_DROPPED } from '../../engine/src/programs/verdict.ts';
import { REASON_CONNTRACK_FULL } from '../../engine/src/wire/reason.ts';
import { ACK, back, client, type Exit, Lab, outside, SYN, tcp, vip, webA, webService } from './lab.ts';

const FLOWS = 512;

describe.each(BUILT_MODES)('%s', (mode) => {
  const open = (lab: Lab, port: number): Exit => {
    const exit = lab.send('client', tcp(client[4], port, vip(0)[4], 80, SYN), 1);
    const { from, sport, to, dport } = back(exit);
    lab.send('web-a', tcp(from, sport, to, dport, SYN | ACK, { seq: 5000, ack: 1001 }), 2);
    lab.send('client', tcp(client[4], port, vip(0)[4], 80, ACK, { seq: 1001, ack: 5001 }), 3);
    return exit;
  };
  const data = (lab: Lab, port: number, at: number): string =>
    lab.send('client', tcp(client[4], port, vip(0)[4], 80, ACK, { seq: 1001, ack: 5001, bytes: 10 }), at).end;

  it('k/k#18604: a table full of established connections refuses the newcomer and counts it, or evicts the oldest', () => {
    const lab = new Lab(mode, [webService(0, ['web-a'])], { flows: FLOWS });
    for (let i = 0; i < FLOWS; i++) open(lab, 1024 + i);
    const newcomer = lab.send('client', tcp(client[4], 50_000, vip(0)[4], 80, SYN), 10);
    if (mode === 'ebpf') {
      expect(newcomer.end).toBe('delivered web-a');
      expect(lab.dp.counters[COUNT_EVICTIONS]).toBe(1);
    } else {
      expect(newcomer.end).toBe('dropped conntrack-full');
      expect(lab.dp.counters[countOf(VERDICT_DROPPED, REASON_CONNTRACK_FULL)]).toBe(1);
      for (let i = 0; i < FLOWS; i++) expect(data(lab, 1024 + i, 20)).toBe('delivered web-a');
    }
    expect(lab.unaccounted()).toBe(0);
  });

  it('cilium#42366: established connections keep at least 99 % of their packets under a SYN flood', () => {
    const lab = new Lab(mode, [webService(0, ['web-a'])], { flows: FLOWS });
    const established = 64;
    for (let i = 0; i < established; i++) open(lab, 1024 + i);
    let sent = 0;
    let arrived = 0;
    let flooded = 0;
    for (let round = 0; round < 60; round++) {
      for (let i = 0; i < 100; i++) {
        const n = round * 100 + i;
        const exit = lab.send('uplink-1', tcp(outside[4], 1024 + n, webA[4], 8080, SYN), 10 + round);
        if (exit.end === 'delivered web-a') flooded++;
      }
      for (let i = 0; i < established; i++, sent++) {
        if (data(lab, 1024 + i, 10 + round) === 'delivered web-a') arrived++;
      }
    }
    expect(arrived / sent).toBeGreaterThanOrEqual(0.99);
    // Half-open connections make way for each other, so the flood itself is let through.
    expect(flooded).toBeGreaterThan(5900);
    expect(lab.unaccounted()).toBe(0);
  });
});
