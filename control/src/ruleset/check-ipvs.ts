/**
 * Virtual servers with their real servers, and ipsets with their elements, as items of a check (check.ts).
 *
 * Virtual servers have no names: those by address that translate are taken for kube-proxy's, which removes all that it
 * does not know; those by mark, and real servers that are routed or tunnelled to, are foreign. A real server of weight 0
 * is one that kube-proxy drains, so it is neither there nor left over. Of sets, kube-proxy's go by their names.
 */

import type { Ipset } from '../compile/ipset.ts';
import { elementText } from '../compile/ipset-text.ts';
import type { Source } from '../compile/iptables-rules.ts';
import type { VirtualServer } from '../compile/ipvs-ruleset.ts';
import { KUBE_SETS, type KubeSet, setName } from '../compile/ipvs-sets.ts';
import { ipvsadmLines } from '../compile/ipvs-text.ts';
import type { CheckItem } from './check.ts';

const KUBE_SET_NAMES: ReadonlySet<string> = new Set(
  Object.keys(KUBE_SETS).flatMap((set) => [setName(set as KubeSet, 4), setName(set as KubeSet, 6)]),
);

export function virtualServerItems(servers: readonly VirtualServer[]): CheckItem[] {
  return servers.flatMap((server) => {
    const isOwn = server.virtual.kind === 'address';
    const [text = ''] = ipvsadmLines([{ ...server, realServers: [] }]);
    const service = text.slice('-A '.length, text.indexOf(' -s '));
    const holds = `virtual server ${service}`;
    const item = { place: 'virtual servers', key: text, text, isOwn, holds, ...placeOf(server.sources) };
    const reals = server.realServers.flatMap((real) => {
      if (real.weight === 0) return [];
      const [, line = ''] = ipvsadmLines([{ ...server, realServers: [real] }]);
      const isTranslated = isOwn && real.forwarding === 'masquerade';
      return [{ place: holds, key: line, text: line, isOwn: isTranslated, holds: null, ...placeOf(real.sources) }];
    });
    return [item, ...reals];
  });
}

export function ipsetItems(sets: readonly Ipset[]): CheckItem[] {
  return sets.flatMap((set) => {
    const isOwn = KUBE_SET_NAMES.has(set.name);
    const holds = `ipset ${set.name}`;
    const family = set.range === null ? ` of IPv${set.family}` : '';
    // Elements alone know their line: the first tells where the set stands.
    const item = {
      place: 'ipsets',
      key: `${set.name} ${set.type}${family}`,
      text: `create ${set.name} ${set.type}`,
      isOwn,
      holds,
    };
    const elements = set.elements.map((element) => {
      const text = `${elementText(set, element)}${element.nomatch ? ' nomatch' : ''}`;
      const line = `add ${set.name} ${text}`;
      return { place: holds, key: text, text: line, isOwn, holds: null, ...placeOf(element.sources) };
    });
    return [{ ...item, ...placeOf(set.elements[0]?.sources ?? []) }, ...elements];
  });
}

function placeOf(sources: readonly Source[]): { readonly file: string; readonly line: number | null } {
  const [source] = sources;
  if (source === undefined || !('line' in source)) return { file: '', line: null };
  return { file: source.file, line: source.line };
}
