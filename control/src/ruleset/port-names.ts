/**
 * Names of ports and protocols that tools print where they are not told to print numbers (`nft -S`, `ipvsadm-save`
 * without `-n`): those of Debian's /etc/services and /etc/protocols that a Service's port is likely to carry.
 */

/** Ports by name. A name has the same number in every transport. */
const PORTS: Readonly<Record<string, number>> = {
  echo: 7,
  discard: 9,
  'ftp-data': 20,
  ftp: 21,
  ssh: 22,
  telnet: 23,
  smtp: 25,
  time: 37,
  domain: 53,
  bootps: 67,
  bootpc: 68,
  tftp: 69,
  http: 80,
  kerberos: 88,
  pop3: 110,
  sunrpc: 111,
  ntp: 123,
  'netbios-ns': 137,
  'netbios-dgm': 138,
  'netbios-ssn': 139,
  imap2: 143,
  imap: 143,
  snmp: 161,
  'snmp-trap': 162,
  bgp: 179,
  ldap: 389,
  https: 443,
  'microsoft-ds': 445,
  submissions: 465,
  syslog: 514,
  printer: 515,
  submission: 587,
  ipp: 631,
  ldaps: 636,
  'domain-s': 853,
  rsync: 873,
  imaps: 993,
  pop3s: 995,
  socks: 1080,
  openvpn: 1194,
  'ms-sql-s': 1433,
  'radius-acct': 1813,
  radius: 1812,
  nfs: 2049,
  'mysql-proxy': 6446,
  mysql: 3306,
  'ms-wbt-server': 3389,
  nut: 3493,
  epmd: 4369,
  iax: 4569,
  sip: 5060,
  'sip-tls': 5061,
  'xmpp-client': 5222,
  'xmpp-server': 5269,
  mdns: 5353,
  postgresql: 5432,
  amqp: 5672,
  amqps: 5671,
  redis: 6379,
  'http-alt': 8080,
  puppet: 8140,
  git: 9418,
  'zabbix-agent': 10050,
  'zabbix-trapper': 10051,
};

const PROTOCOLS: Readonly<Record<string, number>> = {
  ip: 0,
  hopopt: 0,
  icmp: 1,
  igmp: 2,
  ipencap: 4,
  tcp: 6,
  egp: 8,
  udp: 17,
  dccp: 33,
  ipv6: 41,
  'ipv6-route': 43,
  'ipv6-frag': 44,
  rsvp: 46,
  gre: 47,
  esp: 50,
  ah: 51,
  icmpv6: 58,
  'ipv6-icmp': 58,
  'ipv6-nonxt': 59,
  'ipv6-opts': 60,
  eigrp: 88,
  ospf: 89,
  ipip: 94,
  etherip: 97,
  pim: 103,
  ipcomp: 108,
  comp: 108,
  vrrp: 112,
  l2tp: 115,
  sctp: 132,
  'mobility-header': 135,
  udplite: 136,
};

/** A port's number: digits, or a known name; null otherwise. */
export function parsePort(text: string): number | null {
  return parseNumbered(text, PORTS, 0xffff);
}

/** A protocol's number: digits, or a known name; null otherwise. */
export function parseProtocol(text: string): number | null {
  return parseNumbered(text, PROTOCOLS, 0xff);
}

function parseNumbered(text: string, names: Readonly<Record<string, number>>, highest: number): number | null {
  if (/^\d{1,5}$/.test(text)) return Number(text) <= highest ? Number(text) : null;
  return Object.hasOwn(names, text) ? names[text]! : null;
}
