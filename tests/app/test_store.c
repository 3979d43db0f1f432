/* The model store: what is found is whole, what was stored stays, what nothing needs goes.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "store_case.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tiny_model.h"

static void flip_a_bit(const char *path)
{
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char byte;
    assert_int_equal(pread(fd, &byte, 1, 5000), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, 5000), 1);
    close(fd);
}

/* ---- Names and folders --------------------------------------------------- */

static void names_that_could_leave_the_folder_are_invalid(void **state)
{
    static const char *const bad[] = {"", ".", "..", ".hidden", "-x", "a/b", "a..b", "a b", "a\nb", "\xc3\xa9", "a\\b", "a*"};
    static const char *const good[] = {"a", "A-1", "smollm2:135m", "x_y.z", "0"};
    char longest[AP_STORE_NAME_MAX + 2];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(ap_store_name_is_valid(bad[i]));
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(ap_store_name_is_valid(good[i]));
    memset(longest, 'a', sizeof longest);
    longest[AP_STORE_NAME_MAX + 1] = 0;
    assert_false(ap_store_name_is_valid(longest));
    longest[AP_STORE_NAME_MAX] = 0;
    assert_true(ap_store_name_is_valid(longest));
}

static void the_data_folder_follows_the_environment(void **state)
{
    char path[4096];
    assert_int_equal(setenv("HOME", "/somebody", 1), 0);
    (void)unsetenv("XDG_DATA_HOME");
    (void)unsetenv("APERTO_DATA");
    assert_ok(ap_store_data_folder(path, sizeof path, err));
    assert_string_equal(path, "/somebody/.local/share/aperto");
    (void)setenv("XDG_DATA_HOME", "relative", 1); /* not allowed by its rules: as if unset */
    assert_ok(ap_store_data_folder(path, sizeof path, err));
    assert_string_equal(path, "/somebody/.local/share/aperto");
    (void)setenv("XDG_DATA_HOME", "/xdg", 1);
    assert_ok(ap_store_data_folder(path, sizeof path, err));
    assert_string_equal(path, "/xdg/aperto");
    (void)setenv("APERTO_DATA", "/own", 1);
    assert_ok(ap_store_data_folder(path, sizeof path, err));
    assert_string_equal(path, "/own");
    assert_refused(AP_E_LIMIT, "longer", ap_store_data_folder(path, 3, err));
    (void)unsetenv("APERTO_DATA");
    (void)unsetenv("XDG_DATA_HOME");
    (void)unsetenv("HOME");
    assert_refused(AP_E_ARG, "APERTO_DATA", ap_store_data_folder(path, sizeof path, err));
}

static void a_file_where_the_folder_should_be_is_named(void **state)
{
    ap_store *store;
    assert_refused(AP_E_IO, "second.gguf", ap_store_open(&store, second, AP_SANDBOX_FULL, err));
    assert_null(store);
}

/* ---- Importing ----------------------------------------------------------- */

static void an_import_is_found_opened_and_read_only(void **state)
{
    ap_store *store = open_store();
    ap_store_entry made = import(store, first, NULL), found;
    struct stat st;
    int fd;
    assert_string_equal(made.name, "first-model.q4");
    assert_string_equal(made.report.architecture, "llama");
    assert_ok(ap_store_resolve(store, "first-model.q4", NULL, NULL, &found, &fd, err));
    assert_string_equal(found.digest, made.digest);
    assert_string_equal(found.source, first);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0444);
    assert_int_equal((uint64_t)st.st_size, found.packed_bytes);
    close(fd);
    char start[9];
    (void)snprintf(start, sizeof start, "%.8s", made.digest);
    assert_ok(ap_store_find(store, start, &found, err));
    assert_string_equal(found.name, "first-model.q4");
    ap_store_close(&store);
}

static void equal_sources_share_a_blob_which_goes_with_the_last_name(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a"), b = import(store, first, "b");
    assert_string_equal(a.digest, b.digest);
    assert_int_equal(count_files("blobs", ".aperto"), 1);
    assert_ok(ap_store_remove(store, "a", false, err));
    assert_int_equal(count_files("blobs", ".aperto"), 1);
    int fd;
    assert_ok(ap_store_resolve(store, "b", NULL, NULL, &b, &fd, err));
    close(fd);
    assert_ok(ap_store_remove(store, "b", false, err));
    assert_int_equal(count_files("blobs", ".aperto"), 0);
    assert_refused(AP_E_NOTFOUND, "no model 'b'", ap_store_remove(store, "b", false, err));
    ap_store_close(&store);
}

static void a_name_in_use_keeps_its_meaning(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a"), entry;
    assert_refused(AP_E_STATE, "'a'", ap_store_import(store, second, NULL, "a", NULL, NULL, &entry, err));
    assert_ok(ap_store_find(store, "a", &entry, err));
    assert_string_equal(entry.digest, a.digest);
    assert_int_equal(count_files("blobs", ""), 1); /* nothing is left of the refused one */
    (void)import(store, first, "a");               /* the same again is fine */
    ap_store_close(&store);
}

static void a_blob_in_use_stays_the_same_file(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a");
    struct stat before, after;
    assert_int_equal(stat(blob_of(&a), &before), 0);
    write_file(in_data("names/a.json"), "{", 1); /* so that the source is not known */
    (void)import(store, first, "b");
    assert_int_equal(stat(blob_of(&a), &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_ctime == after.st_ctime);
    ap_store_close(&store);
}

static void write_parts(unsigned count)
{
    static const ap_tiny_model tiny = {.seed = 9, .layers = 1, .width = 8, .heads = 2, .kv_heads = 1, .ffn = 8, .context = 64};
    ap_tiny_file parts[AP_TINY_FILES_MAX];
    assert_int_equal(ap_tiny_model_parts(&tiny, count, parts), count);
    for (unsigned i = 0; i < count; i++)
        write_file(at(at("%s/%%s", folder), parts[i].name), parts[i].bytes.ptr, parts[i].bytes.len);
    ap_tiny_files_deinit(parts, count);
}

static void any_part_of_a_split_file_means_all_of_them(void **state)
{
    ap_store *store = open_store();
    ap_store_entry entry, again;
    int fd;
    write_parts(3);
    assert_ok(ap_store_resolve(store, at("%s/tiny-00002-of-00003.gguf", folder), NULL, NULL, &entry, &fd, err));
    close(fd);
    assert_ok(ap_store_resolve(store, at("%s/tiny-00001-of-00003.gguf", folder), NULL, NULL, &again, &fd, err));
    close(fd);
    assert_string_equal(entry.digest, again.digest);

    assert_int_equal(unlink(at("%s/tiny-00003-of-00003.gguf", folder)), 0);
    assert_refused(AP_E_NOTFOUND, "tiny-00003-of-00003.gguf",
                   ap_store_import(store, at("%s/tiny-00001-of-00003.gguf", folder), NULL, "x", NULL, NULL, &entry, err));
    assert_int_equal(symlink("/dev/zero", at("%s/tiny-00003-of-00003.gguf", folder)), 0);
    assert_refused(AP_E_ARG, "device", ap_store_import(store, at("%s/tiny-00001-of-00003.gguf", folder), NULL, "x", NULL, NULL, &entry, err));
    static const char *const parts[] = {"00001", "00002", "00003"};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(unlink(at(at("%s/tiny-%%s-of-00003.gguf", folder), parts[i])), 0);
    ap_store_close(&store);
}

static void a_refused_file_leaves_nothing(void **state)
{
    ap_store *store = open_store();
    ap_store_entry entry;
    static const char *const names[] = {"../evil", "/etc/x", "-rf", ""};
    for (size_t i = 0; i < 4; i++)
        assert_refused(AP_E_ARG, "possible name", ap_store_import(store, first, NULL, names[i], NULL, NULL, &entry, err));
    write_file(second, "GGUF\3\0\0\0", 8);
    ap_error error = {0};
    assert_int_not_equal(ap_store_import(store, second, NULL, "cut", NULL, NULL, &entry, &error), AP_OK);
    assert_non_null(strstr(error.message, "second.gguf"));
    assert_refused(AP_E_NOTFOUND, "gone.gguf", ap_store_import(store, "/tmp/gone.gguf", NULL, "x", NULL, NULL, &entry, err));
    assert_refused(AP_E_NOTFOUND, "of the GGUF files", ap_store_import(store, folder, NULL, "x", NULL, NULL, &entry, err));
    assert_refused(AP_E_ARG, "device", ap_store_import(store, "/dev/zero", NULL, "x", NULL, NULL, &entry, err));
    const char *fifo = at("%s/fifo", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_refused(AP_E_ARG, "pipe", ap_store_import(store, fifo, NULL, "x", NULL, NULL, &entry, err));
    (void)unlink(fifo);
    assert_int_equal(count_files("blobs", ""), 0);
    assert_int_equal(count_files("names", ""), 0);
    ap_store_close(&store);
}

static void a_full_disk_keeps_what_was_there(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a"), entry;
    struct rlimit old, tight = {.rlim_cur = 20000};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight.rlim_max = old.rlim_max;
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    ap_error error = {0};
    ap_status status = ap_store_import(store, second, NULL, "b", NULL, NULL, &entry, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    (void)signal(SIGXFSZ, before);
    assert_int_not_equal(status, AP_OK);
    assert_true(error.message[0]);
    assert_int_equal(count_files("names", ""), 1);
    assert_int_equal(count_files("blobs", ""), 1);
    int fd;
    assert_ok(ap_store_resolve(store, "a", NULL, NULL, &a, &fd, err));
    close(fd);
    (void)import(store, second, "b");
    ap_store_close(&store);
}

static void leftovers_of_a_cut_off_import_are_no_models_and_go(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a"), *entries;
    size_t count;
    write_file(in_data("blobs/packing.new-Ab12Cd"), "half", 4);
    write_file(in_data("names/b.json.new-Ab12Cd"), "{\"na", 4);
    /* A blob without a name: the machine stopped between the two. */
    write_file(in_data("blobs/00000000000000000000000000000000000000000000000000000000000000aa.aperto"), "x", 1);
    write_file(in_data("blobs/README"), "not ours", 8);
    assert_ok(ap_store_list(store, &entries, &count, err));
    assert_int_equal(count, 1);
    ap_free(entries);
    (void)import(store, second, "c");
    assert_int_equal(count_files("blobs", "packing"), 0);
    assert_int_equal(count_files("names", "new-"), 0);
    assert_int_equal(count_files("blobs", ".aperto"), 2);
    assert_int_equal(count_files("blobs", "README"), 1);
    assert_int_equal(access(blob_of(&a), R_OK), 0);
    ap_store_close(&store);
}

static void eight_imports_at_once_end_whole(void **state)
{
    pid_t children[8];
    ap_store *store = open_store();
    for (int i = 0; i < 8; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            ap_store_entry entry;
            char name[16];
            (void)snprintf(name, sizeof name, "m%d", i / 2); /* each name twice, each file four times */
            _exit(ap_store_import(store, i / 2 % 2 ? first : second, NULL, name, NULL, NULL, &entry, NULL) == AP_OK ? 0 : 1);
        }
    }
    for (int i = 0; i < 8; i++) {
        int how;
        assert_int_equal(waitpid(children[i], &how, 0), children[i]);
        assert_int_equal(how, 0);
    }
    ap_store_entry *entries;
    size_t count;
    assert_ok(ap_store_list(store, &entries, &count, err));
    assert_int_equal(count, 4);
    for (size_t i = 0; i < count; i++) {
        int fd;
        assert_ok(ap_store_open_blob(store, &entries[i], NULL, NULL, &fd, err));
        close(fd);
    }
    ap_free(entries);
    assert_int_equal(count_files("blobs", ""), 2);
    ap_store_close(&store);
}

static void an_import_that_is_killed_is_no_model(void **state)
{
    ap_store *store = open_store();
    for (useconds_t wait = 0; wait < 40000; wait += 8000) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            ap_store_entry entry;
            _exit(ap_store_import(store, first, NULL, "a", NULL, NULL, &entry, NULL) == AP_OK ? 0 : 1);
        }
        (void)usleep(wait);
        (void)kill(child, SIGKILL);
        int how, fd;
        (void)waitpid(child, &how, 0);
        ap_store_entry entry;
        ap_status status = ap_store_resolve(store, "a", NULL, NULL, &entry, &fd, NULL);
        assert_true(status == AP_OK || status == AP_E_NOTFOUND);
        if (status == AP_OK) {
            close(fd);
            assert_ok(ap_store_remove(store, "a", false, err));
        }
    }
    ap_store_entry a = import(store, first, "a");
    assert_int_equal(access(blob_of(&a), R_OK), 0);
    assert_int_equal(count_files("blobs", ""), 1);
    ap_store_close(&store);
}

/* ---- Finding ------------------------------------------------------------- */

static void a_near_name_is_suggested(void **state)
{
    ap_store *store = open_store();
    ap_store_entry entry;
    (void)import(store, first, "smollm2");
    assert_refused(AP_E_NOTFOUND, "did you mean 'smollm2'?", ap_store_find(store, "smolm2", &entry, err));
    assert_refused(AP_E_NOTFOUND, "did you mean 'smollm2'?", ap_store_find(store, "smol", &entry, err));
    assert_refused(AP_E_NOTFOUND, "aperto list", ap_store_find(store, "llama-3.1-8b", &entry, err));
    assert_refused(AP_E_NOTFOUND, "possible name", ap_store_find(store, "a b", &entry, err));
    ap_store_close(&store);
}

static void a_damaged_manifest_is_named_and_others_go_on(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a"), *entries, entry;
    size_t count;
    (void)import(store, second, "b");
    static const char *const damages[] = {"", "{", "[]", "{\"name\":\"b\"}", "\xff\xfe", "{\"name\":\"a\",\"name\":\"b\"}"};
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        write_file(in_data("names/b.json"), damages[i], strlen(damages[i]));
        assert_refused(AP_E_FORMAT, "names/b.json", ap_store_find(store, "b", &entry, err));
        assert_ok(ap_store_list(store, &entries, &count, err));
        assert_int_equal(count, 2);
        assert_false(entries[0].is_damaged);
        assert_true(entries[1].is_damaged);
        assert_string_equal(entries[1].name, "b");
        ap_free(entries);
    }
    /* Nobody knows which blob it meant, so none goes; it can be removed, and then the blob goes. */
    (void)import(store, first, "c");
    assert_int_equal(count_files("blobs", ".aperto"), 2);
    assert_ok(ap_store_remove(store, "b", false, err));
    assert_int_equal(count_files("blobs", ".aperto"), 1);
    assert_int_equal(access(blob_of(&a), R_OK), 0);
    ap_store_close(&store);
}

static void a_manifest_under_a_foreign_name_is_damaged(void **state)
{
    ap_store *store = open_store();
    ap_store_entry entry;
    (void)import(store, first, "a");
    assert_int_equal(link(in_data("names/a.json"), in_data("names/b.json")), 0);
    assert_refused(AP_E_FORMAT, "names/b.json", ap_store_find(store, "b", &entry, err));
    ap_store_close(&store);
}

static void a_long_manifest_is_refused(void **state)
{
    ap_store *store = open_store();
    ap_store_entry entry;
    (void)import(store, first, "a");
    char *big = calloc(1, 600000);
    assert_non_null(big);
    memset(big, ' ', 600000);
    write_file(in_data("names/b.json"), big, 600000);
    free(big);
    assert_refused(AP_E_LIMIT, "limit", ap_store_find(store, "b", &entry, err));
    assert_refused(AP_E_LIMIT, "limit", ap_store_import(store, first, NULL, "b", NULL, NULL, &entry, err));
    assert_ok(ap_store_remove(store, "b", false, err));
    ap_store_close(&store);
}

static void a_packed_file_of_another_store_is_the_same_model(void **state)
{
    char carried[300];
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a"), b;
    const ap_store_origin origin = {.source = "oci://registry/some/thing:q4", .revision = "sha256:1"};
    (void)snprintf(carried, sizeof carried, "%s/carried.aperto", folder);
    assert_int_equal(rename(blob_of(&a), carried), 0);
    assert_ok(ap_store_remove(store, "a", false, err));
    assert_ok(ap_store_import(store, carried, &origin, NULL, NULL, NULL, &b, err));
    assert_string_equal(b.digest, a.digest);
    assert_string_equal(b.name, "thing:q4");
    assert_string_equal(b.source, origin.source);
    assert_string_equal(b.revision, "sha256:1");
    /* Whom it says it was made of is a claim: the source is what came. */
    assert_string_not_equal(b.source_sha256, a.source_sha256);
    flip_a_bit(carried);
    int fd;
    assert_ok(ap_store_resolve(store, "thing:q4", NULL, NULL, &b, &fd, err));
    close(fd);
    assert_int_equal(truncate(carried, 4000), 0);
    assert_refused(AP_E_FORMAT, "carried.aperto", ap_store_import(store, carried, NULL, "c", NULL, NULL, &b, err));
    ap_store_close(&store);
}

/* ---- Damage -------------------------------------------------------------- */

static void a_flipped_bit_is_found_and_mended_by_a_new_import(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a");
    int fd = 0;
    flip_a_bit(blob_of(&a));
    assert_refused(AP_E_INTEGRITY, "'a'", ap_store_open_blob(store, &a, NULL, NULL, &fd, err));
    assert_int_equal(fd, -1);
    assert_refused(AP_E_INTEGRITY, "damaged", ap_store_resolve(store, "a", NULL, NULL, &a, &fd, err));
    (void)import(store, first, "a");
    assert_ok(ap_store_resolve(store, "a", NULL, NULL, &a, &fd, err));
    close(fd);
    ap_store_close(&store);
}

static void who_only_looks_makes_no_folder(void **state)
{
    ap_store *store = open_store();
    ap_store_entry *entries;
    size_t count;
    assert_ok(ap_store_list(store, &entries, &count, err));
    assert_int_equal(count, 0);
    assert_int_equal(access(in_data(""), F_OK), -1);
    (void)import(store, first, "a");
    assert_int_equal(access(in_data("names/a.json"), F_OK), 0);
    ap_store_close(&store);
}

static void a_blob_that_is_gone_or_cut_is_named(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a = import(store, first, "a");
    int fd;
    assert_int_equal(chmod(blob_of(&a), 0644), 0);
    assert_int_equal(truncate(blob_of(&a), 100), 0);
    assert_refused(AP_E_INTEGRITY, "'a'", ap_store_resolve(store, "a", NULL, NULL, &a, &fd, err));
    assert_int_equal(unlink(blob_of(&a)), 0);
    assert_refused(AP_E_INTEGRITY, "is missing; import the model again", ap_store_resolve(store, "a", NULL, NULL, &a, &fd, err));
    ap_store_close(&store);
}

/* ---- Files by path ------------------------------------------------------- */

static void count_reports(void *context, uint64_t done, uint64_t total) { ++*(unsigned *)context; }

static void a_file_by_path_is_packed_once(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a, b;
    int fd;
    assert_refused(AP_E_NOTFOUND, "not packed", ap_store_find(store, first, &a, err));
    assert_ok(ap_store_resolve(store, first, NULL, NULL, &a, &fd, err));
    close(fd);
    struct stat before, after;
    assert_int_equal(stat(blob_of(&a), &before), 0);
    assert_ok(ap_store_resolve(store, first, NULL, NULL, &b, &fd, err));
    close(fd);
    assert_string_equal(a.digest, b.digest);
    assert_int_equal(stat(blob_of(&a), &after), 0);
    assert_true(before.st_ino == after.st_ino);
    assert_ok(ap_store_find(store, first, &b, err));
    assert_true(b.is_cached && !b.has_no_blob);
    /* The list says that it was given by path; a name for it costs nothing. */
    ap_store_entry *entries;
    size_t count;
    (void)import(store, first, "a");
    assert_ok(ap_store_list(store, &entries, &count, err));
    assert_int_equal(count, 2);
    assert_string_equal(entries[0].name, "a");
    assert_true(!entries[0].is_cached && entries[1].is_cached);
    assert_string_equal(entries[1].source, first);
    ap_free(entries);
    assert_int_equal(count_files("blobs", ""), 1);
    ap_store_close(&store);
}

static void a_changed_file_is_packed_again_and_the_old_one_goes(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a, b;
    int fd;
    assert_ok(ap_store_resolve(store, first, NULL, NULL, &a, &fd, err));
    close(fd);
    write_model(first, 3);
    assert_ok(ap_store_resolve(store, first, NULL, NULL, &b, &fd, err));
    close(fd);
    assert_string_not_equal(a.digest, b.digest);
    assert_int_equal(count_files("blobs", ""), 1);
    assert_int_equal(count_files("cache", ""), 1);
    ap_store_close(&store);
}

static void a_damaged_cache_mends_itself(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a;
    int fd;
    assert_ok(ap_store_resolve(store, first, NULL, NULL, &a, &fd, err));
    close(fd);
    flip_a_bit(blob_of(&a));
    assert_ok(ap_store_resolve(store, first, NULL, NULL, &a, &fd, err));
    close(fd);
    assert_int_equal(unlink(blob_of(&a)), 0);
    assert_ok(ap_store_resolve(store, first, NULL, NULL, &a, &fd, err));
    close(fd);
    ap_store_close(&store);
}

static void a_cached_file_is_removed_by_its_path(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a;
    int fd;
    assert_ok(ap_store_resolve(store, first, NULL, NULL, &a, &fd, err));
    close(fd);
    assert_ok(ap_store_remove(store, first, false, err));
    assert_int_equal(count_files("blobs", ""), 0);
    assert_int_equal(access(first, R_OK), 0);
    assert_refused(AP_E_NOTFOUND, "nothing was packed", ap_store_remove(store, first, false, err));
    ap_store_close(&store);
}

static void a_name_wins_over_a_file(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a, b = import(store, first, "second.gguf");
    int fd;
    char old[1024];
    assert_non_null(getcwd(old, sizeof old));
    assert_int_equal(chdir(folder), 0);
    assert_ok(ap_store_resolve(store, "second.gguf", NULL, NULL, &a, &fd, err));
    close(fd);
    assert_string_equal(a.digest, b.digest);
    assert_ok(ap_store_resolve(store, "./second.gguf", NULL, NULL, &a, &fd, err));
    close(fd);
    assert_string_not_equal(a.digest, b.digest);
    assert_int_equal(chdir(old), 0);
    ap_store_close(&store);
}

static void progress_is_told(void **state)
{
    ap_store *store = open_store();
    ap_store_entry a;
    unsigned reports = 0;
    assert_ok(ap_store_import(store, first, NULL, "a", count_reports, &reports, &a, err));
    assert_true(reports > 0);
    ap_store_close(&store);
}

/* ---- Memory -------------------------------------------------------------- */

static ap_status use_all(void *context)
{
    ap_store *store;
    ap_store_entry *entries, entry;
    size_t count;
    ap_error err = {0};
    AP_TRY(ap_store_open(&store, data, AP_SANDBOX_FULL, &err));
    ap_status status = ap_store_list(store, &entries, &count, &err);
    ap_free(status == AP_OK ? entries : NULL);
    if (status == AP_OK)
        status = ap_store_find(store, "b", &entry, &err);
    if (status == AP_OK) /* known already: nothing is packed */
        status = ap_store_import(store, first, NULL, "a", NULL, NULL, &entry, &err);
    if (status == AP_OK)
        status = ap_store_tag(store, "b", "n", true, &entry, &err);
    if (status == AP_OK)
        status = ap_store_tag(store, "a", "n", true, &entry, &err);
    if (status == AP_OK)
        status = ap_store_history(store, "n", &entries, &count, &err);
    ap_free(status == AP_OK ? entries : NULL);
    if (status == AP_OK)
        status = ap_store_rollback(store, "n", &entry, &err);
    if (status == AP_OK)
        status = ap_store_forget(store, "n", &count, &err);
    ap_store_close(&store);
    return status;
}

static void every_lack_of_memory_comes_back_as_such(void **state)
{
    ap_store *store = open_store();
    (void)import(store, first, "a");
    (void)import(store, second, "b");
    ap_test_each_oom(use_all, NULL);
    int fd;
    ap_store_entry a;
    assert_ok(ap_store_resolve(store, "a", NULL, NULL, &a, &fd, err));
    close(fd);
    ap_store_close(&store);
}

/* ---- Folders -------------------------------------------------------------- */

/* A tiny model in `path`, which is made anew. */
static void write_folder(const char *path, uint64_t seed, unsigned shards)
{
    const ap_tiny_model tiny = {.seed = seed, .width = 64, .ffn = 128, .heads = 2, .kv_heads = 1, .layers = 1};
    ap_tiny_file files[AP_TINY_FILES_MAX];
    size_t count = ap_tiny_model_folder(&tiny, shards, files);
    remove_tree(path);
    assert_int_equal(mkdir(path, 0755), 0);
    for (size_t i = 0; i < count; i++)
        write_file(at(at("%s/%%s", path), files[i].name), files[i].bytes.ptr, files[i].bytes.len);
    ap_tiny_files_deinit(files, count);
}

static void a_folder_is_imported_under_its_name(void **state)
{
    char path[300];
    ap_store *store = open_store();
    (void)snprintf(path, sizeof path, "%s/My Folder", folder);
    write_folder(path, 3, 2);
    write_file(at("%s/consolidated.safetensors", path), "x", 1); /* the same weights for another program */
    write_file(at("%s/pytorch_model.bin", path), "x", 1);
    write_file(at("%s/README.md", path), "x", 1);
    ap_store_entry made = import(store, at("%s/", path), NULL), again;
    assert_string_equal(made.name, "my-folder");
    assert_string_equal(made.report.architecture, "llama");
    assert_string_equal(made.report.name, "tiny");
    assert_string_equal(made.source, path);
    char command[1200], sum[AP_HASH_HEX] = "";
    (void)snprintf(command, sizeof command, "cd '%s' && sha256sum config.json model-*.safetensors model.safetensors.index.json | sha256sum", path);
    FILE *tool = popen(command, "r");
    assert_non_null(tool);
    assert_int_equal(fread(sum, 1, 64, tool), 64);
    pclose(tool);
    assert_string_equal(made.source_sha256, sum);
    again = import(store, path, "other");
    assert_string_equal(again.digest, made.digest);
    ap_store_close(&store);
}

static void a_folder_by_path_is_packed_once_and_again_when_a_file_changes(void **state)
{
    char path[300], digest[AP_HASH_HEX];
    ap_store *store = open_store();
    ap_store_entry entry;
    struct stat before, after;
    int fd;
    (void)snprintf(path, sizeof path, "%s/folder", folder);
    write_folder(path, 3, 1);
    assert_refused(AP_E_NOTFOUND, "not packed yet", ap_store_find(store, path, &entry, err));
    assert_ok(ap_store_resolve(store, path, NULL, NULL, &entry, &fd, err));
    close(fd);
    (void)snprintf(digest, sizeof digest, "%s", entry.digest);
    assert_int_equal(stat(blob_of(&entry), &before), 0);
    assert_ok(ap_store_resolve(store, path, NULL, NULL, &entry, &fd, err));
    close(fd);
    assert_int_equal(stat(blob_of(&entry), &after), 0);
    assert_true(before.st_ino == after.st_ino && before.st_ctime == after.st_ctime);
    assert_int_equal(count_files("cache", ".json"), 1);
    write_file(at("%s/generation_config.json", path), "{\"eos_token_id\":5}", 18); /* a file more is another model */
    assert_refused(AP_E_NOTFOUND, "not packed yet", ap_store_find(store, path, &entry, err));
    assert_ok(ap_store_resolve(store, path, NULL, NULL, &entry, &fd, err));
    close(fd);
    assert_string_not_equal(entry.digest, digest);
    assert_int_equal(count_files("cache", ".json"), 1); /* the old one went, */
    assert_int_equal(count_files("blobs", ".aperto"), 1); /* and its blob */
    assert_ok(ap_store_remove(store, path, false, err));
    assert_int_equal(count_files("blobs", ".aperto"), 0);
    ap_store_close(&store);
}

static void what_is_no_folder_of_a_model_is_refused_by_what_is_there(void **state)
{
    static const struct {
        const char *names[3];
        ap_status status;
        const char *word;
    } cases[] = {
        {{"README.md"}, AP_E_NOTFOUND, "holds no model: it has no config.json"},
        {{"model.Q4_0.gguf"}, AP_E_NOTFOUND, "of the GGUF files in it name one"},
        {{"adapter_config.json", "adapter_model.safetensors"}, AP_E_UNSUPPORTED, "an adapter and no model"},
        {{"config.json"}, AP_E_NOTFOUND, "no weights"},
        {{"config.json", "pytorch_model.bin"}, AP_E_UNSUPPORTED, "'pytorch_model.bin', a pickle file: reading one can run code"},
        {{"config.json", "model.pt"}, AP_E_UNSUPPORTED, "convert the weights to safetensors"},
        {{"config.json", "model.pth"}, AP_E_UNSUPPORTED, "'model.pth', a pickle file"},
        {{"config.json", "model.ckpt"}, AP_E_UNSUPPORTED, "'model.ckpt', a pickle file"},
        {{"config.json", "consolidated.safetensors"}, AP_E_NOTFOUND, "no weights"},
    };
    char path[300];
    ap_store *store = open_store();
    ap_store_entry entry;
    (void)snprintf(path, sizeof path, "%s/odd", folder);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        remove_tree(path);
        assert_int_equal(mkdir(path, 0755), 0);
        for (size_t k = 0; cases[i].names[k] && k < 3; k++)
            write_file(at(at("%s/%%s", path), cases[i].names[k]), "{}", 2);
        assert_refused(cases[i].status, cases[i].word, ap_store_import(store, path, NULL, "x", NULL, NULL, &entry, err));
    }
    /* A pipe among the files would wait for ever. */
    write_folder(path, 3, 1);
    assert_int_equal(unlink(at("%s/model.safetensors", path)), 0);
    assert_int_equal(mkfifo(at("%s/model.safetensors", path), 0600), 0);
    assert_refused(AP_E_ARG, "a pipe", ap_store_import(store, path, NULL, "x", NULL, NULL, &entry, err));
    /* An index that points out of the folder opens nothing there. */
    write_folder(path, 3, 1);
    assert_int_equal(rename(at("%s/model.safetensors", path), at("%s/part.safetensors", path)), 0);
    static const char index[] = "{\"weight_map\":{\"model.norm.weight\":\"../odd/part.safetensors\"}}";
    write_file(at("%s/model.safetensors.index.json", path), index, sizeof index - 1);
    assert_refused(AP_E_FORMAT, "'../odd/part.safetensors'", ap_store_import(store, path, NULL, "x", NULL, NULL, &entry, err));
    assert_int_equal(count_files("blobs", ""), 0);
    assert_int_equal(count_files("names", ""), 0);
    ap_store_close(&store);
    remove_tree(path);
}

#define T(test) cmocka_unit_test_setup(test, begin)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(names_that_could_leave_the_folder_are_invalid),
        T(the_data_folder_follows_the_environment),
        T(a_file_where_the_folder_should_be_is_named),
        T(an_import_is_found_opened_and_read_only),
        T(equal_sources_share_a_blob_which_goes_with_the_last_name),
        T(a_name_in_use_keeps_its_meaning),
        T(a_blob_in_use_stays_the_same_file),
        T(any_part_of_a_split_file_means_all_of_them),
        T(a_refused_file_leaves_nothing),
        T(a_full_disk_keeps_what_was_there),
        T(leftovers_of_a_cut_off_import_are_no_models_and_go),
        T(eight_imports_at_once_end_whole),
        T(an_import_that_is_killed_is_no_model),
        T(a_near_name_is_suggested),
        T(a_damaged_manifest_is_named_and_others_go_on),
        T(a_manifest_under_a_foreign_name_is_damaged),
        T(a_long_manifest_is_refused),
        T(a_packed_file_of_another_store_is_the_same_model),
        T(a_flipped_bit_is_found_and_mended_by_a_new_import),
        T(who_only_looks_makes_no_folder),
        T(a_blob_that_is_gone_or_cut_is_named),
        T(a_file_by_path_is_packed_once),
        T(a_changed_file_is_packed_again_and_the_old_one_goes),
        T(a_damaged_cache_mends_itself),
        T(a_cached_file_is_removed_by_its_path),
        T(a_name_wins_over_a_file),
        T(progress_is_told),
        T(a_folder_is_imported_under_its_name),
        T(a_folder_by_path_is_packed_once_and_again_when_a_file_changes),
        T(what_is_no_folder_of_a_model_is_refused_by_what_is_there),
        T(every_lack_of_memory_comes_back_as_such),
    };
    return cmocka_run_group_tests_name("store", tests, make_models, remove_models);
}
