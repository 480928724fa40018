/**
 * Collects the problems of one object's fields, with the checks that several kinds share: addresses, prefixes, names of
 * ports. Each check reports in the same words wherever it is used.
 */

import { type Address, type Family, type Prefix, parseAddress, parsePrefix } from '../model/address.ts';
import type { FieldProblem } from './shape.ts';
import { show } from './shape.ts';

/** Decimal parts with a leading zero, which other tools take for octal; groups of IPv6 may have them. */
const LEADING_ZERO = /(^|[.:])0\d+\.|[./]0\d/;

export class FieldReport {
  readonly problems: FieldProblem[] = [];

  error(field: string, message: string): void {
    this.problems.push({ severity: 'error', field, message });
  }

  warn(field: string, message: string): void {
    this.problems.push({ severity: 'warning', field, message });
  }

  /** Reads an address; reports and answers null where it is none. */
  address(field: string, text: string, family?: Family): Address | null {
    const address = parseAddress(text);
    if (address === null) {
      this.error(field, `${show(text)} is not an address`);
      return null;
    }
    if (family !== undefined && address.family !== family) {
      this.error(field, `${show(text)} is not an IPv${family} address`);
      return null;
    }
    this.#noteSpelling(field, text, address.text);
    return address;
  }

  /** Reads a prefix; reports and answers null where it is none. Host bits are odd, not wrong. */
  prefix(field: string, text: string): Prefix | null {
    const prefix = parsePrefix(text);
    if (prefix === null) {
      this.error(field, `${show(text)} is not a prefix (address/length)`);
      return null;
    }
    if (prefix.hostBits) this.warn(field, `${show(text)} has bits behind its length; it is read as ${prefix.text}`);
    else this.#noteSpelling(field, text, prefix.text);
    return prefix;
  }

  #noteSpelling(field: string, text: string, canonical: string): void {
    if (LEADING_ZERO.test(text)) this.warn(field, `${show(text)} has leading zeros; it is read as ${canonical}`);
  }
}

/** Names of ports: at most 15 lower-case letters, digits and single '-' inside, with at least one letter. */
export function isPortName(name: string): boolean {
  return name.length <= 15 && /^[a-z0-9]+(-[a-z0-9]+)*$/.test(name) && /[a-z]/.test(name);
}

export function isPortNumber(port: number): boolean {
  return Number.isInteger(port) && port >= 1 && port <= 65_535;
}
