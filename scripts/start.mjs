/**
 * `npm start`: set up, drive the example shop's traffic through every mode, print the comparison, serve the API.
 * `npm start -- --once` ends after the table.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root, setUp } from './setup.mjs';

const unknown = process.argv.slice(2).filter((argument) => argument !== '--once');
if (unknown.length > 0) {
  console.error(`npm start takes only --once, not ${unknown.join(' ')}`);
  process.exit(2);
}
const once = process.argv.includes('--once');
setUp();
const flatpath = join(root, 'control', 'bin', 'flatpath.mjs');
const status = await runFlatpath(['run', 'examples/shop/traffic.yaml']);
if (status !== 0 || once) process.exit(status);
process.exit(await runFlatpath(['up', '-f', 'examples/shop']));

function runFlatpath(args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [flatpath, ...args], { cwd: root, stdio: 'inherit' });
    // Ctrl-C reaches the child by the terminal's process group; this process only waits for it.
    process.on('SIGINT', () => {});
    process.on('SIGTERM', () => child.kill('SIGTERM'));
    child.on('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' || signal === 'SIGTERM' ? 0 : 1)));
  });
}
