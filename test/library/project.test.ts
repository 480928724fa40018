/**
 * The package as a project of somebody else's uses it: 'flatpath' and 'flatpath/vitest' found in node_modules, the example
 * of docs/library.md in a test file of its own, run by a vitest of its own and checked by TypeScript.
 */

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
if (!existsSync(join(ROOT, 'control/dist/library/cluster.js'))) {
  throw new Error('the library is not built: run `npx tsc -b engine control` first');
}

const FAILING = `import { loadCluster } from 'flatpath';
import 'flatpath/vitest';
import { expect, it } from 'vitest';

it('fails', () => {
  const cluster = loadCluster({ manifests: ['cast.yaml', 'allow-from-app/policy.yaml'] }, { mode: 'nftables' });
  expect(cluster).toAllow({ from: 'deploy/shop/batch', to: 'svc/shop/db', port: 'postgres' });
});
`;
const WRONG = `import { loadCluster } from 'flatpath';
import 'flatpath/vitest';
import { expect } from 'vitest';

expect(loadCluster('cast.yaml')).toAllow({ from: 1, to: 'svc/shop/db' });
loadCluster('cast.yaml', { mode: 'tables' });
`;

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flatpath-project-'));
  cpSync(join(ROOT, 'examples/policies'), folder, { recursive: true });
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(join(ROOT, 'control'), join(folder, 'node_modules/flatpath'));
  for (const name of ['vitest', '@types']) {
    symlinkSync(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name));
  }
  writeFileSync(join(folder, 'package.json'), '{"type": "module"}');
  writeFileSync(join(folder, 'shop.test.ts'), documentedExample());
  writeFileSync(join(folder, 'failing.test.ts'), FAILING);
  writeFileSync(join(folder, 'wrong.ts'), WRONG);
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** The test file under "In vitest". */
function documentedExample(): string {
  const text = readFileSync(join(ROOT, 'docs/library.md'), 'utf8');
  const section = text.slice(text.indexOf('## In vitest'));
  const lines = section.slice(section.indexOf('    import')).split('\n');
  const end = lines.findIndex((line) => line !== '' && !line.startsWith('    '));
  return lines
    .slice(0, end)
    .map((line) => line.slice(4))
    .join('\n');
}

function run(command: readonly string[]): { status: number | null; output: string } {
  const { FORCE_COLOR: _, VITEST: __, ...env } = process.env;
  const { status, stdout, stderr } = spawnSync(process.execPath, command, {
    cwd: folder,
    encoding: 'utf8',
    env: { ...env, NO_COLOR: '1' },
  });
  return { status, output: `${stdout}${stderr}` };
}

describe('a project that uses flatpath', () => {
  it('runs the example of the documentation, and reads in a failure who denied', () => {
    const { status, output } = run(['node_modules/vitest/vitest.mjs', 'run']);
    expect(output).toMatch(/Tests +1 failed \| 4 passed/);
    expect(output).toMatch(/✓ shop\.test\.ts/);
    expect(status).toBe(1);
    expect(output).toContain('expected deploy/shop/batch → svc/shop/db, port postgres to be allowed (mode nftables)');
    expect(output).toContain('no rule of NetworkPolicy shop/db-from-api (allow-from-app/policy.yaml:3) allows it');
  });

  it('has types', () => {
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2023', '--types', 'node'];
    expect(run([tsc, ...options, 'shop.test.ts', 'failing.test.ts'])).toEqual({ status: 0, output: '' });
    const { status, output } = run([tsc, ...options, 'wrong.ts']);
    expect(status).not.toBe(0);
    expect(output).toMatch(/wrong\.ts\(5,\d+\): error .*'number' is not assignable to type 'string'/);
    expect(output).toMatch(/wrong\.ts\(6,\d+\): error .*"tables"/);
  });
});
