/**
 * The ports at which a workload is known to listen: those that its containers declare and those that Services lead to, on
 * either side. A policy that closes all others closes what nobody is known to use, which is worth telling apart.
 */

import { listServicePorts } from '../compile/service-ports.ts';
import type { Pod } from '../model/pod.ts';
import type { SideView } from './side-view.ts';
import type { Subject } from './subjects.ts';

export interface PortInterval {
  readonly protocol: string;
  readonly first: number;
  /** Belongs to it. */
  readonly last: number;
}

/** 'TCP 8080' */
type PortName = string;

export class DeclaredPorts {
  private readonly views: readonly { readonly view: SideView; readonly served: ReadonlyMap<number, Set<PortName>> }[];
  private readonly bySubject = new Map<Subject, ReadonlySet<PortName> | null>();

  constructor(before: SideView, after: SideView) {
    this.views = [before, after].map((view) => ({ view, served: servedPorts(view) }));
  }

  /**
   * The ports of some intervals that a subject is known to listen at; null where nothing is known of it: nodes, the
   * outside, workloads that declare no port at all.
   */
  among(subject: Subject, intervals: readonly PortInterval[]): PortInterval[] | null {
    const known = this.portsOf(subject);
    if (known === null) return null;
    const found: PortInterval[] = [];
    for (const name of known) {
      const [protocol, text] = name.split(' ') as [string, string];
      const port = Number(text);
      const holds = intervals.some((own) => own.protocol === protocol && own.first <= port && port <= own.last);
      if (holds) found.push({ protocol, first: port, last: port });
    }
    return found.sort((a, b) => (a.protocol < b.protocol ? -1 : a.protocol > b.protocol ? 1 : a.first - b.first));
  }

  private portsOf(subject: Subject): ReadonlySet<PortName> | null {
    if (subject.kind !== 'workload') return null;
    const cached = this.bySubject.get(subject);
    if (cached !== undefined) return cached;
    const ports = new Set<PortName>();
    this.views.forEach(({ view, served }, side) => {
      for (const member of subject.members) {
        const party = side === 0 ? member.before : member.after;
        if (party < 0) continue;
        for (const name of containerPorts(view.model.topology.endpoints[party]!.pod)) ports.add(name);
        for (const name of served.get(party) ?? []) ports.add(name);
      }
    });
    const known = ports.size === 0 ? null : ports;
    this.bySubject.set(subject, known);
    return known;
  }
}

function containerPorts({ spec }: Pod): PortName[] {
  const sidecars = spec.initContainers.filter(({ restartPolicy }) => restartPolicy === 'Always');
  return [...spec.containers, ...sidecars].flatMap(({ ports }) =>
    ports.map(({ protocol, containerPort }) => `${protocol} ${containerPort}`),
  );
}

/** Ports that Services lead to, by party. */
function servedPorts({ model, parties }: SideView): Map<number, Set<PortName>> {
  const served = new Map<number, Set<PortName>>();
  for (const family of parties.families) {
    for (const { endpoints, protocol } of listServicePorts(model.cluster, family)) {
      for (const { address, port } of endpoints) {
        const party = parties.ownerOf(address);
        if (party < 0) continue;
        const own = served.get(party) ?? new Set<PortName>();
        served.set(party, own.add(`${protocol} ${port}`));
      }
    }
  }
  return served;
}
