/** Recorded flows out of a file of any form that is understood, told apart by what is in it. */

import { readFileSync } from 'node:fs';
import { isPcap } from '@flatpath/engine/wire/pcap';
import { isPcapng } from '@flatpath/engine/wire/pcapng';
import { readCaptureFlows } from './capture-flows.ts';
import { isConntrackList, readConntrackList } from './conntrack-list.ts';
import { isHubble, readHubble } from './hubble-flows.ts';
import { type Recording, RecordingError } from './recorded-flow.ts';

/** @throws RecordingError where the file cannot be read, is of no known form, or damaged */
export function readRecording(file: string): Recording {
  const name = file === '-' ? '<stdin>' : file;
  let bytes: Buffer;
  try {
    bytes = readFileSync(file === '-' ? 0 : file);
  } catch (error) {
    throw new RecordingError(`${name}: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (isPcap(bytes) || isPcapng(bytes)) return readCaptureFlows(name, bytes);
  const text = bytes.toString('utf8').replace(/^\uFEFF/, '');
  if (isHubble(text)) return readHubble(name, text);
  if (isConntrackList(text)) return readConntrackList(name, text);
  throw new RecordingError(
    `${name}: holds no recorded flows: a pcap or pcapng capture, \`hubble observe -o jsonpb\` or \`conntrack -L\` is expected`,
  );
}
