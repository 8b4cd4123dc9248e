ip netns exec mesh-net-ingress sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1
tc -n mesh-net-ingress qdisc add dev t-aaaaaaaaaaaa clsact
tc -n mesh-net-ingress filter add dev t-aaaaaaaaaaaa ingress pref 4096 handle 1 bpf direct-action object mesh-task-out # vxlan vxlan0, lb lb0, number 1
tc -n mesh-net-ingress qdisc add dev lb0 clsact
tc -n mesh-net-ingress filter add dev lb0 ingress pref 4096 handle 1 bpf direct-action object mesh-router-in
tc -n mesh-net-ingress qdisc add dev vxlan0 clsact
tc -n mesh-net-ingress filter add dev vxlan0 ingress pref 4096 handle 1 bpf direct-action object mesh-router-in
ip netns exec mesh-net-ingress bpftool map update name mesh_tasks key 10 252 1 5 value t-aaaaaaaaaaaa
