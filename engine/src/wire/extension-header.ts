/**
 * IPv6 extension headers as descriptions, and the bytes of a chain of them. Cold; reading is in ipv6.ts.
 *
 * Guarantees: next-header numbers and lengths are right, options are padded to 8 bytes with PadN (RFC 8200 §4.2).
 * Refuses nothing: a chain may be as odd as its description.
 */

import {
  FRAGMENT_HEADER_BYTES,
  IPV6_AUTHENTICATION,
  IPV6_DESTINATION_OPTIONS,
  IPV6_FRAGMENT,
  IPV6_HOP_BY_HOP,
  IPV6_ROUTING,
  setIpv6Address,
} from './ipv6.ts';

export interface OptionsHeader {
  readonly kind: 'hop-by-hop' | 'destination-options';
  /** Whole options, without padding. */
  readonly options?: Uint8Array;
}

export interface RoutingHeader {
  readonly kind: 'routing';
  /** 0 source route, 2 home address, 4 segments. */
  readonly type: number;
  readonly segmentsLeft: number;
  /** In the order of the header: type 4 lists the last stop first. */
  readonly addresses: readonly (readonly [number, number, number, number])[];
}

export interface FragmentHeader {
  readonly kind: 'fragment';
  /** In bytes, a multiple of 8. */
  readonly offset: number;
  readonly more: boolean;
  readonly id: number;
}

export interface AuthenticationHeader {
  readonly kind: 'authentication';
  readonly spi: number;
  readonly sequence: number;
  /** Integrity check value; 12 bytes make the usual header of 24. */
  readonly icv: Uint8Array;
}

/** A header by its number: its bytes from the third on, padded with zeros to 8. */
export interface OtherHeader {
  readonly kind: 'other';
  readonly number: number;
  readonly body: Uint8Array;
}

export type ExtensionHeader = OptionsHeader | RoutingHeader | FragmentHeader | AuthenticationHeader | OtherHeader;

export interface ExtensionChain {
  /** Next header of the fixed header. */
  readonly first: number;
  readonly bytes: Uint8Array;
}

/** Lays out a chain that ends in the transport protocol `proto`. */
export function buildExtensionHeaders(headers: readonly ExtensionHeader[], proto: number): ExtensionChain {
  let next = proto;
  const parts: Uint8Array[] = [];
  for (const header of headers.toReversed()) {
    const bytes = buildHeader(header);
    bytes[0] = next;
    parts.unshift(bytes);
    next = headerNumber(header);
  }
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let off = 0;
  for (const part of parts) {
    bytes.set(part, off);
    off += part.length;
  }
  return { first: next, bytes };
}

function headerNumber(header: ExtensionHeader): number {
  switch (header.kind) {
    case 'hop-by-hop':
      return IPV6_HOP_BY_HOP;
    case 'destination-options':
      return IPV6_DESTINATION_OPTIONS;
    case 'routing':
      return IPV6_ROUTING;
    case 'fragment':
      return IPV6_FRAGMENT;
    case 'authentication':
      return IPV6_AUTHENTICATION;
    case 'other':
      return header.number;
  }
}

/** The header's bytes with next header 0. */
function buildHeader(header: ExtensionHeader): Uint8Array {
  switch (header.kind) {
    case 'hop-by-hop':
    case 'destination-options':
      return buildOptions(header.options ?? new Uint8Array(0));
    case 'routing': {
      const bytes = new Uint8Array(8 + header.addresses.length * 16);
      const view = new DataView(bytes.buffer);
      bytes[1] = header.addresses.length * 2;
      bytes[2] = header.type;
      bytes[3] = header.segmentsLeft;
      if (header.type === 4) bytes[4] = Math.max(0, header.addresses.length - 1);
      header.addresses.forEach((address, i) => {
        setIpv6Address(view, 8 + i * 16, ...address);
      });
      return bytes;
    }
    case 'fragment': {
      const bytes = new Uint8Array(FRAGMENT_HEADER_BYTES);
      const view = new DataView(bytes.buffer);
      view.setUint16(2, (header.offset & 0xfff8) | (header.more ? 1 : 0));
      view.setUint32(4, header.id);
      return bytes;
    }
    case 'authentication': {
      const bytes = new Uint8Array((12 + header.icv.length + 7) & ~7);
      const view = new DataView(bytes.buffer);
      bytes[1] = bytes.length / 4 - 2;
      view.setUint32(4, header.spi);
      view.setUint32(8, header.sequence);
      bytes.set(header.icv, 12);
      return bytes;
    }
    case 'other': {
      const bytes = new Uint8Array((2 + header.body.length + 7) & ~7);
      bytes[1] = bytes.length / 8 - 1;
      bytes.set(header.body, 2);
      return bytes;
    }
  }
}

/** Options padded to a multiple of 8 bytes: one zero byte is Pad1, more are PadN. */
function buildOptions(options: Uint8Array): Uint8Array {
  const used = 2 + options.length;
  const bytes = new Uint8Array((used + 7) & ~7);
  bytes[1] = bytes.length / 8 - 1;
  bytes.set(options, 2);
  const padding = bytes.length - used;
  if (padding >= 2) {
    bytes[used] = 1;
    bytes[used + 1] = padding - 2;
  }
  return bytes;
}
