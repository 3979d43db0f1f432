/* Any bytes as JSON of strangers.
 *
 * Holds: a refusal is one line and leaves nothing; what is read stays within the limits, and every value is found again
 * by its index or key, whatever stands there.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VALUES_MAX = 4096, BYTES_MAX = 1 << 20 };

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static size_t count_values(const json_t *value, size_t depth)
{
    size_t count = 1, index;
    const char *key;
    json_t *inner;
    hold(depth <= AP_JSON_NESTING_MAX);
    if (json_is_object(value)) {
        json_object_foreach((json_t *)value, key, inner)
            count += count_values(inner, depth + 1);
    } else {
        json_array_foreach(value, index, inner)
            count += count_values(inner, depth + 1);
    }
    return count;
}

static void look_up(const json_t *root, const char *path)
{
    ap_error err = {0};
    uint32_t small;
    uint64_t wide;
    float real;
    bool flag;
    ap_str text;
    const json_t *value;
    bool is_there = ap_json_find(root, path) != NULL;
    hold((ap_json_get_u32(root, path, &small, &err) == AP_E_NOTFOUND) == !is_there);
    hold((ap_json_get_u64(root, path, &wide, &err) == AP_E_NOTFOUND) == !is_there);
    hold((ap_json_get_f32(root, path, &real, &err) == AP_E_NOTFOUND) == !is_there);
    hold((ap_json_get_bool(root, path, &flag, &err) == AP_E_NOTFOUND) == !is_there);
    hold((ap_json_get_str(root, path, &text, &err) == AP_E_NOTFOUND) == !is_there);
    hold((ap_json_get_object(root, path, &value, &err) == AP_E_NOTFOUND) == !is_there);
    hold((ap_json_get_array(root, path, &value, &err) == AP_E_NOTFOUND) == !is_there);
    hold(is_there || err.message[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ap_error err = {0};
    json_t *root;
    ap_status status = ap_json_parse(&root, (ap_str){(const char *)data, size},
                                     (ap_json_limits){.bytes_max = BYTES_MAX, .values_max = VALUES_MAX}, &err);
    hold((status == AP_OK) == (root != NULL));
    if (status != AP_OK) {
        hold(err.message[0] && !strchr(err.message, '\n'));
        return 0;
    }
    hold(size <= BYTES_MAX && count_values(root, 0) <= VALUES_MAX);
    static const char *const paths[] = {"", "0", "a", "a.b", "a.0.b", "0.0", "rope_scaling.factor", "."};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        look_up(root, paths[i]);
    json_decref(root);
    return 0;
}
