/** The modes differ where they do in reality, and nowhere else: each against the iptables mode. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Mode } from '../../control/src/model/datapath.ts';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { IPVS_DIFFERENCES } from './ipvs-differences.ts';
import { clientOf, type Difference, KNOWN_DIFFERENCES } from './known-differences.ts';
import { address, LAYOUTS, PROTOCOLS, questionsAbout, reachableService, WORLD_NODES, worldOf } from './matrix-world.ts';
import { NFTABLES_DIFFERENCES } from './nftables-differences.ts';
import { allQuestions, randomService, seeds } from './random-world.ts';
import { ask, modelOf, type Question } from './run-world.ts';
import type { World, WorldService } from './world.ts';

const OTHERS: readonly [Mode, readonly Difference[]][] = [
  ['ebpf', KNOWN_DIFFERENCES],
  ['nftables', NFTABLES_DIFFERENCES],
  ['ipvs', IPVS_DIFFERENCES],
];
/** Further addresses of node-1. */
const SECOND = ['192.168.9.1', 'fd00:168:9::1'];
const UNALLOCATED = ['10.96.200.200', 'fd00:10:96::c8c8'];

/** Nodes with more than one address of a family. */
function withSecondAddresses(world: World): World {
  const nodes = WORLD_NODES.map((node, i) => ({
    ...node,
    addresses: i === 0 ? [...node.addresses, ...SECOND] : node.addresses,
  }));
  return { ...world, nodes };
}

/** A Service that has the address of node-2 as an external IP. */
function ofNodeAddress(): WorldService {
  return reachableService(220, 'TCP', LAYOUTS['both']!, { externalIPs: [address(4, 'node', 2)] });
}

/** What nobody asks in the matrix: nodePorts at second addresses, and addresses of Services that do not exist. */
function furtherQuestions(questions: readonly Question[]): Question[] {
  return questions.flatMap((question) => {
    const sixth = question.to.includes(':') ? 1 : 0;
    return [
      ...(question.port >= 30_000 ? [{ ...question, to: SECOND[sixth]! }] : []),
      ...(question.port % 50 === 0 ? [{ ...question, to: UNALLOCATED[sixth]! }] : []),
    ];
  });
}

/** Differences that nothing explains, as text; `used` collects the names of those that explained some. */
function unexplained(
  world: World,
  questions: readonly Question[],
  mode: Mode,
  known: readonly Difference[],
  used: Set<string>,
): string[] {
  const model = modelOf(
    world,
    questions.flatMap(({ from, to }) => [from, to]),
  );
  const [iptables, other] = [new Simulator(model, 'iptables'), new Simulator(model, mode)];
  return questions.flatMap((question) => {
    const answers = [ask(iptables, question), ask(other, question)].map((answer) => JSON.stringify(answer));
    if (answers[0] === answers[1]) return [];
    const names = known.filter((difference) => difference.explains(world, question, clientOf(world, question)));
    for (const { name } of names) used.add(name);
    return names.length === 0
      ? [`${mode}: ${JSON.stringify(question)}\n  iptables ${answers[0]}\n  ${mode} ${answers[1]}`]
      : [];
  });
}

describe.each(OTHERS)('%s', (mode, known) => {
  it('differs from iptables by name only', () => {
    const used = new Set<string>();
    const found: string[] = [];
    for (const sourceRanges of [[], ['100.64.0.0/10', '64:ff9b::/96']]) {
      const services = Object.values(LAYOUTS).flatMap((layout, i) =>
        PROTOCOLS.map((protocol, p) =>
          reachableService(i * PROTOCOLS.length + p + 1, protocol, layout, {
            sourceRanges,
            externalLocal: i % 2 === 1,
          }),
        ),
      );
      const questions = services.flatMap(questionsAbout);
      const all = [...questions, ...furtherQuestions(questions)];
      found.push(...unexplained(withSecondAddresses(worldOf(services)), all, mode, known, used));
    }
    const odd = ofNodeAddress();
    found.push(...unexplained(worldOf([odd]), questionsAbout(odd), mode, known, used));
    expect(found).toEqual([]);
    expect(known.map(({ name }) => name).filter((name) => !used.has(name))).toEqual([]);
  });

  it.each(seeds)('differs by name only in random clusters, seed %i', (seed) => {
    fc.assert(
      fc.property(fc.tuple(randomService(1), randomService(2), randomService(3)), (services) => {
        const questions = allQuestions(services);
        expect(unexplained(worldOf(services), questions, mode, known, new Set())).toEqual([]);
      }),
      { seed, numRuns: Number(process.env['FLATPATH_RUNS'] ?? 15) },
    );
  });
});
