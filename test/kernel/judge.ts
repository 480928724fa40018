/**
 * One case before the judge: the same packets through the kernel and through flatpath, and every difference.
 *
 * A case runs in phases, one step of every flow in each. In a phase all packets enter the kernel first; then flatpath
 * gets the same packets in the same order. A later packet of a flow is made of what its sender really saw: replies to
 * the kernel's packets go to the kernel, replies to flatpath's to flatpath.
 */

import type { Image } from '../../control/src/compile/image.ts';
import { tellStory } from '../../control/src/explain/story.ts';
import type { Captured } from './capture-stream.ts';
import { type Flow, type KernelCase, type Place, placeName, type Step } from './case.ts';
import { isSamePacket, type PortPair, portRange, withQuotedSum } from './compare.ts';
import type { Coverage } from './coverage.ts';
import { FlatpathNode, type Outcome } from './flatpath-node.ts';
import { Conversation, findMark, icmpError, markBytes, reverse } from './forge.ts';
import { modelOf } from './model.ts';
import { NodeNamespace, type Port, sysctls } from './node-namespace.ts';
import { completeChecksum, hex, isNeighbourTalk, reassemble, TCP, viewPacket } from './packet-view.ts';
import { routesLoopback, rulesetOf } from './ruleset.ts';

export interface Difference {
  readonly flow: number;
  readonly phase: number;
  /** What went in, what the kernel made of it, what flatpath made of it. */
  readonly text: string;
}

export interface Judgement {
  /** Packets that went in and were compared. */
  readonly packets: number;
  readonly differences: readonly Difference[];
}

/** A packet that came out of the kernel. */
interface Actual {
  readonly place: string;
  readonly packet: Uint8Array;
}

/** Where a flow stands: what its ends have seen last, by each of the two. */
interface Standing {
  readonly flow: Flow;
  readonly conversation: Conversation;
  ports: PortPair | null;
  /** What reached the server, and where that is. */
  far: { place: Place; kernel: Uint8Array; flatpath: Uint8Array } | null;
  /** What reached the client. */
  near: { kernel: Uint8Array; flatpath: Uint8Array } | null;
  isDead: boolean;
}

/** A step's packet on its way into both. */
interface Send {
  readonly standing: Standing;
  readonly step: Step;
  readonly from: Place;
  /** One packet, or its fragments. */
  readonly kernel: readonly Uint8Array[];
  readonly flatpath: readonly Uint8Array[];
}

const PHASE_MS = 100;
/** More than the flows of a case make. */
const CONNECTIONS = 512;
/** Marks of the last packets of a phase. */
const SENTINEL = 0xffff_0000;
const SENTINEL_TARGET = '10.244.2.254';
const SENTINEL_SOURCE = '192.0.2.253';
/** A router between the node and the outside, and one between it and its neighbours. */
const ROUTERS = { 4: '203.0.113.254', 6: '2001:db8:113::fe' } as const;

/** Judges a case. @param folder for captures to replay */
export async function judge(one: KernelCase, folder: string, coverage: Coverage): Promise<Judgement> {
  const { mode, world, tcpBeLiberal } = one;
  const model = modelOf(one);
  const node = new FlatpathNode(model, mode, CONNECTIONS);
  coverage.expect(node.image);
  const settings = sysctls(routesLoopback(mode, model), tcpBeLiberal);
  const space = await NodeNamespace.make(world, folder, settings, rulesetOf(mode, model));
  try {
    return await new Trial(one, node, space, coverage).run();
  } finally {
    await space.remove();
  }
}

class Trial {
  private readonly one: KernelCase;
  private readonly node: FlatpathNode;
  private readonly space: NodeNamespace;
  private readonly coverage: Coverage;
  private readonly standings: readonly Standing[];
  private readonly differences: Difference[] = [];
  private readonly portsByIndex: ReadonlyMap<number, Port>;
  /** Flows of local TCP connects by the sequence number that the kernel chose. */
  private readonly sequences = new Map<number, number>();
  private packets = 0;

  constructor(one: KernelCase, node: FlatpathNode, space: NodeNamespace, coverage: Coverage) {
    this.one = one;
    this.node = node;
    this.space = space;
    this.coverage = coverage;
    this.portsByIndex = new Map(space.ports.map((port) => [port.farIndex, port]));
    this.standings = one.flows.map((flow) => ({
      flow,
      conversation: new Conversation(flow),
      ports: null,
      far: null,
      near: null,
      isDead: false,
    }));
  }

  async run(): Promise<Judgement> {
    const phases = Math.max(0, ...this.one.flows.map(({ steps }) => steps.length));
    for (let phase = 0; phase < phases; phase++) await this.runPhase(phase);
    return { packets: this.packets, differences: this.differences };
  }

  private async runPhase(phase: number): Promise<void> {
    const { wireCapture, inputCapture, outputCapture } = this.space;
    const wireFrom = wireCapture.packets.length;
    const inputFrom = inputCapture.packets.length;
    const outputFrom = outputCapture.packets.length;
    const going = this.standings.filter(({ flow, isDead }) => !isDead && flow.steps[phase] !== undefined);

    const sends = going.flatMap((standing) => this.wireSend(standing, standing.flow.steps[phase]!) ?? []);
    await this.space.replay([
      ...sends.flatMap(({ from, kernel }) => kernel.map((packet) => this.space.frameFor(from, packet))),
      ...this.sentinels(phase),
    ]);
    const ordered: { standing: Standing; step: Step; key: string }[] = [];
    for (const standing of going) {
      const step = standing.flow.steps[phase]!;
      const key = await this.sendLocally(standing, step);
      if (key !== null) ordered.push({ standing, step, key });
    }
    await this.sendLast(phase, wireFrom, inputFrom, outputFrom);
    await this.space.sendLocally({ protocol: 'end' });

    const started = outputCapture.packets.slice(outputFrom).map(({ packet }) => packet);
    for (const { standing, step, key } of ordered) {
      const found = started.find((packet) => keyOf(packet) === key);
      if (found !== undefined) sends.push(this.localSend(standing, step, found));
    }
    const actual = this.sortOut(phase, wireFrom, inputFrom);
    for (const send of sends) this.compare(send, phase, actual.get(send.standing.flow.id) ?? []);
    for (const { flow } of going) actual.delete(flow.id);
    for (const [id, packets] of actual) {
      this.differ(id, phase, `nothing went in, and the kernel sent\n${packets.map(describe).join('\n')}`);
    }
  }

  // ---- in ---------------------------------------------------------------------------------------------------------

  /** The step's packet, where it comes from outside the node; null where it does not or cannot be made. */
  private wireSend(standing: Standing, step: Step): Send | null {
    const { flow, far, near, conversation } = standing;
    if (step.kind === 'error') {
      const seen = step.from === 'client' ? near : far;
      const from = step.from === 'client' ? flow.from : far?.place;
      if (seen === null || from === undefined || from.kind === 'host') return null;
      const error = (about: Uint8Array) =>
        icmpError(step.error, about, step.from === 'router' ? ROUTERS[flow.family] : reverse(about).source);
      return { standing, step, from, kernel: [error(seen.kernel)], flatpath: [error(seen.flatpath)] };
    }
    if (step.from === 'client') {
      if (flow.from.kind === 'host') return null;
      const packets = conversation.packets(step, flow);
      conversation.advance(step);
      return { standing, step, from: flow.from, kernel: packets, flatpath: packets };
    }
    if (far === null || far.place.kind === 'host') return null;
    const kernel = conversation.packets(step, reverse(far.kernel));
    const flatpath = conversation.packets(step, reverse(far.flatpath));
    conversation.advance(step);
    return { standing, step, from: far.place, kernel, flatpath };
  }

  /** Has the node's own process send, where the step is its; answers the tuple by which its packet is known. */
  private async sendLocally(standing: Standing, step: Step): Promise<string | null> {
    const { flow, far } = standing;
    if (step.kind === 'error' || (flow.protocol !== 'udp' && flow.protocol !== 'tcp')) return null;
    const isServer = step.from === 'server';
    if (isServer ? far?.place.kind !== 'host' || flow.protocol !== 'udp' : flow.from.kind !== 'host') return null;
    if (flow.protocol === 'tcp' && step.form !== 'syn') return null;
    const { source, sport, destination, dport } = isServer ? reverse(far!.kernel) : flow;
    const { protocol } = flow;
    const payload = hex(markBytes(flow.id));
    await this.space.sendLocally({ protocol, source, sport, destination, dport, payload });
    return `${protocol} ${sport} ${dport} ${keyAddress(source)} ${keyAddress(destination)}`;
  }

  /** The packet that a local process really sent. */
  private localSend(standing: Standing, step: Step, packet: Uint8Array): Send {
    const { flow, conversation, far } = standing;
    const kernel = completeChecksum(packet);
    if (flow.protocol === 'tcp') {
      const sequence = new DataView(kernel.buffer, kernel.byteOffset).getUint32(viewPacket(kernel)!.l4 + 4);
      this.sequences.set(sequence, flow.id);
      conversation.noteSyn(sequence);
    }
    // The client's port as flatpath's server sees it.
    const isServer = step.from === 'server' && far !== null;
    const flatpath = isServer ? withDestinationPort(kernel, reverse(far.flatpath).dport) : kernel;
    return { standing, step, from: { kind: 'host' }, kernel: [kernel], flatpath: [flatpath] };
  }

  /** Has the process send last, through the node and to it, and waits until both have come out. */
  private async sendLast(phase: number, wireFrom: number, inputFrom: number, outputFrom: number): Promise<void> {
    const mark = SENTINEL + phase;
    const source = this.ownAddress();
    const payload = hex(markBytes(mark));
    for (const destination of [SENTINEL_TARGET, source]) {
      await this.space.sendLocally({ protocol: 'udp', source, sport: 9, destination, dport: 9, payload });
    }
    const { wireCapture, inputCapture, outputCapture } = this.space;
    const isLast = ({ packet }: Captured) => findMark(packet) === mark && viewPacket(packet)!.source === source;
    const isLastToNode = (captured: Captured) =>
      isLast(captured) && viewPacket(captured.packet)!.destination === source;
    await Promise.all([
      wireCapture.see(wireFrom, isLast),
      inputCapture.see(inputFrom, isLastToNode),
      outputCapture.see(outputFrom, isLastToNode),
    ]);
  }

  private ownAddress(): string {
    return this.one.world.nodes[0]!.addresses.find((address) => address.includes('.'))!;
  }

  /** The last packets that are replayed in a phase: one through the node, one to it. */
  private sentinels(phase: number): Uint8Array[] {
    return [SENTINEL_TARGET, this.ownAddress()].map((destination) => {
      const flow: Flow = { ...SENTINEL_FLOW, id: SENTINEL + phase, destination };
      return this.space.frameFor(flow.from, datagramOf(flow));
    });
  }

  // ---- out --------------------------------------------------------------------------------------------------------

  /** What the kernel sent in this phase, by the flow whose mark it carries. */
  private sortOut(phase: number, wireFrom: number, inputFrom: number): Map<number, Actual[]> {
    const sorted = new Map<number, Actual[]>();
    const take = (place: string, packet: Uint8Array) => {
      if (isNeighbourTalk(packet)) return;
      const mark = this.markOf(packet);
      if (mark === SENTINEL + phase) return;
      if (mark === -1) {
        this.differ(-1, phase, `a packet of nobody came out\n${describe({ place, packet })}`);
        return;
      }
      const of = sorted.get(mark) ?? [];
      of.push({ place, packet: completeChecksum(packet) });
      sorted.set(mark, of);
    };
    for (const { interfaceIndex, packet } of this.space.wireCapture.packets.slice(wireFrom)) {
      const port = this.portsByIndex.get(interfaceIndex);
      if (port !== undefined) take(placeName(port.place), packet);
    }
    for (const { packet } of this.space.inputCapture.packets.slice(inputFrom)) take('host', packet);
    return sorted;
  }

  private markOf(packet: Uint8Array): number {
    const mark = findMark(packet);
    if (mark !== -1) return mark;
    const outer = viewPacket(packet);
    const view = outer !== null && outer.quote >= 0 ? viewPacket(packet, outer.quote) : outer;
    if (view === null || view.protocol !== TCP) return -1;
    const sequence = new DataView(packet.buffer, packet.byteOffset).getUint32(view.l4 + 4);
    return this.sequences.get(sequence) ?? -1;
  }

  private compare(send: Send, phase: number, actual: readonly Actual[]): void {
    const { standing, step } = send;
    this.packets++;
    let agreed: Agreement | null = null;
    const agrees = (outcome: Outcome) => {
      agreed = agree(this.node.image, send, outcome, actual);
      return agreed !== null;
    };
    const outcome = this.node.send(send.flatpath, send.from, (phase + 1) * PHASE_MS, agrees);
    agrees(outcome);
    this.coverage.note(standing.flow, step, this.node.image, outcome);
    // The checker does not see what the callback wrote.
    const found = agreed as Agreement | null;
    if (found === null) {
      standing.isDead = true;
      this.differ(standing.flow.id, phase, describeDifference(send, outcome, actual));
      return;
    }
    if (found.ports !== null) standing.ports = found.ports;
    if (found.main === null || step.kind === 'error') return;
    const { place, kernel, flatpath } = found.main;
    if (step.from === 'server') standing.near = { kernel, flatpath };
    else standing.far = { place: this.placeOf(place), kernel, flatpath };
  }

  private placeOf(name: string): Place {
    if (name === 'host') return { kind: 'host' };
    return this.space.ports.find((port) => placeName(port.place) === name)!.place;
  }

  private differ(flow: number, phase: number, text: string): void {
    this.differences.push({ flow, phase, text });
  }
}

interface Agreement {
  /** Set where chance gave the flow a port. */
  readonly ports: PortPair | null;
  /** The packet itself, as against answers of the node. */
  readonly main: { place: string; kernel: Uint8Array; flatpath: Uint8Array } | null;
}

/** Whether what came out is the same, each packet matched with one; null if not. */
function agree(image: Image, send: Send, outcome: Outcome, actual: readonly Actual[]): Agreement | null {
  const left = joinWhereWhole(actual);
  const expected = joinWhereWhole(outcome.outgoing);
  if (left.length !== expected.length) return null;
  let { ports } = send.standing;
  const pairs: { place: string; kernel: Uint8Array; flatpath: Uint8Array }[] = [];
  for (const { place, packet: flatpath, isAnswer } of expected) {
    const at = left.findIndex((one) => {
      if (one.place !== place) return false;
      if (isAnswer && send.from.kind === 'host') {
        return isSamePacket(withQuotedSum(one.packet, flatpath), flatpath, ports, isAnswer);
      }
      if (isSamePacket(one.packet, flatpath, ports, isAnswer)) return true;
      const drawn = outcome.beginsFlow ? drawnPorts(image, send, outcome, one.packet, flatpath) : null;
      if (drawn === null || !isSamePacket(one.packet, flatpath, drawn, isAnswer)) return false;
      ports = drawn;
      return true;
    });
    if (at === -1) return null;
    const [found] = left.splice(at, 1);
    if (!isAnswer) pairs.push({ place, kernel: found!.packet, flatpath });
  }
  if (pairs.length === 0) return { ports, main: null };
  const [kernel] = reassemble(pairs.map((pair) => pair.kernel));
  const [flatpath] = reassemble(pairs.map((pair) => pair.flatpath));
  return { ports, main: { place: pairs[0]!.place, kernel: kernel!, flatpath: flatpath! } };
}

/**
 * Fragments are compared piece by piece where both show pieces: not on the node itself, which logs the datagram, nor on
 * the way to another node, where flatpath keeps it whole.
 */
function joinWhereWhole<T extends Actual>(all: readonly T[]): T[] {
  return ['host', 'peer'].reduce<T[]>(
    (joined, place) => {
      const at = joined.filter((one) => one.place === place);
      const whole = reassemble(at.map(({ packet }) => packet));
      if (whole.length === at.length) return joined;
      const others = joined.filter((one) => one.place !== place);
      return [...others, ...whole.map((packet) => ({ ...at[0]!, packet }))];
    },
    [...all],
  );
}

/** The source ports that the two gave a new flow, if flatpath drew one and the kernel's is one it may draw. */
function drawnPorts(
  image: Image,
  send: Send,
  outcome: Outcome,
  kernel: Uint8Array,
  flatpath: Uint8Array,
): PortPair | null {
  const before = viewPacket(reassemble(send.flatpath)[0]!);
  const [own, model] = [viewPacket(kernel), viewPacket(flatpath)];
  if (before === null || own === null || model === null || send.step.kind === 'error') return null;
  const isChanged = model.source !== before.source || model.sport !== before.sport;
  if (!isChanged && !isMasqueraded(image, outcome)) return null;
  const [first, last] = portRange(before.protocol, before.sport);
  if (own.sport < first || own.sport > last || model.sport < first || model.sport > last) return null;
  return { kernel: own.sport, flatpath: model.sport };
}

/** What a local process sends may be masqueraded and draw the very port that it has. */
function isMasqueraded(image: Image, { events }: Outcome): boolean {
  const steps = tellStory(image, events).hops.flatMap((hop) => hop.steps);
  return steps.some((met) => met.step === 'rule' && /masquerade/i.test(met.rule));
}

function datagramOf(flow: Flow): Uint8Array {
  return new Conversation(flow).packets({ kind: 'packet', from: 'client', form: 'datagram' }, flow)[0]!;
}

const SENTINEL_FLOW: Flow = {
  id: SENTINEL,
  features: [],
  family: 4,
  protocol: 'udp',
  from: { kind: 'outside' },
  source: SENTINEL_SOURCE,
  destination: SENTINEL_TARGET,
  sport: 9,
  dport: 9,
  ttl: 64,
  tos: 0,
  label: 0,
  dress: 'plain',
  steps: [],
};

function keyOf(packet: Uint8Array): string {
  const view = viewPacket(packet);
  if (view === null) return '';
  const protocol = view.protocol === TCP ? 'tcp' : view.protocol === 17 ? 'udp' : '';
  return `${protocol} ${view.sport} ${view.dport} ${view.source} ${view.destination}`;
}

/** An address as `viewPacket` writes it. */
function keyAddress(text: string): string {
  const flow = { ...SENTINEL_FLOW, source: text, destination: text };
  return viewPacket(datagramOf(flow))!.source;
}

/** The packet with another destination port and its checksum moved along. */
function withDestinationPort(packet: Uint8Array, port: number): Uint8Array {
  const view = viewPacket(packet)!;
  const aligned = packet.slice();
  const sum = view.l4 + 6;
  const word = (at: number) => (aligned[at]! << 8) | aligned[at + 1]!;
  const before = word(view.l4 + 2);
  aligned[view.l4 + 2] = port >>> 8;
  aligned[view.l4 + 3] = port & 255;
  let total = (~word(sum) & 0xffff) + (~before & 0xffff) + port;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  aligned[sum] = (~total & 0xffff) >>> 8;
  aligned[sum + 1] = ~total & 255;
  return aligned;
}

// ---- words --------------------------------------------------------------------------------------------------------

function describe({ place, packet }: { place: string; packet: Uint8Array }): string {
  const view = viewPacket(packet);
  if (view === null) return `  ${place}: ${hex(packet)}`;
  const inner = view.quote >= 0 ? viewPacket(packet, view.quote) : null;
  const tuple = (of: typeof view) => `${of.source} ${of.sport} > ${of.destination} ${of.dport} protocol ${of.protocol}`;
  const quoted = inner === null ? '' : ` [type ${packet[view.l4]} code ${packet[view.l4 + 1]} about ${tuple(inner)}]`;
  return `  ${place}: ${tuple(view)}${quoted} ${hex(packet)}`;
}

function describeDifference(send: Send, outcome: Outcome, actual: readonly Actual[]): string {
  const { standing, step } = send;
  const { flow } = standing;
  const lines = [
    `flow ${flow.id} (${flow.features.join(', ')}), ${step.kind === 'packet' ? step.form : step.error} of the ${step.from}`,
    'in (kernel)',
    ...send.kernel.map((packet) => describe({ place: placeName(send.from), packet })),
    'in (flatpath)',
    ...send.flatpath.map((packet) => describe({ place: placeName(send.from), packet })),
    `kernel:${actual.length === 0 ? ' nothing' : ''}`,
    ...actual.map(describe),
    `flatpath: ${outcome.outgoing.length === 0 ? `nothing, ${outcome.reason}` : ''}`,
    ...outcome.outgoing.map(describe),
  ];
  return lines.join('\n');
}
