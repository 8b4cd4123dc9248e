# ipvs: minimal balancing: IPVS in the node's own namespace over the overlay of routed.sh, set up manually. No
# conntrack, no rules, one ingress node per task; it keeps the client's address only because task a replies through node1.
# shellcheck shell=bash disable=SC2034
. "$BENCH/systems/routed.sh"

balance() { # NODE TASK_ADDRESS
  on "$1" sysctl -qw net.ipv4.vs.conntrack=0
  printf '%s\n' "${PORTS[@]}" | while IFS=: read -r protocol published port; do
    local flag=-t
    [[ $protocol == tcp ]] || flag=-u
    on "$1" ipvsadm -A "$flag" "${ADDRESS[$1]}:$published" -s rr
    on "$1" ipvsadm -a "$flag" "${ADDRESS[$1]}:$published" -r "$2:$port" -m
  done
}

system_up() {
  overlay_up
  balance node1 10.9.3.5
  balance node3 10.9.3.6
}
