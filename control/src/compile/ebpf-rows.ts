/**
 * Rows of the ebpf mode's maps as text with their origin: what a trace prints for an EVENT_MAP or an EVENT_CHOICE.
 *
 * Worked out only when asked for: compiling a cluster makes no text.
 */
import {
  MAP_AFFINITY,
  MAP_BACKENDS,
  MAP_DSR,
  MAP_FRONTENDS,
  MAP_IPCACHE,
  MAP_MAGLEV,
  MAP_POLICY,
  MAP_SELECTIONS,
  MAP_SNAT,
  MAP_SOURCE_RANGES,
} from '@flatpath/engine/programs/ebpf-image';
import type { Cluster } from '../cluster/cluster.ts';
import { type Family, formatWords, type Words } from '../model/address.ts';
import type { KubernetesObject } from '../model/metadata.ts';
import { type Origin, originOf } from '../model/origin.ts';
import type { Judgement } from '../policy/policy-rules.ts';
import { IDENTITY_HOST, type IdentityEntry } from './ebpf-identities.ts';
import type { CompiledEbpfPolicy } from './ebpf-policy.ts';
import type { BackendEntry, SelectionEntry } from './ebpf-selections.ts';
import { endpointAddressOrigin, type ServicePortInfo, type SourceRange, servicePortOrigin } from './service-ports.ts';

export type FrontendKind = 'ClusterIP' | 'NodePort' | 'ExternalIPs' | 'LoadBalancer';

/** What a row of the frontends stands for; its position is FE_ROW. */
export interface FrontendEntry {
  readonly port: ServicePortInfo;
  readonly kind: FrontendKind;
  /** Address words; all 0 for a nodePort. */
  readonly words: Words;
  readonly portNumber: number;
  /** Field of the Service that gives the address (for a nodePort: the port). */
  readonly field: string;
  /** Sets: positions in `EbpfEntries.selections`. */
  readonly external: number;
  readonly internal: number;
}

/** A row of the source ranges. */
export interface RangeEntry {
  readonly port: ServicePortInfo;
  readonly range: SourceRange;
}

/** A row in words, and the object and field that it came from. */
export interface EbpfRowText {
  readonly text: string;
  readonly origin: Origin | null;
}

/** The compiled entries that rows point at. */
export interface EbpfEntries {
  readonly frontends: readonly FrontendEntry[];
  readonly backends: readonly BackendEntry[];
  readonly selections: readonly SelectionEntry[];
  readonly ranges: readonly RangeEntry[];
  /** Null where no policy selects any pod. */
  readonly policy: CompiledEbpfPolicy | null;
}

/** Cilium's maps, without the digit that its names have for the family. */
const MAP_NAMES: Readonly<Record<number, string>> = {
  [MAP_FRONTENDS]: 'cilium_lb_services',
  [MAP_BACKENDS]: 'cilium_lb_backends',
  [MAP_SOURCE_RANGES]: 'cilium_lb_source_range',
  [MAP_AFFINITY]: 'cilium_lb_affinity',
  [MAP_MAGLEV]: 'cilium_lb_maglev',
  [MAP_SELECTIONS]: 'cilium_lb_services slots',
  [MAP_SNAT]: 'cilium_snat_external',
  [MAP_DSR]: 'DSR information',
  [MAP_IPCACHE]: 'cilium_ipcache',
  [MAP_POLICY]: 'cilium_policy',
};

const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 6: 'TCP', 17: 'UDP', 132: 'SCTP' };

/** Name of a map by its MAP_… number. */
export function ebpfMapName(map: number): string {
  return MAP_NAMES[map] ?? `map ${map}`;
}

/** An EVENT_MAP row of 0 or more. */
export function describeEbpfRow(entries: EbpfEntries, cluster: Cluster, map: number, row: number): EbpfRowText {
  switch (map) {
    case MAP_FRONTENDS:
      return describeFrontend(entries.frontends[row]);
    case MAP_BACKENDS:
      return describeBackend(entries.backends[row], '');
    case MAP_AFFINITY:
      return describeBackend(entries.backends[row], ', where the client was before');
    case MAP_SOURCE_RANGES:
      return describeRange(entries.ranges[row]);
    case MAP_SELECTIONS:
      return describeSelection(entries.selections[row]);
    case MAP_MAGLEV:
      return { text: `place ${row}`, origin: null };
    case MAP_SNAT:
      return { text: `source port ${row}`, origin: null };
    case MAP_DSR:
      return { text: `told to ${cluster.nodes[row]?.metadata.name ?? `node ${row}`}`, origin: null };
    case MAP_IPCACHE:
      return describeIdentity(entries.policy?.identities[row], row);
    case MAP_POLICY:
      return describeJudgement(entries.policy?.judgements[row], row);
  }
  return unknown(row);
}

/** The frontend that made an EVENT_CHOICE. */
export function describeEbpfChooser(entries: EbpfEntries, row: number): EbpfRowText {
  return describeFrontend(entries.frontends[row]);
}

/** `10.96.0.10:80/TCP`, IPv6 in brackets. */
export function formatFrontend(family: Family, words: Words, port: number, protocol: string): string {
  const address = formatWords(family, words);
  return `${family === 4 ? address : `[${address}]`}:${port}/${protocol}`;
}

/** `10.244.1.7:8080/TCP`, IPv6 in brackets. */
export function formatBackend({ endpoint, protocol }: BackendEntry): string {
  return `${endpoint.text}/${PROTOCOL_NAMES[protocol] ?? protocol}`;
}

function describeFrontend(frontend: FrontendEntry | undefined): EbpfRowText {
  if (frontend === undefined) return unknown(0);
  const { port, kind, words, portNumber, field } = frontend;
  const address = formatFrontend(port.family, words, portNumber, port.protocol);
  return { text: `${address} (${kind} of ${port.key})`, origin: servicePortOrigin(port, field) };
}

function describeBackend(backend: BackendEntry | undefined, note: string): EbpfRowText {
  if (backend === undefined) return unknown(0);
  const { endpoint } = backend;
  const place = endpoint.nodeName === '' ? '' : ` on ${endpoint.nodeName}`;
  const state = endpoint.ready ? '' : ', terminating';
  return { text: `${formatBackend(backend)}${place}${state}${note}`, origin: endpointAddressOrigin(endpoint) };
}

function describeRange(entry: RangeEntry | undefined): EbpfRowText {
  if (entry === undefined) return unknown(0);
  return { text: entry.range.prefix.text, origin: servicePortOrigin(entry.port, entry.range.field) };
}

function describeSelection(selection: SelectionEntry | undefined): EbpfRowText {
  if (selection === undefined) return unknown(0);
  const { port, policy, endpoints } = selection;
  const count = endpoints.length === 1 ? '1 backend' : `${endpoints.length} backends`;
  const origin = servicePortOrigin(port, policyField(port, policy));
  return { text: `${count}, traffic policy ${policy === 'local' ? 'Local' : 'Cluster'}`, origin };
}

function describeIdentity(identity: IdentityEntry | undefined, row: number): EbpfRowText {
  if (identity === undefined) return unknown(row);
  const { prefix, kind, source } = identity;
  const held = prefix === null || kind === 'cidr' ? '' : `, in ${prefix.text}`;
  return { text: `${identityText(identity)}${held}`, origin: source && originOf(source.object, source.field) };
}

function identityText({ number, kind, prefix, source }: IdentityEntry): string {
  const { name = '', namespace = '', labels = {} } = source?.object.metadata ?? {};
  switch (kind) {
    case 'world':
      return `identity ${number} (world)`;
    case 'cidr':
      return `identity ${number} (${prefix!.text})`;
    case 'node':
      return `identity ${number} (${IDENTITY_HOST} to its own pods; node ${name})`;
    case 'pod': {
      const own = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
      return `identity ${number} (${[...own, `namespace ${namespace}`].join(', ')})`;
    }
  }
}

function describeJudgement(judgement: Judgement | undefined, row: number): EbpfRowText {
  if (judgement === undefined) return unknown(row);
  const { direction, verdict, rule, policies } = judgement;
  const why = judgementReason(judgement);
  if (rule !== null) {
    return { text: `${direction} ${verdict} by ${why}`, origin: originOf(rule.policy, rule.peerField) };
  }
  const first = policies[0];
  return { text: `${direction} ${verdict}, ${why}`, origin: first === undefined ? null : originOf(first, 'spec') };
}

/** The rule's peer that decided, or why none did. */
export function judgementReason({ verdict, rule, policies }: Judgement): string {
  if (rule !== null) return `${policyName(rule.policy)} ${rule.peerField}`;
  const names = policies.map(policyName).join(', ');
  return verdict === 'denied' ? `isolated by ${names}` : `no rule of ${names} matches`;
}

function policyName({ kind, metadata }: KubernetesObject): string {
  return `${kind} ${metadata.namespace === '' ? '' : `${metadata.namespace}/`}${metadata.name}`;
}

function policyField(port: ServicePortInfo, policy: 'cluster' | 'local'): string {
  if (policy === 'cluster') return 'spec.ports';
  return port.internalPolicyLocal ? 'spec.internalTrafficPolicy' : 'spec.externalTrafficPolicy';
}

function unknown(row: number): EbpfRowText {
  return { text: `row ${row}`, origin: null };
}
