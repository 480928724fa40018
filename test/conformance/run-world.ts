/** A world through flatpath and through an oracle, side by side. */

import { loadCluster } from '../../control/src/cluster/load.ts';
import { type ClusterModel, modelCluster } from '../../control/src/compile/image.ts';
import { type DatapathInput, type Mode, resolveDatapath } from '../../control/src/model/datapath.ts';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { runProbe } from '../../control/src/probe/suite.ts';
import { predictCilium } from './cilium-oracle.ts';
import { predictIpvs } from './ipvs-oracle.ts';
import { predictKubeProxy } from './kube-proxy-oracle.ts';
import { predictNftables } from './nftables-oracle.ts';
import {
  type Answer,
  endText,
  isInside,
  isLoopback,
  nodeAddress,
  nodeOwning,
  type Outcome,
  type Packet,
  summarize,
} from './oracle.ts';
import { datapathOf, familyOf, objectsOf, type World, type WorldProtocol } from './world.ts';

/** A probe of a world, by addresses alone. */
export interface Question {
  readonly from: string;
  /** Where a packet from outside enters, or a loopback address is. */
  readonly node: string;
  readonly to: string;
  readonly port: number;
  readonly protocol: WorldProtocol;
}

export function modelOf(world: World, addresses: readonly string[] = []): ClusterModel {
  const { cluster } = loadCluster([], {
    objects: objectsOf(world),
    reserved: addresses,
    clusterCIDR: [...world.options.clusterCIDR],
  });
  return modelCluster(cluster, resolveDatapath(datapathOf(world) as DatapathInput));
}

/** flatpath's answer to a question; an error as it is. */
export function ask(simulator: Simulator, question: Question): Answer | string {
  const { actual, error } = runProbe(simulator, {
    from: question.from,
    to: endText(question.to, question.port),
    protocol: question.protocol,
    node: question.node,
  });
  if (error !== null) return error;
  const { verdict, translated, backends, masquerade } = actual;
  return { verdict, translated, backends, masquerade };
}

const ORACLES: Readonly<Record<Mode, (world: World, packet: Packet) => Outcome[]>> = {
  iptables: predictKubeProxy,
  nftables: predictNftables,
  ipvs: predictIpvs,
  ebpf: predictCilium,
};

/** An oracle's answer: who the sender is (DESIGN §7, `from`), then the packet. */
export function predict(world: World, mode: Mode, question: Question): Answer {
  const packet = packetOf(world, question);
  return summarize(ORACLES[mode](world, packet));
}

function packetOf(world: World, { from, node, to, port, protocol }: Question): Packet {
  const rest = { destination: to, port, protocol };
  const family = familyOf(to);
  if (isLoopback(from)) {
    return { ...rest, node, entry: 'host', source: isLoopback(to) ? from : nodeAddress(world, node, family) };
  }
  const owner = nodeOwning(world, from);
  if (owner !== null) {
    const source = isLoopback(to) ? (family === 4 ? '127.0.0.1' : '::1') : from;
    return { ...rest, node: owner, entry: 'host', source };
  }
  const pod = world.pods.find(({ addresses }) => addresses.includes(from));
  if (pod !== undefined) return { ...rest, node: pod.node, entry: 'pod', source: from };
  const isPod =
    world.options.detectLocalMode !== 'None' && world.options.clusterCIDR.some((prefix) => isInside(from, prefix));
  return { ...rest, node, entry: isPod ? 'pod' : 'uplink', source: from };
}

/** Every question that flatpath and the oracle answer differently, as text. */
export function disagreements(world: World, mode: Mode, questions: readonly Question[]): string[] {
  const simulator = new Simulator(
    modelOf(
      world,
      questions.flatMap(({ from, to }) => [from, to]),
    ),
    mode,
  );
  const found: string[] = [];
  for (const question of questions) {
    const wanted = JSON.stringify(predict(world, mode, question));
    const got = JSON.stringify(ask(simulator, question));
    if (wanted !== got) found.push(`${mode}: ${JSON.stringify(question)}\n  expected ${wanted}\n  got      ${got}`);
  }
  return found;
}
