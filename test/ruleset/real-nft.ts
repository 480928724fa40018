/**
 * The real nft in a network namespace of its own: what it makes of a ruleset, as text and as JSON.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A network namespace of its own; without root also a user namespace, in which we are root. */
const UNSHARE = process.getuid?.() === 0 ? '-n' : '-rn';

export const hasNft = spawnSync('unshare', [UNSHARE, 'nft', 'list', 'ruleset']).status === 0;
if (!hasNft) {
  if (process.env['FLATPATH_REQUIRE_ALL'] === '1') throw new Error('nft in a network namespace is missing');
  console.log('skipped: nft in a network namespace is missing');
}

export interface Listing {
  readonly text: string;
  readonly json: string;
  /** Rules that this kernel or this nft refused, of `loadRules`. */
  readonly refused: readonly string[];
}

/** Loads a file with `nft -f` and lists it. */
export function loadRuleset(ruleset: string): Listing {
  return listAfter('nft -f input', ruleset);
}

/**
 * Loads a file, then rules one by one (`family table chain rule…`), so that one that this kernel lacks does not spoil the
 * others, and lists what came of it.
 * @param options of nft, a listing each
 */
export function loadRules(ruleset: string, rules: readonly string[], options: readonly string[] = ['']): Listing[] {
  const files = Object.fromEntries(rules.map((rule, i) => [`rule-${i}`, `add rule ${rule}\n`]));
  const command = `nft -f input && i=0 && while [ $i -lt ${rules.length} ]; do
    nft -f rule-$i 2>/dev/null || echo $i >> refused; i=$((i+1)); done`;
  return inNamespace(command, { input: ruleset, ...files }, options, rules);
}

/** What nft lists after a command that reads `input` (`iptables-nft-restore < input`). */
export function listAfter(command: string, input: string): Listing {
  return inNamespace(command, { input }, [''], [])[0]!;
}

function inNamespace(
  command: string,
  files: Readonly<Record<string, string>>,
  options: readonly string[],
  rules: readonly string[],
): Listing[] {
  const folder = mkdtempSync(join(tmpdir(), 'flatpath-nft-'));
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const lists = options.map(
      (option, i) => `nft ${option} list ruleset > text${i} && nft ${option} -j list ruleset > json${i}`,
    );
    const script = `cd ${folder} && touch refused && ${[command, ...lists].join(' && ')}`;
    const { status, stderr } = spawnSync('unshare', [UNSHARE, 'sh', '-c', script], { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
    const read = (name: string): string => readFileSync(join(folder, name), 'utf8');
    const refused = read('refused')
      .split('\n')
      .filter(Boolean)
      .map((i) => rules[Number(i)]!);
    return options.map((_, i) => ({ text: read(`text${i}`), json: read(`json${i}`), refused }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
