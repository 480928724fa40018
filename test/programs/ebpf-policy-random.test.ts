/**
 * Random policies and packets in the ebpf mode: every end with every other, as frames over the nodes between them, against the
 * naive judge of both directions and the rules of who is judged at all.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileImage } from '../../control/src/compile/image.ts';
import type { Address } from '../../control/src/model/address.ts';
import type { PolicyModel } from '../../control/src/policy/policy-model.ts';
import { ctClear } from '../../engine/src/tables/conntrack.ts';
import { ADDRESSES, judgeNaively, makeModel, PORTS, randomPolicies } from '../compile/policy-models.ts';
import { seeded } from '../compile/random-cluster.ts';
import { makeWorld, type Packet, reply, send, type World } from './ebpf-fixture.ts';

const MODEL = makeModel();
const NODES = MODEL.topology.nodes.map(({ metadata }) => metadata.name);
const PLAIN = makeWorld([], { flows: 4096 });
const { topology } = MODEL;

function worldOf(policies: PolicyModel): World {
  const image = compileImage({ ...MODEL, policies }, 'ebpf', NODES);
  const { compiledNodes, ebpf } = image;
  const dp = { ...PLAIN.dp, topology: topology.tables, compiledNodes, ebpf };
  ctClear(dp.conntrack4);
  ctClear(dp.conntrack6);
  const pods = new Map(topology.endpoints.map(({ pod }, i) => [pod.metadata.name, i]));
  return { ...PLAIN, image, dp, pods };
}

const ownerOf = ({ text }: Address) => ({
  pod: topology.endpointByAddress.get(text) ?? null,
  node: topology.nodeByAddress.get(text) ?? null,
});

/** What the rules say of a packet between two ends: the direction that refuses it, null where it passes. */
function refusal(
  policies: PolicyModel,
  from: Address,
  to: Address,
  protocol: 'TCP' | 'UDP',
  port: number,
): string | null {
  const [source, target] = [ownerOf(from), ownerOf(to)];
  const { profile } = policies;
  if (source.pod !== null && source.pod === target.pod) return null;
  if (source.pod !== null) {
    const order = policies.egress[source.pod]!;
    const isOwnNode = target.node === topology.endpoints[source.pod]!.node;
    const isExempt = isOwnNode && profile.ownNodeEgress === 'always';
    if (order !== null && !isExempt) {
      if (!judgeNaively(MODEL, order, profile, source.pod, to, protocol, port).allowed) return 'egress';
    }
  }
  if (target.pod !== null) {
    const order = policies.ingress[target.pod]!;
    if (order !== null && source.node !== topology.endpoints[target.pod]!.node) {
      if (!judgeNaively(MODEL, order, profile, target.pod, from, protocol, port).allowed) return 'ingress';
    }
  }
  return null;
}

function packetOf(from: Address, to: Address, protocol: 'TCP' | 'UDP', dport: number, sport: number): Packet {
  const { pod, node } = ownerOf(from);
  const target = ownerOf(to);
  const base = { src: from.text, dst: to.text, sport, dport, protocol: protocol === 'TCP' ? 'tcp' : 'udp' } as const;
  if (pod !== null) return { ...base, from: topology.endpoints[pod]!.pod.metadata.name };
  if (node !== null) return { ...base, from: 'host', node };
  // From outside a frame comes to the node that owns its target.
  const entry = target.pod === null ? (target.node ?? 0) : topology.endpoints[target.pod]!.node;
  return { ...base, from: 'outside', node: entry };
}

/** Ends that a frame may come from: no address that the network refuses. */
const SOURCES = ADDRESSES.filter(({ text }) => text !== '0.0.0.0');

describe('random policies', () => {
  it('let through what both directions allow, and its replies, and nothing else', () => {
    const packet = fc.record({
      from: fc.constantFrom(...SOURCES),
      to: fc.constantFrom(...SOURCES),
      protocol: fc.constantFrom('TCP' as const, 'UDP' as const),
      port: fc.constantFrom(...PORTS.filter((port) => port > 0)),
    });
    fc.assert(
      fc.property(
        randomPolicies,
        fc.array(packet, { minLength: 20, maxLength: 60, size: 'max' }),
        (policies, packets) => {
          const world = worldOf(policies);
          packets.forEach(({ from, to, protocol, port }, i) => {
            const [source, target] = [ownerOf(from), ownerOf(to)];
            if (from.family !== to.family || from.text === to.text) return;
            // What comes from outside for the outside is only routed; a host’s own addresses stay on the host.
            if (source.pod === null && source.node !== null && source.node === target.node) return;
            const wanted = refusal(policies, from, to, protocol, port);
            const sent = packetOf(from, to, protocol, port, 10_000 + i);
            const out = send(world, sent);
            const text = `${from.text} -> ${to.text} ${protocol} ${port}`;
            const answer = out.reason === 'policy-denied' ? 'denied' : `${out.verdict} ${out.reason}`;
            if (wanted !== null) {
              expect(`${text}: ${answer}`).toBe(`${text}: denied`);
              const away = wanted === 'egress' ? source.pod : target.pod;
              expect(out.node).toBe(topology.endpoints[away!]!.node);
              return;
            }
            expect(`${text}: ${answer}`).not.toContain('denied');
            if (target.pod !== null) expect(out.pod).toBe(topology.endpoints[target.pod]!.pod.metadata.name);
            // Its answer passes whatever the policies say, and so does the next frame.
            if (target.pod !== null) expect(reply(world, out, { protocol: sent.protocol }).reason).toBe('none');
            if (target.pod !== null) expect(send(world, { ...sent, flags: 0x10 }).reason).toBe('none');
          });
        },
      ),
      seeded(200),
    );
  });
});
