# meshd: the real daemons of dist/, manager and agent on node1, agents on node2 and node3; one service by meshctl apply
# with its task on node3. FAST_PATH (full): as in meshd --fast-path.
# shellcheck shell=bash disable=SC2034
meshctl() { on node1 node "$ROOT/dist/meshctl.cjs" "$@"; }

daemon() { # NUMBER OPTION…
  local node=node$1
  shift
  setsid nsenter -t "$(< "$NODES/$node.pid")" -m -n -u -- node "$ROOT/dist/meshd.mjs" --name "$node" --advertise "${ADDRESS[$node]}" \
    --insecure-dev --fast-path "${FAST_PATH:-full}" "$@" </dev/null > "/run/bench/meshd-$node.log" 2>&1 &
  echo $! > "$NODES/meshd-$node.pid"
  disown
}

daemons_up() {
  local verb i
  if ! unshare --net iptables -t raw -A PREROUTING -j CT --zone-orig mark 2>/dev/null; then
    for verb in {iptables,ip6tables}-{save,restore}; do ln -sfn "$BENCH/systems/iptables-without-zones" "/usr/sbin/$verb"; done
  fi
  daemon 1 --role manager,agent --listen 0.0.0.0:2377
  for i in 2 3; do daemon "$i" --role agent --join "${ADDRESS[node1]}:2377"; done
  wait_for 120 ready_nodes 3 || die "the nodes did not become ready: $(tail -n 5 /run/bench/meshd-node*.log; meshctl node ls)"
}

ready_nodes() { [[ $(meshctl node ls --format json | grep -oE '"status": *"ready"' | wc -l) -ge $1 ]]; }

cluster_up() { daemons_up; }
manifest() { # NAME REPLICAS PORT: one entry of `services:`
  printf '  %s:\n    command: ["%s"]\n    deploy: {replicas: %s}\n    x-mesh: {runtime: process}\n    ports: ["%s:80"]\n' \
    "$1" "$WORK/bin/serve" "$2" "$3"
}
service_create() { # NAME REPLICAS PORT
  { echo 'services:'; manifest "$1" "$2" "$3"; } > "/run/bench/$1.yaml"
  meshctl apply -d "/run/bench/$1.yaml" >/dev/null
}
service_scale() { meshctl service scale -d "$1=$2" >/dev/null; }
services_many() { # COUNT FIRST_PORT: in one manifest, as a user would
  local i
  { echo 'services:'; for ((i = 0; i < $1; i++)); do manifest "many$i" 1 $(($2 + i)); done; } > /run/bench/many.yaml
  meshctl apply -d /run/bench/many.yaml >/dev/null
}
DAEMONS='node$|meshd$' SHIMS='mesh-task'

system_up() {
  daemons_up
  {
    printf 'services:\n  bench:\n    command: ["%s"]\n    deploy: {placement: {constraints: [node.hostname == node3]}}\n' "$WORK/bin/serve"
    printf '    x-mesh: {runtime: process}\n    ports:\n'
    printf '%s\n' "${PORTS[@]}" | while IFS=: read -r protocol published port; do echo "      - \"$published:$port/$protocol\""; done
  } > /run/bench/service.yaml
  meshctl apply /run/bench/service.yaml || die "the service was not applied: $(tail -n 5 /run/bench/meshd-node*.log)"
  TASK_PID[remote]=$(pgrep -x serve | grep -vx "$BARE_PID" | head -n 1)
  TASK_PID[local]=${TASK_PID[remote]}
}
