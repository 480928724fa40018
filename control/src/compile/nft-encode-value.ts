/**
 * Values, keys and verdicts of nftables as the words of the engine's rules and sets.
 */

import {
  HASH_NATIVE,
  HASH_NETWORK8,
  HASH_NETWORK16,
  HASH_NETWORK32,
  NFT_ACCEPT,
  NFT_CONTINUE,
  NFT_DROP,
  NFT_GOTO,
  NFT_JUMP,
  NFT_RETURN,
} from '@flatpath/engine/tables/nft-rules';
import { type Family, makePrefix, type Prefix, type Words } from '../model/address.ts';
import type { NftInterfaces } from './nft-fields.ts';
import type { NftDatatype, NftValue, NftVerdict } from './nft-ruleset.ts';

/** A rule that the engine cannot run. */
export class NftUnencodable extends Error {}

const VERDICTS: Readonly<Record<NftVerdict['kind'], number>> = {
  continue: NFT_CONTINUE,
  accept: NFT_ACCEPT,
  drop: NFT_DROP,
  return: NFT_RETURN,
  jump: NFT_JUMP,
  goto: NFT_GOTO,
};
const ALL_ONES: Words = [-1, -1, -1, -1];

/** Words of a value's number, address, or concatenation of them. */
export function valueWordsOf(value: NftValue): number[] {
  switch (value.kind) {
    case 'number':
      return [value.value];
    case 'address':
      return addressWords(value.address);
    case 'concat':
      return value.parts.flatMap(valueWordsOf);
    default:
      throw new NftUnencodable(`a ${value.kind} is no single value`);
  }
}

/** The verdict's number and its chain, -1 where it needs none. */
export function verdictWords(verdict: NftVerdict, chainId: (name: string) => number): [number, number] {
  const chain = verdict.kind === 'jump' || verdict.kind === 'goto' ? chainId(verdict.chain) : -1;
  return [VERDICTS[verdict.kind], chain];
}

/** Lowest and highest key that a value stands for, field by field; null for the catch-all. */
export function keyBounds(
  value: NftValue,
  interfaces: NftInterfaces | null,
): { first: number[]; last: number[] } | null {
  switch (value.kind) {
    case 'any':
      return null;
    case 'prefix': {
      const words = addressWords(value.prefix);
      const mask = maskWords(value.prefix);
      return { first: words, last: words.map((word, i) => word | ~mask[i]!) };
    }
    case 'range': {
      const from = keyBounds(value.from, interfaces);
      const to = keyBounds(value.to, interfaces);
      if (from === null || to === null) throw new NftUnencodable('a range has two ends');
      return { first: from.first, last: to.last };
    }
    case 'name': {
      if (interfaces === null) throw new NftUnencodable(`the interfaces that "${value.name}" names are not known`);
      const [first, last] = interfaces.range(value.name);
      // The engine keeps 0 for no interface.
      return { first: [first + 1], last: [last + 1] };
    }
    case 'concat': {
      const parts = value.parts.map((part) => keyBounds(part, interfaces));
      const first: number[] = [];
      const last: number[] = [];
      for (const part of parts) {
        if (part === null) throw new NftUnencodable('the catch-all element stands alone');
        first.push(...part.first);
        last.push(...part.last);
      }
      return { first, last };
    }
    default: {
      const words = valueWordsOf(value);
      return { first: words, last: words };
    }
  }
}

/** True for a verdict, as against a value of a map. */
export function isVerdict(value: NftVerdict | NftValue): value is NftVerdict {
  return value.kind in VERDICTS;
}

/** The words of a prefix's mask. */
export function maskWords({ family, length }: Prefix): Words {
  return makePrefix(family, ALL_ONES, length).words;
}

function addressWords({ family, words }: { readonly family: Family; readonly words: Words }): number[] {
  return family === 4 ? [words[0]] : [...words];
}

/** How the words of a field lie in the kernel's registers. */
export function hashWords(type: NftDatatype): number[] {
  switch (type) {
    case 'ipv4_addr':
      return [HASH_NETWORK32];
    case 'ipv6_addr':
      return [HASH_NETWORK32, HASH_NETWORK32, HASH_NETWORK32, HASH_NETWORK32];
    case 'inet_service':
    case 'ether_type':
      return [HASH_NETWORK16];
    case 'inet_proto':
    case 'icmp_type':
    case 'icmp_code':
    case 'icmpv6_type':
    case 'icmpv6_code':
    case 'tcp_flag':
    case 'nf_proto':
    case 'ct_dir':
    case 'pkt_type':
      return [HASH_NETWORK8];
    default:
      return [HASH_NATIVE];
  }
}

/** Bytes of a field of one word. */
export function hashBytes(kind: number): number {
  if (kind === HASH_NETWORK8) return 1;
  return kind === HASH_NETWORK16 ? 2 : 4;
}
