/** Statements of nftables, one by one, as the engine's expressions: those that kube-proxy does not write too. */

import { describe, expect, it } from 'vitest';
import { NftEncoder, NftStampNumbers } from '../../control/src/compile/nft-encode.ts';
import type { NftInterfaces } from '../../control/src/compile/nft-fields.ts';
import type {
  NftChain,
  NftElement,
  NftExpression,
  NftFamily,
  NftRule,
  NftSet,
  NftStatement,
  NftTable,
  NftValue,
} from '../../control/src/compile/nft-ruleset.ts';
import type { CompiledNft } from '../../control/src/compile/nftables.ts';
import { type Family, parseAddress, parsePrefix } from '../../control/src/model/address.ts';
import * as nft from '../../engine/src/tables/nft-rules.ts';
import { findNftElement } from '../../engine/src/tables/nft-sets.ts';
import * as list from '../../engine/src/tables/rule-list.ts';
import { readBody } from './nft-reader.ts';

const number = (value: number): NftValue => ({ kind: 'number', value });
const payload = (field: (NftExpression & { kind: 'payload' })['field']): NftExpression => ({ kind: 'payload', field });
const meta = (key: (NftExpression & { kind: 'meta' })['key']): NftExpression => ({ kind: 'meta', key });
const address = (text: string): NftValue => ({ kind: 'address', address: parseAddress(text)! });
const prefix = (text: string): NftValue => ({ kind: 'prefix', prefix: parsePrefix(text)! });
const ACCEPT: NftStatement = { kind: 'verdict', verdict: { kind: 'accept' } };
const element = (key: NftValue, value: NftElement['value'] = null): NftElement => ({
  key,
  value,
  comment: null,
  timeoutSeconds: null,
  sources: [],
});
const rule = (...statements: NftStatement[]): NftRule => ({ statements, comment: null, sources: [], judgement: null });
const chain = (name: string, rules: NftRule[], base: NftChain['base'] = null): NftChain => ({
  name,
  base,
  comment: null,
  rules,
  sources: [],
});

/** Interfaces eth0, veth0 and veth1, numbered 0 to 2. */
const INTERFACES: NftInterfaces = {
  range: (name) => {
    const names = ['eth0', 'veth0', 'veth1'];
    const stem = name.replace(/\*$/, '');
    const hits = names.flatMap((own, i) => ((name.endsWith('*') ? own.startsWith(stem) : own === stem) ? [i] : []));
    return [hits[0] ?? 1, hits.at(-1) ?? 0];
  },
};

function encode(
  family: Family,
  statements: NftStatement[],
  more: { of?: NftFamily; sets?: NftSet[]; interfaces?: NftInterfaces | null } = {},
): { expressions: number[][]; compiled: CompiledNft } {
  const { of = family === 4 ? 'ip' : 'ip6', sets = [], interfaces = null } = more;
  const table: NftTable = { family: of, name: 't', comment: null, sets, chains: [chain('c', [rule(...statements)])] };
  const encoder = new NftEncoder(family, new NftStampNumbers());
  encoder.addNode(0, [table], interfaces);
  const compiled = encoder.finish(1);
  const start = compiled.rules.starts[0];
  return { expressions: start === undefined ? [] : readBody(compiled.rules, start)[0]!.expressions, compiled };
}

const match = (
  left: NftExpression,
  operator: (NftStatement & { kind: 'match' })['operator'],
  right: (NftStatement & { kind: 'match' })['right'],
): NftStatement => ({ kind: 'match', left, operator, right });
const ALL = -1;
const ACCEPTED = [nft.EXPR_VERDICT, nft.NFT_ACCEPT, -1];
const NEVER = [nft.EXPR_NEVER];

describe('statements', () => {
  it.each<[string, Family, NftStatement, number[][]]>([
    [
      'tcp dport 80',
      4,
      match(payload('tcp dport'), '==', number(80)),
      [
        [nft.EXPR_MATCH, nft.SELECT_L4PROTO, nft.COMPARE_EQUAL, ALL, 6],
        [nft.EXPR_MATCH, nft.SELECT_DPORT, nft.COMPARE_EQUAL, ALL, 80],
      ],
    ],
    [
      'ip saddr != 10.0.0.0/8',
      4,
      match(payload('ip saddr'), '!=', prefix('10.0.0.0/8')),
      [[nft.EXPR_MATCH, nft.SELECT_SADDR4, nft.COMPARE_NOT_EQUAL, 0xff000000 | 0, 10 << 24]],
    ],
    [
      'ip6 saddr fd00::/8',
      6,
      match(payload('ip6 saddr'), '==', prefix('fd00::/8')),
      [
        [nft.EXPR_LOAD, nft.SELECT_SADDR6, 0],
        [nft.EXPR_RANGE, 0, 0, 0xfd000000 | 0, 0, 0, 0, 0xfdffffff | 0, ALL, ALL, ALL],
      ],
    ],
    [
      'ip6 daddr ::1',
      6,
      match(payload('ip6 daddr'), '==', address('::1')),
      [
        [nft.EXPR_LOAD, nft.SELECT_DADDR6, 0],
        [nft.EXPR_COMPARE, nft.COMPARE_EQUAL, 0, 0, 0, 0, 1],
      ],
    ],
    [
      'ct state established,related',
      4,
      match({ kind: 'ct', key: 'state', direction: null }, 'in', number(6)),
      [[nft.EXPR_MATCH, nft.SELECT_CT_STATE, nft.COMPARE_NOT_EQUAL, 6, 0]],
    ],
    [
      'ct state ! invalid',
      4,
      match({ kind: 'ct', key: 'state', direction: null }, '!in', number(1)),
      [[nft.EXPR_MATCH, nft.SELECT_CT_STATE, nft.COMPARE_EQUAL, 1, 0]],
    ],
    [
      'tcp flags syn / fin,syn',
      4,
      match({ kind: 'bitwise', operator: 'and', left: payload('tcp flags'), right: number(3) }, '==', number(2)),
      [
        [nft.EXPR_MATCH, nft.SELECT_L4PROTO, nft.COMPARE_EQUAL, ALL, 6],
        [nft.EXPR_MATCH, nft.payloadSelector(nft.PAYLOAD_TRANSPORT, 13, 1), nft.COMPARE_EQUAL, 3, 2],
      ],
    ],
    [
      'icmpv6 type 128',
      6,
      match(payload('icmpv6 type'), '==', number(128)),
      [
        [nft.EXPR_MATCH, nft.SELECT_L4PROTO, nft.COMPARE_EQUAL, ALL, 58],
        [nft.EXPR_MATCH, nft.payloadSelector(nft.PAYLOAD_TRANSPORT, 0, 1), nft.COMPARE_EQUAL, ALL, 128],
      ],
    ],
    [
      'th dport 1-1023',
      4,
      match(payload('th dport'), '==', { kind: 'range', from: number(1), to: number(1023) }),
      [
        [nft.EXPR_LOAD, nft.SELECT_DPORT, 0],
        [nft.EXPR_RANGE, 0, 0, 1, 1023],
      ],
    ],
    [
      'meta mark set ct mark & 0xff',
      4,
      {
        kind: 'set',
        target: 'meta mark',
        value: {
          kind: 'bitwise',
          operator: 'and',
          left: { kind: 'ct', key: 'mark', direction: null },
          right: number(255),
        },
      },
      [
        [nft.EXPR_LOAD, nft.SELECT_CT_MARK, 0],
        [nft.EXPR_BITWISE, 0, 255, 0],
        [nft.EXPR_SET_MARK, 0],
      ],
    ],
    [
      'meta mark set meta mark | 0x4000',
      4,
      {
        kind: 'set',
        target: 'meta mark',
        value: { kind: 'bitwise', operator: 'or', left: meta('mark'), right: number(0x4000) },
      },
      [
        [nft.EXPR_LOAD, nft.SELECT_MARK, 0],
        [nft.EXPR_BITWISE, 0, ~0x4000, 0x4000],
        [nft.EXPR_SET_MARK, 0],
      ],
    ],
    [
      'dnat to 10.0.0.1-10.0.0.4:80-90 random',
      4,
      {
        kind: 'dnat',
        family: null,
        address: { kind: 'range', from: address('10.0.0.1'), to: address('10.0.0.4') },
        ports: { first: 80, last: 90 },
        flags: ['random'],
      },
      [
        [nft.EXPR_IMMEDIATE, 0, (10 << 24) | 1],
        [nft.EXPR_IMMEDIATE, 1, (10 << 24) | 4],
        [nft.EXPR_IMMEDIATE, 2, 80],
        [nft.EXPR_IMMEDIATE, 3, 90],
        [nft.EXPR_DNAT, 0, 1, 2, 3, nft.NAT_FLAG_RANDOM],
      ],
    ],
    [
      'redirect to :8080',
      4,
      { kind: 'redirect', flags: [], ports: { first: 8080, last: 8080 } },
      [
        [nft.EXPR_IMMEDIATE, 0, 8080],
        [nft.EXPR_REDIRECT, 0, 0, 0],
      ],
    ],
    [
      'reject with tcp reset',
      4,
      { kind: 'reject', with: { type: 'tcp-reset', code: 0 } },
      [
        [nft.EXPR_MATCH, nft.SELECT_L4PROTO, nft.COMPARE_EQUAL, ALL, 6],
        [nft.EXPR_REJECT, list.REJECT_TCP_RESET],
      ],
    ],
    [
      'reject with icmpx admin-prohibited',
      6,
      { kind: 'reject', with: { type: 'icmpx', code: 3 } },
      [[nft.EXPR_REJECT, list.REJECT_ADMIN_PROHIBITED]],
    ],
    ['counter', 4, { kind: 'counter' }, []],
    ['log', 4, { kind: 'log', text: 'log' }, []],
    ['notrack', 4, { kind: 'notrack' }, [[nft.EXPR_NOTRACK]]],
    [
      'fib saddr . iif oif missing',
      4,
      match({ kind: 'fib', by: ['saddr', 'iif'], result: 'oif' }, '==', number(0)),
      [[nft.EXPR_MATCH, nft.SELECT_FIB_SADDR_IIF_OIF, nft.COMPARE_EQUAL, ALL, 0]],
    ],
    [
      'iifname "veth*" by class',
      4,
      match(meta('iifname'), '==', { kind: 'name', name: 'veth*' }),
      [[nft.EXPR_MATCH, nft.SELECT_IIF_CLASS, nft.COMPARE_NOT_EQUAL, list.IFACE_POD, 0]],
    ],
    [
      'oifname != "lo" by class',
      4,
      match(meta('oifname'), '!=', { kind: 'name', name: 'lo' }),
      [[nft.EXPR_MATCH, nft.SELECT_OIF_CLASS, nft.COMPARE_EQUAL, list.IFACE_LOOPBACK, 0]],
    ],
  ])('%s', (_, family, statement, wanted) => {
    const { expressions, compiled } = encode(family, [statement, ACCEPT]);
    expect(expressions).toEqual([...wanted, ACCEPTED]);
    expect(compiled.unencodable).toEqual([]);
  });

  it('compare interfaces by number where names are known', () => {
    const of = (name: string, operator: '==' | '!=' = '=='): number[][] =>
      encode(4, [match(meta('iifname'), operator, { kind: 'name', name })], { interfaces: INTERFACES }).expressions;
    const loaded = [nft.EXPR_LOAD, nft.SELECT_IIF, 0];
    expect(of('eth0')).toEqual([loaded, [nft.EXPR_COMPARE, nft.COMPARE_EQUAL, 0, 1]]);
    expect(of('veth*', '!=')).toEqual([loaded, [nft.EXPR_RANGE, 1, 0, 2, 3]]);
    // No interface carries the name: a range that holds nothing.
    expect(of('wg0')).toEqual([loaded, [nft.EXPR_RANGE, 0, 0, 2, 1]]);
  });

  it('look up concatenated keys with the protocol that a port needs', () => {
    const key: NftExpression = { kind: 'concat', parts: [payload('ip saddr'), payload('tcp dport')] };
    const set = element({ kind: 'concat', parts: [prefix('10.0.0.0/8'), number(80)] });
    const { expressions, compiled } = encode(4, [match(key, '==', { kind: 'elements', elements: [set] })]);
    const [first, asked, second, lookup] = expressions;
    expect([first, asked, second]).toEqual([
      [nft.EXPR_LOAD, nft.SELECT_SADDR4, 0],
      [nft.EXPR_MATCH, nft.SELECT_L4PROTO, nft.COMPARE_EQUAL, ALL, 6],
      [nft.EXPR_LOAD, nft.SELECT_DPORT, 1],
    ]);
    expect(lookup!.slice(0, 1)).toEqual([nft.EXPR_LOOKUP]);
    const { sets } = compiled.rules;
    const start = -1 - lookup![1]!;
    expect(findNftElement(sets, start, Int32Array.from([(10 << 24) | 5, 80]), 0)).not.toBe(-1);
    expect(findNftElement(sets, start, Int32Array.from([(11 << 24) | 5, 80]), 0)).toBe(-1);
    expect(findNftElement(sets, start, Int32Array.from([(10 << 24) | 5, 81]), 0)).toBe(-1);
  });

  it('translate to what a map finds, address and port', () => {
    const elements = [element(number(0), { kind: 'concat', parts: [address('10.0.0.5'), number(80)] })];
    const statement: NftStatement = {
      kind: 'dnat',
      family: 'ip',
      address: {
        kind: 'lookup',
        key: { kind: 'numgen', mode: 'inc', modulus: 1, offset: 0 },
        map: { kind: 'elements', elements },
      },
      ports: null,
      flags: [],
    };
    const { expressions, compiled } = encode(4, [statement], { of: 'inet' });
    expect(expressions[0]).toEqual([nft.EXPR_INCREMENT, 1, 0, 0, 0]);
    expect(expressions[1]!.slice(0, 1).concat(expressions[1]!.slice(2))).toEqual([nft.EXPR_MAP, 0, 1]);
    expect(expressions[2]).toEqual([nft.EXPR_DNAT, 1, 1, 2, 2, 0]);
    expect(compiled.unencodable).toEqual([]);
    expect(encode(6, [statement], { of: 'inet' }).expressions).toEqual([NEVER]);
  });

  it('of the other family never hold, in tables of both', () => {
    const six = match(payload('ip6 saddr'), '==', address('::1'));
    expect(encode(4, [six, ACCEPT], { of: 'inet' }).expressions).toEqual([NEVER]);
    expect(encode(4, [{ kind: 'reject', with: { type: 'icmpv6', code: 4 } }], { of: 'inet' }).expressions).toEqual([
      NEVER,
    ]);
    expect(encode(4, [ACCEPT], { of: 'ip6' }).compiled.rules.chains).toBe(0);
  });

  it('that the engine cannot run never hold, and are named', () => {
    const mark: NftStatement = { kind: 'set', target: 'meta mark', value: number(1) };
    const odd = match({ kind: 'fib', by: ['daddr', 'oif'], result: 'type' }, '==', number(2));
    const { expressions, compiled } = encode(4, [mark, odd, ACCEPT]);
    expect(expressions).toEqual([NEVER]);
    expect(compiled.unencodable).toEqual([
      {
        table: 'ip t',
        chain: 'c',
        text: 'meta mark set 0x00000001 fib daddr . oif type local accept',
        why: 'the engine has no such field',
        sources: [],
      },
    ]);
    const unknown: NftStatement = { kind: 'unknown', text: 'xt match "foo"' };
    expect(encode(4, [unknown, ACCEPT]).expressions).toEqual([NEVER]);
    const lost = match(payload('ip saddr'), '==', { kind: 'named', name: 'nowhere' });
    expect(encode(4, [lost]).compiled.unencodable[0]!.why).toBe("the table has no set or map 'nowhere'");
  });

  it('hash the fields that jhash names as they lie in the registers', () => {
    const hash: NftExpression = {
      kind: 'hash',
      key: { kind: 'concat', parts: [payload('ip saddr'), payload('th dport')] },
      modulus: 4,
      seed: 7,
      offset: 1,
    };
    const { expressions } = encode(4, [match(hash, '==', number(1))]);
    expect(expressions[2]).toEqual([nft.EXPR_JHASH, 4, 1, 2, 1, 7, 8, 0, nft.HASH_NETWORK32, nft.HASH_NETWORK16]);
    expect(expressions[3]).toEqual([nft.EXPR_COMPARE, nft.COMPARE_EQUAL, 2, 1]);
  });

  it('keep named sets with prefixes, ranges and a catch-all', () => {
    const set: NftSet = {
      name: 'zones',
      key: ['ipv4_addr'],
      data: ['mark'],
      flags: ['interval'],
      timeoutSeconds: null,
      size: null,
      autoMerge: false,
      comment: null,
      elements: [
        element(prefix('10.0.0.0/8'), number(1)),
        element({ kind: 'range', from: address('192.168.0.5'), to: address('192.168.0.9') }, number(2)),
        element({ kind: 'any' }, number(3)),
      ],
      sources: [],
    };
    const { compiled } = encode(4, [ACCEPT], { sets: [set] });
    const { sets, setStarts } = compiled.rules;
    const found = (text: string): number => {
      const at = findNftElement(sets, setStarts[0]!, Int32Array.from([parseAddress(text)!.words[0]]), 0);
      return sets[at + 1]!;
    };
    expect(['10.200.0.1', '192.168.0.5', '192.168.0.9', '192.168.0.10'].map(found)).toEqual([1, 2, 2, 3]);
  });
});
