ip netns exec mesh-net-ingress iptables -t mangle -F MESH-PREROUTING
ip netns exec mesh-net-ingress iptables -t mangle -A MESH-PREROUTING -m mark ! --mark 0x0 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
ip netns exec mesh-net-ingress iptables -t mangle -A MESH-PREROUTING ! -i t-+ -m mark ! --mark 0x0 -j MARK --set-xmark 0x0/0xffffffff
ip netns exec mesh-net-ingress iptables -t mangle -A MESH-PREROUTING -i t-+ -m connmark ! --mark 0x0 -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
ip netns exec mesh-net-ingress iptables -t raw -F MESH-PREROUTING
ip netns exec mesh-net-ingress iptables -t raw -A MESH-PREROUTING -m mark --mark 0x10000 -j CT --notrack
ip netns exec mesh-net-ingress iptables -t raw -A MESH-PREROUTING -i t-+ -m mark ! --mark 0x0 -j CT --notrack
ip netns exec mesh-net-ingress iptables -t raw -A MESH-PREROUTING -m mark ! --mark 0x0 -j CT --zone-orig mark
ip netns exec mesh-net-ingress sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1
tc -n mesh-net-ingress qdisc add dev t-aaaaaaaaaaaa clsact
tc -n mesh-net-ingress filter add dev t-aaaaaaaaaaaa ingress pref 4096 handle 1 bpf direct-action object mesh-task-out # vxlan vxlan0, lb lb0, number 1
tc -n mesh-net-ingress qdisc add dev lb0 clsact
tc -n mesh-net-ingress filter add dev lb0 ingress pref 4096 handle 1 bpf direct-action object mesh-router-in
tc -n mesh-net-ingress qdisc add dev vxlan0 clsact
tc -n mesh-net-ingress filter add dev vxlan0 ingress pref 4096 handle 1 bpf direct-action object mesh-router-in
ip netns exec mesh-net-ingress bpftool map update name mesh_tasks key 10 252 1 5 value t-aaaaaaaaaaaa
