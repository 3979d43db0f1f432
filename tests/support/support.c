/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <string.h>
#include <unistd.h>

static const char *join(const char *folder, const char *relative)
{
    static char paths[8][4096];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    (void)snprintf(path, sizeof paths[0], "%s/%s", folder, relative);
    return path;
}

const char *ap_test_data(const char *relative)
{
    const char *folder = getenv("APERTO_TESTDATA");
    if (!folder || !*folder) {
        print_message("skipped: the test data folder is not given (meson option testdata)\n");
        skip();
    }
    const char *path = join(folder, relative);
    if (access(path, R_OK) != 0)
        fail_msg("'%s' is missing from the test data", path);
    return path;
}

const char *ap_test_file(const char *relative)
{
    const char *folder = getenv("APERTO_TESTS");
    return join(folder && *folder ? folder : "tests", relative);
}

void ap_test_each_oom(ap_test_fn *fn, void *context)
{
    for (uint64_t n = 1;; n++) {
        assert_true(n < 1000000);
        ap_alloc_fail_at(n, false);
        ap_status status = fn(context);
        uint64_t seen = ap_alloc_count();
        ap_alloc_fail_at(0, false);
        if (status == AP_OK) {
            if (seen < n)
                return; /* no allocation failed: all points were walked */
            continue;   /* the failure was survived */
        }
        if (status != AP_E_NOMEM)
            fail_msg("allocation %llu failed, the status was '%s'", (unsigned long long)n, ap_status_text(status));
    }
}

unsigned ap_test_slowness(void)
{
    const char *text = getenv("APERTO_TEST_SLOWNESS");
    unsigned factor = text ? (unsigned)strtoul(text, NULL, 10) : 1;
    return factor ? factor : 1;
}

uint64_t ap_test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

float ap_test_uniform(uint64_t *state) { return (float)(int32_t)(ap_test_random(state) >> 32) / 2147483648.0f; }
