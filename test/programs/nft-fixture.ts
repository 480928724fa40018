/**
 * nftables rulesets by hand, for tests: statements as small calls, chains and sets by name, and a datapath that runs them.
 * Rule ids count from 0 in the order of `chains`, element ids in the order of `sets`, anonymous ones last.
 */
import { type Datapath, MODE_NFTABLES } from '../../engine/src/programs/datapath.ts';
import { makeNftablesImage } from '../../engine/src/programs/nftables-image.ts';
import { createAffinity } from '../../engine/src/tables/affinity.ts';
import {
  anonymousSet,
  COMPARE_EQUAL,
  COMPARE_NOT_EQUAL,
  DYNAMIC_UPDATE,
  EXPR_BITWISE,
  EXPR_COMPARE,
  EXPR_DNAT,
  EXPR_DYNAMIC,
  EXPR_IMMEDIATE,
  EXPR_INCREMENT,
  EXPR_LOAD,
  EXPR_LOOKUP,
  EXPR_MASQUERADE,
  EXPR_MATCH,
  EXPR_RANDOM,
  EXPR_REJECT,
  EXPR_SET_MARK,
  EXPR_VERDICT,
  EXPR_VERDICT_MAP,
  NAT_FLAG_RANDOM_FULLY,
  NFT_ACCEPT,
  NFT_CONTINUE,
  NFT_DROP,
  NFT_GOTO,
  NFT_JUMP,
  NFT_RETURN,
  type NftRules,
  NftRulesBuilder,
  SELECT_CT_STATE,
  SELECT_DADDR4,
  SELECT_DADDR6,
  SELECT_DPORT,
  SELECT_L4PROTO,
  SELECT_MARK,
  SELECT_SADDR4,
  SELECT_SADDR6,
  selectorWords,
} from '../../engine/src/tables/nft-rules.ts';
import { type Address, isFour, words } from './addresses.ts';
import { buildDatapath, type DatapathOptions } from './fixture.ts';

export type Operand = number | { readonly chain: string } | { readonly set: string | SetSpec };

export interface Statement {
  readonly op: number;
  readonly operands: readonly Operand[];
}

export type NftRule = readonly Statement[];

export interface ElementSpec {
  /** Words of the lowest key; null for the catch-all element. */
  readonly first: readonly number[] | null;
  readonly last?: readonly number[];
  /** Data words, or a verdict and the chain that it names. */
  readonly value?: readonly number[];
  readonly verdict?: number;
  readonly chain?: string;
}

export interface SetSpec {
  readonly fields: readonly number[];
  /** 'verdict', or words of data; 0 for a set. */
  readonly data: number | 'verdict';
  readonly stamps?: number;
  readonly lifeMs?: number;
  readonly elements: readonly ElementSpec[];
}

export interface BaseSpec {
  readonly chain: string;
  readonly hook: number;
  readonly nat?: boolean;
  readonly priority?: number;
  readonly policy?: number;
}

export interface NftSpec {
  readonly sets?: Readonly<Record<string, SetSpec>>;
  readonly chains: Readonly<Record<string, readonly NftRule[]>>;
  readonly bases: readonly BaseSpec[];
}

function statement(op: number, ...operands: Operand[]): Statement {
  return { op, operands };
}

function maskWords(address: Address, bits: number): number[] {
  return (isFour(address) ? [0] : [0, 1, 2, 3]).map((i) => {
    const left = bits - 32 * i;
    return left <= 0 ? 0 : left >= 32 ? -1 : -1 << (32 - left);
  });
}

export function addressWords(address: Address): number[] {
  return isFour(address) ? [words(address)[0]] : [...words(address)];
}

/** Loads, masks and compares an address. */
function addressMatch(four: number, six: number, address: Address, bits: number, comparison: number): Statement[] {
  const mask = maskWords(address, bits);
  const value = addressWords(address).map((word, i) => word & mask[i]!);
  if (isFour(address)) return [statement(EXPR_MATCH, four, comparison, mask[0]!, value[0]!)];
  return [
    statement(EXPR_LOAD, six, 0),
    statement(EXPR_BITWISE, 0, ...mask.flatMap((word) => [word, 0])),
    statement(EXPR_COMPARE, comparison, 0, ...value),
  ];
}

const full = (address: Address) => (isFour(address) ? 32 : 128);
export const saddr = (address: Address, bits = full(address)) =>
  addressMatch(SELECT_SADDR4, SELECT_SADDR6, address, bits, COMPARE_EQUAL);
export const notSaddr = (address: Address, bits = full(address)) =>
  addressMatch(SELECT_SADDR4, SELECT_SADDR6, address, bits, COMPARE_NOT_EQUAL);
export const daddr = (address: Address, bits = full(address)) =>
  addressMatch(SELECT_DADDR4, SELECT_DADDR6, address, bits, COMPARE_EQUAL);

export const match = (selector: number, comparison: number, mask: number, value: number) =>
  statement(EXPR_MATCH, selector, comparison, mask, value);
export const l4proto = (number: number) => match(SELECT_L4PROTO, COMPARE_EQUAL, -1, number);
export const dport = (number: number) => match(SELECT_DPORT, COMPARE_EQUAL, -1, number);
export const ctState = (bits: number) => match(SELECT_CT_STATE, COMPARE_NOT_EQUAL, bits, 0);
export const markHas = (bits: number) => match(SELECT_MARK, COMPARE_EQUAL, bits, bits);
export const markLacks = (bits: number) => match(SELECT_MARK, COMPARE_EQUAL, bits, 0);

/** Loads fields side by side from register 0 on. */
export function load(...selectors: number[]): Statement[] {
  let at = 0;
  return selectors.map((selector) => {
    const loaded = statement(EXPR_LOAD, selector, at);
    at += selectorWords(selector);
    return loaded;
  });
}

export const immediate = (register: number, ...data: number[]) => statement(EXPR_IMMEDIATE, register, ...data);
export const lookup = (set: string | SetSpec, inverted = false) => statement(EXPR_LOOKUP, { set }, 0, inverted ? 1 : 0);
export const vmap = (set: string | SetSpec) => statement(EXPR_VERDICT_MAP, { set }, 0);
export const update = (set: string, lifeMs = -1, how = DYNAMIC_UPDATE) =>
  statement(EXPR_DYNAMIC, how, { set }, 0, lifeMs);
export const random = (modulus: number, offset = 0) => statement(EXPR_RANDOM, modulus, offset, 0);
export const increment = (modulus: number, counter: number, offset = 0) =>
  statement(EXPR_INCREMENT, modulus, offset, 0, counter);
export const verdict = (code: number) => statement(EXPR_VERDICT, code, -1);
export const accept = verdict(NFT_ACCEPT);
export const drop = verdict(NFT_DROP);
export const back = verdict(NFT_RETURN);
export const goOn = verdict(NFT_CONTINUE);
export const jump = (chain: string) => statement(EXPR_VERDICT, NFT_JUMP, { chain });
export const goto = (chain: string) => statement(EXPR_VERDICT, NFT_GOTO, { chain });
export const reject = (kind: number) => statement(EXPR_REJECT, kind);
/** mark = (mark & mask) ^ xor */
export const setMark = (mask: number, xor: number): Statement[] => [
  statement(EXPR_LOAD, SELECT_MARK, 0),
  statement(EXPR_BITWISE, 0, mask, xor),
  statement(EXPR_SET_MARK, 0),
];
export const orMark = (bits: number) => setMark(~bits, bits);
export const xorMark = (bits: number) => setMark(-1, bits);
export const masquerade = (flags = NAT_FLAG_RANDOM_FULLY) => statement(EXPR_MASQUERADE, -1, -1, flags);
export const dnat = (to: Address, port: number): Statement[] => [
  immediate(0, ...addressWords(to)),
  immediate(4, port),
  statement(EXPR_DNAT, 0, 0, 4, 4, 0),
];

/** `numgen random mod N vmap { 0 : goto …, 1 : goto … }`. */
export const balance = (...chains: string[]): Statement[] => [
  random(chains.length),
  vmap({
    fields: [1],
    data: 'verdict',
    elements: chains.map((chain, i) => ({ first: [i], verdict: NFT_GOTO, chain })),
  }),
];

/** The rules of `nodes` equal nodes. */
export function nftRules(nodes: number, spec: NftSpec): NftRules {
  const builder = new NftRulesBuilder();
  const chains = Object.keys(spec.chains);
  const named = Object.entries(spec.sets ?? {});
  let elementId = 0;
  let setId = 0;
  const write = (set: SetSpec) =>
    builder.set(
      {
        id: setId++,
        fields: set.fields,
        valueWords: set.data === 'verdict' ? 2 : set.data,
        stamps: set.stamps ?? -1,
        lifeMs: set.lifeMs ?? 0,
      },
      set.elements.map((element) => ({
        id: elementId++,
        first: element.first,
        last: element.last ?? null,
        value:
          element.verdict === undefined
            ? (element.value ?? [])
            : [element.verdict, element.chain === undefined ? -1 : chains.indexOf(element.chain)],
      })),
    );
  const sets = named.flatMap(([, set], i) => [i, write(set)]);
  const resolve = (operand: Operand): number => {
    if (typeof operand === 'number') return operand;
    if ('chain' in operand) return chains.indexOf(operand.chain);
    const { set } = operand;
    return typeof set === 'string' ? named.findIndex(([name]) => name === set) : anonymousSet(write(set));
  };
  let ruleId = 0;
  const bodies = chains.flatMap((name, id) => {
    const start = builder.beginBody();
    for (const rule of spec.chains[name]!) {
      builder.rule(ruleId++);
      for (const { op, operands } of rule) builder.expression(op, operands.map(resolve));
    }
    builder.endBody();
    return [id, start];
  });
  const bases = spec.bases.map(({ chain, hook, nat = false, priority = 0, policy = NFT_ACCEPT }) => ({
    chain: chains.indexOf(chain),
    hook,
    nat,
    priority,
    policy,
  }));
  for (let node = 0; node < nodes; node++) builder.node(node, bodies, sets, bases);
  return builder.build(nodes, chains.length, named.length);
}

const EMPTY: NftSpec = { chains: {}, bases: [] };

/** The datapath of fixture.ts in the nftables mode. */
export function buildNftDatapath(
  four: NftSpec = EMPTY,
  six: NftSpec = EMPTY,
  options: Omit<DatapathOptions, 'rules4' | 'rules6'> = {},
): Datapath {
  const dp = buildDatapath(options);
  const { rules4: _, rules6: __, recentLists: ___, ...settings } = dp.iptables!;
  return {
    ...dp,
    mode: MODE_NFTABLES,
    iptables: null,
    nftables: makeNftablesImage(nftRules(2, four), nftRules(2, six), settings),
    affinity: createAffinity(256, options.shards ?? 1, 64, 0, 0),
  };
}
