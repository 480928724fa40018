/** A trace as text: the story of the branch that decides, the verdict, what policies said, and every path. */

import { describeAnswer, type PolicyAnswer } from '../explain/judgement.ts';
import { formatStory, type StoryPalette } from '../explain/story-text.ts';
import { answersOf } from './branch-policies.ts';
import { describePolicy } from './not-enforced.ts';
import { summarizeBranches } from './suite.ts';
import type { Trace } from './trace-report.ts';

/** Lines without a line end. */
export function formatTrace(trace: Trace, palette: StoryPalette): string[] {
  const { branches, stories, policies, notEnforced } = trace;
  const summary = summarizeBranches(branches);
  // The story worth telling is that of a branch that decides the verdict.
  const decides = branches.findIndex(({ verdict, reason }) => verdict === summary.verdict && reason === summary.reason);
  const told = decides < stories.length ? decides : 0;
  const lines = branches.length > 1 ? [palette.dim(`path ${told + 1} of ${branches.length}`)] : [];
  lines.push(...formatStory(stories[told]!, palette));
  const reason = summary.reason === 'none' ? '' : ` (${summary.reason})`;
  lines.push('', `verdict: ${paintVerdict(summary.verdict, palette)}${reason}`);
  lines.push(
    `a Service translated it: ${yesNo(summary.translated)}, and masqueraded its source: ${yesNo(summary.masquerade)}`,
  );
  for (const answer of answersOf(policies[told]!)) lines.push(paintAnswer(answer, palette));
  if (notEnforced.length > 0) {
    lines.push(palette.bad(`not enforced, but may change this answer: ${notEnforced.map(describePolicy).join(', ')}`));
  }
  if (branches.length > 1 || summary.backends.length > 0) lines.push(...formatPaths(trace, told));
  return lines;
}

/** Every path with its end, and who denies it where the path that was told does not say so. */
function formatPaths({ simulator, branches, policies }: Trace, told: number): string[] {
  const said = new Set(answersOf(policies[told]!).map(describeAnswer));
  const lines = [`${branches.length} possible ${branches.length === 1 ? 'path' : 'paths'}:`];
  branches.forEach((branch, i) => {
    const reason = branch.reason === 'none' ? '' : ` (${branch.reason})`;
    const end = simulator.describeTarget(branch) ?? `${branch.verdict}${reason}`;
    const source = branch.masquerade ? ', source masqueraded' : '';
    lines.push(`  ${branch.backend ?? branch.target.address.text}  ${end}${source}`);
    for (const answer of answersOf(policies[i]!)) {
      const sentence = describeAnswer(answer);
      if (answer.verdict === 'denied' && !said.has(sentence)) lines.push(`    ${sentence}`);
    }
  });
  return lines;
}

function paintVerdict(verdict: string, palette: StoryPalette): string {
  return verdict === 'delivered' || verdict === 'forwarded' ? palette.good(verdict) : palette.bad(verdict);
}

function paintAnswer(answer: PolicyAnswer, palette: StoryPalette): string {
  const text = describeAnswer(answer);
  if (answer.verdict === 'denied') return palette.bad(text);
  return answer.because === 'rule' ? palette.good(text) : text;
}

function yesNo(value: boolean): string {
  return value ? 'yes' : 'no';
}
