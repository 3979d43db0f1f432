/* Files: limits, what is no file, atomic replacement.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static unsigned entries(void)
{
    unsigned count = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static void put_file(const char *name, const char *text)
{
    FILE *f = fopen(in_folder(name), "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void expect_content(const char *name, const char *text)
{
    ap_buf buf = {0};
    assert_ok(ap_file_read(in_folder(name), 1000, &buf, err));
    assert_string_equal(buf.ptr, text);
    ap_buf_deinit(&buf);
}

static int make_folder(void **state)
{
    (void)snprintf(folder, sizeof folder, "/tmp/aperto-test-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.' && unlink(in_folder(e->d_name)) != 0)
            (void)rmdir(in_folder(e->d_name));
    if (d)
        closedir(d);
    return rmdir(folder);
}

static void a_file_is_read_whole_up_to_the_limit(void **state)
{
    ap_error error = {0};
    ap_buf buf = {0};
    put_file("ten", "1234567890");
    assert_ok(ap_file_read(in_folder("ten"), 10, &buf, err));
    assert_string_equal(buf.ptr, "1234567890");
    ap_buf_deinit(&buf);
    assert_int_equal(ap_file_read(in_folder("ten"), 9, &buf, &error), AP_E_LIMIT);
    assert_null(buf.ptr);
    assert_non_null(strstr(error.message, "ten"));
    assert_non_null(strstr(error.message, "9"));
    put_file("empty", "");
    assert_ok(ap_file_read(in_folder("empty"), 10, &buf, err));
    assert_string_equal(buf.ptr, "");
    ap_buf_deinit(&buf);
    assert_int_equal(ap_file_read(in_folder("none"), 10, &buf, &error), AP_E_NOTFOUND);
    assert_non_null(strstr(error.message, "none"));
}

static void what_is_no_regular_file_is_refused_by_kind(void **state)
{
    static const struct {
        const char *path, *kind;
    } cases[] = {{"fifo", "a pipe"}, {".", "a folder"}, {"/dev/null", "a device"}};
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    for (size_t i = 0; i < 3; i++) {
        ap_error error = {0};
        int fd = 5;
        const char *path = cases[i].path[0] == '/' ? cases[i].path : in_folder(cases[i].path);
        assert_int_equal(ap_file_open(path, &fd, &error), AP_E_ARG);
        assert_int_equal(fd, -1);
        assert_non_null(strstr(error.message, cases[i].kind));
    }
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    ap_mapping mapping;
    ap_file_stamp stamp;
    assert_int_equal(ap_file_map(fds[0], &mapping, NULL), AP_E_ARG);
    assert_int_equal(ap_file_stamp_of(fds[0], &stamp, NULL), AP_E_ARG);
    close(fds[1]); /* a pipe may be read, though: standard input is one */
    ap_buf buf = {0};
    assert_ok(ap_file_read_fd(fds[0], 10, &buf, err));
    assert_int_equal(buf.len, 0);
    ap_buf_deinit(&buf);
    close(fds[0]);
}

static void a_map_shows_the_bytes_and_the_stamp_their_change(void **state)
{
    put_file("mapped", "content");
    int fd;
    assert_ok(ap_file_open(in_folder("mapped"), &fd, err));
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    ap_file_stamp one, two;
    assert_ok(ap_file_stamp_of(fd, &one, err));
    ap_mapping mapping;
    assert_ok(ap_file_map(fd, &mapping, err));
    assert_int_equal(mapping.len, 7);
    assert_memory_equal(mapping.ptr, "content", 7);
    ap_file_unmap(&mapping);
    ap_file_unmap(&mapping);
    assert_ok(ap_file_stamp_of(fd, &two, err));
    assert_true(ap_file_stamp_equal(&one, &two));
    put_file("mapped", "more content");
    assert_ok(ap_file_stamp_of(fd, &two, err));
    assert_false(ap_file_stamp_equal(&one, &two));
    close(fd);
    put_file("mapped", "");
    assert_ok(ap_file_open(in_folder("mapped"), &fd, err));
    assert_int_equal(ap_file_map(fd, &mapping, NULL), AP_E_FORMAT);
    close(fd);
}

static void a_new_file_replaces_the_old_one_at_once(void **state)
{
    put_file("kept", "old");
    ap_file_new file;
    assert_ok(ap_file_new_begin(&file, in_folder("kept"), err));
    assert_ok(ap_file_write_all(file.fd, "new", 3, err));
    expect_content("kept", "old");
    assert_int_equal(entries(), file.has_name ? 2 : 1);
    assert_ok(ap_file_new_commit(&file, 0640, err));
    expect_content("kept", "new");
    assert_int_equal(entries(), 1);
    struct stat st;
    assert_int_equal(stat(in_folder("kept"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    ap_file_new_abort(&file); /* nothing is left to abort */
    expect_content("kept", "new");
}

static void an_abort_leaves_the_old_file_and_no_trace(void **state)
{
    put_file("kept", "old");
    ap_file_new file;
    assert_ok(ap_file_new_begin(&file, in_folder("kept"), err));
    assert_ok(ap_file_write_all(file.fd, "new", 3, err));
    ap_file_new_abort(&file);
    ap_file_new_abort(&file);
    expect_content("kept", "old");
    assert_int_equal(entries(), 1);
    /* A folder of that name cannot be replaced: the commit fails and cleans up. */
    assert_int_equal(mkdir(in_folder("taken"), 0700), 0);
    ap_error error = {0};
    assert_ok(ap_file_new_begin(&file, in_folder("taken"), err));
    assert_int_equal(ap_file_new_commit(&file, 0600, &error), AP_E_IO);
    assert_non_null(strstr(error.message, "taken"));
    assert_int_equal(entries(), 2);
    assert_int_equal(ap_file_new_begin(&file, in_folder("no/such/folder"), &error), AP_E_IO);
    ap_file_new_abort(&file);
    char longer[5000];
    memset(longer, 'a', sizeof longer);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(ap_file_new_begin(&file, longer, &error), AP_E_LIMIT);
    ap_file_new_abort(&file);
}

static void folders_are_made_with_those_above(void **state)
{
    assert_ok(ap_file_make_folders(in_folder("a/b//c/"), 0700, err));
    assert_ok(ap_file_make_folders(in_folder("a/b/c"), 0700, err));
    struct stat st;
    assert_int_equal(stat(in_folder("a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(ap_file_make_folders("", 0700, NULL), AP_E_LIMIT);
    put_file("plain", "");
    assert_int_equal(ap_file_make_folders(in_folder("plain/x"), 0700, NULL), AP_E_IO);
    assert_int_equal(rmdir(in_folder("a/b/c")), 0);
    assert_int_equal(rmdir(in_folder("a/b")), 0);
}

static void a_full_disk_is_an_error(void **state)
{
    int fd = open("/dev/full", O_WRONLY);
    if (fd < 0)
        skip();
    assert_int_equal(ap_file_write_all(fd, "x", 1, NULL), AP_E_IO);
    close(fd);
}

static ap_status read_it(void *context)
{
    ap_buf buf = {0};
    ap_status status = ap_file_read(in_folder("some"), 1000, &buf, NULL);
    assert_true(status == AP_OK || buf.ptr == NULL);
    ap_buf_deinit(&buf);
    return status;
}

static void the_end_of_memory_is_reported(void **state)
{
    put_file("some", "text");
    ap_test_each_oom(read_it, NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_read_whole_up_to_the_limit),
        TEST(what_is_no_regular_file_is_refused_by_kind),
        TEST(a_map_shows_the_bytes_and_the_stamp_their_change),
        TEST(a_new_file_replaces_the_old_one_at_once),
        TEST(an_abort_leaves_the_old_file_and_no_trace),
        TEST(folders_are_made_with_those_above),
        TEST(a_full_disk_is_an_error),
        TEST(the_end_of_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
