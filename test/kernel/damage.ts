import { NETWORK, TASK } from './sandbox.ts';

/** Manual changes of a node, each to be undone by a repair: a name and the commands. */
export const DAMAGE_CASES: [string, string][] = [
  ['vxlan device deleted', `ip -n ${NETWORK} link del vxlan0`],
  ['vxlan down', `ip -n ${NETWORK} link set vxlan0 down`],
  ['vxlan MAC address', `ip -n ${NETWORK} link set vxlan0 address 02:00:00:00:00:07`],
  ['vxlan MTU', `ip -n ${NETWORK} link set vxlan0 mtu 1300`],
  [
    'vxlan made anew otherwise',
    `ip -n ${NETWORK} link del vxlan0; ip -n ${NETWORK} link add vxlan0 type vxlan id 77 dstport 4790`,
  ],
  ['veth of the host deleted', 'ip link del mesh0'],
  ['veth of a task deleted from inside', `ip -n ${TASK} link del eth0`],
  ['far end down, near end with another MTU', 'ip -n mesh-lb link set host0 down; ip link set mesh0 mtu 1200'],
  ['loopback down', 'ip -n mesh-lb link set lo down'],
  ['addresses', `ip -n ${TASK} addr flush dev eth0; ip -n mesh-lb addr add 10.9.9.9/32 dev net0`],
  ['routes', `ip -n ${NETWORK} route flush proto 109; ip -n mesh-lb route add 10.7.0.0/16 dev net0 proto 109`],
  ['a route that leads elsewhere', 'ip -n mesh-lb route replace default via 10.252.1.77 dev net0 onlink proto 109'],
  [
    'an IPv6 route that leads elsewhere',
    'ip -n mesh-lb -6 route replace default via fd6d:65:73:1::77 dev net0 onlink proto 109',
  ],
  ['rules', `ip -n ${NETWORK} rule del priority 10002; ip -n ${NETWORK} -6 rule add priority 10009 fwmark 9 lookup 99`],
  [
    'a rule with another table',
    `ip -n ${NETWORK} rule del priority 10003; ip -n ${NETWORK} rule add priority 10003 fwmark 3 lookup 7`,
  ],
  [
    'rules beside ours that select by more, and one that refuses',
    `ip -n ${NETWORK} rule add priority 10003 fwmark 3 lookup 100003 from 198.51.100.0/24; ip -n ${NETWORK} rule del priority 10002; ip -n ${NETWORK} rule add priority 10002 fwmark 2 lookup 100002 iif lo; ip -n ${NETWORK} rule add priority 10777 fwmark 77 blackhole`,
  ],
  ['a neighbour', `ip -n ${NETWORK} neigh replace 10.252.2.0 lladdr 02:00:00:00:00:08 dev vxlan0 nud permanent`],
  // Traffic makes the kernel resolve the address, and a dynamic entry takes the place of ours.
  [
    'a neighbour that the kernel resolves by itself',
    `ip -n ${NETWORK} neigh replace 10.252.2.0 lladdr 02:00:00:00:00:08 dev vxlan0 nud stale`,
  ],
  [
    'forwarding entries',
    `bridge -n ${NETWORK} fdb replace 02:6d:65:73:00:02 dev vxlan0 dst 192.0.2.77; bridge -n ${NETWORK} fdb add 02:00:00:00:00:11 dev vxlan0 dst 192.0.2.9`,
  ],
  [
    'a forwarding entry to another port',
    `bridge -n ${NETWORK} fdb del 02:6d:65:73:00:02 dev vxlan0; bridge -n ${NETWORK} fdb add 02:6d:65:73:00:02 dev vxlan0 dst 192.0.2.2 port 4999`,
  ],
  ['a route doubled with another metric', `ip -n ${NETWORK} route add 10.252.2.0/24 dev vxlan0 metric 77 proto 109`],
  ['an IPv6 route doubled', `ip -n ${NETWORK} -6 route add fd6d:65:73:2::/64 dev vxlan0 metric 77 proto 109`],
  [
    'routes that lead nowhere',
    `ip -n ${NETWORK} route replace blackhole 10.252.2.0/24 proto 109; ip -n mesh-lb route add blackhole 10.98.7.0/24 proto 109; ip -n mesh-lb -6 route add unreachable fd98::/64 proto 109`,
  ],
  [
    'another link in the place of the vxlan device',
    `ip -n ${NETWORK} link del vxlan0; ip -n ${NETWORK} link add vxlan0 type bridge`,
  ],
  ["another link in the place of the host's veth", 'ip link del mesh0; ip link add mesh0 type bridge'],
  ['another link in the place of the far end', 'ip link del mesh0; ip -n mesh-lb link add host0 type bridge'],
  [
    'links renamed',
    `ip -n ${NETWORK} link set vxlan0 down; ip -n ${NETWORK} link set vxlan0 name vxlan5; ip -n mesh-lb link set host0 down; ip -n mesh-lb link set host0 name other9`,
  ],
  ['a netns unmounted', `umount -l /run/netns/mesh-lb`],
  ['a netns unmounted and its file removed', `umount -l /run/netns/${NETWORK}; rm /run/netns/${NETWORK}`],
  ['a link moved to another netns', `ip netns add stray; ip -n mesh-lb link set host0 netns stray; ip netns del stray`],
  ['a chain renamed', 'iptables -t nat -E MESH-OUTPUT MESH-RENAMED'],
  ['sets emptied and filled', 'ipset flush mesh-pub-tcp; ipset add mesh-pub-udp 99'],
  ['a mark', 'ip netns exec mesh-lb ipset -exist add mesh-svc-tcp 8080 skbmark 0x7'],
  ['peers', 'ipset del mesh-peers-4 192.0.2.2; ipset add mesh-peers-4 198.51.100.7'],
  [
    'clients admitted and refused',
    'ipset add mesh-at-4 198.51.100.0/24,tcp:8443; ipset del mesh-at-6 ::/1,tcp:8443; ipset add mesh-at-4 10.0.0.0/8,136:5',
  ],
  ['an exception in a set', 'ipset -exist add mesh-at-4 0.0.0.0/1,tcp:8443 nomatch'],
  ['a set of ours that is not desired', 'ipset create mesh-old bitmap:port range 0-100; ipset add mesh-old 5'],
  ['a chain emptied', 'iptables -t nat -F MESH-PREROUTING'],
  ['a rule in a chain', `ip netns exec ${NETWORK} ip6tables -t mangle -I MESH-PREROUTING -j RETURN`],
  ['a jump deleted', 'iptables -t nat -D OUTPUT -j MESH-OUTPUT'],
  ['a jump doubled', 'iptables -t nat -A PREROUTING -j MESH-PREROUTING'],
  ['a jump behind another rule', 'iptables -t nat -I PREROUTING -p icmp -j RETURN'],
  ['a jump with a match', 'iptables -t raw -D OUTPUT -j MESH-OUTPUT; iptables -t raw -I OUTPUT -p tcp -j MESH-OUTPUT'],
  [
    'a chain and jump of ours that are not desired',
    'iptables -N MESH-OLD; iptables -A MESH-OLD -j RETURN; iptables -I INPUT -j MESH-OLD',
  ],
  ['the chain of the administrator', 'iptables -F MESH-FORWARD; iptables -F MESH-USER; iptables -X MESH-USER'],
  ['all of nat', 'iptables -t nat -F; iptables -t nat -X'],
  ['switches', 'ip netns exec mesh-lb sysctl -qw net.ipv4.ip_forward=0'],
  ['a netns deleted', `ip netns del ${TASK}`],
  ['a netns replaced by an empty one', `ip netns del ${TASK}; ip netns add ${TASK}`],
  ['the lb deleted', 'ip netns del mesh-lb'],
  ['the router deleted', `ip netns del ${NETWORK}`],
  [
    'a netns of ours that is not desired',
    'ip netns add mesh-task-old; ip -n mesh-task-old link add x0 type veth peer name x1',
  ],
  ['a leftover file instead of a netns', `ip netns del ${TASK}; touch /run/netns/${TASK}`],
];

export const IPVS_DAMAGE_CASES: [string, string][] = [
  ['IPVS cleared', 'ip netns exec mesh-lb ipvsadm -C'],
  ['a scheduler', 'ip netns exec mesh-lb ipvsadm -E -f 73616 -s lc'],
  ['a persistent service', 'ip netns exec mesh-lb ipvsadm -E -f 73616 -s rr -p 300'],
  ['a weight', 'ip netns exec mesh-lb ipvsadm -e -f 73616 -r 10.252.1.5:80 -m -w 7'],
  ['a forwarding method', 'ip netns exec mesh-lb ipvsadm -e -f 73616 -r 10.252.1.5:80 -i'],
  ['limits on connections', 'ip netns exec mesh-lb ipvsadm -e -f 73616 -r 10.252.1.5:80 -m -w 1 -x 100 -y 50'],
  ['packets one by one', 'ip netns exec mesh-lb ipvsadm -E -f 73616 -s rr -o'],
  [
    'real servers',
    'ip netns exec mesh-lb ipvsadm -d -f 73616 -r 10.252.1.5:80; ip netns exec mesh-lb ipvsadm -a -f 73616 -6 -r [fd6d::9]:80 -m',
  ],
  ['a service of ours that is not desired', 'ip netns exec mesh-lb ipvsadm -A -f 65545 -s rr'],
  ['timeouts', 'ip netns exec mesh-lb ipvsadm --set 100 10 10'],
];
