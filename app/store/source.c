/* What people name by a path: one GGUF file, one of the parts of a split one (that means all of them), or a folder with
 * the files of one model.
 *
 * The front lists the folder, opens what a model can consist of, and hashes it; it reads no byte with a
 * meaning.  Names that a file of the model mentions are looked up among these by the worker and never opened.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "store/inside.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

/* So many descriptors a one-shot worker takes over. */
enum { FILES_MAX = 300 };

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), end_length = strlen(end);
    return length > end_length && strcmp(name + length - end_length, end) == 0;
}

static bool starts_with(const char *name, const char *start) { return strncmp(name, start, strlen(start)) == 0; }

/* ---- Which files of a folder ---- */

static bool is_weights(const char *name)
{
    /* "consolidated" repeats a model's weights under other names; an adapter is no model. */
    return ends_with(name, ".safetensors") && !starts_with(name, "consolidated") && !starts_with(name, "adapter_");
}

static bool is_pickle(const char *name)
{
    return ends_with(name, ".bin") || ends_with(name, ".pt") || ends_with(name, ".pth") || ends_with(name, ".ckpt");
}

/* How an embedding is made of the model's vectors stands in a folder of its own. */
static const char pooling_file[] = "1_Pooling/config.json";

bool ap_store_is_model_file(const char *path)
{
    static const char *const names[] = {
        "config.json", "generation_config.json", "modules.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer.model",
        "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "vocab.json",
        "merges.txt", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json", "tiktoken.model"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(path, names[i]) == 0)
            return true;
    return strcmp(path, pooling_file) == 0 || (!strchr(path, '/') && is_weights(path));
}

typedef struct found_names {
    char *names[FILES_MAX];
    size_t count;
    bool has_config, has_weights, has_single, has_gguf, has_adapter;
    char pickle[256]; /* one of them, or empty */
} found_names;

static void note_name(found_names *f, const char *name)
{
    f->has_config = f->has_config || strcmp(name, "config.json") == 0;
    f->has_adapter = f->has_adapter || strcmp(name, "adapter_config.json") == 0;
    f->has_single = f->has_single || strcmp(name, "model.safetensors") == 0;
    f->has_weights = f->has_weights || is_weights(name);
    f->has_gguf = f->has_gguf || ends_with(name, ".gguf");
    if (is_pickle(name))
        (void)snprintf(f->pickle, sizeof f->pickle, "%s", name);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static ap_status list_names(const char *path, found_names *f, ap_error *err)
{
    DIR *folder = opendir(path);
    if (!folder)
        return ap_fail(err, AP_E_IO, "the folder cannot be read: %s", strerror(errno));
    ap_status status = AP_OK;
    for (struct dirent *entry; status == AP_OK && (entry = readdir(folder));) {
        note_name(f, entry->d_name);
        if (!ap_store_is_model_file(entry->d_name))
            continue;
        if (f->count == FILES_MAX)
            status = ap_fail(err, AP_E_LIMIT, "the folder has more than %d files of a model", FILES_MAX);
        else if (!(f->names[f->count++] = ap_strndup(entry->d_name, strlen(entry->d_name))))
            status = ap_fail_nomem(err, strlen(entry->d_name));
    }
    closedir(folder);
    qsort(f->names, f->count - (status == AP_E_NOMEM), sizeof f->names[0], by_name);
    return status;
}

static ap_status check_names(const found_names *f, ap_error *err)
{
    if (!f->has_config && f->has_gguf)
        return ap_fail(err, AP_E_NOTFOUND, "the folder has no config.json; of the GGUF files in it name one");
    if (!f->has_config && f->has_adapter)
        return ap_fail(err, AP_E_UNSUPPORTED, "the folder holds an adapter and no model: it has adapter_config.json and no config.json; give it with --adapter beside its model");
    if (!f->has_config)
        return ap_fail(err, AP_E_NOTFOUND, "the folder holds no model: it has no config.json");
    if (!f->has_weights && f->pickle[0])
        return ap_fail(err, AP_E_UNSUPPORTED, "the weights are in '%.100s', a pickle file: reading one can run code that is hidden in it, "
                       "so it is never read; convert the weights to safetensors, or take a version of the model that has them", f->pickle);
    if (!f->has_weights)
        return ap_fail(err, AP_E_NOTFOUND, "the folder has no weights: no file in it ends in .safetensors");
    return AP_OK;
}

/* ---- Opening ---- */

static ap_status add_file(ap_store_source *s, const char *path, char *take_name, ap_error *err)
{
    s->files[s->count].name = take_name;
    return ap_file_open(path, &s->fds[s->count++], err);
}

/* If it is there. */
static ap_status add_other(ap_store_source *s, const char *path, const char *name, ap_error *err)
{
    char full[AP_STORE_PATH_ROOM];
    if (snprintf(full, sizeof full, "%s/%s", path, name) >= (int)sizeof full)
        return ap_fail(err, AP_E_LIMIT, "the path is longer than %zu bytes", sizeof full - 1);
    if (access(full, F_OK) != 0)
        return AP_OK;
    if (s->count == FILES_MAX)
        return ap_fail(err, AP_E_LIMIT, "the folder has more than %d files of a model", FILES_MAX);
    char *copy = ap_strndup(name, strlen(name));
    return copy ? add_file(s, full, copy, err) : ap_fail_nomem(err, strlen(name));
}

static ap_status open_folder(ap_store_source *s, const char *path, found_names *f, ap_error *err)
{
    AP_TRY(list_names(path, f, err));
    AP_TRY(check_names(f, err));
    for (size_t i = 0; i < f->count; i++) {
        char full[AP_STORE_PATH_ROOM];
        if (f->has_single && is_weights(f->names[i]) && strcmp(f->names[i], "model.safetensors") != 0)
            continue; /* the one file has all weights */
        if (snprintf(full, sizeof full, "%s/%s", path, f->names[i]) >= (int)sizeof full)
            return ap_fail(err, AP_E_LIMIT, "the path is longer than %zu bytes", sizeof full - 1);
        char *name = f->names[i];
        f->names[i] = NULL; /* the source's from now on */
        AP_TRY(add_file(s, full, name, err));
    }
    return add_other(s, path, pooling_file, err);
}

/* NAME-00001-of-00003.gguf: how many parts there are; 0 if the name says nothing of parts. */
static unsigned parts_of_name(const char *path, size_t *stem)
{
    static const char pattern[] = "-00000-of-00000.gguf"; /* 0: any digit */
    size_t length = strlen(path);
    if (length < sizeof pattern)
        return 0;
    *stem = length - (sizeof pattern - 1);
    for (size_t i = 0; i < sizeof pattern - 1; i++) {
        char c = path[*stem + i];
        if (pattern[i] == '0' ? c < '0' || c > '9' : c != pattern[i])
            return 0;
    }
    return (unsigned)strtoul(path + *stem + sizeof "-00000-of-" - 1, NULL, 10);
}

static ap_status open_parts(ap_store_source *s, const char *path, size_t stem, unsigned count, ap_error *err)
{
    if (count > FILES_MAX)
        return ap_fail(err, AP_E_LIMIT, "a model in %u parts; at most %d are read", count, FILES_MAX);
    for (unsigned i = 1; i <= count; i++) {
        char part[AP_STORE_PATH_ROOM];
        if (snprintf(part, sizeof part, "%.*s-%05u-of-%05u.gguf", (int)stem, path, i, count) >= (int)sizeof part)
            return ap_fail(err, AP_E_LIMIT, "the path is longer than %zu bytes", sizeof part - 1);
        const char *slash = strrchr(part, '/');
        const char *plain = slash ? slash + 1 : part;
        char *name = ap_strndup(plain, strlen(plain));
        if (!name)
            return ap_fail_nomem(err, strlen(plain));
        AP_TRY(add_file(s, part, name, err));
    }
    return AP_OK;
}

static ap_status open_files(ap_store_source *s, const char *path, unsigned parts, size_t stem, ap_error *err)
{
    found_names *names;
    size_t room = s->is_many ? FILES_MAX : 1;
    s->files = ap_alloc_zero(room, sizeof *s->files);
    s->fds = ap_alloc_zero(room, sizeof *s->fds);
    if (!s->files || !s->fds)
        return ap_fail_nomem(err, room * sizeof *s->files);
    if (parts > 1)
        return open_parts(s, path, stem, parts, err);
    if (!s->is_many)
        return add_file(s, path, NULL, err);
    names = ap_alloc_zero(1, sizeof *names);
    if (!names)
        return ap_fail_nomem(err, sizeof *names);
    ap_status status = open_folder(s, path, names, err);
    for (size_t i = 0; i < names->count; i++)
        ap_free(names->names[i]);
    ap_free(names);
    return status;
}

ap_status ap_store_source_open(ap_store_source *out, const char *path, ap_error *err)
{
    struct stat st;
    size_t stem = 0;
    bool is_folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    unsigned parts = is_folder ? 0 : parts_of_name(path, &stem);
    *out = (ap_store_source){.is_many = is_folder || parts > 1};
    ap_status status = open_files(out, path, parts, stem, err);
    for (size_t i = 0; i < out->count; i++)
        out->files[i].fd = out->fds[i];
    if (status == AP_OK && !is_folder && fstat(out->fds[0], &st) != 0) /* of parts the first stands for all */
        status = ap_fail(err, AP_E_IO, "the file cannot be looked at: %s", strerror(errno));
    if (status == AP_OK)
        status = ap_store_source_stamp(out, &out->stamp, err);
    if (status == AP_OK && out->is_many) {
        out->stamp.device = st.st_dev;
        out->stamp.inode = st.st_ino;
    }
    if (status != AP_OK)
        ap_store_source_close(out);
    return status;
}

ap_status ap_store_source_add_card(ap_store_source *s, const char *path, ap_error *err)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return AP_OK;
    size_t before = s->count;
    AP_TRY(add_other(s, path, "README.md", err));
    if (s->count > before)
        s->files[before].fd = s->fds[before];
    return AP_OK;
}

void ap_store_source_close(ap_store_source *s)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->fds[i] >= 0)
            close(s->fds[i]);
        ap_free((char *)s->files[i].name);
    }
    ap_free(s->files);
    ap_free(s->fds);
    *s = (ap_store_source){0};
}

/* ---- What it is made of ---- */

/* Of several files: their place, all bytes, and for the times a digest of the names and stamps of its files. */
ap_status ap_store_source_stamp(const ap_store_source *s, ap_file_stamp *stamp, ap_error *err)
{
    if (!s->is_many)
        return ap_file_stamp_of(s->fds[0], stamp, err);
    ap_hash hash;
    ap_file_stamp one;
    char hex[AP_HASH_HEX];
    *stamp = (ap_file_stamp){.device = s->stamp.device, .inode = s->stamp.inode};
    ap_hash_begin(&hash, AP_HASH_BLAKE2B);
    for (size_t i = 0; i < s->count; i++) {
        AP_TRY(ap_file_stamp_of(s->fds[i], &one, err));
        stamp->bytes += one.bytes;
        ap_hash_add(&hash, s->files[i].name, strlen(s->files[i].name) + 1);
        ap_hash_add(&hash, &one, sizeof one);
    }
    ap_hash_end(&hash, hex);
    hex[30] = 0; /* two numbers of 60 bits: positive, as times are */
    stamp->changed_ns = (int64_t)strtoull(hex + 15, NULL, 16);
    hex[15] = 0;
    stamp->modified_ns = (int64_t)strtoull(hex, NULL, 16);
    return AP_OK;
}

typedef struct part {
    ap_progress *progress;
    void *context;
    uint64_t before, total;
} part;

static void report_part(void *context, uint64_t done, uint64_t total)
{
    part *p = context;
    if (p->progress)
        p->progress(p->context, p->before + done, p->total);
}

ap_status ap_store_source_hash(const ap_store_source *s, char sha256[AP_HASH_HEX], ap_progress *progress, void *context, ap_error *err)
{
    part p = {.progress = progress, .context = context, .total = s->stamp.bytes};
    if (!s->is_many)
        return ap_hash_file(s->fds[0], AP_HASH_SHA256, sha256, report_part, &p, err);
    ap_hash hash;
    ap_hash_begin(&hash, AP_HASH_SHA256);
    for (size_t i = 0; i < s->count; i++) {
        ap_file_stamp stamp;
        char hex[AP_HASH_HEX];
        AP_TRY(ap_file_stamp_of(s->fds[i], &stamp, err));
        AP_TRY(ap_hash_file(s->fds[i], AP_HASH_SHA256, hex, report_part, &p, err));
        p.before += stamp.bytes;
        /* A line as the tool sha256sum prints it. */
        ap_hash_add(&hash, hex, strlen(hex));
        ap_hash_add(&hash, "  ", 2);
        ap_hash_add(&hash, s->files[i].name, strlen(s->files[i].name));
        ap_hash_add(&hash, "\n", 1);
    }
    ap_hash_end(&hash, sha256);
    return AP_OK;
}

ap_status ap_store_source_sha256(const char *path, char sha256[AP_HASH_HEX], ap_progress *progress, void *context, ap_error *err)
{
    ap_store_source source;
    AP_TRY(ap_store_source_open(&source, path, err));
    ap_status status = ap_store_source_hash(&source, sha256, progress, context, err);
    ap_store_source_close(&source);
    return status;
}
