/**
 * Writes docs/fidelity.md from docs/fidelity.json: what each mode was compared with, and what came of it.
 *
 *     node scripts/write-fidelity.mjs           the page from the figures
 *     node scripts/write-fidelity.mjs --take    first takes the figures of the last run of the kernel judge
 *                                               (test/kernel/result.json) into docs/fidelity.json
 *     node scripts/write-fidelity.mjs --check   says whether the page is what the figures make; exit 1 if not
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const FIGURES = join(root, 'docs', 'fidelity.json');
const PAGE = join(root, 'docs', 'fidelity.md');
const LAST_RUN = join(root, 'test', 'kernel', 'result.json');

const read = (path) => JSON.parse(readFileSync(path, 'utf8'));
const number = (value) => value.toLocaleString('en-US');

/** The page that some figures make. */
export function fidelityPage({ judged, modelled }) {
  const kernelRows = judged.map(
    ({ mode, kernel, clusters, packets, differences, seed }) =>
      `| ${mode} | Linux ${kernel} | ${number(clusters)} | ${number(packets)} | ${number(differences)} | ${seed} |`,
  );
  const modelRows = modelled.map(({ mode, against, what, test }) => `| ${mode} | ${against} | ${what} | \`${test}\` |`);
  return `# Fidelity

What each mode was compared with. Made from \`docs/fidelity.json\` by \`node scripts/write-fidelity.mjs\`.

## The kernel as judge

\`npm run test:kernel\` draws random clusters, loads the rules that flatpath renders for a node into a network namespace
with the real \`ipset restore\` and \`iptables-restore\`, \`ip6tables-restore\` or \`nft -f\`, replays the same random packets into
the kernel and into flatpath, and compares what comes out of every interface: which one, every byte, answers to refused packets, and that
nothing comes where nothing should. Only chance may differ: the backend, which has to be one that flatpath names; the port
or identifier of a masqueraded source, which has to lie in the kernel's range; the identification of packets and fragments
that the node itself makes. The last run:

| mode | judge | clusters | packets | differences | seed |
| --- | --- | --- | --- | --- | --- |
${kernelRows.join('\n')}

The packets are of both families; TCP, UDP, SCTP, ICMP and others; new, established, replies, ICMP errors from server, client
and routers, INVALID ones (flags, windows, checksums, verification tags), fragments in and out of order, IP options and
extension headers, times to live that run out. They come from pods, from addresses of no pod, from other nodes, from
outside, and from processes of the node itself, real sockets whose packets the kernel makes. Random
policies stand in the rules. Every kind of chain, match, target, set, policy rule and Service feature has to be met in a run.

What the namespace has otherwise than a node in a rack: pods on veths without an address of the node's (or on a bridge
\`cni0\`, with local detection by bridge), static neighbours, no reverse-path filter, no rate limit of ICMP errors, no
redirects. \`test/kernel/node-namespace.ts\` lists every sysctl that the test sets.

## Models as judges

Where no kernel can be asked, models stand in, written for the tests from the documentation of the real system and kept apart
from flatpath's sources.

| mode | judge | what is compared | test |
| --- | --- | --- | --- |
${modelRows.join('\n')}
`;
}

function main(option) {
  if (option === '--take') {
    const figures = { ...read(FIGURES), judged: read(LAST_RUN) };
    writeFileSync(FIGURES, `${JSON.stringify(figures, null, 2)}\n`);
  } else if (option !== undefined && option !== '--check') {
    console.error('usage: write-fidelity.mjs [--take | --check]');
    return 2;
  }
  const page = fidelityPage(read(FIGURES));
  if (option !== '--check') {
    writeFileSync(PAGE, page);
    return 0;
  }
  if (readFileSync(PAGE, 'utf8') === page) return 0;
  console.error('docs/fidelity.md is not what docs/fidelity.json makes: run node scripts/write-fidelity.mjs');
  return 1;
}

process.exitCode = main(process.argv[2]);
