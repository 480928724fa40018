/**
 * Naive models of IPVS's schedulers, one class each, as their kernel files' comments and documentation tell them
 * (ipvsadm(8), linux net/netfilter/ipvs/ip_vs_*.c): objects in arrays, a pointer for a cursor, every count kept by hand.
 *
 * `servers` is the kernel's list: the server that was added last stands first.
 */
import { fillMaglevRing, MH_RING, maglevBucket } from '../../engine/src/tables/ipvs-rings.ts';

export interface Server {
  readonly id: number;
  readonly address: number;
  weight: number;
  /** The last weight above 0. */
  lastWeight: number;
  readonly upper: number;
  readonly lower: number;
  active: number;
  inactive: number;
  overloaded: boolean;
}

export interface Packet {
  readonly src: number;
  readonly dst: number;
  readonly sport: number;
  readonly now: number;
}

export abstract class Model {
  servers: Server[] = [];
  fallback = false;
  hashPort = false;

  abstract schedule(packet: Packet): Server | null;

  add(server: Server): void {
    this.servers.unshift(server);
    this.changed();
  }

  remove(server: Server): void {
    this.leaving(server);
    this.servers.splice(this.servers.indexOf(server), 1);
    this.changed();
  }

  setWeight(server: Server, weight: number): void {
    server.weight = weight;
    if (weight > 0) server.lastWeight = weight;
    this.changed();
  }

  /** Before a server is taken out. */
  protected leaving(_server: Server): void {}

  /** After a server came, went or got another weight. */
  protected changed(): void {}

  protected open(): Server[] {
    return this.servers.filter((server) => server.weight > 0 && !server.overloaded);
  }
}

function overhead(server: Server): number {
  return server.active * 256 + server.inactive;
}

/** The first with the least load a weight. */
function leastByWeight(servers: readonly Server[], load: (server: Server) => number): Server | null {
  let best: Server | null = null;
  for (const server of servers) {
    if (best === null || load(best) * server.weight > load(server) * best.weight) best = server;
  }
  return best;
}

class RoundRobin extends Model {
  private last: Server | null = null;

  protected override leaving(server: Server): void {
    if (server === this.last) this.last = this.servers[this.servers.indexOf(server) - 1] ?? null;
  }

  schedule(): Server | null {
    const at = this.last === null ? -1 : this.servers.indexOf(this.last);
    const order = [...this.servers.slice(at + 1), ...this.servers.slice(0, at + 1)];
    const next = order.find((server) => server.weight > 0 && !server.overloaded) ?? null;
    if (next !== null) this.last = next;
    return next;
  }
}

/** Passes over the list with a falling minimum weight; every add, removal and weight starts a pass at the head. */
class WeightedRoundRobin extends Model {
  private at = -1;
  private minimum = 0;
  private most = 0;
  private step = 1;

  protected override changed(): void {
    const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
    const weights = this.servers.map(({ weight }) => weight);
    this.at = -1;
    this.step = weights.reduce(gcd, 0) || 1;
    this.most = Math.max(0, ...weights) - (this.step - 1);
    if (this.minimum > this.most || this.minimum === 0) this.minimum = this.most;
    else if (this.step > 1) this.minimum = Math.floor(this.minimum / this.step) * this.step + 1;
  }

  schedule(): Server | null {
    if (this.open().length === 0) {
      this.fail();
      return null;
    }
    for (;;) {
      this.at++;
      if (this.at >= this.servers.length) {
        this.at = -1;
        this.minimum -= this.step;
        if (this.minimum <= 0) this.minimum = this.most;
        continue;
      }
      const server = this.servers[this.at]!;
      if (server.weight >= this.minimum && !server.overloaded) return server;
    }
  }

  /**
   * Nobody can take it: the search ends when every server has been asked with minimum 1, and stays there. From the head
   * that is after one whole round of minima; from the middle, back at the place where it began.
   */
  private fail(): void {
    if (this.most === 0) return;
    const began = this.at;
    let lastPass = false;
    let restarted = false;
    let stop = -1;
    for (;;) {
      if (stop !== -1) {
        this.at = stop;
        return;
      }
      this.at = -1;
      this.minimum -= this.step;
      if (this.minimum <= 0) {
        this.minimum = this.most;
        if (lastPass || began === -1) return;
        restarted = true;
      }
      lastPass = this.minimum <= this.step;
      if (lastPass && restarted) stop = began;
    }
  }
}

class LeastConnection extends Model {
  schedule(): Server | null {
    const open = this.open();
    const least = Math.min(...open.map(overhead));
    return open.find((server) => overhead(server) === least) ?? null;
  }
}

class WeightedLeastConnection extends Model {
  schedule(): Server | null {
    return leastByWeight(this.open(), overhead);
  }
}

class ShortestExpectedDelay extends Model {
  schedule(): Server | null {
    return leastByWeight(this.open(), ({ active }) => active + 1);
  }
}

class NeverQueue extends Model {
  schedule(): Server | null {
    const open = this.open();
    return open.find(({ active }) => active === 0) ?? leastByWeight(open, ({ active }) => active + 1);
  }
}

class Failover extends Model {
  schedule(): Server | null {
    const open = this.open();
    const most = Math.max(...open.map(({ weight }) => weight));
    return open.find(({ weight }) => weight === most) ?? null;
  }
}

class Overflow extends Model {
  schedule(): Server | null {
    const fit = this.open().filter(({ active, weight }) => active <= weight);
    const most = Math.max(...fit.map(({ weight }) => weight));
    return fit.find(({ weight }) => weight === most) ?? null;
  }
}

function hash8(word: number): number {
  return Number(((BigInt(word >>> 0) * 0x61c88647n) & 0xffffffffn) >> 24n);
}

abstract class Hashed extends Model {
  protected table: (Server | null)[] = [];

  protected abstract bucket(packet: Packet, offset: number): number;

  schedule(packet: Packet): Server | null {
    const isOpen = (server: Server | null) => server !== null && server.weight > 0 && !server.overloaded;
    const home = this.bucket(packet, 0);
    const server = this.table[home] ?? null;
    if (isOpen(server)) return server;
    if (server === null || !this.fallback) return null;
    for (let offset = 0; offset < this.table.length; offset++) {
      const other = this.table[this.bucket(packet, (offset + home) % this.table.length)] ?? null;
      if (isOpen(other)) return other;
    }
    return null;
  }
}

class SourceHash extends Hashed {
  protected override changed(): void {
    const turn = this.servers.flatMap((server) => new Array<Server>(Math.max(1, server.weight)).fill(server));
    this.table = Array.from({ length: 256 }, (_, i) => turn[i % turn.length] ?? null);
  }

  protected bucket({ src, sport }: Packet, offset: number): number {
    return (hash8((src + (this.hashPort ? sport : 0)) | 0) + offset) % 256;
  }
}

class DestinationHash extends Hashed {
  protected override changed(): void {
    this.table = Array.from({ length: 256 }, (_, i) => this.servers[i % this.servers.length] ?? null);
  }

  protected bucket({ dst }: Packet): number {
    return hash8(dst);
  }
}

/** Its table is checked against a naive Maglev in test/tables/ipvs-rings.test.ts. */
class MaglevHash extends Hashed {
  protected override changed(): void {
    const ring = new Int32Array(MH_RING);
    fillMaglevRing(
      ring,
      this.servers.map(({ address, weight, lastWeight }) => ({
        address: [address, 0, 0, 0],
        port: 8080,
        weight,
        lastWeight,
      })),
    );
    this.table = Array.from(ring, (i) => this.servers[i] ?? null);
  }

  protected bucket({ src, sport }: Packet, offset: number): number {
    return maglevBucket(src, this.hashPort ? sport : 0, offset);
  }
}

const DAY = 86_400_000;

/** True if the server has more than its share while another has less than half of its own. */
function isCrowded(server: Server, servers: readonly Server[]): boolean {
  return server.active > server.weight && servers.some(({ active, weight }) => active * 2 < weight);
}

class Locality extends Model {
  private readonly cache = new Map<number, { server: Server; used: number }>();

  schedule({ dst, now }: Packet): Server | null {
    const known = this.cache.get(dst);
    let server: Server | null = null;
    if (known !== undefined && now < known.used + DAY) {
      const isThere = this.servers.includes(known.server) && known.server.weight > 0;
      if (isThere && !isCrowded(known.server, this.servers)) server = known.server;
    }
    server ??= leastByWeight(this.open(), overhead);
    if (server !== null) this.cache.set(dst, { server, used: now });
    return server;
  }
}

class ReplicatedLocality extends Model {
  private readonly cache = new Map<number, { set: Server[]; used: number; changed: number }>();

  schedule({ dst, now }: Packet): Server | null {
    const entry = this.cache.get(dst);
    if (entry === undefined || now >= entry.used + DAY) {
      const server = leastByWeight(this.open(), overhead);
      if (server !== null) this.cache.set(dst, { set: [server], used: now, changed: now });
      return server;
    }
    entry.used = now;
    const there = entry.set.filter((server) => this.servers.includes(server));
    let server = leastByWeight(
      there.filter(({ weight, overloaded }) => weight > 0 && !overloaded),
      overhead,
    );
    if (entry.set.length > 1 && now > entry.changed + DAY) {
      // One that is gone leaves before the most loaded one.
      const gone = entry.set.find((member) => !this.servers.includes(member));
      let most: Server | undefined = gone;
      if (most === undefined) {
        for (const member of there.filter(({ weight }) => weight > 0)) {
          if (most === undefined || overhead(most) * member.weight < overhead(member) * most.weight) most = member;
        }
      }
      entry.set = entry.set.filter((member) => member !== most);
      entry.changed = now;
    }
    if (server === null || isCrowded(server, this.servers)) {
      server = leastByWeight(this.open(), overhead);
      if (server !== null && !entry.set.includes(server)) {
        entry.set.unshift(server);
        entry.changed = now;
      }
    }
    return server;
  }
}

/** A new model by the name that ipvsadm gives the scheduler. */
export function makeModel(name: string): Model {
  switch (name) {
    case 'rr':
      return new RoundRobin();
    case 'wrr':
      return new WeightedRoundRobin();
    case 'lc':
      return new LeastConnection();
    case 'wlc':
      return new WeightedLeastConnection();
    case 'sed':
      return new ShortestExpectedDelay();
    case 'nq':
      return new NeverQueue();
    case 'sh':
      return new SourceHash();
    case 'dh':
      return new DestinationHash();
    case 'mh':
      return new MaglevHash();
    case 'lblc':
      return new Locality();
    case 'lblcr':
      return new ReplicatedLocality();
    case 'fo':
      return new Failover();
    case 'ovf':
      return new Overflow();
  }
  throw new Error(`no model of ${name}`);
}
