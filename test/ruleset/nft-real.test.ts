/**
 * The readers of nft's text and JSON against the real nft: what it lists is read alike from both, and what is read is
 * written again as text that the real nft loads and lists as before.
 */

import { describe, expect, it } from 'vitest';
import { formatNft } from '../../control/src/compile/nft-save.ts';
import { parseNftJson } from '../../control/src/ruleset/nft-json.ts';
import { parseNftText } from '../../control/src/ruleset/nft-text.ts';
import { normalRuleset } from './nft-normal.ts';
import { NFT_ZOO_RULES, NFT_ZOO_TABLE, NFT_ZOO_UNKNOWN } from './nft-zoo.ts';
import { hasNft, type Listing, loadRules, loadRuleset } from './real-nft.ts';

/** The tables that are read, as nft lists them, without what is counted and with one word for what means the same. */
function known(text: string): string {
  const parts = text.split(/^(?=table )/m).filter((part) => !/^table (?:bridge|arp)|dormant/.test(part));
  return parts
    .join('')
    .replace(/ packets \d+ bytes \d+| expires \w+/g, '')
    .replace(/(fib [a-z .]+ oif) missing/g, '$1 0')
    .replace(/(fib [a-z .]+ oif) exists/g, '$1 != 0')
    .replace('typeof ip saddr . tcp dport', 'type ipv4_addr . inet_service');
}

describe.skipIf(!hasNft)('nft rulesets', () => {
  it('are understood, alike from text and JSON, and written again mean the same to the real nft', () => {
    const [{ text, json, refused }] = loadRules(NFT_ZOO_TABLE, NFT_ZOO_RULES) as [Listing];
    expect(refused.length).toBeLessThan(10);
    const read = parseNftText('zoo.nft', text);
    expect(read.notUnderstood).toEqual([]);
    expect(read.skipped).toEqual(['table bridge b', 'table arp a', 'table inet sleeping (dormant)']);
    const fromJson = parseNftJson('zoo.json', json);
    expect(fromJson.notUnderstood).toEqual([]);
    // nft 1.0.6 leaves a table's flags out of its JSON.
    expect(fromJson.skipped).toEqual(read.skipped.slice(0, 2));
    const awake = fromJson.ruleset.tables.filter(({ name }) => name !== 'sleeping');
    expect(normalRuleset({ tables: awake })).toEqual(normalRuleset(read.ruleset));
    expect(known(loadRuleset(formatNft(read.ruleset)).text)).toBe(known(text));
  });

  it('are read alike, whatever way nft was told to print them', () => {
    // Handles, stateless, numeric priorities and protocols, all numeric, names of services.
    const listings = loadRules(NFT_ZOO_TABLE, NFT_ZOO_RULES, ['', '-a', '-s', '-y', '-p', '-n', '-S']);
    const read = listings.flatMap(({ text, json }) => [parseNftText('zoo', text), parseNftJson('zoo', json)]);
    for (const { ruleset, notUnderstood } of read) {
      expect(notUnderstood).toEqual([]);
      const awake = ruleset.tables.filter(({ name }) => name !== 'sleeping');
      expect(normalRuleset({ tables: awake })).toEqual(normalRuleset(read[0]!.ruleset));
    }
  });

  it('are named with their lines where they are not understood, and never match there', () => {
    const [{ text, json, refused }] = loadRules(NFT_ZOO_TABLE, NFT_ZOO_UNKNOWN) as [Listing];
    const { notUnderstood, ruleset } = parseNftText('zoo.nft', text);
    const lines = text.split('\n');
    expect(notUnderstood.length).toBe(NFT_ZOO_UNKNOWN.length - refused.length);
    for (const { line, text: part } of notUnderstood) expect(lines[line! - 1]).toContain(part);
    const fromJson = parseNftJson('zoo.json', json);
    expect(fromJson.notUnderstood.length).toBe(notUnderstood.length);
    const awake = fromJson.ruleset.tables.filter(({ name }) => name !== 'sleeping');
    expect(normalRuleset({ tables: awake })).toEqual(normalRuleset(ruleset));
  });
});
