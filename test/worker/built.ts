/**
 * Threads run the compiled and bundled engine. `npm test` builds before it tests; a run of one test file alone may find
 * an older build, so this builds once if a source is newer than the last bundle.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

export function buildEngine(): void {
  const bundle = `${root}/engine/dist/thread.mjs`;
  const last = existsSync(bundle) ? statSync(bundle).mtimeMs : 0;
  const sources = readdirSync(`${root}/engine/src`, { recursive: true, encoding: 'utf8' });
  const isStale = sources.some((file) => file.endsWith('.ts') && statSync(`${root}/engine/src/${file}`).mtimeMs > last);
  if (!isStale) return;
  execFileSync('npx', ['tsc', '-b', 'engine'], { cwd: root, stdio: 'inherit' });
  execFileSync(process.execPath, ['scripts/bundle-thread.mjs'], { cwd: root, stdio: 'inherit' });
}
