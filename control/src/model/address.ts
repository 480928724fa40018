/**
 * Text to addresses and prefixes, at the border between manifests and integers.
 *
 * An address is four host-order 32-bit words (int32); IPv4 is word 0 and the others are 0. Leading zeros are decimal, as
 * Kubernetes has always read them; an IPv4-mapped IPv6 address is the IPv4 address. Refused: zone ids (`fe80::1%eth0`),
 * IPv4 with fewer than four parts, hex and octal parts.
 */

import ipaddr from 'ipaddr.js';

export type Family = 4 | 6;
export type Words = readonly [number, number, number, number];

export interface Address {
  readonly family: Family;
  readonly words: Words;
  /** Canonical: dotted decimal, or RFC 5952. */
  readonly text: string;
}

export interface Prefix {
  readonly family: Family;
  /** The network's words: bits beyond the length are 0. */
  readonly words: Words;
  /** 0 … 32 or 0 … 128. */
  readonly length: number;
  /** Canonical: '10.0.0.0/8'. */
  readonly text: string;
  /** The text had bits set beyond its length ('10.0.0.7/24'). */
  readonly hostBits: boolean;
}

const DOTTED = /^\d{1,10}\.\d{1,10}\.\d{1,10}\.\d{1,10}$/;
const DOTTED_TAIL = /^(.*:)(\d{1,10}\.\d{1,10}\.\d{1,10}\.\d{1,10})$/;
/** The library's own test takes microseconds to refuse text such as a reference with a port. */
const COLON_HEX = /^[0-9a-f:]+$/i;

/** Reads an address, or answers null for text that is not one. */
export function parseAddress(text: string): Address | null {
  const words = text.includes(':') ? parseWords6(text) : parseWords4(text);
  if (words === null) return null;
  if (text.includes(':') && !isMapped(words)) return { family: 6, words, text: formatWords(6, words) };
  const v4: Words = text.includes(':') ? [words[3], 0, 0, 0] : words;
  return { family: 4, words: v4, text: formatWords(4, v4) };
}

/** Reads `address/length`, or answers null. Host bits are cleared and reported. */
export function parsePrefix(text: string): Prefix | null {
  const slash = text.indexOf('/');
  if (slash < 0) return null;
  const digits = text.slice(slash + 1);
  if (!/^\d{1,10}$/.test(digits)) return null;
  const address = parseAddress(text.slice(0, slash));
  if (address === null) return null;
  let length = Number(digits);
  // The length of a mapped prefix counts the 96 bits before the IPv4 address.
  if (address.family === 4 && text.includes(':')) {
    if (length < 96) return null;
    length -= 96;
  }
  if (length > (address.family === 4 ? 32 : 128)) return null;
  return makePrefix(address.family, address.words, length);
}

/** Reads an address (as a prefix of full length) or a prefix. */
export function parseAddressOrPrefix(text: string): Prefix | null {
  if (text.includes('/')) return parsePrefix(text);
  const address = parseAddress(text);
  if (address === null) return null;
  return makePrefix(address.family, address.words, address.family === 4 ? 32 : 128);
}

/** The prefix of `length` bits around an address. */
export function makePrefix(family: Family, words: Words, length: number): Prefix {
  const network: Words = [
    words[0] & wordMask(length, 0),
    words[1] & wordMask(length, 1),
    words[2] & wordMask(length, 2),
    words[3] & wordMask(length, 3),
  ];
  const hostBits =
    network[0] !== words[0] || network[1] !== words[1] || network[2] !== words[2] || network[3] !== words[3];
  return { family, words: network, length, text: `${formatWords(family, network)}/${length}`, hostBits };
}

/** True where the address lies inside the prefix (and is of its family). */
export function inPrefix(address: { readonly family: Family; readonly words: Words }, prefix: Prefix): boolean {
  if (address.family !== prefix.family) return false;
  for (let word = 0; word < 4; word++) {
    if (((address.words[word]! ^ prefix.words[word]!) & wordMask(prefix.length, word)) !== 0) return false;
  }
  return true;
}

/** True where two prefixes share an address. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  return a.length <= b.length ? inPrefix(b, a) : inPrefix(a, b);
}

/** Canonical text of an address: dotted decimal, or RFC 5952 (lower case, the longest run of zero groups cut). */
export function formatWords(family: Family, words: Words): string {
  if (family === 4) {
    const w = words[0];
    return `${w >>> 24}.${(w >>> 16) & 255}.${(w >>> 8) & 255}.${w & 255}`;
  }
  const groups: number[] = [];
  for (const word of words) groups.push(word >>> 16, word & 0xffff);
  let start = -1;
  let best = 1; // a single zero group is not cut
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > best) {
      best = run;
      start = i;
    }
    i += run;
  }
  const hex = groups.map((group) => group.toString(16));
  if (start < 0) return hex.join(':');
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + best).join(':')}`;
}

/** `ip:port`, with an IPv6 address in brackets. */
export function formatEndpoint(address: Address, port: number): string {
  return address.family === 4 ? `${address.text}:${port}` : `[${address.text}]:${port}`;
}

/** The words of `base` plus `offset`, modulo the family's address space. `offset` below 2^53. */
export function addToWords(family: Family, base: Words, offset: number): Words {
  if (family === 4) return [((base[0] >>> 0) + offset) | 0, 0, 0, 0];
  const out = [base[0], base[1], base[2], base[3]];
  let carry = offset;
  for (let word = 3; word >= 0 && carry > 0; word--) {
    const sum = (out[word]! >>> 0) + (carry % 0x1_0000_0000);
    carry = Math.floor(carry / 0x1_0000_0000) + (sum >= 0x1_0000_0000 ? 1 : 0);
    out[word] = sum | 0;
  }
  return [out[0]!, out[1]!, out[2]!, out[3]!];
}

function wordMask(length: number, word: number): number {
  const bits = length - word * 32;
  if (bits <= 0) return 0;
  return bits >= 32 ? -1 : -1 << (32 - bits);
}

function isMapped(words: Words): boolean {
  return words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
}

function parseWords4(text: string): Words | null {
  if (!DOTTED.test(text)) return null;
  // ipaddr.js reads a part with a leading zero as octal; Kubernetes reads it as decimal. Four decimal parts need no
  // library.
  let word = 0;
  for (const part of text.split('.')) {
    const value = Number(part);
    if (value > 255) return null;
    word = (word << 8) | value;
  }
  return [word, 0, 0, 0];
}

function parseWords6(text: string): Words | null {
  if (text.includes('%')) return null;
  let plain = text;
  const tail = DOTTED_TAIL.exec(text);
  if (tail !== null) {
    const v4 = parseWords4(tail[2]!);
    if (v4 === null) return null;
    plain = `${tail[1]}${(v4[0] >>> 16).toString(16)}:${(v4[0] & 0xffff).toString(16)}`;
  }
  if (!COLON_HEX.test(plain) || !ipaddr.IPv6.isValid(plain)) return null;
  const parts = ipaddr.IPv6.parse(plain).parts;
  const word = (i: number): number => (parts[i]! << 16) | parts[i + 1]!;
  return [word(0), word(2), word(4), word(6)];
}
