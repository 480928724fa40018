/**
 * A packet's story: the recorder's events of one run as hops and steps that people and JSON readers understand.
 *
 * Everything here comes from events that the program wrote while it moved the packet; rule ids and map rows are turned
 * into the object and field they were compiled from. Nothing is computed a second time from the objects.
 */

import { ELEMENT_ADDED } from '@flatpath/engine/programs/nftables-image';
import {
  CT_STATE_ESTABLISHED,
  CT_STATE_INVALID,
  CT_STATE_NEW,
  CT_STATE_RELATED,
  CT_STATE_REPLY,
  CT_STATE_UNTRACKED,
  EVENT_BASE_CHAIN,
  EVENT_CHOICE,
  EVENT_CONNTRACK,
  EVENT_ENTER,
  EVENT_HOOK,
  EVENT_INTERFACE,
  EVENT_MAP,
  EVENT_NAT,
  EVENT_POLICY,
  EVENT_ROUTE,
  EVENT_RULE,
  EVENT_TUPLE,
  EVENT_VERDICT,
} from '@flatpath/engine/programs/record';
import { ROUTE_HOST, ROUTE_LOOPBACK, ROUTE_NODE, ROUTE_OUT, ROUTE_POD } from '@flatpath/engine/programs/route';
import { NAT_DESTINATION, NAT_OUTBOUND, NAT_REVERSE, VERDICT_NAMES } from '@flatpath/engine/programs/verdict';
import { NFT_DROP } from '@flatpath/engine/tables/nft-rules';
import { TARGET_DROP } from '@flatpath/engine/tables/rule-list';
import { formatAddress } from '@flatpath/engine/wire/address';
import { ENTRY_ANSWER, ENTRY_HOST, ENTRY_POD, ENTRY_UPLINK } from '@flatpath/engine/wire/burst';
import { findReason, reasonName } from '@flatpath/engine/wire/reason';
import type { Image } from '../compile/image.ts';
import type { CompiledNft } from '../compile/nftables.ts';
import type { Origin } from '../model/origin.ts';
import { answerOf, judgementOfEvent, type PolicyAnswer } from './judgement.ts';

/** The tuple that a packet carries. */
export interface Tuple {
  readonly family: 4 | 6;
  readonly protocol: string;
  readonly source: string;
  readonly sourcePort: number;
  readonly destination: string;
  readonly destinationPort: number;
}

export type Step =
  | { readonly step: 'hook'; readonly hook: string; readonly table: string }
  /** A base chain of nftables is entered; `table` is family and name. */
  | {
      readonly step: 'base-chain';
      readonly hook: string;
      readonly table: string;
      readonly chain: string;
      readonly type: string;
      readonly priority: number;
    }
  | {
      readonly step: 'rule';
      readonly table: string;
      readonly chain: string;
      readonly rule: string;
      readonly origin: Origin | null;
    }
  | { readonly step: 'policy'; readonly hook: string; readonly table: string; readonly policy: string }
  | { readonly step: 'conntrack'; readonly state: string; readonly direction: string }
  | {
      readonly step: 'choice';
      /**
       * `statistic`: whether one rule matches (option 0) or is passed by; `selection`: one of a map's backends, or the
       * number that a rule of nftables draws; `scheduler`: one of a virtual server's real servers.
       */
      readonly chooser: 'statistic' | 'selection' | 'scheduler';
      readonly by: string;
      readonly options: number;
      readonly taken: number;
      readonly origin: Origin | null;
    }
  | { readonly step: 'map'; readonly map: string; readonly entry: string | null; readonly origin: Origin | null }
  /** What the rule or map entry before it decided, as a judgement of policies. */
  | ({ readonly step: 'judgement' } & PolicyAnswer)
  | { readonly step: 'nat'; readonly kind: string; readonly before: Tuple; readonly after: Tuple }
  /** `name`: the pod, the node, or the interface of a node whose rules came from a dump. */
  | { readonly step: 'route'; readonly to: string; readonly name: string }
  /** The interface that a frame leaves by, of a node whose rules came from a dump. */
  | { readonly step: 'interface'; readonly name: string }
  | { readonly step: 'verdict'; readonly verdict: string; readonly reason: string; readonly sentence: string };

export interface Hop {
  readonly node: string;
  /** 'pod', 'host', 'uplink', 'answer', or 'socket' for socket-level balancing before the packet exists. */
  readonly entry: string;
  /** The interface that it comes in by, of a node whose rules came from a dump. */
  readonly interface: string | null;
  /** The pod at the interface, where there is one. */
  readonly pod: string | null;
  readonly tuple: Tuple | null;
  readonly steps: readonly Step[];
}

export interface Story {
  readonly hops: readonly Hop[];
  /** Events that the ring had no room for. */
  readonly lost: number;
}

const HOOK_NAMES = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'];
const TABLE_NAMES = ['raw', 'mangle', 'nat', 'filter', 'security'];
const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 1: 'ICMP', 6: 'TCP', 17: 'UDP', 58: 'ICMPv6', 132: 'SCTP' };

const CT_NAMES: Readonly<Record<number, string>> = {
  [CT_STATE_NEW]: 'NEW',
  [CT_STATE_ESTABLISHED]: 'ESTABLISHED',
  [CT_STATE_REPLY]: 'ESTABLISHED',
  [CT_STATE_RELATED]: 'RELATED',
  [CT_STATE_INVALID]: 'INVALID',
  [CT_STATE_UNTRACKED]: 'UNTRACKED',
};

const ENTRY_NAMES: Readonly<Record<number, string>> = {
  [ENTRY_POD]: 'pod',
  [ENTRY_HOST]: 'host',
  [ENTRY_UPLINK]: 'uplink',
  [ENTRY_ANSWER]: 'answer',
};

/** Who connects, for what happens before there is a packet: numbers of a node and of an endpoint, -1 for none. */
export interface Connector {
  readonly node: number;
  readonly endpoint: number;
}

/**
 * Reads the events of one packet.
 * @param connector null for a frame that came as it is: no socket was balanced
 */
export function tellStory(image: Image, events: Int32Array, connector: Connector | null = null): Story {
  const reader = new EventReader(image, connector);
  for (let at = 0; at < events.length; ) {
    const head = events[at]!;
    const size = head >> 8;
    if (size < 1) break;
    reader.read(head & 0xff, events.subarray(at + 1, at + size));
    at += size;
  }
  return { hops: reader.hops, lost: 0 };
}

interface OpenHop {
  node: string;
  entry: string;
  interface: string | null;
  pod: string | null;
  tuple: Tuple | null;
  steps: Step[];
}

class EventReader {
  readonly hops: OpenHop[] = [];
  private readonly image: Image;
  private readonly connector: Connector | null;
  private tuple: Tuple | null = null;
  private pendingNat = 0;

  constructor(image: Image, connector: Connector | null) {
    this.image = image;
    this.connector = connector;
  }

  read(code: number, operands: Int32Array): void {
    const a = operands[0] ?? 0;
    const b = operands[1] ?? 0;
    const c = operands[2] ?? 0;
    switch (code) {
      case EVENT_ENTER:
        this.hops.push({
          node: this.nodeName(a),
          entry: ENTRY_NAMES[b] ?? 'host',
          interface: null,
          pod: b === ENTRY_POD ? this.podName(c) : null,
          tuple: null,
          steps: [],
        });
        break;
      case EVENT_TUPLE:
        this.readTuple(operands);
        break;
      case EVENT_HOOK:
        this.push({ step: 'hook', hook: HOOK_NAMES[a] ?? '', table: TABLE_NAMES[b] ?? '' });
        break;
      case EVENT_BASE_CHAIN: {
        const { table, name, base } = this.nft()!.chain(a);
        const { type, priority } = base ?? { type: '', priority: 0 };
        this.push({ step: 'base-chain', hook: HOOK_NAMES[b] ?? '', table, chain: name, type, priority });
        break;
      }
      case EVENT_RULE: {
        const info = this.rule(a);
        this.push({ step: 'rule', table: info.table, chain: info.chain, rule: info.text, origin: info.origin });
        this.judge(code, a, b);
        break;
      }
      case EVENT_POLICY:
        this.push({
          step: 'policy',
          hook: HOOK_NAMES[a] ?? '',
          table: this.nft()?.chain(b).name ?? TABLE_NAMES[b] ?? '',
          policy: c === (this.nft() === null ? TARGET_DROP : NFT_DROP) ? 'DROP' : 'ACCEPT',
        });
        break;
      case EVENT_CONNTRACK:
        this.push({
          step: 'conntrack',
          state: CT_NAMES[a] ?? 'NONE',
          direction: c === 1 || a === CT_STATE_REPLY ? 'reply' : 'original',
        });
        break;
      case EVENT_CHOICE:
        this.push({ step: 'choice', ...this.chooser(a), options: b, taken: c });
        break;
      case EVENT_MAP:
        this.push({ step: 'map', ...this.mapEntry(a, b) });
        this.judge(code, a, b);
        break;
      case EVENT_NAT:
        this.pendingNat = a;
        break;
      case EVENT_ROUTE:
        this.push(this.route(a, b));
        break;
      case EVENT_INTERFACE:
        this.readInterface(a === 0, b);
        break;
      case EVENT_VERDICT: {
        const reason = b === 0 ? '' : (findReason(b)?.sentence ?? '');
        this.push({ step: 'verdict', verdict: VERDICT_NAMES[a] ?? 'none', reason: reasonName(b), sentence: reason });
        break;
      }
    }
  }

  private push(step: Step): void {
    if (this.hops.length === 0) this.hops.push(this.socketHop());
    this.hops[this.hops.length - 1]!.steps.push(step);
  }

  private judge(code: number, a: number, b: number): void {
    const { tuple } = this;
    const judgement = judgementOfEvent(this.image, tuple?.family ?? 4, code, a, b);
    if (judgement === null) return;
    const { endpointByAddress } = this.image.model.topology;
    const address = judgement.direction === 'egress' ? tuple?.source : tuple?.destination;
    const pod = this.podName(endpointByAddress.get(address ?? '') ?? -1) ?? this.hops.at(-1)?.pod ?? 'unknown';
    this.push({ step: 'judgement', ...answerOf(judgement, pod) });
  }

  private readInterface(isIncoming: boolean, number: number): void {
    const name = this.image.model.ruleset?.interfaceNames[number];
    const hop = this.hops[this.hops.length - 1];
    if (name === undefined || hop === undefined) return;
    const last = hop.steps.at(-1);
    if (isIncoming) hop.interface ??= name;
    else if (last?.step === 'route' && last.to === 'uplink') hop.steps[hop.steps.length - 1] = { ...last, name };
    else this.push({ step: 'interface', name });
  }

  private socketHop(): OpenHop {
    const { connector, tuple } = this;
    return {
      node: connector === null ? '' : this.nodeName(connector.node),
      entry: 'socket',
      interface: null,
      pod: connector === null ? null : this.podName(connector.endpoint),
      tuple,
      steps: [],
    };
  }

  private readTuple(operands: Int32Array): void {
    const family = operands[0] === 6 ? 6 : 4;
    const tuple: Tuple = {
      family,
      protocol: PROTOCOL_NAMES[operands[1]!] ?? String(operands[1]),
      source: formatAddress(family, operands[2]!, operands[3]!, operands[4]!, operands[5]!),
      destination: formatAddress(family, operands[6]!, operands[7]!, operands[8]!, operands[9]!),
      sourcePort: operands[10]!,
      destinationPort: operands[11]!,
    };
    if (this.pendingNat !== 0 && this.tuple !== null) {
      this.push({ step: 'nat', kind: natName(this.pendingNat), before: this.tuple, after: tuple });
      this.pendingNat = 0;
    } else {
      const hop = this.hops[this.hops.length - 1];
      if (hop !== undefined && hop.tuple === null) hop.tuple = tuple;
    }
    this.tuple = tuple;
  }

  /** What is known of the rules that the present tuple meets; null in the other modes. */
  private nft(): CompiledNft | null {
    const { nft } = this.image;
    if (nft === null) return null;
    return this.tuple?.family === 6 ? nft.family6 : nft.family4;
  }

  private rule(id: number): { table: string; chain: string; text: string; origin: Origin | null } {
    const nft = this.nft();
    if (nft !== null) return nft.rule(id);
    const rules = this.tuple?.family === 6 ? this.image.rules6 : this.image.rules4;
    return rules?.rule(id) ?? { table: '', chain: '', text: `rule ${id}`, origin: null };
  }

  /** What made a choice: a rule where the mode has rules, a map's row elsewhere. */
  private chooser(id: number): { chooser: 'statistic' | 'selection' | 'scheduler'; by: string; origin: Origin | null } {
    // A virtual server chooses behind its lookup; rules of a dump beside it may draw too.
    const behindMap = this.hops[this.hops.length - 1]?.steps.at(-1)?.step === 'map';
    if (this.image.servers !== null && (behindMap || this.image.model.ruleset === null)) {
      const server = this.image.servers.describeServer(id);
      return { chooser: 'scheduler', by: server.text, origin: server.origin };
    }
    if (this.image.maps !== null) {
      const service = this.image.maps.describeChooser(id);
      return { chooser: 'selection', by: service.text, origin: service.origin };
    }
    const info = this.rule(id);
    const chooser = this.image.nft === null && info.text.includes('-m statistic') ? 'statistic' : 'selection';
    return { chooser, by: info.text, origin: info.origin };
  }

  private mapEntry(map: number, row: number): { map: string; entry: string | null; origin: Origin | null } {
    const nft = this.nft();
    if (nft !== null) return nftElement(nft, map, row);
    const maps = this.image.servers ?? this.image.maps ?? this.image.sets;
    if (maps === null) return { map: `map ${map}`, entry: null, origin: null };
    if (row < 0) return { map: maps.mapName(map), entry: null, origin: null };
    const entry = maps.describeRow(map, row);
    return { map: maps.mapName(map), entry: entry.text, origin: entry.origin };
  }

  private route(kind: number, index: number): Step {
    switch (kind) {
      case ROUTE_POD:
        return { step: 'route', to: 'pod', name: this.podName(index) ?? '' };
      case ROUTE_NODE:
        return { step: 'route', to: 'node', name: this.nodeName(index) };
      case ROUTE_LOOPBACK:
        return { step: 'route', to: 'loopback', name: this.podName(index) ?? '' };
      case ROUTE_HOST:
        return { step: 'route', to: 'host', name: '' };
      case ROUTE_OUT:
        return { step: 'route', to: 'uplink', name: '' };
      default:
        return { step: 'route', to: 'nowhere', name: '' };
    }
  }

  private nodeName(index: number): string {
    return this.image.model.topology.nodes[index]?.metadata.name ?? `node ${index}`;
  }

  private podName(endpoint: number): string | null {
    const pod = this.image.model.topology.endpoints[endpoint]?.pod;
    return pod === undefined ? null : `${pod.metadata.namespace}/${pod.metadata.name}`;
  }
}

function nftElement(
  nft: CompiledNft,
  set: number,
  id: number,
): { map: string; entry: string | null; origin: Origin | null } {
  const map = nft.setName(set);
  if (id === ELEMENT_ADDED) return { map, entry: 'the packet is in it: another one has added it', origin: null };
  if (id < 0) return { map, entry: null, origin: null };
  const { text, origin } = nft.element(id);
  return { map, entry: text, origin };
}

function natName(flag: number): string {
  if ((flag & NAT_REVERSE) !== 0) return 'reverse';
  if ((flag & NAT_DESTINATION) !== 0) return 'destination';
  return (flag & NAT_OUTBOUND) !== 0 ? 'outbound masquerade' : 'source';
}

/** `10.244.0.5:40000 → 10.96.0.10:53 TCP`. */
export function describeTuple(tuple: Tuple): string {
  const end = (address: string, port: number): string => {
    if (port === 0) return address;
    return tuple.family === 6 ? `[${address}]:${port}` : `${address}:${port}`;
  };
  return `${end(tuple.source, tuple.sourcePort)} → ${end(tuple.destination, tuple.destinationPort)} ${tuple.protocol}`;
}
