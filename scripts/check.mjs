/** `npm run check`: types, Biome, layering, generated pages. Every check runs; the exit code is 1 if any failed. */
import { join } from 'node:path';
import { root, run, setUp } from './setup.mjs';

setUp();
const node = process.execPath;
const checks = [
  ['types', node, [join('node_modules', 'typescript', 'bin', 'tsc'), '-b']],
  ['types of the tests', node, [join('node_modules', 'typescript', 'bin', 'tsc'), '-p', 'test']],
  ['biome', node, [join('node_modules', '@biomejs', 'biome', 'bin', 'biome'), 'ci', '.']],
  ['layering', node, [join(root, 'scripts', 'check-layering.mjs')]],
  ['docs/fidelity.md', node, [join(root, 'scripts', 'write-fidelity.mjs'), '--check']],
];
let failed = 0;
for (const [name, command, args] of checks) {
  const status = run(command, args);
  console.log(`${status === 0 ? 'ok    ' : 'FAILED'} ${name}`);
  if (status !== 0) failed++;
}
process.exit(failed === 0 ? 0 : 1);
