/* What memory is left, told by folders that look like /proc and /sys.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <string.h>
#include <unistd.h>

#include "base/memory.h"

static char root[] = "/tmp/aperto-memory-XXXXXX";

static void put(const char *path, const char *text)
{
    char full[512];
    (void)snprintf(full, sizeof full, "%s%s", root, path);
    *strrchr(full, '/') = 0;
    assert_ok(ap_file_make_folders(full, 0700, err));
    full[strlen(full)] = '/';
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    assert_int_equal(fputs(text, file) >= 0, 1);
    assert_int_equal(fclose(file), 0);
}

static int make_root(void **state)
{
    memcpy(root + sizeof root - 7, "XXXXXX", 6);
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r '%s'", root);
    return system(command);
}

static const char meminfo[] = "MemTotal:       2000 kB\nMemFree:         100 kB\nMemAvailable:   1000 kB\n";

static void without_groups_the_machine_tells(void **state)
{
    assert_true(ap_memory_available(root) == UINT64_MAX);
    put("/proc/meminfo", meminfo);
    assert_int_equal(ap_memory_available(root), 1000 * 1024);
    put("/proc/self/cgroup", "0::/\n");
    assert_int_equal(ap_memory_available(root), 1000 * 1024);
    put("/proc/meminfo", "MemTotal: 5 kB\nMemAvailable: x\n");
    assert_true(ap_memory_available(root) == UINT64_MAX);
}

static void a_group_of_version_2_tells(void **state)
{
    put("/proc/meminfo", meminfo);
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/b/memory.max", "500000\n");
    put("/sys/fs/cgroup/a/b/memory.current", "300000\n");
    assert_int_equal(ap_memory_available(root), 200000);
    put("/sys/fs/cgroup/a/b/memory.stat", "anon 100000\nfile 150000\ninactive_file 100000\nactive_file 50000\n");
    assert_int_equal(ap_memory_available(root), 350000);
    put("/sys/fs/cgroup/a/memory.max", "120000\n"); /* one above is tighter */
    put("/sys/fs/cgroup/a/memory.current", "130000\n");
    put("/sys/fs/cgroup/a/memory.stat", "inactive_file 30000\n");
    assert_int_equal(ap_memory_available(root), 20000);
    put("/sys/fs/cgroup/a/memory.current", "500000\n");
    assert_int_equal(ap_memory_available(root), 1); /* and not 0, which is no bound */
    put("/sys/fs/cgroup/a/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/memory.max", "max\n");
    assert_int_equal(ap_memory_available(root), 1000 * 1024);
}

static void a_group_of_version_1_tells(void **state)
{
    put("/proc/meminfo", meminfo);
    put("/proc/self/cgroup", "9:cpu,cpuacct:/x\n4:hugetlb,memory:/docker/1234\n0::/\n");
    /* The path is the host's; in the container only the root is seen. */
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "400000\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "390000\n");
    put("/sys/fs/cgroup/memory/memory.stat",
        "cache 1\ninactive_file 1\ntotal_cache 5\ntotal_inactive_file 20000\ntotal_active_file 40000\n");
    assert_int_equal(ap_memory_available(root), 70000);
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(ap_memory_available(root), 1000 * 1024);
}

static void odd_files_are_no_limit(void **state)
{
    put("/proc/meminfo", meminfo);
    static const char *const lines[] = {"0::/../other\n", "0\n", ":::\n", "4:memory\n", "\n\n", "0::", "4:memory:\n"};
    put("/sys/fs/cgroup/other/memory.max", "1\n");
    put("/sys/fs/cgroup/other/memory.current", "0\n");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        put("/proc/self/cgroup", lines[i]);
        assert_int_equal(ap_memory_available(root), 1000 * 1024);
    }
}

static void this_machine_has_some(void **state)
{
    uint64_t bytes = ap_memory_available("");
    assert_true(bytes > 1024 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_groups_the_machine_tells, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_group_of_version_2_tells, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_group_of_version_1_tells, make_root, remove_root),
        cmocka_unit_test_setup_teardown(odd_files_are_no_limit, make_root, remove_root),
        cmocka_unit_test(this_machine_has_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
