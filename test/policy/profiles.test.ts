/**
 * Where real implementations differ, and what is always so: by hand, one question at a time, in every mode. What the oracle
 * takes from packets (which source a pod sees, which destination leaves) stands here as addresses.
 */

import { describe, expect, it } from 'vitest';
import { BUILT_MODES, type DatapathInput, type Mode } from '../../control/src/model/datapath.ts';
import { resolveConnection } from '../../control/src/probe/connection.ts';
import { Simulator } from '../../control/src/probe/simulator.ts';
import { summarizeBranches } from '../../control/src/probe/suite.ts';
import { modelOf } from './compare.ts';
import type { Profile } from './oracle.ts';
import { addressOf, labCluster, NODE_PORT, policy, SERVICE } from './policy-lab.ts';
import { type KubeObject, nodeAddress } from './random-cluster.ts';

const PROFILES: readonly Profile[] = ['kubernetes', 'cilium', 'calico'];
const CLIENT = '203.0.113.7';
const DENY = { policyTypes: ['Ingress', 'Egress'] };
const block = (cidr: string): object[] => [{ ipBlock: { cidr } }];

interface Asked {
  readonly from: string;
  readonly to: string;
  readonly node?: string;
}

/** `delivered none`, `dropped policy-denied`. */
function answer(
  mode: Mode,
  profile: Profile,
  policies: readonly KubeObject[],
  asked: Asked,
  more: DatapathInput = {},
): string {
  const model = modelOf([...labCluster(), ...policies], { ...more, policy: { profile } });
  const branches = new Simulator(model, mode).probe(resolveConnection(model, asked), false);
  const { verdict, reason } = summarizeBranches(branches);
  return `${verdict} ${reason}`;
}

const PASS = 'delivered none';
const DENIED = 'dropped policy-denied';

describe.each(BUILT_MODES)('%s', (mode) => {
  const inEach = (policies: readonly KubeObject[], asked: Asked, more?: DatapathInput): string[] =>
    PROFILES.map((profile) => answer(mode, profile, policies, asked, more));

  it('an address block over pods', () => {
    const into = [policy('web', { ingress: [{ from: block('10.244.1.0/24') }] })];
    const out = [policy('client', { egress: [{ to: block('10.244.0.0/16') }] })];
    const asked = { from: 'pod/default/client', to: 'pod/default/web:8080' };
    expect(inEach(into, asked)).toEqual([PASS, DENIED, PASS]);
    expect(inEach(out, asked)).toEqual([PASS, DENIED, PASS]);
    // An address that no pod has.
    expect(inEach(into, { from: '10.244.1.77', node: 'node-1', to: 'pod/default/web:8080' })).toEqual([
      PASS,
      PASS,
      PASS,
    ]);
  });

  it("a pod and its own node, and another pod's node", () => {
    const deny = [policy('client', DENY)];
    const own = { from: 'pod/default/client', to: `${nodeAddress(1, 4)}:22` };
    expect(inEach(deny, own)).toEqual([PASS, DENIED, DENIED]);
    expect(inEach([policy('client', { egress: [{ to: block('192.168.0.1/32') }] })], own)).toEqual([
      PASS,
      DENIED,
      PASS,
    ]);
    expect(inEach([policy('client', { egress: [{}] })], own)).toEqual([PASS, PASS, PASS]);
    expect(inEach(deny, { from: 'pod/default/client', to: `${nodeAddress(2, 4)}:22` })).toEqual([
      DENIED,
      DENIED,
      DENIED,
    ]);
    expect(inEach(deny, { from: 'node/node-1', to: 'pod/default/client:8080' })).toEqual([PASS, PASS, PASS]);
    expect(inEach(deny, { from: 'node/node-2', to: 'pod/default/client:8080' })).toEqual([DENIED, DENIED, DENIED]);
  });

  it('a pod to itself, by its own address and through its Service', () => {
    const deny = [policy('web', DENY)];
    expect(inEach(deny, { from: 'pod/default/web', to: 'pod/default/web:8080' })).toEqual([PASS, PASS, PASS]);
    expect(inEach(deny, { from: 'pod/default/web', to: 'svc/default/web:80' })).toEqual([PASS, PASS, DENIED]);
  });

  it('sees a Service only as what it leads to', () => {
    const asked = { from: 'pod/default/client', to: 'svc/default/web:80' };
    const egress = (cidr: string, port: number) => [
      policy('client', { egress: [{ to: block(cidr), ports: [{ port }] }] }),
    ];
    expect(answer(mode, 'kubernetes', egress(`${SERVICE[4]}/32`, 80), asked)).toBe(DENIED);
    expect(answer(mode, 'kubernetes', egress(`${addressOf('web', 4)}/32`, 80), asked)).toBe(DENIED);
    expect(answer(mode, 'kubernetes', egress(`${addressOf('web', 4)}/32`, 8080), asked)).toBe(PASS);
  });

  it('sees a client outside as the packet carries it at the pod', () => {
    const fromClient = [policy('web', { ingress: [{ from: block('203.0.113.0/24') }] })];
    const fromNode = [policy('web', { ingress: [{ from: block('192.168.0.1/32') }] })];
    const through = (node: number): Asked => ({
      from: CLIENT,
      node: `node-${node}`,
      to: `${nodeAddress(node, 4)}:${NODE_PORT}`,
    });
    // The pod's own node: judged before it masquerades.
    expect(answer(mode, 'kubernetes', fromClient, through(2))).toBe(PASS);
    expect(answer(mode, 'kubernetes', fromNode, through(2))).toBe(DENIED);
    // Another node has put its address there.
    expect(answer(mode, 'kubernetes', fromClient, through(1))).toBe(DENIED);
    expect(answer(mode, 'kubernetes', fromNode, through(1))).toBe(PASS);
    const dsr: DatapathInput = { ebpf: { loadBalancerMode: 'dsr' } };
    expect(answer(mode, 'kubernetes', fromClient, through(1), dsr)).toBe(mode === 'ebpf' ? PASS : DENIED);
  });

  it('has a Service refuse before policies do', () => {
    const empty: KubeObject = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'empty', namespace: 'default' },
      spec: { selector: { app: 'nobody' }, ports: [{ port: 80 }] },
    };
    const asked = { from: 'pod/default/client', to: 'svc/default/empty:80' };
    expect(answer(mode, 'kubernetes', [empty, policy('client', DENY)], asked)).toBe(
      answer(mode, 'kubernetes', [empty], asked),
    );
  });
});
