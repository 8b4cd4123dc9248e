# Shared by the scripts of bench/: where things are, and how they speak.
# shellcheck shell=bash
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
BENCH=$ROOT/bench
WORK=$ROOT/.cache/bench # everything fetched, built or written by a bench
# Exists only inside the one-CPU host.
INSIDE=/run/bench/inside

say() { printf '%s\n' "$*" >&2; }
die() { say "bench: $*"; exit 125; }
