/** Rulesets as other programs leave them on nodes, through the real nft: all of it understood, or named. */

import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import type { NftRuleset, NftStatement } from '../../control/src/compile/nft-ruleset.ts';
import { parseNftJson } from '../../control/src/ruleset/nft-json.ts';
import { parseNftText } from '../../control/src/ruleset/nft-text.ts';
import { CALICO, DOCKER, FIREWALLD, IPTABLES_NFT } from './nft-nodes.ts';
import { normalRuleset } from './nft-normal.ts';
import { hasNft, listAfter, loadRuleset } from './real-nft.ts';

const hasIptablesNft = hasNft && spawnSync('iptables-nft', ['--version']).status === 0;
if (!hasIptablesNft) {
  if (process.env['FLATPATH_REQUIRE_ALL'] === '1') throw new Error('iptables-nft is missing');
  console.log('skipped: iptables-nft is missing');
}

/** Statements of a chain's rules. */
function statementsOf({ tables }: NftRuleset, table: string, chain: string): (readonly NftStatement[])[] {
  const found = tables.find(({ name }) => name === table)?.chains.find(({ name }) => name === chain);
  return (found?.rules ?? []).map(({ statements }) => statements.filter(({ kind }) => kind !== 'counter'));
}

describe("rulesets of other programs' shapes", () => {
  for (const [name, text] of Object.entries({ DOCKER, CALICO, FIREWALLD })) {
    it(`${name}: is understood`, () => {
      const { notUnderstood, ruleset, translated } = parseNftText('node.nft', text);
      expect(notUnderstood).toEqual([]);
      expect(translated).toEqual([]);
      expect(ruleset.tables.length).toBe(1);
    });

    // nft itself reads no set's name with a colon, which Calico gives its sets by netlink.
    it.skipIf(!hasNft)(`${name}: is read as the real nft lists it`, () => {
      const plain = text.replaceAll('cali40s:np-web', 'cali40s_np-web');
      const listing = loadRuleset(plain);
      const wanted = normalRuleset(parseNftText('node.nft', plain).ruleset);
      expect(normalRuleset(parseNftText('node.nft', listing.text).ruleset)).toEqual(wanted);
      expect(normalRuleset(parseNftJson('node.json', listing.json).ruleset)).toEqual(wanted);
    });
  }

  it.skipIf(!hasIptablesNft)('of iptables-nft are understood where nft prints a translation, and known as one', () => {
    const { text, json } = listAfter('iptables-nft-restore < input', IPTABLES_NFT);
    const { ruleset, notUnderstood, translated } = parseNftText('node.nft', text);
    expect(translated.toSorted()).toEqual(['ip filter', 'ip mangle', 'ip nat', 'ip raw']);
    expect(notUnderstood.map(({ text: part, message }) => [part, message])).toEqual([
      [
        'xt match u32 counter packets 0 bytes 0 drop',
        "nft tells nothing of the iptables extension 'u32' but its name: iptables-save does",
      ],
    ]);
    expect(statementsOf(ruleset, 'nat', 'KUBE-SERVICES')).toEqual([
      [
        match({ kind: 'meta', key: 'l4proto' }, '==', 6),
        {
          kind: 'match',
          left: { kind: 'payload', field: 'ip daddr' },
          operator: '==',
          right: { kind: 'address', address: { family: 4, words: [0x0a600001, 0, 0, 0], text: '10.96.0.1' } },
        },
        match({ kind: 'payload', field: 'tcp dport' }, '==', 443),
        match({ kind: 'numgen', mode: 'random', modulus: 3, offset: 0 }, '<', 1),
        { kind: 'verdict', verdict: { kind: 'jump', chain: 'KUBE-SEP-AAAAAAAAAAAAAAAA' } },
      ],
      [
        match({ kind: 'numgen', mode: 'inc', modulus: 3, offset: 0 }, '==', 1),
        { kind: 'verdict', verdict: { kind: 'jump', chain: 'KUBE-SEP-BBBBBBBBBBBBBBBB' } },
      ],
    ]);
    const fromJson = parseNftJson('node.json', json);
    expect(fromJson.translated.toSorted()).toEqual(translated.toSorted());
    for (const { message } of fromJson.notUnderstood) expect(message).toContain('iptables-save does');
  });
});

function match(
  left: Extract<NftStatement, { kind: 'match' }>['left'],
  operator: '==' | '<',
  value: number,
): NftStatement {
  return { kind: 'match', left, operator, right: { kind: 'number', value } };
}
