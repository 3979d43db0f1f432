/* SPDX-License-Identifier: Apache-2.0 */
#include "store_case.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tiny_model.h"

char folder[] = "/tmp/aperto-store-XXXXXX", data[256], first[256], second[256];

const char *at(const char *format, const char *part)
{
    static char paths[4][1024];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    (void)snprintf(path, sizeof paths[0], format, part);
    return path;
}

const char *in_data(const char *part) { return at(at("%s/models/%%s", data), part); }

void write_file(const char *path, const char *bytes, size_t count)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, count), count);
    close(fd);
}

void write_model(const char *path, uint64_t seed)
{
    const ap_tiny_model tiny = {.seed = seed, .width = 64, .ffn = 128, .heads = 2, .kv_heads = 1, .layers = 1};
    ap_buf bytes = {0};
    ap_tiny_model_write(&tiny, &bytes);
    write_file(path, bytes.ptr, bytes.len);
    ap_buf_deinit(&bytes);
}

unsigned count_files(const char *part, const char *word)
{
    unsigned count = 0;
    DIR *dir = opendir(in_data(part));
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));)
        count += d->d_name[0] != '.' && strstr(d->d_name, word);
    closedir(dir);
    return count;
}

const char *blob_of(const ap_store_entry *entry) { return in_data(at("blobs/%s.aperto", entry->digest)); }

ap_store *open_store(void)
{
    ap_store *store;
    assert_ok(ap_store_open(&store, data, AP_SANDBOX_FULL, err));
    return store;
}

ap_store_entry import(ap_store *store, const char *path, const char *name)
{
    ap_store_entry entry;
    assert_ok(ap_store_import(store, path, NULL, name, NULL, NULL, &entry, err));
    return entry;
}

void remove_tree(const char *path)
{
    char command[1200];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", path);
    assert_int_equal(system(command), 0);
}

int make_models(void **state)
{
    assert_non_null(mkdtemp(folder));
    (void)snprintf(data, sizeof data, "%s/data", folder);
    (void)snprintf(first, sizeof first, "%s/First Model.Q4.gguf", folder);
    (void)snprintf(second, sizeof second, "%s/second.gguf", folder);
    return 0;
}

int remove_models(void **state)
{
    remove_tree(folder);
    return 0;
}

int begin(void **state)
{
    remove_tree(data);
    write_model(first, 1);
    write_model(second, 2);
    return 0;
}
