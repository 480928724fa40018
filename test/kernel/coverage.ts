/**
 * What the judged packets went through, counted from flatpath's own events: kinds of chains, matches and targets of the
 * rules that applied, states of conntrack, and the features of Services and packets.
 */

import type { Image } from '../../control/src/compile/image.ts';
import { tellStory } from '../../control/src/explain/story.ts';
import type { Mode } from '../../control/src/model/datapath.ts';
import { type Flow, placeName, type Step } from './case.ts';
import type { Outcome } from './flatpath-node.ts';
import { requiredKinds, ruleKinds, shortName } from './rule-kinds.ts';

export class Coverage {
  private readonly mode: Mode;
  private readonly counts = new Map<string, number>();
  private readonly expected: Set<string>;
  private readonly texts = new Map<string, readonly string[]>();

  constructor(mode: Mode) {
    this.mode = mode;
    this.expected = new Set(requiredKinds(mode));
  }

  /** Expects every kind that an image's rules are of. */
  expect({ rules4, rules6, nft }: Image): void {
    for (const rules of [rules4, rules6, nft?.family4 ?? null, nft?.family6 ?? null]) {
      for (let id = 0; rules !== null && id < rules.ruleCount; id++) {
        const { table, chain, text } = rules.rule(id);
        for (const kind of this.kindsOf(table, chain, text)) this.expected.add(kind);
      }
    }
  }

  /** Counts a packet and what it met. */
  note(flow: Flow, step: Step, image: Image, outcome: Outcome): void {
    for (const feature of [...flow.features, ...packetFeatures(flow, step, outcome)]) this.count(`feature ${feature}`);
    for (const { steps } of tellStory(image, outcome.events).hops) {
      for (const met of steps) {
        if (met.step === 'rule') for (const kind of this.kindsOf(met.table, met.chain, met.rule)) this.count(kind);
        else if (met.step === 'map' && met.entry !== null) this.count(`set ${shortName(met.map)}`);
        else if (met.step === 'conntrack') this.count(`conntrack ${met.state} ${met.direction}`);
      }
    }
  }

  /** Kinds and features that should have been met and were not. */
  missing(): string[] {
    return [...this.expected].filter((name) => !this.counts.has(name)).sort();
  }

  /** One line a kind, sorted. */
  lines(): string[] {
    const sorted = [...this.counts].sort(([a], [b]) => (a < b ? -1 : 1));
    return sorted.map(([name, count]) => `${String(count).padStart(8)}  ${name}`);
  }

  private kindsOf(table: string, chain: string, rule: string): readonly string[] {
    const key = `${table} ${chain} ${rule}`;
    let kinds = this.texts.get(key);
    if (kinds === undefined) {
      kinds = ruleKinds(this.mode, table, chain, rule);
      this.texts.set(key, kinds);
    }
    return kinds;
  }

  private count(name: string): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }
}

function packetFeatures(flow: Flow, step: Step, outcome: Outcome): string[] {
  const family = `IPv${flow.family}`;
  const features = [`${flow.protocol} over ${family}`, `from ${flow.from.kind}`];
  if (flow.dress !== 'plain') features.push(`${flow.dress} over ${family}`);
  if (step.kind === 'error') features.push(`error of the ${step.from}`, `error ${step.error} over ${family}`);
  else features.push(`${flow.protocol} ${step.form}`, `${step.from}'s packet`);
  if (outcome.reason !== 'none') features.push(`ends ${outcome.reason}`);
  for (const { place, isAnswer } of outcome.outgoing) {
    features.push(isAnswer ? `answer over ${family}` : `out to ${place.split(' ')[0]}`);
    if (!isAnswer && step.from === 'client' && place === placeName(flow.from)) features.push('hairpin');
  }
  return features;
}
