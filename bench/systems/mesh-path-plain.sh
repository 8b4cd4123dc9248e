# mesh-path-plain: mesh-path.sh without the shortcut.
# shellcheck shell=bash disable=SC2034
SHORTCUT=off
. "$BENCH/systems/mesh-path.sh"
