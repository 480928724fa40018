/** Streams of every protocol and family through both modes, one station, breath by breath. */
import { describe, expect, it } from 'vitest';
import { COUNT_ENTERED, countOf } from '../../engine/src/programs/count.ts';
import { MODE_EBPF, MODE_IPTABLES } from '../../engine/src/programs/datapath.ts';
import { VERDICT_DELIVERED } from '../../engine/src/programs/verdict.ts';
import { compileTraffic } from '../../engine/src/traffic/compile.ts';
import {
  createStation,
  STATION_BROKEN,
  STATION_COUNTS,
  STATION_OPENED,
  STATION_STRAY,
} from '../../engine/src/traffic/station.ts';
import { RESPOND_ECHO, type StreamSpec } from '../../engine/src/traffic/stream.ts';
import { breathe, breatheSetup } from '../../engine/src/worker/breath.ts';
import { makeDatapath, service } from './small-cluster.ts';
import { endsByName, endsOf, fromHost, fromOutside, fromPod, stream, toService } from './streams.ts';

const TCP = 6;
const UDP = 17;
const SCTP = 132;

function run(
  mode: number,
  streams: StreamSpec[],
  packets: number,
  services = [service(1), service(2, { proto: UDP }), service(3, { proto: SCTP, targetPort: 80 })],
) {
  const traffic = compileTraffic({ seed: 7, packets, packetsPerSecond: 100_000, streams });
  const dp = makeDatapath(mode, services);
  const st = createStation(traffic, dp, 0, 1, new Float64Array(STATION_COUNTS));
  st.untilVerify = 1;
  const verifyAll = () => {
    st.untilVerify = 1;
  };
  for (let first = 0; first < traffic.flows.count; first += 255) {
    breatheSetup(st, first, Math.min(255, traffic.flows.count - first), 0);
    verifyAll();
  }
  const setup = dp.counters.slice();
  dp.counters.fill(0);
  for (let w = 0; w * 255 < packets; w++) {
    breathe(st, w, Math.min(255, packets - w * 255), 10 + w, 0.01);
    verifyAll();
  }
  return { st, dp, setup, counts: st.counts };
}

describe.each([
  ['iptables', MODE_IPTABLES],
  ['ebpf', MODE_EBPF],
])('%s', (_, mode) => {
  it.each([4, 6])(
    'established TCP flows over IPv%i: every packet is answered, nothing is stray or broken',
    (family) => {
      const svc = service(1);
      const s = stream({
        family,
        sources: [fromPod(0, family), fromPod(9, family)],
        destinations: [toService(svc, family)],
      });
      const { dp, setup, counts } = run(mode, [s], 2550);
      expect(counts[STATION_OPENED]).toBe(300);
      expect(setup[COUNT_ENTERED]).toBe(900);
      expect(endsByName(dp.counters)).toEqual({ entered: 5100, [`${VERDICT_DELIVERED}/0`]: 5100 });
      expect(counts[STATION_STRAY]).toBe(0);
      expect(counts[STATION_BROKEN]).toBe(0);
      expect(setup[countOf(VERDICT_DELIVERED, 0)]).toBe(900);
    },
  );

  it.each([
    ['TCP', TCP, 1],
    ['UDP', UDP, 2],
    ['SCTP', SCTP, 3],
  ])('new flows of %s, both families, pods and hosts: conserved, none stray', (_name, proto, n) => {
    const svc = service(n, { proto });
    for (const family of [4, 6]) {
      const s = stream({
        family,
        proto,
        newFlows: 0.3,
        respond: RESPOND_ECHO,
        sources: [fromPod(0, family), fromPod(9, family), fromPod(1, family), fromHost(2, family)],
        destinations: [toService(svc, family)],
        sizes: [
          { bytes: 128, weight: 3 },
          { bytes: 1400, weight: 1 },
        ],
      });
      const { dp, counts } = run(mode, [s], 5100);
      console.log(_, _name, family, endsByName(dp.counters), Array.from(counts));
      expect(endsOf(dp.counters)).toBe(dp.counters[COUNT_ENTERED]);
      expect(counts[STATION_BROKEN]).toBe(0);
    }
  });
});
void fromOutside;
