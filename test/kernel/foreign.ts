import { runShell, withoutIpvs } from './sandbox.ts';

/** Objects of other programs on a host: a netns, sets, rules, routes, links and IPVS services. */
export function createForeignObjects(): void {
  runShell(
    [
      'ip netns add foreign',
      'ip link add foreign0 type veth peer name eth0 netns foreign',
      'ip link set foreign0 up',
      'ip route add 10.200.0.0/16 dev underlay0 proto 110',
      'ip rule add priority 10002 fwmark 5 lookup 55',
      'ipset create other bitmap:port range 0-100',
      'ipset add other 80',
      'iptables -N OTHER',
      'iptables -A OTHER -j RETURN',
      'iptables -A FORWARD -j OTHER',
      'ip6tables -A FORWARD -p tcp -j ACCEPT',
      ...(withoutIpvs ? [] : ['ipvsadm -A -f 73616 -s rr', 'ipvsadm -a -f 73616 -r 192.0.2.50:80 -m']),
    ].join(' && '),
  );
}

/** What the tools list of them. */
export function listForeignObjects(): string {
  const listings = [
    'ip netns list | grep foreign',
    'ip -br link show | grep -v mesh0 | cut -d" " -f1 | sort',
    'ip route show proto 110',
    'ip rule show',
    'ipset save other',
    'iptables-save | grep -e ^-A -e OTHER | grep -v MESH | sed "s/ \\[.*//"',
    'ip6tables-save | grep ^-A | grep -v MESH',
    ...(withoutIpvs ? [] : ['ipvsadm -Sn']),
  ];
  return listings.map(runShell).join('---\n');
}
