/**
 * Recorded flows: who opened connections to whom, as a capture, Hubble or conntrack saw it.
 *
 * Connections of the same ends, port and protocol are one flow with their count. An end is known by what the recording
 * says of it: a pod's or Service's name, a workload, labels, an address.
 */

import type { Address } from '../model/address.ts';
import type { Protocol } from '../probe/reference.ts';

/** One end of a flow. What the recording does not tell is '' or null. */
export interface RecordedEnd {
  readonly namespace: string;
  readonly pod: string;
  /** Name of the Service behind the address. */
  readonly service: string;
  /** Its owner by kind and name, where the recording names one. */
  readonly workload: { readonly kind: string; readonly name: string } | null;
  /** Name of the node, where the end is one itself. */
  readonly node: string;
  /** Labels of the pod, those that every pod has left out. */
  readonly labels: Readonly<Record<string, string>> | null;
  readonly address: Address | null;
}

export interface RecordedFlow {
  readonly source: RecordedEnd;
  readonly target: RecordedEnd;
  readonly protocol: Protocol;
  /** The target's; 0 for ICMP. */
  readonly port: number;
  /** Connections. */
  readonly count: number;
}

export type RecordingFormat = 'capture' | 'hubble' | 'conntrack';

export interface Recording {
  readonly file: string;
  readonly format: RecordingFormat;
  /** By their first connection in the recording. */
  readonly flows: readonly RecordedFlow[];
  readonly connections: number;
  /** What was left out, and why, by count. */
  readonly skipped: ReadonlyMap<string, number>;
}

/** A recording that is not one, or damaged; names the place. */
export class RecordingError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'RecordingError';
  }
}

export function endAt(address: Address | null): RecordedEnd {
  return { namespace: '', pod: '', service: '', workload: null, node: '', labels: null, address };
}

/** Gathers connections into flows. */
export class FlowBook {
  private readonly flows = new Map<string, { flow: Omit<RecordedFlow, 'count'>; count: number }>();
  private readonly connections = new Set<string>();
  private readonly skipped = new Map<string, number>();

  /**
   * Adds a connection; one that is already known counts no second time.
   * @param clientPort null where the recording has none: every event is a connection then
   */
  add(flow: Omit<RecordedFlow, 'count'>, clientPort: number | null): void {
    const key = `${endKey(flow.source)}>${endKey(flow.target)}:${flow.port}/${flow.protocol}`;
    if (clientPort !== null) {
      const connection = `${key}/${clientPort}`;
      if (this.connections.has(connection)) return;
      this.connections.add(connection);
    }
    const known = this.flows.get(key);
    if (known === undefined) this.flows.set(key, { flow, count: 1 });
    else known.count++;
  }

  skip(why: string): void {
    this.skipped.set(why, (this.skipped.get(why) ?? 0) + 1);
  }

  close(file: string, format: RecordingFormat): Recording {
    const flows = [...this.flows.values()].map(({ flow, count }) => ({ ...flow, count }));
    const connections = flows.reduce((sum, { count }) => sum + count, 0);
    return { file, format, flows, connections, skipped: this.skipped };
  }
}

function endKey({ namespace, pod, service, node, address }: RecordedEnd): string {
  return `${namespace}/${pod}/${service}/${node}/${address?.text ?? ''}`;
}
