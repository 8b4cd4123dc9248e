# meshd-plain: meshd.sh with --fast-path off.
# shellcheck shell=bash disable=SC2034
FAST_PATH=off
. "$BENCH/systems/meshd.sh"
