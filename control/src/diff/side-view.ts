/** One side of a comparison with everything that answers for it: its parties, and what each reaches at another. */

import type { ClusterModel } from '../compile/image.ts';
import { type Family, inPrefix, type Prefix } from '../model/address.ts';
import type { Mode } from '../model/datapath.ts';
import type { Evaluator } from '../reach/evaluator.ts';
import type { PairAnswers } from '../reach/pair-answers.ts';
import type { Parties } from '../reach/parties.ts';
import { Reachability } from '../reach/reachability.ts';
import type { ServiceAnswers } from '../reach/service-answers.ts';
import type { Side } from './sides.ts';

export class SideView {
  readonly side: Side;
  readonly model: ClusterModel;
  readonly mode: Mode;
  readonly parties: Parties;
  readonly evaluator: Evaluator;
  readonly pairs: PairAnswers;
  readonly services: ServiceAnswers;

  constructor(side: Side, mode: Mode) {
    const { parties, evaluator, pairs, services } = new Reachability(side.model, mode);
    this.side = side;
    this.model = side.model;
    this.mode = mode;
    this.parties = parties;
    this.evaluator = evaluator;
    this.pairs = pairs;
    this.services = services;
  }

  /** Runs the packets that pairs and Services have noted. */
  evaluate(): void {
    this.services.evaluate();
    this.pairs.evaluate();
  }

  /** The party of a region of the outside: that of the longest prefix around it; -1 if the cluster covers it. */
  regionOf(family: Family, prefix: Prefix | null): number {
    const { regions, pods, nodes } = this.parties;
    let found = -1;
    let length = -1;
    regions.forEach((region, i) => {
      if (region.family !== family || !holds(region.prefix, prefix)) return;
      const own = region.prefix?.length ?? 0;
      if (own <= length) return;
      length = own;
      found = pods + nodes + i;
    });
    return found;
  }
}

/** True where a prefix (null: everything) holds another whole. */
function holds(outer: Prefix | null, inner: Prefix | null): boolean {
  if (outer === null) return true;
  return inner !== null && inner.length >= outer.length && inPrefix(inner, outer);
}
