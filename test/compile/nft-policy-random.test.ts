/**
 * Policies of random clusters in the nftables mode: the real nft takes what is printed and lists the same, the engine can run
 * all of it, and a packet's events hold one judgement for each direction that judges it.
 */

import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { loadCluster } from '../../control/src/cluster/load.ts';
import { type ClusterModel, compileImage, modelCluster } from '../../control/src/compile/image.ts';
import { NftPolicyRules } from '../../control/src/compile/nft-policy.ts';
import type { NftTable } from '../../control/src/compile/nft-ruleset.ts';
import { formatNft, renderNft } from '../../control/src/compile/nft-save.ts';
import { readJudgements } from '../../control/src/explain/judgement.ts';
import { type DatapathInput, resolveDatapath } from '../../control/src/model/datapath.ts';
import type { Judgement, JudgementOrder } from '../../control/src/policy/policy-rules.ts';
import { resolveConnection } from '../../control/src/probe/connection.ts';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { parseNftJson } from '../../control/src/ruleset/nft-json.ts';
import { parseNftText } from '../../control/src/ruleset/nft-text.ts';
import { allObjects, randomPolicyCluster } from '../policy/random-policies.ts';
import { normalRuleset } from '../ruleset/nft-normal.ts';
import { hasNft, loadRuleset } from '../ruleset/real-nft.ts';
import { seeded } from './random-cluster.ts';

const models: fc.Arbitrary<ClusterModel> = fc
  .tuple(randomPolicyCluster, fc.constantFrom('kubernetes', 'cilium', 'calico'))
  .map(([drawn, profile]) => {
    const { cluster } = loadCluster([], { objects: allObjects(drawn) });
    return modelCluster(cluster, resolveDatapath({ policy: { profile } } as DatapathInput));
  });

const FAMILIES = [4, 6] as const;

function tablesOf(model: ClusterModel): NftTable[] {
  return FAMILIES.flatMap((family) => {
    const rules = new NftPolicyRules(model, family);
    return model.topology.nodes.map((_node, number) => rules.table(number)).filter((table) => table !== null);
  });
}

/** Of a table's rules. */
function judgementsOf({ chains }: NftTable): Judgement[] {
  return chains.flatMap(({ rules }) => rules.flatMap(({ judgement }) => judgement ?? []));
}

describe('the policy tables of random clusters', () => {
  it('can be run, and hold a judgement for each rule that can decide', () => {
    fc.assert(
      fc.property(models, (model) => {
        const nodes = model.topology.nodes.map(({ metadata }) => metadata.name);
        const { nft } = compileImage(model, 'nftables', nodes);
        expect([...nft!.family4.unencodable, ...nft!.family6.unencodable]).toEqual([]);
        for (const table of tablesOf(model)) {
          for (const { rule, verdict, direction } of judgementsOf(table)) {
            if (rule === null) continue;
            expect(rule.direction).toBe(direction);
            expect(verdict).toBe(rule.action === 'deny' ? 'denied' : 'allowed');
          }
          const names = table.sets.map(({ name }) => name);
          expect(new Set(names).size).toBe(names.length);
          const text = formatNft({ tables: [table] });
          // Nothing stands there that nobody asks.
          for (const name of names) expect(text).toContain(`@${name}`);
          for (const { name, base } of table.chains) {
            if (base === null) expect(text).toMatch(new RegExp(`(jump|goto) ${name.replaceAll('.', '\\.')}`));
          }
        }
      }),
      seeded(30),
    );
  });

  it('are read as they were printed', () => {
    fc.assert(
      fc.property(models, (model) => {
        for (const { metadata } of model.topology.nodes) {
          const text = renderNft(model.cluster, model.config, metadata.name, model);
          const parsed = parseNftText('node.nft', text);
          expect(parsed.notUnderstood).toEqual([]);
          expect(formatNft(parsed.ruleset)).toBe(text);
        }
      }),
      seeded(30),
    );
  });

  it.skipIf(!hasNft)('are listed by the real nft as they were printed, in text and in JSON', () => {
    fc.assert(
      fc.property(models, (model) => {
        const printed = renderNft(model.cluster, model.config, 'node-1', model);
        const wanted = normalRuleset(parseNftText('node.nft', printed).ruleset);
        const { text, json } = loadRuleset(printed);
        expect(normalRuleset(parseNftText('node.nft', text).ruleset)).toEqual(wanted);
        expect(normalRuleset(parseNftJson('node.json', json).ruleset)).toEqual(wanted);
      }),
      seeded(12),
    );
  });
});

describe.skipIf(!hasNft)('the real nft', () => {
  it('takes the longest names, many pods and every kind of port', () => {
    const namespace = 'n'.repeat(63);
    const app = { matchLabels: { app: 'web' } };
    const pods = Array.from({ length: 300 }, (_, i) => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: `${'p'.repeat(240)}-${i}`, namespace, labels: app.matchLabels },
      spec: {
        nodeName: 'node-1',
        containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 8000 + (i % 3) }] }],
      },
      status: {
        podIPs: [{ ip: `10.244.${i >> 8}.${i & 255}` }, { ip: `fd00:1111:2222:3333:4444:5555:6666:${i + 1}` }],
      },
    }));
    const ports = [
      ...[1, 2, 4, 65_535].map((port) => ({ port })),
      { protocol: 'UDP' },
      { protocol: 'SCTP', port: 1, endPort: 65_535 },
    ];
    const names = ['a', 'b', 'c'].map((letter) => letter.repeat(253));
    const policies = names.map((name, i) => ({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name, namespace },
      spec: {
        podSelector: app,
        policyTypes: ['Ingress', 'Egress'],
        ingress: [{ from: [{ podSelector: app }], ports: [...ports.slice(i), { port: 'http' }] }],
        egress: [
          {
            to: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16', '10.2.0.1/32'] } }],
            ports: ports.slice(i, i + 1),
          },
        ],
      },
    }));
    const { cluster } = loadCluster([], { objects: [...pods, ...policies] });
    const model = modelCluster(cluster, resolveDatapath({ policy: { profile: 'cilium' } }));
    const printed = renderNft(cluster, model.config, 'node-1', model);
    const { text } = loadRuleset(printed);
    expect(normalRuleset(parseNftText('node.nft', text).ruleset)).toEqual(
      normalRuleset(parseNftText('node.nft', printed).ruleset),
    );
  });
});

describe("a packet's events", () => {
  it('hold one judgement for each direction that judges it, and the packet ends as they say', () => {
    const cases = fc.record({
      model: models,
      from: fc.nat(),
      to: fc.nat(),
      port: fc.constantFrom(53, 80, 8080, 9090),
      protocol: fc.constantFrom('tcp', 'udp', 'sctp'),
      family: fc.constantFrom(...FAMILIES),
    });
    fc.assert(
      fc.property(cases, ({ model, from, to, port, protocol, family }) => {
        const { endpoints, nodeByAddress } = model.topology;
        const known = endpoints.flatMap(({ addresses }, number) => {
          const address = addresses.find((own) => own.family === family);
          return address === undefined || nodeByAddress.has(address.text) ? [] : [{ number, address }];
        });
        fc.pre(known.length > 1);
        const client = known[from % known.length]!;
        const server = known.filter(({ number }) => number !== client.number)[to % (known.length - 1)]!;
        const simulator = new Simulator(model, 'nftables');
        const { namespace, name } = endpoints[client.number]!.pod.metadata;
        const { text } = server.address;
        const target = family === 4 ? `${text}:${port}` : `[${text}]:${port}`;
        const request = { from: `pod/${namespace}/${name}`, to: target, protocol };
        const [branch] = simulator.probe(resolveConnection(model, request), true);
        const met = readJudgements(simulator.image, branch!.events);
        const { egress, ingress } = model.policies;
        const judges = [egress[client.number], ingress[server.number]].filter((order) => order != null);
        const denied = met.some(({ verdict }) => verdict === 'denied');
        expect(met.map(({ direction }) => direction)).toEqual(
          judges.slice(0, denied ? met.length : judges.length).map(({ direction }) => direction),
        );
        expect(denied).toBe(branch!.reason === 'policy-denied');
        for (const judgement of met) checkJudgement(judgement, judges);
      }),
      seeded(80),
    );
  });
});

/** The judgement is one that its direction's order can make. */
function checkJudgement({ direction, verdict, rule, policies }: Judgement, judges: readonly JudgementOrder[]): void {
  const order = judges.find((own) => own.direction === direction)!;
  if (rule !== null) {
    expect([...order.admin, ...(order.network?.rules ?? []), ...order.baseline]).toContain(rule);
    expect(policies).toEqual([rule.policy]);
  } else if (order.network === null) {
    expect([verdict, policies]).toEqual(['allowed', order.policies]);
  } else expect([verdict, policies]).toEqual(['denied', order.network.isolating]);
}
