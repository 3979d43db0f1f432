/* A template and, after a NUL, the JSON it renders; without a NUL a chat of our own.
 *
 * Holds: no crash, parts cover the text, the text is valid UTF-8, and rendering twice gives the same.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "text/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static void check_parts(const ap_rendered *out)
{
    size_t at = 0;
    for (size_t i = 0; i < out->part_count; i++) {
        hold(out->parts[i].offset == at && out->parts[i].length > 0);
        hold(i == 0 || out->parts[i].is_template != out->parts[i - 1].is_template);
        at += out->parts[i].length;
    }
    hold(at == out->length && ap_utf8_valid((ap_str){out->text, out->length}));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char chat[] = "{\"messages\":[{\"role\":\"system\",\"content\":\"S \xc3\xa9\"},{\"role\":\"user\",\"content\":\"a|b\\n c\"},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"k\\\": [1, 2.5]}\"}}]},"
        "{\"role\":\"tool\",\"content\":\"r\"}],\"tools\":[{\"function\":{\"name\":\"f\",\"parameters\":{\"p\":{\"type\":\"string\"}}}}],"
        "\"add_generation_prompt\":true,\"kwargs\":{\"n\":7,\"l\":[3,1,2],\"s\":\"xyz\"}}";
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    ap_str source = {(const char *)data, end ? (size_t)(end - data) : size};
    ap_str json = end ? (ap_str){(const char *)end + 1, size - source.len - 1} : AP_STR(chat);
    ap_template *t;
    ap_error err;
    if (ap_template_compile(&t, source, &err) != AP_OK) {
        hold(t == NULL && err.message[0]);
        return 0;
    }
    for (int verbatim = 0; verbatim < 2; verbatim++) {
        ap_render_input input = {.json = json, .now = 1752148800, .verbatim = verbatim};
        ap_rendered one, two;
        ap_status status = ap_template_render(t, &input, &one, &err);
        hold(ap_template_render(t, &input, &two, &err) == status);
        if (status == AP_OK) {
            check_parts(&one);
            hold(one.length == two.length && memcmp(one.text, two.text, one.length) == 0);
        } else {
            hold(one.text == NULL && err.message[0]);
        }
        ap_rendered_deinit(&one);
        ap_rendered_deinit(&two);
    }
    ap_template_destroy(&t);
    return 0;
}
