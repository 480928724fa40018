/**
 * Packets as the API describes them: by fields, or as the whole frame in hexadecimal; and where they enter.
 *
 * Lengths and checksums that are not given are right; those that are given are written as given. A description that
 * cannot be a frame is refused with its field.
 */
import { buildFrame, type FrameFields, type L4Fields, type SctpChunk } from '@flatpath/engine/wire/build';
import { ENTRY_HOST, ENTRY_POD, ENTRY_UPLINK } from '@flatpath/engine/wire/burst';
import { describeFrame } from '@flatpath/engine/wire/describe';
import { ICMP4_ECHO } from '@flatpath/engine/wire/icmp4';
import { ICMP6_ECHO } from '@flatpath/engine/wire/icmp6';
import { initChunk } from '@flatpath/engine/wire/sctp-chunk';
import { TCP_ACK, TCP_CWR, TCP_ECE, TCP_FIN, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG } from '@flatpath/engine/wire/tcp';
import { type Static, Type } from '@sinclair/typebox';
import type { ClusterModel } from '../compile/image.ts';
import { type Address, parseAddress } from '../model/address.ts';
import { oneOf } from '../model/schema.ts';
import { resolveConnection } from '../probe/connection.ts';
import type { Entry } from '../probe/injector.ts';
import { UnresolvedReference } from '../probe/reference.ts';
import { invalidField } from './status.ts';

const closed = { additionalProperties: false } as const;
const uint = (maximum: number) => Type.Optional(Type.Integer({ minimum: 0, maximum }));
const HEX = '^([0-9a-fA-F]{2})*$';
/** The longest IP packet, in hexadecimal digits, with its Ethernet header and a tag. */
const MAX_HEX = 2 * (65_535 + 18);

const FLAGS = {
  FIN: TCP_FIN,
  SYN: TCP_SYN,
  RST: TCP_RST,
  PSH: TCP_PSH,
  ACK: TCP_ACK,
  URG: TCP_URG,
  ECE: TCP_ECE,
  CWR: TCP_CWR,
} as const;
type FlagName = keyof typeof FLAGS;
const FLAG_NAMES = Object.keys(FLAGS) as FlagName[];

export const PacketFields = Type.Object(
  {
    src: Type.Optional(Type.String({ description: 'an address; left out: that of `from`' })),
    dst: Type.String({ description: 'an address, or a reference such as svc/shop/checkout:5050' }),
    protocol: Type.Optional(oneOf(['tcp', 'udp', 'sctp', 'icmp', 'TCP', 'UDP', 'SCTP', 'ICMP'])),
    sport: uint(65_535),
    dport: uint(65_535),
    /** TCP; SYN where left out. */
    flags: Type.Optional(Type.Array(oneOf(FLAG_NAMES))),
    seq: uint(0xffff_ffff),
    ack: uint(0xffff_ffff),
    window: uint(65_535),
    /** ICMP; an echo request where left out. */
    type: uint(255),
    code: uint(255),
    id: uint(65_535),
    sequence: uint(65_535),
    /** SCTP; an INIT where left out. */
    tag: uint(0xffff_ffff),
    chunks: Type.Optional(
      Type.Array(
        Type.Object(
          { type: Type.Integer({ minimum: 0, maximum: 255 }), flags: uint(255), value: Type.String({ pattern: HEX }) },
          closed,
        ),
        { minItems: 1, maxItems: 64 },
      ),
    ),
    ttl: uint(255),
    tos: uint(255),
    ipId: uint(65_535),
    dontFragment: Type.Optional(Type.Boolean()),
    moreFragments: Type.Optional(Type.Boolean()),
    fragmentOffset: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_528, multipleOf: 8 })),
    vlan: uint(4095),
    /** Written as it is, also where it is wrong. */
    ipChecksum: uint(65_535),
    checksum: uint(0xffff_ffff),
    payload: Type.Optional(Type.String({ maxLength: 65_535, description: 'as text' })),
    payloadHex: Type.Optional(Type.String({ pattern: HEX, maxLength: MAX_HEX })),
  },
  closed,
);
export type PacketFields = Static<typeof PacketFields>;

export const PacketDescription = Type.Object(
  {
    from: Type.Optional(Type.String({ description: 'who sends: a reference or an address' })),
    node: Type.Optional(Type.String({ description: 'where a packet from outside enters' })),
    entry: Type.Optional(oneOf(['pod', 'host', 'uplink'])),
    /** Virtual time in ms; left out: the server's clock. */
    timeMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 })),
    fields: Type.Optional(PacketFields),
    hex: Type.Optional(Type.String({ pattern: HEX, minLength: 2, maxLength: MAX_HEX })),
  },
  closed,
);
export type PacketDescription = Static<typeof PacketDescription>;

/** A described packet, ready to be injected. */
export interface ReadyPacket {
  readonly frame: Uint8Array;
  /** null: by its source address. */
  readonly entry: Entry | null;
  readonly uplinkNode: number | null;
  readonly timeMs: number | null;
}

const ENTRIES = { pod: ENTRY_POD, host: ENTRY_HOST, uplink: ENTRY_UPLINK } as const;

/**
 * @param at field of the description in its request, such as `packets[0]`
 * @throws StatusError naming the field that is wrong
 */
export function readPacket(model: ClusterModel, packet: PacketDescription, at: string): ReadyPacket {
  if ((packet.fields === undefined) === (packet.hex === undefined)) {
    throw invalidField(at, 'a packet has either fields or hex');
  }
  if (packet.from !== undefined && packet.entry !== undefined) {
    throw invalidField(`${at}.entry`, 'a packet has either from or entry');
  }
  const uplinkNode = nodeNumber(model, packet.node, at);
  const timeMs = packet.timeMs ?? null;
  const placed = (frame: Uint8Array, entry: Entry | null, source: string | null): ReadyPacket => ({
    frame,
    entry: packet.entry === undefined ? entry : explicitEntry(model, packet.entry, uplinkNode, source, at),
    uplinkNode,
    timeMs,
  });
  if (packet.hex !== undefined) {
    const frame = new Uint8Array(Buffer.from(packet.hex, 'hex'));
    const { ip } = describeFrame(frame);
    if (packet.from === undefined) return placed(frame, null, ip?.src ?? null);
    if (ip === null) throw invalidField(`${at}.from`, 'the frame has no addresses; say node and entry instead');
    const { entry } = resolveSource(model, packet, { from: packet.from, dst: bracket(ip.dst), protocol: 'icmp' }, at);
    return placed(frame, entry, ip.src);
  }
  const fields = packet.fields!;
  const from = packet.from ?? fields.src;
  if (from === undefined) throw invalidField(`${at}.fields.src`, 'is required where `from` is left out');
  const { entry, source, target, port, protocol } = resolveSource(
    model,
    packet,
    { from, dst: withPort(fields), protocol: fields.protocol },
    at,
  );
  const src = fields.src === undefined ? source : readAddress(fields.src, `${at}.fields.src`);
  if (src.family !== target.family) {
    throw invalidField(`${at}.fields.dst`, `${target.text} is not of the family of ${src.text}`);
  }
  const frame = build(fields, protocol, src, target, fields.dport ?? port, at);
  return placed(frame, packet.from === undefined ? null : entry, src.text);
}

interface Resolved {
  readonly entry: Entry;
  readonly source: Address;
  readonly target: Address;
  readonly port: number;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
}

function resolveSource(
  model: ClusterModel,
  packet: PacketDescription,
  request: { readonly from: string; readonly dst: string; readonly protocol: string | undefined },
  at: string,
): Resolved {
  const { from, dst, protocol } = request;
  try {
    const connection = resolveConnection(model, { from, to: dst, protocol, node: packet.node });
    const { node, entry, endpoint, address } = connection.sources[0]!;
    const { address: target, port } = connection.targets[0]!;
    return { entry: { node, entry, endpoint }, source: address, target, port, protocol: connection.protocol };
  } catch (error) {
    if (!(error instanceof UnresolvedReference)) throw error;
    const field = error.message.includes(`'${dst.trim()}'`) && packet.hex === undefined ? 'fields.dst' : 'from';
    throw invalidField(`${at}.${field}`, error.message);
  }
}

/** A literal address gets the port of the fields; the other references carry theirs, or need none. */
function withPort({ dst, dport, protocol }: PacketFields): string {
  const address = parseAddress(dst);
  if (address === null) return dst;
  return protocol?.toUpperCase() === 'ICMP' ? bracket(dst) : `${bracket(dst)}:${dport ?? 0}`;
}

function bracket(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

function explicitEntry(
  model: ClusterModel,
  entry: keyof typeof ENTRIES,
  node: number | null,
  source: string | null,
  at: string,
): Entry {
  if (node === null) throw invalidField(`${at}.node`, 'is required with entry');
  const endpoint = entry === 'pod' && source !== null ? model.topology.endpointByAddress.get(source) : undefined;
  return { node, entry: ENTRIES[entry], endpoint: endpoint ?? -1 };
}

/** Number of a node by its name, null for none named. */
export function nodeNumber(model: ClusterModel, name: string | undefined, at: string): number | null {
  if (name === undefined) return null;
  const number = model.topology.nodeIndex.get(name.replace(/^node\//, ''));
  if (number === undefined) throw invalidField(at === '' ? 'node' : `${at}.node`, `there is no node '${name}'`);
  return number;
}

function readAddress(text: string, field: string): Address {
  const address = parseAddress(text);
  if (address === null) throw invalidField(field, `'${text}' is not an address`);
  return address;
}

function build(
  fields: PacketFields,
  protocol: Resolved['protocol'],
  src: Address,
  dst: Address,
  dport: number,
  at: string,
): Uint8Array {
  if (fields.payload !== undefined && fields.payloadHex !== undefined) {
    throw invalidField(`${at}.fields.payload`, 'a packet has either payload or payloadHex');
  }
  const { ttl, tos } = fields;
  const addresses = { src: src.words, dst: dst.words };
  const ip: FrameFields['ip'] =
    src.family === 4
      ? {
          family: 4,
          ...addresses,
          ttl,
          tos,
          id: fields.ipId,
          dontFragment: fields.dontFragment,
          moreFragments: fields.moreFragments,
          fragmentOffset: fields.fragmentOffset,
          checksum: fields.ipChecksum,
        }
      : { family: 6, ...addresses, hopLimit: ttl, trafficClass: tos };
  const payload = new Uint8Array(
    fields.payloadHex === undefined ? Buffer.from(fields.payload ?? '', 'utf8') : Buffer.from(fields.payloadHex, 'hex'),
  );
  const ethernet = fields.vlan === undefined ? {} : { vlan: [{ id: fields.vlan }] };
  try {
    return buildFrame({ ethernet, ip, l4: transport(fields, protocol, src.family, dport), payload });
  } catch (error) {
    if (error instanceof RangeError) throw invalidField(`${at}.fields`, error.message);
    throw error;
  }
}

/** A port in the middle of Linux' ephemeral range. */
const CLIENT_PORT = 40_000;

function transport(fields: PacketFields, protocol: Resolved['protocol'], family: 4 | 6, dport: number): L4Fields {
  const { sport = CLIENT_PORT, checksum } = fields;
  switch (protocol) {
    case 'TCP': {
      const flags = (fields.flags ?? ['SYN']).reduce((bits, name) => bits | FLAGS[name], 0);
      return {
        protocol: 'tcp',
        sport,
        dport,
        flags,
        seq: fields.seq,
        ackSeq: fields.ack,
        window: fields.window,
        checksum,
      };
    }
    case 'UDP':
      return { protocol: 'udp', sport, dport, checksum };
    case 'SCTP':
      return { protocol: 'sctp', sport, dport, tag: fields.tag, chunks: chunksOf(fields), checksum };
    case 'ICMP': {
      const { code, id = CLIENT_PORT, sequence = 1 } = fields;
      return family === 4
        ? { protocol: 'icmp', type: fields.type ?? ICMP4_ECHO, code, id, sequence, checksum }
        : { protocol: 'icmpv6', type: fields.type ?? ICMP6_ECHO, code, id, sequence, checksum };
    }
  }
}

function chunksOf({ chunks }: PacketFields): SctpChunk[] {
  if (chunks === undefined) return [initChunk('init', 1, 65_536, 10, 10, 1)];
  return chunks.map(({ type, flags, value }) => ({ type, flags, value: new Uint8Array(Buffer.from(value, 'hex')) }));
}
