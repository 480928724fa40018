/** `flatpath render --check DUMP`: a node's dump against what its manifests should give. */
import type { Family } from '../model/address.ts';
import { type CheckItem, type CheckResult, compareItems, type Finding, isUpToDate } from '../ruleset/check.ts';
import { iptablesItems } from '../ruleset/check-iptables.ts';
import { ipsetItems, virtualServerItems } from '../ruleset/check-ipvs.ts';
import { isKubeProxyTable, nftItems } from '../ruleset/check-nft.ts';
import { type DumpFiles, readDumpFiles } from '../ruleset/dump-files.ts';
import { parseIpsetSave } from '../ruleset/ipset-save.ts';
import { readIptablesSave } from '../ruleset/iptables-save.ts';
import { parseIpvsadmSave } from '../ruleset/ipvsadm-save.ts';
import { parseNftText } from '../ruleset/nft-text.ts';
import { EXIT_NO, EXIT_OK, UsageError } from './exit.ts';
import { paletteFor } from './terminal.ts';

/** Renders what kube-proxy should have on the node, in the text of a tool. */
export type ExpectedText = (form: 'iptables-save' | 'ip6tables-save' | 'nft' | 'ipvsadm' | 'ipset') => string;

/** Compares and prints; exit code 1 where something is missing or stale. */
export function checkDump(file: string, node: string, render: ExpectedText, json: boolean): number {
  const dumps = readDumpFiles([file]);
  const { expected, actual } = itemsOf(file, dumps, render);
  const result = compareItems(expected, actual);
  const text = json ? toJson(file, node, result) : toText(file, node, result);
  process.stdout.write(`${text}\n`);
  return isUpToDate(result) ? EXIT_OK : EXIT_NO;
}

/** Both sides of a dump, kind by kind, each read by the reader of its tool. */
function itemsOf(file: string, dumps: DumpFiles, render: ExpectedText): { expected: CheckItem[]; actual: CheckItem[] } {
  const expected: CheckItem[] = [];
  const actual: CheckItem[] = [];
  for (const family of [4, 6] as const) {
    const dump = dumps.iptables[family];
    if (dump === null) continue;
    actual.push(...iptablesItems(dump));
    expected.push(...iptablesItems(readIptablesSave('', render(toolOf(family)), [])));
  }
  const given = dumps.nft.flatMap(({ tables }) => tables);
  if (given.length > 0) {
    // A dump of one family's table is compared with that family's; one without any table of kube-proxy lacks both.
    const own = new Set(given.filter(isKubeProxyTable).map(({ family }) => family));
    const { ruleset } = parseNftText('', render('nft'));
    actual.push(...nftItems({ tables: given }));
    expected.push(...nftItems({ tables: ruleset.tables.filter(({ family }) => own.size === 0 || own.has(family)) }));
  }
  if (dumps.hasIpvs) {
    actual.push(...virtualServerItems(dumps.virtualServers));
    expected.push(...virtualServerItems(parseIpvsadmSave('', render('ipvsadm')).virtualServers));
  }
  if (dumps.sets.length > 0) {
    actual.push(...ipsetItems(dumps.sets));
    expected.push(...ipsetItems(parseIpsetSave('', render('ipset')).sets));
  }
  if (actual.length === 0) throw new UsageError(`--check ${file}: holds no rules, sets or virtual servers`);
  return { expected, actual };
}

function toolOf(family: Family): 'iptables-save' | 'ip6tables-save' {
  return family === 4 ? 'iptables-save' : 'ip6tables-save';
}

function toText(file: string, node: string, { findings, same }: CheckResult): string {
  const palette = paletteFor(process.stdout);
  const lines: string[] = [];
  for (const finding of findings) {
    if (finding.status === 'foreign') continue;
    const where = finding.line === null ? '' : ` ${palette.dim(`(${finding.file}:${finding.line})`)}`;
    lines.push(`${palette.bad(finding.status)}  ${finding.place}: ${finding.text}${where}`);
  }
  for (const line of describeForeign(findings)) lines.push(`${palette.dim('foreign')}  ${line}`);
  const count = (status: Finding['status']): number => findings.filter((finding) => finding.status === status).length;
  const summary = `${same} as they should be on ${node}, ${count('missing')} missing, ${count('stale')} stale, ${count('foreign')} foreign`;
  lines.push(`${file}: ${count('missing') + count('stale') > 0 ? palette.bad(summary) : palette.good(summary)}`);
  return lines.join('\n');
}

/** What is foreign as a whole (a chain, a set) is a line with the number of what it holds; what is foreign in it is not named. */
function describeForeign(findings: readonly Finding[]): string[] {
  const foreign = findings.filter(({ status }) => status === 'foreign');
  const counts = new Map<string, number>();
  for (const { holds } of foreign) if (holds !== null) counts.set(holds, 0);
  const lines: string[] = [];
  for (const { place, text, holds } of foreign) {
    const count = counts.get(place);
    if (count !== undefined) counts.set(place, count + 1);
    else if (holds === null) lines.push(`${place}: ${text}`);
  }
  return [...lines, ...[...counts].map(([place, count]) => `${place} (${count} ${count === 1 ? 'entry' : 'entries'})`)];
}

function toJson(file: string, node: string, { findings, same }: CheckResult): string {
  const of = (status: Finding['status']): object[] =>
    findings
      .filter((finding) => finding.status === status)
      .map(({ place, text, file: source, line }) => ({ place, text, file: source, line }));
  const report = { version: 1, file, node, same, missing: of('missing'), stale: of('stale'), foreign: of('foreign') };
  return JSON.stringify(report, null, 2);
}
