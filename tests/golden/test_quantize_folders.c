/* Quantising a folder of golden/arch or golden/quantized: the bytes are those of the way over its GGUF file, and where that way ends
 * in a refusal, this one ends in the same.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "golden.h"
#include "support.h"
#include "tiny_model.h"

typedef struct outcome {
    ap_status status;
    ap_error error;
    ap_quantize_report report;
    int fd;
} outcome;

static outcome quantize(const ap_import_file *files, size_t count, const char *type, unsigned threads)
{
    outcome o = {.fd = ap_test_temporary()};
    ap_quantize_options options = {.size = sizeof options, .type = type, .imatrix_fd = -1, .threads = threads};
    o.status = ap_model_quantize(files, count, o.fd, &options, &o.report, &o.error);
    return o;
}

static void expect_same(outcome *direct, outcome *over_gguf)
{
    ap_mapping a, b;
    assert_int_equal(direct->status, over_gguf->status);
    assert_string_equal(direct->error.message, over_gguf->error.message);
    if (direct->status == AP_OK) {
        assert_int_equal(direct->report.changed_count, over_gguf->report.changed_count);
        assert_ok(ap_file_map(direct->fd, &a, err));
        assert_ok(ap_file_map(over_gguf->fd, &b, err));
        assert_int_equal(a.len, b.len);
        assert_memory_equal(a.ptr, b.ptr, a.len);
        ap_file_unmap(&a);
        ap_file_unmap(&b);
    }
    close(direct->fd);
    close(over_gguf->fd);
}

static unsigned written_count;

static void both_ways(const char *parent, const char *name)
{
    static const char *const types[] = {"Q8_0", "Q4_K_M", "IQ4_XS", "F32"};
    char path[600];
    golden_folder folder;
    ap_convert_options convert = {.size = sizeof convert};
    ap_convert_report report;
    int gguf = ap_test_temporary();
    (void)snprintf(path, sizeof path, "%s/%s", parent, name);
    golden_open(&folder, path);
    assert_ok(ap_model_convert_to_gguf(folder.files, folder.count, gguf, &convert, &report, err));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        outcome direct = quantize(folder.files, folder.count, types[i], 1);
        outcome over_gguf = quantize(&(ap_import_file){.fd = gguf}, 1, types[i], 3);
        written_count += direct.status == AP_OK;
        if (direct.status == AP_OK) { /* what either way has to say */
            size_t said = strlen(report.notes);
            assert_memory_equal(direct.report.notes, report.notes, said);
            assert_string_equal(direct.report.notes + said, over_gguf.report.notes);
        }
        expect_same(&direct, &over_gguf);
    }
    golden_close(&folder);
    close(gguf);
}

static void a_family(void **state) { both_ways("golden/arch", *state); }
static void a_quantized_folder(void **state) { both_ways("golden/quantized", *state); }

int main(void)
{
    int failed = golden_each("quantize_folders", "golden/arch", a_family);
    failed = golden_each("quantize_quantized_folders", "golden/quantized", a_quantized_folder) || failed;
    return failed || written_count < 100; /* refusals alone prove nothing */
}
