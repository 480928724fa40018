import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readCaptureFlows } from '../../control/src/diff/capture-flows.ts';
import { isConntrackList, readConntrackList } from '../../control/src/diff/conntrack-list.ts';
import { isHubble, readHubble } from '../../control/src/diff/hubble-flows.ts';
import { readRecording } from '../../control/src/diff/read-recording.ts';
import type { Recording } from '../../control/src/diff/recorded-flow.ts';
import { parseAddress } from '../../control/src/model/address.ts';
import { buildFrame, type L4Fields } from '../../engine/src/wire/build.ts';
import { pcapWriter } from '../../engine/src/wire/pcap.ts';
import { initChunk } from '../../engine/src/wire/sctp-chunk.ts';
import { TCP_ACK, TCP_SYN } from '../../engine/src/wire/tcp.ts';

/** 'source > target:port/protocol × connections', an end by its names, else its address. */
function told({ flows }: Recording): string[] {
  return flows.map(({ source, target, port, protocol, count }) => {
    const [from, to] = [source, target].map(
      ({ namespace, pod, service, node, address }) =>
        (pod !== '' && `${namespace}/${pod}`) || (service !== '' && `svc/${service}`) || node || address?.text,
    );
    return `${from} > ${to}:${port}/${protocol} × ${count}`;
  });
}

describe('conntrack -L', () => {
  const plain = `tcp      6 431999 ESTABLISHED src=10.244.1.5 dst=10.96.0.10 sport=40000 dport=80 src=10.244.2.7 dst=10.244.1.5 sport=8080 dport=40000 [ASSURED] mark=0 secctx=system_u:object_r:unlabeled_t:s0 use=1
tcp      6 86 TIME_WAIT src=10.244.1.5 dst=10.96.0.10 sport=40001 dport=80 src=10.244.2.7 dst=10.244.1.5 sport=8080 dport=40001 [ASSURED] mark=0 use=1
udp      17 25 src=10.244.1.5 dst=8.8.8.8 sport=5353 dport=53 [UNREPLIED] src=8.8.8.8 dst=192.168.0.1 sport=53 dport=5353 mark=0 use=1
icmp     1 29 src=10.244.1.5 dst=10.244.2.7 type=8 code=0 id=1234 src=10.244.2.7 dst=10.244.1.5 type=0 code=0 id=1234 mark=0 use=1
icmp     1 29 src=10.244.1.5 dst=10.244.2.7 type=13 code=0 id=1 src=10.244.2.7 dst=10.244.1.5 type=14 code=0 id=1 mark=0 use=1
sctp     132 209 ESTABLISHED src=10.244.1.5 dst=10.244.2.7 sport=5000 dport=5001 src=10.244.2.7 dst=10.244.1.5 sport=5001 dport=5000 [ASSURED] mark=0 use=1
gre      47 29 src=192.168.0.1 dst=192.168.0.2 srckey=0x0 dstkey=0x0 [UNREPLIED] src=192.168.0.2 dst=192.168.0.1 srckey=0x0 dstkey=0x0 mark=0 use=1
unknown  2 599 src=192.168.0.1 dst=224.0.0.22 [UNREPLIED] src=224.0.0.22 dst=192.168.0.1 mark=0 use=1
conntrack v1.4.8 (conntrack-tools): 8 flow entries have been shown.
`;

  it('takes the original tuple, merges connections and counts what is left out', () => {
    expect(isConntrackList(plain)).toBe(true);
    const recording = readConntrackList('list', plain);
    expect(told(recording)).toEqual([
      '10.244.1.5 > 10.96.0.10:80/TCP × 2',
      '10.244.1.5 > 8.8.8.8:53/UDP × 1',
      '10.244.1.5 > 10.244.2.7:0/ICMP × 1',
      '10.244.1.5 > 10.244.2.7:5001/SCTP × 1',
    ]);
    expect(recording.connections).toBe(5);
    expect(Object.fromEntries(recording.skipped)).toEqual({
      'ICMP other than echo requests': 1,
      'protocol gre 47': 1,
      'protocol unknown 2': 1,
    });
  });

  it('reads the extended form, counters, timestamps, events, zones and IPv6', () => {
    const text = `ipv4     2 tcp      6 86393 ESTABLISHED src=192.168.95.2 dst=192.168.90.107 sport=49832 dport=8080 packets=12 bytes=1840 src=192.168.90.107 dst=192.168.95.2 sport=8080 dport=49832 packets=9 bytes=777 [ASSURED] mark=0 zone=0 delta-time=3 use=2
ipv6     10 udp      17 29 src=fd00::5 dst=fd00::a sport=5353 dport=53 packets=1 bytes=70 [UNREPLIED] src=fd00::a dst=fd00::5 sport=53 dport=5353 packets=0 bytes=0 mark=0 use=1
ipv6     10 icmpv6   58 29 src=fd00::5 dst=fd00::7 type=128 code=0 id=9 src=fd00::7 dst=fd00::5 type=129 code=0 id=9 mark=0 use=1
[1300755929.123456]	    [NEW] tcp      6 120 SYN_SENT src=203.0.113.9 dst=10.0.0.2 sport=41000 dport=443 [UNREPLIED] src=10.0.0.2 dst=203.0.113.9 sport=443 dport=41000
 [UPDATE] tcp      6 60 SYN_RECV src=203.0.113.9 dst=10.0.0.2 sport=41000 dport=443 src=10.0.0.2 dst=203.0.113.9 sport=443 dport=41000
`;
    expect(told(readConntrackList('list', text))).toEqual([
      '192.168.95.2 > 192.168.90.107:8080/TCP × 1',
      'fd00::5 > fd00::a:53/UDP × 1',
      'fd00::5 > fd00::7:0/ICMP × 1',
      '203.0.113.9 > 10.0.0.2:443/TCP × 1',
    ]);
  });

  it('is an empty table too', () => {
    expect(isConntrackList('conntrack v1.4.8 (conntrack-tools): 0 flow entries have been shown.\n')).toBe(true);
    expect(isConntrackList('connection lost\n')).toBe(false);
  });
});

describe('Hubble', () => {
  const dropped =
    '{"flow":{"time":"2023-08-21T12:12:18.510175415Z","verdict":"DROPPED","IP":{"source":"10.244.1.60","destination":"10.244.1.5","ipVersion":"IPv4"},"l4":{"TCP":{"source_port":44916,"destination_port":80,"flags":{"SYN":true}}},"source":{"ID":1,"identity":2,"namespace":"default","labels":["k8s:app=xwing","k8s:io.kubernetes.pod.namespace=default"],"pod_name":"xwing"},"destination":{"namespace":"default","labels":["k8s:app=deathstar"],"pod_name":"deathstar-7848d6c4d5-th9v2","workloads":[{"name":"deathstar","kind":"Deployment"}]},"Type":"L3_L4","node_name":"kind-kind/kind-worker","is_reply":false,"drop_reason_desc":"POLICY_DENIED"},"node_name":"kind-kind/kind-worker","time":"2023-08-21T12:12:18.510175415Z"}';

  it('reads the exporter’s lines, wrapped and bare, once a connection, without replies', () => {
    const { flow } = JSON.parse(dropped);
    const lines = [
      dropped,
      // The same connection at another point, bare as `-o json` has it.
      JSON.stringify({
        ...flow,
        verdict: 'FORWARDED',
        l4: { TCP: { source_port: 44916, destination_port: 80, flags: { ACK: true } } },
      }),
      JSON.stringify({ ...flow, l4: { TCP: { source_port: 44917, destination_port: 80, flags: { SYN: true } } } }),
      JSON.stringify({ flow: { ...flow, is_reply: true } }),
      // A field mask left is_reply out: the flags tell.
      JSON.stringify({
        IP: { source: '10.244.1.5', destination: '10.244.1.60' },
        l4: { TCP: { source_port: 80, destination_port: 44916, flags: { SYN: true, ACK: true } } },
      }),
      '{"lost_events":{"source":"PERF_EVENT_RING_BUFFER","num_events_lost":"3"}}',
      '',
    ];
    const recording = readHubble('flows.json', lines.join('\n'));
    expect(told(recording)).toEqual(['default/xwing > default/deathstar-7848d6c4d5-th9v2:80/TCP × 2']);
    expect(Object.fromEntries(recording.skipped)).toEqual({ replies: 2, 'lines that are no flow': 1 });
    const [{ source, target }] = recording.flows as [Recording['flows'][0]];
    expect(source.labels).toEqual({ app: 'xwing' });
    expect(target.workload).toEqual({ kind: 'Deployment', name: 'deathstar' });
  });

  it('knows Services, hosts, ICMP, SCTP, sockets and layer 7', () => {
    const base = {
      IP: { source: '10.0.0.9', destination: '10.96.0.10' },
      source: { namespace: 'shop', pod_name: 'a' },
    };
    const lines = [
      {
        ...base,
        l4: { UDP: { source_port: 4000, destination_port: 53 } },
        destination_service: { name: 'dns', namespace: 'kube-system' },
      },
      { ...base, l4: { ICMPv4: { type: 8 } }, destination: { labels: ['reserved:host'] }, node_name: 'prod/worker-1' },
      { ...base, l4: { ICMPv4: { type: 3, code: 1 } } },
      { ...base, l4: { SCTP: { source_port: 4000, destination_port: 5001 } } },
      { ...base, l4: { TCP: { source_port: 1, destination_port: 8080 } }, l7: { type: 'REQUEST' } },
      { ...base, l4: { TCP: { source_port: 1, destination_port: 8080 } }, l7: { type: 'RESPONSE' } },
      {
        ...base,
        l4: { TCP: { source_port: 2, destination_port: 8080 } },
        Type: 'SOCK',
        sock_xlate_point: 'SOCK_XLATE_POINT_PRE_DIRECTION_FWD',
      },
      {
        ...base,
        l4: { TCP: { source_port: 2, destination_port: 9090 } },
        Type: 'SOCK',
        sock_xlate_point: 'SOCK_XLATE_POINT_POST_DIRECTION_FWD',
      },
      { ...base, verdict: 'DROPPED' },
      { verdict: 'DROPPED', l4: { TCP: { destination_port: 1 } }, source: {}, destination: {} },
    ];
    const recording = readHubble('flows.json', lines.map((line) => JSON.stringify(line)).join('\n'));
    expect(told(recording)).toEqual([
      'shop/a > svc/dns:53/UDP × 1',
      'shop/a > worker-1:0/ICMP × 1',
      'shop/a > 10.96.0.10:5001/SCTP × 1',
      'shop/a > 10.96.0.10:8080/TCP × 2',
    ]);
    expect([...recording.skipped.values()].reduce((sum, count) => sum + count, 0)).toBe(5);
  });

  it('names the line that is no JSON', () => {
    expect(isHubble(`${dropped}\n{`)).toBe(true);
    expect(() => readHubble('flows.json', `${dropped}\n\n{"flow":`)).toThrow('flows.json:3: is not a JSON object');
    expect(isHubble('{"kind":"List"}')).toBe(false);
  });
});

describe('a capture', () => {
  const words = (text: string) => parseAddress(text)!.words;
  const frame = (src: string, dst: string, l4: L4Fields, payload = new Uint8Array(0)): Uint8Array => {
    const family = src.includes(':') ? 6 : 4;
    const ends = { src: words(src), dst: words(dst) };
    return buildFrame({ ip: family === 4 ? { family, ...ends } : { family, ...ends }, l4, payload });
  };
  const tcp = (sport: number, dport: number, flags: number): L4Fields => ({ protocol: 'tcp', sport, dport, flags });

  function capture(frames: readonly Uint8Array[], snapLength = 65_535): Uint8Array {
    const pieces: Uint8Array[] = [];
    const write = pcapWriter('nanoseconds', (piece) => pieces.push(piece.slice()));
    for (const [i, data] of frames.entries()) write(i, 0, data.subarray(0, snapLength), data.length);
    return Buffer.concat(pieces);
  }

  it('finds who opened each connection', () => {
    const frames = [
      frame('10.0.0.1', '10.0.0.2', tcp(40_000, 80, TCP_SYN)),
      frame('10.0.0.2', '10.0.0.1', tcp(80, 40_000, TCP_SYN | TCP_ACK)),
      frame('10.0.0.1', '10.0.0.2', tcp(40_000, 80, TCP_ACK)),
      frame('10.0.0.1', '10.0.0.2', tcp(40_001, 80, TCP_SYN)),
      // Began before the capture: the answer tells, and where nothing does, the port.
      frame('10.0.0.2', '10.0.0.3', tcp(8080, 50_000, TCP_SYN | TCP_ACK)),
      frame('10.0.0.2', '10.0.0.4', tcp(443, 50_000, TCP_ACK)),
      frame('10.0.0.4', '10.0.0.2', tcp(50_000, 443, TCP_ACK)),
      frame('10.0.0.1', '10.0.0.9', { protocol: 'udp', sport: 40_000, dport: 53 }),
      frame('10.0.0.9', '10.0.0.1', { protocol: 'udp', sport: 53, dport: 40_000 }),
      frame('fd00::1', 'fd00::2', { protocol: 'icmpv6', type: 128, id: 7, sequence: 1 }),
      frame('fd00::2', 'fd00::1', { protocol: 'icmpv6', type: 129, id: 7, sequence: 1 }),
      frame('10.0.0.1', '10.0.0.2', {
        protocol: 'sctp',
        sport: 5000,
        dport: 5001,
        chunks: [initChunk('init', 1, 65_536, 1, 1, 1)],
      }),
      new Uint8Array(60),
    ];
    const recording = readCaptureFlows('in.pcap', capture(frames));
    expect(told(recording)).toEqual([
      '10.0.0.1 > 10.0.0.2:80/TCP × 2',
      '10.0.0.3 > 10.0.0.2:8080/TCP × 1',
      '10.0.0.4 > 10.0.0.2:443/TCP × 1',
      '10.0.0.1 > 10.0.0.9:53/UDP × 1',
      'fd00::1 > fd00::2:0/ICMP × 1',
      '10.0.0.1 > 10.0.0.2:5001/SCTP × 1',
    ]);
    expect(Object.fromEntries(recording.skipped)).toEqual({ 'frames without an IP packet': 1 });
  });

  it('learns from a later SYN what it guessed wrong before', () => {
    const frames = [
      frame('10.0.0.1', '10.0.0.2', tcp(50_000, 8080, TCP_ACK)),
      frame('10.0.0.2', '10.0.0.1', tcp(8080, 50_000, TCP_SYN)),
    ];
    expect(told(readCaptureFlows('in.pcap', capture(frames)))).toEqual(['10.0.0.2 > 10.0.0.1:50000/TCP × 1']);
  });

  it('reads captures that keep only the first bytes of a packet', () => {
    const payload = new Uint8Array(1000);
    const frames = [frame('10.0.0.1', '10.0.0.9', { protocol: 'udp', sport: 40_000, dport: 53 }, payload)];
    expect(told(readCaptureFlows('in.pcap', capture(frames, 64)))).toEqual(['10.0.0.1 > 10.0.0.9:53/UDP × 1']);
  });

  it('names the damage', () => {
    const bytes = capture([frame('10.0.0.1', '10.0.0.2', tcp(40_000, 80, TCP_SYN))]);
    expect(() => readCaptureFlows('in.pcap', bytes.subarray(0, bytes.length - 3))).toThrow(
      /in\.pcap: byte 24, packet 1/,
    );
  });
});

describe('a file of recorded flows', () => {
  const folder = mkdtempSync(join(tmpdir(), 'flatpath-flows-'));
  const file = (name: string, text: string | Uint8Array): string => {
    const path = join(folder, name);
    writeFileSync(path, text);
    return path;
  };

  it('is known by its content', () => {
    const list =
      'udp      17 25 src=10.0.0.1 dst=8.8.8.8 sport=1 dport=53 src=8.8.8.8 dst=10.0.0.1 sport=53 dport=1 use=1\n';
    expect(readRecording(file('a', list)).format).toBe('conntrack');
    expect(readRecording(file('b', '\uFEFF{"node_status":{"state_change":"NODE_CONNECTED"}}\n')).format).toBe('hubble');
  });

  it('is refused where it is of no known form', () => {
    expect(() => readRecording(file('c', 'kind: List\n'))).toThrow('holds no recorded flows');
    expect(() => readRecording(join(folder, 'absent'))).toThrow('ENOENT');
  });
});
