/** The ipsets beside a real node's iptables rules, as the engine's table and in words. */

import type { IpSets } from '@flatpath/engine/tables/ipset';
import { IpsetEncoder } from './ipset-encode.ts';
import { describeIpvsRow, type IpvsRowText, ipvsMapName } from './ipvs-rows.ts';
import type { NodeRuleset } from './node-ruleset.ts';

export interface CompiledSets {
  readonly image: IpSets;
  /** @throws RangeError for a set that the node lacks */
  setId(name: string): number;
  /** Name of a map by its MAP_SETS number. */
  mapName(map: number): string;
  /** Text and origins of an EVENT_MAP row of 0 or more. */
  describeRow(map: number, row: number): IpvsRowText;
}

/** @param nodes nodes of the cluster */
export function compileSets({ node, sets }: NodeRuleset, nodes: number): CompiledSets {
  const encoder = new IpsetEncoder();
  for (const set of sets) encoder.add(node, set);
  const entries = { servers: [], reals: [], setNames: encoder.names, elements: encoder.elements };
  return {
    image: encoder.build(nodes),
    setId: (name) => encoder.setId(name),
    mapName: (map) => ipvsMapName(entries, map),
    describeRow: (map, row) => describeIpvsRow(entries, map, row),
  };
}
