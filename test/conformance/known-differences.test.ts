/** The modes differ where they do in reality, and nowhere else. */

import { describe, expect, it } from 'vitest';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { clientOf, KNOWN_DIFFERENCES } from './known-differences.ts';
import { LAYOUTS, PROTOCOLS, questionsAbout, reachableService, worldOf } from './matrix-world.ts';
import { ask, modelOf } from './run-world.ts';

describe('iptables and ebpf', () => {
  it('differ by name only', () => {
    const used = new Set<string>();
    const unexplained: string[] = [];
    for (const sourceRanges of [[], ['100.64.0.0/10', '64:ff9b::/96']]) {
      const services = Object.values(LAYOUTS).flatMap((layout, i) =>
        PROTOCOLS.map((protocol, p) =>
          reachableService(i * PROTOCOLS.length + p + 1, protocol, layout, {
            sourceRanges,
            externalLocal: i % 2 === 1,
          }),
        ),
      );
      const world = worldOf(services);
      const model = modelOf(world);
      const [iptables, ebpf] = [new Simulator(model, 'iptables'), new Simulator(model, 'ebpf')];
      for (const question of services.flatMap(questionsAbout)) {
        const [one, other] = [ask(iptables, question), ask(ebpf, question)];
        if (JSON.stringify(one) === JSON.stringify(other)) continue;
        const names = KNOWN_DIFFERENCES.filter((difference) =>
          difference.explains(world, question, clientOf(world, question)),
        );
        for (const { name } of names) used.add(name);
        if (names.length === 0) unexplained.push(JSON.stringify({ question, one, other }));
      }
    }
    expect(unexplained).toEqual([]);
    expect(KNOWN_DIFFERENCES.map(({ name }) => name).filter((name) => !used.has(name))).toEqual([]);
  });
});
