/*
 * A system call filter that keeps a command from creating and entering namespaces. In a user namespace of its own every
 * user has all capabilities, so it could mount and reach parts of the kernel that are for root only. The calls and their
 * errors are those of Docker's default profile (clone, clone3, unshare, setns without CAP_SYS_ADMIN).
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"

#ifndef SYS_clone3
#define SYS_clone3 435
#endif

/* Numbers of the 32-bit programs that the kernel runs as well: arch/x86/entry/syscalls/syscall_32.tbl, arch/arm/tools/syscall.tbl. */
#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define ARCH_32 AUDIT_ARCH_I386
#define UNSHARE_32 310
#define SETNS_32 346
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#define ARCH_32 AUDIT_ARCH_ARM
#define UNSHARE_32 337
#define SETNS_32 375
#else
#error "system call numbers of the 32-bit programs of this processor are missing"
#endif
#define CLONE_32 120
#define CLONE3_32 435

/* In clone the bit of CLONE_NEWTIME belongs to the exit signal. */
#define CLONE_NAMESPACES \
  (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)
#define UNSHARE_NAMESPACES (CLONE_NAMESPACES | CLONE_NEWTIME)

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
#define ALLOW RETURN(SECCOMP_RET_ALLOW)
#define REFUSE(error) RETURN(SECCOMP_RET_ERRNO | (error))
/* Skips that many instructions unless the loaded value is this one. */
#define ONLY_IF(value, skipped) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skipped)

/* The flags are the lower half of the first argument, which comes first on these little-endian processors. */
#define REFUSE_FLAGS(number, flags) \
  ONLY_IF(number, 4), LOAD(args[0]), BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, flags, 0, 1), REFUSE(EPERM), ALLOW

/* The C library falls back from clone3 to clone, whose flags a filter can read. Bit 30 marks calls of x32 (asm/unistd.h). */
#define RULES_LENGTH 17
#define RULES(clone, clone3, unshare, setns)                                                 \
  LOAD(nr), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~0x40000000U), ONLY_IF(clone3, 1), REFUSE(ENOSYS), \
  ONLY_IF(setns, 1), REFUSE(EPERM), REFUSE_FLAGS(clone, CLONE_NAMESPACES), REFUSE_FLAGS(unshare, UNSHARE_NAMESPACES), ALLOW

void forbid_namespaces(void) {
  static struct sock_filter filter[] = {
      LOAD(arch),
      ONLY_IF(ARCH, RULES_LENGTH),
      RULES(SYS_clone, SYS_clone3, SYS_unshare, SYS_setns),
      ONLY_IF(ARCH_32, RULES_LENGTH),
      RULES(CLONE_32, CLONE3_32, UNSHARE_32, SETNS_32),
      REFUSE(ENOSYS),
  };
  struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
  /* Without this flag kernels before 5.16 slow the command down by their mitigation of speculative store bypass. */
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) != 0)
    fail(errno, "seccomp", "the filter of system calls");
}
