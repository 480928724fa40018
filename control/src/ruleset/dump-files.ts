/**
 * The dumps behind `--ruleset`, each recognised by what it holds: iptables-save and ip6tables-save (also both in one
 * file), `nft list ruleset` and `nft -j`, ipvsadm-save, ipset save.
 *
 * Refused, all at once: a file that is none of these, text that its reader cannot read, two dumps of one family.
 */

import { type InputFile, readText } from '../cluster/files.ts';
import { InputError, type Problem } from '../cluster/problem.ts';
import type { Ipset } from '../compile/ipset.ts';
import type { VirtualServer } from '../compile/ipvs-ruleset.ts';
import type { NftTable } from '../compile/nft-ruleset.ts';
import type { Family } from '../model/address.ts';
import { isIpsetSave, parseIpsetSave } from './ipset-save.ts';
import { type IptablesDump, isIptablesSave, readIptablesSave } from './iptables-save.ts';
import { isIpvsadmSave, parseIpvsadmSave } from './ipvsadm-save.ts';
import { parseNftJson } from './nft-json.ts';
import type { ParsedNft } from './nft-parsed.ts';
import { parseNftText } from './nft-text.ts';
import { dumpError, type NotUnderstood } from './not-understood.ts';

/** An nft dump's tables and the file they stand in. */
export interface NftDump {
  readonly file: string;
  readonly tables: readonly NftTable[];
}

export interface DumpFiles {
  readonly iptables: Readonly<Record<Family, IptablesDump | null>>;
  readonly nft: readonly NftDump[];
  readonly sets: readonly Ipset[];
  /** ipvsadm-save was given, be it empty. */
  readonly hasIpvs: boolean;
  readonly virtualServers: readonly VirtualServer[];
  /** Of the dumps that are read as a whole; iptables' rules are looked at later. */
  readonly notUnderstood: readonly NotUnderstood[];
  readonly warnings: readonly string[];
}

/** @throws InputError with every error of every file */
export function readDumpFiles(files: readonly string[]): DumpFiles {
  const reader = new DumpReader();
  for (const path of files) reader.read({ path: path === '-' ? '<stdin>' : path, found: false });
  return reader.finish();
}

class DumpReader {
  private readonly problems: Problem[] = [];
  private readonly iptables: Record<Family, IptablesDump | null> = { 4: null, 6: null };
  private readonly nft: NftDump[] = [];
  private readonly sets: Ipset[] = [];
  private readonly virtualServers: VirtualServer[] = [];
  private readonly notUnderstood: NotUnderstood[] = [];
  private readonly warnings: string[] = [];
  private hasIpvs = false;

  read(file: InputFile): void {
    const text = readText(file, this.problems);
    if (text === null) return;
    try {
      this.readAs(file.path, text);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      this.problems.push(...error.problems);
    }
  }

  finish(): DumpFiles {
    if (this.problems.length > 0) throw new InputError(this.problems);
    const { iptables, nft, sets, hasIpvs, virtualServers, notUnderstood, warnings } = this;
    return { iptables, nft, sets, hasIpvs, virtualServers, notUnderstood, warnings };
  }

  private readAs(file: string, text: string): void {
    if (isIptablesSave(text)) {
      for (const part of splitFamilies(text)) this.addIptables(readIptablesSave(file, part, this.problems));
    } else if (isIpvsadmSave(text)) {
      this.hasIpvs = true;
      const { virtualServers, notUnderstood } = parseIpvsadmSave(file, text);
      this.virtualServers.push(...virtualServers);
      this.notUnderstood.push(...notUnderstood);
    } else if (isIpsetSave(text)) {
      const { sets, notUnderstood } = parseIpsetSave(file, text);
      this.sets.push(...sets);
      this.notUnderstood.push(...notUnderstood);
    } else if (/^\s*\{\s*"nftables"/.test(text)) this.addNft(file, parseNftJson(file, text));
    else if (/^\s*(?:add )?table (?:ip|ip6|inet|arp|bridge|netdev) \S+/m.test(text)) {
      this.addNft(file, parseNftText(file, text));
    } else {
      const kinds = 'iptables-save, ip6tables-save, nft list ruleset, nft -j, ipvsadm-save or ipset save';
      this.problems.push(dumpError(file, 1, `is not the output of ${kinds}`));
    }
  }

  private addIptables(dump: IptablesDump): void {
    const known = this.iptables[dump.family];
    if (known === null) this.iptables[dump.family] = dump;
    else {
      const line = [...dump.tables.values()][0]?.line ?? 1;
      this.problems.push(dumpError(dump.file, line, `IPv${dump.family} rules were given before, by ${known.file}`));
    }
  }

  private addNft(file: string, { ruleset, notUnderstood, skipped, translated }: ParsedNft): void {
    this.nft.push({ file, tables: ruleset.tables });
    this.notUnderstood.push(...notUnderstood);
    if (skipped.length > 0)
      this.warnings.push(`${file}: left out, no packet of a cluster meets it: ${skipped.join(', ')}`);
    if (translated.length > 0) {
      this.warnings.push(
        `${file}: ${translated.join(', ')} is iptables-nft's: nft prints a translation that loses parts of matches; iptables-save prints all`,
      );
    }
  }
}

/** A file that holds both tools' output as one text a family, lines where they were. */
function splitFamilies(text: string): string[] {
  const lines = text.split('\n');
  const parts = new Map<string, string[]>();
  let tool = '';
  lines.forEach((line, i) => {
    tool = /^# Generated by (ip6?tables)/.exec(line)?.[1] ?? tool;
    let part = parts.get(tool);
    if (part === undefined) {
      part = new Array<string>(lines.length).fill('');
      parts.set(tool, part);
    }
    part[i] = line;
  });
  return [...parts.values()].map((part) => part.join('\n')).filter(isIptablesSave);
}
