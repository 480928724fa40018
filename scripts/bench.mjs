/**
 * `npm run bench [FILTER…]`: runs the benchmarks of bench/src whose path holds one of the filters (all without any), one
 * process each, so that one workload's types do not slow the next one down. What lies in bench/src/parts is run by others.
 */
import { readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { root, run, setUp } from './setup.mjs';

setUp();
const dist = join(root, 'bench', 'dist');
const filters = process.argv.slice(2);
const files = readdirSync(dist, { withFileTypes: true, recursive: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.js'))
  .map((entry) => relative(dist, join(entry.parentPath, entry.name)))
  .filter(
    (file) => !file.startsWith('parts') && (filters.length === 0 || filters.some((filter) => file.includes(filter))),
  )
  .sort();
let failed = 0;
for (const file of files) {
  console.error(`\n${file}`);
  if (run(process.execPath, [join(root, 'scripts', 'bench-one.mjs'), join(dist, file)]) !== 0) failed++;
}
process.exit(failed === 0 ? 0 : 1);
