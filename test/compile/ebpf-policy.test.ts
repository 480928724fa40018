/** Identities and policy maps: against a naive judge, their numbers over changes, their size. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LiveCluster } from '../../control/src/api/live-cluster.ts';
import { type CompiledEbpfPolicy, compileEbpfPolicy } from '../../control/src/compile/ebpf-policy.ts';
import { IdentityNumbers } from '../../control/src/compile/identity-numbers.ts';
import type { ClusterModel } from '../../control/src/compile/image.ts';
import type { Address } from '../../control/src/model/address.ts';
import type { PolicyModel } from '../../control/src/policy/policy-model.ts';
import {
  attachEbpfPolicy,
  type EbpfPolicy,
  ID_PEER,
  ID_WORDS,
  isDenied,
  judgementRow,
} from '../../engine/src/programs/ebpf-policy-image.ts';
import { lpm4Find } from '../../engine/src/tables/lpm4.ts';
import { lpm6Find } from '../../engine/src/tables/lpm6.ts';
import { findDecision, findPortMap } from '../../engine/src/tables/policy-map.ts';
import { ADDRESSES, judgeNaively, makeModel, PORTS, PROTOCOLS, randomPolicies } from './policy-models.ts';
import { seeded } from './random-cluster.ts';

const MODEL = makeModel();

function compile(policies: PolicyModel, model: ClusterModel = MODEL): CompiledEbpfPolicy | null {
  return compileEbpfPolicy(model.cluster, model.topology, policies, model.identities);
}

/** Row of an address's identity, found as the program finds it. */
function identityOf(policy: EbpfPolicy, { family, words }: Address): number {
  const found =
    family === 4
      ? lpm4Find(policy.ipcache4, words[0])
      : lpm6Find(policy.ipcache6, words[0], words[1], words[2], words[3]);
  return Math.max(found, 0);
}

describe('compileEbpfPolicy', () => {
  it('decides as a naive judge does, by the same rule', () => {
    fc.assert(
      fc.property(randomPolicies, (policies) => {
        const compiled = compile(policies);
        if (compiled === null) return;
        const policy = attachEbpfPolicy(compiled.parts);
        for (const direction of ['ingress', 'egress'] as const) {
          policies[direction].forEach((order, pod) => {
            const map = policy[direction][pod]!;
            expect(map === -1).toBe(order === null);
            if (order === null) return;
            for (const remote of ADDRESSES) {
              const peer = policy.identities[identityOf(policy, remote) * ID_WORDS + ID_PEER]!;
              const portMap = findPortMap(policy.maps, map, peer);
              PROTOCOLS.forEach((protocol, slot) => {
                for (const port of PORTS) {
                  const decision = findDecision(policy.maps, portMap, slot, port);
                  const judgement = compiled.judgements[judgementRow(decision)]!;
                  const naive = judgeNaively(MODEL, order, policies.profile, pod, remote, protocol, port);
                  const text = `${direction} of pod ${pod}, ${remote.text} ${protocol} ${port}`;
                  if (judgement.rule !== naive.rule) expect.fail(`${text}: another rule`);
                  if (isDenied(decision) === naive.allowed) expect.fail(`${text}: another verdict`);
                  if ((judgement.verdict === 'allowed') !== naive.allowed) expect.fail(`${text}: another judgement`);
                  if (judgement.direction !== direction) expect.fail(`${text}: another direction`);
                }
              });
            }
          });
        }
      }),
      seeded(150),
    );
  });

  it('gives one number to pods of a label set, whatever the CIDRs and ports that tell them apart', () => {
    fc.assert(
      fc.property(randomPolicies, (policies) => {
        const compiled = compile(policies);
        if (compiled === null) return;
        const numbers = new Map<string, number>();
        for (const { labels, number } of compiled.identities) {
          const key = labels.join();
          expect(numbers.get(key) ?? number).toBe(number);
          numbers.set(key, number);
        }
        const given = [...numbers].filter(([key]) => !key.includes('remote-node')).map(([, number]) => number);
        expect(new Set(given).size).toBe(given.length);
      }),
      seeded(100),
    );
  });

  it('keeps every number over changes of pods and policies', () => {
    const pods = fc.subarray([0, 1, 2, 3, 4, 5], { minLength: 1 });
    fc.assert(
      fc.property(fc.array(fc.tuple(pods, randomPolicies), { minLength: 2, maxLength: 5 }), (changes) => {
        const known = new Map<string, number>();
        let model: ClusterModel | undefined;
        for (const [podIndexes, policies] of changes) {
          model = makeModel(podIndexes, model);
          const count = model.topology.endpoints.length;
          // Peers of pods speak about all six: these policies are of blocks, nodes and anybody.
          const isKept = (order: PolicyModel['ingress'][number]): boolean =>
            order !== null &&
            ![...order.admin, ...(order.network?.rules ?? []), ...order.baseline].some(
              ({ peer }) => peer.kind === 'pods',
            );
          const some = (orders: PolicyModel['ingress']) =>
            orders.slice(0, count).map((order) => (isKept(order) ? order : null));
          const compiled = compile(
            { ...policies, ingress: some(policies.ingress), egress: some(policies.egress) },
            model,
          );
          for (const { labels, number, prefix } of compiled?.identities ?? []) {
            const key = `${labels.join()} ${labels[0]!.startsWith('cidr:') ? prefix!.text : ''}`;
            expect(known.get(key) ?? number).toBe(number);
            known.set(key, number);
          }
        }
      }),
      seeded(100),
    );
  });
});

describe('IdentityNumbers', () => {
  it('are handed on by a live cluster from change to change', async () => {
    const live = new LiveCluster([], {});
    const { model } = live;
    const number = model.identities.numberOf('cluster', 'k8s:app=web');
    await live.change({ datapath: { policy: { profile: 'cilium' } } });
    expect(live.model).not.toBe(model);
    expect(live.model.identities.numberOf('cluster', 'k8s:app=web')).toBe(number);
    expect(live.model.identities).toBe(model.identities);
  });

  it('gives numbers that do not depend on who asks first, but where two meet', () => {
    const keys = Array.from({ length: 20 }, (_, i) => `k8s:app=app-${i}`);
    const forwards = new IdentityNumbers();
    const backwards = new IdentityNumbers();
    const first = keys.map((key) => forwards.numberOf('cluster', key));
    const second = [...keys].reverse().map((key) => backwards.numberOf('cluster', key));
    expect(first).toEqual(second.reverse());
    for (const number of first) expect(number >= 256 && number <= 65_535).toBe(true);
    expect(keys.map((key) => forwards.numberOf('cluster', key))).toEqual(first);
  });

  it('gives each key a number of its own, beyond Cilium’s range too', () => {
    const numbers = new IdentityNumbers();
    const count = 66_000;
    const given = new Set(Array.from({ length: count }, (_, i) => numbers.numberOf('cluster', `${i}`)));
    expect(given.size).toBe(count);
    expect(numbers.numberOf('cidr', '10.0.0.0/8')).toBeGreaterThan(1 << 24);
  });
});
