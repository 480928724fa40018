/**
 * Rulesets in the shapes that Docker (nftables backend), Calico (nftables data plane) and firewalld leave on nodes,
 * written for these tests: names and structure as those programs have them, contents made up.
 */

export const DOCKER = `table ip docker-bridges {
	map filter-forward-in-jumps {
		type ifname : verdict
		elements = { "docker0" : jump filter-forward-in__docker0 }
	}

	map filter-forward-out-jumps {
		type ifname : verdict
		elements = { "docker0" : jump filter-forward-out__docker0 }
	}

	map nat-postrouting-in-jumps {
		type ifname : verdict
		elements = { "docker0" : jump nat-postrouting-in__docker0 }
	}

	map nat-postrouting-out-jumps {
		type ifname : verdict
		elements = { "docker0" : jump nat-postrouting-out__docker0 }
	}

	chain filter-FORWARD {
		type filter hook forward priority filter; policy accept;
		oifname vmap @filter-forward-in-jumps
		iifname vmap @filter-forward-out-jumps
	}

	chain nat-OUTPUT {
		type nat hook output priority -100; policy accept;
		ip daddr != 127.0.0.0/8 fib daddr type local counter packets 0 bytes 0 jump nat-prerouting-and-output
	}

	chain nat-POSTROUTING {
		type nat hook postrouting priority srcnat; policy accept;
		iifname vmap @nat-postrouting-out-jumps
		oifname vmap @nat-postrouting-in-jumps
	}

	chain nat-PREROUTING {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local counter packets 0 bytes 0 jump nat-prerouting-and-output
	}

	chain nat-prerouting-and-output {
		iifname != "docker0" tcp dport 8080 counter packets 2 bytes 120 dnat to 172.17.0.2:80 comment "DNAT"
	}

	chain raw-PREROUTING {
		type filter hook prerouting priority raw; policy accept;
		ip daddr 172.17.0.2 iifname != "docker0" counter packets 0 bytes 0 drop comment "DROP DIRECT ACCESS"
	}

	chain filter-forward-in__docker0 {
		ct state established,related counter packets 9 bytes 900 accept
		iifname "docker0" counter packets 0 bytes 0 accept comment "ICC"
		ip daddr 172.17.0.2 tcp dport 80 counter packets 1 bytes 60 accept
		counter packets 0 bytes 0 drop comment "UNPUBLISHED PORT DROP"
	}

	chain filter-forward-out__docker0 {
		ct state established,related counter packets 0 bytes 0 accept
		counter packets 0 bytes 0 accept comment "OUTGOING"
	}

	chain nat-postrouting-in__docker0 {
	}

	chain nat-postrouting-out__docker0 {
		oifname != "docker0" ip saddr 172.17.0.0/16 counter packets 3 bytes 180 masquerade comment "MASQUERADE"
	}
}
`;

export const CALICO = `table ip calico {
	set cali40all-ipam-pools {
		type ipv4_addr
		flags interval
		elements = { 10.244.0.0/16 }
	}

	set cali40masq-ipam-pools {
		type ipv4_addr
		flags interval
		elements = { 10.244.0.0/16 }
	}

	set cali40s:np-web {
		type ipv4_addr . inet_proto . inet_service
		flags interval
		elements = { 10.244.1.7 . tcp . 8080 }
	}

	map cali4-fw-dispatch {
		type ifname : verdict
		elements = { "cali1234567890a" : goto filter-cali-fw-cali1234567890a }
	}

	chain raw-PREROUTING {
		type filter hook prerouting priority raw; policy accept;
		meta mark set meta mark & 0xffe0ffff
		iifname "cali*" meta mark set meta mark | 0x00040000
		meta mark & 0x00040000 == 0x00040000 fib saddr . mark . iif oif 0 drop
	}

	chain filter-FORWARD {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		ct state invalid drop
		iifname "cali*" iifname vmap @cali4-fw-dispatch
		oifname "cali*" icmp type { echo-request, destination-unreachable } accept
		meta mark & 0x00010000 == 0x00010000 accept
	}

	chain filter-cali-fw-cali1234567890a {
		udp dport 4789 drop comment "Drop VXLAN encapped packets originating in workloads"
		ip protocol ipencap drop
		meta mark set meta mark & 0xfffcffff
		jump filter-cali-po-web
		meta mark & 0x00010000 == 0x00010000 return
		limit rate 10/second burst 5 packets log prefix "calico-drop" group 1
		counter packets 0 bytes 0 drop
	}

	chain filter-cali-po-web {
		ip daddr . meta l4proto . th dport @cali40s:np-web meta mark set meta mark | 0x00010000
		meta mark & 0x00010000 == 0x00010000 return
	}

	chain mangle-POSTROUTING {
		type filter hook postrouting priority mangle; policy accept;
		ct status dnat ip saddr @cali40all-ipam-pools return
	}

	chain nat-POSTROUTING {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @cali40masq-ipam-pools ip daddr != @cali40all-ipam-pools counter packets 0 bytes 0 masquerade fully-random
		oifname "vxlan.calico" fib saddr type != local masquerade
	}
}
`;

export const FIREWALLD = `table inet firewalld {
	chain mangle_PREROUTING {
		type filter hook prerouting priority mangle + 10; policy accept;
		jump mangle_PREROUTING_ZONES
	}

	chain mangle_PREROUTING_ZONES {
		iifname "eth0" goto mangle_PRE_public
		goto mangle_PRE_public
	}

	chain mangle_PRE_public {
	}

	chain filter_PREROUTING {
		type filter hook prerouting priority filter + 10; policy accept;
		icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
		meta nfproto ipv6 fib saddr . mark . iif oif missing drop
	}

	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		jump filter_INPUT_ZONES
		reject with icmpx admin-prohibited
	}

	chain filter_INPUT_ZONES {
		iifname "eth0" goto filter_IN_public
		goto filter_IN_public
	}

	chain filter_IN_public {
		tcp dport 22 accept
		ip6 daddr fe80::/64 udp dport 546 accept
		ip daddr 224.0.0.251 udp dport 5353 accept
		meta l4proto { icmp, ipv6-icmp } accept
	}

	chain nat_POSTROUTING {
		type nat hook postrouting priority srcnat + 10; policy accept;
		iifname "docker0" oifname != "docker0" meta nfproto ipv4 oifname != "lo" masquerade
	}
}
`;

/** Rules of iptables-nft, of which nft prints a translation. */
export const IPTABLES_NFT = `*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 8472 -j NOTRACK
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xffff --ctmask 0xffff
-A PREROUTING -j CONNMARK --save-mark
-A PREROUTING -j MARK --set-xmark 0x10000/0x10000
-A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https" -m tcp --dport 443 -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SERVICES -m statistic --mode nth --every 3 --packet 1 -j KUBE-SEP-BBBBBBBBBBBBBBBB
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SEP-AAAAAAAAAAAAAAAA -s 10.244.0.1/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 10.244.0.1:6443
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:cali-FORWARD - [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p tcp -m multiport --dports 80,443,8000:9000 -j ACCEPT
-A FORWARD -i cali+ -j cali-FORWARD
-A FORWARD -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A FORWARD -m limit --limit 10/sec -j LOG --log-prefix "foo "
-A FORWARD -p tcp -j REJECT --reject-with tcp-reset
-A FORWARD -j REJECT --reject-with icmp-host-prohibited
-A INPUT -m connmark ! --mark 0x1/0x3 -j ACCEPT
-A INPUT -m conntrack --ctdir REPLY -j ACCEPT
-A INPUT -m conntrack --ctorigdst 10.0.0.1 --ctorigdstport 80 --ctproto 6 -j ACCEPT
-A INPUT -m iprange --src-range 10.0.0.1-10.0.0.5 -j ACCEPT
-A INPUT -m length --length 100:200 -j ACCEPT
-A INPUT -m u32 --u32 "0x0&0xff=0x1" -j DROP
-A cali-FORWARD -p udp -m udp ! --sport 1000 -j ACCEPT
-A cali-FORWARD -p 4 -j ACCEPT
-A cali-FORWARD -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN,ACK -j ACCEPT
COMMIT
`;
