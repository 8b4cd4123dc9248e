# One system under test and the bare host: `start NAME` sets up the nodes, the task and its published ports.
# Every system sets: VIA (the node that packets of a path are sent to), TARGET (their destination address), TASK_PID, HTTP.
# shellcheck shell=bash disable=SC2034
. "$BENCH/host/nodes.sh"
# protocol:published:task, the same for every system; serve.c documents each.
PORTS=(tcp:8080:80 udp:9000:9000 udp:9002:9002 tcp:5201:5201 tcp:5202:5202)
declare -A VIA=([bare]=bare [remote]=node1 [local]=node3) TASK_PID=()
declare -A TARGET=([bare]=${ADDRESS[bare]} [remote]=${ADDRESS[node1]} [local]=${ADDRESS[node3]})
HTTP=8080

start() {
  nodes_up
  . "$BENCH/systems/bare.sh"
  bare_up
  TASK_PID[bare]=$BARE_PID
  . "$BENCH/systems/$1.sh"
  system_up
  wait_for 30 on client curl -sf -m 2 "http://${ADDRESS[bare]}/" || die 'the bare host does not respond'
  local path
  for path in ${!TASK_PID[*]}; do
    [[ $path == bare ]] || wait_for 60 on client curl -sf -m 2 "http://${TARGET[$path]}:$HTTP/" || die "$1: path $path does not respond"
  done
}

http_port() { if [[ $1 == bare ]]; then echo 80; else echo "$HTTP"; fi; }

# BENCH CASE SYSTEM METRIC UNIT min|max|median SAMPLE…: one line of results. min for costs and max for rates: the
# undisturbed performance of the path; the samples show how often it was reached.
record() {
  local bench=$1 case=$2 system=$3 metric=$4 unit=$5 how=$6 value samples
  shift 6
  case $how in
    min) value=$(printf '%s\n' "$@" | sort -g | head -n 1) ;;
    max) value=$(printf '%s\n' "$@" | sort -g | tail -n 1) ;;
    median) value=$(printf '%s\n' "$@" | sort -g | sed -n "$((($# + 1) / 2))p") ;;
  esac
  samples=$(IFS=,; echo "$*")
  printf '{"bench":"%s","case":"%s","system":"%s","metric":"%s","unit":"%s","value":%s,"samples":[%s]}\n' \
    "$bench" "$case" "$system" "$metric" "$unit" "$value" "$samples" >> "$BENCH_RESULTS"
  printf '%-12s %-32s %-15s %-14s %12s %-8s (%s samples, median %s)\n' "$bench" "$case" "$system" "$metric" "$value" "$unit" $# \
    "$(printf '%s\n' "$@" | sort -g | sed -n "$((($# + 1) / 2))p")"
}
