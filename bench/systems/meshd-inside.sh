# meshd-inside: meshd.sh as it is without being asked for more: the shortcut in namespaces of its own only.
# shellcheck shell=bash disable=SC2034
SHORTCUT=inside
. "$BENCH/systems/meshd.sh"
