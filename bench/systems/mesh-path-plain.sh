# mesh-path-plain: mesh-path.sh without the shortcut, as meshd is without being asked for more.
# shellcheck shell=bash disable=SC2034
SHORTCUT=off
. "$BENCH/systems/mesh-path.sh"
