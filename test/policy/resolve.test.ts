/** NetworkPolicies resolved: the table of what is easily got wrong. */

import { describe, expect, it } from 'vitest';
import { CAST, networkPolicy, Resolved } from './support.ts';

const resolve = (...specs: object[]): Resolved =>
  new Resolved([...CAST, ...specs.map((spec, index) => networkPolicy(spec, `p${index}`))]);

const ALL = ['dev/db', 'dev/web', 'other/bare', 'prod/db', 'prod/web'];
const PROD = ['prod/db', 'prod/web'];
const WEB = { matchLabels: { app: 'web' } };
const DEV = { matchLabels: { env: 'dev' } };

describe('whom a policy selects', () => {
  it.each([
    ['an empty selector: all pods of its own namespace', { podSelector: {} }, PROD],
    ['no selector: the same', {}, PROD],
    ['a null selector: the same', { podSelector: null }, PROD],
    ['labels, and never a hostNetwork pod', { podSelector: WEB }, ['prod/web']],
    ['a label that nobody has', { podSelector: { matchLabels: { app: 'none' } } }, []],
    ['In', { podSelector: { matchExpressions: [{ key: 'app', operator: 'In', values: ['db', 'x'] }] } }, ['prod/db']],
  ])('%s', (_name, spec, pods) => {
    expect(resolve(spec).selected('ingress')).toEqual(pods);
  });

  it('NotIn and DoesNotExist take pods without the key', () => {
    for (const expression of [
      { key: 'tier', operator: 'NotIn', values: ['data'] },
      { key: 'tier', operator: 'DoesNotExist' },
    ]) {
      const policy = networkPolicy({ podSelector: { matchExpressions: [expression] } }, 'p', 'dev');
      expect(new Resolved([...CAST, policy]).selected('ingress')).toEqual(['dev/web']);
    }
  });

  it('holds in its own namespace only', () => {
    expect(new Resolved([...CAST, networkPolicy({}, 'p', 'nobody')]).selected('ingress')).toEqual([]);
    expect(new Resolved([...CAST, networkPolicy({}, 'p', 'other')]).selected('ingress')).toEqual(['other/bare']);
  });
});

describe('directions', () => {
  const rule = [{}];
  it.each([
    ['nothing said: ingress', {}, true, false],
    ['ingress rules: ingress', { ingress: rule }, true, false],
    ['egress rules alone close ingress too', { egress: rule }, true, true],
    ['no egress rule: egress stays open', { egress: [] }, true, false],
    ['null egress: the same', { egress: null }, true, false],
    ['no types named: as if left out', { policyTypes: [], egress: rule }, true, true],
    [
      'Egress alone leaves ingress open, whatever rules it has',
      { policyTypes: ['Egress'], ingress: rule },
      false,
      true,
    ],
    ['Ingress alone leaves egress open', { policyTypes: ['Ingress'], egress: rule }, true, false],
    ['both', { policyTypes: ['Egress', 'Ingress'] }, true, true],
  ])('%s', (_name, spec, ingress, egress) => {
    const resolved = resolve(spec);
    expect(resolved.selected('ingress')).toEqual(ingress ? PROD : []);
    expect(resolved.selected('egress')).toEqual(egress ? PROD : []);
    for (const { direction } of resolved.model.rules) expect(direction === 'ingress' ? ingress : egress).toBe(true);
  });

  it('no rule and an empty rule are opposites', () => {
    expect(resolve({ ingress: [] }).rules()).toEqual([]);
    expect(resolve({ ingress: null }).rules()).toEqual([]);
    expect(resolve({ ingress: [{}] }).rules()).toEqual(['spec.ingress[0] accept any *']);
  });
});

describe('peers', () => {
  it.each([
    ['none: everybody', {}, ['spec.ingress[0] accept any *']],
    ['null: everybody', { from: null }, ['spec.ingress[0] accept any *']],
    ['an empty list: everybody', { from: [] }, ['spec.ingress[0] accept any *']],
    [
      'a podSelector alone: its own namespace',
      { from: [{ podSelector: WEB }] },
      ['spec.ingress[0].from[0] accept {prod/web} *'],
    ],
    [
      'an empty podSelector: all of its own namespace',
      { from: [{ podSelector: {} }] },
      ['spec.ingress[0].from[0] accept {prod/db prod/web} *'],
    ],
    [
      'a namespaceSelector alone: all pods there',
      { from: [{ namespaceSelector: DEV }] },
      ['spec.ingress[0].from[0] accept {dev/db dev/web} *'],
    ],
    [
      'an empty namespaceSelector: all pods',
      { from: [{ namespaceSelector: {} }] },
      [`spec.ingress[0].from[0] accept {${ALL.join(' ')}} *`],
    ],
    [
      'both selectors in one peer: both must match',
      { from: [{ namespaceSelector: DEV, podSelector: WEB }] },
      ['spec.ingress[0].from[0] accept {dev/web} *'],
    ],
    [
      'two peers: either',
      { from: [{ namespaceSelector: DEV }, { podSelector: WEB }] },
      ['spec.ingress[0].from[0] accept {dev/db dev/web} *', 'spec.ingress[0].from[1] accept {prod/web} *'],
    ],
    [
      'a namespace that no object declares has its name as a label',
      { from: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'other' } } }] },
      ['spec.ingress[0].from[0] accept {other/bare} *'],
    ],
    [
      'nobody stays a peer that matches nobody',
      { from: [{ podSelector: { matchLabels: { app: 'gone' } } }] },
      ['spec.ingress[0].from[0] accept {} *'],
    ],
    [
      'except cuts its own peer only',
      {
        from: [
          { ipBlock: { cidr: '10.0.0.5/8', except: ['10.1.0.0/16', '10.2.0.0/16'] } },
          { ipBlock: { cidr: '10.1.2.0/24' } },
          { ipBlock: { cidr: 'fd00::/8' } },
        ],
      },
      [
        'spec.ingress[0].from[0] accept 10.0.0.0/8-10.1.0.0/16-10.2.0.0/16 *',
        'spec.ingress[0].from[1] accept 10.1.2.0/24 *',
        'spec.ingress[0].from[2] accept fd00::/8 *',
      ],
    ],
  ])('%s', (_name, rule, rules) => {
    expect(resolve({ ingress: [rule] }).rules()).toEqual(rules);
    const { from, ...rest }: { from?: unknown } = rule;
    const egress = resolve({ policyTypes: ['Egress'], egress: [{ ...rest, to: from }] }).rules();
    expect(egress).toEqual(rules.map((text) => text.replace('ingress', 'egress').replace('.from', '.to')));
  });
});

describe('ports', () => {
  it.each([
    ['none: everything, ICMP too', undefined, '*'],
    ['an empty list: everything', [], '*'],
    ['null: everything', null, '*'],
    ['an empty entry: all of TCP', [{}], 'TCP/0-65535'],
    ['a protocol alone: all of it', [{ protocol: 'SCTP' }], 'SCTP/0-65535'],
    ['a number is of TCP', [{ port: 80 }], 'TCP/80'],
    ['a name is of TCP', [{ port: 'http' }], 'TCP/http'],
    ['a name with its protocol', [{ port: 'dns', protocol: 'UDP' }], 'UDP/dns'],
    ['endPort belongs to the range', [{ port: 80, endPort: 90 }], 'TCP/80-90'],
    ['a range of one', [{ port: 80, endPort: 80 }], 'TCP/80'],
    ['entries add up', [{ port: 53, protocol: 'UDP' }, { port: 53 }], 'UDP/53,TCP/53'],
  ])('%s', (_name, ports, text) => {
    expect(resolve({ ingress: [{ ports }] }).rules()).toEqual([`spec.ingress[0] accept any ${text}`]);
  });

  it('every peer of a rule has them', () => {
    expect(
      resolve({ ingress: [{ from: [{ podSelector: {} }, { podSelector: WEB }], ports: [{ port: 80 }] }] }).rules(),
    ).toEqual([
      'spec.ingress[0].from[0] accept {prod/db prod/web} TCP/80',
      'spec.ingress[0].from[1] accept {prod/web} TCP/80',
    ]);
  });
});

describe('orders', () => {
  it('pods that the same policies select share one, others do not', () => {
    const resolved = resolve({ ingress: [{}] }, { podSelector: WEB }, { podSelector: WEB, policyTypes: ['Egress'] });
    const web = resolved.order('ingress', 'prod/web')!;
    const db = resolved.order('ingress', 'prod/db')!;
    expect(web).not.toBe(db);
    expect(web.policies.map(({ metadata }) => metadata.name)).toEqual(['p0', 'p1']);
    expect(db.network!.isolating.map(({ metadata }) => metadata.name)).toEqual(['p0']);
    expect(web.network!.rules).toEqual(db.network!.rules);
    expect(resolved.order('egress', 'prod/db')).toBeNull();
    expect(resolved.order('egress', 'prod/web')).toMatchObject({ direction: 'egress', admin: [], baseline: [] });

    const one = new Resolved([...CAST, networkPolicy({}), networkPolicy({}, 'q', 'dev')]);
    expect(one.order('ingress', 'prod/web')).toBe(one.order('ingress', 'prod/db'));
    expect(one.order('ingress', 'dev/web')).toBe(one.order('ingress', 'dev/db'));
    expect(one.order('ingress', 'dev/web')).not.toBe(one.order('ingress', 'prod/db'));
  });

  it('rules have their position as their id, and the fields they were written in', () => {
    const { model } = resolve({ ingress: [{}, { from: [{ podSelector: WEB }] }], egress: [{}] }, { ingress: [{}] });
    expect(model.rules.map(({ id, field, policy }) => [id, field, policy.metadata.name])).toEqual([
      [0, 'spec.ingress[0]', 'p0'],
      [1, 'spec.ingress[1]', 'p0'],
      [2, 'spec.egress[0]', 'p0'],
      [3, 'spec.ingress[0]', 'p1'],
    ]);
    for (const rule of model.rules) expect(rule).toMatchObject({ tier: 'network', priority: 0, action: 'accept' });
  });

  it('without policies every pod is open', () => {
    const { model } = resolve();
    expect([...model.ingress, ...model.egress]).toEqual(ALL.concat(ALL).map(() => null));
    expect(model.rules).toEqual([]);
  });
});
