/* Loaded into Debian's user-mode Linux (LD_PRELOAD), which writes the registers of its processes by
 * PTRACE_SETREGSET, and knows registers up to those of AVX-512. A host whose processors have more (AMX)
 * refuses what is shorter than all of its own: here it is made as long, with what is behind it as it
 * is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef long ptrace_function(enum __ptrace_request, pid_t, void *, void *);

/* The kernel of user-mode Linux is one thread, which is not interrupted for another here. */
static char all_registers[64 * 1024];

static long set_registers(ptrace_function *ptrace, pid_t process, void *kind, struct iovec *given)
{
    struct iovec all = { all_registers, sizeof(all_registers) };
    if (ptrace(PTRACE_GETREGSET, process, kind, &all) != 0 || all.iov_len <= given->iov_len)
        return ptrace(PTRACE_SETREGSET, process, kind, given);
    memcpy(all_registers, given->iov_base, given->iov_len);
    return ptrace(PTRACE_SETREGSET, process, kind, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
    static ptrace_function *next;
    va_list arguments;
    if (!next)
        next = (ptrace_function *)dlsym(RTLD_NEXT, "ptrace");
    va_start(arguments, request);
    pid_t process = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
        return set_registers(next, process, address, data);
    return next(request, process, address, data);
}
