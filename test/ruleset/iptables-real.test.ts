/**
 * Every rule of the zoo through the real tool: what iptables-legacy-restore takes is understood here, and what the kernel
 * gives back (iptables-legacy-save) says the same. Extensions that this kernel lacks are counted out, by name.
 */

import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { CompiledRules } from '../../control/src/compile/iptables.ts';
import { RuleEncoder } from '../../control/src/compile/iptables-encode.ts';
import type { Family } from '../../control/src/model/address.ts';
import { compileDump } from '../../control/src/ruleset/iptables-dump.ts';
import { readIptablesSave } from '../../control/src/ruleset/iptables-save.ts';
import { describeStructure } from '../../control/src/ruleset/structural-hash.ts';
import { type ZooRules, zooDump, zooRules } from './iptables-zoo.ts';

const UNSHARE = process.getuid?.() === 0 ? '-n' : '-rn';
const available =
  spawnSync('unshare', [UNSHARE, 'sh', '-c', 'iptables-legacy-save && ip6tables-legacy-save']).status === 0;
if (!available) {
  if (process.env['FLATPATH_REQUIRE_ALL'] === '1') throw new Error('iptables-legacy in a network namespace is missing');
  console.log('skipped: iptables-legacy in a network namespace is missing');
}

const NAMES = ['cali1', 'docker0', 'eth0', 'lo'];

interface Read {
  readonly structure: readonly string[];
  readonly notUnderstood: readonly string[];
}

function read(text: string, family: Family): Read {
  const problems: never[] = [];
  const dump = readIptablesSave('zoo', text, problems);
  expect(problems).toEqual([]);
  expect(dump.family).toBe(family);
  const place = { kind: 'interfaces', names: NAMES } as const;
  const compiled = compileDump(dump, { place, sets: new Set(), hasIpvs: false });
  const encoder = new RuleEncoder(family);
  encoder.addNode(0, compiled.chains, [], compiled.dropping);
  const rules: CompiledRules = encoder.finish(1);
  // Counters of `nth` are named after their rule's place.
  const structure = describeStructure(rules, 0).map((line) => line.replace(/statistic of zoo:\d+/g, 'nth'));
  return { structure, notUnderstood: compiled.notUnderstood.map(({ line, text: part }) => `${line}: ${part}`) };
}

/** What the kernel makes of each text, null where it or the tool refuses. */
function throughKernel(texts: readonly string[], family: Family): (string | null)[] {
  const tool = family === 4 ? 'iptables' : 'ip6tables';
  const script = texts
    .map(
      (text) =>
        `unshare ${UNSHARE} sh -c "${tool}-legacy-restore && ${tool}-legacy-save" 2>/dev/null <<'END' || echo refused\n${text}END\nprintf '\\0'\n`,
    )
    .join('');
  const { stdout, stderr, status } = spawnSync('sh', [], { input: script, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(stderr);
  return stdout
    .split('\0')
    .slice(0, -1)
    .map((text) => (text.trim() === 'refused' ? null : text));
}

describe.each([4, 6] as const)('the zoo of IPv%i', (family) => {
  const zoo = zooRules(family);

  it('is understood as a whole', () => {
    expect(read(zooDump(family, zoo), family).notUnderstood).toEqual([]);
  });

  it.skipIf(!available)('comes back from the kernel with the same meaning, rule by rule', { timeout: 120_000 }, () => {
    const texts = zoo.map((rule) => zooDump(family, [rule]));
    const saved = throughKernelOnce(family);
    const lacking: string[] = [];
    texts.forEach((text, i) => {
      const back = saved[i];
      if (back === null || back === undefined) {
        lacking.push(zoo[i]!.rule);
        return;
      }
      expect(read(back, family), back).toEqual(read(text, family));
    });
    if (lacking.length > 0) console.log(`this kernel lacks what ${lacking.length} rules of IPv${family} ask`);
    expect(texts.length - lacking.length).toBeGreaterThan(40);
  });

  it.skipIf(!available)('as one dump with counters comes back too', () => {
    const kept = zoo.filter((_, i) => throughKernelOnce(family)[i] !== null);
    const text = zooDump(family, kept as { table: keyof ZooRules; rule: string }[]);
    const tool = family === 4 ? 'iptables' : 'ip6tables';
    const { stdout, stderr } = spawnSync(
      'unshare',
      [UNSHARE, 'sh', '-c', `${tool}-legacy-restore && ${tool}-legacy-save -c`],
      { input: text, encoding: 'utf8' },
    );
    expect(stderr).toBe('');
    expect(read(stdout, family)).toEqual(read(text, family));
  });
});

const known = new Map<Family, (string | null)[]>();

function throughKernelOnce(family: Family): (string | null)[] {
  let saved = known.get(family);
  if (saved === undefined) {
    saved = throughKernel(
      zooRules(family).map((rule) => zooDump(family, [rule])),
      family,
    );
    known.set(family, saved);
  }
  return saved;
}
