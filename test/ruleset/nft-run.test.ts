/** Packets through nft and ipvs dumps in the shapes that Docker, Calico, firewalld and kube-proxy leave on a node. */

import { describe, expect, it } from 'vitest';
import { modelRuleset } from '../../control/src/ruleset/node-model.ts';
import { ask, dump, nodeOf, writeFiles } from './iptables-node.ts';
import { CALICO, DOCKER, FIREWALLD } from './nft-nodes.ts';
import { hasNft, loadRuleset } from './real-nft.ts';

const PLAIN = { verdict: 'forwarded', reason: 'none', translated: false, masquerade: false };

/** Errors of a node of dumps of which no addresses are known. */
function errorsOf(texts: Readonly<Record<string, string>>): string[] {
  try {
    modelRuleset({ files: writeFiles(texts), addresses: [], lenient: false }, null, null, {});
  } catch (error) {
    return String(error)
      .split('\n')
      .map((line) => line.replace(/^.*flatpath-ruleset-[^/]*\//, ''));
  }
  return [];
}

describe('Docker (nftables)', () => {
  const text = DOCKER.replaceAll('docker0', 'cni0')
    .replaceAll('172.17.0.0/16', '10.244.1.0/24')
    .replaceAll('172.17.0.2', '10.244.1.5');
  const node = nodeOf({ 'node.nft': text });

  it('publishes a port, and no other', () => {
    expect(ask(node, '203.0.113.1', '192.0.2.10:8080')).toMatchObject({
      verdict: 'forwarded',
      translated: true,
      backends: ['10.244.1.5:80'],
      out: ['cni0'],
    });
    expect(ask(node, '203.0.113.1', '192.0.2.10:8081')).toMatchObject({ verdict: 'delivered', translated: false });
    // Raw drops what goes past the published port.
    expect(ask(node, '203.0.113.1', '10.244.1.5:80')).toMatchObject({ verdict: 'dropped', reason: 'rule-drop' });
    expect(ask(node, '203.0.113.1', '10.244.1.6:80')).toMatchObject({ verdict: 'dropped', reason: 'rule-drop' });
  });

  it('masquerades what containers send out', () => {
    expect(ask(node, '10.244.1.5', '203.0.113.1:443')).toMatchObject({ verdict: 'forwarded', out: ['eth0'] });
    expect(ask(node, '10.244.1.5', '203.0.113.1:443').tuples[0]).toMatch(/^192\.0\.2\.10 /);
  });
});

describe('Calico (nftables)', () => {
  const node = nodeOf({ 'node.nft': CALICO.replaceAll('cali1234567890a', 'cali12') });

  it('lets through what the policy names, and drops the rest', () => {
    expect(ask(node, '10.245.0.5', '10.244.1.7:8080')).toMatchObject({ ...PLAIN, out: ['cni0'] });
    expect(ask(node, '10.245.0.5', '10.244.1.7:8081')).toMatchObject({ verdict: 'dropped', reason: 'rule-drop' });
    expect(ask(node, '10.245.0.5', '10.244.1.7:4789', 'udp')).toMatchObject({ verdict: 'dropped' });
    expect(ask(node, '203.0.113.1', '10.245.0.5:9')).toMatchObject({ ...PLAIN, out: ['cali12'] });
  });
});

describe('firewalld', () => {
  const node = nodeOf({ 'node.nft': FIREWALLD });

  it('accepts its services and rejects the rest, in both families', () => {
    for (const [from, to] of [
      ['203.0.113.1', '192.0.2.10'],
      ['2001:db8:9::1', '[2001:db8::10]'],
    ] as const) {
      expect(ask(node, from, `${to}:22`).verdict).toBe('delivered');
      expect(ask(node, from, `${to}:23`)).toMatchObject({ verdict: 'rejected', reason: 'rule-reject' });
    }
  });
});

describe("kube-proxy's nft dump", () => {
  const text = `table ip kube-proxy {
	map service-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.10 . tcp . 80 comment "shop/web" : goto service-A, 10.96.0.11 . tcp . 80 : goto external-A }
	}
	set affinity-1 {
		type ipv4_addr
		size 65535
		flags dynamic,timeout
		timeout 3h
	}
	chain endpoint-1 {
		ip saddr 10.244.1.5 jump mark-for-masquerade
		update @affinity-1 { ip saddr }
		meta l4proto tcp dnat to 10.244.1.5:8080
	}
	chain endpoint-2 {
		meta l4proto tcp dnat to 10.245.0.5:8080
	}
	chain external-A {
		jump mark-for-masquerade
		goto service-A
	}
	chain service-A {
		ip saddr @affinity-1 goto endpoint-1
		numgen random mod 2 vmap { 0 : goto endpoint-1, 1 : goto endpoint-2 }
	}
	chain mark-for-masquerade {
		meta mark set meta mark | 0x00004000
	}
	chain nat-prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr . meta l4proto . th dport vmap @service-ips
	}
	chain nat-postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & 0x00004000 == 0x00000000 return
		meta mark set meta mark ^ 0x00004000
		masquerade fully-random
	}
}
`;

  const check = (texts: Readonly<Record<string, string>>): void => {
    const node = nodeOf(texts);
    const both = ['10.244.1.5:8080', '10.245.0.5:8080'];
    expect(ask(node, '203.0.113.1', '10.96.0.10:80')).toMatchObject({ backends: both, masquerade: false });
    expect(ask(node, '203.0.113.1', '10.96.0.11:80')).toMatchObject({ backends: both, masquerade: true });
    expect(ask(node, '10.244.1.5', '10.96.0.10:80')).toMatchObject({ backends: both, masquerade: true });
    expect(ask(node, '203.0.113.1', '10.96.0.12:80')).toMatchObject(PLAIN);
  };

  it('runs as text', () => {
    check({ 'node.nft': text });
  });

  it.skipIf(!hasNft)('runs as the real nft lists it, in text and in JSON', () => {
    const listing = loadRuleset(text);
    check({ 'node.nft': listing.text });
    check({ 'node.json5': listing.json });
  });

  it('tells the line of what it cannot decide without addresses, and of what it does not understand', () => {
    const unknown = text.replace(
      'jump mark-for-masquerade\n\t\tgoto',
      'meta skuid 0 jump mark-for-masquerade\n\t\tgoto',
    );
    const errors = errorsOf({ 'node.nft': unknown });
    expect(errors[0]).toBe("node.nft:21: 'meta skuid 0 jump mark-for-masquerade': flatpath does not know 'meta skuid'");
    expect(errors.slice(1).every((line) => line.includes('give --addresses'))).toBe(true);
    const { loaded } = nodeOf({ 'node.nft': unknown }, true);
    expect(loaded.skipped.map(({ line, text: part }) => `${line} ${part}`)).toEqual([
      '21 meta skuid 0 jump mark-for-masquerade',
    ]);
  });
});

describe('sets that the engine cannot run', () => {
  it('are named, and what asks them never matches', () => {
    const text = `table ip t {
	set twice {
		type inet_service
		elements = { 80, 80 }
	}
	chain c {
		type filter hook forward priority filter; policy accept;
		tcp dport != @twice drop
		tcp dport { 90, 90 } drop
	}
}
`;
    const { loaded, model } = nodeOf({ 'node.nft': text }, true);
    expect(loaded.skipped.map(({ line }) => line)).toEqual([2, 8, 9]);
    expect(ask({ loaded, model }, '203.0.113.1', '10.244.1.5:90')).toMatchObject(PLAIN);
  });
});

describe('a dump of ipvs mode', () => {
  const node = nodeOf({
    'node.ipvs': `-A -t 10.96.0.10:80 -s rr -p 10800
-a -t 10.96.0.10:80 -r 10.244.1.5:8080 -m -w 1
-a -t 10.96.0.10:80 -r 10.245.0.5:8080 -m -w 1
-a -t 10.96.0.10:80 -r 10.244.1.6:8080 -m -w 0
-A -u 10.96.0.10:53 -s rr
`,
    'node.ipset': `create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536 comment
add KUBE-CLUSTER-IP 10.96.0.10,tcp:80 comment "shop/web"
create KUBE-LOOP-BACK hash:ip,port,ip family inet hashsize 1024 maxelem 65536
add KUBE-LOOP-BACK 10.244.1.5,tcp:8080,10.244.1.5
create KUBE-IPVS-IPS hash:ip family inet hashsize 1024 maxelem 65536
add KUBE-IPVS-IPS 10.96.0.10
`,
    'node.iptables': dump({
      nat: [
        '-A PREROUTING -j KUBE-SERVICES',
        '-A POSTROUTING -j KUBE-POSTROUTING',
        '-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000',
        '-A KUBE-SERVICES ! -s 10.244.0.0/16 -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ',
        '-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT',
        '-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE',
        '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
        '-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0',
        '-A KUBE-POSTROUTING -j MASQUERADE --random-fully',
      ],
    }),
  });

  it('reaches the real servers that take new connections', () => {
    const both = ['10.244.1.5:8080', '10.245.0.5:8080'];
    expect(ask(node, '203.0.113.1', '10.96.0.10:80')).toMatchObject({ backends: both, masquerade: true });
    expect(ask(node, '10.244.1.9', '10.96.0.10:80')).toMatchObject({ backends: both, masquerade: false });
    expect(ask(node, '10.244.1.5', '10.96.0.10:80')).toMatchObject({ backends: both, masquerade: true });
    expect(ask(node, '203.0.113.1', '10.96.0.10:53', 'udp')).toMatchObject({ translated: false });
  });
});
