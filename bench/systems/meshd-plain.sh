# meshd-plain: meshd.sh with --shortcut off.
# shellcheck shell=bash disable=SC2034
SHORTCUT=off
. "$BENCH/systems/meshd.sh"
