# The machines of every benchmark, in one kernel: three nodes, an outside client and a bare host (the same socket and switch
# without anything in between), each with its own network, mounts and host name, on the switch `underlay`.
# shellcheck shell=bash
NODES=/run/bench/nodes
declare -A ADDRESS=([node1]=192.168.77.11 [node2]=192.168.77.12 [node3]=192.168.77.13 [client]=192.168.77.100 [bare]=192.168.77.20)

on() { # NAME COMMAND…
  local name=$1
  shift
  nsenter -t "$(< "$NODES/$name.pid")" -m -n -u -- "$@"
}

mac_of() { on "$1" cat /sys/class/net/eth0/address; }

nodes_up() {
  local name file
  mkdir -p "$NODES"
  # New namespaces copy these from the initial one; Docker's ingress_sbox would otherwise drop replies.
  sysctl -qw net.ipv4.ip_forward=1 net.core.rmem_max=134217728 net.core.wmem_max=134217728 net.core.netdev_max_backlog=100000
  for file in /proc/sys/net/bridge/bridge-nf-call-*tables; do echo 0 > "$file"; done # the underlay is a switch, not a host
  ip link add underlay type bridge forward_delay 0 mcast_snooping 0
  ip link set underlay up
  for name in node1 node2 node3 client bare; do
    setsid unshare --net --mount --uts bash "$BENCH/host/node" "$name" "${ADDRESS[$name]}" $$ </dev/null &
    echo $! > "$NODES/$name.pid"
    disown
  done
  for name in node1 node2 node3 client bare; do
    wait_for 120 test -e "$NODES/$name.up" || die "$name did not start"
    ip link set "$name" master underlay up
  done
}

wait_for() { # SECONDS COMMAND…: repeats until it succeeds
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

# PID…: scheduling order on the one CPU. Packets are processed as they are sent (softirq above the sender), and the
# measured processes precede every daemon. Throttling stays on: a looping real-time process would block the host forever.
real_time() {
  local pid
  sysctl -qw kernel.sched_rt_period_us=1000000 kernel.sched_rt_runtime_us=980000
  chrt -f -p 60 "$(pgrep -x ksoftirqd/0)"
  for pid in "$@"; do
    # A process in a container's cpu group cannot be real-time (CONFIG_RT_GROUP_SCHED).
    [[ ! -e /sys/fs/cgroup/cpu/tasks ]] || echo "$pid" > /sys/fs/cgroup/cpu/tasks
    chrt -f -p 50 "$pid" || die "process $pid cannot get real-time priority"
  done
}

plain_time() {
  local pid
  for pid in "$(pgrep -x ksoftirqd/0)" "$@"; do chrt -o -p 0 "$pid"; done
}
