/**
 * A node's maps, read from their text (ebpf-text.ts), as the engine's image (programs/ebpf-image.ts).
 *
 * The image is that of one node: each frontend has the lists that this node uses, and no node has others. Rings are built
 * anew from the backends' names, as they were; ids that follow from addresses are those of every image.
 */

import {
  attachEbpfImage,
  EBPF_DSR,
  EBPF_EXTERNAL_CLUSTER_IP,
  EBPF_MASQUERADE,
  EBPF_NODE_PORT_RANGES,
  EBPF_SCTP,
  EBPF_SOCKET_LB,
  type EbpfImage,
  FE_AFFINITY_ID,
  FE_AFFINITY_MS,
  FE_EXTERNAL,
  FE_FLAGS,
  FE_HAS_BACKENDS,
  FE_HAS_RANGES,
  FE_INTERNAL,
  FE_RANGE,
  FE_RANGES,
  FE_ROW,
  FRONTEND_KEY_WORDS,
  FRONTEND_WORDS,
  frontendPort,
  SEL_COUNT,
  SEL_FIRST,
  SEL_RING,
  SEL_RING_SIZE,
  SEL_WORDS,
} from '@flatpath/engine/programs/ebpf-image';
import { type Backends, createBackends, setListEntry, takeList } from '@flatpath/engine/tables/backends';
import { createHashTable, type HashTable, hashInsert5, setRowValue } from '@flatpath/engine/tables/hash-table';
import { buildRing, createMaglev, type Maglev, RING_SEED, takeRing } from '@flatpath/engine/tables/maglev';
import { addBackendRow, buildNodePortRanges, buildRanges, frontendId, KIND_FLAGS, ringName } from '../compile/ebpf.ts';
import { type Prefix, parseAddressOrPrefix } from '../model/address.ts';
import { compileEbpfPolicyDump } from './ebpf-policy-compile.ts';
import type { EbpfDump, EbpfEnd, EbpfFrontend } from './ebpf-text.ts';

const SWITCHES: Readonly<Record<string, number>> = {
  'bpf-lb-sock': EBPF_SOCKET_LB,
  'bpf-lb-external-clusterip': EBPF_EXTERNAL_CLUSTER_IP,
  'enable-sctp': EBPF_SCTP,
  'enable-ipv4-masquerade': EBPF_MASQUERADE,
};

/** The image of a node whose maps were dumped. */
export function compileEbpfDump(dump: EbpfDump): EbpfImage {
  const { frontends } = dump;
  const tables = new DumpTables(dump);
  const nodePorts = dump.options.get('nodeport-addresses') ?? '';
  const prefixes = nodePorts.split(',').map(parseAddressOrPrefix);
  return attachEbpfImage({
    options: optionBits(dump.options),
    frontends: tables.frontends().buffer,
    selections: tables.selections.buffer,
    nodeSelections: createHashTable(2, 1, 1).buffer,
    nodeZone: new SharedArrayBuffer(4),
    backends: tables.backends.buffer,
    rings: tables.rings.buffer,
    sourceRanges: buildRanges(frontends.flatMap(({ ranges }) => ranges)).buffer,
    ...buildNodePortRanges(prefixes.filter((prefix): prefix is Prefix => prefix !== null)),
    policy: compileEbpfPolicyDump(dump),
  });
}

function optionBits(options: ReadonlyMap<string, string>): number {
  let bits = options.get('bpf-lb-mode') === 'dsr' ? EBPF_DSR : 0;
  if (options.has('nodeport-addresses')) bits |= EBPF_NODE_PORT_RANGES;
  for (const [name, bit] of Object.entries(SWITCHES)) if (options.get(name) === 'true') bits |= bit;
  return bits;
}

/** Tables that grow with the frontends; each frontend has a selection for the outside and one for the inside. */
class DumpTables {
  readonly selections: Int32Array<SharedArrayBuffer>;
  readonly backends: Backends;
  readonly rings: Maglev;
  private readonly dump: EbpfDump;
  private readonly rows = new Map<string, number>();

  constructor(dump: EbpfDump) {
    this.dump = dump;
    const { frontends } = dump;
    const ends = frontends.flatMap(({ external, internal }) => [...external, ...internal]);
    const places = frontends.reduce((sum, { ringSize }) => sum + ringSize, 0);
    this.backends = createBackends(Math.max(new Set(ends.map(({ text }) => text)).size, 1), ends.length);
    this.rings = createMaglev(Math.max(places, 1));
    this.selections = new Int32Array(new SharedArrayBuffer(Math.max(frontends.length, 1) * 2 * SEL_WORDS * 4));
  }

  frontends(): HashTable {
    const { frontends } = this.dump;
    const table = createHashTable(FRONTEND_KEY_WORDS, FRONTEND_WORDS, Math.max(frontends.length, 1));
    let range = 0;
    frontends.forEach((frontend, i) => {
      this.addFrontend(table, frontend, i, range);
      range += frontend.ranges.length;
    });
    return table;
  }

  private addFrontend(table: HashTable, frontend: EbpfFrontend, number: number, range: number): void {
    const { end, kind, external, internal, ranges, ringSize, affinitySeconds, isServedElsewhere } = frontend;
    const { words, family } = end.address;
    const key = frontendPort(family, end.port, end.protocol);
    const row = hashInsert5(table, words[0], words[1], words[2], words[3], key);
    const hasBackends = isServedElsewhere || external.length + internal.length > 0;
    let flags = KIND_FLAGS[kind];
    if (ranges.length > 0) flags |= FE_HAS_RANGES;
    if (hasBackends) flags |= FE_HAS_BACKENDS;
    setRowValue(table, row, FE_ROW, number);
    setRowValue(table, row, FE_FLAGS, flags);
    setRowValue(table, row, FE_EXTERNAL, this.addSelection(2 * number, external, ringSize));
    setRowValue(table, row, FE_INTERNAL, this.addSelection(2 * number + 1, internal, 0));
    setRowValue(table, row, FE_AFFINITY_MS, affinitySeconds * 1000);
    setRowValue(table, row, FE_AFFINITY_ID, frontendId(words, key));
    setRowValue(table, row, FE_RANGE, ranges.length === 0 ? 0 : range);
    setRowValue(table, row, FE_RANGES, ranges.length);
  }

  private addSelection(number: number, ends: readonly EbpfEnd[], ringSize: number): number {
    const first = takeList(this.backends, ends.length);
    ends.forEach((end, i) => {
      setListEntry(this.backends, first, i, this.backendRow(end));
    });
    const at = number * SEL_WORDS;
    this.selections[at + SEL_FIRST] = first;
    this.selections[at + SEL_COUNT] = ends.length;
    this.selections[at + SEL_RING] = -1;
    if (ringSize === 0) return number;
    const ring = takeRing(this.rings, ringSize);
    const names = ends.map(({ text }) => ringName(text, !this.dump.terminating.has(text)));
    buildRing(this.rings, ring, ringSize, names, null, RING_SEED);
    this.selections[at + SEL_RING] = ring;
    this.selections[at + SEL_RING_SIZE] = ringSize;
    return number;
  }

  /** A dump does not tell on which node a backend runs, nor does the program ask. */
  private backendRow({ text, address, port, protocol }: EbpfEnd): number {
    let row = this.rows.get(text);
    if (row === undefined) {
      row = this.rows.size;
      this.rows.set(text, row);
      addBackendRow(this.backends, address, port, protocol, -1);
    }
    return row;
  }
}
