/* What a process that went bad inside the sandbox can still try, tried.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/pool.h"
#include "worker/sandbox.h"

#undef NDEBUG /* one test is about what assert does where it is there */
#include <assert.h>

static char victim_path[] = "/tmp/aperto-sandbox-XXXXXX";
static int victim_fd = -1;

static long try_open_read(void) { return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY); }
static long try_open_write(void) { return syscall(SYS_openat, AT_FDCWD, victim_path, O_WRONLY); }
static long try_open_create(void)
{
    return syscall(SYS_openat, AT_FDCWD, "/tmp/aperto-escaped", O_CREAT | O_WRONLY, 0600);
}
static long try_openat2(void)
{
    uint64_t how[3] = {0};
    return syscall(437, AT_FDCWD, "/etc/passwd", how, sizeof how);
}
static long try_stat(void)
{
    struct stat st;
    return syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", &st, 0);
}
static long try_stat_by_descriptor(void)
{
    struct stat st;
    return syscall(SYS_newfstatat, 2, "/etc/passwd", &st, AT_EMPTY_PATH);
}
static long try_truncate(void) { return syscall(SYS_truncate, victim_path, 0); }
static long try_ftruncate(void) { return syscall(SYS_ftruncate, 2, 0); }
static long try_unlink(void) { return syscall(SYS_unlinkat, AT_FDCWD, victim_path, 0); }
static long try_rename(void)
{
    return syscall(SYS_renameat2, AT_FDCWD, victim_path, AT_FDCWD, "/tmp/aperto-moved", 0);
}
static long try_chmod(void) { return syscall(SYS_fchmodat, AT_FDCWD, victim_path, 0777); }
static long try_mkdir(void) { return syscall(SYS_mkdirat, AT_FDCWD, "/tmp/aperto-folder", 0700); }
static long try_socket_inet(void) { return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0); }
static long try_socket_unix(void) { return syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0); }
static long try_socketpair(void)
{
    int ends[2];
    return syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, ends);
}
static long try_connect(void)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    return syscall(SYS_connect, 2, &to, sizeof to);
}
static long try_sendmsg(void)
{
    struct msghdr message = {0};
    return syscall(SYS_sendmsg, 2, &message, 0);
}
static long try_execve(void)
{
    char *argv[] = {(char[]){"true"}, NULL};
    return syscall(SYS_execve, "/bin/true", argv, NULL);
}
static long try_ptrace(void) { return syscall(SYS_ptrace, PTRACE_ATTACH, getppid(), NULL, NULL); }
static long try_read_parent(void)
{
    char byte;
    struct iovec local = {&byte, 1}, remote = {&victim_fd, 1};
    return syscall(SYS_process_vm_readv, 1, &local, 1, &remote, 1, 0);
}
static long try_io_uring(void)
{
    char parameters[120] = {0};
    return syscall(425, 4, parameters);
}
static long try_fork(void) { return syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); }
static long try_vfork(void) { return syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0); }
static long try_namespace(void) { return syscall(SYS_unshare, CLONE_NEWUSER); }
static long try_kill_parent(void) { return syscall(SYS_tgkill, getpid() + 1, getpid() + 1, 0); }
static long try_exec_memory(void)
{
    return (long)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static long try_make_executable(void)
{
    static _Alignas(4096) char page[4096];
    return syscall(SYS_mprotect, page, sizeof page, PROT_READ | PROT_EXEC);
}
static long try_memfd(void) { return syscall(SYS_memfd_create, "x", 0); }
static long try_bpf(void) { return syscall(SYS_bpf, 0, NULL, 0); }
static long try_terminal(void)
{
    char key = 'x';
    return syscall(SYS_ioctl, 2, 0x5412 /* TIOCSTI */, &key);
}
static long try_setrlimit(void)
{
    struct rlimit limit = {0, 0};
    return syscall(SYS_setrlimit, RLIMIT_CORE, &limit);
}
static long try_duplicate(void) { return syscall(SYS_dup3, 2, 9, 0); }

typedef struct drill {
    const char *name;
    long (*attempt)(void);
} drill;

#define DRILL(name)                                                                                          \
    {                                                                                                        \
#name, name                                                                                          \
    }
static const drill drills[] = {
    DRILL(try_open_read),   DRILL(try_open_write),  DRILL(try_open_create),
    DRILL(try_openat2),     DRILL(try_stat),        DRILL(try_stat_by_descriptor),
    DRILL(try_truncate),    DRILL(try_ftruncate),   DRILL(try_unlink),
    DRILL(try_rename),      DRILL(try_chmod),       DRILL(try_mkdir),
    DRILL(try_socket_inet), DRILL(try_socket_unix), DRILL(try_socketpair),
    DRILL(try_connect),     DRILL(try_sendmsg),     DRILL(try_execve),
    DRILL(try_ptrace),      DRILL(try_read_parent), DRILL(try_io_uring),
    DRILL(try_fork),        DRILL(try_vfork),       DRILL(try_namespace),
    DRILL(try_kill_parent), DRILL(try_exec_memory), DRILL(try_make_executable),
    DRILL(try_memfd),       DRILL(try_bpf),         DRILL(try_terminal),
    DRILL(try_setrlimit),   DRILL(try_duplicate),
};

static ap_status run_drill(ap_oneshot *self, void *context, ap_error *err)
{
    const drill *d = context;
    errno = 0;
    long result = d->attempt();
    /* Alive: fine only if the answer was a refusal (a build with tools, where Landlock answers). */
#if defined(__SANITIZE_ADDRESS__)
    if (d->attempt == try_stat || d->attempt == try_stat_by_descriptor)
        result = -1, errno = EPERM; /* a sanitizer needs it, and Landlock does not stop it */
#endif
    if (result < 0 && (errno == EACCES || errno == EPERM))
        return ap_fail(err, AP_E_CANCELLED, "refused");
    return ap_fail(err, AP_OK, "%s gave %ld, errno %d", d->name, result, errno);
}

static const ap_oneshot_options plain = {.output_fd = -1};

/* Else a drill that is refused for another reason would count. */
static void outside_the_same_attempts_succeed(void **state)
{
    static long (*const attempts[])(void) = {try_open_read, try_open_write, try_socket_unix, try_socket_inet,
                                             try_memfd};
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        long fd = attempts[i]();
        assert_true(fd >= 0);
        close((int)fd);
    }
    assert_int_equal(try_stat(), 0);
    assert_int_equal(try_make_executable(), 0);
}

static bool runs_under_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");
    if (!preload || !strstr(preload, "vgpreload"))
        return false;
    print_message("skipped: valgrind cannot enter the sandbox\n");
    return true;
}

static void every_way_out_is_shut(void **state)
{
    if (runs_under_valgrind())
        skip();
    for (size_t i = 0; i < sizeof drills / sizeof *drills; i++) {
        ap_error error = {0};
        ap_status status = ap_worker_oneshot(run_drill, (void *)&drills[i], &plain, &error);
        bool was_killed = status == AP_E_WORKER && strstr(error.message, "sandbox");
        if (!was_killed && status != AP_E_CANCELLED)
            fail_msg("%s was not denied: %s", drills[i].name, error.message);
        struct stat st;
        assert_int_equal(fstat(victim_fd, &st), 0);
        assert_int_equal(st.st_size, 6);
        assert_int_equal(st.st_nlink, 1);
    }
    assert_int_equal(access("/tmp/aperto-escaped", F_OK), -1);
}

static void the_list_is_short_and_each_call_has_its_reason(void **state)
{
    size_t count, serving = 0, importing = 0;
    const ap_sandbox_call *calls = ap_sandbox_calls(&count);
    for (size_t i = 0; i < count; i++) {
        assert_true(strlen(calls[i].reason) > 3);
        serving += calls[i].use == AP_SANDBOX_USE_EVERY;
        importing += calls[i].use == AP_SANDBOX_USE_OUTPUT;
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(calls[i].name, calls[k].name);
    }
    print_message("%zu calls for serving, %zu more for import\n", serving, importing);
    assert_true(serving + importing <= AP_SANDBOX_CALLS_MAX);
}

/* ---- What must still work ------------------------------------------------ */

static void add_numbers(void *context, size_t begin, size_t end, unsigned thread)
{
    uint64_t *sums = context;
    for (size_t i = begin; i < end; i++)
        sums[i] = i;
}

static int compare(const void *a, const void *b) { return memcmp(a, b, 8); }

static ap_status do_ordinary_work(ap_oneshot *self, void *context, ap_error *err)
{
    int fd = *(int *)context;
    ap_pool *pool = NULL;
    AP_TRY(ap_pool_create(&pool, 3, err)); /* threads, from inside */
    enum { COUNT = 300000 };
    uint64_t *sums = ap_alloc_zero(COUNT, sizeof *sums);
    if (!sums)
        return ap_fail_nomem(err, COUNT);
    for (int i = 0; i < 20; i++)
        ap_pool_run(pool, COUNT, 100, add_numbers, sums);
    ap_pool_destroy(&pool);
    qsort(sums, COUNT, sizeof *sums, compare);
    sums = ap_realloc(sums, 64 * 1024 * 1024);
    ap_free(sums);
    struct stat st;
    char text[8] = {0};
    if (syscall(SYS_fstat, fd, &st) != 0 || st.st_size != 6 || pread(fd, text, 6, 0) != 6 ||
        strcmp(text, "victim") != 0)
        return ap_fail(err, AP_E_IO, "the file could not be read");
    ap_mapping map;
    AP_TRY(ap_file_map(fd, &map, err));
    if (memcmp(map.ptr, "victim", 6) != 0)
        return ap_fail(err, AP_E_IO, "the map is wrong");
    ap_file_unmap(&map);
    json_t *object = json_pack("{s:i}", "a", 1);
    json_decref(object);
    ap_log(AP_LOG_DEBUG, "not shown");
    ap_log(AP_LOG_ERROR, "a line from inside the sandbox");
#if !defined(__SANITIZE_ADDRESS__)
    if (getenv("PATH") && !getenv("LD_PRELOAD")) /* valgrind's, which keeps it */
        return ap_fail(err, AP_E_STATE, "the environment is still there");
#endif
    return ap_oneshot_write(self, "done", 4, err);
}

static void ordinary_work_goes_on_inside(void **state)
{
    int fd = open(victim_path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ap_buf out = {0};
    ap_oneshot_options o = {
        .fds = &fd, .fd_count = 1, .output_fd = -1, .result = ap_oneshot_collect, .context = &out};
    assert_ok(ap_worker_oneshot(do_ordinary_work, &fd, &o, err));
    assert_int_equal(out.len, 4);
    ap_buf_deinit(&out);
    close(fd);
}

static ap_status look_at_descriptors(ap_oneshot *self, void *context, ap_error *err)
{
    int open_count = 0;
    for (int fd = 0; fd < 64; fd++) {
        struct stat st;
        open_count += syscall(SYS_fstat, fd, &st) == 0;
    }
    return open_count == *(int *)context ? AP_OK
                                         : ap_fail(err, AP_E_STATE, "%d descriptors are open", open_count);
}

static void all_other_descriptors_are_closed(void **state)
{
    int extra[3];
    for (int i = 0; i < 3; i++)
        extra[i] = dup(victim_fd); /* not close-on-exec, on purpose */
    int expected = 2;              /* standard error and the socket */
    assert_ok(ap_worker_oneshot(look_at_descriptors, &expected, &plain, err));
    for (int i = 0; i < 3; i++)
        close(extra[i]);
}

static ap_status write_model(ap_oneshot *self, void *context, ap_error *err)
{
    int fd = *(int *)context;
    if (ftruncate(fd, 4096) != 0 || pwrite(fd, "packed", 6, 100) != 6 || write(fd, "APER", 4) != 4 ||
        fsync(fd) != 0)
        return ap_fail(err, AP_E_IO, "the output could not be written: %s", strerror(errno));
    char *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return ap_fail(err, AP_E_IO, "the output could not be mapped");
    memcpy(map + 200, "mapped", 6);
    return AP_OK;
}

static void an_import_writes_the_one_file_it_was_given(void **state)
{
    char path[] = "/tmp/aperto-output-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    ap_oneshot_options o = {.output_fd = fd};
    assert_ok(ap_worker_oneshot(write_model, &fd, &o, err));
    char text[4096];
    assert_int_equal(pread(fd, text, sizeof text, 0), 4096);
    assert_memory_equal(text, "APER", 4);
    assert_memory_equal(text + 100, "packed", 6);
    assert_memory_equal(text + 200, "mapped", 6);
    close(fd);
    unlink(path);
}

static ap_status fail_an_assertion(ap_oneshot *self, void *context, ap_error *err)
{
    assert(context != NULL);
    return AP_OK;
}

static void a_failed_assertion_is_told_from_a_forbidden_call(void **state)
{
    ap_error error = {0};
    assert_int_equal(ap_worker_oneshot(fail_an_assertion, NULL, &plain, &error), AP_E_WORKER);
    assert_non_null(strstr(error.message, "signal 6"));
    assert_non_null(strstr(error.message, "context"));
}

/* ---- Kernels that lack a part -------------------------------------------- */

typedef struct lack {
    int call; /* answered as by a kernel that does not know it */
    ap_sandbox_mode mode;
    ap_status expected;
    const char *text; /* of the state, or of the refusal */
} lack;

static void run_lacking(const lack *l)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter || (l->call >= 0 && seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), l->call, 0) != 0) ||
        seccomp_load(filter) != 0)
        _exit(3);
    seccomp_release(filter);
    const int keep[] = {2};
    char state[AP_SANDBOX_STATE_BYTES];
    ap_error error = {0};
    ap_status status =
        ap_sandbox_enter(&(ap_sandbox_options){.mode = l->mode, .fds = keep, .fd_count = 1}, state, &error);
    bool is_right = status == l->expected && strstr(status == AP_OK ? state : error.message, l->text);
    _exit(is_right ? 0 : 1);
}

static void a_kernel_that_lacks_a_part_is_refused_unless_asked(void **state)
{
    static const lack cases[] = {
        {-1, AP_SANDBOX_FULL, AP_OK, "full"},
        {-1, AP_SANDBOX_REDUCED, AP_OK, "full"},
        {444, AP_SANDBOX_FULL, AP_E_SANDBOX, "Landlock"},
        {444, AP_SANDBOX_REDUCED, AP_OK, "reduced: no Landlock"},
        {SCMP_SYS(seccomp), AP_SANDBOX_FULL, AP_E_SANDBOX, "seccomp"},
        {SCMP_SYS(seccomp), AP_SANDBOX_REDUCED, AP_OK, "reduced: no seccomp"},
        {SCMP_SYS(close_range), AP_SANDBOX_FULL, AP_OK, "full"}, /* an old kernel: one by one */
    };
    if (runs_under_valgrind())
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pid_t pid = fork();
        if (pid == 0)
            run_lacking(&cases[i]);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("case %zu ended with %x", i, status);
    }
}

static int make_victim(void **state)
{
    victim_fd = mkostemp(victim_path, O_CLOEXEC);
    return victim_fd >= 0 && write(victim_fd, "victim", 6) == 6 ? 0 : -1;
}

static int remove_victim(void **state)
{
    close(victim_fd);
    return unlink(victim_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outside_the_same_attempts_succeed),
        cmocka_unit_test(every_way_out_is_shut),
        cmocka_unit_test(the_list_is_short_and_each_call_has_its_reason),
        cmocka_unit_test(ordinary_work_goes_on_inside),
        cmocka_unit_test(all_other_descriptors_are_closed),
        cmocka_unit_test(an_import_writes_the_one_file_it_was_given),
        cmocka_unit_test(a_failed_assertion_is_told_from_a_forbidden_call),
        cmocka_unit_test(a_kernel_that_lacks_a_part_is_refused_unless_asked),
    };
    return cmocka_run_group_tests(tests, make_victim, remove_victim);
}
