/**
 * The structure of a node's maps in ebpf mode: what its program finds for every frontend, without the numbers that a
 * compile hands out. Two images of one structure treat every packet of the node alike.
 */

import { createHash } from 'node:crypto';
import {
  type EbpfImage,
  FE_AFFINITY_ID,
  FE_AFFINITY_MS,
  FE_EXTERNAL,
  FE_FLAGS,
  FE_INTERNAL,
  FE_RANGE,
  FE_RANGES,
  FRONTEND_KEY_WORDS,
  RANGE_WORDS,
  SEL_BY_NODE,
  SEL_BY_ZONE,
  SEL_COUNT,
  SEL_DIFFERS,
  SEL_FIRST,
  SEL_RING,
  SEL_RING_SIZE,
  SEL_WORDS,
  zoneKey,
} from '@flatpath/engine/programs/ebpf-image';
import { backendAddress, backendFlags, backendPort, listEntry } from '@flatpath/engine/tables/backends';
import { hashFind2, nextRow, rowKey, rowValue } from '@flatpath/engine/tables/hash-table';
import { describeEbpfPolicy, type PolicySubjects } from './ebpf-policy-structure.ts';

/** SHA-256 in hex of the structure of a node's maps. */
export function ebpfStructuralHash(image: EbpfImage, node: number, subjects: PolicySubjects | null = null): string {
  return createHash('sha256')
    .update(describeEbpfStructure(image, node, subjects).join('\n'))
    .digest('hex');
}

/**
 * The structure as lines: options, nodePort prefixes, frontends in the order of their keys, policies.
 * @param subjects whom the policies are about; null leaves them out
 */
export function describeEbpfStructure(
  image: EbpfImage,
  node: number,
  subjects: PolicySubjects | null = null,
): string[] {
  const prefixes = [image.nodePortRanges4.buffer, image.nodePortRanges6.buffer].map((buffer) =>
    createHash('sha256').update(new Uint8Array(buffer)).digest('hex'),
  );
  const frontends: string[] = [];
  for (let at = nextRow(image.frontends, -1); at >= 0; at = nextRow(image.frontends, at)) {
    frontends.push(describeFrontend(image, at, node));
  }
  const policy = subjects && image.policy && describeEbpfPolicy(image.policy, node, subjects);
  return [`options ${image.options}`, `nodePorts ${prefixes.join(' ')}`, ...frontends.sort(), ...(policy ?? [])];
}

function describeFrontend(image: EbpfImage, at: number, node: number): string {
  const value = (word: number): number => rowValue(image.frontends, at, word);
  const key = Array.from({ length: FRONTEND_KEY_WORDS }, (_, i) => rowKey(image.frontends, at, i));
  const first = value(FE_RANGE) * RANGE_WORDS;
  const ranges = image.sourceRanges.subarray(first, first + value(FE_RANGES) * RANGE_WORDS);
  const external = selectionOf(image, value(FE_EXTERNAL), node);
  const internal = selectionOf(image, value(FE_INTERNAL), node);
  return [
    `frontend ${key.join('.')} flags ${value(FE_FLAGS)} affinity ${value(FE_AFFINITY_MS)} ${value(FE_AFFINITY_ID)}`,
    `ranges ${ranges.join('.')}`,
    `external ${backendsOf(image, external)} ring ${ringOf(image, external)}`,
    // Rings serve packets from outside alone.
    `internal ${backendsOf(image, internal)}`,
  ].join('\n  ');
}

/** The selection that a node uses of a set, as the program finds it. */
function selectionOf(image: EbpfImage, set: number, node: number): number {
  const differs = selectionWord(image, set, SEL_DIFFERS);
  let found = -1;
  if ((differs & SEL_BY_NODE) !== 0) found = hashFind2(image.nodeSelections, set, node);
  if (found < 0 && (differs & SEL_BY_ZONE) !== 0) {
    found = hashFind2(image.nodeSelections, set, zoneKey(image.nodeZone[node]!));
  }
  return found < 0 ? set : rowValue(image.nodeSelections, found, 0);
}

function selectionWord(image: EbpfImage, selection: number, word: number): number {
  return image.selections[selection * SEL_WORDS + word]!;
}

function backendsOf(image: EbpfImage, selection: number): string {
  const { backends } = image;
  const first = selectionWord(image, selection, SEL_FIRST);
  const texts = Array.from({ length: selectionWord(image, selection, SEL_COUNT) }, (_, i) => {
    const row = listEntry(backends, first, i);
    const address = [0, 1, 2, 3].map((word) => backendAddress(backends, row, word));
    return `${address.join('.')}:${backendPort(backends, row)} ${backendFlags(backends, row)}`;
  });
  return texts.join(', ');
}

function ringOf(image: EbpfImage, selection: number): string {
  const ring = selectionWord(image, selection, SEL_RING);
  if (ring < 0) return '-';
  const size = selectionWord(image, selection, SEL_RING_SIZE);
  return `${size} ${image.rings.entries.subarray(ring, ring + size).join(',')}`;
}
