/**
 * The command line: one file per command, gathered here; only the one that is asked for is loaded. Exit codes: 0 ok, 1 the answer is no, 2 bad input or usage.
 */
import { Command, CommanderError } from 'commander';
import { EXIT_BAD, reportFailure } from './exit.ts';

const program = new Command('flatpath')
  .description("Runs a Kubernetes cluster's packets before the cluster does.")
  .version('0.1.0')
  .showHelpAfterError('(add --help for the options and an example)')
  .exitOverride();

const COMMANDS: Readonly<Record<string, () => Promise<(program: Command) => void>>> = {
  up: async () => (await import('./up.ts')).addUp,
  run: async () => (await import('./run.ts')).addRun,
  trace: async () => (await import('./trace.ts')).addTrace,
  test: async () => (await import('./test.ts')).addTest,
  reach: async () => (await import('./reach.ts')).addReach,
  diff: async () => (await import('./diff.ts')).addDiff,
  lint: async () => (await import('./lint.ts')).addLint,
  render: async () => (await import('./render.ts')).addRender,
  replay: async () => (await import('./replay.ts')).addReplay,
};
const asked = process.argv[2] ?? '';
for (const name of Object.hasOwn(COMMANDS, asked) ? [asked] : Object.keys(COMMANDS)) (await COMMANDS[name]!())(program);

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
