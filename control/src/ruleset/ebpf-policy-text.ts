/**
 * Reads the policy sections of `render --as ebpf` (compile/ebpf-policy-render.ts): endpoints, ipcache and policy maps.
 *
 * Verdicts are read, not who decided them. A line that does not fit is an `EbpfTextError` for the caller to report.
 */
import { type Prefix, parseAddressOrPrefix } from '../model/address.ts';

/** A line that is not what it should be. */
export class EbpfTextError extends Error {}

export interface DumpedEndpoint {
  /** Its addresses, as the dump has them. */
  readonly name: string;
  /** Number of the map in the dump, null for none. */
  readonly ingress: number | null;
  readonly egress: number | null;
}

export interface DumpedAddress {
  readonly prefix: Prefix;
  readonly peer: number;
  /** An address of the node itself. */
  readonly isHost: boolean;
}

/** Ports that peers of a map are allowed or denied. */
export interface DumpedPorts {
  /** Slot of the policy maps; null: whatever no other line decides. */
  readonly slot: number | null;
  readonly first: number;
  readonly last: number;
  readonly denied: boolean;
}

/** Lines of a map for the same peers. */
export interface DumpedGroup {
  readonly map: number;
  /** Null for all others. */
  readonly peers: readonly number[] | null;
  readonly ports: DumpedPorts[];
}

const IDENTITY_HOST = 1;
const SLOTS = ['TCP', 'UDP', 'SCTP'];
const LAST_PORT = 65_535;

export class PolicyReader {
  readonly endpoints: DumpedEndpoint[] = [];
  readonly addresses: DumpedAddress[] = [];
  private readonly groupsByKey = new Map<string, DumpedGroup>();

  get groups(): readonly DumpedGroup[] {
    return [...this.groupsByKey.values()];
  }

  /** What is missing in what was read. */
  findGaps(): string[] {
    const whole = new Set(this.groups.filter(({ peers }) => peers === null).map(({ map }) => map));
    const named = this.endpoints.flatMap(({ ingress, egress }) => [ingress, egress]);
    const lacking = new Set([...named, ...this.groups.map(({ map }) => map)].filter((map) => !whole.has(map ?? -1)));
    lacking.delete(null);
    return [...lacking].map((map) => `policy map ${map} has no line for all other peers`);
  }

  /** Takes a line of a section; false where the section is not about policies. */
  readCells(section: string, cells: readonly string[]): boolean {
    switch (section) {
      case 'endpoint list':
        this.readEndpoint(cells);
        return true;
      case 'bpf ipcache list':
        this.readAddress(cells);
        return true;
      case 'bpf policy get --all':
        this.readPolicy(cells);
        return true;
      case 'identity list':
        return true;
    }
    return false;
  }

  private readEndpoint([, ingress = '', egress = '', ips = '']: readonly string[]): void {
    this.endpoints.push({ name: ips, ingress: readMap(ingress), egress: readMap(egress) });
  }

  /** Without policies the ipcache has no peers, and nobody asks it. */
  private readAddress([text = '', identity = '', peer = '', owner]: readonly string[]): void {
    if (owner === undefined) return;
    const prefix = parseAddressOrPrefix(text);
    if (prefix === null) throw new EbpfTextError(`'${text}' is no prefix`);
    this.addresses.push({ prefix, peer: readNumber(peer), isHost: readNumber(identity) === IDENTITY_HOST });
  }

  private readPolicy([map = '', , verdict = '', ports = '', , peers = '']: readonly string[]): void {
    if (verdict !== 'Allow' && verdict !== 'Deny') throw new EbpfTextError(`'${verdict}' is no verdict`);
    const key = `${map} ${peers}`;
    let group = this.groupsByKey.get(key);
    if (group === undefined) {
      const list = peers === '*' ? null : peers.split(',').map(readNumber);
      group = { map: readNumber(map), peers: list, ports: [] };
      this.groupsByKey.set(key, group);
    }
    group.ports.push({ ...readPorts(ports), denied: verdict === 'Deny' });
  }
}

function readPorts(text: string): Omit<DumpedPorts, 'denied'> {
  if (text === 'ANY') return { slot: null, first: 0, last: LAST_PORT };
  const parts = /^(?:ANY|(\d{1,5})(?:-(\d{1,5}))?)\/([A-Z]+)$/.exec(text);
  const slot = parts === null ? -1 : SLOTS.indexOf(parts[3]!);
  if (parts === null || slot === -1) throw new EbpfTextError(`'${text}' is no port and protocol`);
  if (parts[1] === undefined) return { slot, first: 0, last: LAST_PORT };
  const first = Number(parts[1]);
  const last = Number(parts[2] ?? parts[1]);
  if (first > last || last > LAST_PORT) throw new EbpfTextError(`'${text}' is no range of ports`);
  return { slot, first, last };
}

function readMap(text: string): number | null {
  return text === '-' ? null : readNumber(text);
}

function readNumber(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new EbpfTextError(`'${text}' is no number`);
  return Number(text);
}
