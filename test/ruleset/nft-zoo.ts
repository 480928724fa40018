/**
 * Rules as they stand on real nodes, and most of what nft can say: one a line, in the table `ip t` of `NFT_ZOO_TABLE`.
 */

export const NFT_ZOO_TABLE = `table ip t {
  comment "the zoo"
  set affinity-X { type ipv4_addr; flags dynamic,timeout; timeout 3h; }
  set cluster-ips { type ipv4_addr; comment "Active ClusterIPs"; elements = { 10.96.0.1, 10.96.0.10 }; }
  set nets { type ipv4_addr; flags interval; auto-merge; elements = { 10.0.0.0/8, 192.168.0.1-192.168.0.99, 172.16.0.1 }; }
  set ports { type inet_proto . inet_service; flags interval; elements = { tcp . 80, udp . 53-60 }; }
  set typed { typeof ip saddr . tcp dport; elements = { 10.0.0.1 . 80 }; }
  set kept { type ipv4_addr; flags timeout; elements = { 10.0.0.1 timeout 1h30m comment "kept", 10.0.0.2 }; }
  set names { type ifname; elements = { "eth0", "docker0" }; }
  set marks { type mark; elements = { 0x10, 0x20 }; }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; comment "ClusterIP, x";
    elements = { 10.96.0.1 . tcp . 443 : goto service-ULMVA6XW-ns1/svc1/tcp/p80, 10.96.0.2 . udp . 53 : drop } }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict;
    elements = { 10.96.0.3 . tcp . 80 comment "ns/x" : drop, 10.96.0.4 . sctp . 80 comment "ns/y" : goto reject-chain } }
  map addresses { type ipv4_addr : ipv4_addr; elements = { 10.0.0.1 : 10.1.0.1 }; }
  map jumps { type ifname : verdict; elements = { "docker0" : jump endpoint-A }; }
  chain reject-chain { reject; }
  chain endpoint-A { }
  chain endpoint-B { comment "of B"; }
  chain service-ULMVA6XW-ns1/svc1/tcp/p80 { }
  chain in { type filter hook input priority -110; policy drop; }
  chain pre { type filter hook prerouting priority raw - 5; }
  chain forw { type filter hook forward priority filter + 10; }
  chain out { type route hook output priority mangle; }
  chain snats { type nat hook postrouting priority srcnat; }
  chain dnats { type nat hook prerouting priority dstnat; }
}
table ip6 t6 {
  set six { type ipv6_addr; flags interval; elements = { fd00::/16, 2001:db8::1-2001:db8::9, ::ffff:1.2.3.4 }; }
  chain in { type filter hook input priority 0; }
  chain dnats { type nat hook prerouting priority -100; }
}
table inet firewalld {
  chain in { type filter hook input priority filter + 10; policy accept; }
  chain dnats { type nat hook prerouting priority dstnat + 10; }
}
table bridge b {
  chain c { }
}
table arp a {
  chain c { }
}
table inet sleeping {
  flags dormant
  chain c { }
}
`;

/** Understood: read and written again, the real nft lists the same. */
export const NFT_ZOO_RULES: readonly string[] = [
  ...[
    'ct state new ip daddr . meta l4proto . th dport vmap @no-endpoint-services',
    'ct state established,related accept',
    'ct state { established, new } accept',
    'ct state vmap { invalid : drop, established : accept, related : accept }',
    'ct state != new accept',
    'ct status dnat accept',
    'ct status { dnat, snat } accept',
    'ct status & (dnat|snat) != 0 accept',
    'ct direction original accept',
    'ct original ip daddr 1.2.3.4 accept',
    'ct reply ip saddr 1.2.3.0/24 accept',
    'ct mark 0x10 accept',
    'ct mark and 0xff == 0x10 accept',
    'ct mark set mark',
    'ct mark set meta mark or 0x1',
    'meta mark set ct mark',
    'meta mark set ct mark and 0xff',
    'meta mark set 0x5',
    'meta mark set mark or 0x4000',
    'meta mark set mark xor 0x4000',
    'meta mark set mark and 0xfff0ffff',
    'meta mark set mark and 0xffff0000 xor 0x5',
    'meta mark set ip saddr map { 10.0.0.1 : 0x1, 10.0.0.2 : 0x2 }',
    'meta mark 0x1 accept',
    'meta mark != 0x1 accept',
    'meta mark & 0xf == 0x1 accept',
    'meta mark & 0xf != 0x1 accept',
    'meta mark { 0x1, 0x5 } accept',
    'meta mark @marks accept',
    'meta pkttype broadcast drop',
    'iifname "cali*" accept',
    'iifname { "eth0", "docker0" } accept',
    'iifname != { "docker0", "br-1234" } accept',
    'iifname @names accept',
    'iifname vmap @jumps',
    'iif lo accept',
    'fib daddr . iif type != { local, broadcast, multicast } drop',
    'fib daddr type local accept',
    'ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap { tcp . 30000 : goto endpoint-A, udp . 30001 : goto endpoint-B }',
    'ip protocol { tcp, udp, 132 } accept',
    'ip protocol icmp icmp type { echo-request, echo-reply, destination-unreachable } accept',
    'icmp type echo-request icmp code 0 accept',
    'icmp type . icmp code { 3 . 4, 3 . 1 } accept',
    'tcp flags syn / fin,syn,rst,ack accept',
    'tcp flags & (fin|syn|rst|ack) == syn accept',
    'tcp flags { syn, ack } accept',
    'tcp flags & (syn|rst) == 0 accept',
    'tcp flags syn accept',
    'tcp flags != syn accept',
    'tcp flags fin,psh / fin,psh drop',
    'tcp sport 1024-65535 tcp dport { 80, 443, 8000-9000 } accept',
    'tcp dport != { 22, 23 } drop',
    'tcp dport != 1-1023 drop',
    'udp dport 53 udp sport >= 1024 accept',
    'sctp dport 7 accept',
    'th dport 53 accept',
    'meta l4proto { tcp, udp } th dport { 53, 54 } accept',
    'meta l4proto . th dport @ports accept',
    'ip saddr . tcp dport @typed accept',
    'ip saddr @nets accept',
    'ip saddr != @cluster-ips accept',
    'ip saddr { 10.0.0.0/8, 192.168.0.1-192.168.0.99, 172.16.0.1 } accept',
    'ip daddr { 10.96.0.0/12 } drop comment "Drop traffic to unallocated ClusterIPs"',
    'ip saddr & 255.0.0.255 == 10.0.0.1 accept',
    'ip saddr . tcp dport { 10.0.0.1 . 80, 10.0.0.0/24 . 8000-9000 } accept',
    'ip saddr 10.0.0.1-10.0.0.9 accept',
    'ip ttl < 5 drop',
    'ip length 20-100 accept',
    'ip id 5 accept',
    'ip frag-off & 0x1fff != 0 drop',
    'tcp window 0 tcp sequence > 1 tcp ackseq 0 drop',
    'udp length 8-28 accept',
    'meta length 100-200 accept',
    'ip saddr < 10.0.0.9 accept',
    'ip daddr vmap { 10.0.0.0/8 : accept, 1.2.3.4 : jump endpoint-A, * : drop }',
    'limit rate 10/second burst 9 packets accept',
    'limit rate over 1 mbytes/second drop',
    'limit rate 10/minute counter log prefix "foo bar: " level warn flags tcp sequence,options',
    'ip protocol tcp ct count over 10 reject with tcp reset',
    'ct count 10 accept',
    'quota over 10 mbytes drop',
    'quota 10 mbytes accept',
    'log prefix "foo bar: " level warn flags all',
    'log group 5 prefix "nf" snaplen 64 queue-threshold 3',
    'log',
    'counter packets 5 bytes 10 accept',
    'counter comment "only counted"',
    'reject',
    'reject with icmp type host-unreachable',
    'reject with icmp type admin-prohibited',
    'reject with tcp reset',
    'meta priority set 1:2',
    'meta nftrace set 1',
    'ip dscp set cs1',
    'tcp flags syn tcp option maxseg size set 1400',
    'numgen inc mod 3 0 accept',
    'numgen random mod 10 < 3 accept',
    'numgen random mod 2 offset 1 vmap { 1 : goto endpoint-A, 2 : goto endpoint-B }',
    'jhash ip saddr mod 2 seed 0xdeadbeef 0 accept',
    'jhash ip saddr . tcp sport mod 2 offset 5 vmap { 5 : accept, 6 : drop }',
    'symhash mod 2 vmap { 0 : accept, 1 : drop }',
    'ip saddr @affinity-X goto endpoint-A',
    'update @affinity-X { ip saddr }',
    'add @affinity-X { ip saddr timeout 30s } accept',
    'delete @affinity-X { ip saddr }',
    'goto reject-chain',
    'jump endpoint-A',
    'continue',
    'return',
  ].map((rule) => `ip t in ${rule}`),
  ...[
    'notrack',
    'fib saddr . iif oif missing drop',
    'fib saddr . mark . iif oif != 0 accept',
    'fib saddr . iif oif eq 0 drop',
    'fib saddr oif exists accept',
    'fib saddr oifname "eth0" accept',
    'fib saddr type { unicast, local } accept',
  ].map((rule) => `ip t pre ${rule}`),
  ...['iifname "eth0" oifname "cali*" accept', 'iif . oif { "lo" . "lo" } accept'].map((rule) => `ip t forw ${rule}`),
  ...[
    'masquerade',
    'masquerade random',
    'masquerade persistent,fully-random',
    'meta l4proto tcp masquerade to :1024-65535',
    'snat to 10.0.0.1',
    'snat to 10.0.0.1-10.0.0.9 random,persistent',
    'meta l4proto tcp snat to 10.0.0.1:1024-2048 fully-random',
    'snat to ip saddr map { 10.0.0.1 : 1.1.1.1, 10.0.0.2 : 2.2.2.2 }',
    'snat to ip saddr map @addresses',
    'oifname != "docker0" ip saddr 172.17.0.0/16 counter masquerade',
  ].map((rule) => `ip t snats ${rule}`),
  ...[
    'meta l4proto tcp redirect to :80',
    'redirect',
    'tcp dport 80 redirect to :8080-8090 random',
    'dnat to 10.0.0.1',
    'meta l4proto tcp dnat to 10.244.0.1:80',
    'tcp dport 80 dnat to :8080',
    'tcp dport 80 dnat to 10.0.0.1-10.0.0.5:80-90',
    'tcp dport 80 dnat ip to tcp dport map { 80 : 10.0.0.1, 81 : 10.0.0.2 }',
    'dnat to numgen inc mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }',
    'meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.0.0.1 . 80, 1 : 10.0.0.2 . 81 }',
    'dnat to jhash ip saddr . tcp sport mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }',
  ].map((rule) => `ip t dnats ${rule}`),
  ...[
    'ip6 saddr fd00::1 accept',
    'ip6 saddr { fd00::/16, 2001:db8::1-2001:db8::9 } accept',
    'ip6 daddr ::1 accept',
    'ip6 saddr ::ffff:10.0.0.1 accept',
    'ip6 saddr @six accept',
    'ip6 nexthdr tcp accept',
    'ip6 hoplimit 1 drop',
    'ip6 length 40-80 accept',
    'ip6 saddr & ffff:: == fd00:: accept',
    'meta l4proto ipv6-icmp accept',
    'icmpv6 type { nd-neighbor-solicit, nd-router-advert, echo-request } accept',
    'icmpv6 type 1 icmpv6 code 4 accept',
    'reject',
    'reject with icmpv6 type addr-unreachable',
    'ct original ip6 daddr fd00::1 accept',
  ].map((rule) => `ip6 t6 in ${rule}`),
  ...[
    'meta l4proto tcp dnat to [fd00::1]:80',
    'dnat to fd00::1',
    'dnat to fd00::1-fd00::9',
    'meta l4proto tcp dnat to [fd00::1]-[fd00::9]:80-90',
    'tcp dport 80 dnat to :8080',
  ].map((rule) => `ip6 t6 dnats ${rule}`),
  ...[
    'meta nfproto ipv6 fib saddr . mark . iif oif missing drop',
    'meta nfproto ipv4 accept',
    'meta protocol ip accept',
    'ip saddr 10.0.0.1 accept',
    'ip6 saddr fd00::1 accept',
    'icmpv6 type { nd-neighbor-advert, nd-neighbor-solicit, nd-router-advert, nd-redirect } accept',
    'reject with icmpx type admin-prohibited',
    'reject',
    'ct state { established, related } accept',
  ].map((rule) => `inet firewalld in ${rule}`),
  ...['meta l4proto tcp dnat ip to 10.0.0.1:80', 'meta l4proto tcp dnat ip6 to [fd00::1]:80'].map(
    (rule) => `inet firewalld dnats ${rule}`,
  ),
];

/** Not understood: named with their line, and never matching. */
export const NFT_ZOO_UNKNOWN: readonly string[] = [
  ...[
    'ct expiration > 10s accept',
    'ct zone 1 accept',
    'meta skuid 0 accept',
    'meta cgroup 10 accept',
    'ip dscp cs1 accept',
    'ip ttl set 64',
    'ip saddr set 1.2.3.4',
    'dup to 1.2.3.4',
    'rt classid 1 accept',
    'meta time > "2020-01-01 00:00:00" accept',
    'meta hour "08:00"-"10:00" accept',
    'ether saddr 00:11:22:33:44:55 accept',
    'dccp dport 7 accept',
  ].map((rule) => `ip t in ${rule}`),
  'ip t dnats dnat ip prefix to ip daddr map { 10.0.0.0/24 : 10.1.0.0/24 }',
];
