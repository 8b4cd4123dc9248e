# Shared by the QEMU guest and the native namespaces. Sourced by their first processes, as root, in an
# overlay of the machine's root.
# shellcheck shell=bash

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root USER=root LOGNAME=root SHELL=/bin/bash

# $1: the checkout. Mounts a fresh /tmp, /run, /dev/shm and /dev/pts.
fresh_mounts() {
  local dir hold=/.testhost-checkout
  for dir in /tmp /run; do
    if [[ $1 == $dir/* ]]; then
      # A checkout below $dir becomes unreachable once that is covered, so bind it elsewhere first.
      mkdir -p $hold
      mount --bind "$1" $hold
      mount -t tmpfs -o mode=1777 tmpfs $dir
      mkdir -p "$1"
      mount --bind $hold "$1"
      umount $hold
    else
      mount -t tmpfs -o mode=1777 tmpfs $dir
    fi
  done
  chmod 755 /run
  mkdir -p /run/lock /run/netns /run/testhost/exchange /dev/pts /dev/shm
  mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
}

# $1: the exchange directory, $2: the checkout. Sets up host name, loopback, the checkout's Node as the machine's (tasks
# have a default PATH), the caller's directory and variables.
plain_host() {
  ln -sfn "$2/.cache/node/bin/node" /usr/local/bin/node
  hostname testhost
  ip link set lo up
  ls "$HOME" >/dev/null 2>&1 || mount -t tmpfs tmpfs "$HOME" # QEMU reads the machine's root with its user's rights
  cd "$(< "$1/cwd")" || cd /
  # shellcheck source=/dev/null
  . "$1/environment"
  touch /run/testhost/inside
}
