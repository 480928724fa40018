/**
 * The real kernel as judge: random clusters, their rules loaded by the real tools, random packets through both, and not
 * one difference that chance does not explain.
 *
 * FLATPATH_SEED fixes the run, FLATPATH_KERNEL_CASES the number of clusters a mode (100), FLATPATH_KERNEL_CASE replays
 * a saved case. What was compared goes into result.json, from which docs/fidelity.md is made.
 */

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Mode } from '../../control/src/model/datapath.ts';
import type { KernelCase } from './case.ts';
import { Coverage } from './coverage.ts';
import { drawCase } from './draw-case.ts';
import { type Difference, judge } from './judge.ts';
import { noteResult } from './result.ts';
import { JUDGED_MODES } from './ruleset.ts';
import { shrinkCase } from './shrink.ts';
import { canJudge, kernelRelease } from './tools.ts';

/** Clusters of a run in each mode. */
const FULL_RUN = 100;
const CASES = Number(process.env['FLATPATH_KERNEL_CASES'] ?? FULL_RUN);
const SAVED = process.env['FLATPATH_KERNEL_CASE'];
const FAILURES = fileURLToPath(new URL('./failures/', import.meta.url));
/** A run of 100 cases takes about two minutes; a machine that does other things too may take its time. */
const PATIENCE_MS = 3_600_000;

const available = canJudge();
const seed = Number(process.env['FLATPATH_SEED'] ?? Math.trunc(Math.random() * 2 ** 31));

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flatpath-kernel-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Makes a failing case small, saves it, and answers what to say. */
async function report(one: KernelCase, name: string, differences: readonly Difference[]): Promise<string> {
  const unseen = new Coverage(one.mode);
  const small = await shrinkCase(one, differences, async (tried) => (await judge(tried, folder, unseen)).differences);
  mkdirSync(FAILURES, { recursive: true });
  const path = join(FAILURES, `${name}.json`);
  writeFileSync(path, `${JSON.stringify(small, null, 2)}\n`);
  const texts = differences.slice(0, 5).map(({ phase, text }) => `phase ${phase}: ${text}`);
  const head = `${differences.length} differences with FLATPATH_SEED=${seed}`;
  return [`${head}; FLATPATH_KERNEL_CASE=${path} replays the smallest`, ...texts].join('\n\n');
}

describe.runIf(available && SAVED === undefined).each(JUDGED_MODES)('%s', (mode: Mode) => {
  it('does with random packets what the kernel does', { timeout: PATIENCE_MS }, async () => {
    const coverage = new Coverage(mode);
    let packets = 0;
    for (let i = 0; i < CASES; i++) {
      const one = drawCase(seed + i, i, mode);
      const judgement = await judge(one, folder, coverage);
      packets += judgement.packets;
      if (judgement.differences.length > 0) {
        noteResult({
          mode,
          kernel: kernelRelease,
          seed,
          clusters: i + 1,
          packets,
          differences: judgement.differences.length,
        });
        expect.fail(await report(one, `${mode}-${seed + i}`, judgement.differences));
      }
    }
    noteResult({ mode, kernel: kernelRelease, seed, clusters: CASES, packets, differences: 0 });
    console.log(
      [`${mode}: ${packets} packets, ${CASES} clusters, FLATPATH_SEED=${seed}; met:`, ...coverage.lines()].join('\n'),
    );
    expect(packets).toBeGreaterThanOrEqual(100 * CASES);
    // Fewer clusters cannot meet everything; they are for looking at one thing.
    if (CASES >= FULL_RUN) expect(coverage.missing(), 'what no packet met').toEqual([]);
  });
});

if (SAVED !== undefined)
  describe.runIf(available)('a saved case', () => {
    it('does what the kernel does', { timeout: PATIENCE_MS }, async () => {
      const one = JSON.parse(readFileSync(SAVED!, 'utf8')) as KernelCase;
      const { packets, differences } = await judge(one, folder, new Coverage(one.mode));
      expect(packets).toBeGreaterThan(0);
      expect(differences.map(({ phase, text }) => `phase ${phase}: ${text}`).join('\n\n')).toBe('');
    });
  });
