/**
 * The command line: one file per command, gathered here. Exit codes: 0 ok, 1 the answer is no, 2 bad input or usage.
 */
import { Command, CommanderError } from 'commander';
import { EXIT_BAD, reportFailure } from './exit.ts';
import { addRender } from './render.ts';
import { addReplay } from './replay.ts';
import { addRun } from './run.ts';
import { addTest } from './test.ts';
import { addTrace } from './trace.ts';
import { addUp } from './up.ts';

const program = new Command('flatpath')
  .description("Runs a Kubernetes cluster's packets before the cluster does.")
  .version('0.1.0')
  .showHelpAfterError('(add --help for the options and an example)')
  .exitOverride();

for (const add of [addUp, addRun, addTrace, addTest, addRender, addReplay]) add(program);

// A reader that closes the pipe early (head, less) is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(process.exitCode ?? 0);
  throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  // commander has printed its own message; help and version end with 0.
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : EXIT_BAD;
  else process.exitCode = reportFailure(error);
}
