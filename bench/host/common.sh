# Shared by both hosts of the benchmarks, the one-CPU one (host) and the full kernel (full).
# shellcheck shell=bash

# The tasks of meshd have a default PATH: install the checkout's Node as the machine's.
node_installed() { ln -sfn "$ROOT/.cache/node/bin/node" /usr/local/bin/node; }

# Docker, containerd and runc in their standard locations.
docker_unpacked() {
  cp -rs "$WORK/root/usr/." /usr/ 2>/dev/null
  cp -rs "$WORK/root/sbin/." /usr/sbin/ 2>/dev/null
}

# Loaded before measuring, for all systems alike; other modules load on demand.
modules_loaded() {
  local module
  for module in ip_vs ip_vs_rr vxlan veth bridge br_netfilter ip_set ip_set_bitmap_port xt_set iptable_nat iptable_filter \
    iptable_mangle iptable_raw xt_CT xt_connmark xt_mark xt_addrtype xt_conntrack xt_MASQUERADE xt_nat xt_REDIRECT \
    xt_ipvs xt_TCPMSS nf_conntrack_netlink sch_ingress cls_bpf; do
    modprobe -q $module || echo "bench: this kernel has no module $module"
  done
}
