/** Ports in words. */

import { describe, expect, it } from 'vitest';
import { describeReached } from '../../control/src/reach/port-text.ts';
import type { OutcomeReport, RowReport } from '../../control/src/reach/report.ts';

const open: OutcomeReport = { verdict: 'delivered', reason: 'none' };
const closed: OutcomeReport = { verdict: 'dropped', reason: 'policy-denied', denied: 'ingress' };
const some = (n: number, m: number): OutcomeReport[] => [
  { ...open, pairs: n },
  { ...closed, pairs: m - n },
];
const row = (protocol: string, first: number, last: number, ...outcomes: OutcomeReport[]): RowReport => ({
  protocol,
  first,
  last,
  outcomes,
});
const whole = (...outcomes: OutcomeReport[]): RowReport[] => [
  row('TCP', 1, 65_535, ...outcomes),
  row('UDP', 1, 65_535, ...outcomes),
  row('SCTP', 1, 65_535, ...outcomes),
  row('ICMP', 0, 0, ...outcomes),
];

describe('ports in words', () => {
  it.each<[string, RowReport[]]>([
    ['none', []],
    ['all', whole(open)],
    ['none', whole(closed)],
    ['all (1 of 2)', whole(...some(1, 2))],
    ['TCP all', [row('TCP', 1, 65_535, open), ...whole(closed).slice(1)]],
    [
      'TCP 80; UDP 53-54',
      [
        row('TCP', 1, 79, closed),
        row('TCP', 80, 80, open),
        row('TCP', 81, 65_535, closed),
        row('UDP', 1, 52, closed),
        row('UDP', 53, 54, open),
        row('UDP', 55, 65_535, closed),
        ...whole(closed).slice(2),
      ],
    ],
    [
      'all but TCP 22',
      [row('TCP', 1, 21, open), row('TCP', 22, 22, closed), row('TCP', 23, 65_535, open), ...whole(open).slice(1)],
    ],
    ['TCP 80 (2 of 3)', [row('TCP', 1, 79, closed), row('TCP', 80, 80, ...some(2, 3)), row('TCP', 81, 65_535, closed)]],
    ['ICMP', [...whole(closed).slice(0, 3), row('ICMP', 0, 0, open)]],
  ])('%s', (text, rows) => {
    expect(describeReached(rows, false)).toBe(text);
  });

  it('tells the families and a Service’s addresses apart', () => {
    expect(describeReached([{ ...row('TCP', 80, 80, open), via: 'ClusterIP' }], true)).toBe('TCP 80');
    expect(
      describeReached(
        [
          { ...row('TCP', 80, 80, open), via: 'LoadBalancer' },
          { ...row('TCP', 30_080, 30_080, ...some(1, 3)), via: 'NodePort', family: 4 },
          { ...row('TCP', 30_080, 30_080, closed), via: 'NodePort', family: 6 },
        ],
        true,
      ),
    ).toBe('LoadBalancer: TCP 80; NodePort IPv4: TCP 30080 (1 of 3)');
  });

  it('says where some backends refuse', () => {
    expect(describeReached([row('TCP', 80, 80, { ...closed, partly: true })], true)).toBe('TCP 80 (some backends)');
  });
});
