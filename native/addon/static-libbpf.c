/*
 * Debian and Ubuntu build libbpf.a and libelf.a for executables (PIE), not for shared objects. Two references in them cannot
 * be linked into the addon: stderr of the C library, and a thread-local variable in libelf's elf_error.o. This file
 * replaces both: the linker option --wrap=stderr, and the functions of elf_error.o, which is then not linked.
 */
#include <stdio.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* Only libbpf's default print function uses it, and bpf-object.cc sets another. */
HIDDEN FILE *__wrap_stderr;

/* libbpf reports only the text of an error, after a call that has failed. */
HIDDEN void __libelf_seterrno(int value);
HIDDEN void __libelf_seterrno(int value) { (void)value; }
HIDDEN int elf_errno(void);
HIDDEN int elf_errno(void) { return 0; }
HIDDEN const char *elf_errmsg(int error);
HIDDEN const char *elf_errmsg(int error) {
  (void)error;
  return "malformed ELF file";
}
