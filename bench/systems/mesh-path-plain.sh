# mesh-path-plain: mesh-path.sh without the fast path.
# shellcheck shell=bash disable=SC2034
FAST_PATH=off
. "$BENCH/systems/mesh-path.sh"
