/** Cuts a frame into fragments as a sender or a router does, for tests; both families. */

const ETHERNET = 14;

function sumOf(header: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < header.length; i += 2) sum += (header[i]! << 8) | (header[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/**
 * @param frame an untagged frame of a whole packet, IPv4 without or with options, IPv6 without extension headers
 * @param borders places in the packet's data, multiples of 8, ascending: where one fragment ends and the next begins
 * @param id number of the datagram
 */
export function split(frame: Uint8Array, borders: readonly number[], id: number): Uint8Array[] {
  const isFour = frame[ETHERNET]! >>> 4 === 4;
  const header = isFour ? (frame[ETHERNET]! & 15) * 4 : 40;
  const data = frame.subarray(ETHERNET + header);
  const places = [0, ...borders, data.length];
  return places.slice(0, -1).map((from, i) => {
    const to = places[i + 1]!;
    const more = to < data.length;
    return isFour ? cut4(frame, header, data, from, to, more, id) : cut6(frame, data, from, to, more, id);
  });
}

function cut4(
  frame: Uint8Array,
  header: number,
  data: Uint8Array,
  from: number,
  to: number,
  more: boolean,
  id: number,
): Uint8Array {
  const out = new Uint8Array(ETHERNET + header + to - from);
  out.set(frame.subarray(0, ETHERNET + header));
  out.set(data.subarray(from, to), ETHERNET + header);
  const view = new DataView(out.buffer);
  view.setUint16(ETHERNET + 2, header + to - from);
  view.setUint16(ETHERNET + 4, id);
  view.setUint16(ETHERNET + 6, (more ? 0x2000 : 0) | (from >>> 3));
  view.setUint16(ETHERNET + 10, 0);
  view.setUint16(ETHERNET + 10, sumOf(out.subarray(ETHERNET, ETHERNET + header)));
  return out;
}

function cut6(frame: Uint8Array, data: Uint8Array, from: number, to: number, more: boolean, id: number): Uint8Array {
  const out = new Uint8Array(ETHERNET + 40 + 8 + to - from);
  out.set(frame.subarray(0, ETHERNET + 40));
  const view = new DataView(out.buffer);
  view.setUint16(ETHERNET + 4, 8 + to - from);
  out[ETHERNET + 6] = 44;
  out[ETHERNET + 40] = frame[ETHERNET + 6]!;
  view.setUint16(ETHERNET + 42, from | (more ? 1 : 0));
  view.setUint32(ETHERNET + 44, id);
  out.set(data.subarray(from, to), ETHERNET + 48);
  return out;
}

/** Puts fragments that `split` made together again, in any order; their own link header, TTL and addresses stay. */
export function join(fragments: readonly Uint8Array[]): Uint8Array {
  const isFour = fragments[0]![ETHERNET]! >>> 4 === 4;
  const parts = fragments.map((frame) => {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    const header = isFour ? (frame[ETHERNET]! & 15) * 4 : 48;
    const field = view.getUint16(ETHERNET + (isFour ? 6 : 42));
    return {
      frame,
      header,
      from: isFour ? (field & 0x1fff) * 8 : field & 0xfff8,
      data: frame.subarray(ETHERNET + header),
    };
  });
  parts.sort((a, b) => a.from - b.from);
  const first = parts[0]!;
  const length = Math.max(...parts.map(({ from, data }) => from + data.length));
  const kept = isFour ? first.header : 40;
  const out = new Uint8Array(ETHERNET + kept + length);
  out.set(first.frame.subarray(0, ETHERNET + kept));
  for (const { from, data } of parts) out.set(data, ETHERNET + kept + from);
  const view = new DataView(out.buffer);
  if (isFour) {
    view.setUint16(ETHERNET + 2, kept + length);
    view.setUint16(ETHERNET + 6, 0);
    view.setUint16(ETHERNET + 10, 0);
    view.setUint16(ETHERNET + 10, sumOf(out.subarray(ETHERNET, ETHERNET + kept)));
  } else {
    view.setUint16(ETHERNET + 4, length);
    out[ETHERNET + 6] = first.frame[ETHERNET + 40]!;
  }
  return out;
}
