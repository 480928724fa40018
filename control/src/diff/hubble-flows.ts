/**
 * Hubble's flows, a JSON object a line: `hubble observe -o jsonpb` and `-o json`, and what its exporter writes
 * (`{"flow": {…}}`, or the flow itself), as `flow.proto` of Cilium's API names the fields.
 *
 * A connection shows up in many events; those of one 5-tuple count once. Replies, responses of layer 7 and the second half
 * of a socket's translation are left out, lines of other kinds (node status, lost events) are counted, and a line that is
 * no JSON is an error with its number.
 */

import { type Address, parseAddress } from '../model/address.ts';
import type { Protocol } from '../probe/reference.ts';
import { FlowBook, type RecordedEnd, type Recording, RecordingError } from './recorded-flow.ts';

type Json = Readonly<Record<string, unknown>>;

const PROTOCOLS: Readonly<Record<string, Protocol>> = {
  TCP: 'TCP',
  UDP: 'UDP',
  SCTP: 'SCTP',
  ICMPv4: 'ICMP',
  ICMPv6: 'ICMP',
};
const ECHO_REQUESTS: Readonly<Record<string, number>> = { ICMPv4: 8, ICMPv6: 128 };
/** Sources of labels that a pod's manifest has; others (reserved:, cidr:, fqdn:) are Cilium's own. */
const LABEL_SOURCE = 'k8s:';
/** Labels that Cilium adds: namespace, service account, cluster. */
const ADDED_LABEL = /^io\.(cilium|kubernetes)\./;
const FLOW_FIELDS = ['IP', 'l4', 'verdict', 'source', 'destination'];

/** True where the text's first line is an object that may be Hubble's. */
export function isHubble(text: string): boolean {
  const first = text.trimStart();
  if (!first.startsWith('{')) return false;
  const end = first.indexOf('\n');
  const value = readLine(end < 0 ? first : first.slice(0, end));
  return value !== null && (flowOf(value) !== null || 'node_status' in value || 'lost_events' in value);
}

/** @throws RecordingError at the first line that is no JSON object */
export function readHubble(file: string, text: string): Recording {
  const book = new FlowBook();
  text.split('\n').forEach((line, index) => {
    if (line.trim() === '') return;
    const value = readLine(line);
    if (value === null) throw new RecordingError(`${file}:${index + 1}: is not a JSON object`);
    const flow = flowOf(value);
    if (flow === null) book.skip('lines that are no flow');
    else readFlow(flow, book);
  });
  return book.close(file, 'hubble');
}

/** Adds a flow's connection to the book, or counts why it is none. */
function readFlow(flow: Json, book: FlowBook): void {
  const why = takeFlow(flow, book);
  if (why !== null) book.skip(why);
}

/** Null where the flow was taken, else why not. */
function takeFlow(flow: Json, book: FlowBook): string | null {
  const l4 = objectAt(flow, 'l4');
  const name = Object.keys(PROTOCOLS).find((candidate) => l4 !== null && objectAt(l4, candidate) !== null);
  if (l4 === null || name === undefined) return 'flows without a transport protocol';
  const transport = objectAt(l4, name)!;
  const protocol = PROTOCOLS[name]!;
  if (isAnswer(flow, transport)) return 'replies';
  if (protocol === 'ICMP' && numberAt(transport, 'type') !== ECHO_REQUESTS[name])
    return 'ICMP other than echo requests';
  const port = protocol === 'ICMP' ? 0 : numberAt(transport, 'destination_port');
  if (port === null || (port === 0 && protocol !== 'ICMP')) return 'flows without a destination port';
  const ip = objectAt(flow, 'IP') ?? {};
  const source = readEnd(flow, 'source', parseAddress(textAt(ip, 'source')));
  const target = readEnd(flow, 'destination', parseAddress(textAt(ip, 'destination')));
  if (!isKnown(source) || !isKnown(target)) return 'flows without addresses or names';
  book.add({ source, target, protocol, port }, numberAt(transport, 'source_port'));
  return null;
}

/** Not the first packet's direction, or a second record of it. */
function isAnswer(flow: Json, transport: Json): boolean {
  if (flow['is_reply'] === true || flow['reply'] === true) return true;
  if (textAt(objectAt(flow, 'l7') ?? {}, 'type') === 'RESPONSE') return true;
  const point = textAt(flow, 'sock_xlate_point');
  if (point !== '' && !point.endsWith('PRE_DIRECTION_FWD')) return point !== 'SOCK_XLATE_POINT_UNKNOWN';
  const flags = objectAt(transport, 'flags') ?? {};
  // Where a field mask left is_reply out, a SYN-ACK still tells.
  return flow['is_reply'] === undefined && flags['SYN'] === true && flags['ACK'] === true;
}

function readEnd(flow: Json, side: 'source' | 'destination', address: Address | null): RecordedEnd {
  const end = objectAt(flow, side) ?? {};
  const service = objectAt(flow, `${side}_service`) ?? {};
  const labels = listAt(end, 'labels').filter((label) => typeof label === 'string');
  const [workload] = listAt(end, 'workloads');
  const owner = isObject(workload) ? { kind: textAt(workload, 'kind'), name: textAt(workload, 'name') } : null;
  const pod = textAt(end, 'pod_name');
  const isOwnHost = labels.includes('reserved:host');
  return {
    namespace: textAt(end, 'namespace') || textAt(service, 'namespace'),
    pod,
    service: pod === '' ? textAt(service, 'name') : '',
    workload: owner === null || owner.name === '' ? null : owner,
    // Names of nodes may carry the cluster's.
    node: isOwnHost ? textAt(flow, 'node_name').replace(/^.*\//, '') : '',
    labels: readLabels(labels),
    address,
  };
}

/** Labels as a pod's manifest has them, null where there is none. */
function readLabels(texts: readonly string[]): Record<string, string> | null {
  const labels: Record<string, string> = {};
  for (const text of texts) {
    if (!text.startsWith(LABEL_SOURCE)) continue;
    const label = text.slice(LABEL_SOURCE.length);
    const equals = label.indexOf('=');
    const key = equals < 0 ? label : label.slice(0, equals);
    if (!ADDED_LABEL.test(key)) labels[key] = equals < 0 ? '' : label.slice(equals + 1);
  }
  return Object.keys(labels).length === 0 ? null : labels;
}

function isKnown({ pod, service, node, address, workload, labels }: RecordedEnd): boolean {
  return address !== null || pod !== '' || service !== '' || node !== '' || workload !== null || labels !== null;
}

function readLine(line: string): Json | null {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

/** The flow of a line: wrapped, or the object itself. */
function flowOf(value: Json): Json | null {
  const wrapped = objectAt(value, 'flow');
  if (wrapped !== null) return wrapped;
  return FLOW_FIELDS.some((field) => field in value) ? value : null;
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function objectAt(value: Json, key: string): Json | null {
  const found = value[key];
  return isObject(found) ? found : null;
}

function listAt(value: Json, key: string): readonly unknown[] {
  const found = value[key];
  return Array.isArray(found) ? found : [];
}

function textAt(value: Json, key: string): string {
  const found = value[key];
  return typeof found === 'string' ? found : '';
}

/** Null where it is absent; 64-bit numbers come as text. */
function numberAt(value: Json, key: string): number | null {
  const found = value[key];
  if (typeof found !== 'number' && typeof found !== 'string') return null;
  const number = Number(found);
  return Number.isInteger(number) ? number : null;
}
