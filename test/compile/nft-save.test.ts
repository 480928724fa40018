/**
 * What is printed against the real nft: loaded into a network namespace and listed again, as text and as JSON, every set,
 * element, chain and rule must come back as it was. Elements of hashed sets have no order there, priorities have names.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { renderNft } from '../../control/src/compile/nft-save.ts';
import { kubeProxyConfig, makeCluster, makeService, makeSlice } from './fixture.ts';
import { randomCluster, randomConfig, seeded } from './random-cluster.ts';

/** A network namespace of its own; without root also a user namespace, in which we are root. */
const UNSHARE = process.getuid?.() === 0 ? '-n' : '-rn';

const available = spawnSync('unshare', [UNSHARE, 'nft', 'list', 'ruleset']).status === 0;
if (!available) {
  if (process.env['FLATPATH_REQUIRE_ALL'] === '1') throw new Error('nft in a network namespace is missing');
  console.log('skipped: nft in a network namespace is missing');
}

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'flatpath-nft-'));
});
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Loads each text into a namespace of its own and answers what the real tool lists there, as text and as JSON. */
function throughKernel(texts: readonly string[]): [string, string][] {
  texts.forEach((text, i) => {
    writeFileSync(join(folder, `${i}`), text);
  });
  const script = `for i in $(seq 0 ${texts.length - 1}); do
    unshare ${UNSHARE} sh -c "nft -f ${folder}/$i && nft list ruleset && printf '\\0' && nft -j list ruleset" || exit 1
    printf '\\0'
  done`;
  const { status, stdout, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`${stderr}\n${texts.join('\n\n')}`);
  const parts = stdout.split('\0');
  return texts.map((_, i) => [parts[2 * i]!, parts[2 * i + 1]!]);
}

const PRIORITIES: Readonly<Record<string, number>> = { raw: -300, mangle: -150, dstnat: -100, filter: 0, srcnat: 100 };

/** A table's sets and chains by their first line; elements of sets apart from their other lines, in order of their text. */
function readListing(text: string): Record<string, Record<string, { lines: string[]; elements: string[] }>> {
  const tables: Record<string, Record<string, { lines: string[]; elements: string[] }>> = {};
  let table: Record<string, { lines: string[]; elements: string[] }> = {};
  let block = { lines: [] as string[], elements: [] as string[] };
  let inElements = false;
  for (const line of text.split('\n')) {
    if (line.startsWith('table ')) {
      table = {};
      tables[line] = table;
    } else if (line.startsWith('\tset ') || line.startsWith('\tmap ') || line.startsWith('\tchain ')) {
      block = { lines: [], elements: [] };
      table[line.trim()] = block;
    } else if (line.startsWith('\t\telements = {') || inElements) {
      const items = line.trim().replace('elements = {', '').replace(/\}$/, '');
      // No key, comment or verdict of ours holds a comma.
      for (const item of items.split(',')) if (item.trim() !== '') block.elements.push(item.trim());
      inElements = !line.endsWith('}');
    } else if (line.startsWith('\t\t')) {
      const named = /priority (\w+)(?: ([+-]) (\d+))?;/.exec(line);
      const base = named === null ? undefined : PRIORITIES[named[1]!];
      const offset = Number(`${named?.[2] ?? '+'}${named?.[3] ?? 0}`);
      block.lines.push(base === undefined ? line : line.replace(named![0], `priority ${base + offset};`));
    } else if (line.startsWith('\tcomment')) table[line.trim()] = { lines: [], elements: [] };
  }
  for (const blocks of Object.values(tables)) for (const { elements } of Object.values(blocks)) elements.sort();
  return tables;
}

/** Names of sets, maps and chains, and the number of rules and elements of each, from the listing as JSON. */
function countJson(text: string): Record<string, number> {
  const counts: Record<string, number> = {};
  const listed = JSON.parse(text) as { nftables: Record<string, Record<string, unknown>>[] };
  for (const object of listed.nftables) {
    const [kind, body] = Object.entries(object)[0]!;
    const place = `${body['family']} ${body['table']}`;
    if (kind === 'set' || kind === 'map') {
      const elements = body['elem'];
      counts[`${place} ${kind} ${body['name']}`] = Array.isArray(elements) ? elements.length : 0;
    } else if (kind === 'chain') counts[`${place} chain ${body['name']}`] ??= 0;
    else if (kind === 'rule') {
      const name = `${place} chain ${body['chain']}`;
      counts[name] = (counts[name] ?? 0) + 1;
    }
  }
  return counts;
}

function countListing(listing: ReturnType<typeof readListing>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [head, blocks] of Object.entries(listing)) {
    const place = head.replace('table ', '').replace(' {', '');
    for (const [name, { lines, elements }] of Object.entries(blocks)) {
      if (name.startsWith('comment')) continue;
      const rules = lines.filter((line) => !/^\t\t(type|comment) /.test(line)).length;
      counts[`${place} ${name.replace(' {', '')}`] = name.startsWith('chain') ? rules : elements.length;
    }
  }
  return counts;
}

function checkThroughKernel(texts: readonly string[]): void {
  throughKernel(texts).forEach(([listed, json], i) => {
    const printed = readListing(texts[i]!);
    expect(readListing(listed)).toEqual(printed);
    expect(countJson(json)).toEqual(countListing(printed));
  });
}

describe('nft text', () => {
  it('has both families, numeric priorities, and sets before chains', () => {
    const text = renderNft(makeCluster({}), kubeProxyConfig(), 'node-1');
    const lines = text.split('\n');
    expect(lines.filter((line) => line.startsWith('table '))).toEqual([
      'table ip kube-proxy {',
      'table ip6 kube-proxy {',
    ]);
    expect(lines[1]).toBe('\tcomment "rules for kube-proxy"');
    expect(lines.filter((line) => /^\t(set|map|chain) /.test(line)).slice(0, 23)).toEqual([
      '\tset cluster-ips {',
      '\tset nodeport-ips {',
      '\tmap no-endpoint-services {',
      '\tmap no-endpoint-nodeports {',
      '\tmap firewall-ips {',
      '\tmap service-ips {',
      '\tmap service-nodeports {',
      '\tchain filter-prerouting {',
      '\tchain filter-input {',
      '\tchain filter-forward {',
      '\tchain filter-output {',
      '\tchain filter-output-post-dnat {',
      '\tchain nat-prerouting {',
      '\tchain nat-output {',
      '\tchain nat-postrouting {',
      '\tchain nodeport-endpoints-check {',
      '\tchain service-endpoints-check {',
      '\tchain firewall-check {',
      '\tchain services {',
      '\tchain masquerading {',
      '\tchain cluster-ips-check {',
      '\tchain mark-for-masquerade {',
      '\tchain reject-chain {',
    ]);
    expect(text).not.toMatch(/priority [a-z]/);
    expect(text).not.toContain('table ip cni');
  });

  it('refuses a node that the cluster does not have', () => {
    expect(() => renderNft(makeCluster({}), kubeProxyConfig(), 'nowhere')).toThrow("the cluster has no node 'nowhere'");
  });

  it.skipIf(!available)('comes back equal from the real tool, for random clusters', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(randomCluster, randomConfig), { minLength: 4, maxLength: 4 }), (cases) => {
        checkThroughKernel(
          cases.flatMap(([cluster, config]) => [
            renderNft(cluster, config, 'node-1'),
            renderNft(cluster, config, 'node-3'),
          ]),
        );
      }),
      seeded(8),
    );
  });

  it.skipIf(!available)('comes back equal with many endpoints and with names that are cut', () => {
    const endpoints = Array.from({ length: 300 }, (_, i) => ({ address: `10.244.${i >> 8}.${i & 255}` }));
    const long = 'n'.repeat(63);
    const path = `${long}/${long}`;
    const cluster = makeCluster({
      services: [
        makeService('ns/many', {
          clusterIPs: ['10.96.0.1'],
          sessionAffinity: 'ClientIP',
          sessionAffinityConfig: { clientIP: { timeoutSeconds: 90_061 } },
          ports: [{ name: 'p' }],
        }),
        makeService(path, { clusterIPs: ['fd00:10:96::1'], sessionAffinity: 'ClientIP', ports: [{ name: long }] }),
        makeService(`${long}/b${long.slice(1)}`, { clusterIPs: ['10.96.0.2'], ports: [{ name: long }] }),
      ],
      endpointSlices: [
        makeSlice('ns/many', [{ name: 'p', port: 80 }], endpoints),
        makeSlice(path, [{ name: long, port: 65_535 }], [{ address: 'fd00:1111:2222:3333:4444:5555:6666:7777' }], {
          addressType: 'IPv6',
        }),
      ],
    });
    const text = renderNft(cluster, kubeProxyConfig(), 'node-1');
    expect(text).toContain('timeout 1d1h1m1s');
    checkThroughKernel([text]);
  });
});
