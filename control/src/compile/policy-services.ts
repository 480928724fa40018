/**
 * Packets to Services that policies leave to kube-proxy and IPVS: a Service's own refusal comes before any policy.
 *
 * In the iptables mode these are the places that kube-proxy's filter rules refuse on the node (no endpoints, policy Local
 * without a local one, source ranges), read from those rules. In the ipvs mode they are the virtual servers at the node's
 * own addresses: what comes to them, and to kube-ipvs0, at LOCAL_IN is refused there or judged behind its translation.
 */

import type { Address, Family } from '../model/address.ts';
import type { Node } from '../model/node.ts';
import type { Chain, Rule } from './iptables-rules.ts';
import type { ServiceRules } from './iptables-service.ts';
import type { IpvsRuleset } from './ipvs-ruleset.ts';
import { type NodePolicyMaker, type ServicePlace, withPolicies } from './policy-node.ts';
import { nodeAddresses } from './topology.ts';

/** The places that kube-proxy refuses on a node in one family; a nodePort counts at each of the node's addresses. */
export function refusedPlaces(node: Node, family: Family, services: readonly ServiceRules[]): ServicePlace[] {
  const own = nodeAddresses(node).filter((address) => address.family === family);
  return services.flatMap(({ filterServices, filterExternalServices, filterFirewall }) =>
    [...filterServices, ...filterExternalServices, ...filterFirewall].flatMap((rule) => placesOf(rule, own)),
  );
}

function placesOf({ destination, matches, sources }: Rule, own: readonly Address[]): ServicePlace[] {
  const match = matches.find(({ kind }) => kind === 'port');
  if (match?.kind !== 'port' || match.port === null) throw new Error('a refusal of kube-proxy names its port');
  const { protocol, port } = match;
  if (destination === null) return own.map((address) => ({ protocol, address, port, sources }));
  const { family, words, text } = destination.prefix;
  const address: Address = { family, words, text: text.slice(0, text.indexOf('/')) };
  return [{ protocol, address, port, sources }];
}

/** Virtual servers at the node's own addresses: those at others are found by their address. */
function virtualPlaces({ virtualServers, boundAddresses }: IpvsRuleset): ServicePlace[] {
  const bound = new Set(boundAddresses.map(({ text }) => text));
  return virtualServers.flatMap(({ virtual, sources }) =>
    virtual.kind === 'address' && !bound.has(virtual.address.text) ? [{ ...virtual, sources }] : [],
  );
}

/**
 * What kube-proxy has on a node in ipvs mode, with the policies' chains and sets.
 * @param extended base chains with the policies' jumps, which nodes share
 */
export function withPolicySets(
  ruleset: IpvsRuleset,
  node: number,
  policies: NodePolicyMaker | null,
  extended: Map<Chain, Chain>,
): IpvsRuleset {
  const own = policies?.onNode(ruleset.family, node, () => virtualPlaces(ruleset)) ?? null;
  if (own === null) return ruleset;
  return {
    ...ruleset,
    chains: withPolicies(ruleset.chains, own, extended),
    sets: [...ruleset.sets, ...own.sets],
  };
}
