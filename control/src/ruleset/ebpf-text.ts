/**
 * Reads what `render --as ebpf` prints of a node (compile/ebpf-render.ts), section by section, into its frontends,
 * backends and options: all that the node's program looks up in its maps.
 *
 * Read: the options, `bpf lb list` with its backends, source ranges, Maglev sizes and affinity timeouts, and what the
 * policies of the node's pods are (ebpf-policy-text.ts). The other sections repeat these or are empty on a node that has seen no packet. A nodePort is the frontend with the address of all
 * zeros; its lines for the node's addresses follow from it. Text that is not that is an `InputError` with every line that
 * does not fit.
 */

import { InputError, type Problem } from '../cluster/problem.ts';
import type { FrontendKind } from '../compile/ebpf-rows.ts';
import { type Address, type Prefix, parseAddress, parseAddressOrPrefix } from '../model/address.ts';
import type { EbpfPolicyDump } from './ebpf-policy-compile.ts';
import { EbpfTextError, PolicyReader } from './ebpf-policy-text.ts';
import { dumpError } from './not-understood.ts';
import { parseProtocol } from './port-names.ts';

/** An address, a port and a protocol. */
export interface EbpfEnd {
  readonly address: Address;
  readonly port: number;
  /** IANA number. */
  readonly protocol: number;
  /** `10.96.0.10:80/TCP`, IPv6 in brackets. */
  readonly text: string;
}

export interface EbpfFrontend {
  readonly end: EbpfEnd;
  readonly kind: FrontendKind;
  /** For packets from outside, and for those of pods and the host. */
  readonly external: EbpfEnd[];
  readonly internal: EbpfEnd[];
  /** None of these, but another node has one. */
  readonly isServedElsewhere: boolean;
  readonly ranges: Prefix[];
  /** Places of its Maglev ring; 0 without one. */
  ringSize: number;
  /** 0 without session affinity. */
  affinitySeconds: number;
}

export interface EbpfDump extends EbpfPolicyDump {
  /** In the order of the dump. */
  readonly frontends: readonly EbpfFrontend[];
  /** Backends that terminate, by text. */
  readonly terminating: ReadonlySet<string>;
}

/**
 * Reads a dump.
 * @throws InputError with all errors if it is none
 */
export function parseEbpfText(file: string, text: string): EbpfDump {
  const reader = new EbpfReader(file);
  text.split('\n').forEach((line, i) => {
    reader.readLine(line.trimEnd(), i + 1);
  });
  return reader.finish();
}

const KINDS: readonly FrontendKind[] = ['ClusterIP', 'NodePort', 'ExternalIPs', 'LoadBalancer'];
/** First words of the lines that head columns. */
const HEADINGS = ['SERVICE ADDRESS', 'ID', 'SOURCE RANGE', 'REVNAT_ID', 'IP PREFIX/ADDRESS', 'ENDPOINT', 'MAP'];
const OPTIONS = new Set([
  'bpf-lb-sock',
  'bpf-lb-mode',
  'bpf-lb-external-clusterip',
  'enable-sctp',
  'enable-ipv4-masquerade',
  'nodeport-addresses',
  'policy-own-node',
  'policy-hairpin',
  'policy-known-flows',
]);

class EbpfReader {
  private readonly file: string;
  private readonly errors: Problem[] = [];
  private readonly options = new Map<string, string>();
  private readonly frontends = new Map<number, EbpfFrontend>();
  private readonly terminating = new Set<string>();
  private readonly policies = new PolicyReader();
  private section = '';
  /** List that backend lines of `bpf lb list` go to; null for an address of a nodePort's. */
  private list: EbpfEnd[] | null = null;

  constructor(file: string) {
    this.file = file;
  }

  readLine(line: string, number: number): void {
    if (line.startsWith('# cilium-dbg ')) {
      this.section = line.slice('# cilium-dbg '.length);
      return;
    }
    const cells = line.split(/ {2,}/);
    if (line === '' || HEADINGS.includes(cells[0]!)) return;
    try {
      this.readCells(cells);
    } catch (error) {
      if (!(error instanceof EbpfTextError)) throw error;
      this.errors.push(dumpError(this.file, number, error.message));
    }
  }

  finish(): EbpfDump {
    const gaps = this.policies.findGaps().map((gap) => dumpError(this.file, 1, gap));
    if (this.errors.length + gaps.length > 0) throw new InputError([...this.errors, ...gaps]);
    const { endpoints, addresses, groups } = this.policies;
    const { options, terminating } = this;
    return { options, frontends: [...this.frontends.values()], terminating, endpoints, addresses, groups };
  }

  private readCells(cells: readonly string[]): void {
    const [first = '', second = '', third = ''] = cells;
    switch (this.section) {
      case 'config --all':
        if (!OPTIONS.has(first)) throw new EbpfTextError(`'${first}' is no option`);
        this.options.set(first, second);
        return;
      case 'bpf lb list':
        this.readService(first, second);
        return;
      case 'bpf lb list --backends':
        if (third === 'terminating') this.terminating.add(readEnd(second).text);
        else if (third !== 'active') throw new EbpfTextError(`'${third}' is no state of a backend`);
        return;
      case 'bpf lb list --source-ranges':
        this.frontendOf(second).ranges.push(readPrefix(first));
        return;
      case 'bpf lb maglev list':
        this.frontendOf(first).ringSize = readNumber(second);
        return;
      case 'bpf lb affinity list':
        this.frontendOf(first).affinitySeconds = readNumber(second.replace(/s$/, ''));
        return;
      case 'bpf lb list --revnat':
      case 'bpf ct list global':
      case 'bpf nat list':
        return;
    }
    if (this.policies.readCells(this.section, cells)) return;
    throw new EbpfTextError(`'${this.section}' is no section of maps`);
  }

  /** `10.96.0.10:80/TCP (0)   0.0.0.0:0 (1) (0) [ClusterIP]` heads a frontend; slots from 1 on are its backends. */
  private readService(first: string, second: string): void {
    const service = /^(\S+) \((\d+)\)$/.exec(first);
    const target = /^(\S+) \((\d+)\) \((\d+)\)(?: \[(.*)\])?$/.exec(second);
    if (service === null || target === null) throw new EbpfTextError(`'${first}' is no line of a service`);
    if (service[2] !== '0') {
      this.list?.push(readEnd(target[1]!));
      return;
    }
    const isInternal = service[1]!.endsWith('/i');
    const end = readEnd(isInternal ? service[1]!.slice(0, -2) : service[1]!);
    const id = readNumber(target[2]!);
    const flags = (target[4] ?? '').split(', ');
    if (isInternal) this.list = this.isRepeated(flags, end) ? null : this.openInternal(id);
    else this.list = this.openFrontend(id, end, flags);
  }

  private openFrontend(id: number, end: EbpfEnd, flags: readonly string[]): EbpfEnd[] | null {
    if (this.isRepeated(flags, end)) return null;
    const kind = KINDS.find((known) => known === flags[0]);
    if (kind === undefined) throw new EbpfTextError(`'${flags[0]}' is no kind of frontend`);
    if (this.frontends.has(id)) throw new EbpfTextError(`frontend ${id} is listed twice`);
    const external: EbpfEnd[] = [];
    this.frontends.set(id, {
      end,
      kind,
      external,
      // Without a scope of their own, pods and the host use the same list.
      internal: external,
      isServedElsewhere: flags.includes('elsewhere'),
      ranges: [],
      ringSize: 0,
      affinitySeconds: 0,
    });
    return external;
  }

  private openInternal(id: number): EbpfEnd[] {
    const frontend = this.frontends.get(id);
    if (frontend === undefined) throw new EbpfTextError(`the outer scope of frontend ${id} comes first`);
    const internal: EbpfEnd[] = [];
    this.frontends.set(id, { ...frontend, internal });
    return internal;
  }

  /** A nodePort on an address of the node. */
  private isRepeated(flags: readonly string[], { address }: EbpfEnd): boolean {
    return flags[0] === 'NodePort' && address.words.some((word) => word !== 0);
  }

  private frontendOf(text: string): EbpfFrontend {
    const frontend = this.frontends.get(readNumber(text));
    if (frontend === undefined) throw new EbpfTextError(`there is no frontend ${text}`);
    return frontend;
  }
}

/** `10.96.0.10:80/TCP`, `[fd00::1]:80/UDP`. */
function readEnd(text: string): EbpfEnd {
  const parts = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})\/([A-Z]+)$/.exec(text);
  const address = parts === null ? null : parseAddress(parts[1] ?? parts[2]!);
  const protocol = parts === null ? null : parseProtocol(parts[4]!.toLowerCase());
  if (parts === null || address === null || protocol === null || Number(parts[3]) > 65_535) {
    throw new EbpfTextError(`'${text}' is no address, port and protocol`);
  }
  return { address, port: Number(parts[3]), protocol, text };
}

function readPrefix(text: string): Prefix {
  const prefix = parseAddressOrPrefix(text);
  if (prefix === null) throw new EbpfTextError(`'${text}' is no prefix`);
  return prefix;
}

function readNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new EbpfTextError(`'${text}' is no number`);
  return Number(text);
}
