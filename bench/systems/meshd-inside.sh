# meshd-inside: meshd.sh with its default: the fast path inside meshd's own namespaces only.
# shellcheck shell=bash disable=SC2034
FAST_PATH=inside
. "$BENCH/systems/meshd.sh"
