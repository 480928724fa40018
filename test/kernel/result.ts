/** The figures of the last run, one row a mode: `result.json`, which is not committed and docs/fidelity.json is taken from. */

import { readFileSync, writeFileSync } from 'node:fs';
import type { Mode } from '../../control/src/model/datapath.ts';

export interface Result {
  readonly mode: Mode;
  /** Release of the kernel. */
  readonly kernel: string;
  readonly seed: number;
  readonly clusters: number;
  readonly packets: number;
  readonly differences: number;
}

const FILE = new URL('./result.json', import.meta.url);

/** Replaces the mode's row. */
export function noteResult(result: Result): void {
  const others = read().filter(({ mode }) => mode !== result.mode);
  const rows = [...others, result].sort((a, b) => (a.mode < b.mode ? -1 : 1));
  writeFileSync(FILE, `${JSON.stringify(rows, null, 2)}\n`);
}

function read(): Result[] {
  try {
    return JSON.parse(readFileSync(FILE, 'utf8')) as Result[];
  } catch {
    return [];
  }
}
