/**
 * What `render --as nft` prints, read back, compiles to the same image: by structural hash, for random clusters, directly
 * and by way of the real nft. A change of any rule or element changes the hash.
 */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findNode } from '../../control/src/compile/iptables-kube-proxy.ts';
import { NftEncoder, NftStampNumbers } from '../../control/src/compile/nft-encode.ts';
import { NftKubeProxyRules } from '../../control/src/compile/nft-kube-proxy.ts';
import type { NftRuleset } from '../../control/src/compile/nft-ruleset.ts';
import { formatNft } from '../../control/src/compile/nft-save.ts';
import type { CompiledNft } from '../../control/src/compile/nftables.ts';
import { describeNftStructure, nftStructuralHash } from '../../control/src/ruleset/nft-structure.ts';
import { parseNftText } from '../../control/src/ruleset/nft-text.ts';
import { randomCluster, randomConfig, seeded } from '../compile/random-cluster.ts';
import { randomNftRuleset } from './nft-random.ts';
import { hasNft, loadRuleset } from './real-nft.ts';

const rulesets: fc.Arbitrary<NftRuleset> = fc
  .tuple(randomCluster, randomConfig, fc.constantFrom('node-1', 'node-3'))
  .map(([cluster, config, name]) => ({
    tables: ([4, 6] as const).map((family) => {
      return new NftKubeProxyRules(cluster, config, family).table(findNode(cluster, name));
    }),
  }));

/** Interfaces by name, so that rules about them compile. */
const NAMES = ['cali1', 'docker0', 'eth0', 'lo'];
const interfaces = {
  range: (name: string): readonly [number, number] => {
    const found = name.endsWith('*')
      ? NAMES.flatMap((known, i) => (known.startsWith(name.slice(0, -1)) ? [i] : []))
      : [NAMES.indexOf(name)].filter((i) => i >= 0);
    return found.length === 0 ? [1, 0] : [found[0]!, found.at(-1)!];
  },
};

function compile({ tables }: NftRuleset, family: 4 | 6, before = 0): CompiledNft {
  const encoder = new NftEncoder(family, new NftStampNumbers());
  // Other nodes' chains come first, so that ids differ and the hash must not.
  if (before > 0) encoder.addNode(0, tables.toReversed(), interfaces);
  encoder.addNode(before, tables, interfaces);
  return encoder.finish(before + 1);
}

function hashes(ruleset: NftRuleset, before = 0): string[] {
  return ([4, 6] as const).map((family) => nftStructuralHash(compile(ruleset, family, before), before));
}

describe("structure of a node's nft rules", () => {
  it("is that of the text that was printed, for kube-proxy's rules", () => {
    fc.assert(
      fc.property(rulesets, (ruleset) => {
        const read = parseNftText('node.nft', formatNft(ruleset)).ruleset;
        expect(hashes(read)).toEqual(hashes(ruleset));
        expect(hashes(read, 1)).toEqual(hashes(ruleset));
      }),
      seeded(40),
    );
  });

  it('is that of the text that was printed, for any rules', () => {
    fc.assert(
      fc.property(randomNftRuleset, (ruleset) => {
        const read = parseNftText('node.nft', formatNft(ruleset)).ruleset;
        for (const family of [4, 6] as const) {
          expect(describeNftStructure(compile(read, family), 0)).toEqual(
            describeNftStructure(compile(ruleset, family), 0),
          );
        }
      }),
      seeded(60),
    );
  });

  it.skipIf(!hasNft)('is that of what the real nft lists', () => {
    fc.assert(
      fc.property(rulesets, (ruleset) => {
        const listed = parseNftText('node.nft', loadRuleset(formatNft(ruleset)).text).ruleset;
        expect(hashes(listed)).toEqual(hashes(ruleset));
      }),
      seeded(8),
    );
  });

  it('is another one where a rule or an element is another one', () => {
    const text = (port: number, verdict: string, element: number) => `table ip t {
	map m {
		type inet_service : verdict
		elements = { ${element} : goto a, 90 : drop }
	}
	chain a {
		tcp dport ${port} ${verdict}
	}
	chain b {
		type filter hook input priority 0; policy accept;
		tcp dport vmap @m
		numgen random mod 2 vmap { 0 : goto a, 1 : accept }
	}
}
`;
    const hash = (port: number, verdict: string, element: number): string =>
      hashes(parseNftText('x', text(port, verdict, element)).ruleset)[0]!;
    const usual = hash(80, 'accept', 80);
    expect(hash(80, 'accept', 80)).toBe(usual);
    expect(new Set([usual, hash(81, 'accept', 80), hash(80, 'drop', 80), hash(80, 'accept', 81)]).size).toBe(4);
  });
});
