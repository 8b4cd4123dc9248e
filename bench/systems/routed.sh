# routed: the task's own address, reached through a node over vxlan: the cost of any overlay without a balancer.
# Task a (node3) replies through node1, task b (node3) through node3: so `remote` crosses the overlay both ways.
# shellcheck shell=bash disable=SC2034
overlay_up() {
  local i j
  for i in 1 2 3; do
    on "node$i" ip link add vx type vxlan id 4096 dstport 4789 nolearning local "${ADDRESS[node$i]}"
    on "node$i" ip link set vx address "02:00:00:00:00:0$i"
    on "node$i" ip addr add "10.9.$i.1/32" dev vx
    on "node$i" ip link set vx up
    for j in 1 2 3; do
      ((i != j)) || continue
      on "node$i" ip neigh add "10.9.$j.1" lladdr "02:00:00:00:00:0$j" dev vx nud permanent
      on "node$i" bridge fdb add "02:00:00:00:00:0$j" dev vx dst "${ADDRESS[node$j]}"
      on "node$i" ip route add "10.9.$j.0/24" via "10.9.$j.1" dev vx onlink
    done
  done
  plain_task a 5
  plain_task b 6
  on node3 ip rule add from 10.9.3.5 lookup 100
  on node3 ip route add default via 10.9.1.1 dev vx onlink table 100
  TASK_PID[remote]=$TASK_a TASK_PID[local]=$TASK_b
}

plain_task() { # NAME NUMBER: a task on node3
  on node3 ip netns add "$1"
  on node3 ip link add "task-$1" type veth peer name eth0 netns "$1"
  on node3 ip link set "task-$1" up mtu 1450
  on node3 ip addr add 169.254.1.1/32 dev "task-$1"
  on node3 ip -n "$1" link set lo up
  on node3 ip -n "$1" addr add "10.9.3.$2/32" dev eth0
  on node3 ip -n "$1" link set eth0 up mtu 1450
  on node3 ip -n "$1" route add default via 169.254.1.1 dev eth0 onlink
  on node3 ip route add "10.9.3.$2/32" dev "task-$1"
  setsid nsenter -t "$(< "$NODES/node3.pid")" -m -n -u -- ip netns exec "$1" "$WORK/bin/serve" </dev/null &
  printf -v "TASK_$1" %s $! # each of them becomes the next, none forks
  disown
}

system_up() {
  overlay_up
  on client ip route add 10.9.3.5 via "${ADDRESS[node1]}"
  on client ip route add 10.9.3.6 via "${ADDRESS[node3]}"
  TARGET[remote]=10.9.3.5 TARGET[local]=10.9.3.6
  HTTP=80
}
