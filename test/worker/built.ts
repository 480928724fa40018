/**
 * Threads run the compiled engine. `npm test` builds before it tests; a run of one test file alone may find an older
 * build, so this builds once if a source is newer than the last build.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

export function buildEngine(): void {
  const built = `${root}/engine/dist/.tsbuildinfo`;
  const last = existsSync(built) ? statSync(built).mtimeMs : 0;
  const sources = readdirSync(`${root}/engine/src`, { recursive: true, encoding: 'utf8' });
  const isStale = sources.some((file) => file.endsWith('.ts') && statSync(`${root}/engine/src/${file}`).mtimeMs > last);
  if (isStale) execFileSync('npx', ['tsc', '-b', 'engine'], { cwd: root, stdio: 'inherit' });
}
