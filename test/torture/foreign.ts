// Foreign objects on a node that a careless controller could affect, and their listings by standard tools.
import { runOn } from '../scenarios/harness.ts';

/** In the host beside meshd's objects, and in a foreign netns. */
const ADD_TO_HOST = `
ipvsadm -A -t 10.99.0.1:80 -s wlc
ipvsadm -a -t 10.99.0.1:80 -r 10.99.0.2:80 -m -w 7
ipvsadm -A -f 73616 -s lc
ip netns add other
ip -n other link set lo up
ip -n other link add vxlan9 type vxlan id 9 dstport 4790 local 127.0.0.1
ip -n other route add local 10.97.0.0/16 dev lo
ip netns exec other ipset create mesh-like hash:ip
ip netns exec other ipset add mesh-like 10.99.0.5
ip netns exec other iptables -w -t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 1
ip link add vxlan77 type vxlan id 77 dstport 4791 local 127.0.0.1
ip link add foreign0 type dummy
ip addr add 10.99.0.9/24 dev foreign0
ip link set foreign0 up
ip route add 10.98.0.0/16 dev foreign0
ip neigh add 10.99.0.7 lladdr 02:00:00:00:77:77 dev foreign0 nud permanent
bridge fdb add 02:00:00:00:00:77 dev vxlan77 dst 10.99.0.8
ip rule add fwmark 0x77 lookup 7777 priority 10001
ipset create foreign-set hash:ip
ipset add foreign-set 10.99.0.5
iptables -w -t nat -N FOREIGN
iptables -w -t nat -A FOREIGN -p tcp --dport 9999 -j RETURN
iptables -w -t nat -A PREROUTING -j FOREIGN
iptables -w -t nat -A OUTPUT -j FOREIGN
iptables -w -t filter -A FORWARD -s 10.99.0.0/24 -j DROP
ip6tables -w -t filter -A FORWARD -s fd99::/64 -j DROP
`;

const LIST_ON_HOST = `
ipvsadm -Sn; ip -o netns list | grep -v -e mesh- -e stray | sort
ip -n other -d -o link show; ip -n other route show table all; ip netns exec other ipset save
ip netns exec other iptables-save -t nat | grep -v -e '^#' -e '^:'
ip -d -o link show vxlan77; ip -o addr show foreign0; ip route show dev foreign0; ip neigh show dev foreign0 nud permanent
bridge fdb show dev vxlan77 | grep 00:77; ip rule show; ipset save foreign-set
iptables -w -t nat -S FOREIGN; iptables -w -t nat -S | grep 'j FOREIGN'; iptables -w -S FORWARD | grep 10.99; ip6tables -w -S FORWARD | grep fd99
`;

/** In namespaces of meshd; deleted with them. */
const ADD_TO_MESH = `
ip netns exec mesh-lb ipvsadm -A -t 10.99.0.3:443 -s rr
ip netns exec mesh-lb ipvsadm -a -t 10.99.0.3:443 -r 10.99.0.4:443 -m -w 3
ip netns exec mesh-lb ipset create foreign-lb hash:net
ip netns exec mesh-lb ipset add foreign-lb 10.99.0.0/24
ip -n mesh-lb rule add fwmark 0x66 lookup 6666 priority 99
ip -n mesh-net-ingress route add 10.96.0.0/16 dev lo table 666
`;

const LIST_IN_MESH = `
ip netns exec mesh-lb ipvsadm -Sn | grep -e '-t '; ip netns exec mesh-lb ipset save foreign-lb
ip -n mesh-lb rule show priority 99; ip -n mesh-net-ingress route show table 666
`;

const sh = (node: string, script: string) => runOn(node, 'sh', '-c', script);
const withoutIds = (text: string) => text.replace(/ \(id: \d+\)/g, '');

/** Objects that already exist, e.g. from another scenario, are kept. */
export const addForeignToHost = (node: string) => sh(node, ADD_TO_HOST);
/** Recreates those that were deleted with their namespace. */
export const addForeignToMesh = (node: string) => sh(node, ADD_TO_MESH);
export const foreignOnHost = async (node: string) => withoutIds((await sh(node, LIST_ON_HOST)).stdout);
export const foreignInMesh = async (node: string) => withoutIds((await sh(node, LIST_IN_MESH)).stdout);
