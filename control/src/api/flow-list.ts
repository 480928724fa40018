/** Connections of injected packets as lines, page by page, in the order of the tables. */
import {
  EBPF_CT_ANY,
  EBPF_CT_CLOSED,
  EBPF_CT_FIN_ORIGINAL,
  EBPF_CT_FIN_REPLY,
  EBPF_CT_OPEN,
  EBPF_CT_SYN,
} from '@flatpath/engine/programs/ebpf-conntrack';
import { protocolStateName } from '@flatpath/engine/programs/netfilter-states';
import {
  type Conntrack,
  CT_ASSURED,
  CT_SEEN_REPLY,
  ctAlive,
  ctDst,
  ctExpiry,
  ctFlags,
  ctNext,
  ctPorts,
  ctProto,
  ctShard,
  ctSrc,
  ctState,
  ctXDst,
  ctXPorts,
  ctXSrc,
  ctZone,
} from '@flatpath/engine/tables/conntrack';
import { formatEndpoint } from '@flatpath/engine/wire/address';
import type { Mode } from '../model/datapath.ts';
import type { Injector } from '../probe/injector.ts';

export interface FlowLine {
  readonly node: string;
  readonly protocol: string;
  readonly state: string;
  /** Destination and source as the first packet carried them. */
  readonly source: string;
  readonly destination: string;
  /** The same after translation. */
  readonly translatedSource: string;
  readonly translatedDestination: string;
  readonly seenReply: boolean;
  readonly assured: boolean;
  readonly expiresInMs: number;
}

export interface FlowPage {
  readonly flows: readonly FlowLine[];
  /** Where the next page begins; null at the end. */
  readonly continue: string | null;
}

const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6', 132: 'sctp' };
const EBPF_STATES: Readonly<Record<number, string>> = {
  [EBPF_CT_SYN]: 'SYN',
  [EBPF_CT_OPEN]: 'OPEN',
  [EBPF_CT_FIN_ORIGINAL]: 'CLOSING',
  [EBPF_CT_FIN_REPLY]: 'CLOSING',
  [EBPF_CT_CLOSED]: 'CLOSED',
  [EBPF_CT_ANY]: '',
};

/**
 * @param token `continue` of the page before, '' for the first; flows that came or went since may stand twice or not at all
 * @returns null for a token that is none
 */
export function listFlows(injector: Injector, nowMs: number, most: number, token: string): FlowPage | null {
  const match = /^(4|6):(-1|\d{1,10})$/.exec(token === '' ? '4:-1' : token);
  if (match === null) return null;
  const { conntrack4, conntrack6 } = injector.datapath;
  const flows: FlowLine[] = [];
  let family = Number(match[1]);
  let cursor = Number(match[2]);
  for (;;) {
    const ct = family === 4 ? conntrack4 : conntrack6;
    if (cursor !== -1 && !isSlot(ct, cursor)) return null;
    for (let slot = ctNext(ct, cursor); slot !== -1; slot = ctNext(ct, slot)) {
      if (ctAlive(ct, ctShard(ct, slot), slot, nowMs) === 0) continue;
      if (flows.length === most) return { flows, continue: `${family}:${cursor}` };
      flows.push(describeFlow(injector, ct, slot, nowMs));
      cursor = slot;
    }
    if (family === 6) return { flows, continue: null };
    family = 6;
    cursor = -1;
  }
}

function isSlot(ct: Conntrack, slot: number): boolean {
  return slot >= ct.slotsAt && slot < ct.words.length && (slot - ct.slotsAt) % ct.slotWords === 0;
}

function describeFlow(injector: Injector, ct: Conntrack, slot: number, nowMs: number): FlowLine {
  const proto = ctProto(ct, slot);
  const flags = ctFlags(ct, slot);
  const ports = ctPorts(ct, slot);
  const xPorts = ctXPorts(ct, slot);
  const end = (word: (ct: Conntrack, slot: number, i: number) => number, port: number): string =>
    formatEndpoint(ct.family, word(ct, slot, 0), wordAt(word, 1), wordAt(word, 2), wordAt(word, 3), port);
  const wordAt = (word: (ct: Conntrack, slot: number, i: number) => number, i: number): number =>
    ct.family === 4 ? 0 : word(ct, slot, i);
  return {
    node: injector.model.topology.nodes[ctZone(ct, slot)]?.metadata.name ?? `node ${ctZone(ct, slot)}`,
    protocol: PROTOCOLS[proto] ?? String(proto),
    state: stateName(injector.mode, proto, ctState(ct, slot)),
    source: end(ctSrc, ports >>> 16),
    destination: end(ctDst, ports & 0xffff),
    translatedSource: end(ctXSrc, xPorts >>> 16),
    translatedDestination: end(ctXDst, xPorts & 0xffff),
    seenReply: (flags & CT_SEEN_REPLY) !== 0,
    assured: (flags & CT_ASSURED) !== 0,
    expiresInMs: Math.max(0, (ctExpiry(ct, slot) - nowMs) | 0),
  };
}

function stateName(mode: Mode, proto: number, state: number): string {
  return mode === 'ebpf' ? (EBPF_STATES[state] ?? '') : protocolStateName(proto, state);
}
