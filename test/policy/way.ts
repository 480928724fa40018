/**
 * Which packets policies see, and what then becomes of a probe.
 *
 * The way of a packet is observed in the same cluster without policies (Services, masquerade and routing have oracles of
 * their own in test/conformance): at each node the source with which it came and the destination with which it went on. On
 * that way stands the specification's list: a Service's refusal first, egress of the sending pod on its node, ingress of the
 * pod at the end, and what is always allowed.
 */

import type { Branch, Simulator } from '../../control/src/probe/simulator.ts';
import { EVENT_ENTER, EVENT_TUPLE } from '../../engine/src/programs/record.ts';
import { formatAddress } from '../../engine/src/wire/address.ts';
import { ENTRY_HOST, ENTRY_POD } from '../../engine/src/wire/burst.ts';
import { PROTO_ICMP } from '../../engine/src/wire/icmp4.ts';
import { PROTO_ICMPV6 } from '../../engine/src/wire/icmp6.ts';
import type { End, Opinion, PolicyOracle } from './oracle.ts';

/** One node of a packet's way. */
export interface Stop {
  readonly node: string;
  readonly entry: 'pod' | 'local process' | 'uplink';
  /** As the packet came. */
  readonly source: string;
  /** As the node sent it on, after Services. */
  readonly destination: string;
  readonly port: number;
}

/** What a branch of a probe came to. */
export interface Outcome {
  readonly verdict: string;
  readonly reason: string;
  readonly backend: string | null;
  /** Of the pod that got it. */
  readonly pod: string | null;
}

/** What the two ends said; null where an end was not asked. */
export interface Prediction {
  readonly outcome: Outcome;
  readonly egress: Opinion | null;
  readonly ingress: Opinion | null;
}

export function outcomeOf(simulator: Simulator, branch: Branch): Outcome {
  const { verdict, reason, backend } = branch;
  const target = simulator.describeTarget(branch);
  return { verdict, reason, backend, pod: target?.startsWith('pod ') === true ? target.slice('pod '.length) : null };
}

/** The stops of a branch that was recorded without policies; none where no node saw the packet. */
export function stopsOf(simulator: Simulator, events: Int32Array): Stop[] {
  const stops: Stop[] = [];
  const { nodes } = simulator.model.topology;
  for (let at = 0; at < events.length; at += events[at]! >> 8) {
    const code = events[at]! & 0xff;
    const operands = events.subarray(at + 1);
    if (code === EVENT_ENTER) {
      const entry = operands[1] === ENTRY_POD ? 'pod' : operands[1] === ENTRY_HOST ? 'local process' : 'uplink';
      stops.push({ node: nodes[operands[0]!]!.metadata.name, entry, source: '', destination: '', port: 0 });
    }
    const last = stops.at(-1);
    if (code !== EVENT_TUPLE || last === undefined) continue;
    const address = (from: number): string => {
      const [w0, w1, w2, w3] = operands.subarray(from, from + 4);
      return formatAddress(operands[0]!, w0!, w1!, w2!, w3!);
    };
    stops[stops.length - 1] = {
      ...last,
      source: last.source === '' ? address(2) : last.source,
      destination: address(6),
      // Of an ICMP echo the lane holds its identifier.
      port: operands[1] === PROTO_ICMP || operands[1] === PROTO_ICMPV6 ? 0 : operands[11]!,
    };
  }
  return stops;
}

/**
 * What policies make of a branch.
 * @param simulator of the cluster without policies
 * @param branch of its probe, recorded
 */
export function predict(
  oracle: PolicyOracle,
  simulator: Simulator,
  protocol: End['protocol'],
  branch: Branch,
): Prediction {
  const outcome = outcomeOf(simulator, branch);
  const stops = stopsOf(simulator, branch.events);
  const first = stops[0];
  const last = stops.at(-1);
  const nobody = { outcome, egress: null, ingress: null };
  if (first === undefined || last === undefined) return nobody;
  const isRefused = outcome.verdict === 'dropped' || outcome.verdict === 'rejected';
  if (isRefused && stops.length === 1) return nobody;

  const egress = passesByPolicies(oracle, simulator, first, outcome) ? null : judgeEgress(oracle, first, protocol);
  if (egress?.allowed === false) {
    const isTranslated = first.destination !== branch.target.address.text || first.port !== branch.target.port;
    const backend = isTranslated ? endText(first.destination, first.port) : null;
    return { outcome: { ...DENIED, backend }, egress, ingress: null };
  }
  const ingress = outcome.pod === null ? null : judgeIngress(oracle, last, protocol);
  if (ingress?.allowed === false) return { outcome: { ...DENIED, backend: outcome.backend }, egress, ingress };
  return { outcome, egress, ingress };
}

/**
 * What no rule can judge (docs/modes.md): IPVS gives a frame to a real server that is the node itself behind filter INPUT,
 * and the nat table behind it may not drop.
 */
function passesByPolicies(oracle: PolicyOracle, simulator: Simulator, stop: Stop, { backend }: Outcome): boolean {
  return simulator.mode === 'ipvs' && backend !== null && oracle.nodeAt(stop.destination) === stop.node;
}

const DENIED = { verdict: 'dropped', reason: 'policy-denied', pod: null };

function judgeEgress(oracle: PolicyOracle, stop: Stop, protocol: End['protocol']): Opinion | null {
  const pod = stop.entry === 'pod' ? oracle.podAt(stop.source) : null;
  if (pod === null) return null;
  if (oracle.profile === 'kubernetes' && oracle.nodeAt(stop.destination) === pod.node) return null;
  if (oracle.profile !== 'calico' && pod.addresses.includes(stop.destination)) return null;
  return oracle.judge({ direction: 'egress', pod, peer: stop.destination, protocol, port: stop.port });
}

function judgeIngress(oracle: PolicyOracle, stop: Stop, protocol: End['protocol']): Opinion | null {
  const pod = oracle.podAt(stop.destination)!;
  if (stop.entry === 'local process') return null;
  if (oracle.profile !== 'calico' && pod.addresses.includes(stop.source)) return null;
  return oracle.judge({ direction: 'ingress', pod, peer: stop.source, protocol, port: stop.port });
}

function endText(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
