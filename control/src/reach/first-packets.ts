/**
 * First packets in bulk: the same TCP SYN, SCTP INIT, UDP datagram or echo request as a probe's (probe/first-packet.ts),
 * copied from a template and given its addresses and ports.
 *
 * Transport checksums are left as the template has them: nobody verifies what flatpath itself sends, and the evaluator
 * looks at verdicts only. The IPv4 header's checksum is right, because every router looks at it.
 */

import { putIpv4, putIpv6 } from '@flatpath/engine/traffic/frame';
import { buildFrame, type L4Fields } from '@flatpath/engine/wire/build';
import { type Burst, frameOffset } from '@flatpath/engine/wire/burst';
import { onesSum } from '@flatpath/engine/wire/checksum';
import { ETHERNET_BYTES } from '@flatpath/engine/wire/ethernet';
import { ICMP_ID } from '@flatpath/engine/wire/icmp4';
import { IPV4_BYTES, IPV4_CHECKSUM } from '@flatpath/engine/wire/ipv4';
import { IPV6_BYTES } from '@flatpath/engine/wire/ipv6';
import { initChunk } from '@flatpath/engine/wire/sctp-chunk';
import { TCP_SYN } from '@flatpath/engine/wire/tcp';
import type { Family } from '../model/address.ts';
import type { Protocol } from '../probe/reference.ts';

interface Template {
  readonly frame: Uint8Array;
  /** Sum of the IPv4 header without addresses and checksum; 0 for IPv6. */
  readonly ipSum: number;
}

const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP', 'ICMP'];
const NOBODY = [0, 0, 0, 0] as const;

/** Makes the frames of slots from templates, one for each family and protocol. */
export class FrameWriter {
  private readonly templates: Readonly<Record<Family, ReadonlyMap<Protocol, Template>>> = {
    4: new Map(PROTOCOLS.map((protocol) => [protocol, makeTemplate(4, protocol)])),
    6: new Map(PROTOCOLS.map((protocol) => [protocol, makeTemplate(6, protocol)])),
  };

  /** Writes the frame that the lanes of a slot describe. */
  write(b: Burst, s: number, protocol: Protocol): void {
    const family = b.family[s] === 4 ? 4 : 6;
    const { frame, ipSum } = this.templates[family].get(protocol)!;
    const at = frameOffset(b, s);
    b.bytes.set(frame, at);
    b.len[s] = frame.length;
    const l3 = at + ETHERNET_BYTES;
    let l4 = l3 + IPV4_BYTES;
    if (family === 4) putIpv4(b.view, l3, ipSum, b.src0[s]!, b.dst0[s]!);
    else {
      l4 = l3 + IPV6_BYTES;
      putIpv6(
        b.view,
        l3,
        b.src0[s]!,
        b.src1[s]!,
        b.src2[s]!,
        b.src3[s]!,
        b.dst0[s]!,
        b.dst1[s]!,
        b.dst2[s]!,
        b.dst3[s]!,
      );
    }
    if (protocol === 'ICMP') b.view.setUint16(l4 + ICMP_ID, b.sport[s]!);
    else {
      b.view.setUint16(l4, b.sport[s]!);
      b.view.setUint16(l4 + 2, b.dport[s]!);
    }
  }
}

function makeTemplate(family: Family, protocol: Protocol): Template {
  const ends = { src: NOBODY, dst: NOBODY };
  const frame = buildFrame({
    ip: family === 4 ? { family: 4, ...ends, dontFragment: true } : { family: 6, ...ends },
    l4: transport(family, protocol),
  });
  if (family === 6) return { frame, ipSum: 0 };
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  view.setUint16(ETHERNET_BYTES + IPV4_CHECKSUM, 0);
  return { frame, ipSum: onesSum(frame, ETHERNET_BYTES, IPV4_BYTES, 0) };
}

function transport(family: Family, protocol: Protocol): L4Fields {
  const ports = { sport: 0, dport: 0 };
  switch (protocol) {
    case 'TCP':
      return { protocol: 'tcp', ...ports, flags: TCP_SYN, seq: 1, window: 64_240 };
    case 'UDP':
      return { protocol: 'udp', ...ports };
    case 'SCTP':
      return { protocol: 'sctp', ...ports, chunks: [initChunk('init', 1, 65_536, 10, 10, 1)] };
    case 'ICMP':
      return family === 4
        ? { protocol: 'icmp', type: 8, id: 0, sequence: 1 }
        : { protocol: 'icmpv6', type: 128, id: 0, sequence: 1 };
  }
}
