# The emulated test host: a stock kernel in QEMU over this machine's own root. Sourced by vm.
# shellcheck shell=bash

# Prints QEMU's accelerator options. KVM only if a guest really boots: some machines offer /dev/kvm and
# then hang. The result is cached until the machine reboots.
accelerator() {
  local kernel=$1 verdict=$CACHE/kernel/accelerator key
  key=$(cat /proc/sys/kernel/random/boot_id)-$EUID
  if [[ $(head -n1 "$verdict" 2>/dev/null) != "$key" ]]; then
    local works=tcg
    if [[ -w /dev/kvm ]] && timeout -k 1 10 qemu-system-x86_64 -accel kvm -cpu host -m 256 -nodefaults -display none \
      -no-reboot -kernel "$kernel/vmlinuz" -initrd "$kernel/initramfs" -serial stdio \
      -append 'console=ttyS0 panic=-1 quiet testhost.probe' </dev/null 2>/dev/null | grep -q testhost-probe-ok
    then works=kvm; fi
    printf '%s\n' "$key" "$works" > "$verdict.$$" && mv "$verdict.$$" "$verdict"
  fi
  if [[ $(tail -n1 "$verdict") == kvm ]]; then echo -accel kvm -cpu host
  else echo -accel tcg,thread=multi -cpu "${VM_CPU:-Nehalem,+rdrand}"
  fi
}

# Kills the guest if it has not started in time; returns once it has.
watch_boot() {
  local limit=$((SECONDS + ${VM_BOOT_TIMEOUT:-300}))
  until [[ -e $1/booted ]]; do
    kill -0 "$2" 2>/dev/null || return 0
    if ((SECONDS > limit)); then touch "$1/hung"; kill "$2"; return 0; fi
    sleep 0.5
  done
}

# $1: exchange directory with command, environment, cwd, out.
run_qemu() {
  local x=$1 kernel=$CACHE/kernel status followers=() arguments
  "$HOST_DIR/kernel"
  printf '%s' "$kernel" > "$x/kernel"
  printf '%s' "$HOST_DIR/guest-init" > "$x/init"
  share() { printf '%s\n' -fsdev "local,id=$1,path=${2//,/,,},security_model=none,multidevs=remap$3" -device "virtio-9p-pci,fsdev=$1,mount_tag=$1"; }
  mapfile -t arguments < <(
    accelerator "$kernel" | tr ' ' '\n'
    share rootfs / ,readonly=on; share exchange "$x" ''; share out "$OUT" ''
  )
  arguments+=(-m "${VM_MEMORY:-3072}" -smp "${VM_CPUS:-2}" -nodefaults -no-user-config -display none -no-reboot
    -kernel "$kernel/vmlinuz" -initrd "$kernel/initramfs" -serial "file:$x/kernel.log"
    -append "console=ttyS0 loglevel=${VM_LOGLEVEL:-4} panic=-1 mitigations=off selinux=0 apparmor=0 random.trust_cpu=on")

  if [[ -e $x/interactive ]]; then
    qemu-system-x86_64 "${arguments[@]}" -chardev stdio,id=tty,signal=off -device virtio-serial-pci -device virtconsole,chardev=tty
    return "$(cat "$x/status" 2>/dev/null || echo 125)"
  fi

  : > "$x/stdout"
  # One stream if both go to the same file, to keep their order.
  [[ /proc/self/fd/1 -ef /proc/self/fd/2 ]] || : > "$x/stderr"
  # QEMU must not outlive this script, even if it is killed.
  setpriv --pdeathsig TERM timeout -k 5 "${VM_TIMEOUT:-1500}" \
    qemu-system-x86_64 "${arguments[@]}" </dev/null 2> "$x/qemu.log" >&2 &
  qemu=$!
  trap 'exit 130' INT TERM HUP
  tail -q -c +1 -f -s 0.1 --pid=$qemu "$x/stdout" & followers+=($!)
  [[ ! -e $x/stderr ]] || { tail -q -c +1 -f -s 0.1 --pid=$qemu "$x/stderr" >&2 & followers+=($!); }
  watch_boot "$x" $qemu & followers+=($!)
  wait $qemu && status=0 || status=$?
  wait "${followers[@]}" || true

  if [[ -s $x/status ]]; then return "$(cat "$x/status")"; fi
  cat "$x/qemu.log" >&2
  say "--- end of the guest's kernel log"; tail -n 30 "$x/kernel.log" >&2 2>/dev/null || true; say '---'
  if [[ -e $x/hung ]]; then die "the guest did not start within ${VM_BOOT_TIMEOUT:-300} s (VM_BOOT_TIMEOUT; VM_LOGLEVEL=7 prints more)"
  elif [[ $status == 124 || $status == 137 ]]; then say "test host: stopped after ${VM_TIMEOUT:-1500} s (VM_TIMEOUT)"; return 124
  else die "the guest exited without a status (QEMU: $status)"
  fi
}
