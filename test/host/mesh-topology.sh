# The hosts of a mesh in one kernel: a holder process with its namespaces each, and the bridge between them.
# shellcheck shell=bash
STATE=/run/testhost/nodes # NAME/pid: the holder whose namespaces are the host; NAME/meshd.pid: its daemon

topology_up() {
  local i name names=() ready
  mkdir -p "$STATE" /var/lib/meshd
  for ((i = 1; i <= NODES; i++)); do names+=("node$i:$i"); done
  names+=(client:100)

  { printf '127.0.0.1 localhost\n::1 localhost ip6-localhost\n'
    for name in "${names[@]}"; do
      [[ $MESH_WIRE == ipv6 ]] || printf '172.30.0.%s %s\n' "${name#*:}" "${name%:*}"
      printf 'fd30::%s %s\n' "${name#*:}" "${name%:*}"
    done
  } > /run/testhost/hosts

  # mcast_snooping off: neighbour discovery must not depend on a querier.
  ip link add underlay type bridge mcast_snooping 0
  ip link set underlay up
  # The underlay represents a cable: the host's packet filter must not see its traffic.
  for i in /proc/sys/net/bridge/bridge-nf-call-{ip,ip6,arp}tables; do [[ ! -e $i ]] || echo 0 > "$i"; done

  mkfifo "$STATE/ready"
  exec 5<> "$STATE/ready"
  for name in "${names[@]}"; do
    mkdir "$STATE/${name%:*}"
    setsid unshare --net --mount --uts "$HOST_DIR/mesh-node" "${name%:*}" "${name#*:}" $$ </dev/null >/dev/null 5>&- &
    echo $! > "$STATE/${name%:*}/pid"
    disown
  done
  for name in "${names[@]}"; do
    read -r -t 60 ready <&5 || die "a mesh host did not start within 60 s"
    [[ $ready == up ]] || die "a mesh host did not start: $ready"
  done
  exec 5>&-; rm "$STATE/ready"
  for name in "${names[@]}"; do printf 'link set %s master underlay up\n' "${name%:*}"; done | ip -batch -
}

# Ends every process of the hosts, tasks that outlived their agent too: with them the namespaces go.
topology_down() {
  local holders holder p
  [[ -e $STATE ]] || return 0
  holders=$(cat "$STATE"/*/pid 2>/dev/null) || true
  for holder in $holders; do
    for p in /proc/[0-9]*; do # the holder itself last: the comparison needs it
      [[ $p == "/proc/$holder" || ! $p/ns/uts -ef /proc/$holder/ns/uts ]] || kill -9 "${p#/proc/}" || true
    done
    kill -9 "$holder" || true
  done 2>/dev/null
  # The kernel takes down a namespace some time after its last process, and the next mesh uses the same names.
  for holder in "$STATE"/*/; do ip link del "$(basename "$holder")" || true; done 2>/dev/null
  ip link del underlay 2>/dev/null || true
  rm -rf "$STATE" /run/testhost/hosts
}

# $1: seconds. Waits until node1 reports every node as ready; returns early if a daemon has died.
wait_ready() {
  local limit=$((SECONDS + $1)) i status='' ready=0 socket
  while ((SECONDS < limit)); do
    for ((i = 1; i <= NODES; i++)); do
      kill -0 "$(< "$STATE/node$i/meshd.pid")" 2>/dev/null || not_ready "meshd on node$i ended"
    done
    # Over the socket and not by meshctl: under emulation that costs seconds of processor time, which the daemons need.
    socket=/proc/$(< "$STATE/node1/pid")/root/run/meshd/meshd.sock
    status=$(curl -sS --max-time 20 --unix-socket "$socket" -H 'Content-Type: application/json' -d '{}' \
      http://meshd/meshd.v1.Control/Status 2>&1) || true
    ready=$(sed -n 's/.*"nodes_ready": *\([0-9]*\).*/\1/p' <<< "$status")
    ((${ready:-0} >= NODES)) && return 0
    sleep 0.5
  done
  say "last status of the cluster: $status"
  not_ready "${ready:-0} of $NODES nodes ready after $1 s"
}

not_ready() {
  local log
  for log in /var/log/meshd-*.log; do say "--- end of $log"; tail -n 20 "$log" >&2; done
  say '---'
  die "the mesh did not start: $1"
}
