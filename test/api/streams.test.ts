import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { type Json, pod, service, smallCluster, startSmall, type TestServer } from './support.ts';

const STREAMS = '/flatpath/v1/streams';
const WEB = { from: 'pod/default/client', to: 'svc/default/web:80', flows: 64 };
/** More packets than a test waits for; whoever starts it stops it. */
const ENDLESS = 2 ** 32;

async function start({ ask }: TestServer, body: object): Promise<string> {
  const { code, json, text } = await ask('POST', STREAMS, { workers: 1, ...body });
  if (code !== 201) throw new Error(text);
  return String(json['id']);
}

/** Reads a stream until a condition holds. */
async function until({ ask }: TestServer, id: string, holds: (stream: Json) => boolean): Promise<Json> {
  for (;;) {
    const { json } = await ask('GET', `${STREAMS}/${id}`);
    if (holds(json)) return json;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const isOver = (stream: Json): boolean => ['done', 'stopped', 'failed'].includes(String(stream['state']));

function endedPackets(stream: Json): number {
  return Object.values(stream['outcomes']!).reduce((sum, { packets }) => sum + Number(packets), 0);
}

describe.each(BUILT_MODES)('streams, %s', (mode) => {
  it('run to their end, count every packet, and are the same again', async () => {
    const server = await startSmall();
    const body = { mode, packets: 20_000, seed: 5, streams: [WEB] };
    const one = await until(server, await start(server, body), isOver);
    expect(one).toMatchObject({ state: 'done', mode, sent: 20_000, wanted: 20_000, broken: 0, stray: 0, error: null });
    expect(endedPackets(one)).toBe(Number(one['packets']));
    expect(Object.values(one['outcomes']!)).toEqual([
      { verdict: 'delivered', reason: 'none', packets: Number(one['packets']) },
    ]);
    const again = await until(server, await start(server, { ...body, workers: 2 }), isOver);
    expect(again['digest']).toBe(one['digest']);
    const { json } = await server.ask('GET', '/flatpath/v1/stats');
    const tally = Object.values(json['modes']!).find((entry) => String(entry['mode']) === mode)!;
    expect(Number(tally['packets'])).toBe(Number(one['packets']) + Number(again['packets']));
  });

  it('take a new image up while they run', async () => {
    const server = await startSmall();
    const id = await start(server, { mode, packets: ENDLESS, streams: [{ ...WEB, newFlows: 0.2 }] });
    await until(server, id, (stream) => Number(stream['packets']) > 0);
    const spec = { clusterIP: '10.96.0.80', ports: [{ port: 80, targetPort: 8080 }], selector: { app: 'nobody' } };
    expect((await server.ask('PUT', '/api/v1/namespaces/default/services/web', service('web', spec))).code).toBe(200);
    // The answer to the change came after every worker had taken it up: connections that are new now find no backend.
    const changed = await until(
      server,
      id,
      (stream) => Object.values(stream['outcomes']!).length > 1 || Number(stream['refused']) > 0,
    );
    expect(changed).toMatchObject({ images: 1, reconnects: 0 });
    const stopped = await server.ask('DELETE', `${STREAMS}/${id}`);
    expect(stopped.json).toMatchObject({ state: 'stopped' });
    expect(endedPackets(stopped.json)).toBe(Number(stopped.json['packets']));
  });
});

describe('streams in a cluster that is numbered anew', () => {
  it('reconnect and go on', async () => {
    const server = await startSmall();
    const packets = 3_000_000;
    const id = await start(server, { mode: 'ebpf', packets, streams: [WEB] });
    await until(server, id, (stream) => Number(stream['packets']) > 0);
    // A pod that comes first by name moves the numbers of all others.
    const path = '/api/v1/namespaces/default/pods';
    expect((await server.ask('POST', path, pod('aaa', 'alpha', '10.244.1.5', {}))).code).toBe(201);
    const end = await until(server, id, isOver);
    expect(end).toMatchObject({ state: 'done', reconnects: 1, sent: packets, broken: 0, stray: 0, digest: null });
    expect(Object.values(end['outcomes']!).map(({ verdict }) => String(verdict))).toEqual(['delivered']);
    expect(endedPackets(end)).toBe(Number(end['packets']));
  });

  it('fail when the last of their clients is gone', async () => {
    const server = await startSmall();
    const id = await start(server, { mode: 'ebpf', packets: ENDLESS, streams: [WEB] });
    await until(server, id, (stream) => Number(stream['packets']) > 0);
    expect((await server.ask('DELETE', '/api/v1/namespaces/default/pods/client')).code).toBe(200);
    expect(await until(server, id, isOver)).toMatchObject({
      state: 'failed',
      error: expect.stringContaining('clients'),
    });
  });

  it('survive a change of all objects', async () => {
    const server = await startSmall();
    const id = await start(server, { mode: 'iptables', packets: ENDLESS, streams: [WEB] });
    await until(server, id, (stream) => Number(stream['packets']) > 0);
    const gamma = {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'aa' },
      status: { addresses: [{ type: 'InternalIP', address: '192.168.0.9' }] },
    };
    expect((await server.ask('PUT', '/flatpath/v1/objects', [...smallCluster(), gamma])).code).toBe(200);
    const before = await until(server, id, () => true);
    const later = await until(server, id, (stream) => Number(stream['packets']) > Number(before['packets']));
    expect(later).toMatchObject({ reconnects: 1 });
    await server.ask('DELETE', `${STREAMS}/${id}`);
  });
});

describe('watching and stopping', () => {
  it('sends lines, or events, until the end', async () => {
    const server = await startSmall();
    const id = await start(server, { mode: 'ebpf', packets: 5000, streams: [WEB] });
    const lines = await server.send('GET', `${STREAMS}/${id}/events`, {});
    expect(lines.type).toBe('application/x-ndjson');
    const events = lines.text
      .trimEnd()
      .split('\n')
      .map((line): Json => JSON.parse(line));
    expect(events.at(-1)).toMatchObject({ id, state: 'done' });
    const stream = await server.send('GET', `${STREAMS}/${id}/events`, { accept: 'text/event-stream' });
    expect(stream.type).toContain('text/event-stream');
    expect(stream.text).toMatch(/^data: \{.*\}\n\n$/);
    expect((await server.ask('GET', STREAMS)).json['streams']).toHaveLength(1);
    expect((await server.ask('DELETE', `${STREAMS}/${id}`)).code).toBe(200);
    expect((await server.ask('GET', `${STREAMS}/${id}`)).code).toBe(404);
    expect((await server.ask('GET', `${STREAMS}/${id}/events`)).code).toBe(404);
  });

  it('takes a Scenario, refuses what it cannot send, and runs so many at a time', async () => {
    const server = await startSmall();
    const scenario = {
      apiVersion: 'flatpath.dev/v1alpha1',
      kind: 'Scenario',
      metadata: { name: 'evening' },
      spec: { packets: 100, streams: [WEB] },
    };
    const { json } = await server.ask('POST', STREAMS, { ...scenario, mode: 'ebpf' });
    expect(json).toMatchObject({ name: 'evening', mode: 'ebpf' });
    const wrong: [object, string][] = [
      [{ ...scenario, spec: { ...scenario.spec, manifests: ['/etc'] } }, 'spec.manifests'],
      [{ ...scenario, spec: { ...scenario.spec, datapath: {} } }, 'spec.datapath'],
      [{ packets: 1 }, 'streams'],
      [{ packets: 1, duration: '1s', streams: [WEB] }, 'duration'],
      [{ packets: 1, streams: [{ ...WEB, to: 'svc/default/nothing:1' }] }, 'streams[0]'],
      [{ packets: 1, streams: [{ ...WEB, flows: 0 }] }, 'streams[0].flows'],
      [{ packets: 1, workers: 0, streams: [WEB] }, 'workers'],
      [{ packets: 1, streams: [{ ...WEB, flows: 4_000_000 }] }, 'streams[0].flows'],
    ];
    for (const [body, field] of wrong) {
      const { code, json, text } = await server.ask('POST', STREAMS, body);
      expect(code, text).toBe(422);
      expect(Object.values(json['details']!['causes']!).map((cause) => cause['field'])).toContain(field);
    }
    for (let i = 0; i < 3; i++) await start(server, { mode: 'ebpf', packets: ENDLESS, streams: [WEB] });
    await until(server, String(json['id']), isOver);
    await start(server, { mode: 'ebpf', packets: ENDLESS, streams: [WEB] });
    expect((await server.ask('POST', STREAMS, { packets: 1, streams: [WEB] })).code).toBe(429);
  });
});
