/**
 * Reads what `ipvsadm-save -n` prints, and so what `ipvsadm-restore` reads, into virtual servers of both families.
 *
 * Understood: TCP, UDP and SCTP services and firewall marks, every scheduler of the kernel with its flags, persistence
 * with its mask, one-packet scheduling, the three ways of forwarding. Options that change what a virtual server does and
 * that flatpath lacks (persistence engines, thresholds, tunnels other than ipip) are named as not understood; the line
 * does nothing then. Without `-n` the tool prints names: known names of ports are read, names of hosts refused.
 * Text that is no list of virtual servers is an `InputError` with every line that does not fit.
 */

import { InputError, type Problem } from '../cluster/problem.ts';
import {
  type Forwarding,
  IPVS_SCHEDULERS,
  type IpvsScheduler,
  type RealServer,
  type VirtualAddress,
  type VirtualServer,
} from '../compile/ipvs-ruleset.ts';
import { type Address, type Family, formatEndpoint, parseAddress } from '../model/address.ts';
import type { Protocol } from '../model/port.ts';
import { dumpError, type NotUnderstood } from './not-understood.ts';
import { parsePort } from './port-names.ts';

export interface ParsedIpvs {
  /** In the order of the dump. ipvsadm sorts real servers by address: the order of their adding is lost. */
  readonly virtualServers: readonly VirtualServer[];
  readonly notUnderstood: readonly NotUnderstood[];
}

/** True for text that `ipvsadm-save` could have printed. */
export function isIpvsadmSave(text: string): boolean {
  return /^(?:ipvsadm )?(?:-A|--add-service) (?:-[tuf6]|--(?:tcp|udp|sctp|fwmark)-service) /m.test(text);
}

/**
 * Reads a dump.
 * @param file its name, for messages and origins
 * @throws InputError with all errors if the text is no list of virtual servers
 */
export function parseIpvsadmSave(file: string, text: string): ParsedIpvs {
  const reader = new IpvsReader(file);
  text.split('\n').forEach((line, i) => {
    reader.readLine(line.trim(), i + 1);
  });
  return reader.finish();
}

/** A line that does not fit, with what is wrong. */
class IpvsError extends Error {}

/** An option that flatpath does not understand. */
class IpvsUnclear extends Error {}

interface OpenServer extends VirtualServer {
  readonly realServers: RealServer[];
}

/** Seconds of `-p` without a number. */
const DEFAULT_PERSISTENCE = 300;
const LARGEST_WEIGHT = 65_535;

const LONG_OPTIONS: Readonly<Record<string, string>> = {
  '--add-service': '-A',
  '--add-server': '-a',
  '--tcp-service': '-t',
  '--udp-service': '-u',
  '--fwmark-service': '-f',
  '--ipv6': '-6',
  '--scheduler': '-s',
  '--sched-flags': '-b',
  '--persistent': '-p',
  '--netmask': '-M',
  '--ops': '-o',
  '--real-server': '-r',
  '--masquerading': '-m',
  '--gatewaying': '-g',
  '--ipip': '-i',
  '--weight': '-w',
  '--u-threshold': '-x',
  '--l-threshold': '-y',
};
const PROTOCOLS: Readonly<Record<string, Protocol>> = { '-t': 'TCP', '-u': 'UDP', '--sctp-service': 'SCTP' };
const FORWARDING: Readonly<Record<string, Forwarding>> = { '-m': 'masquerade', '-g': 'route', '-i': 'tunnel' };
/** Bits of the kernel's IP_VS_SVC_F_SCHED1 to SCHED3, by the names that sh and mh give them. */
const SCHEDULER_FLAGS: Readonly<Record<string, number>> = {
  'flag-1': 1,
  'flag-2': 2,
  'flag-3': 4,
  'sh-fallback': 1,
  'sh-port': 2,
  'mh-fallback': 1,
  'mh-port': 2,
};

/** The words of a line, taken one after the other. */
class Words {
  private readonly words: readonly string[];
  private at = 0;

  constructor(line: string) {
    this.words = line.split(/\s+/).filter((word) => word !== 'ipvsadm');
  }

  /** The next option in its short form; null at the end. */
  option(): string | null {
    const word = this.words[this.at++];
    if (word === undefined) return null;
    return Object.hasOwn(LONG_OPTIONS, word) ? LONG_OPTIONS[word]! : word;
  }

  value(option: string): string {
    const word = this.words[this.at++];
    if (word === undefined) throw new IpvsError(`'${option}' needs a value`);
    return word;
  }

  /** A number that may be left out. */
  number(): number | null {
    const word = this.words[this.at];
    if (word === undefined || !/^\d{1,10}$/.test(word)) return null;
    this.at++;
    return Number(word);
  }
}

class IpvsReader {
  private readonly file: string;
  private readonly servers = new Map<string, OpenServer>();
  /** Virtual servers that are not understood: their real servers go with them. */
  private readonly unclear = new Set<string>();
  private readonly notUnderstood: NotUnderstood[] = [];
  private readonly errors: Problem[] = [];

  constructor(file: string) {
    this.file = file;
  }

  readLine(line: string, number: number): void {
    if (line === '' || line.startsWith('#')) return;
    try {
      const words = new Words(line);
      const command = words.option();
      if (command === '-A') this.addService(words, number);
      else if (command === '-a') this.addServer(words, number);
      else throw new IpvsError(`'${command}' is not what ipvsadm-save -n prints: -A or -a`);
    } catch (error) {
      if (error instanceof IpvsError) this.errors.push(dumpError(this.file, number, error.message));
      else if (error instanceof IpvsUnclear) {
        this.notUnderstood.push({ file: this.file, line: number, path: '', text: line, message: error.message });
      } else throw error;
    }
  }

  finish(): ParsedIpvs {
    if (this.errors.length > 0) throw new InputError(this.errors);
    return { virtualServers: [...this.servers.values()], notUnderstood: this.notUnderstood };
  }

  private addService(words: Words, line: number): void {
    const virtual = new VirtualReader();
    let scheduler: IpvsScheduler = 'wlc';
    let schedulerFlags = 0;
    let persistentSeconds = 0;
    let mask: string | null = null;
    let onePacket = false;
    let unclear: string | null = null;
    for (let option = words.option(); option !== null; option = words.option()) {
      if (virtual.take(option, words)) continue;
      switch (option) {
        case '-s':
          scheduler = readScheduler(words.value(option));
          break;
        case '-b':
          schedulerFlags = readFlags(words.value(option));
          break;
        case '-p':
          persistentSeconds = words.number() ?? DEFAULT_PERSISTENCE;
          break;
        case '-M':
          mask = words.value(option);
          break;
        case '-o':
          onePacket = true;
          break;
        case '--pe':
        case 'pe':
          unclear = `flatpath does not know the persistence engine '${words.value(option)}'`;
          break;
        default:
          throw new IpvsError(`'${option}' is no option of a virtual server`);
      }
    }
    const { key, address } = virtual.finish();
    if (this.servers.has(key) || this.unclear.has(key)) throw new IpvsError(`virtual server ${key} is added twice`);
    if (unclear !== null) {
      this.unclear.add(key);
      throw new IpvsUnclear(unclear);
    }
    const persistentPrefix = readMask(mask, address.kind === 'fwmark' ? address.family : address.address.family);
    this.servers.set(key, {
      virtual: address,
      scheduler,
      schedulerFlags,
      persistentSeconds,
      persistentPrefix,
      onePacket,
      realServers: [],
      sources: [{ file: this.file, line }],
    });
  }

  private addServer(words: Words, line: number): void {
    const virtual = new VirtualReader();
    let real: string | null = null;
    let forwarding: Forwarding = 'route';
    let weight = 1;
    let unclear: string | null = null;
    for (let option = words.option(); option !== null; option = words.option()) {
      if (virtual.take(option, words)) continue;
      if (Object.hasOwn(FORWARDING, option)) {
        forwarding = FORWARDING[option]!;
        continue;
      }
      switch (option) {
        case '-r':
          real = words.value(option);
          break;
        case '-w':
          weight = readWeight(words.value(option));
          break;
        case '-x':
        case '-y':
          if (words.value(option) !== '0') unclear = 'flatpath does not know thresholds of connections';
          break;
        case '--tun-type':
          if (words.value(option) !== 'ipip') unclear = 'flatpath does not know this kind of tunnel';
          break;
        case '--tun-port':
          words.value(option);
          break;
        case '--tun-nocsum':
        case '--tun-csum':
        case '--tun-remcsum':
          break;
        default:
          throw new IpvsError(`'${option}' is no option of a real server`);
      }
    }
    const { key, address } = virtual.finish();
    if (this.unclear.has(key)) return;
    const server = this.servers.get(key);
    if (server === undefined) throw new IpvsError(`there is no virtual server ${key}: its -A line comes first`);
    if (real === null) throw new IpvsError("a real server needs '-r ADDRESS:PORT'");
    if (unclear !== null) throw new IpvsUnclear(unclear);
    const end = readEnd(real, address.kind === 'address' ? address.port : 0);
    const text = formatEndpoint(end.address, end.port);
    if (server.realServers.some((known) => known.text === text)) {
      throw new IpvsError(`real server ${text} of ${key} is added twice`);
    }
    server.realServers.push({ ...end, text, weight, forwarding, sources: [{ file: this.file, line }] });
  }
}

/** `-t ADDRESS:PORT` and its like, in either kind of line. */
class VirtualReader {
  private address: VirtualAddress | null = null;
  private mark: number | null = null;
  private isV6 = false;

  take(option: string, words: Words): boolean {
    if (option === '-6') {
      this.isV6 = true;
      return true;
    }
    if (option === '-f') {
      const mark = words.number();
      if (mark === null || mark === 0 || mark > 0xffff_ffff) throw new IpvsError("'-f' needs a mark greater than 0");
      this.mark = mark;
      return true;
    }
    if (!Object.hasOwn(PROTOCOLS, option)) return false;
    this.address = { kind: 'address', protocol: PROTOCOLS[option]!, ...readEnd(words.value(option), 0) };
    return true;
  }

  /** The virtual server, and text that is its alone. */
  finish(): { readonly key: string; readonly address: VirtualAddress } {
    if (this.mark !== null) {
      const family: Family = this.isV6 ? 6 : 4;
      return { key: `fwmark ${this.mark} of IPv${family}`, address: { kind: 'fwmark', family, mark: this.mark } };
    }
    if (this.address === null || this.address.kind !== 'address')
      throw new IpvsError('the line names no virtual server');
    const { protocol, address, port } = this.address;
    return { key: `${formatEndpoint(address, port)}/${protocol}`, address: this.address };
  }
}

/** `10.0.0.1:80`, `[fd00::1]:80`, `10.0.0.1`. */
function readEnd(text: string, defaultPort: number): { readonly address: Address; readonly port: number } {
  const parts = /^\[([^\]]+)\](?::(.+))?$/.exec(text) ?? /^([^:]+)(?::([^:]+))?$/.exec(text);
  const address = parseAddress(parts?.[1] ?? text);
  if (address === null) {
    throw new IpvsError(`'${text}' has no address: print the dump with ipvsadm-save -n, which writes numbers`);
  }
  const name = parts?.[2];
  const port = name === undefined ? defaultPort : parsePort(name);
  if (port === null) throw new IpvsError(`'${name}' is no port that flatpath knows: use ipvsadm-save -n`);
  return { address, port };
}

function readScheduler(text: string): IpvsScheduler {
  const scheduler = IPVS_SCHEDULERS.find((known) => known === text);
  if (scheduler === undefined) throw new IpvsError(`'${text}' is no scheduler: ${IPVS_SCHEDULERS.join(', ')}`);
  return scheduler;
}

function readFlags(text: string): number {
  let bits = 0;
  for (const name of text.split(',')) {
    if (!Object.hasOwn(SCHEDULER_FLAGS, name)) throw new IpvsError(`'${name}' is no flag of a scheduler`);
    bits |= SCHEDULER_FLAGS[name]!;
  }
  return bits;
}

function readWeight(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > LARGEST_WEIGHT) {
    throw new IpvsError(`'${text}' is no weight (0 to ${LARGEST_WEIGHT})`);
  }
  return Number(text);
}

/** A mask of IPv4 (`255.255.255.0`) or a length of IPv6, as a length. */
function readMask(text: string | null, family: Family): number {
  if (text === null) return family === 4 ? 32 : 128;
  const wrong = new IpvsError(`'${text}' is no mask of IPv${family}`);
  if (family === 6) {
    if (!/^\d{1,3}$/.test(text) || Number(text) > 128) throw wrong;
    return Number(text);
  }
  const mask = parseAddress(text);
  if (mask === null || mask.family !== 4) throw wrong;
  const ones = Math.clz32(~mask.words[0]);
  if (mask.words[0] !== (ones === 0 ? 0 : -1 << (32 - ones))) throw wrong;
  return ones;
}
