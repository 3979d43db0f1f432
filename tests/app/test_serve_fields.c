/* Every row of the table of fields, exercised from the table itself; and answers
 * without sockets: a stream and an answer say the same, and memory may end anywhere.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>

#include "serve/api.h"
#include "serve/json_limits.h"
#include "serve_fake.h"

typedef struct fixture {
    ap_serve_options options;
    fake_backend *backend;
    ap_api *api;
} fixture;

static fixture f;

static int set_up(void **state)
{
    ap_error error;
    f.options = fake_options();
    f.backend = fake_backend_create();
    return ap_api_create(&f.api, &f.options, fake_backend_of(f.backend), &error);
}

static int tear_down(void **state)
{
    ap_api_destroy(&f.api);
    fake_backend_destroy(f.backend);
    return 0;
}

/* The reply to a body, carried to its end. */
static void post(ap_endpoint endpoint, const char *body, ap_reply *reply)
{
    ap_backend backend = fake_backend_of(f.backend);
    ap_call *call = NULL;
    ap_api_request request = {.method = "POST",
                              .path = endpoint == AP_ENDPOINT_CHAT ? "/v1/chat/completions" : "/v1/completions",
                              .body = ap_str_from(body)};
    *reply = (ap_reply){0};
    ap_api_begin(f.api, &request, reply, &call);
    for (int i = 0; i < 1000 && call && !reply->is_complete && !reply->is_broken; i++)
        backend.ops->step(backend.self);
    assert_true(reply->is_complete || reply->is_broken);
    ap_api_end(f.api, &call);
    assert_int_equal(fake_backend_live(f.backend), 0);
    assert_int_equal(ap_api_call_count(f.api), 0);
}

/* ---- The table ----------------------------------------------------------- */

static bool reply_contains(const ap_reply *reply, const char *text)
{
    return reply->body.len && memmem(reply->body.ptr, reply->body.len, text, strlen(text));
}

/* `value` is JSON text. */
static void check(ap_endpoint endpoint, const char *name, const char *value, bool is_allowed, const char *no_effect)
{
    json_t *root = json_object(), *member = json_loads(value, JSON_DECODE_ANY, NULL);
    json_object_set_new(root, "model", json_string("tiny"));
    if (endpoint == AP_ENDPOINT_CHAT)
        json_object_set_new(root, "messages", json_pack("[{s:s,s:s}]", "role", "user", "content", "hi"));
    else
        json_object_set_new(root, "prompt", json_string("hi"));
    if (strcmp(name, "top_logprobs") == 0)
        json_object_set_new(root, "logprobs", json_true());
    if (strcmp(name, "stream_options") == 0)
        json_object_set_new(root, "stream", json_true());
    char *body;
    if (member) {
        json_object_set_new(root, name, member);
        body = json_dumps(root, JSON_COMPACT);
    } else { /* what no JSON library can hold */
        char *start = json_dumps(root, JSON_COMPACT);
        body = malloc(strlen(start) + strlen(name) + strlen(value) + 8);
        (void)sprintf(body, "%.*s,\"%s\":%s}", (int)strlen(start) - 1, start, name, value);
        free(start);
    }
    assert_non_null(body);
    ap_reply reply;
    post(endpoint, body, &reply);
    if (is_allowed ? reply.status != 200 : reply.status != 400)
        fail_msg("%s = %s: status %d, %s", name, value, reply.status, reply.body.ptr);
    char param[128];
    (void)snprintf(param, sizeof param, "\"param\":\"%s\"", name);
    if (!is_allowed && !reply_contains(&reply, param))
        fail_msg("%s = %s is refused without its name: %s", name, value, reply.body.ptr);
    bool is_named = false;
    for (size_t i = 0; i < reply.header_count; i++)
        if (strcmp(reply.headers[i].name, "Aperto-No-Effect") == 0)
            is_named = no_effect && strcmp(reply.headers[i].value, no_effect) == 0;
    if (is_named != (no_effect != NULL))
        fail_msg("%s = %s: Aperto-No-Effect is wrong", name, value);
    ap_reply_deinit(&reply);
    json_decref(root);
    free(body);
}

static void check_number(ap_endpoint endpoint, const ap_field *field)
{
    static const char *const never[] = {"1e308", "-1e308", "NaN", "Infinity", "1e999", "9223372036854775808",
                                        "-9223372036854775809", "\"1\"", "true", "[1]", "{}", "-"};
    bool is_count = field->kind == AP_FIELD_COUNT, is_wide = field->high >= 0x1p63;
    char text[64];
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        check(endpoint, field->name, never[i], false, NULL);
    if (is_wide) {
        check(endpoint, field->name, "9223372036854775807", true, NULL);
        check(endpoint, field->name, "-9223372036854775808", true, NULL);
        check(endpoint, field->name, "1.0", false, NULL);
        return;
    }
    (void)snprintf(text, sizeof text, "%.0f", field->low);
    check(endpoint, field->name, text, !field->is_above_low, NULL);
    (void)snprintf(text, sizeof text, "%.0f", field->low - 1);
    check(endpoint, field->name, text, false, NULL);
    (void)snprintf(text, sizeof text, "%.0f", field->high);
    check(endpoint, field->name, text, true, NULL);
    (void)snprintf(text, sizeof text, "%.0f", field->high + 1);
    check(endpoint, field->name, text, false, NULL);
    (void)snprintf(text, sizeof text, "%.1f", field->low + 0.5);
    check(endpoint, field->name, text, !is_count, NULL);
    if (field->is_above_low)
        check(endpoint, field->name, "1e-60", false, NULL); /* zero for the engine */
}

static void check_row(ap_endpoint endpoint, const ap_field *field)
{
    bool is_required = strcmp(field->name, "model") == 0 || strcmp(field->name, "messages") == 0 ||
                       strcmp(field->name, "prompt") == 0;
    check(endpoint, field->name, "null", !is_required, NULL);
    switch (field->rule) {
    case AP_FIELD_HONOURED:
        if (field->kind == AP_FIELD_REAL || field->kind == AP_FIELD_COUNT)
            check_number(endpoint, field);
        if (field->kind == AP_FIELD_FLAG) {
            check(endpoint, field->name, "true", true, NULL);
            check(endpoint, field->name, "false", true, NULL);
            check(endpoint, field->name, "0", false, NULL);
            check(endpoint, field->name, "\"true\"", false, NULL);
        }
        if (field->kind == AP_FIELD_JSON) {
            check(endpoint, field->name, "5.5", false, NULL);
            check(endpoint, field->name, "true", false, NULL);
        }
        break;
    case AP_FIELD_NO_EFFECT:
        check(endpoint, field->name, "\"auto\"", true, field->name);
        check(endpoint, field->name, "{\"a\":[1]}", true, field->name);
        break;
    case AP_FIELD_REFUSED:
        check(endpoint, field->name, "{\"a\":1}", false, NULL);
        check(endpoint, field->name, "12345", false, NULL);
        for (size_t i = 0; i < sizeof field->harmless / sizeof *field->harmless && field->harmless[i]; i++)
            check(endpoint, field->name, field->harmless[i], true, NULL);
        break;
    }
}

static void every_field_does_what_its_row_says(void **state)
{
    size_t count;
    const ap_field *table = ap_fields_table(&count);
    assert_true(count > 50);
    for (size_t i = 0; i < count; i++) {
        if (table[i].endpoints & AP_ENDPOINT_CHAT)
            check_row(AP_ENDPOINT_CHAT, &table[i]);
        if (table[i].endpoints & AP_ENDPOINT_COMPLETION)
            check_row(AP_ENDPOINT_COMPLETION, &table[i]);
    }
}

static void a_field_stands_once_per_endpoint(void **state)
{
    size_t count;
    const ap_field *table = ap_fields_table(&count);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++)
            assert_false(strcmp(table[i].name, table[k].name) == 0 && (table[i].endpoints & table[k].endpoints));
}

/* The header has room for all names at once. */
static void all_names_without_effect_fit_the_header(void **state)
{
    size_t count, bytes = sizeof "stream_options.include_obfuscation";
    const ap_field *table = ap_fields_table(&count);
    for (size_t i = 0; i < count; i++)
        if (table[i].rule == AP_FIELD_NO_EFFECT)
            bytes += strlen(table[i].name) + 2;
    assert_true(bytes < AP_REPLY_HEADER_BYTES);
}

static void names_from_strangers_are_cut_and_escaped(void **state)
{
    char body[1200], name[1001];
    ap_reply reply;
    memset(name, 'a', 1000);
    name[1000] = 0;
    (void)snprintf(body, sizeof body, "{\"model\":\"tiny\",\"%s\":1}", name);
    post(AP_ENDPOINT_CHAT, body, &reply);
    assert_int_equal(reply.status, 400);
    assert_true(reply.body.len < 500);
    ap_reply_deinit(&reply);
    post(AP_ENDPOINT_CHAT, "{\"<script>\\\"\\n\\u0001\xc3\xa9\":1}", &reply);
    assert_int_equal(reply.status, 400);
    json_t *answer = json_loadb(reply.body.ptr, reply.body.len, 0, NULL);
    assert_non_null(answer);
    json_decref(answer);
    ap_reply_deinit(&reply);
}

/* ---- Streams ------------------------------------------------------------- */

/* All "content" of a stream's chunks or of an answer, joined; caller frees. */
static char *joined_content(const ap_reply *reply, bool is_stream)
{
    ap_buf text = {0};
    const char *p = reply->body.ptr, *end = p + reply->body.len;
    assert_ok(ap_buf_reserve(&text, 1, err));
    text.ptr[0] = 0;
    while (p < end) {
        const char *line_end = is_stream ? memmem(p, (size_t)(end - p), "\n\n", 2) : end;
        assert_non_null(line_end);
        if (is_stream) {
            assert_memory_equal(p, "data: ", 6);
            p += 6;
        }
        if (strncmp(p, "[DONE]", 6) != 0) {
            json_t *event = json_loadb(p, (size_t)(line_end - p), 0, NULL);
            assert_non_null(event); /* each event is whole JSON in UTF-8 */
            json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
            json_t *content = json_object_get(json_object_get(choice, is_stream ? "delta" : "message"), "content");
            if (json_is_string(content))
                assert_ok(ap_buf_add(&text, json_string_value(content), json_string_length(content), err));
            json_decref(event);
        }
        p = line_end + (is_stream ? 2 : 0);
    }
    return text.ptr;
}

static void a_stream_says_what_the_answer_says_for_every_cut(void **state)
{
    static const char text[] = "a\xc3\xa9\xf0\x9f\x98\x80\\\"\n\t/\x01\x7f\xe2\x80\xa8" "e\xcc\x81 data: [DONE]\r\n\r\nz";
    size_t length = sizeof text - 1;
    for (size_t a = 0; a <= length; a++)
        for (size_t b = a; b <= length; b += 3) {
            /* The worker never cuts a character. */
            if ((text[a] & 0xc0) == 0x80 || (text[b] & 0xc0) == 0x80)
                continue;
            ap_buf script = {0}, body = {0};
            assert_ok(ap_buf_printf(&script, err, "cut:%.*s|%.*s|%s", (int)a, text, (int)(b - a), text + a, text + b));
            for (int is_stream = 0; is_stream < 2; is_stream++) {
                ap_reply reply;
                ap_buf_clear(&body);
                assert_ok(ap_buf_printf(&body, err, "{\"model\":\"tiny\",\"stream\":%s,\"messages\":[{\"role\":\"user\",\"content\":",
                                        is_stream ? "true" : "false"));
                assert_ok(ap_json_add_text(&body, ap_buf_str(&script), err));
                assert_ok(ap_buf_printf(&body, err, "}]}"));
                post(AP_ENDPOINT_CHAT, body.ptr, &reply);
                assert_int_equal(reply.status, 200);
                char *content = joined_content(&reply, is_stream);
                assert_string_equal(content, text);
                ap_free(content);
                ap_reply_deinit(&reply);
            }
            ap_buf_deinit(&script);
            ap_buf_deinit(&body);
        }
}

static void a_stream_nobody_reads_is_given_up(void **state)
{
    ap_reply reply;
    post(AP_ENDPOINT_CHAT, "{\"model\":\"tiny\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"flood\"}]}", &reply);
    assert_true(reply.is_broken);
    assert_true(reply.body.len <= AP_REPLY_UNSENT_BYTES_MAX);
    ap_reply_deinit(&reply);
}

/* ---- Memory -------------------------------------------------------------- */

typedef struct oom_case {
    ap_endpoint endpoint;
    const char *body;
} oom_case;

static ap_status answer(void *context)
{
    const oom_case *c = context;
    ap_reply reply;
    post(c->endpoint, c->body, &reply);
    bool is_whole = reply.status == 200 && !reply.is_broken && !reply_contains(&reply, "\"code\":\"out_of_memory\"");
    assert_true(is_whole || reply.is_broken || reply.status == 503 || reply.is_stream);
    ap_reply_deinit(&reply);
    return is_whole ? AP_OK : AP_E_NOMEM;
}

static void memory_may_end_anywhere_in_a_call(void **state)
{
    static oom_case cases[] = {
        {AP_ENDPOINT_CHAT, "{\"model\":\"tiny\",\"n\":2,\"logprobs\":true,\"top_logprobs\":2,\"stop\":\"x\",\"messages\":[{\"role\":\"user\","
                           "\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}]}"},
        {AP_ENDPOINT_CHAT, "{\"model\":\"tiny\",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"logprobs\":true,"
                           "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"},
        {AP_ENDPOINT_COMPLETION, "{\"model\":\"tiny\",\"prompt\":[\"a\",\"b\"],\"logprobs\":2}"},
        {AP_ENDPOINT_COMPLETION, "{\"model\":\"tiny\",\"prompt\":\"a\",\"stream\":true,\"logprobs\":2}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ap_test_each_oom(answer, &cases[i]);
}

/* ---- JSON ---------------------------------------------------------------- */

static void json_is_limited_before_it_is_read(void **state)
{
    ap_buf body = {0};
    ap_refusal refusal;
    assert_ok(ap_buf_printf(&body, err, "{\"a\":["));
    for (int i = 0; i < AP_JSON_VALUES_MAX; i++)
        assert_ok(ap_buf_printf(&body, err, "{},"));
    assert_ok(ap_buf_printf(&body, err, "1]}"));
    assert_null(ap_json_read(ap_buf_str(&body), &refusal));
    assert_string_equal(refusal.code, "json_too_large");
    ap_buf_deinit(&body);
    /* Brackets inside texts do not count. */
    json_t *root = ap_json_read(AP_STR("{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[\"}"), &refusal);
    assert_non_null(root);
    json_decref(root);
    static const char *const bad[] = {"{\"a\":\"\xff\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\xc0\x80\"}", "{\"a\":\"\\ud800\"}", "{\"a\":1}x",
                                      "{a:1}", "{\"a\":01}", "{\"a\":\"\n\"}", "\xef\xbb\xbf{}", "{\"a\":1,}", "nul", "\"a\"",
                                      "{\"a\":{\"b\":1,\"b\":2}}", "{\"a\\u0000\":1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_null(ap_json_read(ap_str_from(bad[i]), &refusal));
        assert_int_equal(refusal.status, 400);
    }
}

/* Texts that are JSON (y_), that are not (n_), and that may be either (i_).  Three of the first kind have a key twice or a NUL
 * in a key, which is refused here. */
static void the_json_test_suite_is_read_as_stated(void **state)
{
    static const char *const stricter[] = {"y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json",
                                           "y_object_escaped_null_in_key.json"};
    const char *folder = ap_test_data("json_schema/json_parsing/test_parsing");
    unsigned seen = 0;
    struct dirent *entry;
    DIR *files = opendir(folder);
    assert_non_null(files);
    while ((entry = readdir(files))) {
        char path[4096];
        ap_buf file = {0}, body = {0};
        ap_refusal refusal = {0};
        if (!strstr(entry->d_name, ".json"))
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        assert_ok(ap_file_read(path, 1 << 24, &file, err));
        assert_ok(ap_buf_printf(&body, err, "{\"x\":"));
        assert_ok(ap_buf_add(&body, file.ptr, file.len, err));
        assert_ok(ap_buf_add_char(&body, '}', err));
        json_t *root = ap_json_read(ap_buf_str(&body), &refusal);
        bool is_refused = entry->d_name[0] == 'n';
        for (size_t i = 0; i < sizeof stricter / sizeof *stricter; i++)
            is_refused = is_refused || strcmp(entry->d_name, stricter[i]) == 0;
        if (entry->d_name[0] != 'i' && (root == NULL) != is_refused)
            fail_msg("%s is %s", entry->d_name, root ? "taken" : refusal.message);
        json_decref(root);
        ap_buf_deinit(&file);
        ap_buf_deinit(&body);
        seen++;
    }
    (void)closedir(files);
    assert_true(seen > 200);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_does_what_its_row_says),
        cmocka_unit_test(a_field_stands_once_per_endpoint),
        cmocka_unit_test(all_names_without_effect_fit_the_header),
        cmocka_unit_test(names_from_strangers_are_cut_and_escaped),
        cmocka_unit_test(a_stream_says_what_the_answer_says_for_every_cut),
        cmocka_unit_test(a_stream_nobody_reads_is_given_up),
        cmocka_unit_test(memory_may_end_anywhere_in_a_call),
        cmocka_unit_test(json_is_limited_before_it_is_read),
        cmocka_unit_test(the_json_test_suite_is_read_as_stated),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
