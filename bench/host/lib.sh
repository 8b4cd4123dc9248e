# Shared by the scripts of bench/: paths and messages.
# shellcheck shell=bash
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
BENCH=$ROOT/bench
WORK=$ROOT/.cache/bench # everything fetched, built or written by a benchmark
export PATH=$ROOT/.cache/node/bin:$PATH
# Exists only inside the one-CPU host.
INSIDE=/run/bench/inside

say() { printf '%s\n' "$*" >&2; }
die() { say "bench: $*"; exit 125; }

# Processors whose extended state is longer than user-mode-linux 6.1 restores (xstate.c): those with AMX.
long_state() { grep -qE '^flags.* amx_tile( |$)' /proc/cpuinfo; }

# One boot each: systems cannot see each other's connections, tables or daemons, and a failure does not affect the others.
boot_each() { # HOST BENCH SYSTEM…
  local host=$1 bench=$2 system status=0
  shift 2
  for system in "$@"; do
    say "-- $bench $system, $(date +%H:%M:%S)"
    "$BENCH/host/$host" "$BENCH/$bench" "$system" || { say "-- $bench $system ended early"; status=1; }
  done
  return $status
}
