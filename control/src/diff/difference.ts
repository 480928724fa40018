/**
 * The difference between two sides as people and machines read it: rows of what breaks, opens or changes, each with who
 * decides before and after, and the changed objects that have to do with it.
 *
 * A row is one source, one target and the ports at which the same becomes of their connections.
 */

import type { DatapathInput, Mode } from '../model/datapath.ts';
import { serviceNameOf } from '../model/endpoint-slice.ts';
import { reachMode } from '../reach/report.ts';
import { type Workload, workloadId } from '../reach/workload.ts';
import { type Change, type ChangedPorts, Comparison } from './changes.ts';
import { Decider, type Decision } from './decision.ts';
import { DeclaredPorts, type PortInterval } from './declared-ports.ts';
import { listObjectChanges, type ObjectChange } from './object-changes.ts';
import type { ChangeKind, Outcome } from './outcome.ts';
import { isEntrance, type ServiceEntrance } from './service-entrances.ts';
import { SideView } from './side-view.ts';
import type { Sides } from './sides.ts';
import type { Subject } from './subjects.ts';

/** One side of a row. */
export interface RowSide {
  /** Null where one of the ends is not there. */
  readonly outcome: Outcome | null;
  readonly decision: Decision;
}

export interface DifferenceRow {
  readonly kind: ChangeKind;
  readonly source: Subject;
  readonly target: Subject | ServiceEntrance;
  /** In the order of protocols and ports. */
  readonly ports: readonly PortInterval[];
  /** Those of them at which the target is known to listen; null where nothing is known of it. */
  readonly declared: readonly PortInterval[] | null;
  readonly families: readonly (4 | 6)[];
  /** Pairs of pods (nodes, addresses) that it is so for, and all that there are. */
  readonly pairs: number;
  readonly of: number;
  readonly before: RowSide;
  readonly after: RowSide;
  /** Changed objects that are one of the ends, or had a say. */
  readonly causes: readonly ObjectChange[];
  /** A change that it is a part of, and the port that stands for the others. */
  readonly change: Change;
  readonly port: number;
}

export interface Difference {
  readonly modes: { readonly before: Mode; readonly after: Mode };
  readonly objects: readonly ObjectChange[];
  /** Workloads of both sides whose number of pods differs. */
  readonly scaled: readonly Subject[];
  /** What breaks first, then what opens, then what changes otherwise; undeclared ports last; by source and target. */
  readonly rows: readonly DifferenceRow[];
  /** Pairs of one sender and one receiver that were compared, with all their ports. */
  readonly compared: number;
}

/** Both sides with everything that answers for them. */
export interface Views {
  readonly before: SideView;
  readonly after: SideView;
}

const KINDS: readonly ChangeKind[] = ['breaks', 'opens', 'changes'];

export function viewSides({ before, after }: Sides, modes: Difference['modes']): Views {
  return { before: new SideView(before, modes.before), after: new SideView(after, modes.after) };
}

/** The mode of a side where none is asked for: that of its datapath block, the cluster's own, else ebpf. */
export function modeOfSide({ model }: Sides['before'], datapath: DatapathInput): Mode {
  return datapath.modes?.[0] ?? reachMode(model);
}

/** The rows of ports that somebody is known to use: where a target declares ports, only those. */
export function onlyDeclared(difference: Difference): Difference {
  const rows = difference.rows.filter(({ declared }) => declared === null || declared.length > 0);
  return { ...difference, rows: rows.map((row) => ({ ...row, ports: row.declared ?? row.ports })) };
}

/** Compares everything with everything. */
export function findDifference({ before, after }: Views): Difference {
  const comparison = new Comparison(before, after);
  const changes = comparison.run();
  const objects = listObjectChanges(before.side.store, after.side.store);
  const maker = new RowMaker(before, after, comparison, objects);
  const rows = changes.flatMap((change) => maker.rowsOf(change));
  rows.sort((a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind) || unknownPorts(a) - unknownPorts(b));
  return {
    modes: { before: before.mode, after: after.mode },
    objects,
    scaled: comparison.subjects.filter(
      ({ kind, isAdded, isRemoved, scaledFrom, scaledTo }) =>
        kind === 'workload' && !isAdded && !isRemoved && scaledFrom !== scaledTo,
    ),
    rows,
    compared: comparison.compared,
  };
}

/** 1 for rows of ports that nobody is known to use: they come after the others. */
function unknownPorts({ declared }: DifferenceRow): number {
  return declared?.length === 0 ? 1 : 0;
}

class RowMaker {
  private readonly decider: Decider;
  private readonly declared: DeclaredPorts;
  private readonly causes: Causes;
  /** Ports of nodes' addresses that are Services', as 'TCP 30080'. */
  private readonly nodeServices = new Set<string>();

  constructor(before: SideView, after: SideView, { entrances }: Comparison, objects: readonly ObjectChange[]) {
    this.decider = new Decider(before, after);
    this.declared = new DeclaredPorts(before, after);
    this.causes = new Causes(objects, after);
    for (const { kind, protocol, port } of entrances) {
      if (kind !== 'ClusterIP') this.nodeServices.add(`${protocol} ${port}`);
    }
  }

  /** One row for each way in which the change's ports change. */
  rowsOf(change: Change): DifferenceRow[] {
    const groups = new Map<string, ChangedPorts[]>();
    for (const ports of change.ports) {
      const key = `${ports.kind} ${ports.before?.number ?? ''} ${ports.after?.number ?? ''}`;
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [ports]);
      else group.push(ports);
    }
    return [...groups.values()].map((group) => this.rowOf(change, group));
  }

  private rowOf(change: Change, group: readonly ChangedPorts[]): DifferenceRow {
    const { source, target, families, pairs, of } = change;
    const [{ kind, before, after }] = group as [ChangedPorts];
    const ports = group.map(({ protocol, first, last }) => ({ protocol, first, last }));
    const declared = isEntrance(target) ? ports : this.declared.among(target, ports);
    const shown = declared?.[0] ?? null;
    const own = group.find(
      ({ protocol, first, last }) =>
        shown !== null && protocol === shown.protocol && first <= shown.first && shown.first <= last,
    );
    const port = own === undefined ? this.freePort(group[0]!, target) : shown!.first;
    const decisions = this.decider.decide(change, own ?? group[0]!, port);
    return {
      kind,
      source,
      target,
      ports,
      declared,
      families,
      pairs,
      of,
      before: { outcome: before, decision: decisions.before },
      after: { outcome: after, decision: decisions.after },
      causes: this.causes.of(source, target, [before, after], [decisions.before, decisions.after]),
      change,
      port,
    };
  }

  /** A port of an interval that is no Service's where the target is a node. */
  private freePort({ protocol, first, last }: ChangedPorts, target: Subject | ServiceEntrance): number {
    if (isEntrance(target) || target.kind !== 'nodes') return first;
    let port = first;
    while (port < last && this.nodeServices.has(`${protocol} ${port}`)) port++;
    return port;
  }
}

/** Which changed objects a row has to do with. */
class Causes {
  private readonly byName = new Map<string, ObjectChange>();
  /** Changed slices by 'namespace/service'. */
  private readonly slices = new Map<string, ObjectChange[]>();
  /** They set how everything runs. */
  private readonly settings: readonly ObjectChange[];

  constructor(objects: readonly ObjectChange[], after: SideView) {
    for (const object of objects) this.byName.set(`${object.kind} ${object.namespace}/${object.name}`, object);
    for (const slice of after.model.cluster.endpointSlices) {
      const { namespace, name } = slice.metadata;
      const changed = this.byName.get(`EndpointSlice ${namespace}/${name}`);
      if (changed === undefined) continue;
      const key = `${namespace}/${serviceNameOf(slice)}`;
      this.slices.set(key, [...(this.slices.get(key) ?? []), changed]);
    }
    this.settings = objects.filter(
      ({ kind, namespace, name }) =>
        kind === 'ConfigMap' && namespace === 'kube-system' && (name === 'kube-proxy' || name === 'cilium-config'),
    );
  }

  of(
    source: Subject,
    target: Subject | ServiceEntrance,
    outcomes: readonly (Outcome | null)[],
    decisions: readonly Decision[],
  ): ObjectChange[] {
    const found = new Set<ObjectChange>(this.settings);
    const add = (kind: string, namespace: string, name: string): void => {
      const object = this.byName.get(`${kind} ${namespace}/${name}`);
      if (object !== undefined) found.add(object);
    };
    for (const { policies, origin } of decisions) {
      for (const { kind, namespace, name } of [...policies, ...(origin === null ? [] : [origin])]) {
        add(kind, namespace, name);
      }
    }
    for (const end of [source, target]) {
      if (isEntrance(end)) {
        add('Service', end.namespace, end.name);
        for (const slice of this.slices.get(`${end.namespace}/${end.name}`) ?? []) found.add(slice);
      } else this.addWorkload(end, add);
      if (end.namespace !== '') add('Namespace', '', end.namespace);
    }
    const backends = new Set(outcomes.flatMap((outcome) => outcome?.backends ?? []).map(withoutPort));
    if (backends.size > 0) {
      for (const object of this.byName.values()) if (backends.has(workloadId(object))) found.add(object);
    }
    return [...found];
  }

  private addWorkload(
    { before, after, members, kind }: Subject,
    add: (kind: string, namespace: string, name: string) => void,
  ): void {
    const owners = [before, after].filter((workload): workload is Workload => workload !== null);
    for (const owner of owners) add(owner.kind, owner.namespace, owner.name);
    for (const { name } of members) {
      const [, namespace = '', pod = ''] = name.split('/');
      if (kind === 'workload') add('Pod', namespace, pod);
      else if (kind === 'nodes') add('Node', '', namespace);
    }
  }
}

function withoutPort(backend: string): string {
  return backend.slice(0, backend.lastIndexOf(':'));
}
