/**
 * The words of one rule as what they say: the header's options, the matches in their order with the options of each, and
 * the target. `!` may stand before an option or, as older tools print it, before its value.
 *
 * Refused (`NotUnderstoodRule`): a match or target whose options nobody here knows, an option that belongs to no module
 * of the rule, a value that is missing.
 */

import { CORE_OPTIONS, MATCH_OPTIONS, type OptionTable, TARGET_OPTIONS } from './iptables-options.ts';

/** An option that was given, under its first name, and the words behind it. */
export interface Given {
  readonly option: string;
  readonly invert: boolean;
  readonly values: readonly string[];
}

export interface GivenModule {
  readonly name: string;
  readonly options: Given[];
}

export interface GivenTarget extends GivenModule {
  /** `-g`: the walk does not come back. */
  readonly isGoto: boolean;
}

export interface GivenRule {
  /** source, destination, in, out, protocol, fragment; each at most once in what iptables-save prints. */
  readonly header: readonly Given[];
  readonly matches: readonly GivenModule[];
  readonly target: GivenTarget | null;
}

/** True where an option was given. */
export function hasOption(options: readonly Given[], option: string): boolean {
  return options.some((given) => given.option === option);
}

/** The first value of an option, null where it was not given. */
export function optionValue(options: readonly Given[], option: string): string | null {
  return options.find((given) => given.option === option)?.values[0] ?? null;
}

/** A rule that cannot be taken as it stands; `part` is the word it fails at. */
export class NotUnderstoodRule extends Error {
  readonly part: string;

  constructor(part: string, message: string) {
    super(message);
    this.name = 'NotUnderstoodRule';
    this.part = part;
  }
}

/** @param isChain true for the name of a chain of the rule's table, which a jump may lead to */
export function readRule(words: readonly string[], isChain: (name: string) => boolean): GivenRule {
  return new RuleReader(words, isChain).read();
}

class RuleReader {
  private readonly words: readonly string[];
  private readonly isChain: (name: string) => boolean;
  private readonly header: Given[] = [];
  private readonly matches: GivenModule[] = [];
  private target: GivenTarget | null = null;
  private at = 0;

  constructor(words: readonly string[], isChain: (name: string) => boolean) {
    this.words = words;
    this.isChain = isChain;
  }

  read(): GivenRule {
    while (this.at < this.words.length) this.readOption();
    return { header: this.header, matches: this.matches, target: this.target };
  }

  private readOption(): void {
    let invert = false;
    let word = this.take('');
    if (word === '!') {
      invert = true;
      word = this.take('!');
    }
    const core = Object.hasOwn(CORE_OPTIONS, word) ? CORE_OPTIONS[word] : undefined;
    if (core !== undefined) {
      this.header.push(this.readValues(core, word, 1, invert));
      return;
    }
    switch (word) {
      case '-f':
      case '--fragment':
        this.header.push({ option: 'fragment', invert, values: [] });
        return;
      case '-m':
      case '--match':
        this.addMatch(this.take(word));
        return;
      case '-j':
      case '--jump':
      case '-g':
      case '--goto':
        this.setTarget(this.take(word), word === '-g' || word === '--goto');
        return;
      case '-c':
      case '--set-counters':
        this.take(word);
        this.take(word);
        return;
    }
    this.readModuleOption(word, invert);
  }

  private addMatch(name: string): void {
    if (!Object.hasOwn(MATCH_OPTIONS, name)) {
      throw new NotUnderstoodRule(`-m ${name}`, 'flatpath does not know this match');
    }
    this.matches.push({ name, options: [] });
  }

  private setTarget(name: string, isGoto: boolean): void {
    if (this.target !== null) throw new NotUnderstoodRule(`-j ${name}`, 'a rule has one target');
    if (!Object.hasOwn(TARGET_OPTIONS, name) && !this.isChain(name)) {
      throw new NotUnderstoodRule(`-j ${name}`, 'neither a target that flatpath knows nor a chain of this table');
    }
    this.target = { name, options: [], isGoto };
  }

  /** An option of the target, of a match, or of the match that the protocol brings along. */
  private readModuleOption(word: string, invert: boolean): void {
    const option = word.replace(/^--?/, '');
    if (!word.startsWith('-')) throw new NotUnderstoodRule(word, 'an option was expected here');
    if (this.target !== null && Object.hasOwn(TARGET_OPTIONS, this.target.name)) {
      const found = findOption(TARGET_OPTIONS[this.target.name]!, option);
      if (found !== null) {
        this.target.options.push(this.readValues(found.option, word, found.values, invert));
        return;
      }
    }
    for (let i = this.matches.length - 1; i >= 0; i--) {
      const { name, options } = this.matches[i]!;
      const found = findOption(MATCH_OPTIONS[name]!, option);
      if (found === null) continue;
      options.push(this.readValues(found.option, word, found.values, invert));
      return;
    }
    const protocol = this.header.find(({ option: given }) => given === 'protocol')?.values[0] ?? '';
    const name = MODULE_OF_PROTOCOL[protocol];
    const found = name === undefined ? null : findOption(MATCH_OPTIONS[name]!, option);
    if (name === undefined || found === null) {
      throw new NotUnderstoodRule(word, 'flatpath does not know this option of the rule');
    }
    this.matches.push({ name, options: [this.readValues(found.option, word, found.values, invert)] });
  }

  private readValues(option: string, word: string, count: number, inverted: boolean): Given {
    let invert = inverted;
    if (count > 0 && this.words[this.at] === '!') {
      invert = true;
      this.at++;
    }
    const values: string[] = [];
    for (let i = 0; i < count; i++) values.push(this.take(word));
    return { option, invert, values };
  }

  private take(after: string): string {
    const word = this.words[this.at];
    if (word === undefined) throw new NotUnderstoodRule(after, 'lacks a value');
    this.at++;
    return word;
  }
}

/** Protocols whose module iptables loads without being asked. */
const MODULE_OF_PROTOCOL: Readonly<Record<string, string>> = {
  tcp: 'tcp',
  '6': 'tcp',
  udp: 'udp',
  '17': 'udp',
  sctp: 'sctp',
  '132': 'sctp',
  icmp: 'icmp',
  '1': 'icmp',
  icmpv6: 'icmp6',
  'ipv6-icmp': 'icmp6',
  '58': 'icmp6',
};

function findOption(table: OptionTable, name: string): { option: string; values: number } | null {
  const found = Object.hasOwn(table, name) ? table[name]! : null;
  if (found === null) return null;
  if (typeof found === 'number') return { option: name, values: found };
  return findOption(table, found);
}
