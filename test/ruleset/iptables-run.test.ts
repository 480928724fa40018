/** Packets through dumps in the shapes that Docker, portmap, Calico, kube-router and kubelet leave on a node. */

import { describe, expect, it } from 'vitest';
import { ask, dump, nodeOf } from './iptables-node.ts';

const NEW = { verdict: 'forwarded', reason: 'none', translated: false, masquerade: false };

describe('interfaces and routes', () => {
  const rules = (...filter: string[]) => nodeOf({ 'node.iptables': dump({ filter }) });

  it('come in by the route toward the source and leave by the one toward the destination', () => {
    const node = rules(
      '-A FORWARD -i eth0 -o cni0 -p tcp -m tcp --dport 1 -j DROP',
      '-A FORWARD -i cni0 -o cali+ -p tcp -m tcp --dport 2 -j DROP',
      '-A FORWARD ! -i eth0 -o tunl0 -p tcp -m tcp --dport 3 -j DROP',
      '-A FORWARD -i nosuch0 -j DROP',
    );
    expect(ask(node, '203.0.113.1', '10.244.1.5:1')).toMatchObject({ verdict: 'dropped', reason: 'rule-drop' });
    expect(ask(node, '203.0.113.1', '10.244.1.5:2')).toMatchObject({ ...NEW, out: ['cni0'] });
    expect(ask(node, '10.244.1.5', '10.245.0.5:2')).toMatchObject({ verdict: 'dropped' });
    expect(ask(node, '203.0.113.1', '10.245.0.5:2')).toMatchObject({ ...NEW, out: ['cali12'] });
    expect(ask(node, '10.245.0.5', '10.246.7.7:3')).toMatchObject({ verdict: 'dropped' });
    expect(ask(node, '203.0.113.1', '10.246.7.7:3')).toMatchObject({ ...NEW, out: ['tunl0'] });
  });

  it('a process of the node has no incoming interface, what is delivered none to leave by', () => {
    const node = rules(
      '-A OUTPUT -o eth0 -p tcp -m tcp --dport 1 -j DROP',
      '-A OUTPUT ! -o lo -p tcp -m tcp --dport 2 -j DROP',
      '-A INPUT -i eth0 -p tcp -m tcp --dport 3 -j DROP',
      '-A INPUT -i lo -p tcp -m tcp --dport 4 -j DROP',
    );
    expect(ask(node, 'node/node', '203.0.113.1:1').verdict).toBe('dropped');
    expect(ask(node, 'node/node', '10.244.1.5:1').verdict).toBe('forwarded');
    expect(ask(node, 'node/node', '192.0.2.10:2').verdict).toBe('delivered');
    expect(ask(node, 'node/node', '10.244.1.5:2').verdict).toBe('dropped');
    expect(ask(node, '203.0.113.1', '192.0.2.11:3').verdict).toBe('dropped');
    expect(ask(node, '10.244.1.5', '192.0.2.11:3').verdict).toBe('delivered');
    expect(ask(node, 'node/node', '10.244.1.1:4').verdict).toBe('dropped');
    expect(ask(node, '203.0.113.1', '10.244.1.1:4').verdict).toBe('delivered');
  });

  it('routes that refuse drop, and broadcast addresses are the node itself', () => {
    const node = rules('-A INPUT -s 203.0.113.9/32 -j DROP');
    for (const to of ['10.245.0.7:1', '10.99.0.1:1', '10.98.0.1:1']) {
      expect(ask(node, '203.0.113.1', to)).toMatchObject({ verdict: 'dropped', reason: 'unroutable' });
    }
    expect(ask(node, '203.0.113.1', '192.0.2.255:1', 'udp').verdict).toBe('delivered');
  });

  it('addrtype asks the routing table, on one interface if told so', () => {
    const nat = [
      '-A PREROUTING -p tcp -m tcp --dport 1 -m addrtype --dst-type LOCAL --limit-iface-in -j DNAT --to-destination 10.244.1.9',
      '-A PREROUTING -p tcp -m tcp --dport 2 -m addrtype --dst-type LOCAL -j DNAT --to-destination 10.244.1.9',
      '-A PREROUTING -p tcp -m tcp --dport 3 -m addrtype --dst-type BLACKHOLE,PROHIBIT -j DNAT --to-destination 10.244.1.9',
      '-A PREROUTING -p udp -m udp --dport 4 -m addrtype --dst-type BROADCAST -j DNAT --to-destination 10.244.1.9',
    ];
    const node = nodeOf({ 'node.iptables': dump({ nat }) });
    expect(ask(node, '203.0.113.1', '192.0.2.10:1').translated).toBe(true);
    expect(ask(node, '203.0.113.1', '10.244.1.1:1').translated).toBe(false);
    expect(ask(node, '203.0.113.1', '10.244.1.1:2').translated).toBe(true);
    expect(ask(node, '203.0.113.1', '10.245.0.9:3').translated).toBe(true);
    expect(ask(node, '203.0.113.1', '10.99.0.9:3').translated).toBe(false);
    expect(ask(node, '203.0.113.1', '192.0.2.255:4', 'udp').translated).toBe(true);
  });

  it('MASQUERADE takes the address of the way out', () => {
    const node = nodeOf({ 'node.iptables': dump({ nat: ['-A POSTROUTING -s 10.244.1.0/24 -j MASQUERADE'] }) });
    const sourceOf = (to: string) => ask(node, '10.244.1.5', to).tuples[0]!.split(' ')[0];
    expect(sourceOf('203.0.113.1:80')).toBe('192.0.2.10');
    expect(sourceOf('10.246.0.1:80')).toBe('10.245.0.1');
    // cali12 has no address of the world: the first of any interface.
    expect(sourceOf('10.245.0.5:80')).toBe('192.0.2.10');
  });
});

describe('portmap', () => {
  const nat = [
    '-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT',
    '-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT',
    '-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ',
    '-A CNI-DN-0123456789abcdef01234 -s 10.244.1.0/24 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK',
    '-A CNI-DN-0123456789abcdef01234 -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK',
    '-A CNI-DN-0123456789abcdef01234 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.1.5:80',
    '-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"cbr0\\" id: \\"77\\"" -m multiport --dports 8080 -j CNI-DN-0123456789abcdef01234',
    '-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE',
    '-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000',
  ];
  const node = nodeOf({ 'node.iptables': dump({ nat }) });

  it('forwards a host port, masquerading the pods of the node', () => {
    expect(ask(node, '203.0.113.1', '192.0.2.10:8080')).toMatchObject({
      verdict: 'forwarded',
      backends: ['10.244.1.5:80'],
      masquerade: false,
      out: ['cni0'],
    });
    expect(ask(node, '10.244.1.5', '192.0.2.10:8080')).toMatchObject({ masquerade: true, backends: ['10.244.1.5:80'] });
    expect(ask(node, '203.0.113.1', '192.0.2.10:8081')).toMatchObject({ verdict: 'delivered', translated: false });
    expect(ask(node, '203.0.113.1', '203.0.113.9:8080')).toMatchObject({ verdict: 'forwarded', translated: false });
  });
});

describe('Calico', () => {
  const texts = {
    'node.iptables': dump({
      raw: [
        '-A PREROUTING -m comment --comment "cali:6gwbT8clXdHdC1b1" -j cali-PREROUTING',
        '-A cali-PREROUTING -m comment --comment "cali:x" -j MARK --set-xmark 0x0/0xf0000',
        '-A cali-PREROUTING -i cali+ -m comment --comment "cali:y" -j MARK --set-xmark 0x40000/0x40000',
        '-A cali-PREROUTING -m mark --mark 0x40000/0x40000 -m rpfilter --validmark --invert -j DROP',
      ],
      mangle: [
        '-A PREROUTING -m connmark --mark 0x8/0x8 -j MARK --set-xmark 0x8/0x8',
        '-A POSTROUTING -p tcp -m tcp --dport 7777 -j CONNMARK --set-xmark 0x8/0x8',
      ],
      filter: [
        ':FORWARD DROP [0:0]',
        '-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD',
        '-A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT',
        '-A cali-FORWARD -m comment --comment "cali:a" -j MARK --set-xmark 0x0/0xe0000',
        '-A cali-FORWARD -i cali+ -g cali-from-wl',
        '-A cali-FORWARD -o cali+ -j cali-to-wl',
        '-A cali-FORWARD ! -o cali+ -j RETURN',
        '-A cali-from-wl -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
        '-A cali-from-wl -m conntrack --ctstate INVALID -j DROP',
        '-A cali-from-wl -p udp -m multiport --dports 53 -j MARK --set-xmark 0x10000/0x10000',
        '-A cali-from-wl -m mark --mark 0x10000/0x10000 -j RETURN',
        '-A cali-from-wl -m set --match-set cali40s:allow dst -j MARK --set-xmark 0x10000/0x10000',
        '-A cali-to-wl -m set --match-set cali40p:web src,dst -j MARK --set-xmark 0x10000/0x10000',
        '-A cali-to-wl -m mark --mark 0x10000/0x10000 -j RETURN',
        '-A cali-to-wl -m set ! --match-set cali40s:allow src -j DROP',
      ],
    }),
    'node.ipset': [
      'create cali40s:allow hash:net family inet hashsize 1024 maxelem 1048576 bucketsize 12 initval 0x1',
      'add cali40s:allow 10.246.0.0/16',
      'add cali40s:allow 203.0.113.0/24',
      'create cali40p:web hash:ip,port family inet hashsize 1024 maxelem 1048576',
      'add cali40p:web 198.51.100.7,tcp:80',
      '',
    ].join('\n'),
  };
  const node = nodeOf(texts);

  it('runs in the iptables mode, its sets asked', () => {
    expect(node.loaded.ruleset.mode).toBe('iptables');
    expect(ask(node, '10.245.0.5', '203.0.113.7:443')).toMatchObject({ ...NEW, out: ['eth0'] });
    expect(ask(node, '10.245.0.5', '198.51.100.7:443')).toMatchObject({ verdict: 'dropped', reason: 'chain-policy' });
    expect(ask(node, '10.245.0.5', '198.51.100.7:53', 'udp').verdict).toBe('forwarded');
    expect(ask(node, '198.51.100.7', '10.245.0.5:80').verdict).toBe('forwarded');
    expect(ask(node, '198.51.100.7', '10.245.0.5:81')).toMatchObject({ verdict: 'dropped', reason: 'rule-drop' });
    expect(ask(node, '203.0.113.9', '10.245.0.5:81')).toMatchObject({ verdict: 'dropped', reason: 'chain-policy' });
  });

  it('says which set is missing', () => {
    expect(() => nodeOf({ 'node.iptables': texts['node.iptables'] })).toThrow(
      "'--match-set cali40s:allow': no set of this name was given",
    );
    const lenient = nodeOf({ 'node.iptables': texts['node.iptables'] }, true);
    expect(lenient.loaded.skipped).toHaveLength(3);
    expect(ask(lenient, '198.51.100.7', '10.245.0.5:80')).toMatchObject({ verdict: 'dropped', reason: 'chain-policy' });
  });
});

describe('kube-router', () => {
  const filter = [
    '-A INPUT -m comment --comment "kube-router netpol - 4IA2OSFRMVNDXBVV" -j KUBE-ROUTER-INPUT',
    '-A FORWARD -j KUBE-ROUTER-FORWARD',
    '-A KUBE-ROUTER-FORWARD -d 10.244.1.7/32 -m comment --comment "rule to jump traffic" -j KUBE-POD-FW-AAAA',
    '-A KUBE-ROUTER-FORWARD -d 10.244.1.7/32 -m physdev --physdev-is-bridged -j KUBE-POD-FW-AAAA',
    '-A KUBE-ROUTER-FORWARD -s 10.244.1.8/32 -m physdev --physdev-is-bridged -p tcp -m tcp --dport 9 -j DROP',
    '-A KUBE-ROUTER-FORWARD -m mark --mark 0x20000/0x20000 -j ACCEPT',
    '-A KUBE-ROUTER-INPUT -p tcp -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 -j RETURN',
    '-A KUBE-ROUTER-INPUT -p tcp -m tcp --dport 179 -j REJECT --reject-with tcp-reset',
    '-A KUBE-POD-FW-AAAA -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    '-A KUBE-POD-FW-AAAA -d 10.244.1.7/32 -m addrtype --src-type LOCAL -j ACCEPT',
    '-A KUBE-POD-FW-AAAA -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x10000/0x10000',
    '-A KUBE-POD-FW-AAAA -m mark ! --mark 0x10000/0x10000 -m limit --limit 10/min --limit-burst 10 -j NFLOG --nflog-group 100',
    '-A KUBE-POD-FW-AAAA -m mark ! --mark 0x10000/0x10000 -j REJECT --reject-with icmp-port-unreachable',
    '-A KUBE-POD-FW-AAAA -j MARK --set-xmark 0x0/0x10000',
    '-A KUBE-POD-FW-AAAA -j MARK --set-xmark 0x20000/0x20000',
  ];
  const node = nodeOf({ 'node.iptables': dump({ filter }) });

  it('lets a pod be reached on what its policy allows, by the node on anything', () => {
    expect(ask(node, '203.0.113.1', '10.244.1.7:80').verdict).toBe('forwarded');
    expect(ask(node, '203.0.113.1', '10.244.1.7:81')).toMatchObject({ verdict: 'rejected', reason: 'rule-reject' });
    expect(ask(node, '10.244.1.8', '10.244.1.9:9').verdict).toBe('dropped');
    expect(ask(node, '10.244.1.8', '203.0.113.1:9').verdict).toBe('forwarded');
    expect(ask(node, '203.0.113.1', '192.0.2.10:179').verdict).toBe('rejected');
    expect(node.loaded.assumed).toMatchObject([{ text: '-m limit', message: 'taken as under the limit: it matches' }]);
  });
});

describe('nat targets', () => {
  const nat = [
    '-A PREROUTING -d 203.0.113.50/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.244.1.5-10.244.1.7:8000-8009',
    '-A PREROUTING -d 203.0.113.50/32 -p tcp -m tcp --dport 8005 -j DNAT --to-destination 10.244.1.5:8000-8009',
    '-A PREROUTING -d 203.0.113.51/32 -p tcp -j DNAT --to-destination :9090',
    '-A PREROUTING -d 203.0.113.52/32 -p tcp -j REDIRECT --to-ports 15001',
    '-A PREROUTING -d 10.77.0.0/16 -j NETMAP --to 10.246.0.0/16',
    '-A OUTPUT -d 203.0.113.52/32 -p tcp -j REDIRECT --to-ports 15001',
    '-A POSTROUTING -s 10.244.1.9/32 -p tcp -j SNAT --to-source 192.0.2.40-192.0.2.41',
    '-A POSTROUTING -s 10.246.0.0/16 -j NETMAP --to 10.77.0.0/16',
  ];
  const node = nodeOf({ 'node.iptables': dump({ nat }) });

  it('try every address of a range', () => {
    const all = ask(node, '203.0.113.1', '203.0.113.50:80');
    expect(all.backends).toEqual(['10.244.1.5:8000', '10.244.1.6:8000', '10.244.1.7:8000']);
    expect(ask(node, '203.0.113.1', '203.0.113.50:8005').backends).toEqual(['10.244.1.5:8005']);
    expect(ask(node, '10.244.1.9', '203.0.113.77:80').tuples).toEqual([
      '192.0.2.40 -> 203.0.113.77 80',
      '192.0.2.41 -> 203.0.113.77 80',
    ]);
  });

  it('change what they name and leave the rest', () => {
    expect(ask(node, '10.244.1.5', '203.0.113.51:80').tuples).toEqual(['10.244.1.5 -> 203.0.113.51 9090']);
    expect(ask(node, '203.0.113.1', '203.0.113.52:80')).toMatchObject({
      verdict: 'delivered',
      backends: ['192.0.2.10:15001'],
    });
    expect(ask(node, '10.244.1.5', '203.0.113.52:80').backends).toEqual(['10.244.1.1:15001']);
    expect(ask(node, 'node/node', '203.0.113.52:80').backends).toEqual(['127.0.0.1:15001']);
    expect(ask(node, '203.0.113.1', '10.77.3.4:80')).toMatchObject({ backends: ['10.246.3.4:80'], out: ['tunl0'] });
    expect(ask(node, '10.246.3.4', '203.0.113.1:80').tuples).toEqual(['10.77.3.4 -> 203.0.113.1 80']);
  });
});

describe('tables', () => {
  it('are walked in the kernel’s order, security behind filter', () => {
    const node = nodeOf({
      'node.iptables': dump({
        filter: ['-A INPUT -p tcp -j ACCEPT'],
        security: ['-A INPUT -p tcp -m tcp --dport 22 -j DROP', ':FORWARD DROP [0:0]', '-A FORWARD -p udp -j ACCEPT'],
        raw: ['-A PREROUTING -p tcp -m tcp --dport 23 -j NOTRACK'],
        mangle: ['-A INPUT -m conntrack --ctstate UNTRACKED -j DROP'],
      }),
    });
    expect(ask(node, '203.0.113.1', '192.0.2.10:22')).toMatchObject({ verdict: 'dropped', reason: 'rule-drop' });
    expect(ask(node, '203.0.113.1', '192.0.2.10:24').verdict).toBe('delivered');
    expect(ask(node, '203.0.113.1', '192.0.2.10:23').verdict).toBe('dropped');
    expect(ask(node, '203.0.113.1', '10.244.1.5:24')).toMatchObject({ verdict: 'dropped', reason: 'chain-policy' });
    expect(ask(node, '203.0.113.1', '10.244.1.5:24', 'udp').verdict).toBe('forwarded');
  });

  it('IPv6 rules come from ip6tables-save, also of the same file', () => {
    const both =
      dump({ filter: ['-A FORWARD -p tcp -j DROP'] }) +
      dump(
        { filter: ['-A FORWARD -d 2001:db8:5::5/128 -o cali+ -p tcp -j REJECT --reject-with icmp6-policy-fail'] },
        'ip6tables',
      );
    const node = nodeOf({ 'node.iptables': both });
    expect(ask(node, '203.0.113.1', '10.244.1.5:24').verdict).toBe('dropped');
    expect(ask(node, '2001:db8:9::1', '[2001:db8:5::5]:24').verdict).toBe('rejected');
    expect(ask(node, '2001:db8:9::1', '[2001:db8:6::5]:24')).toMatchObject({ ...NEW, out: ['eth0'] });
  });

  it('owner, process and policy answers follow what is assumed', () => {
    const node = nodeOf({
      'node.iptables': dump({
        filter: [
          '-A OUTPUT -p tcp -m tcp --dport 1 -m owner --uid-owner 0 -j DROP',
          '-A OUTPUT -p tcp -m tcp --dport 2 -m owner --uid-owner 1337 -j DROP',
          '-A OUTPUT -p tcp -m tcp --dport 3 -m owner ! --uid-owner 1337 -j DROP',
          '-A OUTPUT -m policy --dir out --pol ipsec -j DROP',
          '-A FORWARD -m hashlimit --hashlimit-above 5/sec --hashlimit-name x -j DROP',
        ],
      }),
    });
    expect(ask(node, 'node/node', '203.0.113.1:1').verdict).toBe('dropped');
    expect(ask(node, 'node/node', '203.0.113.1:2').verdict).toBe('forwarded');
    expect(ask(node, 'node/node', '203.0.113.1:3').verdict).toBe('dropped');
    expect(ask(node, '203.0.113.1', '10.244.1.5:1').verdict).toBe('forwarded');
    expect(node.loaded.assumed).toHaveLength(5);
  });
});
