/**
 * Graceful removal: what a node's virtual servers are after a change, while connections of before still run.
 *
 *  1. A real server of TCP that is gone gets weight 0: it keeps its connections and gets no new ones. It goes once it has
 *     no connection left (kubernetes#57841, #99162); kube-proxy looks every minute, here every change of image does.
 *  2. Of UDP and SCTP it goes at once; its connections end with their next packet (expire_nodest_conn; kubernetes#84322).
 *  3. What stays keeps its place in the list, what comes is added behind it; what drained and comes back is added anew.
 *  4. A virtual server that is gone takes its connections with it.
 *
 * Source: kubernetes pkg/proxy/ipvs/{graceful_termination.go,proxier.go}, util/ipvs.go (IsRsGracefulTerminationNeeded).
 */

import { type IpvsRuleset, type RealServer, type VirtualServer, virtualKey } from './ipvs-ruleset.ts';

/** What ran on a node before. */
export interface DrainingNode {
  readonly ruleset: IpvsRuleset;
  /** True if a real server (position in its virtual server) has no connection. */
  isIdle(server: VirtualServer, real: number): boolean;
}

/** The ruleset that follows another on a node. */
export function drainRemoved(next: IpvsRuleset, before: DrainingNode): IpvsRuleset {
  const known = new Map(before.ruleset.virtualServers.map((server) => [virtualKey(server.virtual), server]));
  let changed = false;
  const virtualServers = next.virtualServers.map((server) => {
    const old = known.get(virtualKey(server.virtual));
    if (old === undefined || old.realServers === server.realServers) return server;
    const realServers = follow(server, old, before);
    if (hasSameReals(realServers, server.realServers)) return server;
    changed = true;
    return { ...server, realServers };
  });
  return changed ? { ...next, virtualServers } : next;
}

function follow(server: VirtualServer, old: VirtualServer, before: DrainingNode): RealServer[] {
  const { virtual } = server;
  const drains = virtual.kind === 'address' && virtual.protocol === 'TCP';
  const wanted = new Map(server.realServers.map((real) => [real.text, real]));
  const kept: RealServer[] = [];
  old.realServers.forEach((real, i) => {
    const stays = wanted.get(real.text);
    if (stays !== undefined && real.weight > 0) {
      wanted.delete(real.text);
      kept.push(stays);
    } else if (stays === undefined && drains && !before.isIdle(old, i)) kept.push({ ...real, weight: 0 });
  });
  return [...kept, ...wanted.values()];
}

function hasSameReals(a: readonly RealServer[], b: readonly RealServer[]): boolean {
  return a.length === b.length && a.every((real, i) => real === b[i]);
}
