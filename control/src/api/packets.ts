/**
 * `POST /flatpath/v1/packets`: packets that are injected and what becomes of them, with connection state that lasts.
 *
 * JSON describes packets; a capture (pcap, pcapng) carries them, and is answered with a summary and the first results.
 * All packets of a request are read and checked before the first is sent in.
 */
import { readCapture } from '@flatpath/engine/wire/capture';
import { describeFrame } from '@flatpath/engine/wire/describe';
import { type Static, Type } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';
import { tellStory } from '../explain/story.ts';
import { BUILT_MODES, type Mode } from '../model/datapath.ts';
import { oneOf } from '../model/schema.ts';
import type { Injected } from '../probe/injector.ts';
import type { Injection } from './injection.ts';
import { breathe, type JobGate } from './jobs.ts';
import type { LiveCluster } from './live-cluster.ts';
import { nodeNumber, PacketDescription, readPacket } from './packet-description.ts';
import { StatusError } from './status.ts';

/** Bytes of a capture. */
const CAPTURE_BYTES = 64 * 1024 * 1024;
const CAPTURE_TYPES = ['application/vnd.tcpdump.pcap', 'application/x-pcapng'];
const MAX_PACKETS = 1000;
/** Results of a capture that are answered one by one where the request does not say how many. */
const CAPTURE_RESULTS = 100;
/** Packets after which other requests get their turn. */
const SLICE = 64;

const closed = { additionalProperties: false } as const;
const ModeField = oneOf(BUILT_MODES);
const PacketsBody = Type.Object(
  {
    mode: Type.Optional(ModeField),
    packets: Type.Array(PacketDescription, { minItems: 1, maxItems: MAX_PACKETS }),
    /** Adds each packet's story, hop by hop. */
    trace: Type.Optional(Type.Boolean()),
  },
  closed,
);
type PacketsBody = Static<typeof PacketsBody>;
const CaptureQuery = Type.Object(
  {
    mode: Type.Optional(ModeField),
    /** Where packets from outside enter. */
    node: Type.Optional(Type.String()),
    /** Results that are answered one by one, from the first packet on. */
    results: Type.Optional(Type.String({ pattern: '^[0-9]{1,5}$' })),
  },
  closed,
);
type CaptureQuery = Static<typeof CaptureQuery>;

export function addPackets(
  app: FastifyInstance,
  cluster: LiveCluster,
  injection: Injection,
  jobs: JobGate,
  defaultMode: () => Mode,
): void {
  // A plugin of its own, so that no other route takes captures.
  app.register(async (scope) => {
    scope.addContentTypeParser(
      CAPTURE_TYPES,
      { parseAs: 'buffer', bodyLimit: CAPTURE_BYTES },
      (_request, body, done) => {
        done(null, body);
      },
    );
    scope.post<{ Body: PacketsBody | Buffer; Querystring: CaptureQuery }>(
      '/flatpath/v1/packets',
      {
        onRequest: jobs.enter,
        config: { mediaTypes: CAPTURE_TYPES },
        schema: {
          tags: ['packets'],
          summary: 'injects packets: described by fields, as hexadecimal frames, or as a capture',
          consumes: ['application/json', ...CAPTURE_TYPES],
          querystring: CaptureQuery,
          body: PacketsBody,
        },
      },
      async (request) => {
        const { body, query } = request;
        if (Buffer.isBuffer(body)) return injectCapture(cluster, injection, query.mode ?? defaultMode(), body, query);
        if (query.node !== undefined || query.results !== undefined) {
          throw new StatusError(400, 'node and results belong to captures; described packets say themselves');
        }
        return injectDescribed(cluster, injection, query.mode ?? body.mode ?? defaultMode(), body);
      },
    );
  });
}

async function injectDescribed(
  cluster: LiveCluster,
  injection: Injection,
  mode: Mode,
  body: PacketsBody,
): Promise<object> {
  const ready = body.packets.map((packet, i) => readPacket(cluster.model, packet, `packets[${i}]`));
  const record = body.trace === true;
  const results: object[] = [];
  for (const { frame, entry, uplinkNode, timeMs } of ready) {
    const injected = injection.inject(mode, frame, entry, uplinkNode, timeMs, record);
    results.push(describeInjected(injection, mode, frame, injected, record));
  }
  return { mode, packets: results };
}

async function injectCapture(
  cluster: LiveCluster,
  injection: Injection,
  mode: Mode,
  bytes: Uint8Array,
  query: CaptureQuery,
): Promise<object> {
  nodeNumber(cluster.model, query.node, '');
  const most = Math.min(Number(query.results ?? CAPTURE_RESULTS), MAX_PACKETS);
  // Damage at the end of a capture must not be found when its beginning has been sent in.
  let total = 0;
  for (const _record of readCapture(bytes)) total++;
  const ends = new Map<string, number>();
  const results: object[] = [];
  const start = injection.now();
  let first: number | null = null;
  let done = 0;
  for (const { seconds, nanoseconds, data } of readCapture(bytes)) {
    const at = seconds * 1000 + Math.floor(nanoseconds / 1_000_000);
    first ??= at;
    const timeMs = start + Math.min(Math.max(0, at - first), 2 ** 31 - 1 - start);
    // Looked up again each time: while others had their turn the cluster may have become another one.
    const uplink = query.node === undefined ? null : (cluster.model.topology.nodeIndex.get(bare(query.node)) ?? null);
    const injected = injection.inject(mode, data, null, uplink, timeMs, false);
    const end = injected.reason === 'none' ? injected.verdict : `${injected.verdict} ${injected.reason}`;
    ends.set(end, (ends.get(end) ?? 0) + 1);
    if (results.length < most) results.push(describeInjected(injection, mode, data, injected, false));
    if (++done % SLICE === 0) await breathe();
  }
  return { mode, total, ends: Object.fromEntries([...ends].sort()), packets: results };
}

function bare(node: string): string {
  return node.replace(/^node\//, '');
}

function describeInjected(
  injection: Injection,
  mode: Mode,
  sent: Uint8Array,
  injected: Injected,
  withStory: boolean,
): object {
  const { image, model } = injection.injectorOf(mode);
  const { verdict, reason, translated, masquerade, frame, fragments, answers } = injected;
  const node = model.topology.nodes[injected.node]?.metadata.name ?? null;
  const pod = model.topology.endpoints[injected.endpoint]?.pod.metadata;
  const arrived = pod === undefined ? `node ${node}` : `pod ${pod.namespace}/${pod.name}`;
  return {
    sent: describeFrame(sent).summary,
    verdict,
    reason,
    translated,
    masquerade,
    node,
    deliveredTo: verdict === 'delivered' ? arrived : null,
    frame: frame === null ? null : describeOut(frame),
    fragments: fragments.map(describeOut),
    answers: answers.map(describeOut),
    ...(withStory ? { hops: tellStory(image, injected.events).hops } : {}),
  };
}

function describeOut(frame: Uint8Array): object {
  const { summary } = describeFrame(frame);
  return { hex: Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength).toString('hex'), summary };
}
