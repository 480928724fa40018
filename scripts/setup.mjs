/**
 * Set-up: installs the pinned dependencies and builds, each only when what it depends on has changed.
 *
 * Needs Node and npm alone: pnpm comes through npx in the version that package.json pins. No dependency's install
 * script runs. The stamps live in .flatpath/, which git ignores.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** pnpm, run through npx. Not in package.json's packageManager: pnpm would then fetch itself a second time. */
const PNPM = 'pnpm@12.21.0';
const PACKAGES = ['engine', 'control', 'bench'];

/** Installs and builds what is missing or stale; ends the process with the tool's exit code when a step fails. */
export function setUp() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    console.error(`flatpath needs Node 20.19 or later; this is ${process.versions.node}`);
    process.exit(2);
  }
  const manifests = [
    'package.json',
    'pnpm-lock.yaml',
    'pnpm-workspace.yaml',
    ...PACKAGES.map((p) => `${p}/package.json`),
  ];
  step('install', manifests, existsSync(join(root, 'node_modules', '.bin', 'flatpath')), () => {
    return run('npx', ['--yes', PNPM, 'install', '--frozen-lockfile', '--ignore-scripts', '--reporter=append-only']);
  });
  const scripts = ['scripts/bundle-thread.mjs'];
  const sources = PACKAGES.flatMap((p) => [`${p}/tsconfig.json`, ...listFiles(`${p}/src`)]);
  const bundled = existsSync(join(root, 'engine', 'dist', 'thread.mjs'));
  const built = bundled && PACKAGES.every((p) => existsSync(join(root, p, 'dist', '.tsbuildinfo')));
  step('build', ['pnpm-lock.yaml', 'tsconfig.base.json', ...scripts, ...sources], built, () => build());
}

/** Compiles the packages and bundles the worker's task file; answers the first exit code that is not 0. */
export function build() {
  const compiled = run(process.execPath, [join('node_modules', 'typescript', 'bin', 'tsc'), '-b', ...PACKAGES]);
  return compiled === 0 ? run(process.execPath, [join('scripts', 'bundle-thread.mjs')]) : compiled;
}

/** Runs a step unless its inputs are those of its last success and its output is still there. */
function step(name, inputs, outputExists, act) {
  const stamp = join(root, '.flatpath', `${name}.sha256`);
  const digest = digestOf(inputs);
  if (outputExists && existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return;
  console.error(name === 'install' ? 'Installing the pinned dependencies …' : 'Building …');
  const status = act();
  if (status !== 0) process.exit(status ?? 1);
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, digest);
}

function digestOf(files) {
  const hash = createHash('sha256');
  for (const file of files)
    hash
      .update(file)
      .update('\0')
      .update(readFileSync(join(root, file)))
      .update('\0');
  return hash.digest('hex');
}

function listFiles(folder) {
  const found = [];
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) found.push(...listFiles(path));
    else if (entry.name.endsWith('.ts')) found.push(path);
  }
  return found.sort();
}

/** Runs a command in the repository's root with its output on stderr; answers its exit code. */
export function run(command, args, env = {}) {
  const windows = process.platform === 'win32';
  const done = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 2, 2],
    env: { ...process.env, ...env },
    shell: windows,
  });
  if (done.error) console.error(`${command}: ${done.error.message}`);
  return done.status;
}
