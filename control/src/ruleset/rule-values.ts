/**
 * Values of rules' options as numbers: addresses with masks, ranges, marks. What is not one is a `NotUnderstoodRule` that
 * names the text.
 */

import { type Address, type Family, formatWords, makePrefix, parseAddress, type Words } from '../model/address.ts';
import { NotUnderstoodRule } from './iptables-rule.ts';
import { parsePort, parseProtocol } from './port-names.ts';

export interface Range {
  readonly first: number;
  readonly last: number;
}

export interface MaskedAddress {
  readonly words: Words;
  readonly mask: Words;
}

/** `address` as words of the dump's family; an IPv4-mapped address in an ip6tables dump stays IPv6. */
export function readWords(text: string, family: Family): Words {
  const address = parseAddress(text);
  if (address?.family === family) return address.words;
  if (address !== null && family === 6 && text.includes(':')) return [0, 0, 0xffff, address.words[0]];
  throw new NotUnderstoodRule(text, `is not an IPv${family} address`);
}

export function readAddress(text: string, family: Family): Address {
  const words = readWords(text, family);
  return { family, words, text: formatWords(family, words) };
}

/** `address`, `address/length` or `address/mask`; bits outside the mask are cleared. */
export function readMasked(text: string, family: Family): MaskedAddress {
  const [host = '', length] = text.split('/', 2);
  const words = readWords(host, family);
  const bits = family === 4 ? 32 : 128;
  let mask: Words;
  if (length === undefined) mask = lengthMask(family, bits);
  else if (/^\d{1,3}$/.test(length)) {
    if (Number(length) > bits) throw new NotUnderstoodRule(text, `a prefix of IPv${family} has up to ${bits} bits`);
    mask = lengthMask(family, Number(length));
  } else mask = readWords(length, family);
  return {
    words: [words[0] & mask[0], words[1] & mask[1], words[2] & mask[2], words[3] & mask[3]],
    mask,
  };
}

function lengthMask(family: Family, length: number): Words {
  return makePrefix(family, [-1, -1, -1, -1], length).words;
}

/** The words that a family has: one or four. */
export function wordsOf(family: Family, words: Words): number[] {
  return family === 4 ? [words[0]] : [...words];
}

/** `a`, `a:b`, `:b`, `a:` (or with `-`), each a port or its name. */
export function readPorts(text: string, separator = ':'): Range {
  const at = text.indexOf(separator);
  const low = at < 0 ? text : text.slice(0, at);
  const high = at < 0 ? text : text.slice(at + separator.length);
  const first = low === '' && at >= 0 ? 0 : parsePort(low);
  const last = high === '' && at >= 0 ? 0xffff : parsePort(high);
  if (first === null || last === null) throw new NotUnderstoodRule(text, 'is not a port or a range of ports');
  if (first > last) throw new NotUnderstoodRule(text, 'is a range whose end comes before its beginning');
  return { first, last };
}

/** `a` or `a:b` of whole numbers; an end that is left out is 0 or `highest`. */
export function readRange(text: string, highest: number): Range {
  const [low = '', high] = text.split(':', 2);
  const first = low === '' ? 0 : readNumber(low, highest);
  if (high === undefined) return { first, last: first };
  const last = high === '' ? highest : readNumber(high, highest);
  if (first > last) throw new NotUnderstoodRule(text, 'is a range whose end comes before its beginning');
  return { first, last };
}

/** A whole number, decimal, octal with 0 in front or hexadecimal with 0x, as strtoul reads it. */
export function readNumber(text: string, highest: number): number {
  let value = Number.NaN;
  if (/^0[xX][0-9a-fA-F]{1,8}$/.test(text)) value = Number.parseInt(text, 16);
  else if (/^0[0-7]+$/.test(text)) value = Number.parseInt(text, 8);
  else if (/^\d{1,12}$/.test(text)) value = Number(text);
  if (!(value <= highest)) throw new NotUnderstoodRule(text, `is not a number from 0 to ${highest}`);
  return value;
}

/** `value` or `value/mask` of 32 bits as signed words. */
export function readMark(text: string): { value: number; mask: number; hasMask: boolean } {
  const [value = '', mask] = text.split('/', 2);
  return {
    value: readNumber(value, 0xffffffff) | 0,
    mask: mask === undefined ? -1 : readNumber(mask, 0xffffffff) | 0,
    hasMask: mask !== undefined,
  };
}

/** A protocol's number; 0 for all of them. */
export function readProtocol(text: string): number {
  const number = text === 'all' ? 0 : parseProtocol(text);
  if (number === null) throw new NotUnderstoodRule(text, 'is not a protocol');
  return number;
}

/** Names separated by commas, each one of a table, as the sum of their bits. */
export function readBits(text: string, bits: Readonly<Record<string, number>>, what: string): number {
  let sum = 0;
  for (const name of text.split(',')) {
    if (!Object.hasOwn(bits, name)) throw new NotUnderstoodRule(text, `'${name}' is not ${what} that flatpath knows`);
    sum |= bits[name]!;
  }
  return sum;
}
