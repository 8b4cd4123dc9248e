ip netns add mesh-lb
ip -n mesh-lb link set lo up
ip netns add mesh-net-ingress
ip -n mesh-net-ingress link set lo up
ip netns add mesh-task-aaaaaaaaaaaa
ip -n mesh-task-aaaaaaaaaaaa link set lo up
sysctl -qw net.ipv4.ip_forward=1
sysctl -qw net.ipv6.conf.all.forwarding=1
ip netns exec mesh-lb sysctl -qw net.ipv4.conf.all.rp_filter=0
ip netns exec mesh-lb sysctl -qw net.ipv4.conf.default.rp_filter=0
ip netns exec mesh-lb sysctl -qw net.ipv4.icmp_ratelimit=0
ip netns exec mesh-lb sysctl -qw net.ipv4.ip_early_demux=0
ip netns exec mesh-lb sysctl -qw net.ipv4.ip_forward=1
ip netns exec mesh-lb sysctl -qw net.ipv4.vs.conn_reuse_mode=1
ip netns exec mesh-lb sysctl -qw net.ipv4.vs.conntrack=0
ip netns exec mesh-lb sysctl -qw net.ipv4.vs.expire_nodest_conn=1
ip netns exec mesh-lb sysctl -qw net.ipv4.vs.expire_quiescent_template=1
ip netns exec mesh-lb sysctl -qw net.ipv6.conf.all.forwarding=1
ip netns exec mesh-lb sysctl -qw net.ipv6.conf.default.accept_dad=0
ip netns exec mesh-lb sysctl -qw net.ipv6.icmp.ratelimit=0
ip netns exec mesh-net-ingress sysctl -qw net.ipv4.conf.all.rp_filter=0
ip netns exec mesh-net-ingress sysctl -qw net.ipv4.conf.default.rp_filter=0
ip netns exec mesh-net-ingress sysctl -qw net.ipv4.ip_early_demux=0
ip netns exec mesh-net-ingress sysctl -qw net.ipv4.ip_forward=1
ip netns exec mesh-net-ingress sysctl -qw net.ipv6.conf.all.forwarding=1
ip netns exec mesh-net-ingress sysctl -qw net.ipv6.conf.default.accept_dad=0
ip netns exec mesh-task-aaaaaaaaaaaa sysctl -qw net.ipv4.ip_unprivileged_port_start=0
ip link add vxlan0 netns mesh-lb address 02:6d:65:73:00:01 mtu 1450 up type vxlan id 4095 local 192.0.2.1 dstport 4789 nolearning gbp
ip link add vxlan0 netns mesh-net-ingress address 02:6d:65:73:00:01 mtu 1450 up type vxlan id 4096 local 192.0.2.1 dstport 4789 nolearning gbp
ip link add mesh0 mtu 1450 type veth peer name host0 mtu 1450 netns mesh-lb
ip link set mesh0 up
ip -n mesh-lb link set host0 up
ip -n mesh-lb link add net0 mtu 1450 type veth peer name lb0 mtu 1450 netns mesh-net-ingress
ip -n mesh-lb link set net0 up
ip -n mesh-net-ingress link set lb0 up
ip -n mesh-net-ingress link add t-aaaaaaaaaaaa mtu 1450 type veth peer name eth0 mtu 1450 netns mesh-task-aaaaaaaaaaaa
ip -n mesh-net-ingress link set t-aaaaaaaaaaaa up
ip -n mesh-task-aaaaaaaaaaaa link set eth0 up
sysctl -qw net.ipv4.conf.mesh0.route_localnet=1
sysctl -qw net.ipv6.conf.mesh0.accept_dad=0
ip netns exec mesh-lb sysctl -qw net.ipv4.conf.host0.rp_filter=0
ip netns exec mesh-lb sysctl -qw net.ipv4.conf.net0.rp_filter=0
ip netns exec mesh-lb sysctl -qw net.ipv4.conf.vxlan0.rp_filter=0
ip netns exec mesh-lb sysctl -qw net.ipv6.conf.host0.accept_dad=0
ip netns exec mesh-lb sysctl -qw net.ipv6.conf.net0.accept_dad=0
ip netns exec mesh-lb sysctl -qw net.ipv6.conf.vxlan0.accept_dad=0
ip netns exec mesh-net-ingress sysctl -qw net.ipv4.conf.lb0.rp_filter=0
ip netns exec mesh-net-ingress sysctl -qw net.ipv4.conf.vxlan0.rp_filter=0
ip netns exec mesh-net-ingress sysctl -qw net.ipv6.conf.lb0.accept_dad=0
ip netns exec mesh-net-ingress sysctl -qw net.ipv6.conf.vxlan0.accept_dad=0
ip addr add 10.252.1.1/32 dev mesh0
ip addr add fd6d:65:73:1::1/128 dev mesh0 nodad
ip -n mesh-lb addr add 10.252.1.2/32 dev host0
ip -n mesh-lb addr add fd6d:65:73:1::2/128 dev host0 nodad
ip -n mesh-lb addr add 10.252.1.3/32 dev net0
ip -n mesh-lb addr add fd6d:65:73:1::3/128 dev net0 nodad
ip -n mesh-net-ingress addr add 10.252.1.4/32 dev lb0
ip -n mesh-net-ingress addr add fd6d:65:73:1::4/128 dev lb0 nodad
ip -n mesh-net-ingress addr add 169.254.1.1/32 dev t-aaaaaaaaaaaa
ip -n mesh-net-ingress addr add fe80::1/64 dev t-aaaaaaaaaaaa nodad
ip -n mesh-net-ingress addr add 10.252.1.0/32 dev vxlan0
ip -n mesh-net-ingress addr add fd6d:65:73:1::/128 dev vxlan0 nodad
ip -n mesh-task-aaaaaaaaaaaa addr add 10.252.1.5/32 dev eth0
ip -n mesh-task-aaaaaaaaaaaa addr add fd6d:65:73:1::5/128 dev eth0 nodad
ip -n mesh-lb neigh add 10.252.2.0 lladdr 02:6d:65:73:00:02 dev vxlan0 nud permanent
ip -n mesh-lb neigh add 10.252.3.0 lladdr 02:6d:65:73:00:03 dev vxlan0 nud permanent
ip -n mesh-lb neigh add fd6d:65:73:2:: lladdr 02:6d:65:73:00:02 dev vxlan0 nud permanent
ip -n mesh-lb neigh add fd6d:65:73:3:: lladdr 02:6d:65:73:00:03 dev vxlan0 nud permanent
ip -n mesh-net-ingress neigh add 10.252.2.0 lladdr 02:6d:65:73:00:02 dev vxlan0 nud permanent
ip -n mesh-net-ingress neigh add 10.252.3.0 lladdr 02:6d:65:73:00:03 dev vxlan0 nud permanent
ip -n mesh-net-ingress neigh add fd6d:65:73:2:: lladdr 02:6d:65:73:00:02 dev vxlan0 nud permanent
ip -n mesh-net-ingress neigh add fd6d:65:73:3:: lladdr 02:6d:65:73:00:03 dev vxlan0 nud permanent
bridge -n mesh-lb fdb add 02:6d:65:73:00:02 dev vxlan0 dst 192.0.2.2 vni 4096
bridge -n mesh-lb fdb add 02:6d:65:73:00:03 dev vxlan0 dst 192.0.2.3 vni 4096
bridge -n mesh-net-ingress fdb add 02:6d:65:73:00:02 dev vxlan0 dst 192.0.2.2 vni 4095
bridge -n mesh-net-ingress fdb add 02:6d:65:73:00:03 dev vxlan0 dst 192.0.2.3 vni 4095
ip route add 10.252.1.2/32 dev mesh0 src 10.252.1.1 scope link proto 109
ip -6 route add fd6d:65:73:1::2/128 dev mesh0 src fd6d:65:73:1::1 proto 109
ip -n mesh-lb route add 10.252.1.1/32 dev host0 scope link proto 109
ip -n mesh-lb route add 10.252.1.4/32 dev net0 scope link proto 109
ip -6 -n mesh-lb route add fd6d:65:73:1::1/128 dev host0 proto 109
ip -6 -n mesh-lb route add fd6d:65:73:1::4/128 dev net0 proto 109
ip -n mesh-net-ingress route add 10.252.1.3/32 dev lb0 scope link proto 109
ip -n mesh-net-ingress route add 10.252.1.5/32 dev t-aaaaaaaaaaaa scope link proto 109
ip -6 -n mesh-net-ingress route add fd6d:65:73:1::3/128 dev lb0 proto 109
ip -6 -n mesh-net-ingress route add fd6d:65:73:1::5/128 dev t-aaaaaaaaaaaa proto 109
ip -n mesh-task-aaaaaaaaaaaa route add 169.254.1.1/32 dev eth0 scope link proto 109
ip -n mesh-lb route add default via 10.252.1.1 dev host0 onlink scope global proto 109
ip -n mesh-lb route add 10.252.1.0/24 via 10.252.1.4 dev net0 onlink scope global proto 109
ip -n mesh-lb route add 10.252.2.0/24 via 10.252.2.0 dev vxlan0 onlink scope global proto 109
ip -n mesh-lb route add 10.252.3.0/24 via 10.252.3.0 dev vxlan0 onlink scope global proto 109
ip -6 -n mesh-lb route add default via fd6d:65:73:1::1 dev host0 onlink proto 109
ip -6 -n mesh-lb route add fd6d:65:73:1::/64 via fd6d:65:73:1::4 dev net0 onlink proto 109
ip -6 -n mesh-lb route add fd6d:65:73:2::/64 via fd6d:65:73:2:: dev vxlan0 onlink proto 109
ip -6 -n mesh-lb route add fd6d:65:73:3::/64 via fd6d:65:73:3:: dev vxlan0 onlink proto 109
ip -n mesh-net-ingress route add default via 10.252.2.0 dev vxlan0 onlink table 100002 scope global proto 109
ip -6 -n mesh-net-ingress route add default via fd6d:65:73:2:: dev vxlan0 onlink table 100002 proto 109
ip -n mesh-net-ingress route add default via 10.252.3.0 dev vxlan0 onlink table 100003 scope global proto 109
ip -6 -n mesh-net-ingress route add default via fd6d:65:73:3:: dev vxlan0 onlink table 100003 proto 109
ip -n mesh-net-ingress route add default via 10.252.1.3 dev lb0 onlink scope global proto 109
ip -n mesh-net-ingress route add 10.252.1.1/32 via 10.252.1.3 dev lb0 onlink scope global proto 109
ip -n mesh-net-ingress route add 10.252.2.0/24 via 10.252.2.0 dev vxlan0 onlink scope global proto 109
ip -n mesh-net-ingress route add 10.252.3.0/24 via 10.252.3.0 dev vxlan0 onlink scope global proto 109
ip -6 -n mesh-net-ingress route add default via fd6d:65:73:1::3 dev lb0 onlink proto 109
ip -6 -n mesh-net-ingress route add fd6d:65:73:1::1/128 via fd6d:65:73:1::3 dev lb0 onlink proto 109
ip -6 -n mesh-net-ingress route add fd6d:65:73:2::/64 via fd6d:65:73:2:: dev vxlan0 onlink proto 109
ip -6 -n mesh-net-ingress route add fd6d:65:73:3::/64 via fd6d:65:73:3:: dev vxlan0 onlink proto 109
ip -n mesh-task-aaaaaaaaaaaa route add default via 169.254.1.1 dev eth0 onlink scope global proto 109
ip -6 -n mesh-task-aaaaaaaaaaaa route add default via fe80::1 dev eth0 onlink proto 109
ip -n mesh-net-ingress rule add priority 10003 fwmark 0x3 lookup 100003
ip -n mesh-net-ingress rule add priority 10002 fwmark 0x2 lookup 100002
ip -n mesh-net-ingress rule add priority 10000 fwmark 0x0/0xffffffff goto 32766
ip -6 -n mesh-net-ingress rule add priority 10003 fwmark 0x3 lookup 100003
ip -6 -n mesh-net-ingress rule add priority 10002 fwmark 0x2 lookup 100002
ip -6 -n mesh-net-ingress rule add priority 10000 fwmark 0x0/0xffffffff goto 32766
ipset create mesh-at-4 hash:net,port family inet
ipset create mesh-at-6 hash:net,port family inet6
ipset create mesh-from-4 hash:net,port,net family inet
ipset create mesh-from-6 hash:net,port,net family inet6
ipset create mesh-peers-4 hash:ip family inet
ipset create mesh-pub-sctp bitmap:port range 0-65535
ipset create mesh-pub-tcp bitmap:port range 0-65535
ipset create mesh-pub-udp bitmap:port range 0-65535
ip netns exec mesh-lb ipset create mesh-svc-sctp bitmap:port range 0-65535 skbinfo
ip netns exec mesh-lb ipset create mesh-svc-tcp bitmap:port range 0-65535 skbinfo
ip netns exec mesh-lb ipset create mesh-svc-udp bitmap:port range 0-65535 skbinfo
ipset add mesh-peers-4 192.0.2.2
ipset add mesh-peers-4 192.0.2.3
ip netns exec mesh-lb ipvsadm --set 10800 120 120
iptables -t filter -N MESH-USER
ip6tables -t filter -N MESH-USER
iptables -t filter -N MESH-FORWARD
iptables -t filter -A MESH-FORWARD -o mesh0 -j MESH-USER
iptables -t filter -A MESH-FORWARD -o mesh0 -m conntrack --ctstate DNAT -j ACCEPT
iptables -t filter -A MESH-FORWARD -o mesh0 -j DROP
iptables -t filter -A MESH-FORWARD -i mesh0 -m conntrack --ctstate DNAT -j ACCEPT
iptables -t filter -A MESH-FORWARD -i mesh0 -j DROP
iptables -t filter -N MESH-INPUT
iptables -t filter -A MESH-INPUT -p udp -m udp --dport 4789 -m set --match-set mesh-peers-4 src -j ACCEPT
iptables -t filter -A MESH-INPUT -i mesh0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -t filter -A MESH-INPUT -i mesh0 -j DROP
iptables -t filter -A MESH-INPUT -p tcp -m conntrack --ctstate NEW -m set --match-set mesh-at-4 dst,dst -m set ! --match-set mesh-from-4 src,dst,dst -j REJECT --reject-with tcp-reset
iptables -t filter -A MESH-INPUT ! -p tcp -m conntrack --ctstate NEW -m set --match-set mesh-at-4 dst,dst -m set ! --match-set mesh-from-4 src,dst,dst -j REJECT --reject-with icmp-port-unreachable
iptables -t nat -N MESH-OUTPUT
iptables -t nat -A MESH-OUTPUT -p tcp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-tcp dst -j DNAT --to-destination 10.252.1.2
iptables -t nat -A MESH-OUTPUT -p udp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-udp dst -j DNAT --to-destination 10.252.1.2
iptables -t nat -A MESH-OUTPUT -p sctp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-sctp dst -j DNAT --to-destination 10.252.1.2
iptables -t nat -A MESH-OUTPUT -m addrtype --dst-type LOCAL -m set --match-set mesh-from-4 src,dst,dst -j DNAT --to-destination 10.252.1.2
iptables -t nat -N MESH-POSTROUTING
iptables -t nat -A MESH-POSTROUTING -s 127.0.0.0/8 -o mesh0 -j MASQUERADE
iptables -t nat -N MESH-PREROUTING
iptables -t nat -A MESH-PREROUTING -p tcp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-tcp dst -j DNAT --to-destination 10.252.1.2
iptables -t nat -A MESH-PREROUTING -p udp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-udp dst -j DNAT --to-destination 10.252.1.2
iptables -t nat -A MESH-PREROUTING -p sctp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-sctp dst -j DNAT --to-destination 10.252.1.2
iptables -t nat -A MESH-PREROUTING -m addrtype --dst-type LOCAL -m set --match-set mesh-from-4 src,dst,dst -j DNAT --to-destination 10.252.1.2
iptables -t raw -N MESH-OUTPUT
iptables -t raw -A MESH-OUTPUT -s 192.0.2.1/32 -p udp -m udp --dport 4789 -j CT --notrack
iptables -t raw -N MESH-PREROUTING
iptables -t raw -A MESH-PREROUTING -d 192.0.2.1/32 -p udp -m udp --dport 4789 -j CT --notrack
ip6tables -t filter -N MESH-FORWARD
ip6tables -t filter -A MESH-FORWARD -o mesh0 -j MESH-USER
ip6tables -t filter -A MESH-FORWARD -o mesh0 -m conntrack --ctstate DNAT -j ACCEPT
ip6tables -t filter -A MESH-FORWARD -o mesh0 -j DROP
ip6tables -t filter -A MESH-FORWARD -i mesh0 -m conntrack --ctstate DNAT -j ACCEPT
ip6tables -t filter -A MESH-FORWARD -i mesh0 -j DROP
ip6tables -t filter -N MESH-INPUT
ip6tables -t filter -A MESH-INPUT -i mesh0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
ip6tables -t filter -A MESH-INPUT -i mesh0 -p ipv6-icmp -j ACCEPT
ip6tables -t filter -A MESH-INPUT -i mesh0 -j DROP
ip6tables -t filter -A MESH-INPUT -p tcp -m conntrack --ctstate NEW -m set --match-set mesh-at-6 dst,dst -m set ! --match-set mesh-from-6 src,dst,dst -j REJECT --reject-with tcp-reset
ip6tables -t filter -A MESH-INPUT ! -p tcp -m conntrack --ctstate NEW -m set --match-set mesh-at-6 dst,dst -m set ! --match-set mesh-from-6 src,dst,dst -j REJECT --reject-with icmp6-port-unreachable
ip6tables -t filter -N MESH-OUTPUT
ip6tables -t filter -A MESH-OUTPUT -p tcp -m set --match-set mesh-pub-tcp dst -j REJECT --reject-with tcp-reset
ip6tables -t filter -A MESH-OUTPUT -p udp -m set --match-set mesh-pub-udp dst -j REJECT --reject-with icmp6-port-unreachable
ip6tables -t filter -A MESH-OUTPUT -p sctp -m set --match-set mesh-pub-sctp dst -j REJECT --reject-with icmp6-port-unreachable
ip6tables -t filter -A MESH-OUTPUT -p tcp -m set --match-set mesh-at-6 dst,dst -j REJECT --reject-with tcp-reset
ip6tables -t filter -A MESH-OUTPUT ! -p tcp -m set --match-set mesh-at-6 dst,dst -j REJECT --reject-with icmp6-port-unreachable
ip6tables -t nat -N MESH-OUTPUT
ip6tables -t nat -A MESH-OUTPUT -s fe80::/10 -j RETURN
ip6tables -t nat -A MESH-OUTPUT -d fe80::/10 -j RETURN
ip6tables -t nat -A MESH-OUTPUT ! -d ::1/128 -p tcp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-tcp dst -j DNAT --to-destination fd6d:65:73:1::2
ip6tables -t nat -A MESH-OUTPUT ! -d ::1/128 -p udp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-udp dst -j DNAT --to-destination fd6d:65:73:1::2
ip6tables -t nat -A MESH-OUTPUT ! -d ::1/128 -p sctp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-sctp dst -j DNAT --to-destination fd6d:65:73:1::2
ip6tables -t nat -A MESH-OUTPUT ! -d ::1/128 -m addrtype --dst-type LOCAL -m set --match-set mesh-from-6 src,dst,dst -j DNAT --to-destination fd6d:65:73:1::2
ip6tables -t nat -N MESH-PREROUTING
ip6tables -t nat -A MESH-PREROUTING -s fe80::/10 -j RETURN
ip6tables -t nat -A MESH-PREROUTING -d fe80::/10 -j RETURN
ip6tables -t nat -A MESH-PREROUTING -p tcp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-tcp dst -j DNAT --to-destination fd6d:65:73:1::2
ip6tables -t nat -A MESH-PREROUTING -p udp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-udp dst -j DNAT --to-destination fd6d:65:73:1::2
ip6tables -t nat -A MESH-PREROUTING -p sctp -m addrtype --dst-type LOCAL -m set --match-set mesh-pub-sctp dst -j DNAT --to-destination fd6d:65:73:1::2
ip6tables -t nat -A MESH-PREROUTING -m addrtype --dst-type LOCAL -m set --match-set mesh-from-6 src,dst,dst -j DNAT --to-destination fd6d:65:73:1::2
ip netns exec mesh-lb iptables -t mangle -N MESH-POSTROUTING
ip netns exec mesh-lb iptables -t mangle -A MESH-POSTROUTING -j MARK --set-xmark 0x1/0xffffffff
ip netns exec mesh-lb iptables -t mangle -A MESH-POSTROUTING -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
ip netns exec mesh-lb iptables -t mangle -N MESH-PREROUTING
ip netns exec mesh-lb iptables -t mangle -A MESH-PREROUTING -p tcp -j SET --map-set mesh-svc-tcp dst --map-mark
ip netns exec mesh-lb iptables -t mangle -A MESH-PREROUTING -p udp -j SET --map-set mesh-svc-udp dst --map-mark
ip netns exec mesh-lb iptables -t mangle -A MESH-PREROUTING -p sctp -j SET --map-set mesh-svc-sctp dst --map-mark
ip netns exec mesh-lb ip6tables -t mangle -N MESH-POSTROUTING
ip netns exec mesh-lb ip6tables -t mangle -A MESH-POSTROUTING -j MARK --set-xmark 0x1/0xffffffff
ip netns exec mesh-lb ip6tables -t mangle -A MESH-POSTROUTING -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
ip netns exec mesh-lb ip6tables -t mangle -N MESH-PREROUTING
ip netns exec mesh-lb ip6tables -t mangle -A MESH-PREROUTING -p tcp -j SET --map-set mesh-svc-tcp dst --map-mark
ip netns exec mesh-lb ip6tables -t mangle -A MESH-PREROUTING -p udp -j SET --map-set mesh-svc-udp dst --map-mark
ip netns exec mesh-lb ip6tables -t mangle -A MESH-PREROUTING -p sctp -j SET --map-set mesh-svc-sctp dst --map-mark
ip netns exec mesh-net-ingress iptables -t filter -N MESH-FORWARD
ip netns exec mesh-net-ingress iptables -t filter -A MESH-FORWARD -i t-+ -m conntrack --ctstate INVALID -j DROP
ip netns exec mesh-net-ingress iptables -t filter -A MESH-FORWARD -i t-+ -m conntrack --ctstate NEW -j REJECT --reject-with icmp-admin-prohibited
ip netns exec mesh-net-ingress iptables -t filter -A MESH-FORWARD -d 10.252.1.1/32 -o lb0 -j RETURN
ip netns exec mesh-net-ingress iptables -t filter -A MESH-FORWARD -d 10.252.1.3/32 -o lb0 -j RETURN
ip netns exec mesh-net-ingress iptables -t filter -A MESH-FORWARD -d 10.252.0.0/16 -o lb0 -p tcp -j REJECT --reject-with tcp-reset
ip netns exec mesh-net-ingress iptables -t filter -A MESH-FORWARD -d 10.252.0.0/16 -o lb0 -j REJECT --reject-with icmp-port-unreachable
ip netns exec mesh-net-ingress iptables -t mangle -N MESH-OUTPUT
ip netns exec mesh-net-ingress iptables -t mangle -A MESH-OUTPUT -m connmark ! --mark 0x0 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
ip netns exec mesh-net-ingress iptables -t mangle -N MESH-POSTROUTING
ip netns exec mesh-net-ingress iptables -t mangle -A MESH-POSTROUTING -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
ip netns exec mesh-net-ingress iptables -t mangle -N MESH-PREROUTING
ip netns exec mesh-net-ingress iptables -t mangle -A MESH-PREROUTING -m mark ! --mark 0x0 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
ip netns exec mesh-net-ingress iptables -t mangle -A MESH-PREROUTING -m mark ! --mark 0x0 -j MARK --set-xmark 0x0/0xffffffff
ip netns exec mesh-net-ingress iptables -t mangle -A MESH-PREROUTING -i t-+ -m connmark ! --mark 0x0 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
ip netns exec mesh-net-ingress iptables -t nat -N MESH-POSTROUTING
ip netns exec mesh-net-ingress iptables -t nat -A MESH-POSTROUTING -j RETURN
ip netns exec mesh-net-ingress iptables -t raw -N MESH-PREROUTING
ip netns exec mesh-net-ingress iptables -t raw -A MESH-PREROUTING -m mark ! --mark 0x0 -j CT --zone-orig mark
ip netns exec mesh-net-ingress ip6tables -t filter -N MESH-FORWARD
ip netns exec mesh-net-ingress ip6tables -t filter -A MESH-FORWARD -i t-+ -m conntrack --ctstate INVALID -j DROP
ip netns exec mesh-net-ingress ip6tables -t filter -A MESH-FORWARD -i t-+ -m conntrack --ctstate NEW -j REJECT --reject-with icmp6-adm-prohibited
ip netns exec mesh-net-ingress ip6tables -t filter -A MESH-FORWARD -d fd6d:65:73:1::1/128 -o lb0 -j RETURN
ip netns exec mesh-net-ingress ip6tables -t filter -A MESH-FORWARD -d fd6d:65:73:1::3/128 -o lb0 -j RETURN
ip netns exec mesh-net-ingress ip6tables -t filter -A MESH-FORWARD -d fd6d:65:73::/48 -o lb0 -p tcp -j REJECT --reject-with tcp-reset
ip netns exec mesh-net-ingress ip6tables -t filter -A MESH-FORWARD -d fd6d:65:73::/48 -o lb0 -j REJECT --reject-with icmp6-port-unreachable
ip netns exec mesh-net-ingress ip6tables -t mangle -N MESH-OUTPUT
ip netns exec mesh-net-ingress ip6tables -t mangle -A MESH-OUTPUT -m connmark ! --mark 0x0 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
ip netns exec mesh-net-ingress ip6tables -t mangle -N MESH-POSTROUTING
ip netns exec mesh-net-ingress ip6tables -t mangle -A MESH-POSTROUTING -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
ip netns exec mesh-net-ingress ip6tables -t mangle -N MESH-PREROUTING
ip netns exec mesh-net-ingress ip6tables -t mangle -A MESH-PREROUTING -m mark ! --mark 0x0 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
ip netns exec mesh-net-ingress ip6tables -t mangle -A MESH-PREROUTING -m mark ! --mark 0x0 -j MARK --set-xmark 0x0/0xffffffff
ip netns exec mesh-net-ingress ip6tables -t mangle -A MESH-PREROUTING -i t-+ -m connmark ! --mark 0x0 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
ip netns exec mesh-net-ingress ip6tables -t nat -N MESH-POSTROUTING
ip netns exec mesh-net-ingress ip6tables -t nat -A MESH-POSTROUTING -j RETURN
ip netns exec mesh-net-ingress ip6tables -t raw -N MESH-PREROUTING
ip netns exec mesh-net-ingress ip6tables -t raw -A MESH-PREROUTING -m mark ! --mark 0x0 -j CT --zone-orig mark
iptables -t filter -I FORWARD -j MESH-FORWARD
iptables -t filter -I INPUT -j MESH-INPUT
iptables -t nat -I OUTPUT -j MESH-OUTPUT
iptables -t nat -I POSTROUTING -j MESH-POSTROUTING
iptables -t nat -I PREROUTING -j MESH-PREROUTING
iptables -t raw -I OUTPUT -j MESH-OUTPUT
iptables -t raw -I PREROUTING -j MESH-PREROUTING
ip6tables -t filter -I FORWARD -j MESH-FORWARD
ip6tables -t filter -I INPUT -j MESH-INPUT
ip6tables -t filter -I OUTPUT -d ::1/128 -j MESH-OUTPUT
ip6tables -t nat -I OUTPUT -j MESH-OUTPUT
ip6tables -t nat -I PREROUTING -j MESH-PREROUTING
ip netns exec mesh-lb iptables -t mangle -I POSTROUTING -o vxlan0 -j MESH-POSTROUTING
ip netns exec mesh-lb iptables -t mangle -I PREROUTING -i host0 -m mark --mark 0x0 -j MESH-PREROUTING
ip netns exec mesh-lb ip6tables -t mangle -I POSTROUTING -o vxlan0 -j MESH-POSTROUTING
ip netns exec mesh-lb ip6tables -t mangle -I PREROUTING -i host0 -m mark --mark 0x0 -j MESH-PREROUTING
ip netns exec mesh-net-ingress iptables -t filter -I FORWARD -j MESH-FORWARD
ip netns exec mesh-net-ingress iptables -t mangle -I OUTPUT -j MESH-OUTPUT
ip netns exec mesh-net-ingress iptables -t mangle -I POSTROUTING -o vxlan0 -j MESH-POSTROUTING
ip netns exec mesh-net-ingress iptables -t mangle -I PREROUTING -j MESH-PREROUTING
ip netns exec mesh-net-ingress iptables -t nat -I POSTROUTING -j MESH-POSTROUTING
ip netns exec mesh-net-ingress iptables -t raw -I PREROUTING -j MESH-PREROUTING
ip netns exec mesh-net-ingress ip6tables -t filter -I FORWARD -j MESH-FORWARD
ip netns exec mesh-net-ingress ip6tables -t mangle -I OUTPUT -j MESH-OUTPUT
ip netns exec mesh-net-ingress ip6tables -t mangle -I POSTROUTING -o vxlan0 -j MESH-POSTROUTING
ip netns exec mesh-net-ingress ip6tables -t mangle -I PREROUTING -j MESH-PREROUTING
ip netns exec mesh-net-ingress ip6tables -t nat -I POSTROUTING -j MESH-POSTROUTING
ip netns exec mesh-net-ingress ip6tables -t raw -I PREROUTING -j MESH-PREROUTING
ip netns exec mesh-net-ingress sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=432000
ip netns exec mesh-net-ingress sysctl -qw net.netfilter.nf_conntrack_udp_timeout=30
ip netns exec mesh-net-ingress sysctl -qw net.netfilter.nf_conntrack_udp_timeout_stream=120
ip netns exec mesh-lb ipvsadm -A -f 136425 -s rr
ip netns exec mesh-lb ipvsadm -A -f 73616 -s rr
ip netns exec mesh-lb ipvsadm -A -f 136425 -6 -s rr
ip netns exec mesh-lb ipvsadm -A -f 73616 -6 -s rr
ip netns exec mesh-lb ipvsadm -a -f 136425 -r 10.252.1.5:53 -m -w 1
ip netns exec mesh-lb ipvsadm -a -f 136425 -r 10.252.2.5:53 -m -w 1
ip netns exec mesh-lb ipvsadm -a -f 73616 -r 10.252.1.5:80 -m -w 1
ip netns exec mesh-lb ipvsadm -a -f 73616 -r 10.252.2.5:80 -m -w 1
ip netns exec mesh-lb ipvsadm -a -f 136425 -6 -r [fd6d:65:73:1::5]:53 -m -w 1
ip netns exec mesh-lb ipvsadm -a -f 136425 -6 -r [fd6d:65:73:2::5]:53 -m -w 1
ip netns exec mesh-lb ipvsadm -a -f 73616 -6 -r [fd6d:65:73:1::5]:80 -m -w 1
ip netns exec mesh-lb ipvsadm -a -f 73616 -6 -r [fd6d:65:73:2::5]:80 -m -w 1
ip netns exec mesh-lb ipset add mesh-svc-tcp 8080 skbmark 0x11f90
ip netns exec mesh-lb ipset add mesh-svc-udp 5353 skbmark 0x214e9
ipset add mesh-pub-tcp 8080
ipset add mesh-pub-udp 5353
