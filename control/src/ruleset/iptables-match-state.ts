/**
 * The matches of a dump's rule on what the node remembers or is: connections, marks of connections, `recent` lists,
 * statistics, types of addresses, sets, bridges; and those that nothing here can tell, which are taken to be so and named.
 */

import {
  ADDRTYPE_ANYCAST,
  ADDRTYPE_BLACKHOLE,
  ADDRTYPE_BROADCAST,
  ADDRTYPE_LOCAL,
  ADDRTYPE_MULTICAST,
  ADDRTYPE_PROHIBIT,
  ADDRTYPE_UNICAST,
  ADDRTYPE_UNREACHABLE,
  ADDRTYPE_UNSPEC,
  CTSTATE_DNAT,
  CTSTATE_ESTABLISHED,
  CTSTATE_INVALID,
  CTSTATE_NEW,
  CTSTATE_RELATED,
  CTSTATE_SNAT,
  CTSTATE_UNTRACKED,
  CTSTATUS_ASSURED,
  CTSTATUS_CONFIRMED,
  CTSTATUS_EXPECTED,
  CTSTATUS_SEEN_REPLY,
  MATCH_CONNMARK,
  MATCH_CTADDR4,
  MATCH_CTADDR6,
  MATCH_CTDIR,
  MATCH_CTEXPIRE,
  MATCH_CTPORT,
  MATCH_CTPROTO,
  MATCH_CTSTATE,
  MATCH_CTSTATUS,
  MATCH_DST_TYPE,
  MATCH_NTH,
  MATCH_PHYSDEV,
  MATCH_PROCESS,
  MATCH_RECENT_LIST,
  MATCH_RPFILTER,
  MATCH_SRC_TYPE,
  MATCH_STATISTIC,
  MATCH_TYPE_ON,
  PHYSDEV_IS_BRIDGED,
  PHYSDEV_IS_IN,
  PHYSDEV_IS_OUT,
  RECENT_CHECK,
  RECENT_DST,
  RECENT_REAP,
  RECENT_REMOVE,
  RECENT_SET,
  RECENT_TTL,
  RECENT_UPDATE,
  RPFILTER_ACCEPT_LOCAL,
  RPFILTER_LOOSE,
  TUPLE_ORIG_DST,
  TUPLE_ORIG_SRC,
  TUPLE_REPL_DST,
  TUPLE_REPL_SRC,
  TYPE_DST_IN,
  TYPE_DST_OUT,
  TYPE_SRC_IN,
  TYPE_SRC_OUT,
} from '@flatpath/engine/tables/rule-list';
import type { Match } from '../compile/iptables-rules.ts';
import type { Words } from '../model/address.ts';
import { type Given, type GivenModule, hasOption, NotUnderstoodRule, optionValue } from './iptables-rule.ts';
import { constant, encoded, type ListUse, type RuleContext, requirePlace } from './rule-context.ts';
import {
  readAddress,
  readBits,
  readMark,
  readMasked,
  readNumber,
  readPorts,
  readProtocol,
  readRange,
  readWords,
  wordsOf,
} from './rule-values.ts';

/** The matches of a module that `packetMatches` leaves. */
export function stateMatches(module: GivenModule, context: RuleContext): Match[] {
  const { name, options } = module;
  switch (name) {
    case 'conntrack':
      return connectionMatches(options, context);
    case 'state':
      return options.map(({ invert, values: [text = ''] }) => stateMatch(text, invert));
    case 'connmark':
      return options.map(({ invert, values: [text = ''] }) => {
        const { value, mask } = readMark(text);
        return encoded(MATCH_CONNMARK, invert, [value, mask]);
      });
    case 'addrtype':
      return typeMatches(options, context);
    case 'statistic':
      return statisticMatches(options, context);
    case 'recent':
      return [recentMatch(options, context)];
    case 'set':
      return setMatches(options, context);
    case 'physdev':
      return options.flatMap((given) => bridgeMatches(given, context));
    case 'rpfilter':
      return reversePathMatches(options, context);
    case 'ipvs':
      return ipvsMatches(options, context);
    default:
      return assumedMatches(module, context);
  }
}

// ---- connections --------------------------------------------------------------------------------------------------

const STATES: Readonly<Record<string, number>> = {
  INVALID: CTSTATE_INVALID,
  NEW: CTSTATE_NEW,
  ESTABLISHED: CTSTATE_ESTABLISHED,
  RELATED: CTSTATE_RELATED,
  UNTRACKED: CTSTATE_UNTRACKED,
  SNAT: CTSTATE_SNAT,
  DNAT: CTSTATE_DNAT,
};

const STATUSES: Readonly<Record<string, number>> = {
  NONE: 0,
  EXPECTED: CTSTATUS_EXPECTED,
  SEEN_REPLY: CTSTATUS_SEEN_REPLY,
  ASSURED: CTSTATUS_ASSURED,
  CONFIRMED: CTSTATUS_CONFIRMED,
};

const TUPLES: Readonly<Record<string, number>> = {
  ctorigsrc: TUPLE_ORIG_SRC,
  ctorigdst: TUPLE_ORIG_DST,
  ctreplsrc: TUPLE_REPL_SRC,
  ctrepldst: TUPLE_REPL_DST,
};

const CONNECTION_OPTIONS = [
  'ctdir',
  'ctorigsrc',
  'ctorigdst',
  'ctreplsrc',
  'ctrepldst',
  'ctproto',
  'ctorigsrcport',
  'ctorigdstport',
  'ctreplsrcport',
  'ctrepldstport',
  'ctstatus',
  'ctexpire',
] as const;

function stateMatch(text: string, invert: boolean): Match {
  return encoded(MATCH_CTSTATE, invert, [readBits(text.toUpperCase(), STATES, 'a state')]);
}

/**
 * The state comes first. Without one nothing of `-m conntrack` holds for a packet that has no connection, which the
 * engine is told by a state of its own.
 */
function connectionMatches(options: readonly Given[], context: RuleContext): Match[] {
  const states = options.filter(({ option }) => option === 'ctstate');
  // In the kernel's order, whatever way they were written.
  const others = CONNECTION_OPTIONS.flatMap((option) => options.filter((given) => given.option === option));
  const first =
    states.length > 0 || others.length === 0
      ? states.map(({ invert, values: [text = ''] }) => stateMatch(text, invert))
      : [encoded(MATCH_CTSTATE, true, [CTSTATE_INVALID | CTSTATE_UNTRACKED])];
  return [...first, ...others.map((given) => connectionMatch(given, context))];
}

function connectionMatch({ option, invert, values: [text = ''] }: Given, { family }: RuleContext): Match {
  switch (option) {
    case 'ctstatus':
      return encoded(MATCH_CTSTATUS, invert, [readBits(text.toUpperCase(), STATUSES, 'a status')]);
    case 'ctdir': {
      if (text !== 'ORIGINAL' && text !== 'REPLY') throw new NotUnderstoodRule(text, 'is not ORIGINAL or REPLY');
      return encoded(MATCH_CTDIR, invert, [text === 'REPLY' ? 1 : 0]);
    }
    case 'ctproto':
      return encoded(MATCH_CTPROTO, invert, [readProtocol(text)]);
    case 'ctexpire': {
      const { first, last } = readRange(text, 0x7fffffff);
      return encoded(MATCH_CTEXPIRE, invert, [first, last]);
    }
  }
  const tuple = TUPLES[option.replace(/port$/, '')]!;
  if (option.endsWith('port')) {
    const { first, last } = readPorts(text);
    return encoded(MATCH_CTPORT, invert, [tuple, first, last]);
  }
  const { words, mask } = readMasked(text, family);
  const op = family === 4 ? MATCH_CTADDR4 : MATCH_CTADDR6;
  return encoded(op, invert, [tuple, ...wordsOf(family, words), ...wordsOf(family, mask)]);
}

// ---- types of addresses ---------------------------------------------------------------------------------------------

const TYPES: Readonly<Record<string, number>> = {
  UNSPEC: ADDRTYPE_UNSPEC,
  UNICAST: ADDRTYPE_UNICAST,
  LOCAL: ADDRTYPE_LOCAL,
  BROADCAST: ADDRTYPE_BROADCAST,
  ANYCAST: ADDRTYPE_ANYCAST,
  MULTICAST: ADDRTYPE_MULTICAST,
  BLACKHOLE: ADDRTYPE_BLACKHOLE,
  UNREACHABLE: ADDRTYPE_UNREACHABLE,
  PROHIBIT: ADDRTYPE_PROHIBIT,
};

function typeMatches(options: readonly Given[], context: RuleContext): Match[] {
  const onIn = hasOption(options, 'limit-iface-in');
  const onOut = hasOption(options, 'limit-iface-out');
  const matches: Match[] = [];
  for (const { option, invert, values } of options) {
    const text = values[0] ?? '';
    if (option !== 'src-type' && option !== 'dst-type') continue;
    requirePlace(context, `--${option} ${text}`);
    const types = readBits(text.toUpperCase(), TYPES, 'a type of addresses');
    const source = option === 'src-type';
    if (!onIn && !onOut) {
      matches.push(encoded(source ? MATCH_SRC_TYPE : MATCH_DST_TYPE, invert, [types]));
      continue;
    }
    if (context.place.kind !== 'interfaces') {
      throw new NotUnderstoodRule(
        `--limit-iface-${onIn ? 'in' : 'out'}`,
        'manifests do not tell which interface holds an address: give --addresses (ip -j addr, ip -j route)',
      );
    }
    const which = source ? (onIn ? TYPE_SRC_IN : TYPE_SRC_OUT) : onIn ? TYPE_DST_IN : TYPE_DST_OUT;
    matches.push(encoded(MATCH_TYPE_ON, invert, [types, which]));
  }
  return matches;
}

function reversePathMatches(options: readonly Given[], context: RuleContext): Match[] {
  requirePlace(context, '-m rpfilter');
  const flags =
    (hasOption(options, 'loose') ? RPFILTER_LOOSE : 0) |
    (hasOption(options, 'accept-local') ? RPFILTER_ACCEPT_LOCAL : 0);
  return [encoded(MATCH_RPFILTER, hasOption(options, 'invert'), [flags])];
}

const BRIDGE_SIDES: Readonly<Record<string, number>> = {
  'physdev-is-in': PHYSDEV_IS_IN,
  'physdev-is-out': PHYSDEV_IS_OUT,
  'physdev-is-bridged': PHYSDEV_IS_BRIDGED,
};

function bridgeMatches({ option, invert, values: [text = ''] }: Given, context: RuleContext): Match[] {
  const side = BRIDGE_SIDES[option];
  if (side === undefined) {
    throw new NotUnderstoodRule(`--${option} ${text}`, 'which port of a bridge a packet takes is not known here');
  }
  requirePlace(context, `--${option}`);
  // Nodes of manifests have no bridge that netfilter would see.
  if (context.place.kind === 'cluster') return constant(invert);
  return [encoded(MATCH_PHYSDEV, invert, [side])];
}

// ---- memory and chance ----------------------------------------------------------------------------------------------

function statisticMatches(options: readonly Given[], context: RuleContext): Match[] {
  const mode = optionValue(options, 'mode');
  if (mode === 'random') {
    const given = options.find(({ option }) => option === 'probability');
    const text = given?.values[0] ?? '';
    const probability = Number(text);
    if (!/^\d*\.?\d+$/.test(text) || probability > 1)
      throw new NotUnderstoodRule(text, 'is not a probability (0 to 1)');
    const threshold = Math.round(probability * 2 ** 31);
    if (!given!.invert) return [{ kind: 'statistic', threshold }];
    return [encoded(MATCH_STATISTIC, true, [threshold | 0])];
  }
  if (mode !== 'nth') throw new NotUnderstoodRule(`--mode ${mode ?? ''}`, 'is not random or nth');
  const given = options.find(({ option }) => option === 'every');
  const every = readNumber(given?.values[0] ?? '', 0x7fffffff);
  if (every === 0) throw new NotUnderstoodRule('--every 0', 'is no count of packets');
  const packet = readNumber(optionValue(options, 'packet') ?? '0', every - 1);
  return [
    {
      kind: 'encoded',
      op: MATCH_NTH,
      invert: given!.invert,
      operands: [every, packet],
      list: { name: `statistic of ${context.ruleName}`, ids: 1 },
    },
  ];
}

const MOST_HITS = 255;

/** What rules of a dump do with one `recent` list, taken together. */
export function noteListUse(lists: Map<string, ListUse>, options: readonly Given[]): void {
  const name = optionValue(options, 'name') ?? 'DEFAULT';
  const known = lists.get(name) ?? { plain: true, stamps: 1, mask: optionValue(options, 'mask') };
  const hits = Number(optionValue(options, 'hitcount') ?? '1');
  let stamps = known.stamps;
  while (stamps < Math.min(hits, MOST_HITS)) stamps *= 2;
  lists.set(name, { plain: known.plain && isPlain(options) && isFullMask(known.mask), stamps, mask: known.mask });
}

/** Options that kube-proxy's two forms do not have. */
const FURTHER_RECENT = ['rdest', 'hitcount', 'rttl', 'update', 'remove'] as const;

function isPlain(options: readonly Given[]): boolean {
  if (options.some(({ invert }) => invert)) return false;
  if (FURTHER_RECENT.some((option) => hasOption(options, option))) return false;
  if (hasOption(options, 'set')) return !hasOption(options, 'rcheck');
  const seconds = Number(optionValue(options, 'seconds') ?? '0');
  return hasOption(options, 'rcheck') && hasOption(options, 'reap') && seconds > 0;
}

function isFullMask(mask: string | null): boolean {
  return (
    mask === null || mask === '255.255.255.255' || mask.toLowerCase() === 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'
  );
}

function recentMatch(options: readonly Given[], context: RuleContext): Match {
  const name = optionValue(options, 'name') ?? 'DEFAULT';
  const use = context.lists.get(name) ?? { plain: false, stamps: 1, mask: null };
  const seconds = readNumber(optionValue(options, 'seconds') ?? '0', 0x1fffff);
  if (use.plain) return { kind: 'recent', list: name, seconds: hasOption(options, 'set') ? 0 : seconds };
  const hits = readNumber(optionValue(options, 'hitcount') ?? '0', MOST_HITS);
  const action = RECENT_ACTIONS.filter(([option]) => hasOption(options, option));
  if (action.length !== 1) throw new NotUnderstoodRule('-m recent', 'has one of --set, --rcheck, --update, --remove');
  let flags = action[0]![1];
  if (hasOption(options, 'reap')) flags |= RECENT_REAP;
  if (hasOption(options, 'rdest')) flags |= RECENT_DST;
  if (hasOption(options, 'rttl')) flags |= RECENT_TTL;
  const mask: Words = isFullMask(use.mask) ? [-1, -1, -1, -1] : readWords(use.mask!, context.family);
  return {
    kind: 'encoded',
    op: MATCH_RECENT_LIST,
    invert: options.some(({ option, invert }) => invert && option === action[0]![0]),
    operands: [flags, seconds, hits, use.stamps, ...mask],
    list: { name, ids: 1 + use.stamps },
  };
}

const RECENT_ACTIONS: readonly (readonly [string, number])[] = [
  ['set', RECENT_SET],
  ['rcheck', RECENT_CHECK],
  ['update', RECENT_UPDATE],
  ['remove', RECENT_REMOVE],
];

// ---- sets and virtual servers ---------------------------------------------------------------------------------------

function setMatches(options: readonly Given[], { sets }: RuleContext): Match[] {
  return options.map(({ option, invert, values: [name = '', directions = ''] }) => {
    if (option !== 'match-set') {
      throw new NotUnderstoodRule(`--${option}`, 'flatpath keeps no counters of sets');
    }
    if (!sets.has(name)) {
      throw new NotUnderstoodRule(`--match-set ${name}`, 'no set of this name was given: add the output of ipset save');
    }
    const sides = directions.split(',').map((side): 'src' | 'dst' => {
      if (side !== 'src' && side !== 'dst') throw new NotUnderstoodRule(directions, 'is not a list of src and dst');
      return side;
    });
    return { kind: 'set', set: name, sides, invert };
  });
}

const PROTOCOL_NAMES: Readonly<Record<number, 'TCP' | 'UDP' | 'SCTP'>> = { 6: 'TCP', 17: 'UDP', 132: 'SCTP' };

function ipvsMatches(options: readonly Given[], context: RuleContext): Match[] {
  if (!context.hasIpvs) {
    // Without virtual servers no packet belongs to one: what asks for one is false, `! --ipvs` true.
    const denies = options.every(({ option, invert }) => option === 'ipvs' && invert);
    return constant(denies);
  }
  const protocol = optionValue(options, 'vproto');
  const address = optionValue(options, 'vaddr');
  const port = optionValue(options, 'vport');
  const name = protocol === null ? undefined : PROTOCOL_NAMES[readProtocol(protocol)];
  if (name === undefined || address === null || port === null || options.some(({ invert }) => invert)) {
    throw new NotUnderstoodRule('-m ipvs', 'only --vproto, --vaddr and --vport together are understood');
  }
  const { first } = readPorts(port);
  return [
    { kind: 'ipvs', protocol: name, address: readAddress(address.replace(/\/\d+$/, ''), context.family), port: first },
  ];
}

// ---- what nothing here tells ----------------------------------------------------------------------------------------

function assumedMatches({ name, options }: GivenModule, context: RuleContext): Match[] {
  const first = options[0];
  const part = `-m ${name}`;
  switch (name) {
    case 'limit':
    case 'quota':
      context.assume(part, 'taken as under the limit: it matches');
      return constant(!(first?.invert ?? false));
    case 'hashlimit':
      context.assume(part, 'taken as under the limit');
      return constant(!hasOption(options, 'hashlimit-above'));
    case 'connlimit':
      context.assume(part, 'taken as under the limit');
      return constant(hasOption(options, 'connlimit-upto') !== (first?.invert ?? false));
    case 'owner':
      return [ownerMatch(options, context)];
    case 'policy':
      return policyMatches(options, context);
    case 'socket':
      if (!hasOption(options, 'transparent')) break;
      context.assume(part, 'no socket of the node is taken to be transparent: it never matches');
      return constant(false);
  }
  throw new NotUnderstoodRule(part, 'cannot be told from packets, addresses and connections');
}

/** A local process is taken to run as root; what the node forwards or answers itself has no socket. */
function ownerMatch(options: readonly Given[], context: RuleContext): Match {
  context.assume('-m owner', 'local processes are taken to run as root');
  let local = true;
  for (const { option, invert, values } of options) {
    const isRoot = option === 'socket-exists' || option === 'suppl-groups' || holdsRoot(values[0] ?? '');
    if (isRoot === invert) local = false;
  }
  const others = options.filter(({ option }) => option !== 'suppl-groups').every(({ invert }) => invert);
  return encoded(MATCH_PROCESS, false, [local ? 1 : 0, others ? 1 : 0]);
}

function holdsRoot(text: string): boolean {
  return text === 'root' || /^0+(-\d+)?$/.test(text);
}

/** No packet here was or will be in IPsec. */
function policyMatches(options: readonly Given[], context: RuleContext): Match[] {
  context.assume('-m policy', 'no packet is taken to go through IPsec');
  const given = options.find(({ option }) => option === 'pol');
  return constant((given?.values[0] === 'none') !== (given?.invert ?? false));
}
