# meshd-inside: with the shortcut in namespaces of its own only.
# shellcheck shell=bash disable=SC2034
SHORTCUT=inside
. "$BENCH/systems/meshd.sh"
