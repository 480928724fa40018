/** ConnectivityTest documents through `runSuite`, exactly as `flatpath test` reads and runs them. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Mode } from '../../control/src/model/datapath.ts';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import type { TestResult } from '../../control/src/probe/report.ts';
import { runSuite } from '../../control/src/probe/suite.ts';

export type ProbeInput = Readonly<Record<string, unknown>> & {
  /** What is expected in modes that differ from the others; each is a difference that docs/modes.md lists. */
  readonly differs?: Partial<Readonly<Record<Mode, object>>>;
};

/** Runs documents from one file. */
export function runDocuments(documents: readonly unknown[], mode: Mode | null = null): TestResult[] {
  const folder = mkdtempSync(join(tmpdir(), 'flatpath-'));
  try {
    const file = join(folder, 'suite.json');
    writeFileSync(file, JSON.stringify(documents));
    return [...runSuite([file], { mode }).tests];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export function document(objects: readonly object[], probes: readonly ProbeInput[], datapath: object = {}): object {
  return {
    apiVersion: 'flatpath.dev/v1alpha1',
    kind: 'ConnectivityTest',
    metadata: { name: 'case' },
    spec: { objects, probes, datapath: { modes: BUILT_MODES, ...datapath } },
  };
}

/** Expects that all probes hold, in every built mode or in one. */
export function holds(
  objects: readonly object[],
  probes: readonly ProbeInput[],
  datapath: object = {},
  only: Mode | null = null,
): void {
  const failed = (only === null ? BUILT_MODES : [only]).flatMap((mode) => {
    const asked = probes.map(({ differs, ...probe }) => ({
      ...probe,
      ...(differs?.[mode] && { expect: differs[mode] }),
    }));
    return runDocuments([document(objects, asked, datapath)], mode).flatMap((test) => [
      ...(test.error === null ? [] : [`[${test.mode}] ${test.error}`]),
      ...test.probes
        .filter(({ passed }) => !passed)
        .map(({ name, expected, actual, error }) => ({ mode: test.mode, name, expected, actual, error })),
    ]);
  });
  expect(failed).toEqual([]);
}

/** The error of a probe, in every built mode. */
export function errorsOf(objects: readonly object[], probe: ProbeInput): (string | null)[] {
  return runDocuments([document(objects, [probe])]).map((test) => test.error ?? test.probes[0]!.error);
}
