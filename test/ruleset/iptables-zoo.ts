/**
 * Rules in every spelling that iptables takes: what kube-proxy, kubelet, portmap, the CNI's masquerade, Docker, Calico and
 * kube-router write, and every option of the matches and targets that flatpath understands.
 */
import type { Family } from '../../control/src/model/address.ts';

export interface ZooRules {
  readonly raw: readonly string[];
  readonly mangle: readonly string[];
  readonly nat: readonly string[];
  readonly filter: readonly string[];
  readonly security: readonly string[];
}

/** Rules that both families have; `<A>`, `<B>` and `<P>` stand for two addresses and a prefix of the family. */
const BOTH: ZooRules = {
  raw: [
    '-A PREROUTING -s <P> -j NOTRACK',
    '-A PREROUTING -p udp -m udp --dport 4789 -j CT --notrack',
    '-A OUTPUT -p tcp -j CT --helper ftp',
    '-A PREROUTING -m rpfilter --validmark --invert -j DROP',
    '-A PREROUTING -m rpfilter --loose --accept-local -j ACCEPT',
    '-A PREROUTING ! -i cali+ -j MARK --set-xmark 0x0/0xf0000',
  ],
  mangle: [
    '-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xffff0000 --ctmask 0xffff0000',
    '-A POSTROUTING -m mark ! --mark 0x0 -j CONNMARK --save-mark',
    '-A PREROUTING -j CONNMARK --set-xmark 0x1/0x3',
    '-A PREROUTING -j CONNMARK --and-mark 0xff',
    '-A PREROUTING -m connmark --mark 0x1/0x3 -j MARK --set-mark 0x7',
    '-A PREROUTING -m connmark ! --mark 5 -j MARK --set-mark 0x7/0xf',
    '-A PREROUTING -j MARK --and-mark 0xff00',
    '-A PREROUTING -j MARK --or-mark 16',
    '-A PREROUTING -j MARK --xor-mark 0x4000',
    '-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu',
    '-A FORWARD -p tcp --syn -m tcpmss --mss 1400:1500 -j TCPMSS --set-mss 1360',
    '-A POSTROUTING -m tos --tos 0x10/0x3f -j CLASSIFY --set-class 1:10',
    '-A POSTROUTING -m dscp --dscp 46 -j DSCP --set-dscp 0',
    '-A POSTROUTING -m dscp ! --dscp-class AF21 -j TOS --set-tos 0x08',
    '-A POSTROUTING -p udp -m udp --dport 68 -j CHECKSUM --checksum-fill',
  ],
  nat: [
    '-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER',
    '-A PREROUTING -m addrtype ! --src-type LOCAL,MULTICAST -j DOCKER',
    '-A POSTROUTING -m addrtype --src-type LOCAL --limit-iface-out -j RETURN',
    '-A PREROUTING -m addrtype --dst-type LOCAL --limit-iface-in -j RETURN',
    '-A OUTPUT ! -d <P> -m addrtype --dst-type LOCAL -g DOCKER',
    '-A POSTROUTING -s <P> ! -o docker0 -j MASQUERADE',
    '-A POSTROUTING -p tcp -j MASQUERADE --to-ports 1024-2048 --random',
    '-A POSTROUTING -j MASQUERADE --random-fully',
    '-A PREROUTING -p tcp -m multiport --dports 80,443,8000:8010 -j DOCKER',
    '-A PREROUTING -p sctp -m multiport ! --sports 80,443 -j DOCKER',
    '-A PREROUTING -p udp -m multiport --ports 53 -j DOCKER',
    '-A PREROUTING -p tcp -m statistic --mode random --probability 0.33333333349 -j DOCKER',
    '-A PREROUTING -p tcp -m statistic --mode random ! --probability 0.25 -j DOCKER',
    '-A PREROUTING -p tcp -m statistic --mode nth --every 3 --packet 1 -j DOCKER',
    '-A PREROUTING -p tcp -j REDIRECT --to-ports 15001',
    '-A PREROUTING -p tcp -j REDIRECT --to-ports 15001-15010 --random',
    '-A DOCKER -i docker0 -j RETURN',
    '-A OUTPUT -m owner --uid-owner 1337 -j RETURN',
    '-A OUTPUT -m owner ! --gid-owner 0-99 -j RETURN',
    '-A OUTPUT -m owner --socket-exists -j RETURN',
  ],
  filter: [
    '-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT',
    '-A INPUT -m conntrack ! --ctstate NEW,UNTRACKED -j ACCEPT',
    '-A INPUT -m state --state INVALID -j DROP',
    '-A FORWARD -m conntrack --ctstatus SEEN_REPLY,ASSURED -j ACCEPT',
    '-A FORWARD -m conntrack --ctstate NEW --ctdir ORIGINAL --ctproto 6 --ctorigdst <A> -j ACCEPT',
    '-A FORWARD -m conntrack ! --ctorigsrc <P> --ctrepldst <B> -j ACCEPT',
    '-A FORWARD -p tcp -m conntrack --ctorigdstport 80:90 ! --ctreplsrcport 8080 -j ACCEPT',
    '-A FORWARD -m conntrack --ctexpire 10:100 -j ACCEPT',
    '-A FORWARD -m physdev --physdev-is-bridged -j ACCEPT',
    '-A FORWARD -m physdev ! --physdev-is-in -j ACCEPT',
    '-A INPUT -m recent --set --name SSH --rsource',
    '-A INPUT -m recent --update --seconds 60 --hitcount 5 --rttl --name SSH --rsource -j DROP',
    '-A INPUT -m recent ! --rcheck --seconds 30 --name KNOCK --rdest -j DROP',
    '-A INPUT -m recent --remove --name KNOCK -j DROP',
    '-A INPUT -m limit --limit 5/sec --limit-burst 10 -j LOG --log-prefix "in: " --log-level 7',
    '-A INPUT -m hashlimit --hashlimit-above 200/sec --hashlimit-mode srcip --hashlimit-name ssh -j DROP',
    '-A INPUT -m length --length 100:200 -j DROP',
    '-A INPUT -m length ! --length 0:65535 -j DROP',
    '-A INPUT -m mac --mac-source 02:42:ac:11:00:02 -j DROP',
    '-A INPUT -m pkttype --pkt-type broadcast -j DROP',
    '-A INPUT -m iprange --src-range <A>-<B> -j DROP',
    '-A INPUT -m iprange ! --dst-range <A>-<B> -j DROP',
    '-A INPUT -m quota --quota 1000000 -j ACCEPT',
    '-A INPUT -p tcp -m connlimit --connlimit-above 100 -j REJECT --reject-with tcp-reset',
    '-A INPUT -m policy --dir in --pol none -j ACCEPT',
    '-A INPUT -p tcp -m tcp --sport 1024: --dport :1023 -j DROP',
    '-A INPUT -p tcp -m tcp ! --dport 22 --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE -j DROP',
    '-A INPUT -p tcp -m tcp ! --tcp-flags ALL FIN,PSH,URG -j DROP',
    '-A INPUT -p tcp -m tcp --tcp-option 8 -j ACCEPT',
    '-A INPUT -p sctp -m sctp --dport 9 --chunk-types any DATA,INIT -j ACCEPT',
    '-A INPUT -p sctp -m sctp --chunk-types only SHUTDOWN_ACK -j ACCEPT',
    '-A INPUT -p 47 -j ACCEPT',
    '-A INPUT ! -p tcp -j ACCEPT',
    '-A INPUT -i lo -j ACCEPT',
    '-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso \\"quoted\\" it\\\\s" -j NFLOG --nflog-prefix x --nflog-group 1',
    '-A OUTPUT -o eth0 -j DROP',
    '-A OUTPUT',
  ],
  security: ['-A INPUT -p tcp -j ACCEPT', '-A OUTPUT -d <B> -j DROP'],
};

const OF_FAMILY: Readonly<Record<Family, ZooRules>> = {
  4: {
    raw: ['-A PREROUTING -d 10.0.0.0/255.0.255.0 -j ACCEPT'],
    mangle: ['-A PREROUTING -m ttl --ttl-lt 5 -j TTL --ttl-set 64', '-A PREROUTING -m ttl ! --ttl-eq 64 -j ACCEPT'],
    nat: [
      '-A PREROUTING -d 10.0.0.1 -p tcp -j DNAT --to-destination 10.1.0.1',
      '-A PREROUTING -d 10.0.0.1 -p tcp -j DNAT --to-destination 10.1.0.1:80',
      '-A PREROUTING -d 10.0.0.1 -p tcp -j DNAT --to-destination 10.1.0.1-10.1.0.9:8000-8100 --random --persistent',
      '-A PREROUTING -d 10.0.0.1 -p tcp -j DNAT --to-destination :8080',
      '-A POSTROUTING -s 10.0.0.0/8 -j SNAT --to-source 192.0.2.1',
      '-A POSTROUTING -s 10.0.0.0/8 -p tcp -j SNAT --to-source 192.0.2.1-192.0.2.4:1024-2048 --random-fully',
      '-A PREROUTING -d 10.5.0.0/16 -j NETMAP --to 10.6.0.0/16',
      '-A POSTROUTING ! -d 224.0.0.0/4 -j MASQUERADE',
    ],
    filter: [
      '-A FORWARD -p icmp -m icmp --icmp-type 8 -j ACCEPT',
      '-A FORWARD -p icmp -m icmp --icmp-type 3/4 -j ACCEPT',
      '-A FORWARD -p icmp -m icmp ! --icmp-type any -j ACCEPT',
      '-A FORWARD -p icmp -m icmp --icmp-type fragmentation-needed -j ACCEPT',
      '-A INPUT ! -s 127.0.0.0/8 -d 127.0.0.0/8 -j DROP',
      '-A FORWARD -f -j DROP',
      '-A FORWARD ! -f -j ACCEPT',
      ...[
        'icmp-net-unreachable',
        'icmp-host-unreachable',
        'icmp-port-unreachable',
        'icmp-proto-unreachable',
        'icmp-net-prohibited',
        'icmp-host-prohibited',
        'icmp-admin-prohibited',
      ].map((kind) => `-A FORWARD -j REJECT --reject-with ${kind}`),
    ],
    security: [],
  },
  6: {
    raw: ['-A PREROUTING -d 2001:db8::/ffff:ffff:0:ffff:: -j ACCEPT'],
    mangle: ['-A PREROUTING -m hl --hl-gt 5 -j HL --hl-dec 1', '-A PREROUTING -m hl ! --hl-eq 64 -j ACCEPT'],
    nat: [
      '-A PREROUTING -d 2001:db8::1 -p tcp -j DNAT --to-destination 2001:db8::2',
      '-A PREROUTING -d 2001:db8::1 -p tcp -j DNAT --to-destination [2001:db8::2]:80',
      '-A PREROUTING -d 2001:db8::1 -p tcp -j DNAT --to-destination [2001:db8::2-2001:db8::9]:8000-8100',
      '-A PREROUTING -d ::1.2.3.4 -p tcp -j DNAT --to-destination :8080',
      '-A POSTROUTING -s 2001:db8::/32 -j SNAT --to-source 2001:db8:1::1-2001:db8:1::4',
      '-A PREROUTING -d 2001:db8:5::/48 -j NETMAP --to 2001:db8:6::/48',
    ],
    filter: [
      '-A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT',
      '-A FORWARD -p ipv6-icmp -m icmp6 --icmpv6-type 1/4 -j ACCEPT',
      '-A FORWARD -p icmpv6 -m icmp6 ! --icmpv6-type packet-too-big -j ACCEPT',
      '-A INPUT -s ::ffff:10.0.0.1 -j DROP',
      ...[
        'icmp6-no-route',
        'icmp6-adm-prohibited',
        'icmp6-addr-unreachable',
        'icmp6-port-unreachable',
        'icmp6-policy-fail',
        'icmp6-reject-route',
      ].map((kind) => `-A FORWARD -j REJECT --reject-with ${kind}`),
    ],
    security: [],
  },
};

const NAMES: Readonly<Record<Family, Readonly<Record<string, string>>>> = {
  4: { A: '10.0.0.1', B: '10.0.0.9', P: '172.17.0.0/16' },
  6: { A: '2001:db8::1', B: '2001:db8::9', P: '2001:db8:17::/64' },
};

const BASES: Readonly<Record<keyof ZooRules, readonly string[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  security: ['INPUT', 'FORWARD', 'OUTPUT'],
};

/** Every rule of a family, one by one, as the dump of its table. */
export function zooRules(family: Family): { table: keyof ZooRules; rule: string }[] {
  const tables = Object.keys(BASES) as (keyof ZooRules)[];
  return tables.flatMap((table) =>
    [...BOTH[table], ...OF_FAMILY[family][table]].map((rule) => ({
      table,
      rule: rule.replace(/<([ABP])>/g, (_, name: string) => NAMES[family][name]!),
    })),
  );
}

/** The rules of a table as iptables-restore reads them. */
export function zooDump(family: Family, rules: readonly { table: keyof ZooRules; rule: string }[]): string {
  const tool = family === 4 ? 'iptables' : 'ip6tables';
  const lines = [`# Generated by ${tool}-save v1.8.9 on Thu Jan  1 00:00:00 1970`];
  for (const table of Object.keys(BASES) as (keyof ZooRules)[]) {
    const own = rules.filter((rule) => rule.table === table);
    if (own.length === 0) continue;
    lines.push(`*${table}`, ...BASES[table].map((chain) => `:${chain} ACCEPT [0:0]`), ':DOCKER - [0:0]');
    lines.push(...own.map(({ rule }) => rule), 'COMMIT');
  }
  return `${lines.join('\n')}\n`;
}
