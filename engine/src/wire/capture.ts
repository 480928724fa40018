/**
 * Reads a capture file of either format, told apart by its first four bytes.
 *
 * Guarantees: as its readers, see pcap.ts and pcapng.ts. Refuses: anything else, with CaptureError.
 */

import { CaptureError, type CaptureRecord } from './capture-record.ts';
import { isPcap, readPcap } from './pcap.ts';
import { isPcapng, readPcapng } from './pcapng.ts';

/** The packets of a pcap or pcapng file. @throws CaptureError at the first damage, after all packets before it */
export function readCapture(bytes: Uint8Array): Generator<CaptureRecord, void, undefined> {
  if (isPcap(bytes)) return readPcap(bytes);
  if (isPcapng(bytes)) return readPcapng(bytes);
  throw new CaptureError('neither a pcap nor a pcapng file', 0, 1);
}
