/**
 * Policies that change while traffic runs: no packet is judged by half a policy. Two states in turn, such that what one of
 * them has together with what the other has would let through what both deny, or deny what both let through.
 */

import { beforeAll, describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { type Json, startServer, type TestServer } from '../api/support.ts';
import { buildEngine } from '../worker/built.ts';
import { labCluster, policy } from './policy-lab.ts';
import type { KubeObject } from './random-cluster.ts';

beforeAll(buildEngine);

const STREAMS = '/flatpath/v1/streams';
/** More packets than the test waits for. */
const ENDLESS = 2 ** 32;
const FLIPS = 4;

const from = (app: string) => [{ podSelector: { matchLabels: { app } } }];
const blocks = (...cidrs: string[]) => cidrs.map((cidr) => ({ ipBlock: { cidr } }));

/**
 * Between two directions: one state closes the way out of `client`, the other the way into `web`. Inside one: the peers of
 * one state with the ports of the other would let `client` in. Both let `near` pass, by different peers and policies.
 */
const STATES: readonly (readonly KubeObject[])[] = [
  [
    policy('client', { policyTypes: ['Egress'] }),
    policy('web', {
      ingress: [
        { from: from('client'), ports: [{ port: 8080 }] },
        { from: from('client'), ports: [{ protocol: 'UDP', port: 9090 }] },
        { from: from('near') },
      ],
    }),
  ],
  [
    policy('client', { egress: [{}] }),
    policy('web', {
      policyTypes: ['Ingress', 'Egress'],
      ingress: [
        {
          from: blocks('10.244.1.3/32', 'fd00:10:244:1::3/128'),
          ports: [{ port: 8080 }, { protocol: 'UDP', port: 8080 }],
        },
      ],
    }),
    policy('near', { egress: [{ to: from('web'), ports: [{ port: 8080 }, { protocol: 'UDP', port: 'dns' }] }] }),
  ],
];

async function apply({ ask }: TestServer, policies: readonly KubeObject[]): Promise<void> {
  const { code, text } = await ask('PUT', '/flatpath/v1/objects', [...labCluster(), ...policies]);
  if (code !== 200) throw new Error(text);
}

/** A stream of new connections through the Service. */
async function start(
  { ask }: TestServer,
  mode: string,
  client: string,
  protocol: string,
  workers: number,
): Promise<string> {
  const stream = { from: `pod/default/${client}`, to: 'svc/default/web:80', protocol, flows: 64, newFlows: 1 };
  const { code, json, text } = await ask('POST', STREAMS, { mode, workers, packets: ENDLESS, streams: [stream] });
  if (code !== 201) throw new Error(text);
  return String(json['id']);
}

async function until({ ask }: TestServer, id: string, holds: (stream: Json) => boolean): Promise<Json> {
  for (;;) {
    const { json } = await ask('GET', `${STREAMS}/${id}`);
    if (holds(json)) return json;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const packetsOf = (stream: Json): number => Number(stream['packets']);

describe.each(BUILT_MODES)('%s', (mode) => {
  it('judges no packet by half of a change', async () => {
    const server = await startServer();
    await apply(server, STATES[0]!);
    const denied = await start(server, mode, 'client', 'udp', 2);
    const allowed = await start(server, mode, 'near', 'tcp', 1);
    for (let flip = 1; flip <= FLIPS; flip++) {
      const before = [
        packetsOf(await until(server, denied, () => true)),
        packetsOf(await until(server, allowed, () => true)),
      ];
      await apply(server, STATES[flip % 2]!);
      // Packets before, while and after it is taken up.
      await until(server, denied, (stream) => packetsOf(stream) > before[0]! + 200);
      await until(server, allowed, (stream) => packetsOf(stream) > before[1]! + 200);
    }
    const ends = [denied, allowed].map(async (id) => (await server.ask('DELETE', `${STREAMS}/${id}`)).json);
    const [drops, passes] = await Promise.all(ends);
    expect(drops).toMatchObject({ state: 'stopped', images: FLIPS, reconnects: 0, broken: 0 });
    expect(kinds(drops!)).toEqual(['dropped policy-denied']);
    expect(passes).toMatchObject({ state: 'stopped', images: FLIPS, reconnects: 0, broken: 0, stray: 0 });
    expect(kinds(passes!)).toEqual(['delivered none']);
  });
});

function kinds(stream: Json): string[] {
  return Object.values(stream['outcomes']!).map(({ verdict, reason }) => `${String(verdict)} ${String(reason)}`);
}
