// Preloaded into user-mode-linux 6.1, which restores 832 bytes of a process's extended state (NT_X86_XSTATE): all there is
// up to AVX. Processors with AVX-512 or AMX have more, and their kernel refuses a PTRACE_SETREGSET that leaves any of it
// out. This ptrace fills in the rest with what the process has already.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long ptrace_function(enum __ptrace_request, ...);

long ptrace(enum __ptrace_request request, ...)
{
	static ptrace_function *next;
	static char state[65536] __attribute__((aligned(64)));
	va_list arguments;

	va_start(arguments, request);
	pid_t pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	if (!next)
		next = (ptrace_function *)dlsym(RTLD_NEXT, "ptrace");
	if (request == PTRACE_SETREGSET && (unsigned long)address == NT_X86_XSTATE) {
		const struct iovec *given = data;
		struct iovec whole = { state, sizeof state };

		if (next(PTRACE_GETREGSET, pid, address, &whole) == 0 && whole.iov_len > given->iov_len) {
			memcpy(state, given->iov_base, given->iov_len);
			return next(request, pid, address, &whole);
		}
	}
	return next(request, pid, address, data);
}
