# meshd-plain: meshd.sh as it is without being asked for more: no shortcut.
# shellcheck shell=bash disable=SC2034
SHORTCUT=off
. "$BENCH/systems/meshd.sh"
