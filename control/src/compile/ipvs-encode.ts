/**
 * Virtual servers as the engine's table (tables/ipvs-services.ts): a row for each, a row for each of its real servers,
 * and which node has which under which key.
 *
 * Nodes that have one object share its row. Where all nodes agree on a key the engine asks no further; an id is the hash
 * of what it stands for, moved on where another has it already.
 */

import {
  type IpvsServices,
  IpvsServicesBuilder,
  SCHEDULER_NAMES,
  type ServiceKey,
  VS_FALLBACK,
  VS_HASH_PORT,
  VS_ONE_PACKET,
  VS_PERSISTENT,
} from '@flatpath/engine/tables/ipvs-services';
import { hashText } from '../cluster/name-hash.ts';
import {
  type RealServer,
  SCHEDULER_FALLBACK,
  SCHEDULER_PORT,
  type VirtualAddress,
  type VirtualServer,
  virtualKey,
} from './ipvs-ruleset.ts';
import { PROTOCOL_NUMBER } from './service-ports.ts';

const MAX_ID = 0x7fff_ffff;

/** A key and the rows that nodes have for it. */
interface Service {
  readonly text: string;
  readonly key: ServiceKey;
  readonly id: number;
  readonly rows: Map<number, number>;
}

/** Collects the virtual servers of nodes. */
export class ServerEncoder {
  /** By row. */
  readonly servers: VirtualServer[] = [];
  /** By row of a real server. */
  readonly reals: RealServer[] = [];
  private readonly builder = new IpvsServicesBuilder();
  private readonly rows = new Map<VirtualServer, number>();
  private readonly services = new Map<string, Service>();
  private readonly nodes = new Set<number>();
  private readonly serviceIds = new Set<number>();
  private readonly realIds = new Map<string, number>();
  private readonly takenRealIds = new Set<number>();

  /** A node of which `add` may tell nothing. */
  addNode(node: number): void {
    this.nodes.add(node);
  }

  add(node: number, server: VirtualServer): void {
    const service = this.serviceOf(server.virtual);
    service.rows.set(node, this.rowOf(server, service));
  }

  /** RS_ID of a real server, by its position in its virtual server. */
  idOf(server: VirtualServer, real: number): number {
    return this.realId(virtualKey(server.virtual), server.realServers[real]!.text);
  }

  build(): IpvsServices {
    for (const { key, rows } of this.services.values()) {
      const [common] = rows.values();
      const everywhere = rows.size === this.nodes.size;
      if (everywhere) this.builder.listen(key, common!);
      for (const [node, row] of rows) if (!everywhere || row !== common) this.builder.listenOn(node, key, row);
    }
    return this.builder.build();
  }

  private serviceOf(virtual: VirtualAddress): Service {
    const key = keyOf(virtual);
    const text = virtualKey(virtual);
    let service = this.services.get(text);
    if (service === undefined) {
      service = { text, key, id: takeId(text, this.serviceIds), rows: new Map() };
      this.services.set(text, service);
    }
    return service;
  }

  private rowOf(server: VirtualServer, { text, id, key }: Service): number {
    const known = this.rows.get(server);
    if (known !== undefined) return known;
    const { virtual, persistentSeconds, persistentPrefix, realServers } = server;
    const made = this.builder.server({
      id,
      scheduler: SCHEDULER_NAMES.indexOf(server.scheduler),
      flags: flagBits(server),
      timeoutMs: persistentSeconds * 1000,
      netmask: persistentPrefix,
      family: key.family,
      port: key.port,
      mark: virtual.kind === 'fwmark' ? virtual.mark : 0,
      realServers: realServers.map((real) => ({
        id: this.realId(text, real.text),
        address: real.address.words,
        port: real.port,
        weight: real.weight,
        // What drains had weight 1 before, as kube-proxy's real servers have.
        lastWeight: Math.max(real.weight, 1),
        upper: 0,
        lower: 0,
      })),
    });
    this.rows.set(server, made.row);
    this.servers[made.row] = server;
    // The engine's list is the kernel's: what was added last stands first.
    realServers.forEach((real, i) => {
      this.reals[made.real - i] = real;
    });
    return made.row;
  }

  /** Connections are counted by it, so one endpoint of two virtual servers has two. */
  private realId(service: string, text: string): number {
    const key = `${service} ${text}`;
    let id = this.realIds.get(key);
    if (id === undefined) {
      id = takeId(key, this.takenRealIds);
      this.realIds.set(key, id);
    }
    return id;
  }
}

/** The hash of a text as an id that is not taken yet. */
function takeId(text: string, taken: Set<number>): number {
  let id = hashText(text) & MAX_ID;
  while (taken.has(id)) id = (id + 1) & MAX_ID;
  taken.add(id);
  return id;
}

function keyOf(virtual: VirtualAddress): ServiceKey {
  if (virtual.kind === 'fwmark') {
    return { family: virtual.family, address: [virtual.mark | 0, 0, 0, 0], port: 0, proto: 0 };
  }
  const { address, port, protocol } = virtual;
  return { family: address.family, address: address.words, port, proto: PROTOCOL_NUMBER[protocol] };
}

function flagBits(server: VirtualServer): number {
  let flags = 0;
  if (server.persistentSeconds > 0) flags |= VS_PERSISTENT;
  if (server.onePacket) flags |= VS_ONE_PACKET;
  if ((server.schedulerFlags & SCHEDULER_FALLBACK) !== 0) flags |= VS_FALLBACK;
  if ((server.schedulerFlags & SCHEDULER_PORT) !== 0) flags |= VS_HASH_PORT;
  return flags;
}
