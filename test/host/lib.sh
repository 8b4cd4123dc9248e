# Shared by the scripts of this directory: paths and messages.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
HOST_DIR=$ROOT/test/host
CACHE=$ROOT/.cache
OUT=${VM_OUT:-$CACHE/out}
# Exists only inside a test host (QEMU guest or native namespaces).
INSIDE=/run/testhost/inside

say() { printf '%s\n' "$*" >&2; }
die() { say "test host: $*"; exit 125; }

# The project's own Node (see runtime) takes precedence. sbin is not on an ordinary user's PATH on Debian, but ipvsadm and
# similar tools are installed there.
export PATH=$CACHE/node/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin

# Runs a command as root: directly, or through sudo without a password.
as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"
  elif sudo -n true 2>/dev/null; then sudo -n -- "$@"
  else die "root is needed for '$*': run as root, or allow sudo without a password"
  fi
}
