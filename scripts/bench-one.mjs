/** Runs one benchmark file: its default export answers a tinybench Bench, or prints its own report. */
import { cpus } from 'node:os';
import { pathToFileURL } from 'node:url';

const { default: make } = await import(pathToFileURL(process.argv[2]).href);
// Files without a default export only hold workloads for the others.
if (typeof make === 'function') {
  const bench = await make();
  if (bench !== undefined) {
    await bench.run();
    console.log(`${cpus()[0]?.model ?? 'unknown processor'}, Node ${process.versions.node}`);
    console.table(bench.table());
  }
}
