/**
 * `/metrics` for Prometheus: the engine's counters as they stand when somebody asks, and the process's own.
 *
 * Names and labels of outcomes come from the registry of reasons. All counters are sums over injected packets and streams.
 */
import type { FastifyInstance } from 'fastify';
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { Injection } from './injection.ts';
import type { LiveCluster } from './live-cluster.ts';
import type { StreamBook } from './stream-book.ts';
import { type Tally, tallyModes } from './tallies.ts';

export function addMetrics(app: FastifyInstance, cluster: LiveCluster, injection: Injection, book: StreamBook): void {
  // One reading for all metrics of a scrape, so that their sums agree.
  let tallies: readonly Tally[] = [];
  const registry = makeRegistry(cluster, injection, book, () => tallies);
  const schema = { tags: ['stats'], summary: 'metrics for Prometheus', produces: ['text/plain'] };
  app.get('/metrics', { schema }, async (_request, reply) => {
    reply.type(registry.contentType);
    tallies = tallyModes(injection, book);
    return registry.metrics();
  });
}

function makeRegistry(
  cluster: LiveCluster,
  injection: Injection,
  book: StreamBook,
  tallies: () => readonly Tally[],
): Registry {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  new Counter({
    name: 'flatpath_packets_total',
    help: 'Packets that ended, by mode, verdict and reason.',
    labelNames: ['mode', 'verdict', 'reason'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { mode, outcomes } of tallies()) {
        for (const { verdict, reason, packets } of outcomes) this.inc({ mode, verdict, reason }, packets);
      }
    },
  });
  const counters: readonly (readonly [name: string, help: string, value: (tally: Tally) => number])[] = [
    ['flatpath_packets_entered_total', 'Packets that entered the cluster.', (tally) => tally.packets],
    ['flatpath_bytes_total', 'Bytes of the packets that entered.', (tally) => tally.bytes],
    ['flatpath_new_flows_total', 'Connections that were entered as new.', (tally) => tally.newFlows],
    ['flatpath_rules_walked_total', 'Rules that packets walked over, matching or not.', (tally) => tally.rules],
    ['flatpath_lookups_total', 'Lookups in tables and maps.', (tally) => tally.lookups],
    ['flatpath_hops_total', "Passes through a node's program.", (tally) => tally.hops],
    ['flatpath_backend_choices_total', 'Choices of a backend.', (tally) => tally.choices],
    [
      'flatpath_conntrack_evictions_total',
      'Entries that a full table gave up for new ones.',
      (tally) => tally.evictions,
    ],
    ['flatpath_answers_total', 'Replies and rejections on behalf of pods and nodes.', (tally) => tally.answers],
  ];
  for (const [name, help, value] of counters) {
    new Counter({
      name,
      help,
      labelNames: ['mode'],
      registers: [registry],
      collect() {
        this.reset();
        for (const tally of tallies()) this.inc({ mode: tally.mode }, value(tally));
      },
    });
  }
  addGauges(registry, cluster, injection, book, tallies);
  return registry;
}

function addGauges(
  registry: Registry,
  cluster: LiveCluster,
  injection: Injection,
  book: StreamBook,
  tallies: () => readonly Tally[],
): void {
  const registers = [registry];
  new Gauge({
    name: 'flatpath_conntrack_entries',
    help: 'Connections of injected packets that hold a place.',
    labelNames: ['mode', 'family'],
    registers,
    collect() {
      this.reset();
      for (const { mode, conntrack } of tallies()) {
        if (conntrack === null) continue;
        this.set({ mode, family: 'ipv4' }, conntrack.ipv4.entries);
        this.set({ mode, family: 'ipv6' }, conntrack.ipv6.entries);
      }
    },
  });
  new Gauge({
    name: 'flatpath_iptables_rules',
    help: 'Rules that the iptables mode compiled for the nodes that injected packets have met.',
    labelNames: ['family'],
    registers,
    collect() {
      this.reset();
      const image = injection.used.get('iptables')?.image;
      if (image?.rules4 != null) this.set({ family: 'ipv4' }, image.rules4.ruleCount);
      if (image?.rules6 != null) this.set({ family: 'ipv6' }, image.rules6.ruleCount);
    },
  });
  new Gauge({
    name: 'flatpath_image_generation',
    help: 'Number of the image in force; each change makes a new one.',
    registers,
    collect() {
      this.set(cluster.generation);
    },
  });
  new Gauge({
    name: 'flatpath_streams_running',
    help: 'Streams that run.',
    registers,
    collect() {
      this.set(book.all.filter((stream) => !stream.isOver()).length);
    },
  });
  new Gauge({
    name: 'flatpath_last_compile_seconds',
    help: 'Time that the last change took to be completed and compiled.',
    registers,
    collect() {
      this.set(cluster.compileTimes.lastSeconds);
    },
  });
  const totals: readonly (readonly [name: string, help: string, value: () => number])[] = [
    [
      'flatpath_compile_seconds_total',
      'Time spent on completing and compiling changes.',
      () => cluster.compileTimes.seconds,
    ],
    ['flatpath_compiles_total', 'Changes that were completed and compiled.', () => cluster.compileTimes.count],
  ];
  for (const [name, help, value] of totals) {
    new Counter({
      name,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  }
}
