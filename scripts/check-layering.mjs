/**
 * Imports point one way (docs/architecture.md): control -> engine, and inside the engine
 * worker -> traffic -> programs -> tables -> wire. A table knows no other table but what it is made of, a folder has no
 * barrel file, the engine imports neither control nor anything that speaks JSON, HTTP or Kubernetes.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative, sep } from 'node:path';
import { root } from './setup.mjs';

const ENGINE = ['wire', 'tables', 'programs', 'traffic', 'worker'];
/** What each folder of control may import besides itself and the engine. */
const CONTROL = {
  model: [],
  cluster: ['model'],
  policy: ['model', 'cluster'],
  lint: ['model', 'cluster', 'policy', 'compile'],
  compile: ['model', 'cluster', 'policy'],
  ruleset: ['model', 'cluster', 'policy', 'compile'],
  explain: ['model', 'cluster', 'policy', 'compile'],
  probe: ['model', 'cluster', 'policy', 'compile', 'ruleset', 'explain'],
  reach: ['model', 'cluster', 'policy', 'compile', 'explain', 'probe'],
  diff: ['model', 'cluster', 'policy', 'compile', 'explain', 'probe', 'reach'],
  library: ['model', 'cluster', 'policy', 'compile', 'explain', 'probe', 'reach'],
  traffic: ['model', 'cluster', 'compile', 'probe', 'explain'],
  api: ['model', 'cluster', 'policy', 'compile', 'probe', 'explain', 'traffic', 'reach', 'diff', 'lint'],
  cli: [
    'model',
    'cluster',
    'policy',
    'compile',
    'ruleset',
    'probe',
    'explain',
    'traffic',
    'reach',
    'diff',
    'lint',
    'api',
  ],
};
const ENGINE_PACKAGES = ['piscina', 'node:worker_threads', 'node:url'];

const problems = [];
for (const file of listFiles('engine/src')) checkEngineFile(file);
for (const file of listFiles('control/src')) checkControlFile(file);
if (problems.length > 0) {
  for (const problem of problems) console.error(problem);
  process.exit(1);
}

function checkEngineFile(file) {
  const layer = file.split('/')[2];
  if (!ENGINE.includes(layer)) problems.push(`${file}: engine/src has the layers ${ENGINE.join(', ')} only`);
  if (posix.basename(file) === 'index.ts') problems.push(`${file}: a barrel file`);
  for (const target of importsOf(file)) {
    if (target.startsWith('.')) {
      const to = posix.normalize(posix.join(posix.dirname(file), target)).split('/')[2];
      if (ENGINE.indexOf(to) > ENGINE.indexOf(layer))
        problems.push(`${file}: ${layer} must not import ${to} (${target})`);
      if (ENGINE.indexOf(to) < 0) problems.push(`${file}: ${target} leaves the engine`);
    } else if (!ENGINE_PACKAGES.includes(target) || layer !== 'worker') {
      problems.push(`${file}: ${layer} must not import ${target}`);
    }
  }
}

function checkControlFile(file) {
  const layer = file.split('/')[2];
  if (posix.basename(file) === 'index.ts') problems.push(`${file}: a barrel file`);
  if (layer.endsWith('.ts')) return;
  if (!(layer in CONTROL)) {
    problems.push(`${file}: control/src has the folders ${Object.keys(CONTROL).join(', ')} only`);
    return;
  }
  for (const target of importsOf(file)) {
    if (!target.startsWith('.')) continue;
    const to = posix.normalize(posix.join(posix.dirname(file), target)).split('/')[2];
    if (to !== layer && !CONTROL[layer].includes(to))
      problems.push(`${file}: ${layer} must not import ${to} (${target})`);
  }
}

function importsOf(file) {
  const text = readFileSync(join(root, file), 'utf8');
  const statements = /^(?:import|export)\s+(?:type\s+)?(?:[\w*\s{},$]+?\s+from\s+)?'([^']+)'/gm;
  return [...text.matchAll(statements)].map((match) => match[1]);
}

function listFiles(folder) {
  const found = [];
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true, recursive: true })) {
    if (entry.isFile() && entry.name.endsWith('.ts')) {
      found.push(
        relative(root, join(entry.parentPath ?? dirname(entry.path), entry.name))
          .split(sep)
          .join('/'),
      );
    }
  }
  return found.sort();
}
