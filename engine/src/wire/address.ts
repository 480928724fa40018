/**
 * Addresses as text: the only place of the engine where an address becomes a string.
 *
 * In: host-order 32-bit words as the lanes keep them, signed or unsigned; an IPv4 address is word 0.
 * Out: dotted decimal, RFC 5952 text for IPv6 (with `::ffff:1.2.3.4` for mapped addresses, §5), MACs in lower case.
 * Reading text is control's work; nothing here parses.
 */

/** `1.2.3.4`, or RFC 5952 text. `family` is 4 or 6. */
export function formatAddress(family: number, w0: number, w1: number, w2: number, w3: number): string {
  return family === 4 ? formatIpv4(w0) : formatIpv6(w0, w1, w2, w3);
}

/** `1.2.3.4:80` or `[2001:db8::1]:80`. */
export function formatEndpoint(family: number, w0: number, w1: number, w2: number, w3: number, port: number): string {
  const address = formatAddress(family, w0, w1, w2, w3);
  return family === 4 ? `${address}:${port}` : `[${address}]:${port}`;
}

/** `02:00:00:00:00:01` from a 48-bit integer. */
export function formatMac(mac: number): string {
  const hex = mac.toString(16).padStart(12, '0');
  return (hex.match(/../g) ?? []).join(':');
}

function formatIpv4(word: number): string {
  return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
}

function formatIpv6(w0: number, w1: number, w2: number, w3: number): string {
  if (w0 === 0 && w1 === 0 && w2 === 0xffff) return `::ffff:${formatIpv4(w3)}`;
  const groups = [w0, w1, w2, w3].flatMap((word) => [word >>> 16, word & 0xffff]);
  // RFC 5952 §4.2: the longest run of two or more zero groups becomes `::`, the first one of equals.
  let start = -1;
  let length = 1;
  for (let from = 0; from < 8; from++) {
    let to = from;
    while (to < 8 && groups[to] === 0) to++;
    if (to - from > length) {
      start = from;
      length = to - from;
    }
  }
  const text = (part: number[]) => part.map((group) => group.toString(16)).join(':');
  return start < 0 ? text(groups) : `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}
