# mesh-path: the data path of meshd as created by its plan and driver, without the daemons (see mesh-node.ts).
# FAST_PATH (full): as in meshd --fast-path.
# Environment: BENCH_PEERS (3) nodes, BENCH_SERVICES (0) further published ports, in the tables of all three.
# shellcheck shell=bash disable=SC2034
system_up() {
  local i
  for i in 1 2 3; do
    on "node$i" node "$ROOT/dist/mesh-node.mjs" "$i" "${BENCH_PEERS:-3}" "${BENCH_SERVICES:-0}" "${FAST_PATH:-full}" || die "mesh-node $i failed"
  done
  setsid nsenter -t "$(< "$NODES/node3.pid")" -m -n -u -- ip netns exec mesh-task-benchbenchbe "$WORK/bin/serve" </dev/null &
  TASK_PID[remote]=$! TASK_PID[local]=$!
  disown
}
