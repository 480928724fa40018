/** Counters in one thread, and published by threads while another reads: no sum may ever be half of a publication. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createCounters, publishCounters, readCounters, readTotals } from '../../engine/src/tables/counters.ts';

describe('counters', () => {
  it('sum what the workers have published, not what they count since', () => {
    const shared = createCounters(3, 2);
    const locals = [Float64Array.of(1, 2, 2 ** 52), Float64Array.of(10, 20, 30)];
    const totals = new Float64Array(3).fill(99);
    readTotals(shared, totals);
    expect([...totals]).toEqual([0, 0, 0]);
    locals.forEach((local, worker) => {
      publishCounters(shared, worker, local);
    });
    locals[0]!.fill(7);
    readTotals(shared, totals);
    expect([...totals]).toEqual([11, 22, 2 ** 52 + 30]);
    publishCounters(shared, 0, locals[0]!);
    readTotals(shared, totals);
    expect([...totals]).toEqual([17, 27, 37]);
    const again = new Float64Array(3);
    readCounters(shared, 0, again);
    expect(again).toEqual(locals[0]);
  });

  it('keep workers on cache lines of their own', () => {
    for (const counters of [1, 7, 8, 9, 200]) {
      const shared = createCounters(counters, 3);
      expect(shared.blockBytes % 64).toBe(0);
      expect(shared.copyBytes).toBeGreaterThanOrEqual(counters * 8);
    }
    expect(() => createCounters(5, 0)).toThrow(RangeError);
  });
});

describe('counters between threads', () => {
  const root = fileURLToPath(new URL('../../', import.meta.url));
  let folder = '';

  // Threads run JavaScript: the two source files are compiled for them, apart from the packages' own builds.
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'flatpath-counters-'));
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    const options = ['--ignoreConfig', '--target', 'es2023', '--module', 'nodenext', '--skipLibCheck'];
    const source = join(root, 'engine/src/tables/counters.ts');
    execFileSync(
      process.execPath,
      [
        join(root, 'node_modules/typescript/bin/tsc'),
        ...options,
        '--rewriteRelativeImportExtensions',
        '--outDir',
        folder,
        source,
      ],
      { cwd: root },
    );
    writeFileSync(
      join(folder, 'publisher.js'),
      `import { workerData } from 'node:worker_threads';
      import { attachCounters, publishCounters } from './counters.js';
      const { buffer, worker, publications } = workerData;
      const shared = attachCounters(buffer);
      const local = new Float64Array(shared.counters);
      for (let n = 1; n <= publications; n++) {
        local.fill(n);
        publishCounters(shared, worker, local);
      }`,
    );
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('are read whole while two workers publish', async () => {
    const publications = 200_000;
    const shared = createCounters(300, 2);
    const ended = [0, 1].map(
      (worker) =>
        new Promise<number>((resolve, reject) => {
          const workerData = { buffer: shared.buffer, worker, publications };
          const thread = new Worker(join(folder, 'publisher.js'), { workerData });
          thread.on('error', reject);
          thread.on('exit', resolve);
        }),
    );
    let running = true;
    const all = Promise.all(ended).finally(() => {
      running = false;
    });
    const one = new Float64Array(300);
    const last = [0, 0];
    let reads = 0;
    let torn = 0;
    let back = 0;
    while (running) {
      for (let i = 0; i < 200; i++, reads++) {
        readCounters(shared, i & 1, one);
        if (one.some((value) => value !== one[0])) torn++;
        if (one[0]! < last[i & 1]!) back++;
        last[i & 1] = one[0]!;
      }
      await new Promise(setImmediate);
    }
    expect(await all).toEqual([0, 0]);
    expect({ torn, back }).toEqual({ torn: 0, back: 0 });
    expect(reads).toBeGreaterThan(0);
    const totals = new Float64Array(300);
    readTotals(shared, totals);
    expect(totals).toEqual(new Float64Array(300).fill(2 * publications));
  });
});
