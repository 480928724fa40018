/**
 * `npm test`: set up, run every test; the last line is `N passed, N failed`. Arguments go to vitest (a folder, -t name).
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, setUp } from './setup.mjs';

setUp();
const folder = mkdtempSync(join(tmpdir(), 'flatpath-test-'));
const report = join(folder, 'report.json');
const vitest = spawnSync(
  process.execPath,
  [
    join(root, 'node_modules', 'vitest', 'vitest.mjs'),
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...process.argv.slice(2),
  ],
  { cwd: root, stdio: 'inherit' },
);
let passed = 0;
let failed = 0;
let skipped = 0;
try {
  const results = JSON.parse(readFileSync(report, 'utf8'));
  passed = results.numPassedTests;
  failed = results.numFailedTests;
  skipped = results.numPendingTests + results.numTodoTests;
  // A file that cannot be loaded has no tests of its own to fail.
  for (const file of results.testResults) if (file.status === 'failed' && file.assertionResults.length === 0) failed++;
} catch (error) {
  console.error(`no test report: ${error.message}`);
  failed++;
}
rmSync(folder, { recursive: true, force: true });
if (vitest.status !== 0 && failed === 0) failed++;
if (skipped > 0) console.log(`${skipped} skipped: see the lines above for the tools that are missing`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
