/**
 * Who may speak to the API (FACTS §3): a browser on this machine must not become somebody else's hand.
 *
 *  1. The Host header must name the server by an allowed name and its own port: a name that was rebound is refused (403).
 *  2. A request that changes something, and comes from a page, must come from a page of the server's own (Origin, 403).
 *  3. With a token every request but /healthz must carry it (401). Without one the server listens on loopback only.
 *  4. What changes something is JSON, by its exact media type (415): a form of another page cannot send that.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { StatusError } from './status.ts';

export interface GuardOptions {
  /** Further names, with or without a port, under which the server may be addressed. */
  readonly allowedHosts: readonly string[];
  /** '' for none. */
  readonly token: string;
  /** The port that the server listens on, known once it does. */
  port(): number;
}

export type Guard = (request: FastifyRequest) => void;

const OWN_NAMES = ['127.0.0.1', 'localhost', '[::1]'];
const SAFE_METHODS = ['GET', 'HEAD', 'OPTIONS'];
const OPEN_PATHS = ['/healthz'];

/** @returns a check that throws a StatusError for a request that may not pass */
export function makeGuard(options: GuardOptions): Guard {
  const wanted = options.token === '' ? null : digest(options.token);
  return (request) => {
    const port = options.port();
    const hosts = allowedHosts(options.allowedHosts, port);
    const host = request.headers.host?.toLowerCase() ?? '';
    if (!hosts.has(host)) {
      throw new StatusError(403, `Host '${shorten(host)}' is not one of ${[...hosts].join(', ')} (--allow-host)`);
    }
    if (wanted !== null && !OPEN_PATHS.includes(request.url)) checkToken(request, wanted);
    if (!SAFE_METHODS.includes(request.method)) checkOrigin(request, hosts);
  };
}

/** True for an address or name that only this machine can reach. */
export function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '[::1]' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

function allowedHosts(further: readonly string[], port: number): Set<string> {
  const hosts = new Set<string>();
  for (const name of [...OWN_NAMES, ...further.map((text) => text.toLowerCase())]) {
    const hasPort = /:\d+$/.test(name) && (name.startsWith('[') ? name.includes(']:') : name.split(':').length === 2);
    if (hasPort) hosts.add(name);
    else {
      const host = name.includes(':') && !name.startsWith('[') ? `[${name}]` : name;
      hosts.add(`${host}:${port}`);
      if (port === 80) hosts.add(host);
    }
  }
  return hosts;
}

function checkOrigin(request: FastifyRequest, hosts: ReadonlySet<string>): void {
  const { origin } = request.headers;
  const site = request.headers['sec-fetch-site'];
  const isOwn = origin === undefined || hosts.has(origin.toLowerCase().replace(/^https?:\/\//, ''));
  if (isOwn && (site === undefined || site === 'same-origin' || site === 'none')) return;
  throw new StatusError(403, `a page of '${shorten(origin ?? 'another site')}' may not change anything here`);
}

function checkToken(request: FastifyRequest, wanted: Buffer): void {
  const match = /^Bearer ([^\s]+)$/i.exec(request.headers.authorization ?? '');
  // Digests have one length, so the time tells nothing of the token.
  if (match !== null && timingSafeEqual(digest(match[1]!), wanted)) return;
  throw new StatusError(401, 'this server wants the header Authorization: Bearer with its token');
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
