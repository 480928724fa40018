/** Policy maps, in bursts: 500 maps of 600 peers, port maps of one port and of twenty; peer, port, and both. */
import {
  addInterval,
  createPolicyMaps,
  findDecision,
  findPortMap,
  setMapDefault,
  setMapPeer,
  takePortMap,
} from '@flatpath/engine/tables/policy-map';
import { Bench } from 'tinybench';
import { addBaseline, BURST, indices, sink } from './workload.ts';

const MAPS = 500;
const PEERS = 600;
/** Of these every third has an entry in a map. */
const OWN_PEERS = PEERS / 3;
const SLOTS = 4;

export default async function (): Promise<Bench> {
  const bench = new Bench({ name: 'policy maps', time: 200, warmupTime: 50 });
  const picks = indices(1, 65_536, MAPS * PEERS);
  addBaseline(bench, picks);
  for (const ports of [1, 20]) {
    const p = createPolicyMaps(MAPS, 2 * MAPS, 2 * MAPS * (SLOTS + 2 * ports), MAPS * OWN_PEERS);
    for (let map = 0; map < MAPS; map++) {
      for (let i = 0; i < 2; i++) addPorts(p, ports);
      setMapDefault(p, map, 2 * map);
      for (let peer = 0; peer < PEERS; peer += 3) setMapPeer(p, map, peer, 2 * map + 1);
    }
    let at = 0;
    bench.add(`peer and port, ${ports} ports`, () => {
      let sum = 0;
      for (let i = 0; i < BURST; i++) {
        const pick = picks[(at + i) & 65_535];
        const portMap = findPortMap(p, pick % MAPS, Math.trunc(pick / MAPS));
        sum += findDecision(p, portMap, 0, 1000 + (pick & 1023));
      }
      at += BURST;
      sink[0] ^= sum;
    });
  }
  return bench;
}

/** A port map that allows single ports, ten apart, of TCP. */
function addPorts(p: ReturnType<typeof createPolicyMaps>, ports: number): void {
  const portMap = takePortMap(p);
  addInterval(p, portMap, 0, 0, 1);
  for (let port = 0; port < ports; port++) {
    addInterval(p, portMap, 0, 1000 + 10 * port, 0);
    addInterval(p, portMap, 0, 1001 + 10 * port, 1);
  }
  for (let slot = 1; slot < SLOTS; slot++) addInterval(p, portMap, slot, 0, 1);
}
