/**
 * A node and its wire: two network namespaces, made anew for every case.
 *
 *     wire: t0 ══ t1 ─ bridge ─┬─ far ends ══ eth0   the node's network: other nodes and their pods        node
 *                              ├─          ══ wan0   default route: everything outside
 *                              ├─          ══ veth0… one a pod of this node; with BridgeInterface behind cni0
 *                              └─          ══ stray  what claims to be a pod and is none
 *
 * tcpreplay sends into t0; the wire's bridge knows by static entries which far end a frame is for, so that one capture
 * enters at all interfaces in one order. tcpdump listens on every far end. What the node delivers to itself is logged
 * and dropped at the very end of INPUT, behind conntrack's confirmation, so that no process answers by itself; what its
 * processes send is logged where OUTPUT begins. All neighbours are static and there are no link-local addresses: the
 * node says nothing of its own accord.
 */

import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  ETHERNET_BYTES,
  ETHERNET_DST,
  ETHERNET_SRC,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  setMac,
} from '../../engine/src/wire/ethernet.ts';
import { pcapWriter } from '../../engine/src/wire/pcap.ts';
import { familyOf, type World, type WorldPod } from '../conformance/world.ts';
import { type Captured, CaptureStream } from './capture-stream.ts';
import { JUDGED_NODE, type Place } from './case.ts';
import { isNeighbourTalk } from './packet-view.ts';
import { firstProcessor } from './tools.ts';

const run = promisify(execFile);

/** One of the node's interfaces with its far end. */
export interface Port {
  readonly name: string;
  readonly place: Place;
  /** Number of the far end in the wire's namespace. */
  readonly farIndex: number;
  /** MAC addresses as 48-bit integers. */
  readonly mac: number;
  readonly farMac: number;
}

/** The router behind wan0, in each family. */
const GATEWAYS = ['169.254.1.1', 'fe80::1'] as const;
/** Groups of netfilter's log. */
const LOG_OUTPUT = 1;
const LOG_INPUT = 2;

/** net.… of the node; what the test stands on. */
export function sysctls(routeLocalnet: boolean, beLiberal: boolean): Record<string, string> {
  return {
    'ipv4/ip_forward': '1',
    'ipv4/conf/all/route_localnet': routeLocalnet ? '1' : '0',
    'ipv4/conf/all/rp_filter': '0',
    'ipv4/conf/default/rp_filter': '0',
    'ipv4/conf/all/accept_local': '0',
    'ipv4/conf/all/send_redirects': '0',
    'ipv4/conf/default/send_redirects': '0',
    'ipv4/icmp_ratelimit': '0',
    'ipv4/icmp_msgs_per_sec': '1000000',
    'ipv4/icmp_msgs_burst': '1000000',
    'ipv4/icmp_errors_use_inbound_ifaddr': '0',
    'ipv6/conf/all/forwarding': '1',
    'ipv6/conf/default/forwarding': '1',
    'ipv6/conf/all/accept_dad': '0',
    'ipv6/conf/default/accept_dad': '0',
    'ipv6/conf/default/addr_gen_mode': '1',
    'ipv6/icmp/ratelimit': '0',
    'ipv6/auto_flowlabels': '0',
    'netfilter/nf_conntrack_checksum': '1',
    'netfilter/nf_conntrack_tcp_loose': '1',
    'netfilter/nf_conntrack_tcp_be_liberal': beLiberal ? '1' : '0',
    // Longer than any phase on a busy machine; flatpath's clock moves less than a second in a case.
    ...Object.fromEntries(SHORT_TIMEOUTS.map((name) => [`netfilter/nf_conntrack_${name}`, '300'])),
  };
}

const SHORT_TIMEOUTS = [
  'udp_timeout',
  'icmp_timeout',
  'icmpv6_timeout',
  'tcp_timeout_close',
  'tcp_timeout_last_ack',
  'sctp_timeout_closed',
  'sctp_timeout_cookie_wait',
  'sctp_timeout_cookie_echoed',
  'sctp_timeout_shutdown_sent',
  'sctp_timeout_shutdown_recd',
  'sctp_timeout_shutdown_ack_sent',
  'sctp_timeout_heartbeat_sent',
];

/** Text for the programs that load a ruleset, in order. */
export interface RulesetPart {
  readonly command: readonly string[];
  readonly text: string;
}

/** All senders run on one processor, so that the kernel takes their packets one after the other. */
const PINNED = ['taskset', '-c', firstProcessor()];

/** What a process on the node is to send (local-process.mjs). */
export type LocalCommand =
  | {
      readonly protocol: 'udp' | 'tcp';
      readonly source: string;
      readonly sport: number;
      readonly destination: string;
      readonly dport: number;
      /** In hexadecimal; of UDP. */
      readonly payload: string;
    }
  | { readonly protocol: 'end' };

let made = 0;

export class NodeNamespace {
  readonly ports: readonly Port[];
  private readonly node: string;
  private readonly wire: string;
  private readonly folder: string;
  private captures: CaptureStream[] = [];
  private process: ChildProcess | null = null;
  private answers: Interface | null = null;
  private said = '';
  private ended: Promise<[string]> = Promise.resolve(['']);

  private constructor(node: string, wire: string, folder: string, ports: readonly Port[]) {
    this.node = node;
    this.wire = wire;
    this.folder = folder;
    this.ports = ports;
  }

  /** @param folder for captures to replay */
  static async make(
    world: World,
    folder: string,
    settings: Record<string, string>,
    ruleset: readonly RulesetPart[],
  ): Promise<NodeNamespace> {
    const number = made++;
    const [node, wire] = [`fp-node-${process.pid}-${number}`, `fp-wire-${process.pid}-${number}`];
    command('ip', ['-batch', '-'], `netns add ${node}\nnetns add ${wire}\n`);
    try {
      setSysctls(wire, { 'ipv6/conf/all/disable_ipv6': '1', 'ipv6/conf/default/disable_ipv6': '1' });
      setSysctls(wire, { 'bridge/bridge-nf-call-iptables': '0', 'bridge/bridge-nf-call-ip6tables': '0' }, true);
      setSysctls(node, { 'bridge/bridge-nf-call-iptables': '0', 'bridge/bridge-nf-call-ip6tables': '0' }, true);
      setSysctls(node, settings);
      const ports = buildPorts(world, node, wire);
      inside(node, ['nft', '-f', '-'], JUDGE_TABLE);
      for (const { command: loader, text } of ruleset) inside(node, loader, text);
      const space = new NodeNamespace(node, wire, folder, ports);
      await space.start();
      return space;
    } catch (error) {
      spawnSync('ip', ['-batch', '-'], { input: `netns del ${node}\nnetns del ${wire}\n` });
      throw error;
    }
  }

  private async start(): Promise<void> {
    this.captures = [
      new CaptureStream(this.wire, 'any'),
      new CaptureStream(this.node, `nflog:${LOG_INPUT}`),
      new CaptureStream(this.node, `nflog:${LOG_OUTPUT}`),
    ];
    const script = fileURLToPath(new URL('./local-process.mjs', import.meta.url));
    this.process = spawn('nsenter', [`--net=/run/netns/${this.node}`, ...PINNED, process.execPath, script]);
    this.process.stderr!.on('data', (piece: Buffer) => {
      this.said += piece.toString();
    });
    this.ended = once(this.process, 'exit').then(() => [`the local process ended: ${this.said}`]);
    this.answers = createInterface({ input: this.process.stdout! });
    await Promise.all(this.captures.map((capture) => capture.ready()));
  }

  /** Frames that come in at a far end (the wire), packets delivered to the node, packets that its processes sent. */
  get wireCapture(): CaptureStream {
    return this.captures[0]!;
  }
  get inputCapture(): CaptureStream {
    return this.captures[1]!;
  }
  get outputCapture(): CaptureStream {
    return this.captures[2]!;
  }

  private portAt(place: Place): Port {
    const found = this.ports.find((port) => samePlace(port.place, place));
    if (found === undefined) throw new Error(`the node has no interface for ${JSON.stringify(place)}`);
    return found;
  }

  /** Sends frames into the node, each through the interface whose MAC address it names, in this order. */
  async replay(frames: readonly Uint8Array[]): Promise<void> {
    const pieces: Uint8Array[] = [];
    const write = pcapWriter('microseconds', (piece) => pieces.push(piece));
    frames.forEach((frame, i) => {
      write(1, i * 1000, frame, frame.length);
    });
    const path = join(this.folder, 'replay.pcap');
    writeFileSync(path, Buffer.concat(pieces));
    const options = [...PINNED, 'tcpreplay', '-q', '--topspeed', '-i', 't0', path];
    const { stdout } = await run('nsenter', [`--net=/run/netns/${this.wire}`, ...options]);
    const sent = /Successful packets:\s*(\d+)/.exec(stdout)?.[1];
    if (sent !== String(frames.length)) throw new Error(`tcpreplay sent ${sent} of ${frames.length} packets`);
  }

  /**
   * Sends packets into the node by one interface and waits until as many have come out at far ends.
   * @returns what came out, in order
   */
  async pass(packets: readonly Uint8Array[], from: Place): Promise<Uint8Array[]> {
    const start = this.wireCapture.packets.length;
    const far = new Set(this.ports.map(({ farIndex }) => farIndex));
    const isOurs = ({ interfaceIndex, packet }: Captured) => far.has(interfaceIndex) && !isNeighbourTalk(packet);
    let seen = 0;
    const all = this.wireCapture.see(start, (captured) => isOurs(captured) && ++seen === packets.length);
    await this.replay(packets.map((packet) => this.frameFor(from, packet)));
    await all;
    return this.wireCapture.packets
      .slice(start)
      .filter(isOurs)
      .map(({ packet }) => packet);
  }

  /** The packet as a frame for the node's interface at a place. */
  frameFor(from: Place, packet: Uint8Array): Uint8Array {
    const port = this.portAt(from);
    const frame = new Uint8Array(ETHERNET_BYTES + packet.length);
    const view = new DataView(frame.buffer);
    setMac(view, ETHERNET_DST, port.mac);
    setMac(view, ETHERNET_SRC, port.farMac);
    view.setUint16(ETHERNET_BYTES - 2, packet[0]! >>> 4 === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
    frame.set(packet, ETHERNET_BYTES);
    return frame;
  }

  /** Has a process on the node send; answers what went wrong with it, null if nothing. */
  async sendLocally(order: LocalCommand): Promise<string | null> {
    if (this.process === null || this.answers === null) throw new Error('the node has no process');
    this.process.stdin!.write(`${JSON.stringify(order)}\n`);
    const [line] = (await Promise.race([once(this.answers, 'line'), this.ended])) as [string];
    return line === 'ok' ? null : line;
  }

  async remove(): Promise<void> {
    try {
      for (const capture of this.captures) await capture.stop();
    } finally {
      if (this.process !== null && this.process.exitCode === null) {
        this.process.kill();
        await once(this.process, 'exit');
      }
      command('ip', ['-batch', '-'], `netns del ${this.node}\nnetns del ${this.wire}\n`);
    }
  }
}

/** Far ends talk to t1 only, by static entries: behind cni0 they would make a circle. */
const APART = 'isolated on learning off flood off mcast_flood off bcast_flood off';

const JUDGE_TABLE = `table inet judge {
  chain input { type filter hook input priority 2147483647; log group ${LOG_INPUT} queue-threshold 1; drop; }
  chain output { type filter hook output priority -500; log group ${LOG_OUTPUT} queue-threshold 1; }
}
`;

function buildPorts(world: World, node: string, wire: string): Port[] {
  const judged = world.nodes.find(({ name }) => name === JUDGED_NODE)!;
  const pods = world.pods.filter((pod) => pod.node === JUDGED_NODE && !pod.hostNetwork);
  const isBridged = world.options.detectLocalMode === 'BridgeInterface';
  const places: [string, Place][] = [
    ['eth0', { kind: 'peer' }],
    ['wan0', { kind: 'outside' }],
    ['veth-stray', { kind: 'stray' }],
    ...pods.map((pod, i): [string, Place] => [`veth${i}`, { kind: 'pod', pod: pod.name }]),
  ];
  const ports = places.map(([name, place], i) => ({
    name,
    place,
    far: `far-${name}`,
    mac: 0x0200_0000_0100 + i,
    farMac: 0x0200_0000_0200 + i,
  }));
  const isPodSide = ({ place }: { place: Place }) => place.kind === 'pod' || place.kind === 'stray';

  const lines = ['link set lo up'];
  if (isBridged) lines.push('link add cni0 type bridge mcast_snooping 0', 'link set cni0 up');
  for (const port of ports) {
    const { name, far } = port;
    lines.push(`link add ${name} address ${mac(port.mac)} type veth peer name ${far} netns ${wire}`);
    if (isBridged && isPodSide(port)) lines.push(`link set ${port.name} master cni0`);
    lines.push(`link set ${port.name} up`);
  }
  for (const address of judged.addresses) {
    lines.push(familyOf(address) === 4 ? `addr add ${address}/24 dev eth0` : `addr add ${address}/64 dev eth0 nodad`);
  }
  const neighbour = (address: string, port: { farMac: number }, device: string) =>
    lines.push(`neigh replace ${address} lladdr ${mac(port.farMac)} dev ${device} nud permanent`);
  const [peer, outside] = [ports[0]!, ports[1]!];
  for (const gateway of GATEWAYS) neighbour(gateway, outside, 'wan0');
  for (const other of world.nodes) {
    if (other === judged) continue;
    for (const address of other.addresses) neighbour(address, peer, 'eth0');
    for (const prefix of other.podCIDRs) {
      lines.push(`route add ${prefix} via ${other.addresses.find((to) => familyOf(to) === familyOf(prefix))}`);
    }
  }
  for (const gateway of GATEWAYS) lines.push(`route add default via ${gateway} dev wan0 onlink`);
  for (const [i, pod] of pods.entries())
    lines.push(...podRoutes(pod, ports[3 + i]!.farMac, isBridged ? 'cni0' : ports[3 + i]!.name));
  command('ip', ['-n', node, '-batch', '-'], `${lines.join('\n')}\n`);

  const far = ports.map(
    (port) =>
      `link set ${port.far} master hub\nlink set ${port.far} type bridge_slave ${APART}\nlink set ${port.far} up\n`,
  );
  const hub =
    'link add hub type bridge mcast_snooping 0\nlink set hub up\nlink add t0 type veth peer name t1\n' +
    'link set t1 master hub\nlink set t0 up\nlink set t1 up\n';
  command('ip', ['-n', wire, '-batch', '-'], hub + far.join(''));
  const known = ports.map((port) => `fdb add ${mac(port.mac)} dev ${port.far} master static\n`);
  const back = ports.map((port) => `fdb add ${mac(port.farMac)} dev t1 master static\n`);
  command('bridge', ['-n', wire, '-batch', '-'], [...known, ...back].join(''));
  if (isBridged) {
    const own = ports.filter(isPodSide).map((port) => `fdb add ${mac(port.farMac)} dev ${port.name} master static\n`);
    command('bridge', ['-n', node, '-batch', '-'], own.join(''));
  }
  const links = JSON.parse(command('ip', ['-n', wire, '-j', 'link'], '')) as { ifname: string; ifindex: number }[];
  return ports.map((port) => ({ ...port, farIndex: links.find(({ ifname }) => ifname === port.far)!.ifindex }));
}

function podRoutes(pod: WorldPod, farMac: number, device: string): string[] {
  return pod.addresses.flatMap((address) => [
    `neigh replace ${address} lladdr ${mac(farMac)} dev ${device} nud permanent`,
    `route add ${address} dev ${device}`,
  ]);
}

function samePlace(one: Place, other: Place): boolean {
  if (one.kind === 'pod' && other.kind === 'pod') return one.pod === other.pod;
  return one.kind === other.kind;
}

function mac(value: number): string {
  return value
    .toString(16)
    .padStart(12, '0')
    .replace(/..(?=.)/g, '$&:');
}

function setSysctls(namespace: string, settings: Record<string, string>, optional = false): void {
  const lines = Object.entries(settings).map(([name, value]) =>
    optional ? `[ ! -e ${name} ] || echo ${value} > ${name}` : `echo ${value} > ${name}`,
  );
  inside(namespace, ['sh', '-e'], `cd /proc/sys/net\n${lines.join('\n')}\n`);
}

function inside(namespace: string, words: readonly string[], input: string): void {
  command('nsenter', [`--net=/run/netns/${namespace}`, ...words], input);
}

/** Runs a program with some input; answers what it prints. */
function command(name: string, words: readonly string[], input: string): string {
  const { status, stdout, stderr, error } = spawnSync(name, words, { input, encoding: 'utf8' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${name} ${words.join(' ')}: ${stderr.trim()}\n${input.slice(0, 4000)}`);
  return stdout;
}
