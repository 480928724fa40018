/** `flatpath up`: serves the API until Ctrl-C. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { isLoopbackHost } from '../api/guard.ts';
import { createServer } from '../api/server.ts';
import { MODES } from '../model/datapath.ts';
import { type ClusterOptions, readDatapath, readModes, reportModel } from './cluster-options.ts';
import { EXIT_OK, UsageError } from './exit.ts';

interface UpOptions extends Omit<ClusterOptions, 'file'> {
  readonly file?: string[];
  readonly host: string;
  readonly port: number;
  readonly mode?: string;
  readonly token?: string;
  readonly allowHost: string[];
  readonly logLevel: string;
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

export function addUp(program: Command): void {
  program
    .command('up')
    .description('serves the HTTP API over a cluster that can change')
    .option('-f, --file <path...>', 'manifests to begin with: files, folders, or - for stdin')
    .option('--datapath <file>', 'datapath configuration (the `datapath` block of a ConnectivityTest)')
    .option('--strict', 'objects that can change an answer but are not modelled end with exit code 2')
    .option('--host <address>', 'address to listen on', '127.0.0.1')
    .addOption(new Option('--port <number>', 'port to listen on, 0 for any').default(8470).argParser(readPort))
    .option(
      '--mode <mode>',
      `${MODES.join(', ')}: where a request names none; default: the cluster's own, else iptables`,
    )
    .addOption(new Option('--token <text>', 'what requests must carry as bearer token').env('FLATPATH_TOKEN'))
    .option('--allow-host <name...>', 'further names, with or without port, that requests may address', [])
    .addOption(new Option('--log-level <level>', 'log on stderr').choices(LOG_LEVELS).default('warn'))
    .addHelpText(
      'after',
      '\nExample:\n  flatpath up -f examples/shop\n  curl -s http://127.0.0.1:8470/api/v1/namespaces/shop/services',
    )
    .action(async (options: UpOptions) => {
      process.exitCode = await up(options);
    });
}

async function up(options: UpOptions): Promise<number> {
  const { host, port, token = '', allowHost } = options;
  if (!isLoopbackHost(host) && token === '') {
    throw new UsageError(`--host ${host} is not this machine alone: --token (or FLATPATH_TOKEN) must be set`);
  }
  const modes = options.mode === undefined ? [] : readModes(options.mode);
  if (modes.length > 1) throw new UsageError('--mode: one mode');
  const { app, cluster } = await createServer({
    paths: options.file ?? [],
    datapath: options.datapath === undefined ? {} : readDatapath(options.datapath),
    mode: modes[0] ?? null,
    token,
    allowedHosts: isAnyAddress(host) ? allowHost : [host, ...allowHost],
    logLevel: options.logLevel,
  });
  reportModel(cluster.model, options.strict === true);
  let address: string;
  try {
    address = await app.listen({ host, port });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  // Whoever reads this line may ask at once: the server listens.
  process.stdout.write(`flatpath listens on ${address}\n`);
  await signalled();
  await app.close();
  return EXIT_OK;
}

/** Resolves at the first Ctrl-C or SIGTERM; the next one ends the process as it ever does. */
function signalled(): Promise<void> {
  return new Promise((resolve) => {
    const signals = ['SIGINT', 'SIGTERM'] as const;
    const stop = (): void => {
      for (const signal of signals) process.removeListener(signal, stop);
      resolve();
    };
    for (const signal of signals) process.on(signal, stop);
  });
}

function isAnyAddress(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

function readPort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new InvalidArgumentError('a port is a number from 0 to 65535');
  return port;
}
