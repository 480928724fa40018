/** How a command ends: 0 ok, 1 the answer is no, 2 bad input or usage (DESIGN §7). */
import { describeProblem, InputError } from '../cluster/problem.ts';
import { UnresolvedReference } from '../probe/reference.ts';

export const EXIT_OK = 0;
export const EXIT_NO = 1;
export const EXIT_BAD = 2;
/** Ended by Ctrl-C, as shells count it. */
export const EXIT_INTERRUPTED = 130;

/** Bad usage, with the sentence to print. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

/** Prints what went wrong, a line a problem, and answers the exit code. Anything unforeseen keeps its stack. */
export function reportFailure(error: unknown): number {
  if (error instanceof InputError) {
    for (const problem of error.problems) process.stderr.write(`error: ${describeProblem(problem)}\n`);
  } else if (error instanceof UsageError || error instanceof UnresolvedReference) {
    process.stderr.write(`error: ${error.message}\n`);
  } else {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  }
  return EXIT_BAD;
}
