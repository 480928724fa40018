import { describe, expect, it } from 'vitest';
import type { Datapath } from '../../engine/src/programs/datapath.ts';
import { beginConnection, endDueConnections, followConnection } from '../../engine/src/programs/ipvs-connection.ts';
import { activeOf, inactiveOf } from '../../engine/src/programs/ipvs-load.ts';
import { chooseRealServer } from '../../engine/src/programs/ipvs-schedule.ts';
import { DIRECTION_IN } from '../../engine/src/programs/ipvs-states.ts';
import { connFindIn } from '../../engine/src/tables/ipvs-connections.ts';
import {
  RS_ADDRESS,
  RS_ID,
  RS_PORT,
  realWord,
  SCHEDULER_NAMES,
  VS_FALLBACK,
  VS_HASH_PORT,
} from '../../engine/src/tables/ipvs-services.ts';
import { type Burst, createBurst } from '../../engine/src/wire/burst.ts';
import { PROTO_TCP, TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../../engine/src/wire/tcp.ts';
import { words as random } from '../tables/runs.ts';
import { buildIpvsDatapath, setIpvs } from './ipvs-fixture.ts';
import { type Model, makeModel, type Server } from './ipvs-models.ts';

const CONNECTIONS = 10_000;
/** A fresh service after so many. */
const FRESH_EVERY = 1000;
const FLOWS = FRESH_EVERY;
const VIP = '10.96.0.10';

/** A connection as the models keep it: when it ends, and whether it counts as active. */
interface Held {
  readonly server: Server;
  readonly src: number;
  readonly dst: number;
  readonly sport: number;
  ends: number;
  active: boolean;
  closed: boolean;
}

/** One scheduler, engine and model side by side, over random arrivals, states, times, weights and removals. */
class Race {
  readonly dp: Datapath;
  readonly b: Burst = createBurst(1);
  readonly model: Model;
  readonly next: () => number;
  readonly flags: number;
  readonly scheduler: number;
  held: Held[] = [];
  now = 0;
  ports = 0;
  made = 0;
  /** Servers by address, those that were removed too: the kernel remembers a removed one while it has connections. */
  readonly known = new Map<number, Server>();

  constructor(scheduler: number, seed: number) {
    this.scheduler = scheduler;
    this.next = random(seed);
    this.model = makeModel(SCHEDULER_NAMES[scheduler]!);
    this.flags = this.draw(2) === 0 ? 0 : VS_FALLBACK | VS_HASH_PORT;
    this.model.fallback = this.flags !== 0;
    this.model.hashPort = this.flags !== 0;
    this.dp = buildIpvsDatapath({ flows: FLOWS });
    const thresholds = this.draw(2) === 0;
    const count = 1 + this.draw(8);
    for (let i = 0; i < count; i++) this.add(thresholds);
    this.publish();
  }

  draw(below: number): number {
    return (this.next() >>> 0) % below;
  }

  add(thresholds: boolean): void {
    const address = 0x0af40000 + ++this.made;
    const upper = thresholds && this.draw(2) === 0 ? 20 + this.draw(200) : 0;
    const lower = upper > 0 && this.draw(2) === 0 ? 5 + this.draw(10) : 0;
    const weight = this.weight();
    const server = {
      id: address,
      address,
      weight,
      lastWeight: weight,
      upper,
      lower,
      active: 0,
      inactive: 0,
      overloaded: false,
    };
    this.known.set(address, server);
    this.model.add(server);
  }

  weight(): number {
    const kind = this.draw(6);
    if (kind === 0) return 0;
    return kind < 4 ? 1 + this.draw(4) : 1 + this.draw(120);
  }

  /** A new image: the model's list, which stands newest first, in the order in which its servers were added. */
  publish(): void {
    setIpvs(this.dp, {
      servers: [
        {
          address: VIP,
          port: 80,
          scheduler: this.scheduler,
          flags: this.flags,
          reals: this.model.servers.toReversed().map(({ address, weight, lastWeight, upper, lower }) => ({
            address: [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.'),
            port: 8080,
            weight,
            lastWeight,
            upper,
            lower,
          })),
        },
      ],
    });
  }

  change(): void {
    const { model } = this;
    const kind = this.draw(4);
    const any = model.servers[this.draw(Math.max(1, model.servers.length))];
    if (kind === 0 && model.servers.length < 12) this.add(this.draw(3) === 0);
    else if (any !== undefined && kind === 1 && model.servers.length > 1) model.remove(any);
    else if (any !== undefined) {
      const weight = this.weight();
      // An update that changes nothing makes no new image.
      if (weight !== any.weight) model.setWeight(any, weight);
    }
    this.publish();
  }

  lanes(src: number, dst: number, sport: number, flags: number): void {
    const { b } = this;
    b.family[0] = 4;
    b.proto[0] = PROTO_TCP;
    b.src0[0] = src;
    b.dst0[0] = dst;
    b.sport[0] = sport;
    b.dport[0] = 80;
    b.info[0] = flags;
    b.timeMs[0] = this.now;
    b.choice[0] = -1;
  }

  connect(): void {
    const src = (0x0a000000 + this.draw(60)) | 0;
    const dst = (0x0a600000 + this.draw(5)) | 0;
    const sport = 1024 + (this.ports++ % 60_000);
    this.lanes(src, dst, sport, TCP_SYN);
    endDueConnections(this.dp, 0, this.now);
    const services = this.dp.ipvs!.services;
    const real = chooseRealServer(this.dp, this.b, 0, 0);
    const want = this.model.schedule({ src, dst, sport, now: this.now });
    const got = real === -1 ? null : realWord(services, real, RS_ADDRESS);
    // Not `expect` for what agrees: it is called 10,000 times a scheduler.
    if (got !== (want?.address ?? null)) expect(got).toBe(want?.address ?? null);
    if (want === null) return;
    const at = beginConnection(this.dp, this.b, 0, 0, real, realWord(services, real, RS_PORT));
    if (at === -1) throw new Error('the table is full');
    followConnection(this.dp, this.b, 0, at, DIRECTION_IN);
    want.inactive++;
    if (want.upper > 0 && want.active + want.inactive >= want.upper) want.overloaded = true;
    this.held.push({ server: want, src, dst, sport, ends: this.now + 60_000, active: false, closed: false });
  }

  /** A packet of a connection that stands: ACK establishes, FIN half closes (60 s), RST closes (10 s). */
  talk(): void {
    const one = this.held[this.draw(Math.max(1, this.held.length))];
    if (one === undefined || one.closed) return;
    const flags = one.active ? [TCP_ACK, TCP_ACK | TCP_FIN, TCP_RST][this.draw(3)]! : TCP_ACK;
    this.lanes(one.src, one.dst, one.sport, flags);
    const t = this.dp.ipvsState!.connections;
    const ports = (one.sport << 16) | 80;
    const at = connFindIn(t, 0, 0, 4, PROTO_TCP, one.src, 0, 0, 0, one.dst, 0, 0, 0, ports);
    if (at === -1) throw new Error('a connection ended before its time');
    followConnection(this.dp, this.b, 0, at, DIRECTION_IN);
    const active = flags === TCP_ACK;
    if (active && !one.active) {
      one.server.active++;
      one.server.inactive--;
    } else if (!active) {
      one.server.active--;
      one.server.inactive++;
      one.closed = true;
    }
    one.active = active;
    one.ends = this.now + (active ? 900_000 : flags === TCP_RST ? 10_000 : 60_000);
  }

  wait(): void {
    const kind = this.draw(20);
    this.now += kind === 0 ? this.draw(90_000_000) : this.draw(kind < 15 ? 400 : 20_000);
    endDueConnections(this.dp, 0, this.now);
    const ended = this.held.filter(({ ends }) => ends <= this.now).sort((a, b) => a.ends - b.ends);
    this.held = this.held.filter(({ ends }) => ends > this.now);
    for (const { server, active } of ended) {
      if (active) server.active--;
      else server.inactive--;
      const total = server.active + server.inactive;
      if (server.lower > 0 ? total < server.lower : total * 4 < server.upper * 3) server.overloaded = false;
    }
  }

  checkCounts(): void {
    const services = this.dp.ipvs!.services;
    const state = this.dp.ipvsState!;
    this.model.servers.forEach((server, position) => {
      const id = realWord(services, position, RS_ID);
      expect([activeOf(state, 0, 0, id), inactiveOf(state, 0, 0, id)]).toEqual([server.active, server.inactive]);
    });
  }
}

function seedOf(): number {
  const given = process.env['FLATPATH_SEED'];
  return given === undefined ? Math.trunc(Math.random() * 0x7fffffff) : Number(given);
}

describe('each scheduler chooses as its naive model', () => {
  for (const [scheduler, name] of SCHEDULER_NAMES.entries()) {
    it(`${name}: 10,000 connections under random weights, removals, states and times`, () => {
      const seed = seedOf();
      let race = new Race(scheduler, seed);
      let fresh = FRESH_EVERY;
      try {
        for (let made = 0; made < CONNECTIONS; ) {
          // A fresh service now and then, so that all kinds of lists are met.
          if (made >= fresh) {
            race = new Race(scheduler, (seed + made) | 0);
            fresh += FRESH_EVERY;
          }
          const kind = race.draw(100);
          if (kind < 2) {
            // One change at a time is seen by the cursor, as in the kernel.
            race.change();
            race.connect();
            made++;
          } else if (kind < 12) race.wait();
          else if (kind < 45) race.talk();
          else {
            race.connect();
            made++;
          }
          if (kind === 50) race.checkCounts();
        }
      } catch (error) {
        throw new Error(`FLATPATH_SEED=${seed} fails`, { cause: error });
      }
    });
  }
});
