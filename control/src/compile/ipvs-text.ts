/**
 * Virtual servers as `ipvsadm-save -n` (1.31) prints them: what `ipvsadm-restore` reads. Sorted as ipvsadm sorts them, by
 * mark, family, protocol, address and port; real servers by address and port.
 */

import type { Address } from '../model/address.ts';
import { libraryText } from './iptables-text.ts';
import type { Forwarding, RealServer, VirtualAddress, VirtualServer } from './ipvs-ruleset.ts';
import { PROTOCOL_NUMBER } from './service-ports.ts';

const SERVICE_OPTION = { TCP: '-t', UDP: '-u', SCTP: '--sctp-service' } as const;
const FORWARDING_OPTION: Readonly<Record<Forwarding, string>> = { masquerade: '-m', route: '-g', tunnel: '-i' };
const SCHEDULER_FLAGS: Readonly<Record<string, readonly string[]>> = {
  sh: ['sh-fallback', 'sh-port', 'flag-3'],
  mh: ['mh-fallback', 'mh-port', 'flag-3'],
};
const OTHER_FLAGS = ['flag-1', 'flag-2', 'flag-3'];

/** The `-A` line of each virtual server with its `-a` lines. */
export function ipvsadmLines(servers: readonly VirtualServer[]): string[] {
  const lines: string[] = [];
  for (const server of servers.toSorted((a, b) => compareVirtual(a.virtual, b.virtual))) {
    const name = serviceText(server.virtual);
    lines.push(`-A ${name} -s ${server.scheduler}${optionsText(server)}`);
    for (const real of server.realServers.toSorted(compareReal)) {
      const forwarding = FORWARDING_OPTION[real.forwarding];
      lines.push(`-a ${name} -r ${endText(real.address, real.port)} ${forwarding} -w ${real.weight}`);
    }
  }
  return lines;
}

function serviceText(virtual: VirtualAddress): string {
  if (virtual.kind === 'fwmark') return `-f ${virtual.mark}${virtual.family === 6 ? ' -6' : ''}`;
  return `${SERVICE_OPTION[virtual.protocol]} ${endText(virtual.address, virtual.port)}`;
}

function optionsText(server: VirtualServer): string {
  let text = '';
  if (server.persistentSeconds > 0) text += ` -p ${server.persistentSeconds}${maskText(server)}`;
  const names = SCHEDULER_FLAGS[server.scheduler] ?? OTHER_FLAGS;
  const flags = names.filter((_, bit) => (server.schedulerFlags & (1 << bit)) !== 0);
  if (flags.length > 0) text += ` -b ${flags.join(',')}`;
  if (server.onePacket) text += ' -o';
  return text;
}

function maskText({ virtual, persistentPrefix }: VirtualServer): string {
  const family = virtual.kind === 'fwmark' ? virtual.family : virtual.address.family;
  if (family === 6) return persistentPrefix === 128 ? '' : ` -M ${persistentPrefix}`;
  if (persistentPrefix === 32) return '';
  const mask = persistentPrefix === 0 ? 0 : -1 << (32 - persistentPrefix);
  return ` -M ${libraryText({ family: 4, words: [mask, 0, 0, 0] })}`;
}

function endText(address: Address, port: number): string {
  return address.family === 4 ? `${libraryText(address)}:${port}` : `[${libraryText(address)}]:${port}`;
}

function compareVirtual(a: VirtualAddress, b: VirtualAddress): number {
  // Services by address come before those by mark, which is 0 for them.
  if (a.kind === 'fwmark' || b.kind === 'fwmark') {
    return (a.kind === 'fwmark' ? a.mark : 0) - (b.kind === 'fwmark' ? b.mark : 0);
  }
  return (
    a.address.family - b.address.family ||
    PROTOCOL_NUMBER[a.protocol] - PROTOCOL_NUMBER[b.protocol] ||
    compareEnds(a, b)
  );
}

function compareReal(a: RealServer, b: RealServer): number {
  return compareEnds(a, b);
}

function compareEnds(
  a: { readonly address: Address; readonly port: number },
  b: { readonly address: Address; readonly port: number },
): number {
  for (let word = 0; word < 4; word++) {
    const difference = (a.address.words[word]! >>> 0) - (b.address.words[word]! >>> 0);
    if (difference !== 0) return difference;
  }
  return a.port - b.port;
}
