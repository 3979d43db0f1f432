/* The index of a model in several files: which names of files it may say, and nothing else.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "format/shards.h"
#include "support.h"

static void each_tensor_has_its_file(void **state)
{
    static const char text[] = "{\"metadata\":{\"total_size\":12.0},\"weight_map\":{\"a.b\":\"model-00001-of-00002.safetensors\","
                               "\"c\":\"model-00002-of-00002.safetensors\",\"d\":\"model-00001-of-00002.safetensors\"}}";
    ap_shards *s;
    assert_ok(ap_shards_open(&s, ap_str_from(text), err));
    assert_int_equal(ap_shards_count(s), 2);
    assert_int_equal(ap_shards_tensor_count(s), 3);
    assert_true(ap_str_is(ap_shards_name(s, 1), "model-00002-of-00002.safetensors"));
    static const uint32_t shards[] = {0, 1, 0};
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t shard;
        (void)ap_shards_tensor(s, i, &shard);
        assert_int_equal(shard, shards[i]);
    }
    uint32_t shard;
    assert_true(ap_str_is(ap_shards_tensor(s, 0, &shard), "a.b"));
    ap_shards_close(&s);
    assert_null(s);
}

static void assert_refused(const char *text, ap_status expected, const char *part)
{
    ap_shards *s = NULL;
    ap_error error = {0};
    ap_status status = ap_shards_open(&s, ap_str_from(text), &error);
    if (status != expected || s || !strstr(error.message, part))
        fail_msg("%.200s: status %d, '%s' without '%s'", text, status, error.message, part);
}

static void only_a_plain_name_may_be_a_shard(void **state)
{
    static const char *const names[] = {"../../x", "/etc/passwd", "a/b", "a\\\\b", "..", ".", "", "a\\u0000b", "a\\nb", "x/../y", "\\u007f"};
    char text[8192];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(text, sizeof text, "{\"weight_map\":{\"t\":\"%s\"}}", names[i]);
        assert_refused(text, AP_E_FORMAT, "a plain name of at most 255 bytes");
    }
    char *name = text + sprintf(text, "{\"weight_map\":{\"t\":\"");
    memset(name, 'x', 4096);
    memcpy(name + 4096, "\"}}", 4);
    assert_refused(text, AP_E_FORMAT, "a plain name");
    memcpy(name + 256, "\"}}", 4);
    assert_refused(text, AP_E_FORMAT, "a plain name");
    memcpy(name + 255, "\"}}", 4);
    ap_shards *s;
    assert_ok(ap_shards_open(&s, ap_str_from(text), err));
    ap_shards_close(&s);
}

static void what_is_no_index_is_refused(void **state)
{
    assert_refused("", AP_E_FORMAT, "empty");
    assert_refused("{}", AP_E_FORMAT, "'weight_map' is missing");
    assert_refused("[]", AP_E_FORMAT, "'weight_map' is missing");
    assert_refused("{\"weight_map\":[]}", AP_E_FORMAT, "'weight_map' is an array");
    assert_refused("{\"weight_map\":{}}", AP_E_LIMIT, "has 0 tensors");
    assert_refused("{\"weight_map\":{\"a\":1}}", AP_E_FORMAT, "'weight_map.a' is an integer");
    assert_refused("{\"weight_map\":{\"a\":\"x\",\"a\":\"y\"}}", AP_E_FORMAT, "duplicate");
    ap_buf b = {0};
    assert_ok(ap_buf_add(&b, "{\"weight_map\":{", 15, err));
    for (int i = 0; i <= AP_SHARDS_MAX; i++)
        assert_ok(ap_buf_printf(&b, err, "%s\"%d\":\"%d\"", i ? "," : "", i, i));
    assert_ok(ap_buf_add(&b, "}}", 2, err));
    assert_refused(b.ptr, AP_E_LIMIT, "more than 256 files");
    ap_buf_deinit(&b);
}

static ap_status open_once(void *context)
{
    ap_shards *s;
    ap_status status = ap_shards_open(&s, AP_STR("{\"weight_map\":{\"a\":\"x\",\"b\":\"y\"}}"), NULL);
    ap_shards_close(&s);
    return status;
}

static void the_end_of_memory_leaves_nothing(void **state) { ap_test_each_oom(open_once, NULL); }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_tensor_has_its_file),
        cmocka_unit_test(only_a_plain_name_may_be_a_shard),
        cmocka_unit_test(what_is_no_index_is_refused),
        cmocka_unit_test(the_end_of_memory_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
