# Mounts common to the QEMU guest and the native namespaces.
# shellcheck shell=bash

# A fresh /tmp, /run, /dev/shm and /dev/pts. A checkout that lives below one of them is put back.
fresh_mounts() {
  local checkout dir
  checkout=$(cd "$1" && pwd -P)
  for dir in /tmp /run; do
    if [[ $checkout == $dir/* ]]; then
      # Nothing can be reached below $dir once it is covered, so hold the checkout elsewhere meanwhile.
      mount --bind "$checkout" /mnt
      mount -t tmpfs -o mode=1777 tmpfs $dir
      mkdir -p "$checkout"
      mount --bind /mnt "$checkout"
      umount /mnt
    else
      mount -t tmpfs -o mode=1777 tmpfs $dir
    fi
  done
  chmod 755 /run
  mkdir -p /run/lock /run/netns /run/testhost /dev/pts /dev/shm
  mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  cd "$checkout" || return
}
