/**
 * The kernel's own conntrack as the judge of flatpath's: the same segments through a node of network namespaces, which marks
 * each with the state that it found, and through the engine. Every segment has to be found in the same state.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  CT_STATE_ESTABLISHED,
  CT_STATE_INVALID,
  CT_STATE_NEW,
  CT_STATE_RELATED,
  CT_STATE_REPLY,
} from '../../engine/src/programs/record.ts';
import { readCapture } from '../../engine/src/wire/capture.ts';
import { pcapWriter } from '../../engine/src/wire/pcap.ts';
import { canJudge, firstProcessor, kernelRelease } from '../kernel/tools.ts';
import { buildDatapath, sendOne } from './fixture.ts';
import { type Line, type Setting, tcpStory } from './tcp-story.ts';

const SETTING: Setting = { client: 0x0a000102, server: 0x0a000202, srcMac: 0x020000000022, dstMac: 0x020000000011 };
const FLOWS = 150;
const LENGTH = 45;
/** Marks that the node writes into the DSCP field. */
const NAMES = ['lost', 'INVALID', 'NEW', 'ESTABLISHED', 'RELATED'] as const;
const MARK_OF: Readonly<Record<number, number>> = {
  [CT_STATE_INVALID]: 1,
  [CT_STATE_NEW]: 2,
  [CT_STATE_ESTABLISHED]: 3,
  [CT_STATE_REPLY]: 3,
  [CT_STATE_RELATED]: 4,
};

const SET_UP = `
set -e
ip netns add $NODE; ip netns add $PEER
ip -n $NODE link add eth1 address 02:00:00:00:00:11 type veth peer name in0 netns $PEER address 02:00:00:00:00:22
ip -n $NODE link add eth2 address 02:00:00:00:00:12 type veth peer name out0 netns $PEER address 02:00:00:00:00:33
in_node() { nsenter --net=/run/netns/$NODE "$@"; }
in_peer() { nsenter --net=/run/netns/$PEER "$@"; }
in_peer sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6'
in_node sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; cd /proc/sys/net/ipv4; echo 1 > ip_forward
  for f in conf/*/rp_filter conf/*/send_redirects; do echo 0 > $f; done'
ip -n $PEER link set in0 up; ip -n $PEER link set out0 up
ip -n $NODE link set eth1 up; ip -n $NODE link set eth2 up
ip -n $NODE addr add 10.0.1.1/24 dev eth1; ip -n $NODE addr add 10.0.2.1/24 dev eth2
ip -n $NODE neigh add 10.0.1.2 lladdr 02:00:00:00:00:22 dev eth1
ip -n $NODE neigh add 10.0.2.2 lladdr 02:00:00:00:00:33 dev eth2
in_node nft -f - <<'END'
table ip judge {
  chain forward {
    type filter hook forward priority 0;
    ct state invalid ip dscp set 1
    ct state new ip dscp set 2
    ct state established ip dscp set 3
    ct state related ip dscp set 4
  }
}
END
in_node sh -c "echo $LIBERAL > /proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"
`;

/** DSCP by IP id, of all that came out of the node; waits until everything is there, or nothing more comes. */
async function askKernel(lines: readonly Line[], liberal: boolean): Promise<Map<number, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'flatpath-judge-'));
  const names = { NODE: `fp-ct-${process.pid}`, PEER: `fp-cp-${process.pid}`, LIBERAL: liberal ? '1' : '0' };
  const clean = () =>
    spawnSync('sh', ['-c', 'ip netns del $NODE; ip netns del $PEER'], { env: { ...process.env, ...names } });
  try {
    const made = spawnSync('bash', ['-c', SET_UP], { env: { ...process.env, ...names }, encoding: 'utf8' });
    if (made.status !== 0) throw new Error(made.stderr);
    const parts: Uint8Array[] = [];
    const write = pcapWriter('nanoseconds', (piece) => parts.push(piece.slice()));
    for (const { frame } of lines) write(1, 0, frame, frame.length);
    const input = join(folder, 'in.pcap');
    writeFileSync(input, Buffer.concat(parts));
    const peer = [`--net=/run/netns/${names.PEER}`];
    const files = ['in0', 'out0'].map((device) => join(folder, `${device}.pcap`));
    const dumps = ['in0', 'out0'].map((device, i) =>
      spawn('nsenter', [
        ...peer,
        'tcpdump',
        '-U',
        '-q',
        '-i',
        device,
        '-Q',
        'in',
        '-B',
        '65536',
        '-w',
        files[i]!,
        'tcp',
      ]),
    );
    // It says when it listens.
    await Promise.all(dumps.map((dump) => new Promise((resolve) => dump.stderr.once('data', resolve))));
    const replay = ['taskset', '-c', firstProcessor(), 'tcpreplay', '-q', '-i', 'in0', '--pps=6000', input];
    const sent = spawnSync('nsenter', [...peer, ...replay], { encoding: 'utf8' });
    if (sent.status !== 0) throw new Error(sent.stderr);
    let marks = new Map<number, number>();
    for (let tries = 0; tries < 20 && marks.size < lines.length; tries++) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      marks = new Map(files.flatMap(readMarks));
    }
    for (const dump of dumps) dump.kill();
    return marks;
  } finally {
    clean();
    rmSync(folder, { recursive: true, force: true });
  }
}

function readMarks(file: string): [id: number, mark: number][] {
  const out: [number, number][] = [];
  try {
    for (const { data } of readCapture(readFileSync(file))) {
      if (data.length >= 34 && data[23] === 6) out.push([(data[18]! << 8) | data[19]!, data[15]! >>> 2]);
    }
  } catch {
    // The last record is still being written.
  }
  return out;
}

/** Since 2026 (and in 6.18 as maintained since) an RST does not answer its own side's SYN; docs/modes.md. */
function knowsNewestRules(): boolean {
  const [major = 0, minor = 0] = kernelRelease.split('.').map(Number);
  if (major * 1000 + minor >= 6018) return true;
  console.log(`skipped: Linux ${kernelRelease} judges TCP by older rules than 6.18`);
  return false;
}

describe('conntrack of the kernel', () => {
  const judges = canJudge() && knowsNewestRules();
  const given = process.env['FLATPATH_SEED'];
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);

  describe.each([
    ['half honest', false],
    ['of few numbers', true],
  ])('on conversations %s', (_, tight) => {
    it.skipIf(!judges).each([
      ['off', false],
      ['on', true],
    ])('finds every segment in the same state, be_liberal %s', { timeout: 60_000 }, async (_name, liberal) => {
      const lines = tcpStory(seed, FLOWS, LENGTH, SETTING, tight);
      const kernel = await askKernel(lines, liberal);
      const dp = buildDatapath({ tcpBeLiberal: liberal, flows: 4096 });
      const seen = new Set<string>();
      const wrong = new Set<number>();
      const told = lines.map(({ flow, text, frame }, i) => {
        const theirs = NAMES[kernel.get(i + 1) ?? 0]!;
        const ours = NAMES[MARK_OF[sendOne(dp, { uplink: 0 }, frame).ctState] ?? 0]!;
        seen.add(theirs);
        if (theirs !== ours) wrong.add(flow);
        return `${theirs === ours ? ' ' : '!'} ${theirs.padEnd(11)} ${ours.padEnd(11)} ${text}`;
      });
      const first = [...wrong][0];
      const story = lines.flatMap(({ flow }, i) => (flow === first ? [told[i]!] : []));
      expect(story, `FLATPATH_SEED=${seed}: ${wrong.size} flows differ (kernel, flatpath)`).toEqual([]);
      expect([...seen].sort()).toEqual(['ESTABLISHED', 'INVALID', 'NEW']);
    });
  });
});
