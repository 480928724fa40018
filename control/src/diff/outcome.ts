/**
 * What becomes of a new connection, in words that mean the same on both sides: backends by workload, never by addresses
 * that a side may have made.
 *
 * Equal outcomes are one object, whichever side they come from. It *works* where every way that the datapath could choose
 * arrives, works *partly* where only some do: then a share of the connections fails.
 */

import { parseAddress } from '../model/address.ts';
import type { Answer } from '../reach/evaluator.ts';
import { workloadId, workloadOf } from '../reach/workload.ts';
import type { SideView } from './side-view.ts';

export type Works = 'no' | 'partly' | 'yes';
export type ChangeKind = 'breaks' | 'opens' | 'changes';

export interface Outcome {
  /** The same for equal outcomes of one comparison. */
  readonly number: number;
  readonly works: Works;
  /** Of the worst way. */
  readonly verdict: string;
  readonly reason: string;
  readonly translated: boolean;
  readonly masquerade: boolean;
  /** 'deploy/shop/cart:8080', 'node/worker-1:9100', or `ip:port` where nobody owns the address; sorted. */
  readonly backends: readonly string[];
}

const RANK: Readonly<Record<Works, number>> = { no: 0, partly: 1, yes: 2 };

/** @param before null where one of the ends is not there; @param after likewise */
export function compareOutcomes(before: Outcome | null, after: Outcome | null): ChangeKind | null {
  if (before === after) return null;
  const was = before === null ? 0 : RANK[before.works];
  const is = after === null ? 0 : RANK[after.works];
  if (was !== is) return was > is ? 'breaks' : 'opens';
  return before === null || after === null ? null : 'changes';
}

export function isArrived(verdict: string): boolean {
  return verdict === 'delivered' || verdict === 'forwarded';
}

/** All outcomes of a comparison. */
export class Outcomes {
  private readonly byText = new Map<string, Outcome>();
  private readonly byAnswer = new Map<Answer, Outcome>();

  /** @param answer of the view's evaluator */
  of(view: SideView, answer: Answer): Outcome {
    let outcome = this.byAnswer.get(answer);
    if (outcome === undefined) {
      outcome = this.intern(view, answer);
      this.byAnswer.set(answer, outcome);
    }
    return outcome;
  }

  private intern(view: SideView, { ways, verdict, reason, translated, masquerade }: Answer): Outcome {
    const told = new Set<string>();
    const backends = new Set<string>();
    let arrived = 0;
    for (const way of ways) {
      const backend = way.backend === null ? '' : nameBackend(view, way.backend);
      if (backend !== '') backends.add(backend);
      if (isArrived(way.verdict)) arrived++;
      told.add(`${way.verdict} ${way.reason} ${way.masquerade} ${backend}`);
    }
    const text = [...told].sort().join('|');
    let outcome = this.byText.get(text);
    if (outcome === undefined) {
      const works: Works = arrived === 0 ? 'no' : arrived === ways.length ? 'yes' : 'partly';
      outcome = {
        number: this.byText.size,
        works,
        verdict,
        reason,
        translated,
        masquerade,
        backends: [...backends].sort(),
      };
      this.byText.set(text, outcome);
    }
    return outcome;
  }
}

/** @param backend `ip:port` or `[v6]:port` */
export function nameBackend({ model, parties }: SideView, backend: string): string {
  const colon = backend.lastIndexOf(':');
  const address = parseAddress(backend.slice(0, colon).replace(/[[\]]/g, ''));
  const owner = address === null ? -1 : parties.ownerOf(address);
  if (owner < 0) return backend;
  const pod = model.topology.endpoints[owner]?.pod;
  const node = model.topology.nodes[owner - parties.pods]?.metadata.name;
  return `${pod === undefined ? `node/${node}` : workloadId(workloadOf(pod))}${backend.slice(colon)}`;
}
