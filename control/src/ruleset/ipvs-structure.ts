/**
 * The structure of a node in ipvs mode: virtual servers, sets and rules by what they are, without the numbers that a
 * compile hands out. Two images of one structure treat every packet alike, but for the order of real servers: ipvsadm
 * prints them by address, so a dump does not tell in which order rr, sh, dh and mh go through them.
 */

import { createHash } from 'node:crypto';
import { nextRow, rowKey } from '@flatpath/engine/tables/hash-table';
import { setElements, setInstance, setType } from '@flatpath/engine/tables/ipset';
import {
  findServer,
  RS_ADDRESS,
  RS_PORT,
  RS_WEIGHT,
  realWord,
  SCHEDULER_NAMES,
  serverWord,
  VS_COUNT,
  VS_FIRST,
  VS_FLAGS,
  VS_MARK,
  VS_NETMASK,
  VS_SCHEDULER,
  VS_TIMEOUT_MS,
} from '@flatpath/engine/tables/ipvs-services';
import type { CompiledIpvs } from '../compile/ipvs.ts';
import { describeStructure } from './structural-hash.ts';

/** SHA-256 in hex of a node's structure. */
export function ipvsStructuralHash(compiled: CompiledIpvs, node: number): string {
  return createHash('sha256').update(describeIpvsStructure(compiled, node).join('\n')).digest('hex');
}

/** The structure as lines: virtual servers, sets, then the rules of both families. */
export function describeIpvsStructure(compiled: CompiledIpvs, node: number): string[] {
  const { image, rules4, rules6, setNames } = compiled;
  const local = [image.localSet4, image.localSet6].map((set) => setNames[set] ?? '-');
  return [
    `options ${image.options} local ${local.join(' ')}`,
    ...virtualServers(compiled, node).sort(),
    ...sets(compiled, node).sort(),
    ...describeStructure(rules4, node, setNames),
    ...describeStructure(rules6, node, setNames),
  ];
}

function virtualServers({ image }: CompiledIpvs, node: number): string[] {
  const { services } = image;
  const lines: string[] = [];
  for (let at = nextRow(services.services, -1); at >= 0; at = nextRow(services.services, at)) {
    const [a0, a1, a2, a3, port] = [0, 1, 2, 3, 4].map((word) => rowKey(services.services, at, word)) as [
      number,
      number,
      number,
      number,
      number,
    ];
    const row = findServer(services, node, a0, a1, a2, a3, port);
    if (row === -1) continue;
    const word = (name: number): number => serverWord(services, row, name);
    const first = word(VS_FIRST);
    const reals = Array.from({ length: word(VS_COUNT) }, (_, i) => {
      const address = [0, 1, 2, 3].map((part) => realWord(services, first + i, RS_ADDRESS + part));
      return `${address.join('.')}:${realWord(services, first + i, RS_PORT)} ${realWord(services, first + i, RS_WEIGHT)}`;
    });
    const options = [VS_FLAGS, VS_TIMEOUT_MS, VS_NETMASK, VS_MARK].map(word).join(' ');
    const scheduler = SCHEDULER_NAMES[word(VS_SCHEDULER)];
    lines.push(`server ${a0}.${a1}.${a2}.${a3} ${port} ${scheduler} ${options}: ${reals.sort().join(', ')}`);
  }
  return lines;
}

function sets({ image, setNames }: CompiledIpvs, node: number): string[] {
  return setNames.flatMap((name, set) => {
    const instance = setInstance(image.sets, node, set);
    if (instance === -1) return [];
    const elements = setElements(image.sets, instance).map(({ id: _, ...element }) => JSON.stringify(element));
    return [`set ${name} ${setType(image.sets, instance)}: ${elements.sort().join(', ')}`];
  });
}
