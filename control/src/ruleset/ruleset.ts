/**
 * A real node's rules as they enter an image: its dumps, read in what is known of the node.
 *
 * The kind of the rules is the mode: iptables (with or without ipsets), ipvs where virtual servers were given, nftables.
 * What a rule does that is not understood, or that nothing given here decides, is an error with its line, all of them at
 * once; leniently such a rule never matches and is named.
 */

import type { Interfaces } from '@flatpath/engine/programs/interface';
import { InputError } from '../cluster/problem.ts';
import { NftEncoder, NftStampNumbers } from '../compile/nft-encode.ts';
import type { NftTable } from '../compile/nft-ruleset.ts';
import { deviceRange, type FamilyChains, type NodeRuleset } from '../compile/node-ruleset.ts';
import type { Family } from '../model/address.ts';
import type { Mode } from '../model/datapath.ts';
import { type DumpFiles, readDumpFiles } from './dump-files.ts';
import { compileDump } from './iptables-dump.ts';
import type { IptablesDump } from './iptables-save.ts';
import { placeTables } from './nft-place.ts';
import { dumpError, type NotUnderstood, problemOf } from './not-understood.ts';
import { NEEDS_ADDRESSES, type NodePlace } from './rule-context.ts';

/** What is known of the node that the dumps came from. */
export interface NodeSurroundings {
  /** Position of the node in its cluster. */
  readonly node: number;
  readonly place: NodePlace;
  /** Set where `place` has interfaces. */
  readonly interfaces: Interfaces | null;
}

export interface LoadedRuleset {
  readonly ruleset: NodeRuleset;
  readonly files: readonly string[];
  /** Rules that never match because they are not understood; empty unless read leniently. */
  readonly skipped: readonly NotUnderstood[];
  /** Parts of rules that were taken to be so because nothing tells. */
  readonly assumed: readonly NotUnderstood[];
  readonly warnings: readonly string[];
}

/**
 * Reads the dumps of one node.
 * @param lenient what is not understood never matches, and is answered instead of thrown
 * @throws InputError with everything that is wrong or not understood
 */
export function loadRuleset(files: readonly string[], where: NodeSurroundings, lenient: boolean): LoadedRuleset {
  const dumps = readDumpFiles(files);
  const mode = modeOfFiles(dumps, files);
  const skipped: NotUnderstood[] = [...dumps.notUnderstood];
  const assumed: NotUnderstood[] = [];
  const compileFamily = (family: Family): FamilyChains | null => {
    const dump = dumps.iptables[family];
    if (dump === null) return null;
    const sets = new Set(dumps.sets.map(({ name }) => name));
    const compiled = compileDump(dump, { place: where.place, sets, hasIpvs: dumps.hasIpvs });
    skipped.push(...compiled.notUnderstood);
    assumed.push(...compiled.assumed);
    return { chains: compiled.chains, dropping: compiled.dropping };
  };
  const iptables = { 4: compileFamily(4), 6: compileFamily(6) };
  const tables = dumps.nft.flatMap(({ file, tables: own }) => placeTables(file, own, where.place, skipped));
  const interfaceNames = where.place.kind === 'interfaces' ? where.place.names : [];
  skipped.push(...unencodable(tables, interfaceNames, where.place));
  if (dumps.virtualServers.length > 0 && where.place.kind === 'unknown') {
    const file = files.join(', ');
    skipped.push({
      file,
      line: null,
      path: '',
      text: 'virtual servers',
      message: `which packets meet them ${NEEDS_ADDRESSES}`,
    });
  }
  if (skipped.length > 0 && !lenient) throw new InputError(skipped.map(problemOf));
  return {
    ruleset: {
      node: where.node,
      mode,
      iptables,
      sets: dumps.sets,
      virtualServers: dumps.virtualServers,
      tables,
      interfaces: where.interfaces,
      interfaceNames,
      routeLocalnet: isLocalnetGuarded(dumps.iptables[4]),
    },
    files,
    skipped,
    assumed,
    warnings: dumps.warnings,
  };
}

/**
 * The mode that dumps are of.
 * @throws InputError for files that are no dumps, or do not belong together
 */
export function modeOfDumps(files: readonly string[]): Mode {
  return modeOfFiles(readDumpFiles(files), files);
}

function modeOfFiles(dumps: DumpFiles, files: readonly string[]): Mode {
  const hasIptables = dumps.iptables[4] !== null || dumps.iptables[6] !== null;
  if (hasIptables && dumps.nft.length > 0) {
    const message = 'rules of iptables and of nftables were given; a run walks one of them';
    throw new InputError([dumpError(files.join(', '), 1, message)]);
  }
  if (dumps.nft.length > 0) {
    if (dumps.hasIpvs) throw new InputError([dumpError(files.join(', '), 1, 'IPVS beside nftables is not modelled')]);
    return 'nftables';
  }
  if (!hasIptables) {
    const message = dumps.hasIpvs
      ? 'virtual servers need the iptables rules beside them: add iptables-save'
      : 'ipsets need rules that ask them: add iptables-save';
    throw new InputError([dumpError(files.join(', '), 1, message)]);
  }
  return dumps.hasIpvs ? 'ipvs' : 'iptables';
}

/** Rules of nftables that the engine cannot run, found by encoding them. */
function unencodable(tables: readonly NftTable[], names: readonly string[], place: NodePlace): NotUnderstood[] {
  if (tables.length === 0) return [];
  const found = new Map<string, NotUnderstood>();
  const interfaces =
    place.kind === 'interfaces'
      ? { range: (name: string): readonly [number, number] => deviceRange(names, name, '*') }
      : null;
  for (const family of [4, 6] as const) {
    const encoder = new NftEncoder(family, new NftStampNumbers());
    encoder.addNode(0, tables, interfaces);
    for (const { text, why, sources } of encoder.finish(1).unencodable) {
      const source = sources[0];
      const { file, line } = source !== undefined && 'line' in source ? source : { file: '', line: null };
      found.set(`${file} ${line} ${text}`, { file, line, path: '', text, message: why });
    }
  }
  return [...found.values()];
}

/**
 * The guard that kube-proxy and kubelet write in KUBE-FIREWALL is there because route_localnet is on: nothing else in a
 * dump tells.
 */
function isLocalnetGuarded(dump: IptablesDump | null): boolean {
  const chain = dump?.tables.get('filter')?.chains.get('KUBE-FIREWALL');
  return chain?.rules.some(({ words }) => words.includes('127.0.0.0/8')) ?? false;
}
