# docker: three real dockerds of Debian's docker.io, one swarm, one service with its task on node3 and the routing mesh.
# shellcheck shell=bash disable=SC2034
IMAGE=localhost:5000/serve:1 # this registry refuses connections at once, so workers use the local image without waiting for DNS

dockerds_up() {
  local i
  # Sequentially: dockerd gives its containerd 15 s, which is short under emulation.
  for i in 1 2 3; do
    setsid nsenter -t "$(< "$NODES/node$i.pid")" -m -n -u -- bash "$BENCH/systems/dockerd" </dev/null > "/run/bench/dockerd$i.log" 2>&1 &
    echo $! > "$NODES/dockerd$i.pid"
    disown
    wait_for 240 on "node$i" docker info || die "dockerd of node$i did not start: $(tail -n 3 "/run/bench/dockerd$i.log")"
  done
}

swarm_up() {
  local i token
  on node1 docker swarm init --advertise-addr "${ADDRESS[node1]}" --task-history-limit 1 >/dev/null
  token=$(on node1 docker swarm join-token -q worker)
  for i in 2 3; do on "node$i" docker swarm join --token "$token" --advertise-addr "${ADDRESS[node$i]}" "${ADDRESS[node1]}:2377" >/dev/null; done
  for i in 1 2 3; do on "node$i" docker import -c 'CMD ["/bin/serve"]' "$WORK/image.tar" $IMAGE >/dev/null; done
}

create() { # ARGUMENT…: docker service create
  on node1 docker service create -d -q --no-resolve-image "$@" $IMAGE >/dev/null
}

cluster_up() {
  dockerds_up
  swarm_up
}
service_create() { create --name "$1" --replicas "$2" --publish "$3:80"; } # NAME REPLICAS PORT
service_scale() { on node1 docker service scale -d "$1=$2" >/dev/null; }
services_many() { # COUNT FIRST_PORT
  local i
  for ((i = 0; i < $1; i++)); do service_create "many$i" 1 $(($2 + i)); done
}
DAEMONS='dockerd$|containerd$' SHIMS='containerd-shim|docker-proxy'

system_up() {
  local publish=() entry protocol published port id
  cluster_up
  for entry in "${PORTS[@]}"; do
    IFS=: read -r protocol published port <<< "$entry"
    publish+=(--publish "$published:$port/$protocol")
  done
  create --name bench --constraint node.hostname==node3 "${publish[@]}"
  wait_for 180 on client curl -sf -m 1 "http://${ADDRESS[node1]}:8080/" || die 'the service did not respond'
  wait_for 60 on client curl -sf -m 1 "http://${ADDRESS[node3]}:8080/" || die 'the service did not respond'
  id=$(on node3 docker ps -q --no-trunc | head -n 1)
  TASK_PID[remote]=$(on node3 docker inspect -f '{{.State.Pid}}' "$id")
  TASK_PID[local]=${TASK_PID[remote]}
}
