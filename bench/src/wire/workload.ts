/**
 * What the benches of the wire share: a burst of frames with different flows, and a mix of them. One operation is a
 * burst of 256 frames, since one frame is too short for the timer; divide by 256 for one frame.
 */

import { buildFrame, type FrameFields } from '@flatpath/engine/wire/build';
import { BURST_FRAMES, type Burst, createBurst, frameOffset } from '@flatpath/engine/wire/burst';
import { parseFrame } from '@flatpath/engine/wire/parse';

/** Where results go, so that no lookup is optimised away. */
export const sink = new Int32Array(1);

/** Bytes of payload: a TCP frame of 74 bytes over IPv4, the size that most packets of a cluster have. */
const PAYLOAD = new Uint8Array(20);

/** The frame of flow `n`, of a protocol and family. */
export function frameOf(family: 4 | 6, protocol: 'tcp' | 'udp' | 'sctp', n: number): FrameFields {
  const sport = 1024 + n;
  const ip =
    family === 4
      ? ({ family, src: [0x0af40001 + n, 0, 0, 0], dst: [0x0a600001, 0, 0, 0] } as const)
      : ({ family, src: [0xfd001024, 0, 0, n], dst: [0xfd001096, 0, 0, 1] } as const);
  if (protocol === 'sctp') {
    return { ip, l4: { protocol, sport, dport: 80, chunks: [{ type: 0, value: PAYLOAD }] } };
  }
  return { ip, l4: { protocol, sport, dport: 80 }, payload: PAYLOAD };
}

/** A parsed burst of the frames that `pick` describes. */
export function fillBurst(pick: (n: number) => FrameFields): Burst {
  const burst = createBurst();
  for (let s = 0; s < BURST_FRAMES; s++) {
    const frame = buildFrame(pick(s));
    burst.bytes.set(frame, frameOffset(burst, s));
    burst.len[s] = frame.length;
    parseFrame(burst, s);
  }
  return burst;
}
