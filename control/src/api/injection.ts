/**
 * Injected packets: one injector a mode, each with connections that live on from call to call and under new images.
 *
 * A new image keeps connections, affinity and counters. Two things are numbered and may be numbered anew: nodes (the
 * zones of connections) and `recent` lists (affinity of the iptables mode). Where that happens the connections, or the
 * affinity, begin empty. Time is the server's own clock since it started, unless a packet is dated later; it never goes back.
 */
import { ipvsBefore } from '../compile/attach.ts';
import type { ClusterModel } from '../compile/image.ts';
import type { Mode } from '../model/datapath.ts';
import { type Entry, type Injected, Injector } from '../probe/injector.ts';
import type { LiveCluster, Publisher } from './live-cluster.ts';
import { affinityKey, nodesKey } from './numbering.ts';

export class Injection implements Publisher {
  private readonly injectors = new Map<Mode, Injector>();
  private readonly cluster: LiveCluster;
  private readonly startedAt = performance.now();
  private clockMs = 0;

  constructor(cluster: LiveCluster) {
    this.cluster = cluster;
    cluster.addPublisher(this);
  }

  /** The modes that packets were injected into, with their injectors. */
  get used(): ReadonlyMap<Mode, Injector> {
    return this.injectors;
  }

  injectorOf(mode: Mode): Injector {
    let injector = this.injectors.get(mode);
    if (injector === undefined) {
      injector = new Injector(this.cluster.model, mode);
      this.injectors.set(mode, injector);
    }
    return injector;
  }

  /** Virtual time, in ms: what the server's clock says, or the latest date of a packet. */
  now(): number {
    this.clockMs = Math.max(this.clockMs, Math.floor(performance.now() - this.startedAt));
    return this.clockMs;
  }

  /** @param timeMs null: now; an earlier time than that of the packet before counts as that one's */
  inject(
    mode: Mode,
    frame: Uint8Array,
    entry: Entry | null,
    uplinkNode: number | null,
    timeMs: number | null,
    record: boolean,
  ): Injected {
    this.clockMs = timeMs === null ? this.now() : Math.max(this.clockMs, timeMs);
    return this.injectorOf(mode).inject(frame, entry, uplinkNode, this.clockMs, record);
  }

  prepare(model: ClusterModel): () => Promise<void> {
    const next = [...this.injectors].map(([mode, injector]) => [mode, moveInjector(injector, model)] as const);
    return async () => {
      for (const [mode, injector] of next) this.injectors.set(mode, injector);
    };
  }
}

/** An injector for another model with the connections of the one before. */
function moveInjector(old: Injector, model: ClusterModel): Injector {
  const sameNodes = nodesKey(old.model) === nodesKey(model);
  const next = new Injector(model, old.mode, sameNodes ? ipvsBefore(old.image, old.datapath) : null);
  const { conntrack4, conntrack6, ipvsState, affinity, ports, counters } = old.datapath;
  const fresh = next.datapath;
  next.datapath = { ...fresh, counters };
  if (!sameNodes) return next;
  const keepsLists = affinityKey(old.model, old.mode) === affinityKey(model, old.mode);
  next.datapath = {
    ...fresh,
    counters,
    conntrack4,
    conntrack6,
    ipvsState,
    ports,
    affinity: keepsLists ? affinity : fresh.affinity,
  };
  return next;
}
