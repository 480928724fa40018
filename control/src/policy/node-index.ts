/** Which nodes a selector takes; the same selector asked again gives the same list object. */

import { type LabelSelector, selects } from '../model/label-selector.ts';
import type { Node } from '../model/node.ts';

export class NodeIndex {
  readonly #nodes: readonly Node[];
  readonly #selections = new Map<string, readonly number[]>();

  /** @param nodes by node number */
  constructor(nodes: readonly Node[]) {
    this.#nodes = nodes;
  }

  /** Node numbers, ascending. */
  select(selector: LabelSelector): readonly number[] {
    const text = JSON.stringify(selector);
    let found = this.#selections.get(text);
    if (found === undefined) {
      found = this.#nodes.flatMap(({ metadata }, number) => (selects(selector, metadata.labels) ? [number] : []));
      this.#selections.set(text, found);
    }
    return found;
  }
}
