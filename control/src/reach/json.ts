/**
 * A report as JSON, written piece by piece: a matrix of ten thousand workloads is longer than a string may be.
 *
 * `matrix[s][t]` is the position in `cells` of what `peers[sources[s]]` reaches at `peers[targets[t]]`, -1 where the filter
 * leaves the pair out.
 */

import type { ReachReport } from './report.ts';

export function* jsonPieces(report: ReachReport): Generator<string> {
  const { matrix, cells, ...head } = report;
  yield `${JSON.stringify(head).slice(0, -1)},\n"cells":[`;
  for (let i = 0; i < cells.length; i++) yield `${i === 0 ? '' : ','}\n${JSON.stringify(cells[i])}`;
  yield '],\n"matrix":[';
  for (let i = 0; i < matrix.length; i++) yield `${i === 0 ? '' : ','}\n[${matrix[i]!.join()}]`;
  yield ']}\n';
}
