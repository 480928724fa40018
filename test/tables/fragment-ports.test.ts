import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createFragmentPorts,
  type FragmentPorts,
  getFragmentPorts,
  infoOfEntry,
  portsOfEntry,
  protoOfEntry,
  setFragmentPorts,
} from '../../engine/src/tables/fragment-ports.ts';
import { runs } from './runs.ts';

const set = (f: FragmentPorts, shard: number, id: number, ports: number) =>
  setFragmentPorts(f, shard, 4, id, id, 0, 0, id & 3, 9, 0, 0, 0, ports, 17, id & 255);
const get = (f: FragmentPorts, shard: number, id: number) =>
  getFragmentPorts(f, shard, 4, id, id, 0, 0, id & 3, 9, 0, 0, 0);

describe('ports of fragmented datagrams', () => {
  it('are those last written, and go by turns, sparing what was read', () => {
    const step = fc.record({ id: fc.nat(40), write: fc.boolean(), ports: fc.integer() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), fc.integer({ min: 1, max: 12 }), (steps, entries) => {
        const f = createFragmentPorts(entries * 2, 2);
        // The clock, told naively: places in a ring, each with an id and whether it was read.
        const ring: { id: number; ports: number; read: boolean }[] = [];
        let turn = 0;
        for (const { id, write, ports } of steps) {
          const found = ring.find((entry) => entry.id === id);
          if (!write) {
            const at = get(f, 1, id);
            expect(at === -1).toBe(found === undefined);
            if (found === undefined) continue;
            found.read = true;
            expect([portsOfEntry(f, at), protoOfEntry(f, at), infoOfEntry(f, at)]).toEqual([found.ports, 17, id & 255]);
            continue;
          }
          set(f, 1, id, ports);
          if (found !== undefined) {
            found.ports = ports;
            found.read = true;
          } else if (ring.length < entries) ring.push({ id, ports, read: false });
          else {
            while (ring[turn]!.read) {
              ring[turn]!.read = false;
              turn = (turn + 1) % entries;
            }
            ring[turn] = { id, ports, read: false };
            turn = (turn + 1) % entries;
          }
        }
        expect(get(f, 0, 1)).toBe(-1);
      }),
      runs(200),
    );
  });
});
