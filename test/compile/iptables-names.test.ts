import { describe, expect, it } from 'vitest';
import { endpointChainName, servicePortHash } from '../../control/src/compile/iptables-names.ts';

describe('chain names', () => {
  it.each([
    ['default/kubernetes:https', 'TCP', 'NPX46M4PTMTKRN6Y'],
    ['kube-system/kube-dns:dns', 'UDP', 'TCOU7JCQXEZGVUNU'],
    ['default/nginx', 'TCP', '2CMXP7HKUVJN7L6M'],
    ['kube-system/kube-dns:dns-tcp', 'TCP', 'ERIFXISQEP7F7OF4'],
    ['ns1/svc1:p80', 'TCP', 'XPGD46QRK7WJZT7O'],
  ] as const)('of %s %s end in %s, as in public dumps', (key, protocol, hash) => {
    expect(servicePortHash(key, protocol)).toBe(hash);
  });

  it('of endpoints hash ip:port too', () => {
    expect(endpointChainName('ns1/svc1:p80', 'TCP', '10.180.0.1:80')).toBe('KUBE-SEP-SXIVWICOYRO3J4NJ');
  });

  it('have at most 28 characters', () => {
    const name = endpointChainName('n'.repeat(63), 'SCTP', '[2001:db8::1]:65535');
    expect(name).toMatch(/^KUBE-SEP-[A-Z2-7]{16}$/);
    expect(name.length).toBeLessThanOrEqual(28);
  });
});
