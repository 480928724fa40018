/**
 * `conntrack -L`, with or without `-o extended`, `-o timestamp`, `-o id` and counters, and /proc/net/nf_conntrack: a
 * connection a line. `conntrack -E` reads as well: it has the same lines with an event before them.
 *
 * The original tuple is what the client asked for, before any translation, so it holds the Service's address. Lines that
 * are no connection (the command's last sentence) are passed over; protocols without ports but ICMP are counted as skipped.
 */

import { parseAddress } from '../model/address.ts';
import type { Protocol } from '../probe/reference.ts';
import { endAt, FlowBook, type Recording } from './recorded-flow.ts';

const PROTOCOLS: Readonly<Record<string, Protocol>> = {
  tcp: 'TCP',
  udp: 'UDP',
  sctp: 'SCTP',
  icmp: 'ICMP',
  icmpv6: 'ICMP',
};
/** ICMP and ICMPv6 echo requests; an entry of another type is opened by no client that a probe could be. */
const ECHO_REQUESTS = ['8', '128'];
/** What a line begins with: event and timestamp, family, and the protocol by name and number. */
const LINE = /^\s*(?:\[[^\]]*\]\s*)*(?:ipv[46]\s+\d+\s+)?([a-z][a-z0-9-]*)\s+(\d+)\s+(.*\bsrc=.*)$/;
/** What the command says last, also of an empty table. */
const EMPTY = /\bflow entries have been shown\b/;

/** True where some line of the text is a connection. */
export function isConntrackList(text: string): boolean {
  return text.split('\n', 200).some((line) => LINE.test(line) || EMPTY.test(line));
}

export function readConntrackList(file: string, text: string): Recording {
  const book = new FlowBook();
  for (const line of text.split('\n')) {
    const match = LINE.exec(line);
    if (match === null) continue;
    const protocol = PROTOCOLS[match[1]!];
    if (protocol === undefined) {
      book.skip(`protocol ${match[1]} ${match[2]}`);
      continue;
    }
    // The first of each field is the original direction's.
    const fields = new Map<string, string>();
    for (const [, key, value] of match[3]!.matchAll(/([a-z][a-z-]*)=(\S*)/g)) {
      if (!fields.has(key!)) fields.set(key!, value!);
    }
    const source = parseAddress(fields.get('src') ?? '');
    const target = parseAddress(fields.get('dst') ?? '');
    const port = protocol === 'ICMP' ? 0 : Number(fields.get('dport'));
    if (source === null || target === null || !Number.isInteger(port) || (port === 0 && protocol !== 'ICMP')) {
      book.skip('lines without addresses or ports');
    } else if (protocol === 'ICMP' && !ECHO_REQUESTS.includes(fields.get('type') ?? '')) {
      book.skip('ICMP other than echo requests');
    } else {
      const clientPort = Number(fields.get(protocol === 'ICMP' ? 'id' : 'sport'));
      const flow = { source: endAt(source), target: endAt(target), protocol, port };
      book.add(flow, Number.isInteger(clientPort) ? clientPort : null);
    }
  }
  return book.close(file, 'conntrack');
}
