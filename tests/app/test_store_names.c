/* Names that move: what they meant is kept, found again, and goes only when that is said.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "store_case.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static ap_store_entry tag(ap_store *store, const char *model, const char *name)
{
    ap_store_entry entry;
    assert_ok(ap_store_tag(store, model, name, true, &entry, err));
    return entry;
}

/* What a name means, its history as "d1 d2~ …" (first letters of digests by the three models, ~ for undone). */
static void assert_history(ap_store *store, const char *name, const ap_store_entry *now, const char *const *digests, size_t count)
{
    ap_store_entry found, *before;
    size_t n;
    assert_ok(ap_store_find(store, name, &found, err));
    assert_string_equal(found.digest, now->digest);
    assert_string_equal(found.name, name);
    assert_ok(ap_store_history(store, name, &before, &n, err));
    assert_int_equal(n, count);
    for (size_t i = 0; i < n; i++) {
        bool is_undone = digests[i][0] == '~';
        assert_string_equal(before[i].digest, digests[i] + is_undone);
        assert_int_equal(before[i].is_undone, is_undone);
        assert_true(before[i].replaced > 0);
    }
    ap_free(before);
}

#define HISTORY(...) (const char *const[]){__VA_ARGS__}, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)

static const char *undone(const ap_store_entry *entry) { return at("~%s", entry->digest); }

static void a_tag_is_a_name_more_for_the_same_blob(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a"), entry;
    int fd;
    assert_ok(ap_store_tag(store, "a", "llama3:q4", false, &entry, err));
    assert_string_equal(entry.name, "llama3:q4");
    assert_string_equal(entry.digest, a.digest);
    assert_string_equal(entry.source, first);
    assert_string_equal(entry.moved_from, "");
    assert_ok(ap_store_tag(store, at("%.10s", a.digest), "b", false, &entry, err));
    assert_int_equal(count_files("blobs", ""), 1);
    assert_ok(ap_store_remove(store, "a", false, err));
    assert_ok(ap_store_resolve(store, "llama3:q4", NULL, NULL, &entry, &fd, err));
    close(fd);
    assert_refused(AP_E_NOTFOUND, "no model 'missing'", ap_store_tag(store, "missing", "c", false, &entry, err));
    assert_refused(AP_E_ARG, "possible name", ap_store_tag(store, "b", "../c", false, &entry, err));
    assert_refused(AP_E_ARG, "begins like a source, 'hf:'", ap_store_tag(store, "b", "hf:c", false, &entry, err));
    /* A file given by path gets a name that stays when the file goes. */
    assert_refused(AP_E_NOTFOUND, "not packed yet", ap_store_tag(store, second, "c", false, &entry, err));
    assert_ok(ap_store_resolve(store, second, NULL, NULL, &entry, &fd, err));
    close(fd);
    (void)tag(store, second, "c");
    (void)unlink(second);
    (void)import(store, first, "d"); /* sweeps */
    assert_ok(ap_store_resolve(store, "c", NULL, NULL, &entry, &fd, err));
    close(fd);
    ap_store_close(&store);
}

static void a_tag_moves_a_name_only_when_told_and_keeps_what_it_meant(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a"), b = import(store, second, "b"), entry;
    assert_refused(AP_E_STATE, "--move", ap_store_tag(store, "b", "a", false, &entry, err));
    assert_history(store, "a", &a, NULL, 0);
    assert_ok(ap_store_tag(store, "a", "a", false, &entry, err)); /* what it means already */
    assert_history(store, "a", &a, NULL, 0);
    entry = tag(store, "b", "a");
    assert_string_equal(entry.digest, b.digest);
    assert_string_equal(entry.moved_from, a.digest);
    assert_history(store, "a", &b, HISTORY(a.digest));
    /* The blob of the history is swept by nobody, and can be named by its digest. */
    assert_ok(ap_store_remove(store, "b", false, err));
    assert_int_equal(count_files("blobs", ""), 2);
    assert_ok(ap_store_find(store, at("%.12s", a.digest), &entry, err));
    assert_string_equal(entry.digest, a.digest);
    (void)tag(store, a.digest, "a");
    assert_history(store, "a", &a, HISTORY(b.digest)); /* each blob once */
    ap_store_close(&store);
}

static void a_rollback_goes_back_and_further_back(void **state)
{
    ap_store *store = open_store();
    char third[300];
    (void)snprintf(third, sizeof third, "%s/third.gguf", folder);
    write_model(third, 3);
    ap_store_entry a = import(store, first, "a"), b = import(store, second, "b"), c = import(store, third, "c"), entry;
    (void)tag(store, "a", "n");
    assert_refused(AP_E_STATE, "meant nothing else", ap_store_rollback(store, "n", &entry, err));
    (void)tag(store, "b", "n");
    (void)tag(store, "c", "n");
    assert_ok(ap_store_rollback(store, "n", &entry, err));
    assert_string_equal(entry.moved_from, c.digest);
    assert_history(store, "n", &b, HISTORY(undone(&c), a.digest));
    assert_ok(ap_store_rollback(store, "n", &entry, err));
    assert_history(store, "n", &a, HISTORY(undone(&b), undone(&c)));
    assert_refused(AP_E_STATE, "tag DIGEST NAME --move", ap_store_rollback(store, "n", &entry, err));
    /* Forward again, and back from there to where it came from. */
    (void)tag(store, c.digest, "n");
    assert_history(store, "n", &c, HISTORY(a.digest, undone(&b)));
    assert_ok(ap_store_rollback(store, "n", &entry, err));
    assert_history(store, "n", &a, HISTORY(undone(&c), undone(&b)));
    assert_refused(AP_E_NOTFOUND, "no name 'x'", ap_store_rollback(store, "x", &entry, err));
    assert_refused(AP_E_ARG, "possible name", ap_store_rollback(store, "../x", &entry, err));
    /* Not to a model that could not be opened. */
    (void)tag(store, b.digest, "n");
    assert_int_equal(unlink(blob_of(&a)), 0);
    assert_refused(AP_E_INTEGRITY, "missing", ap_store_rollback(store, "n", &entry, err));
    assert_history(store, "n", &b, HISTORY(a.digest, undone(&c)));
    (void)import(store, first, "a"); /* mends */
    assert_ok(ap_store_rollback(store, "n", &entry, err));
    ap_store_close(&store);
}

static void a_name_with_a_history_goes_only_when_both_are_meant(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "n"), b = import(store, second, "b"), entry;
    size_t count;
    (void)tag(store, "b", "n");
    assert_ok(ap_store_remove(store, "b", false, err));
    assert_refused(AP_E_STATE, "--with-history", ap_store_remove(store, "n", false, err));
    assert_history(store, "n", &b, HISTORY(a.digest));
    assert_ok(ap_store_forget(store, "n", &count, err));
    assert_int_equal(count, 1);
    assert_history(store, "n", &b, NULL, 0);
    assert_int_equal(count_files("blobs", ""), 1);
    assert_ok(ap_store_forget(store, "n", &count, err));
    assert_int_equal(count, 0);
    assert_refused(AP_E_NOTFOUND, "no name 'b'", ap_store_forget(store, "b", &count, err));
    (void)import(store, first, "a");
    (void)tag(store, "a", "n");
    assert_ok(ap_store_remove(store, "n", true, err));
    assert_refused(AP_E_NOTFOUND, "no model", ap_store_find(store, "n", &entry, err));
    assert_int_equal(count_files("blobs", ""), 1);
    ap_store_close(&store);
}

static void a_source_that_changed_moves_its_name_and_keeps_the_old(void **state)
{
    ap_store *store = open_store();
    ap_store_entry old = import(store, first, "a"), entry;
    write_model(first, 7);
    ap_store_entry now = import(store, first, "a");
    assert_string_equal(now.moved_from, old.digest);
    assert_history(store, "a", &now, HISTORY(old.digest));
    assert_refused(AP_E_STATE, first, ap_store_import(store, second, NULL, "a", NULL, NULL, &entry, err)); /* another source does not */
    assert_ok(ap_store_rollback(store, "a", &entry, err));
    assert_string_equal(entry.digest, old.digest);
    entry = import(store, first, "a");
    assert_history(store, "a", &now, HISTORY(old.digest));
    ap_store_close(&store);
}

static void a_history_has_a_limit_and_loses_nothing_at_it(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a"), entry;
    (void)import(store, second, "b");
    /* A manifest as if the name had moved that often: the same entry with other digests. */
    ap_buf text = {0}, one = {0};
    assert_ok(ap_file_read(in_data("names/a.json"), 65536, &one, err));
    one.ptr[one.len - 1] = 0; /* the last brace */
    assert_ok(ap_buf_printf(&text, err, "%s,\"history\":[", one.ptr));
    for (int i = 0; i < AP_STORE_HISTORY_MAX; i++) {
        char *digest = strstr(one.ptr, a.digest), number[3];
        (void)snprintf(number, sizeof number, "%02x", i);
        memcpy(digest, number, 2);
        assert_ok(ap_buf_printf(&text, err, "%s%s}", i ? "," : "", one.ptr));
        memcpy(digest, a.digest, 2);
    }
    assert_ok(ap_buf_printf(&text, err, "]}"));
    write_file(in_data("names/a.json"), text.ptr, text.len);
    assert_refused(AP_E_LIMIT, "--only-history", ap_store_tag(store, "b", "a", true, &entry, err));
    size_t count;
    ap_store_entry *before;
    assert_ok(ap_store_history(store, "a", &before, &count, err));
    assert_int_equal(count, AP_STORE_HISTORY_MAX);
    assert_true(before[0].has_no_blob);
    ap_free(before);
    /* One more is no manifest of ours. */
    text.len -= 2;
    one.ptr[one.len - 1] = 0;
    assert_ok(ap_buf_printf(&text, err, ",%s}]}", one.ptr));
    write_file(in_data("names/a.json"), text.ptr, text.len);
    assert_refused(AP_E_FORMAT, "its history", ap_store_find(store, "a", &entry, err));
    ap_buf_deinit(&text);
    ap_buf_deinit(&one);
    ap_store_close(&store);
}

static void a_manifest_of_the_first_release_is_read(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a");
    ap_buf text = {0};
    assert_ok(ap_file_read(in_data("names/a.json"), 65536, &text, err));
    char *revision = strstr(text.ptr, "\"revision\": \"\",");
    assert_non_null(revision);
    memset(revision, ' ', strlen("\"revision\": \"\","));
    write_file(in_data("names/a.json"), text.ptr, text.len);
    ap_buf_deinit(&text);
    assert_history(store, "a", &a, NULL, 0);
    ap_store_close(&store);
}

static void a_name_that_six_processes_move_loses_no_meaning(void **state)
{
    enum { COUNT = 6 };
    pid_t children[COUNT];
    ap_store *store = open_store();
    ap_store_entry all[COUNT], entry, *before;
    char name[8], path[300];
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(name, sizeof name, "m%d", i);
        (void)snprintf(path, sizeof path, "%s/%s.gguf", folder, name);
        write_model(path, 10 + (uint64_t)i);
        all[i] = import(store, path, name);
    }
    (void)tag(store, "m0", "n");
    for (int i = 0; i < COUNT; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        (void)snprintf(name, sizeof name, "m%d", i);
        if (children[i] == 0)
            for (int k = 0;; k++)
                if (k == 10 || ap_store_tag(store, name, "n", true, &entry, NULL) != AP_OK)
                    _exit(k != 10);
    }
    for (int i = 0; i < COUNT; i++) {
        int how;
        assert_int_equal(waitpid(children[i], &how, 0), children[i]);
        assert_int_equal(how, 0);
    }
    size_t count;
    assert_ok(ap_store_find(store, "n", &entry, err));
    assert_ok(ap_store_history(store, "n", &before, &count, err));
    assert_int_equal(count, COUNT - 1);
    for (int i = 0; i < COUNT; i++) {
        bool is_there = strcmp(entry.digest, all[i].digest) == 0;
        for (size_t k = 0; k < count; k++)
            is_there = is_there || strcmp(before[k].digest, all[i].digest) == 0;
        assert_true(is_there);
    }
    ap_free(before);
    ap_store_close(&store);
}

static void a_tag_that_is_killed_leaves_the_old_or_the_new_meaning(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a"), b = import(store, second, "b"), entry;
    (void)tag(store, "a", "n");
    for (useconds_t wait = 0; wait < 6000; wait += 300) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            for (unsigned i = 0;; i++)
                if (ap_store_tag(store, i % 2 ? "a" : "b", "n", true, &entry, NULL) != AP_OK)
                    _exit(1);
        (void)usleep(wait);
        (void)kill(child, SIGKILL);
        int how;
        (void)waitpid(child, &how, 0);
        assert_true(WIFSIGNALED(how));
        assert_ok(ap_store_find(store, "n", &entry, err));
        assert_true(strcmp(entry.digest, a.digest) == 0 || strcmp(entry.digest, b.digest) == 0);
    }
    (void)tag(store, "a", "n");
    (void)tag(store, "b", "n");
    (void)import(store, first, "a"); /* sweeps */
    assert_history(store, "n", &b, HISTORY(a.digest));
    assert_int_equal(count_files("names", "new-"), 0);
    ap_store_close(&store);
}

#define T(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_tag_is_a_name_more_for_the_same_blob),
        T(a_tag_moves_a_name_only_when_told_and_keeps_what_it_meant),
        T(a_rollback_goes_back_and_further_back),
        T(a_name_with_a_history_goes_only_when_both_are_meant),
        T(a_source_that_changed_moves_its_name_and_keeps_the_old),
        T(a_history_has_a_limit_and_loses_nothing_at_it),
        T(a_manifest_of_the_first_release_is_read),
        T(a_name_that_six_processes_move_loses_no_meaning),
        T(a_tag_that_is_killed_leaves_the_old_or_the_new_meaning),
    };
    return cmocka_run_group_tests_name("store_names", tests, make_models, remove_models);
}
