/**
 * kube-proxy's own nft rules: what is printed is read back as what was printed from, directly and by way of the real nft
 * in text and in JSON, for random clusters.
 */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findNode } from '../../control/src/compile/iptables-kube-proxy.ts';
import { NftKubeProxyRules } from '../../control/src/compile/nft-kube-proxy.ts';
import type { NftRuleset } from '../../control/src/compile/nft-ruleset.ts';
import { formatNft } from '../../control/src/compile/nft-save.ts';
import { parseNftJson } from '../../control/src/ruleset/nft-json.ts';
import { parseNftText } from '../../control/src/ruleset/nft-text.ts';
import { randomCluster, randomConfig, seeded } from '../compile/random-cluster.ts';
import { normalRuleset } from './nft-normal.ts';
import { hasNft, loadRuleset } from './real-nft.ts';

const rulesets: fc.Arbitrary<NftRuleset> = fc
  .tuple(randomCluster, randomConfig, fc.constantFrom('node-1', 'node-3'))
  .map(([cluster, config, name]) => ({
    tables: ([4, 6] as const).map((family) => {
      return new NftKubeProxyRules(cluster, config, family).table(findNode(cluster, name));
    }),
  }));

describe("kube-proxy's nft rules", () => {
  it('are read as they were printed', () => {
    fc.assert(
      fc.property(rulesets, (ruleset) => {
        const text = formatNft(ruleset);
        const parsed = parseNftText('node.nft', text);
        expect(parsed.notUnderstood).toEqual([]);
        expect(parsed.skipped).toEqual([]);
        expect(parsed.translated).toEqual([]);
        expect(normalRuleset(parsed.ruleset)).toEqual(normalRuleset(ruleset));
        expect(formatNft(parsed.ruleset)).toBe(text);
      }),
      seeded(60),
    );
  });

  it.skipIf(!hasNft)('are read as the real nft lists them, in text and in JSON', () => {
    fc.assert(
      fc.property(rulesets, (ruleset) => {
        const { text, json } = loadRuleset(formatNft(ruleset));
        const wanted = normalRuleset(ruleset);
        expect(normalRuleset(parseNftText('node.nft', text).ruleset)).toEqual(wanted);
        expect(normalRuleset(parseNftJson('node.json', json).ruleset)).toEqual(wanted);
      }),
      seeded(10),
    );
  });
});
