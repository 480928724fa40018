/** `POST /flatpath/v1/trace` over policies: who decided, at both ends, and after a change. */

import { describe, expect, it } from 'vitest';
import { BUILT_MODES } from '../../control/src/model/datapath.ts';
import { startSmall } from './support.ts';

const POLICIES = '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies';
const ONLY_NOBODY = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'web', namespace: 'default' },
  spec: {
    podSelector: { matchLabels: { app: 'web' } },
    ingress: [{ from: [{ podSelector: { matchLabels: { app: 'nobody' } } }] }],
  },
};

describe('trace', () => {
  it('names what decides, before and after a policy comes', async () => {
    const { ask } = await startSmall();
    const request = { from: 'pod/default/client', to: 'svc/default/web:80', mode: 'all' };
    const answers = async () => {
      const { code, json } = await ask('POST', '/flatpath/v1/trace', request);
      expect(code).toBe(200);
      return Object.values(json['traces']!).map((trace) => ({
        mode: String(trace['mode']),
        verdict: String(trace['verdict']),
        because: Object.values(trace['branches']!).map(({ policies }) => String(policies!['ingress']!['because'])),
      }));
    };
    expect(await answers()).toEqual(
      BUILT_MODES.map((mode) => ({ mode, verdict: 'delivered', because: ['unselected', 'unselected'] })),
    );
    expect((await ask('POST', POLICIES, ONLY_NOBODY)).code).toBe(201);
    expect(await answers()).toEqual(
      BUILT_MODES.map((mode) => ({ mode, verdict: 'dropped', because: ['isolated', 'isolated'] })),
    );
    const open = { ...ONLY_NOBODY, spec: { ...ONLY_NOBODY.spec, ingress: [{}] } };
    expect((await ask('PUT', `${POLICIES}/web`, open)).code).toBe(200);
    expect(await answers()).toEqual(
      BUILT_MODES.map((mode) => ({ mode, verdict: 'delivered', because: ['rule', 'rule'] })),
    );
  });
});
