/** Fragments of a capture, through the injector, which compiles nodes when a frame meets them. */
import { describe, expect, it } from 'vitest';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { modelCluster } from '../../control/src/compile/image.ts';
import { BUILT_MODES, resolveDatapath } from '../../control/src/model/datapath.ts';
import { Injector } from '../../control/src/probe/injector.ts';
import { buildFrame } from '../../engine/src/wire/build.ts';
import { join, split } from '../programs/split.ts';
import { client, FAMILIES, labObjects, udp, vip, webService } from './lab.ts';

describe.each(BUILT_MODES)('%s', (mode) => {
  it.each(FAMILIES)('come out as one datagram’s, of the other node too, IPv%i', (family) => {
    const { cluster } = loadCluster([], { objects: labObjects([webService(0, ['web-b'], 'UDP')]) });
    const injector = new Injector(modelCluster(cluster, resolveDatapath()), mode);
    const whole = buildFrame(udp(client[family], 5000, vip(0)[family], 80, 300));
    const sent = [...split(whole, [96, 192], 9)];
    const results = sent.map((frame, i) => injector.inject(frame, null, null, i, false));
    const out = results.flatMap(({ frame, fragments }) => [...(frame === null ? [] : [frame]), ...fragments]);
    const last = mode === 'ebpf' ? ['delivered', 'delivered', 'delivered'] : ['held', 'held', 'delivered'];
    expect(results.map(({ verdict, reason }) => `${verdict} ${reason}`)).toEqual(
      last.map((verdict) => `${verdict} none`),
    );
    expect(out.map(({ length }) => length)).toEqual(sent.map(({ length }) => length));
    // The same datagram once more, whole: same bytes, but for what every packet has of its own.
    const again = injector.inject(join(sent), null, null, 10, false);
    expect(again.verdict).toBe('delivered');
    expect(join(out)).toEqual(again.frame);
    expect(results.at(-1)!.translated).toBe(true);
  });
});
