/** The ipsets of the iptables mode, a real node's and those of policies, as the engine's table and in words. */

import type { IpSets } from '@flatpath/engine/tables/ipset';
import type { IpsetEncoder } from './ipset-encode.ts';
import { describeIpvsRow, type IpvsRowText, ipvsMapName } from './ipvs-rows.ts';

export interface CompiledSets {
  readonly image: IpSets;
  /** @throws RangeError for a set that no node has */
  setId(name: string): number;
  /** Name of a map by its MAP_SETS number. */
  mapName(map: number): string;
  /** Text and origins of an EVENT_MAP row of 0 or more. */
  describeRow(map: number, row: number): IpvsRowText;
}

/**
 * @param nodes nodes of the cluster
 * @returns null where there are no sets
 */
export function compileSets(encoder: IpsetEncoder, nodes: number): CompiledSets | null {
  if (encoder.names.length === 0) return null;
  const entries = { servers: [], reals: [], setNames: encoder.names, elements: encoder.elements };
  return {
    image: encoder.build(nodes),
    setId: (name) => encoder.setId(name),
    mapName: (map) => ipvsMapName(entries, map),
    describeRow: (map, row) => describeIpvsRow(entries, map, row),
  };
}
