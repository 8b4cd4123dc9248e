# Memory and CPU of a system's own processes on a node, without the tasks.
# shellcheck shell=bash

# NODE NAMES: processes of these names (a pattern) on that node.
processes_of() {
  local pid
  for pid in $(pgrep "^($2)"); do
    [[ ! /proc/$pid/ns/uts -ef /proc/$(< "$NODES/$1.pid")/ns/uts ]] || echo "$pid"
  done
}

# CASE SYSTEM: memory of node1 (manager) and node3 (worker), and their CPU over 20 s, in percent of the one CPU.
record_footprint() {
  local node pids daemons stats before after
  for node in node1 node3; do
    mapfile -t daemons < <(processes_of "$node" "$DAEMONS")
    mapfile -t pids < <(processes_of "$node" "$DAEMONS|$SHIMS")
    [[ ${#daemons[@]} -gt 0 ]] || die "no process of $2 runs on $node"
    read -ra stats <<< "$(printf '/proc/%s/stat ' "${daemons[@]}")"
    before=$(ticks "${stats[@]}")
    sleep 20
    after=$(ticks "${stats[@]}")
    record footprint "$1-$node" "$2" daemon_rss MB min "$(memory VmRSS status "${daemons[@]}")"
    record footprint "$1-$node" "$2" all_rss MB min "$(memory VmRSS status "${pids[@]}")"
    record footprint "$1-$node" "$2" all_pss MB min "$(memory Pss smaps_rollup "${pids[@]}")"
    record footprint "$1-$node" "$2" daemon_cpu percent min "$(awk -v used=$((after - before)) 'BEGIN { printf "%.2f", used / 20 }')"
  done
}

ticks() { awk '{ sum += $14 + $15 } END { print sum }' "$@"; } # of 10 ms, so that ticks in 20 s / 20 are percent

memory() { # FIELD FILE PID…: MB
  local field=$1 file=$2 paths
  shift 2
  read -ra paths <<< "$(printf "/proc/%s/$file " "$@")"
  awk -v field="$field:" '$1 == field { sum += $2 } END { printf "%.1f\n", sum / 1024 }' "${paths[@]}"
}
