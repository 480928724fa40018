/**
 * Random rulesets in the form in which nft lists them: nothing in them that nft would write in another way, so that they
 * come back as they were. Names, addresses and ports are few, so that rules and sets meet.
 */

import * as fc from 'fast-check';
import {
  datatypesOf,
  type NftChain,
  type NftDatatype,
  type NftElement,
  type NftExpression,
  type NftFamily,
  type NftNatFlag,
  type NftReject,
  type NftRule,
  type NftRuleset,
  type NftSet,
  type NftStatement,
  type NftTable,
  type NftValue,
  type NftVerdict,
} from '../../control/src/compile/nft-ruleset.ts';
import { formatWords, makePrefix, type Words } from '../../control/src/model/address.ts';

const number = (value: number): NftValue => ({ kind: 'number', value });
const payload = (field: Extract<NftExpression, { kind: 'payload' }>['field']): NftExpression => ({
  kind: 'payload',
  field,
});
const meta = (key: Extract<NftExpression, { kind: 'meta' }>['key']): NftExpression => ({ kind: 'meta', key });

const words = (family: 4 | 6): fc.Arbitrary<Words> =>
  fc
    .integer({ min: 1, max: 0xfffe })
    .map((low) => (family === 4 ? [0x0a000000 | low, 0, 0, 0] : [-0x03000000, 0, 1, low]));

const address = (family: 4 | 6): fc.Arbitrary<NftValue> =>
  words(family).map((w) => ({ kind: 'address', address: { family, words: w, text: formatWords(family, w) } }));

const prefix = (family: 4 | 6): fc.Arbitrary<NftValue> =>
  fc.tuple(words(family), fc.integer({ min: 8, max: family === 4 ? 31 : 127 })).map(([w, length]) => ({
    kind: 'prefix',
    // Host bits are no part of a prefix in a ruleset.
    prefix: { ...makePrefix(family, w, length), hostBits: false },
  }));

const familyOf = (family: NftFamily): 4 | 6 => (family === 'ip6' ? 6 : 4);

/** One value of a datatype. */
function single(datatype: NftDatatype, family: NftFamily): fc.Arbitrary<NftValue> {
  switch (datatype) {
    case 'ipv4_addr':
    case 'ipv6_addr':
      return address(familyOf(family));
    case 'inet_proto':
      return fc.constantFrom(6, 17, 132).map(number);
    case 'inet_service':
      return fc.integer({ min: 1, max: 65535 }).map(number);
    case 'mark':
      return fc.integer({ min: 1, max: 0xffffffff }).map(number);
    case 'ifname':
      return fc.constantFrom('eth0', 'cali*', 'docker0').map((name) => ({ kind: 'name', name }));
    case 'icmp_type':
      return fc.constantFrom(0, 3, 8, 42).map(number);
    case 'ct_state':
      return fc.constantFrom(1, 2, 4, 8).map(number);
    case 'tcp_flag':
      return fc.constantFrom(1, 2, 4, 16).map(number);
    case 'fib_addrtype':
      return fc.constantFrom(1, 2, 3, 5).map(number);
    default:
      return fc.integer({ min: 0, max: 200 }).map(number);
  }
}

/** Fields of a table's family that are compared with one value of a simple datatype. */
const simpleFields = (family: NftFamily): NftExpression[] => [
  payload(family === 'ip6' ? 'ip6 saddr' : 'ip saddr'),
  payload(family === 'ip6' ? 'ip6 daddr' : 'ip daddr'),
  payload('tcp dport'),
  payload('udp sport'),
  payload('sctp dport'),
  meta('l4proto'),
  meta('mark'),
  meta('iifname'),
  { kind: 'ct', key: 'mark', direction: null },
  { kind: 'fib', by: ['daddr'], result: 'type' },
  { kind: 'fib', by: ['saddr', 'iif'], result: 'type' },
];

const keys = (value: NftValue): string => JSON.stringify(value);

const set = (elements: readonly NftValue[]): Extract<NftStatement, { kind: 'match' }>['right'] => ({
  kind: 'elements',
  elements: elements.map((key) => element(key, null)),
});

function element(key: NftValue, value: NftElement['value']): NftElement {
  return { key, value, comment: null, timeoutSeconds: null, sources: [] };
}

const isAddress = (expression: NftExpression): boolean => datatypesOf(expression)[0]!.endsWith('_addr');

function matchOf(family: NftFamily): fc.Arbitrary<NftStatement> {
  const field = fc.constantFrom(...simpleFields(family));
  const type = (left: NftExpression): NftDatatype => datatypesOf(left)[0]!;
  const equality = fc.constantFrom<'==' | '!='>('==', '!=');
  const one = fc
    .tuple(field, equality)
    .chain(([left, operator]) =>
      (isAddress(left)
        ? fc.oneof(address(familyOf(family)), prefix(familyOf(family)))
        : single(type(left), family)
      ).map((right): NftStatement => ({ kind: 'match', left, operator, right })),
    );
  const several = fc.tuple(field, equality).chain(([left, operator]) =>
    fc
      .uniqueArray(single(type(left), family), { minLength: 2, maxLength: 3, selector: keys })
      // A pattern covers names, and nft would put such elements together.
      .filter((values) => values.every((value) => value.kind !== 'name' || !value.name.endsWith('*')))
      .map((values): NftStatement => ({ kind: 'match', left, operator, right: set(values) })),
  );
  const range = fc.tuple(fc.integer({ min: 1, max: 1000 }), fc.integer({ min: 2000, max: 3000 }), equality).map(
    ([from, to, operator]): NftStatement => ({
      kind: 'match',
      left: payload('tcp dport'),
      operator,
      right: { kind: 'range', from: number(from), to: number(to) },
    }),
  );
  // nft 1.0.6 reads no mask of a single flag behind the slash: of two at least.
  const bits = fc.oneof(
    fc.integer({ min: 1, max: 15 }).map(
      (value): NftStatement => ({
        kind: 'match',
        left: { kind: 'ct', key: 'state', direction: null },
        operator: 'in',
        right: number(value),
      }),
    ),
    fc.tuple(fc.integer({ min: 1, max: 31 }), fc.integer({ min: 1, max: 31 })).map(
      ([mask, value]): NftStatement => ({
        kind: 'match',
        left: { kind: 'bitwise', operator: 'and', left: payload('tcp flags'), right: number(mask | value | 0x60) },
        operator: '==',
        right: number(value),
      }),
    ),
    fc.tuple(fc.integer({ min: 1, max: 0xffff }), fc.integer({ min: 1, max: 0xffff })).map(
      ([mask, value]): NftStatement => ({
        kind: 'match',
        left: { kind: 'bitwise', operator: 'and', left: meta('mark'), right: number(mask) },
        operator: '!=',
        right: number(value),
      }),
    ),
  );
  const route = fc.constantFrom<'==' | '!='>('==', '!=').map(
    (operator): NftStatement => ({
      kind: 'match',
      left: { kind: 'fib', by: ['saddr', 'mark', 'iif'], result: 'oif' },
      operator,
      right: number(0),
    }),
  );
  return fc.oneof({ weight: 3, arbitrary: one }, several, range, bits, route);
}

const verdict = (chains: readonly string[]): fc.Arbitrary<NftVerdict> =>
  fc.oneof(
    fc.constantFrom<NftVerdict>({ kind: 'accept' }, { kind: 'drop' }, { kind: 'return' }),
    fc
      .tuple(fc.constantFrom<'jump' | 'goto'>('jump', 'goto'), fc.constantFrom(...chains))
      .map(([kind, chain]) => ({ kind, chain })),
  );

function verdictMap(family: NftFamily, chains: readonly string[]): fc.Arbitrary<NftStatement> {
  const parts: NftExpression[] = [meta('l4proto'), payload('th dport')];
  const numgen = fc.constantFrom<'random' | 'inc'>('random', 'inc').chain((mode) =>
    fc.array(verdict(chains), { minLength: 2, maxLength: 4 }).map(
      (verdicts): NftStatement => ({
        kind: 'vmap',
        key: { kind: 'numgen', mode, modulus: verdicts.length, offset: 0 },
        map: { kind: 'elements', elements: verdicts.map((value, i) => element(number(i), value)) },
      }),
    ),
  );
  const ports = fc
    .uniqueArray(fc.tuple(single('inet_proto', family), single('inet_service', family), verdict(chains)), {
      minLength: 1,
      maxLength: 3,
      selector: ([protocol, port]) => keys(protocol) + keys(port),
    })
    .map(
      (entries): NftStatement => ({
        kind: 'vmap',
        key: { kind: 'concat', parts },
        map: {
          kind: 'elements',
          elements: entries.map(([protocol, port, value]) =>
            element({ kind: 'concat', parts: [protocol, port] }, value),
          ),
        },
      }),
    );
  return fc.oneof(numgen, ports);
}

// `reject` alone is icmpx in a table of family inet, and icmp or icmpv6 behind a match on either: written out there.
const reject = (family: NftFamily): fc.Arbitrary<NftStatement> =>
  fc
    .constantFrom<NftReject>(
      family === 'ip'
        ? { type: 'icmp', code: 3 }
        : family === 'ip6'
          ? { type: 'icmpv6', code: 4 }
          : { type: 'icmpx', code: 2 },
      family === 'ip'
        ? { type: 'icmp', code: 13 }
        : family === 'ip6'
          ? { type: 'icmpv6', code: 1 }
          : { type: 'icmpx', code: 3 },
    )
    .map((kind) => ({ kind: 'reject', with: kind }));

const marks = fc.integer({ min: 1, max: 0xffff }).chain((value) => {
  const mark = meta('mark');
  return fc.constantFrom<NftStatement>(
    { kind: 'set', target: 'meta mark', value: number(value) },
    { kind: 'set', target: 'meta mark', value: { kind: 'bitwise', operator: 'or', left: mark, right: number(value) } },
    { kind: 'set', target: 'meta mark', value: { kind: 'bitwise', operator: 'xor', left: mark, right: number(value) } },
    { kind: 'set', target: 'ct mark', value: { kind: 'bitwise', operator: 'and', left: mark, right: number(value) } },
    { kind: 'set', target: 'meta mark', value: { kind: 'ct', key: 'mark', direction: null } },
  );
});

/** What ends a rule of a filter chain. */
function ending(family: NftFamily, chains: readonly string[], sets: readonly NftSet[]): fc.Arbitrary<NftStatement[]> {
  const plain = verdict(chains).map((value): NftStatement[] => [{ kind: 'verdict', verdict: value }]);
  const choices = [
    plain,
    verdictMap(family, chains).map((one) => [one]),
    reject(family).map((one) => [one]),
    marks.map((one) => [one]),
  ];
  const dynamic = sets.filter(({ flags }) => flags.includes('dynamic'));
  const key = payload(family === 'ip6' ? 'ip6 saddr' : 'ip saddr');
  if (dynamic.length > 0) {
    choices.push(
      fc
        .tuple(fc.constantFrom(...dynamic), fc.option(fc.constantFrom(30, 5400), { nil: null }))
        .map(([{ name }, timeoutSeconds]) => [{ kind: 'dynset', operation: 'update', set: name, key, timeoutSeconds }]),
    );
  }
  const looked = sets.filter(({ data }) => data === null);
  if (looked.length > 0) {
    choices.push(
      fc.tuple(fc.constantFrom(...looked), fc.constantFrom<'==' | '!='>('==', '!=')).map(([{ name }, operator]) => [
        { kind: 'match', left: key, operator, right: { kind: 'named', name } },
        { kind: 'verdict', verdict: { kind: 'accept' } },
      ]),
    );
  }
  return fc.oneof(...choices);
}

function natEnding(kind: 'dnat' | 'snat', family: NftFamily): fc.Arbitrary<NftStatement[]> {
  const flags = fc.constantFrom<readonly NftNatFlag[]>([], ['random'], ['fully-random'], ['random', 'persistent']);
  const port = fc.integer({ min: 1, max: 30000 });
  const written = family === 'inet' ? ('ip' as const) : null;
  const tcp: NftStatement = { kind: 'match', left: meta('l4proto'), operator: '==', right: number(6) };
  const simple = fc
    .tuple(address(familyOf(family)), flags)
    .map(([to, list]): NftStatement[] => [{ kind, family: written, address: to, ports: null, flags: list }]);
  const withPort = fc
    .tuple(address(familyOf(family)), port, fc.nat({ max: 9 }), flags)
    .map(([to, first, more, list]): NftStatement[] => [
      tcp,
      { kind, family: written, address: to, ports: { first, last: first + more }, flags: list },
    ]);
  const redirect = fc
    .tuple(port, flags)
    .map(([first, list]): NftStatement[] => [
      tcp,
      { kind: kind === 'dnat' ? 'redirect' : 'masquerade', flags: list, ports: { first, last: first } },
    ]);
  return fc.oneof(simple, withPort, redirect);
}

const comment = fc.option(fc.constantFrom('a comment', 'ns/svc:http -> 10.0.0.1'), { nil: null });

function rules(family: NftFamily, end: fc.Arbitrary<NftStatement[]>, maxLength: number): fc.Arbitrary<NftRule[]> {
  // Two matches on ports of different protocols are no rule that nft takes.
  const start = fc.array(matchOf(family), { maxLength: 2 }).filter((matches) => matches.filter(ofTransport).length < 2);
  const rule = fc.tuple(start, end, comment).filter(([begin, rest]) => {
    return [...begin, ...rest].filter(ofTransport).length < 2;
  });
  return fc.array(
    rule.map(([begin, rest, text]) => ({
      statements: [...begin, ...rest],
      comment: text,
      sources: [],
      judgement: null,
    })),
    { maxLength },
  );
}

function ofTransport(statement: NftStatement): boolean {
  const expression = statement.kind === 'match' ? statement.left : statement.kind === 'vmap' ? statement.key : null;
  const text = JSON.stringify(expression);
  return /"(?:tcp|udp|sctp|th) |l4proto|bitwise/.test(text);
}

const namedSet = (family: NftFamily): fc.Arbitrary<NftSet[]> => {
  const type: NftDatatype = family === 'ip6' ? 'ipv6_addr' : 'ipv4_addr';
  const base = { key: [type], timeoutSeconds: null, size: null, autoMerge: false, comment: null, sources: [] };
  const exact = fc.uniqueArray(address(familyOf(family)), { maxLength: 5, selector: keys }).map(
    (values): NftSet => ({
      ...base,
      name: 'exact',
      data: null,
      flags: [],
      elements: values.map((key) => element(key, null)),
    }),
  );
  const dynamic = fc.constantFrom(60, 10800).map(
    (timeoutSeconds): NftSet => ({
      ...base,
      name: 'affinity-A',
      data: null,
      flags: ['dynamic', 'timeout'],
      timeoutSeconds,
      size: 65535,
      elements: [],
    }),
  );
  const map = fc
    .uniqueArray(
      fc.tuple(
        address(familyOf(family)),
        single('inet_proto', family),
        single('inet_service', family),
        verdict(['one']),
      ),
      {
        maxLength: 5,
        selector: ([a, b, c]) => keys(a) + keys(b) + keys(c),
      },
    )
    .map(
      (entries): NftSet => ({
        ...base,
        name: 'service-ips',
        key: [type, 'inet_proto', 'inet_service'],
        data: 'verdict',
        flags: [],
        comment: 'of services',
        elements: entries.map(([a, b, c, value]) => element({ kind: 'concat', parts: [a, b, c] }, value)),
      }),
    );
  return fc.tuple(exact, dynamic, map).map((all) => [...all]);
};

const table = (family: NftFamily): fc.Arbitrary<NftTable> =>
  namedSet(family).chain((sets) => {
    const chains = ['one', 'two'];
    const filter = rules(family, ending(family, chains, sets), 4);
    const base = fc.record({
      hook: fc.constantFrom('prerouting' as const, 'input' as const, 'forward' as const),
      priority: fc.integer({ min: -190, max: 200 }),
      policy: fc.constantFrom('accept' as const, 'drop' as const),
    });
    // A chain that leads nowhere, so that jumps make no loop.
    const leaf = rules(family, fc.constant([{ kind: 'verdict', verdict: { kind: 'accept' } }]), 2);
    const input = fc.tuple(base, filter.map(withoutRoutes)).map(([{ hook, priority, policy }, list]): NftChain => {
      return {
        name: 'base',
        base: { type: 'filter', hook, priority, policy },
        comment: null,
        rules: list,
        sources: [],
      };
    });
    const nat = (name: string, kind: 'dnat' | 'snat', hook: 'prerouting' | 'postrouting', priority: number) =>
      rules(family, natEnding(kind, family), 2)
        .map(withoutRoutes)
        .map((list): NftChain => {
          return {
            name,
            base: { type: 'nat', hook, priority, policy: 'accept' },
            comment: null,
            rules: list,
            sources: [],
          };
        });
    const plain = (name: string) =>
      leaf.map(withoutRoutes).map((list): NftChain => ({ name, base: null, comment: null, rules: list, sources: [] }));
    return fc
      .tuple(
        plain('one'),
        plain('two'),
        input,
        nat('dnats', 'dnat', 'prerouting', -100),
        nat('snats', 'snat', 'postrouting', 100),
      )
      .map((all): NftTable => ({ family, name: `t-${family}`, comment: null, sets, chains: [...all] }));
  });

/** `fib … iif` stands in no chain that postrouting or any hook without an incoming interface can reach. */
function withoutRoutes(list: readonly NftRule[]): NftRule[] {
  return list.filter(({ statements }) => !JSON.stringify(statements).includes('"iif"'));
}

export const randomNftRuleset: fc.Arbitrary<NftRuleset> = fc
  .tuple(table('ip'), table('ip6'), table('inet'))
  .map((tables) => ({ tables: [...tables] }));
