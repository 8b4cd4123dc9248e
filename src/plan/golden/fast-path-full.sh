ip netns exec mesh-lb sysctl -qw net.ipv4.conf.all.send_redirects=0
ip netns exec mesh-lb sysctl -qw net.ipv4.vs.snat_reroute=0
ip link add mesh1 mtu 1450 type veth peer name host0 mtu 1450 netns mesh-net-ingress
ip link set mesh1 up
ip -n mesh-net-ingress link set host0 up
ip netns exec mesh-lb sysctl -qw net.ipv4.conf.host0.accept_local=1
ip netns exec mesh-lb sysctl -qw net.ipv4.conf.host0.arp_announce=2
ip netns exec mesh-lb sysctl -qw net.ipv4.conf.host0.send_redirects=0
ip netns exec mesh-lb sysctl -qw net.ipv4.conf.net0.accept_local=1
ip netns exec mesh-lb sysctl -qw net.ipv4.conf.vxlan0.accept_local=1
ip netns exec mesh-net-ingress sysctl -qw net.ipv4.conf.host0.rp_filter=0
ip -n mesh-lb route add local 192.0.2.1/32 dev lo table 255 scope host proto 109
iptables -t nat -F MESH-POSTROUTING
iptables -t nat -A MESH-POSTROUTING -s 127.0.0.0/8 -o mesh0 -j MASQUERADE
iptables -t nat -A MESH-POSTROUTING -s 192.0.2.1/32 -o mesh0 -j MASQUERADE
iptables -t nat -A MESH-POSTROUTING -o mesh0 -p tcp -m set --match-set mesh-pub-tcp dst -j SNAT --to-source :64512-65535
iptables -t nat -A MESH-POSTROUTING -o mesh0 -p udp -m set --match-set mesh-pub-udp dst -j SNAT --to-source :64512-65535
ip netns exec mesh-net-ingress iptables -t mangle -F MESH-PREROUTING
ip netns exec mesh-net-ingress iptables -t mangle -A MESH-PREROUTING -m mark ! --mark 0x0 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
ip netns exec mesh-net-ingress iptables -t mangle -A MESH-PREROUTING ! -i t-+ -m mark ! --mark 0x0 -j MARK --set-xmark 0x0/0xffffffff
ip netns exec mesh-net-ingress iptables -t mangle -A MESH-PREROUTING -i t-+ -m connmark ! --mark 0x0 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
ip netns exec mesh-net-ingress iptables -t raw -F MESH-PREROUTING
ip netns exec mesh-net-ingress iptables -t raw -A MESH-PREROUTING -m mark --mark 0x10000 -j CT --notrack
ip netns exec mesh-net-ingress iptables -t raw -A MESH-PREROUTING -i t-+ -m mark ! --mark 0x0 -j CT --notrack
ip netns exec mesh-net-ingress iptables -t raw -A MESH-PREROUTING -m mark ! --mark 0x0 -j CT --zone-orig mark
ip netns exec mesh-net-ingress sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1
tc qdisc add dev eth0 clsact
tc filter add dev eth0 egress pref 4096 handle 1 bpf direct-action object mesh-host-sent # address 192.0.2.1, lb mesh0
tc qdisc add dev mesh0 clsact
tc filter add dev mesh0 ingress pref 4096 handle 1 bpf direct-action object mesh-host-out # address 192.0.2.1
tc -n mesh-net-ingress qdisc add dev t-aaaaaaaaaaaa clsact
tc -n mesh-net-ingress filter add dev t-aaaaaaaaaaaa ingress pref 4096 handle 1 bpf direct-action object mesh-task-out # vxlan vxlan0, lb lb0, number 1
tc -n mesh-net-ingress qdisc add dev host0 clsact
tc -n mesh-net-ingress filter add dev host0 ingress pref 4096 handle 1 bpf direct-action object mesh-router-in
tc -n mesh-net-ingress qdisc add dev lb0 clsact
tc -n mesh-net-ingress filter add dev lb0 ingress pref 4096 handle 1 bpf direct-action object mesh-router-in
tc -n mesh-net-ingress qdisc add dev vxlan0 clsact
tc -n mesh-net-ingress filter add dev vxlan0 ingress pref 4096 handle 1 bpf direct-action object mesh-router-in
ip netns exec mesh-net-ingress bpftool map update name mesh_tasks key 10 252 1 5 value t-aaaaaaaaaaaa
bpftool map update name mesh_ports key 233 20 2 0 value 1 0 0 0
bpftool map update name mesh_ports key 144 31 1 0 value 1 0 0 0
bpftool map update name mesh_peers key 192 0 2 2 value 1
bpftool map update name mesh_peers key 192 0 2 3 value 1
tc filter add dev eth0 ingress pref 4096 handle 1 bpf direct-action object mesh-host-in # address 192.0.2.1, lb mesh0, router mesh1, vni 4096, number 1
