/** A story as text: hop by hop, what each decision was and which object and field it came from. */

import { describeOrigin, type Origin } from '../model/origin.ts';
import { describeAnswer } from './judgement.ts';
import { describeTuple, type Hop, type Step, type Story } from './story.ts';

/** Colours, or nothing in a pipe. */
export interface StoryPalette {
  good(text: string): string;
  bad(text: string): string;
  dim(text: string): string;
  bold(text: string): string;
}

/** Lines of a story, without a line end. */
export function formatStory(story: Story, palette: StoryPalette): string[] {
  const lines: string[] = [];
  for (const hop of story.hops) {
    lines.push(`${palette.bold(hop.node === '' ? 'socket' : hop.node)}  ${describeEntry(hop)}`);
    if (hop.tuple !== null) lines.push(`  ${describeTuple(hop.tuple)}`);
    hop.steps.forEach((step, i) => {
      // The judgement behind a rule or entry names the field that it came from.
      const isJudged = hop.steps[i + 1]?.step === 'judgement' && (step.step === 'rule' || step.step === 'map');
      lines.push(...formatStep(isJudged ? { ...step, origin: null } : step, hop, palette));
    });
  }
  if (story.lost > 0) lines.push(palette.bad(`${story.lost} further events were not kept`));
  return lines;
}

function describeEntry(hop: Hop): string {
  switch (hop.entry) {
    case 'pod':
      return `enters by the interface of ${hop.pod === null ? 'an unlisted pod' : `pod ${hop.pod}`}`;
    case 'host':
      return 'sent by a local process of the node';
    case 'answer':
      return 'answered by the node itself';
    case 'socket':
      return `the socket of ${hop.pod === null ? 'the client' : `pod ${hop.pod}`} connects, no packet exists yet`;
    default:
      return hop.interface === null ? 'enters by the uplink' : `enters by interface ${hop.interface}`;
  }
}

function formatStep(step: Step, hop: Hop, palette: StoryPalette): string[] {
  switch (step.step) {
    case 'hook':
      return [`  ${palette.bold(`${step.table} ${step.hook}`)}`];
    case 'base-chain': {
      const { table, chain, type, priority } = step;
      return [`  ${palette.bold(`${step.hook} ${chain}`)} ${palette.dim(`(${table}, ${type} ${priority})`)}`];
    }
    case 'rule':
      return [`    ${shorten(step.rule)}`, ...from(step.origin, palette)];
    case 'policy':
      return step.policy === 'ACCEPT' ? [] : [`    end of ${step.hook}: policy ${palette.bad(step.policy)}`];
    case 'conntrack':
      return [`  conntrack ${step.state}${step.direction === 'reply' ? ' (reply)' : ''}`];
    case 'choice':
      // What was chosen follows: the backend, or the rule.
      if (step.chooser === 'selection') return [`    takes backend ${step.taken + 1} of ${step.options}`];
      if (step.chooser === 'scheduler')
        return [`    the scheduler takes real server ${step.taken + 1} of ${step.options}`];
      if (step.taken === 0) return ['    statistic takes the next rule on this path'];
      return [`    statistic passes by ${step.by}`, ...from(step.origin, palette)];
    case 'map': {
      // A lookup of a rule stands among the rules of its chain.
      const isOfRule = step.map.startsWith('ipset ') || hop.steps.some((other) => other.step === 'base-chain');
      const inside = isOfRule ? '  ' : '';
      const entry = step.entry === null ? palette.dim('no entry') : shorten(step.entry);
      return [`  ${inside}${step.map}: ${entry}`, ...from(step.origin, palette)];
    }
    case 'judgement': {
      const paint = step.verdict === 'denied' ? palette.bad : palette.good;
      return [`    ${paint(describeAnswer(step))}`];
    }
    case 'nat':
      return [`  ${step.kind} NAT: ${describeTuple(step.before)}`, `    becomes ${describeTuple(step.after)}`];
    case 'route':
      return [`  route: ${describeRoute(step.to, step.name)}`];
    case 'interface':
      return [`  leaves by interface ${step.name}`];
    case 'verdict': {
      const reason = step.reason === 'none' ? '' : ` by ${hop.node}: ${step.reason}, ${step.sentence}`;
      const paint = step.verdict === 'delivered' || step.verdict === 'forwarded' ? palette.good : palette.bad;
      return [`  ${paint(step.verdict)}${reason}${step.verdict === 'delivered' ? describeReceiver(hop) : ''}`];
    }
  }
}

/** A rule as a line of a story: of many elements in braces the first and the last. */
function shorten(rule: string): string {
  return rule.replace(/\{ ([^,{}]+),[^{}]*, ([^,{}]+) \}/, '{ $1, … $2 }');
}

/** To whom a hop's packet was delivered: where its last route led. */
function describeReceiver(hop: Hop): string {
  const route = hop.steps.findLast((step) => step.step === 'route');
  return route?.step === 'route' && (route.to === 'pod' || route.to === 'loopback')
    ? ` to pod ${route.name}`
    : ` to ${hop.node} itself`;
}

function describeRoute(to: string, name: string): string {
  switch (to) {
    case 'pod':
      return `to pod ${name} on this node`;
    case 'node':
      return `to node ${name}`;
    case 'loopback':
      return 'to the pod itself, by its own loopback';
    case 'host':
      return 'to this node itself';
    case 'uplink':
      return name === '' ? 'out of the cluster by the uplink' : `by interface ${name}`;
    default:
      return 'nowhere';
  }
}

function from(origin: Origin | null, palette: StoryPalette): string[] {
  return origin === null ? [] : [palette.dim(`      ← ${describeOrigin(origin)}`)];
}
