/* The map from bytes to numbers.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/map.h"
#include "support.h"

enum { KEYS = 50000 };
static char names[KEYS][16];

static ap_str name_of(uint32_t i) { return ap_str_from(names[i]); }

static void make_names(void)
{
    for (uint32_t i = 0; i < KEYS; i++)
        (void)snprintf(names[i], sizeof names[i], "key.%x", i);
}

static void what_was_put_in_is_found(void **state)
{
    make_names();
    ap_map map = {0};
    uint32_t value = 0, old = 0;
    assert_false(ap_map_get(&map, AP_STR("key"), &value));
    for (uint32_t i = 0; i < KEYS; i++)
        assert_ok(ap_map_add(&map, name_of(i), i, NULL, err));
    assert_int_equal(map.count, KEYS);
    for (uint32_t i = 0; i < KEYS; i++) {
        assert_true(ap_map_get(&map, name_of(i), &value));
        assert_int_equal(value, i);
    }
    assert_false(ap_map_get(&map, AP_STR("key."), &value));
    ap_error error = {0};
    assert_int_equal(ap_map_add(&map, name_of(5), 99, &old, &error), AP_E_STATE);
    assert_int_equal(old, 5);
    assert_non_null(strstr(error.message, names[5]));
    assert_true(ap_map_get(&map, name_of(5), &value) && value == 5);
    assert_ok(ap_map_set(&map, name_of(5), 99, err));
    assert_true(ap_map_get(&map, name_of(5), &value) && value == 99);
    assert_int_equal(map.count, KEYS);
    ap_map_deinit(&map);
    assert_int_equal(map.room, 0);
}

static void the_empty_key_and_keys_with_nul_are_keys(void **state)
{
    ap_map map = {0};
    uint32_t value = 0;
    assert_false(ap_map_get(&map, (ap_str){0}, &value));
    assert_ok(ap_map_add(&map, (ap_str){0}, 1, NULL, err));
    assert_ok(ap_map_add(&map, (ap_str){"\0", 1}, 2, NULL, err));
    assert_ok(ap_map_add(&map, (ap_str){"a\0b", 3}, 3, NULL, err));
    assert_ok(ap_map_add(&map, (ap_str){"a\0c", 3}, 4, NULL, err));
    assert_int_equal(ap_map_add(&map, (ap_str){0}, 1, NULL, NULL), AP_E_STATE);
    assert_int_equal(ap_map_add(&map, AP_STR(""), 1, NULL, NULL), AP_E_STATE);
    assert_true(ap_map_get(&map, (ap_str){0}, &value) && value == 1);
    assert_true(ap_map_get(&map, (ap_str){"\0", 1}, &value) && value == 2);
    assert_true(ap_map_get(&map, (ap_str){"a\0c", 3}, &value) && value == 4);
    ap_map_deinit(&map);
}

static void reserved_room_needs_no_more_memory(void **state)
{
    make_names();
    ap_map map = {0};
    assert_ok(ap_map_reserve(&map, 1000, err));
    ap_alloc_fail_at(1, true);
    for (uint32_t i = 0; i < 1000; i++)
        assert_ok(ap_map_add(&map, name_of(i), i, NULL, err));
    ap_alloc_fail_at(0, false);
    assert_int_equal(ap_map_reserve(&map, UINT32_MAX, NULL), AP_E_LIMIT);
    ap_map_deinit(&map);
}

static ap_status fill(void *context)
{
    ap_map map = {0};
    ap_status status = AP_OK;
    uint32_t i = 0, value;
    for (; i < 2000 && status == AP_OK; i++)
        status = ap_map_add(&map, name_of(i), i, NULL, NULL);
    for (uint32_t k = 0; k + 1 < i; k++) /* all that was put in before the failure */
        assert_true(ap_map_get(&map, name_of(k), &value) && value == k);
    ap_map_deinit(&map);
    return status;
}

static void the_end_of_memory_leaves_the_map(void **state)
{
    make_names();
    ap_test_each_oom(fill, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_in_is_found),
        cmocka_unit_test(the_empty_key_and_keys_with_nul_are_keys),
        cmocka_unit_test(reserved_room_needs_no_more_memory),
        cmocka_unit_test(the_end_of_memory_leaves_the_map),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
