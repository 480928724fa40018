import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { buildFrame, type L4Fields } from '../../engine/src/wire/build.ts';
import { describeFrame } from '../../engine/src/wire/describe.ts';
import { pcapWriter } from '../../engine/src/wire/pcap.ts';
import { TCP_SYN } from '../../engine/src/wire/tcp.ts';
import { type Json, service, startSmall, type TestServer } from './support.ts';

const PACKETS = '/flatpath/v1/packets';
const CLIENT = [0x0af4010a, 0, 0, 0] as const;
const VIP = [0x0a600050, 0, 0, 0] as const;

function tcp(src: typeof CLIENT, dst: typeof VIP, sport: number, dport: number, flags: number): Uint8Array {
  const l4: L4Fields = { protocol: 'tcp', sport, dport, flags, seq: 7, ackSeq: 8 };
  return buildFrame({ ip: { family: 4, src, dst }, l4 });
}

function hexOf(frame: Uint8Array): string {
  return Buffer.from(frame).toString('hex');
}

async function inject({ ask }: TestServer, mode: string, packets: object[]): Promise<Json[]> {
  const { code, json, text } = await ask('POST', PACKETS, { mode, packets });
  if (code !== 200) throw new Error(text);
  return Object.values(json['packets']!);
}

describe.each(BUILT_MODES)('injected packets, %s', (mode) => {
  it('go to a backend, and its answer is recognised and translated back', async () => {
    const server = await startSmall();
    const [out] = await inject(server, mode, [
      { from: 'pod/default/client', fields: { dst: 'svc/default/web:80', sport: 4321 } },
    ]);
    expect(out).toMatchObject({ verdict: 'delivered', reason: 'none', translated: true, masquerade: false });
    expect(out!['deliveredTo']).toMatch(/^pod default\/web-[12]$/);
    const arrived = describeFrame(Buffer.from(String(out!['frame']!['hex']), 'hex'));
    expect(arrived.problem).toBeNull();
    expect(arrived.l4).toMatchObject({ dport: 8080, flags: ['SYN'], checksumOk: true });
    // In a later call: the connection is remembered.
    const [back] = await inject(server, mode, [
      { fields: { src: arrived.ip!.dst, dst: arrived.ip!.src, sport: 8080, dport: 4321, flags: ['SYN', 'ACK'] } },
    ]);
    expect(back).toMatchObject({ verdict: 'delivered', deliveredTo: 'pod default/client' });
    const answer = describeFrame(Buffer.from(String(back!['frame']!['hex']), 'hex'));
    expect(answer.ip).toMatchObject({ src: '10.96.0.80', checksumOk: true });
    expect(answer.l4).toMatchObject({ sport: 80, checksumOk: true });
    const flows = await server.ask('GET', `/flatpath/v1/flows?mode=${mode}`);
    const line = Object.values(flows.json['flows']!).find((one) => String(one['node']) === 'alpha');
    expect(line).toMatchObject({ protocol: 'tcp', source: '10.244.1.10:4321', expiresInMs: expect.any(Number) });
    if (mode === 'iptables') expect(line).toMatchObject({ state: 'SYN_RECV', seenReply: true });
  });

  it('keep their connections when the cluster changes', async () => {
    const server = await startSmall();
    const syn = { from: 'pod/default/client', fields: { dst: '10.96.0.80', dport: 80, sport: 5555 } };
    const [first] = await inject(server, mode, [syn]);
    const backend = first!['deliveredTo'];
    expect(
      (await server.ask('POST', '/api/v1/namespaces/default/services', service('more', { ports: [{ port: 9 }] }))).code,
    ).toBe(201);
    for (let i = 0; i < 3; i++) {
      // A SYN sent again belongs to its connection; as a new one it might fall on the other backend.
      const [next] = await inject(server, mode, [syn]);
      expect(next).toMatchObject({ verdict: 'delivered', deliveredTo: backend });
    }
    const flows = await server.ask('GET', `/flatpath/v1/flows?mode=${mode}`);
    expect(Object.values(flows.json['flows']!).length).toBeGreaterThan(0);
  });

  it('meet the change at once', async () => {
    const server = await startSmall();
    const syn = (sport: number): object => ({
      from: 'pod/default/client',
      fields: { dst: '10.96.0.80', dport: 80, sport },
    });
    expect((await inject(server, mode, [syn(1001)]))[0]).toMatchObject({ verdict: 'delivered' });
    await server.ask('DELETE', '/api/v1/namespaces/default/pods/web-1');
    await server.ask('DELETE', '/api/v1/namespaces/default/pods/web-2');
    const [refused] = await inject(server, mode, [syn(1002)]);
    expect(['rejected', 'dropped']).toContain(refused!['verdict']);
    if (mode === 'iptables') expect(Object.values(refused!['answers']!)).toHaveLength(1);
  });

  it('come as hexadecimal frames and as captures, with the same outcome', async () => {
    const frame = tcp(CLIENT, VIP, 6000, 80, TCP_SYN);
    const described = await inject(await startSmall(), mode, [{ hex: hexOf(frame) }]);
    const pieces: Uint8Array[] = [];
    const write = pcapWriter('microseconds', (piece) => pieces.push(piece.slice()));
    for (let i = 0; i < 3; i++) write(1_700_000_000 + i, 0, tcp(CLIENT, VIP, 6000, 80, TCP_SYN), 54);
    const server = await startSmall();
    const capture = await server.send(
      'POST',
      `${PACKETS}?mode=${mode}&results=1`,
      { 'content-type': 'application/vnd.tcpdump.pcap' },
      Buffer.concat(pieces),
    );
    expect(capture).toMatchObject({ code: 200, json: { mode, total: 3, ends: { delivered: 3 } } });
    expect(Object.values(capture.json['packets']!)).toEqual(described);
  });

  it('of any bytes end once, with a reason', async () => {
    const server = await startSmall();
    const seed = process.env['FLATPATH_SEED'] === undefined ? {} : { seed: Number(process.env['FLATPATH_SEED']) };
    const good = tcp(CLIENT, VIP, 7000, 80, TCP_SYN);
    const damaged = fc
      .tuple(fc.nat(good.length - 1), fc.nat(255), fc.integer({ min: 1, max: good.length }))
      .map(([at, value, length]) => {
        const copy = good.slice();
        copy[at] = value;
        return copy.slice(0, length);
      });
    let sent = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 90 }), damaged), { minLength: 1, maxLength: 20 }),
        async (frames) => {
          const results = await inject(
            server,
            mode,
            frames.map((frame) => ({ hex: hexOf(frame) })),
          );
          expect(results).toHaveLength(frames.length);
          for (const { verdict, reason } of results) {
            const fine = String(verdict) === 'delivered' || String(verdict) === 'forwarded';
            expect(String(reason) === 'none').toBe(fine);
          }
          sent += frames.length;
        },
      ),
      { numRuns: 40, ...seed },
    );
    const { json } = await server.ask('GET', '/flatpath/v1/stats');
    const tally = Object.values(json['modes']!).find((one) => String(one['mode']) === mode)!;
    const ended = Object.values(tally['outcomes']!).reduce((sum, { packets }) => sum + Number(packets), 0);
    expect(Number(tally['packets'])).toBeGreaterThanOrEqual(sent);
    expect(ended).toBe(Number(tally['packets']));
  });
});

describe('descriptions of packets', () => {
  it('cover the protocols and both ways to say where a packet enters', async () => {
    const server = await startSmall();
    const results = await inject(server, 'iptables', [
      { from: 'pod/default/client', fields: { dst: 'pod/default/web-2', protocol: 'icmp' } },
      { from: 'pod/default/client', fields: { dst: 'pod/default/web-2:53', protocol: 'udp', payload: 'hello' } },
      { from: 'pod/default/client', fields: { dst: 'pod/default/web-2:36412', protocol: 'sctp' } },
      { fields: { src: '203.0.113.5', dst: '10.244.2.20', dport: 8080 }, node: 'beta' },
      { node: 'alpha', entry: 'host', fields: { src: '192.168.0.1', dst: '10.244.2.20', dport: 8080 } },
      { node: 'alpha', entry: 'pod', fields: { src: '10.244.1.10', dst: '203.0.113.5', dport: 443 } },
    ]);
    expect(results.map(({ verdict }) => String(verdict))).toEqual([...Array(5).fill('delivered'), 'forwarded']);
    expect(String(results[2]!['sent'])).toContain('SCTP');
  });

  it('can be wrong on purpose', async () => {
    const server = await startSmall();
    const [result] = await inject(server, 'iptables', [
      { fields: { src: '10.244.1.10', dst: '10.96.0.80', dport: 80, ipChecksum: 1 } },
    ]);
    expect(result).toMatchObject({ verdict: 'dropped', reason: 'l3-checksum', frame: null });
  });

  it('are refused with their field, and none is sent then', async () => {
    const server = await startSmall();
    const good = { from: 'pod/default/client', fields: { dst: '10.96.0.80', dport: 80 } };
    const wrong: [object, string][] = [
      [{}, 'packets[1]'],
      [{ hex: '00', fields: good.fields }, 'packets[1]'],
      [{ hex: '0' }, 'packets[1].hex'],
      [{ from: 'pod/default/nobody', fields: good.fields }, 'packets[1].from'],
      [{ from: 'pod/default/client', fields: { dst: 'svc/default/nothing:1' } }, 'packets[1].fields.dst'],
      [{ fields: { dst: '10.96.0.80' } }, 'packets[1].fields.src'],
      [{ ...good, node: 'gamma' }, 'packets[1].node'],
      [{ ...good, entry: 'pod' }, 'packets[1].entry'],
      [{ entry: 'host', fields: { ...good.fields, src: '10.0.0.1' } }, 'packets[1].node'],
      [{ ...good, fields: { ...good.fields, src: '2001:db8::1' } }, 'packets[1].fields.dst'],
      [{ ...good, fields: { ...good.fields, sport: 65_536 } }, 'packets[1].fields.sport'],
      [{ ...good, fields: { ...good.fields, payload: 'a', payloadHex: '61' } }, 'packets[1].fields.payload'],
    ];
    for (const [packet, field] of wrong) {
      const { code, json, text } = await server.ask('POST', PACKETS, { packets: [good, packet] });
      expect(code, text).toBe(422);
      expect(Object.values(json['details']!['causes']!).map((cause) => cause['field'])).toContain(field);
    }
    expect((await server.ask('POST', PACKETS, { packets: [] })).code).toBe(422);
    const { json } = await server.ask('GET', '/flatpath/v1/stats');
    expect(Object.values(json['modes']!).map(({ packets }) => packets)).toEqual(BUILT_MODES.map(() => 0));
  });

  it('tell their story when asked', async () => {
    const server = await startSmall();
    const packet = { from: 'pod/default/client', fields: { dst: 'svc/default/web:80' } };
    const { json } = await server.ask('POST', PACKETS, { mode: 'iptables', trace: true, packets: [packet] });
    const hops = Object.values(json['packets']![0]!['hops']!);
    expect(hops[0]).toMatchObject({ node: 'alpha', entry: 'pod', pod: 'default/client' });
    expect(JSON.stringify(hops)).toContain('KUBE-SVC-');
  });
});

describe('captures', () => {
  const type = { 'content-type': 'application/vnd.tcpdump.pcap' };

  it('that lie are refused whole', async () => {
    const server = await startSmall();
    const pieces: Uint8Array[] = [];
    const write = pcapWriter('nanoseconds', (piece) => pieces.push(piece.slice()));
    write(1, 0, tcp(CLIENT, VIP, 1, 80, TCP_SYN), 54);
    const whole = Buffer.concat(pieces);
    for (const bytes of [whole.subarray(0, whole.length - 1), Buffer.from('not a capture'), Buffer.alloc(0)]) {
      const { code, json } = await server.send('POST', PACKETS, type, bytes);
      expect([400, 422]).toContain(code);
      expect(json['kind']).toBe('Status');
    }
    expect((await server.send('POST', `${PACKETS}?node=gamma`, type, whole)).code).toBe(422);
    expect((await server.send('POST', `${PACKETS}?results=x`, type, whole)).code).toBe(400);
    const { json } = await server.ask('GET', '/flatpath/v1/stats');
    expect(Object.values(json['modes']!).map(({ packets }) => packets)).toEqual(BUILT_MODES.map(() => 0));
    expect((await server.send('POST', PACKETS, type, whole)).code).toBe(200);
  });
});

describe('the list of flows', () => {
  it('comes in pages that miss nothing', async () => {
    const server = await startSmall();
    const packets = Array.from({ length: 25 }, (_, i) => ({
      from: 'pod/default/client',
      fields: { dst: 'pod/default/web-1:80', sport: 2000 + i },
    }));
    await inject(server, 'iptables', packets);
    const seen = new Set<string>();
    let token = '';
    let pages = 0;
    do {
      const { code, json } = await server.ask('GET', `/flatpath/v1/flows?mode=iptables&limit=7&continue=${token}`);
      expect(code).toBe(200);
      for (const flow of Object.values(json['flows']!)) seen.add(String(flow['source']));
      token = json['continue'] === null ? '' : String(json['continue']);
      pages++;
    } while (token !== '');
    expect(seen.size).toBe(25);
    expect(pages).toBe(4);
    expect((await server.ask('GET', '/flatpath/v1/flows?mode=iptables&continue=4:3')).code).toBe(400);
    expect((await server.ask('GET', '/flatpath/v1/flows?mode=ebpf')).json).toEqual({ flows: [], continue: null });
  });
});
