/**
 * Reads what `ipset save` prints, and so what `ipset restore` reads, into sets.
 *
 * Understood: the types that rules on a node ask (`IPSET_TYPES`), both families, `nomatch`; sizes, seeds, counters,
 * comments, marks and what is left of an element's life are read over: a dump is a moment. A set of another type, or with
 * an option that changes what it holds (`netmask`), is named as not understood: a rule that asks it never matches.
 * Text that is no list of sets is an `InputError` with every line that does not fit.
 */

import { InputError, type Problem } from '../cluster/problem.ts';
import {
  dimensionsOf,
  IPSET_TYPES,
  type Ipset,
  type IpsetElement,
  type IpsetPart,
  type IpsetType,
} from '../compile/ipset.ts';
import {
  type Family,
  formatWords,
  makePrefix,
  type Prefix,
  parseAddressOrPrefix,
  type Words,
} from '../model/address.ts';
import { type IcmpType, readIcmpType } from './icmp-names.ts';
import { NotUnderstoodRule } from './iptables-rule.ts';
import { dumpError, type NotUnderstood } from './not-understood.ts';
import { parsePort, parseProtocol } from './port-names.ts';

export interface ParsedIpsets {
  /** In the order of the dump. A bitmap:port holds no addresses: its family is 4 here and means nothing. */
  readonly sets: readonly Ipset[];
  readonly notUnderstood: readonly NotUnderstood[];
}

/** True for text that `ipset save` could have printed. */
export function isIpsetSave(text: string): boolean {
  return /^(?:create|add|-N|-A) \S+ \S+:?\S*/m.test(text) && /^(?:create|-N) /m.test(text);
}

/**
 * Reads a dump.
 * @param file its name, for messages and origins
 * @throws InputError with all errors if the text is no list of sets
 */
export function parseIpsetSave(file: string, text: string): ParsedIpsets {
  const reader = new IpsetReader(file);
  text.split('\n').forEach((line, i) => {
    reader.readLine(line.trim(), i + 1);
  });
  return reader.finish();
}

/** A line that does not fit, with what is wrong. */
class IpsetError extends Error {}

/** A part of the dump that flatpath does not understand. */
class IpsetUnclear extends Error {}

interface OpenSet extends Ipset {
  readonly elements: IpsetElement[];
}

/** Options of `create` that say nothing about what is in the set. */
const SKIPPED_CREATE: Readonly<Record<string, number>> = {
  hashsize: 1,
  maxelem: 1,
  bucketsize: 1,
  initval: 1,
  timeout: 1,
  size: 1,
  probes: 1,
  resize: 1,
  counters: 0,
  comment: 0,
  skbinfo: 0,
  forceadd: 0,
  '-exist': 0,
};
/** Options of `add` that say nothing about what is in the set. */
const SKIPPED_ADD: Readonly<Record<string, number>> = {
  timeout: 1,
  packets: 1,
  bytes: 1,
  skbmark: 1,
  skbprio: 1,
  skbqueue: 1,
  comment: 1,
  '-exist': 0,
};

class IpsetReader {
  private readonly file: string;
  private readonly sets = new Map<string, OpenSet>();
  /** Sets that are not understood: what is added to them goes with them. */
  private readonly unclear = new Set<string>();
  private readonly notUnderstood: NotUnderstood[] = [];
  private readonly errors: Problem[] = [];

  constructor(file: string) {
    this.file = file;
  }

  readLine(line: string, number: number): void {
    if (line === '' || line.startsWith('#') || line === 'COMMIT') return;
    const words = splitWords(line);
    try {
      this.readWords(words, number);
    } catch (error) {
      if (error instanceof IpsetError) this.errors.push(dumpError(this.file, number, error.message));
      else if (error instanceof IpsetUnclear) {
        const { file } = this;
        this.notUnderstood.push({ file, line: number, path: '', text: line, message: error.message });
        this.unclear.add(words[1]!);
        this.sets.delete(words[1]!);
      } else throw error;
    }
  }

  finish(): ParsedIpsets {
    if (this.errors.length > 0) throw new InputError(this.errors);
    return { sets: [...this.sets.values()], notUnderstood: this.notUnderstood };
  }

  private readWords(words: readonly string[], line: number): void {
    const [command, name] = words;
    if (name === undefined) throw new IpsetError(`'${command}' names no set`);
    switch (command) {
      case 'create':
      case '-N':
        this.create(name, words);
        return;
      case 'add':
      case '-A':
        this.add(name, words, line);
        return;
    }
    throw new IpsetError(`'${command}' is not what ipset save prints: create or add`);
  }

  private create(name: string, words: readonly string[]): void {
    const type = words[2] ?? '';
    if (this.sets.has(name) || this.unclear.has(name)) throw new IpsetError(`set '${name}' is created twice`);
    if (name.length > 31) throw new IpsetError(`'${name}' is longer than the 31 characters of a set's name`);
    if (!isIpsetType(type)) throw new IpsetUnclear(`flatpath does not know sets of type '${type}'`);
    let family: Family = 4;
    let range: Ipset['range'] = null;
    for (let i = 3; i < words.length; i++) {
      const option = words[i]!;
      if (option === 'family' || option === '-6') {
        const value = option === '-6' ? 'inet6' : words[++i];
        if (value !== 'inet' && value !== 'inet6') throw new IpsetError(`'${value}' is no family: inet or inet6`);
        family = value === 'inet' ? 4 : 6;
      } else if (option === 'range') range = readRange(words[++i] ?? '');
      else if (Object.hasOwn(SKIPPED_CREATE, option)) i += SKIPPED_CREATE[option]!;
      else throw new IpsetUnclear(`flatpath does not know the option '${option}' of a set`);
    }
    if (type === 'bitmap:port') range ??= { first: 0, last: 0xffff };
    this.sets.set(name, { name, type, family, range, elements: [] });
  }

  private add(name: string, words: readonly string[], line: number): void {
    if (this.unclear.has(name)) return;
    const set = this.sets.get(name);
    if (set === undefined) throw new IpsetError(`there is no set '${name}' to add to: its create line comes first`);
    let nomatch = false;
    for (let i = 3; i < words.length; i++) {
      const option = words[i]!;
      if (option === 'nomatch') nomatch = true;
      else if (Object.hasOwn(SKIPPED_ADD, option)) i += SKIPPED_ADD[option]!;
      else throw new IpsetUnclear(`flatpath does not know the option '${option}' of an element`);
    }
    const parts = readParts(set, words[2] ?? '');
    set.elements.push({ parts, nomatch, sources: [{ file: this.file, line }] });
  }
}

function isIpsetType(type: string): type is IpsetType {
  return IPSET_TYPES.some((known) => known === type);
}

/** Words between spaces; a word may stand in quotes, which are not part of it. */
function splitWords(line: string): string[] {
  return [...line.matchAll(/"([^"]*)"?|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
}

function readRange(text: string): { first: number; last: number } {
  const [first = '', last = first] = text.split('-', 2);
  const from = parsePort(first);
  const to = parsePort(last);
  if (from === null || to === null || to < from) throw new IpsetError(`'${text}' is no port and no range of ports`);
  return { first: from, last: to };
}

function readParts(set: Ipset, text: string): IpsetPart[] {
  const dimensions = dimensionsOf(set.type);
  const words = text.split(',');
  if (words.length !== dimensions.length) {
    throw new IpsetError(`'${text}' has not the ${dimensions.length} parts of ${set.type}`);
  }
  return words.map((word, i) => {
    if (dimensions[i] === 'port') return readPortPart(set, word);
    return { kind: 'prefix', prefix: readPrefix(set.family, word) };
  });
}

function readPrefix(family: Family, text: string): Prefix {
  const prefix = parseAddressOrPrefix(text);
  const isMapped = prefix?.family === 4 && family === 6 && text.includes(':');
  if (prefix === null || (prefix.family !== family && !isMapped)) {
    throw new IpsetError(`'${text}' is no IPv${family} address or network`);
  }
  if (prefix.length === 0) throw new IpsetError(`'${text}' is a network of length 0, which no set can hold`);
  if (prefix.family === family) return prefix;
  // An IPv4-mapped address in a set of IPv6 addresses.
  const words: Words = [0, 0, 0xffff, prefix.words[0]];
  const mapped = makePrefix(6, words, prefix.length + 96);
  return { ...mapped, text: `${formatWords(6, mapped.words)}/${mapped.length}` };
}

/** `tcp:80`, `udp:53-60`, `icmp:echo-request`, `47:0`; without a protocol TCP's, and in bitmap:port no protocol's. */
function readPortPart(set: Ipset, text: string): IpsetPart {
  const colon = text.indexOf(':');
  const isBitmap = set.type === 'bitmap:port';
  const protocol = colon < 0 ? 6 : parseProtocol(text.slice(0, colon));
  if (protocol === null) throw new IpsetError(`'${text.slice(0, colon)}' is no protocol`);
  const ports = text.slice(colon + 1);
  if (protocol === 1 || protocol === 58) {
    const value = readIcmp(protocol, ports);
    return { kind: 'port', protocol, first: value, last: value };
  }
  return { kind: 'port', protocol: isBitmap ? null : protocol, ...readRange(ports) };
}

/** Type and code of an ICMP message, as the kernel packs them into a port: `echo-request`, `8/0`. */
function readIcmp(protocol: number, text: string): number {
  let known: IcmpType | null = null;
  try {
    known = readIcmpType(text, protocol === 1 ? 4 : 6);
  } catch (error) {
    if (!(error instanceof NotUnderstoodRule)) throw error;
  }
  if (known === null) throw new IpsetError(`'${text}' is no ICMP type: a name, or type/code`);
  // A set holds one code; the name of a type alone stands for code 0.
  return (known.type << 8) | known.first;
}
