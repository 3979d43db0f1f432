/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || HAS_FEATURE(address_sanitizer) ||       \
    HAS_FEATURE(thread_sanitizer)
enum { BUILT_WITH_SANITIZER = 1 };
#else
enum { BUILT_WITH_SANITIZER = 0 };
#endif

/* ---- The list ------------------------------------------------------------ */

#define EVERY  AP_SANDBOX_USE_EVERY
#define OUTPUT AP_SANDBOX_USE_OUTPUT
#define TOOLS  AP_SANDBOX_USE_TOOLS
#define CALL(name, use, test, reason)                                                                        \
    {                                                                                                        \
        SCMP_SYS(name), #name, use, AP_SANDBOX_##test, reason                                                \
    }

static const ap_sandbox_call call_list[] = {
    /* Talking to the front, over descriptors that are open already. */
    CALL(recvfrom, EVERY, ANY, "frames from the front"),
    CALL(sendto, EVERY, ANY, "frames to the front"),
    CALL(ppoll, EVERY, ANY, "waiting for the front when idle"),
    CALL(write, EVERY, ANY, "log lines and last words on standard error, a pipe to the front"),
    CALL(writev, EVERY, ANY, "libc's own last words when it finds its heap damaged"),
    /* Reading the model. */
    CALL(fstat, EVERY, ANY, "size and inode of the model before each step"),
    CALL(read, EVERY, ANY, "a one-shot's source file"),
    CALL(pread64, EVERY, ANY, "reading source and packed files by position"),
    CALL(lseek, EVERY, ANY, "a one-shot's source file"),
    CALL(close, EVERY, ANY, "giving descriptors back"),
    CALL(mmap, EVERY, NO_EXEC, "mapping the model; memory"),
    CALL(munmap, EVERY, ANY, "unmapping; memory"),
    CALL(madvise, EVERY, ANY, "read-ahead of the model; memory given back by threads"),
    CALL(fadvise64, EVERY, ANY, "read-ahead of a source file"),
    /* Memory. */
    CALL(brk, EVERY, ANY, "malloc"),
    CALL(mremap, EVERY, ANY, "realloc of large blocks"),
    CALL(mprotect, EVERY, NO_EXEC, "guard pages of thread stacks, malloc's arenas"),
    CALL(sysinfo, EVERY, ANY, "libc's qsort asks how much memory there is"),
    /* Threads of the engine's pool: entered before them, so that not a byte of the model is read outside. */
    CALL(clone, EVERY, THREAD_ONLY, "starting a thread of the pool"),
    CALL(clone3, EVERY, ABSENT, "its flags cannot be looked at, so libc is told to use clone"),
    CALL(set_robust_list, EVERY, ANY, "every new thread does this"),
    CALL(rseq, EVERY, ANY, "every new thread does this"),
    CALL(futex, EVERY, ANY, "the pool's waiting and waking, pthread_join"),
    CALL(sched_getaffinity, EVERY, ANY, "how many CPUs this process may use"),
    CALL(sched_yield, EVERY, ANY, "waiting for the other threads of a step"),
    CALL(gettid, EVERY, ANY, "abort names the thread"),
    CALL(getpid, EVERY, ANY, "abort names the process"),
    CALL(tgkill, EVERY, SELF, "abort after a failed assertion"),
    CALL(rt_sigprocmask, EVERY, ANY, "starting threads, abort"),
    CALL(rt_sigaction, EVERY, ANY, "abort"),
    CALL(rt_sigreturn, EVERY, ANY, "the way back out of a signal handler"),
    CALL(restart_syscall, EVERY, ANY, "a wait that was stopped and continued"),
    CALL(exit, EVERY, ANY, "the end of a thread"),
    CALL(exit_group, EVERY, ANY, "the end of the process"),
    /* Clock and chance. */
    CALL(clock_gettime, EVERY, ANY, "durations, where the clock is not readable from user space"),
    CALL(getrandom, EVERY, ANY, "hash seeds"),
    /* Import writes one file, through a descriptor that the front opened. */
    CALL(pwrite64, OUTPUT, ANY, "the packed file"),
    CALL(ftruncate, OUTPUT, ANY, "the packed file's length"),
    CALL(fallocate, OUTPUT, ANY, "room for the packed file, so that a full disk is known early"),
    CALL(fdatasync, OUTPUT, ANY, "the packed file is on disk before it gets its name"),
    CALL(fsync, OUTPUT, ANY, "the same"),
    /* Builds with a sanitizer only: what it calls itself.  Landlock still refuses every path. */
    CALL(openat, TOOLS, ANY, "reading the memory map for a report"),
    CALL(open, TOOLS, ANY, "the same"),
    CALL(readlink, TOOLS, ANY, "the name of the program for a report"),
    CALL(stat, TOOLS, ANY, "the same"),
    CALL(newfstatat, TOOLS, ANY, "the same"),
    CALL(sigaltstack, TOOLS, ANY, "the stack on which a crash is reported"),
    CALL(prctl, TOOLS, ANY, "thread names, being traced"),
    CALL(getppid, TOOLS, ANY, "reports"),
    CALL(getrlimit, TOOLS, ANY, "stack bounds"),
    CALL(prlimit64, TOOLS, ANY, "stack bounds"),
    CALL(getrusage, TOOLS, ANY, "memory bounds"),
    CALL(arch_prctl, TOOLS, ANY, "thread registers"),
    CALL(nanosleep, TOOLS, ANY, "waiting inside the tool"),
    CALL(clock_nanosleep, TOOLS, ANY, "the same"),
    CALL(kill, TOOLS, SELF, "ending by a signal"),
};

const ap_sandbox_call *ap_sandbox_calls(size_t *count)
{
    *count = sizeof call_list / sizeof *call_list;
    return call_list;
}

/* ---- seccomp ------------------------------------------------------------- */

/* What glibc asks of clone for a thread.  Any process-making form lacks one of these. */
static const uint64_t thread_flags = 0x00000100 /* VM */ | 0x00000200 /* FS */ | 0x00000400 /* FILES */ |
                                     0x00000800 /* SIGHAND */ | 0x00010000 /* THREAD */;

static int add_call(scmp_filter_ctx filter, const ap_sandbox_call *call)
{
    switch (call->test) {
    case AP_SANDBOX_ANY:
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, call->number, 0);
    case AP_SANDBOX_NO_EXEC:
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, call->number, 1,
                                SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    case AP_SANDBOX_THREAD_ONLY:
        /* s390 has the flags second; Aperto does not run there (big-endian). */
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, call->number, 1,
                                SCMP_A0(SCMP_CMP_MASKED_EQ, thread_flags, thread_flags));
    case AP_SANDBOX_SELF:
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, call->number, 1,
                                SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    case AP_SANDBOX_ABSENT:
        return seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), call->number, 0);
    }
    return -EINVAL;
}

static int load_filter(unsigned uses)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return -ENOMEM;
    int rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    /* One thread so far, but if a library had started another it must not stay outside. */
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; rc == 0 && i < sizeof call_list / sizeof *call_list; i++)
        /* Below zero: a call that this architecture does not have. */
        if ((call_list[i].use & uses) && call_list[i].number >= 0)
            rc = add_call(filter, &call_list[i]);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc;
}

/* ---- Landlock: by number, since headers are older than kernels ------------ */

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self  446
#endif

typedef struct landlock_rules {
    uint64_t files, network, scoped;
} landlock_rules;

/* Handles every right the kernel knows and allows none of them anywhere.  0, or the errno. */
static int enter_landlock(void)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, 1u /* ask for the version */);
    if (abi < 1)
        return abi < 0 ? errno : ENOSYS;
    landlock_rules rules = {.files = (UINT64_C(1) << 13) - 1};
    size_t bytes = 8;
    if (abi >= 2)
        rules.files |= UINT64_C(1) << 13; /* link and rename between folders */
    if (abi >= 3)
        rules.files |= UINT64_C(1) << 14; /* truncate */
    if (abi >= 4) {
        rules.network = 3; /* bind and connect TCP */
        bytes = 16;
    }
    if (abi >= 5)
        rules.files |= UINT64_C(1) << 15; /* ioctl on devices */
    if (abi >= 6) {
        rules.scoped = 3; /* abstract sockets and signals of others */
        bytes = 24;
    }
    long fd = syscall(SYS_landlock_create_ruleset, &rules, bytes, 0u);
    if (fd < 0)
        return errno;
    int failed = syscall(SYS_landlock_restrict_self, (int)fd, 0u) == 0 ? 0 : errno;
    (void)close((int)fd);
    return failed;
}

/* ---- The rest ------------------------------------------------------------ */

static bool close_between(unsigned first, unsigned last)
{
    if (first > last)
        return true;
    if (syscall(SYS_close_range, first, last, 0u) == 0)
        return true;
    /* Kernels before 5.9. */
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return false;
    unsigned end = limit.rlim_cur < 1048576 ? (unsigned)limit.rlim_cur : 1048576;
    for (unsigned fd = first; fd <= last && fd < end; fd++)
        (void)close((int)fd);
    return true;
}

static ap_status close_others(const int *fds, size_t count, int *highest, ap_error *err)
{
    int sorted[AP_SANDBOX_FDS_MAX];
    if (count > AP_SANDBOX_FDS_MAX)
        return ap_fail(err, AP_E_ARG, "%zu descriptors are more than the limit of %d", count,
                       AP_SANDBOX_FDS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (fds[i] < 0)
            return ap_fail(err, AP_E_ARG, "descriptor %d is none", fds[i]);
        size_t at = i;
        for (; at > 0 && sorted[at - 1] > fds[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = fds[i];
    }
    unsigned next = 0;
    for (size_t i = 0; i < count; i++) {
        if ((unsigned)sorted[i] > next && !close_between(next, (unsigned)sorted[i] - 1))
            return ap_fail(err, AP_E_SANDBOX, "descriptors could not be closed: %s", strerror(errno));
        next = (unsigned)sorted[i] + 1;
    }
    if (!close_between(next, UINT32_MAX))
        return ap_fail(err, AP_E_SANDBOX, "descriptors could not be closed: %s", strerror(errno));
    *highest = (int)next - 1;
    return AP_OK;
}

static ap_status lower_limit(int what, const char *name, rlim_t value, ap_error *err)
{
    struct rlimit limit = {value, value};
    if (setrlimit(what, &limit) != 0)
        return ap_fail(err, AP_E_SANDBOX, "the limit on %s could not be set: %s", name, strerror(errno));
    return AP_OK;
}

/* Whatever opens a path at its first use is used here for the first time. */
static void warm_up(void)
{
    unsigned seed = 0;
    while (seed == 0 && getrandom(&seed, sizeof seed, 0) == (ssize_t)sizeof seed)
        ;
    json_object_seed(seed ? seed : 1); /* else jansson opens /dev/urandom */
    time_t zero = 0;
    struct tm parts;
    (void)gmtime_r(&zero, &parts); /* else libc opens /etc/localtime at the first log line */
    /* Other arenas open a file of /proc when they shrink. */
    (void)mallopt(M_ARENA_MAX, 1);
}

static ap_status lacking(ap_sandbox_mode mode, const char *part, int number, char *state, ap_error *err)
{
    if (mode != AP_SANDBOX_REDUCED)
        return ap_fail(err, AP_E_SANDBOX,
                       "this kernel does not let a worker enter its sandbox: %s: %s; --sandbox=reduced goes "
                       "on without it",
                       part, strerror(number));
    size_t used = strlen(state);
    (void)snprintf(state + used, AP_SANDBOX_STATE_BYTES - used, "%sno %s", used ? ", " : "reduced: ", part);
    return AP_OK;
}

ap_status ap_sandbox_enter(const ap_sandbox_options *options, char state[AP_SANDBOX_STATE_BYTES],
                           ap_error *err)
{
    state[0] = 0;
    bool is_valgrind = RUNNING_ON_VALGRIND;
    bool has_tools = BUILT_WITH_SANITIZER || is_valgrind;
    warm_up();
    /* Not under a sanitizer: its options, read again when it reports, are there. */
    if (!has_tools && clearenv() != 0)
        return ap_fail(err, AP_E_SANDBOX, "the environment could not be cleared");
    int highest = -1;
    AP_TRY(close_others(options->fds, options->fd_count, &highest, err));
    AP_TRY(lower_limit(RLIMIT_CORE, "core dumps", 0, err));
    if (!is_valgrind) /* which keeps descriptors of its own above ours */
        AP_TRY(
            lower_limit(RLIMIT_NOFILE, "descriptors", (rlim_t)highest + 2, err)); /* one more: Landlock's */
    if (!options->has_output)
        AP_TRY(lower_limit(RLIMIT_FSIZE, "file sizes", 0, err));
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return ap_fail(err, AP_E_SANDBOX, "core dumps could not be switched off: %s", strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        AP_TRY(lacking(options->mode, "no_new_privs", errno, state, err));

    if (is_valgrind) {
        /* Valgrind 3.19 knows neither call, and its own work needs more than any list. */
        (void)snprintf(state, AP_SANDBOX_STATE_BYTES, "reduced: valgrind runs this");
        return AP_OK;
    }
    int failed = enter_landlock();
    if (failed)
        AP_TRY(lacking(options->mode, "Landlock", failed, state, err));
    failed = load_filter(AP_SANDBOX_USE_EVERY | (options->has_output ? AP_SANDBOX_USE_OUTPUT : 0) |
                         (has_tools ? AP_SANDBOX_USE_TOOLS : 0));
    if (failed)
        AP_TRY(lacking(options->mode, "seccomp", -failed, state, err));
    if (state[0] == 0)
        (void)snprintf(state, AP_SANDBOX_STATE_BYTES, "%s",
                       has_tools ? "full, with the calls of a sanitizer" : "full");
    return AP_OK;
}
