/**
 * What the recorder's guard costs the fast path: the same bundle with `ring.on` asked, and with it cut out.
 *
 * Processes of both kinds take turns; the ratio of the fastest of each is what is said. At most 2 % is asked for.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROUNDS = 7;
const FLOWS = 65_536;

interface Bundler {
  bundle(input: string, constants: readonly string[], members: Readonly<Record<string, string>>): Promise<string>;
}

export default async function measureGuard(): Promise<void> {
  const file = (path: string) => fileURLToPath(new URL(path, import.meta.url));
  const { bundle } = (await import(file('../../scripts/bundle.mjs'))) as Bundler;
  const constants = ['threadBurst', 'closingBurst', 'station', 'datapath'];
  const guarded = await bundle(file('./parts/breath.js'), constants, { 'station.dp': 'datapath' });
  const bare = guarded.replaceAll(/\b(?:\w+\.)*ring\.on\b/g, 'false');
  const folder = mkdtempSync(join(tmpdir(), 'flatpath-bench-'));
  const times: { guarded: number[]; bare: number[] } = { guarded: [], bare: [] };
  writeFileSync(join(folder, 'guarded.mjs'), guarded);
  writeFileSync(join(folder, 'bare.mjs'), bare);
  for (let round = 0; round < ROUNDS; round++) {
    for (const kind of ['guarded', 'bare'] as const) {
      const run = spawnSync(process.execPath, [join(folder, `${kind}.mjs`), String(FLOWS)], { encoding: 'utf8' });
      if (run.status !== 0) throw new Error(run.stderr);
      times[kind].push(Number(run.stdout));
    }
  }
  rmSync(folder, { recursive: true });
  const [withGuard, without] = [times.guarded, times.bare].map((list) => list.sort((a, b) => a - b));
  const spread = (list: number[]) =>
    `${list[0].toFixed(0)} ns a packet (${ROUNDS} rounds up to ${list.at(-1)!.toFixed(0)})`;
  console.log(`with the guard ${spread(withGuard)}, without ${spread(without)}`);
  console.log(`the guard costs ${((withGuard[0] / without[0] - 1) * 100).toFixed(1)} %`);
}
