/* Passports: what is kept, what is refused, and that one belongs to one file only.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "store/passport.h"
#include "store_case.h"

static ap_passport example(const char *sha256)
{
    ap_passport p = {.chunk_tokens = 512, .law_version = 1, .created = 1700000000, .parent = "Model.F16.gguf", .text = "wiki.test.raw",
                     .measure = {.predictions = 1022, .nll = 2.5, .nll_error = 0.01, .parent_nll = 2.25, .kl_mean = 0.0125, .kl_999 = 0.5,
                                 .top1 = 0.9375}};
    (void)snprintf(p.sha256, sizeof p.sha256, "%s", sha256);
    memset(p.parent_sha256, 'b', 64);
    memset(p.text_sha256, 'c', 64);
    return p;
}

static void assert_same(const ap_passport *a, const ap_passport *b)
{
    assert_string_equal(a->sha256, b->sha256);
    assert_string_equal(a->parent_sha256, b->parent_sha256);
    assert_string_equal(a->text_sha256, b->text_sha256);
    assert_string_equal(a->parent, b->parent);
    assert_string_equal(a->text, b->text);
    assert_int_equal(a->chunk_tokens, b->chunk_tokens);
    assert_int_equal(a->law_version, b->law_version);
    assert_int_equal(a->created, b->created);
    assert_memory_equal(&a->measure, &b->measure, sizeof a->measure);
}

static void what_is_kept_comes_back(void **state)
{
    ap_store *store = open_store();
    ap_store_entry entry = import(store, first, "a");
    ap_passport p = example(entry.source_sha256), back;
    assert_refused(AP_E_NOTFOUND, "", ap_store_passport(store, entry.source_sha256, &back, err));
    assert_ok(ap_store_put_passport(store, &p, err));
    assert_ok(ap_store_passport(store, entry.source_sha256, &back, err));
    assert_same(&p, &back);
    p.measure.kl_mean = 0.75;
    assert_ok(ap_store_put_passport(store, &p, err));
    (void)import(store, second, "b"); /* who sweeps the store leaves it */
    assert_ok(ap_store_passport(store, entry.source_sha256, &back, err));
    assert_same(&p, &back);
    ap_store_close(&store);
}

static void one_beside_a_file_is_taken_along(void **state)
{
    ap_store *store = open_store();
    ap_store_entry entry = import(store, first, "probe");
    ap_passport p = example(entry.source_sha256), back;
    assert_ok(ap_store_remove(store, "probe", false, err));
    assert_ok(ap_passport_write_beside(first, &p, err));
    entry = import(store, first, "a");
    assert_null(strstr(entry.report.notes, "passport"));
    assert_ok(ap_store_passport(store, entry.source_sha256, &back, err));
    assert_same(&p, &back);

    /* Beside another file it is nobody's. */
    assert_ok(ap_passport_write_beside(second, &p, err));
    ap_store_entry other = import(store, second, "b");
    assert_non_null(strstr(other.report.notes, "not of this file"));
    assert_refused(AP_E_NOTFOUND, "", ap_store_passport(store, other.source_sha256, &back, err));
    assert_int_equal(unlink(at("%s/second.gguf.passport.json", folder)), 0);
    assert_int_equal(unlink(at("%s/First Model.Q4.gguf.passport.json", folder)), 0);
    ap_store_close(&store);
}

static void what_is_no_passport_is_refused(void **state)
{
    char digest[AP_HASH_HEX] = "";
    memset(digest, 'a', 64);
    ap_passport p = example(digest), back;
    static const struct {
        const char *key, *value, *word;
    } cases[] = {{"version", "2", "version"}, {"sha256", "\"abc\"", "sha256"}, {"sha256", "7", "sha256"},
                 {"parent_sha256", "\"A\"", "parent_sha256"}, {"text_sha256", "null", "text_sha256"}, {"top1", "1.5", "top1"},
                 {"top1", "\"1\"", "top1"}, {"kl_mean", "-1", "kl_mean"}, {"kl_999", "1e300", "kl_999"}, {"predictions", "0", "predictions"},
                 {"parent", "\"a\\u001bb\"", "parent"}, {"chunk_tokens", "1", "chunk_tokens"}, {"created", "-1", "created"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *o = ap_passport_json(&p), *value = json_loads(cases[i].value, JSON_DECODE_ANY, NULL);
        assert_true(o && value);
        assert_int_equal(json_object_set_new(o, cases[i].key, value), 0);
        char *text = json_dumps(o, 0);
        assert_refused(AP_E_FORMAT, cases[i].word, ap_passport_parse(ap_str_from(text), &back, err));
        (void)json_object_del(o, cases[i].key);
        free(text);
        text = json_dumps(o, 0);
        assert_refused(AP_E_FORMAT, cases[i].word, ap_passport_parse(ap_str_from(text), &back, err));
        free(text);
        json_decref(o);
    }
    assert_refused(AP_E_FORMAT, "object", ap_passport_parse(AP_STR("[]"), &back, err));
    ap_store *store = open_store();
    (void)import(store, first, "a");
    assert_ok(ap_store_put_passport(store, &p, err));
    write_file(at(in_data("passports/%s.json"), digest), "{", 1);
    assert_refused(AP_E_FORMAT, "cannot be used", ap_store_passport(store, digest, &back, err));
    ap_store_close(&store);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup(test, begin)
    static const struct CMUnitTest tests[] = {T(what_is_kept_comes_back), T(one_beside_a_file_is_taken_along), T(what_is_no_passport_is_refused)};
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
