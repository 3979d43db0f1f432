/* Which files of a repository make the model that was asked for.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/alloc.h"
#include "fetch/hub.h"

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);
    return length > end_length && strcasecmp(text + length - end_length, end) == 0;
}

/* ---- GGUF files ---- */

/* One model: a file, or the parts of a split one. */
typedef struct gguf {
    const ap_hub_file *file; /* the first part */
    size_t stem;             /* length of the path without "-00001-of-00003" and ".gguf" */
    unsigned part, count;    /* 1 of 1 if not split */
    uint64_t bytes;          /* of all parts */
} gguf;

static bool read_split(const char *path, size_t stem, unsigned *part, unsigned *count)
{
    static const char pattern[] = "-00000-of-00000"; /* 0: any digit */
    size_t length = sizeof pattern - 1;
    if (stem <= length)
        return false;
    const char *at = path + stem - length;
    for (size_t i = 0; i < length; i++)
        if (pattern[i] == '0' ? at[i] < '0' || at[i] > '9' : at[i] != pattern[i])
            return false;
    *part = (unsigned)strtoul(at + 1, NULL, 10);
    *count = (unsigned)strtoul(at + 10, NULL, 10);
    return *count > 1;
}

static bool read_gguf(const ap_hub_file *file, gguf *out)
{
    const char *name = ap_hub_plain_name(file);
    /* A projector for pictures and a table of importances are no models. */
    if (!ends_with(file->path, ".gguf") || strcasestr(name, "mmproj") || strcasestr(name, "imatrix"))
        return false;
    *out = (gguf){.file = file, .stem = strlen(file->path) - 5, .part = 1, .count = 1, .bytes = file->bytes};
    if (read_split(file->path, out->stem, &out->part, &out->count))
        out->stem -= sizeof "-00001-of-00003" - 1;
    return true;
}

static bool is_same_model(const gguf *a, const gguf *b)
{
    return a->stem == b->stem && a->count == b->count && strncmp(a->file->path, b->file->path, a->stem) == 0;
}

/* All GGUF models of a tree, the smallest first; freed with ap_free. */
static int by_bytes(const void *a, const void *b)
{
    const gguf *x = a, *y = b;
    return x->bytes != y->bytes ? (x->bytes < y->bytes ? -1 : 1) : strcmp(x->file->path, y->file->path);
}

static int by_stem(const void *a, const void *b)
{
    const gguf *x = a, *y = b;
    return strcmp(x->file->path, y->file->path); /* the parts of one model stand together, in order */
}

static ap_status list_ggufs(const ap_hub_tree *tree, gguf **out, size_t *count, ap_error *err)
{
    gguf *all = ap_alloc_array(tree->count + 1, sizeof *all);
    size_t n = 0, models = 0;
    if (!all)
        return ap_fail_nomem(err, tree->count * sizeof *all);
    for (size_t i = 0; i < tree->count; i++)
        n += read_gguf(&tree->files[i], &all[n]);
    qsort(all, n, sizeof *all, by_stem);
    for (size_t i = 0; i < n; i++) {
        if (models && is_same_model(&all[models - 1], &all[i]))
            all[models - 1].bytes += all[i].bytes;
        else
            all[models++] = all[i];
    }
    qsort(all, models, sizeof *all, by_bytes);
    *out = all;
    *count = models;
    return AP_OK;
}

/* Whether the name ends in a quantisation, after one of -._ or a folder of that name. */
static bool has_quantization(const gguf *g, const char *wanted)
{
    size_t length = strlen(wanted), letters = strcspn(wanted, "0123456789");
    if (letters == 0 || letters == length) /* half of one: "K_M", "0" */
        return false;
    if (length >= g->stem)
        return g->stem == length && strncasecmp(g->file->path, wanted, length) == 0;
    const char *at = g->file->path + g->stem - length;
    return strncasecmp(at, wanted, length) == 0 && strchr("-._/", at[-1]);
}

/* What to write after the colon for this one: the last word of its name if that looks like a quantisation. */
static ap_str short_name(const gguf *g)
{
    const char *path = g->file->path;
    size_t start = g->stem;
    while (start > 0 && !strchr("-./", path[start - 1]))
        start--;
    ap_str word = {path + start, g->stem - start};
    size_t digits = strcspn(word.ptr, "0123456789");
    bool is_type = digits < word.len && digits >= 1 && digits <= 5 && strchr("QqIiFfBbTtMm", word.ptr[0]);
    return is_type ? word : ap_str_from(path);
}

static ap_status refuse_with_list(const ap_hub_source *source, const gguf *models, size_t count, const char *wanted, bool has_folder, ap_error *err)
{
    enum { LIST_ROOM = 300 };
    char list[LIST_ROOM] = "";
    size_t length = 0, shown = 0;
    for (; shown < count; shown++) {
        if (wanted && !has_quantization(&models[shown], wanted))
            continue;
        ap_str name = wanted ? ap_str_from(models[shown].file->path) : short_name(&models[shown]);
        char one[AP_HUB_PATH_MAX + 32];
        int n = snprintf(one, sizeof one, "%s%.*s (%.*f GB)", length ? ", " : "", (int)name.len, name.ptr, models[shown].bytes < 1e8 ? 3 : 1,
                         (double)models[shown].bytes / 1e9);
        if (length + (size_t)n + 20 >= sizeof list)
            break;
        memcpy(list + length, one, (size_t)n + 1);
        length += (size_t)n;
    }
    if (shown < count && length)
        (void)snprintf(list + length, sizeof list - length, " and %zu more", count - shown);
    return ap_fail(err, AP_E_ARG, "'%s' has several models%s: name one, as in hf:%s:%.*s: %s", source->repo,
                   has_folder ? ", one as safetensors (':safetensors')" : "", source->repo, (int)short_name(&models[0]).len,
                   short_name(&models[0]).ptr, list);
}

static ap_status refuse_unknown(const ap_hub_source *source, const gguf *models, size_t count, ap_error *err)
{
    if (ends_with(source->file, ".bin") || ends_with(source->file, ".pt") || ends_with(source->file, ".pth") || ends_with(source->file, ".ckpt"))
        return ap_fail(err, AP_E_UNSUPPORTED, "'%.100s' is a pickle file: reading one can run code that is hidden in it, so it is never read; "
                       "take a GGUF file or safetensors", source->file);
    if (ends_with(source->file, ".safetensors") || ends_with(source->file, ".json"))
        return ap_fail(err, AP_E_ARG, "'%.100s' alone is no model; for the whole folder write hf:%s:safetensors", source->file, source->repo);
    if (count == 0)
        return ap_fail(err, AP_E_NOTFOUND, "'%s' has no GGUF files, so there is nothing to choose by '%.100s'; write hf:%s", source->repo,
                       source->file, source->repo);
    ap_error list;
    (void)refuse_with_list(source, models, count, NULL, false, &list);
    const char *names = strrchr(list.message, ':');
    return ap_fail(err, AP_E_NOTFOUND, "'%s' has no GGUF file '%.100s'; there are%s", source->repo, source->file, names ? names : " others");
}

static ap_status find_gguf(const ap_hub_source *source, const gguf *models, size_t count, const gguf **out, ap_error *err)
{
    size_t matches = 0;
    for (size_t i = 0; i < count; i++) {
        ap_hub_file named = {.path = source->file};
        gguf asked;
        if (read_gguf(&named, &asked) && is_same_model(&asked, &models[i])) {
            *out = &models[i];
            return AP_OK;
        }
        if (has_quantization(&models[i], source->file)) {
            *out = &models[i];
            matches++;
        }
    }
    if (matches == 1)
        return AP_OK;
    return matches ? refuse_with_list(source, models, count, source->file, false, err) : refuse_unknown(source, models, count, err);
}

static int by_path(const void *a, const void *b)
{
    const ap_hub_file *const *x = a, *const *y = b;
    return strcmp((*x)->path, (*y)->path);
}

static ap_status take_gguf(const ap_hub_tree *tree, const gguf *model, ap_hub_choice *out, ap_error *err)
{
    if (model->count > AP_HUB_CHOSEN_MAX)
        return ap_fail(err, AP_E_LIMIT, "'%.100s' has %u parts; at most %d are read", model->file->path, model->count, AP_HUB_CHOSEN_MAX);
    for (size_t i = 0; i < tree->count; i++) {
        gguf one;
        if (!read_gguf(&tree->files[i], &one) || !is_same_model(&one, model))
            continue;
        if (out->count == model->count)
            return ap_fail(err, AP_E_INTEGRITY, "'%.100s' is there twice", one.file->path);
        out->files[out->count++] = one.file;
    }
    qsort(out->files, out->count, sizeof out->files[0], by_path);
    for (size_t i = 0; i < out->count; i++) {
        gguf one;
        (void)read_gguf(out->files[i], &one);
        if (one.part != i + 1)
            return ap_fail(err, AP_E_NOTFOUND, "part %zu of %u of '%.100s' is missing", i + 1, model->count, model->file->path);
    }
    if (out->count != model->count)
        return ap_fail(err, AP_E_NOTFOUND, "part %zu of %u of '%.100s' is missing", out->count + 1, model->count, model->file->path);
    return AP_OK;
}

/* ---- Folders ---- */

static bool is_weights(const char *path) { return ends_with(path, ".safetensors"); }

static bool has_folder(const ap_hub_tree *tree, bool (*is_model_file)(const char *path))
{
    bool has_config = false, has_weights = false;
    for (size_t i = 0; i < tree->count; i++) {
        const char *path = tree->files[i].path;
        has_config = has_config || strcmp(path, "config.json") == 0;
        has_weights = has_weights || (is_weights(path) && is_model_file(path));
    }
    return has_config && has_weights;
}

static ap_status take_folder(const ap_hub_tree *tree, const ap_hub_source *source, bool (*is_model_file)(const char *path),
                             ap_hub_choice *out, ap_error *err)
{
    bool has_single = false;
    out->is_folder = true;
    for (size_t i = 0; i < tree->count; i++)
        has_single = has_single || strcmp(tree->files[i].path, "model.safetensors") == 0;
    for (size_t i = 0; i < tree->count; i++) {
        const char *path = tree->files[i].path;
        if (!is_model_file(path) || (has_single && is_weights(path) && strcmp(path, "model.safetensors") != 0))
            continue;
        if (out->count == AP_HUB_CHOSEN_MAX)
            return ap_fail(err, AP_E_LIMIT, "'%s' has more than %d files of a model, which is the limit", source->repo, AP_HUB_CHOSEN_MAX);
        out->files[out->count++] = &tree->files[i];
    }
    qsort(out->files, out->count, sizeof out->files[0], by_path);
    for (size_t i = 1; i < out->count; i++)
        if (strcmp(out->files[i]->path, out->files[i - 1]->path) == 0)
            return ap_fail(err, AP_E_INTEGRITY, "'%.100s' is there twice", out->files[i]->path);
    return AP_OK;
}

static ap_status refuse_nothing(const ap_hub_tree *tree, const ap_hub_source *source, ap_error *err)
{
    const char *pickle = NULL;
    bool has_adapter = false;
    for (size_t i = 0; i < tree->count; i++) {
        const char *path = tree->files[i].path;
        if (ends_with(path, ".bin") || ends_with(path, ".pt") || ends_with(path, ".pth") || ends_with(path, ".ckpt"))
            pickle = path;
        has_adapter = has_adapter || strcmp(path, "adapter_config.json") == 0;
    }
    if (has_adapter)
        return ap_fail(err, AP_E_UNSUPPORTED, "'%s' holds an adapter and no model", source->repo);
    if (pickle)
        return ap_fail(err, AP_E_UNSUPPORTED, "the weights of '%s' are in '%.100s', a pickle file: reading one can run code that is hidden in it, so "
                       "it is never read; take a repository that has safetensors or GGUF files", source->repo, pickle);
    return ap_fail(err, AP_E_NOTFOUND, "'%s' holds no model: neither a GGUF file nor config.json with *.safetensors", source->repo);
}

/* ---- Both ---- */

static ap_status choose(const ap_hub_tree *tree, const ap_hub_source *source, bool (*is_model_file)(const char *path), const gguf *models,
                        size_t count, ap_hub_choice *out, ap_error *err)
{
    const gguf *model = models;
    bool is_folder = has_folder(tree, is_model_file), wants_folder = strcmp(source->file, "safetensors") == 0;
    if (wants_folder && !is_folder)
        return ap_fail(err, AP_E_NOTFOUND, "'%s' has no model in safetensors (config.json and *.safetensors)", source->repo);
    if (wants_folder || (!source->file[0] && is_folder && count == 0))
        return take_folder(tree, source, is_model_file, out, err);
    if (source->file[0])
        AP_TRY(find_gguf(source, models, count, &model, err));
    else if (count == 0)
        return refuse_nothing(tree, source, err);
    else if (count > 1 || is_folder)
        return refuse_with_list(source, models, count, NULL, is_folder, err);
    return take_gguf(tree, model, out, err);
}

ap_status ap_hub_choose(const ap_hub_tree *tree, const ap_hub_source *source, bool (*is_model_file)(const char *path),
                        ap_hub_choice *out, ap_error *err)
{
    gguf *models = NULL;
    size_t count = 0;
    *out = (ap_hub_choice){0};
    AP_TRY(list_ggufs(tree, &models, &count, err));
    ap_status status = choose(tree, source, is_model_file, models, count, out, err);
    ap_free(models);
    AP_TRY(status);
    ap_hash hash;
    ap_hash_begin(&hash, AP_HASH_SHA256);
    for (size_t i = 0; i < out->count; i++) {
        const ap_hub_file *f = out->files[i];
        out->bytes += f->bytes; /* at most 300 times 2^44 */
        ap_hash_add(&hash, f->sha256[0] ? f->sha256 : f->sha1, f->sha256[0] ? 64 : 40);
        const char *name = out->is_folder ? f->path : ap_hub_plain_name(f); /* as it will lie here */
        ap_hash_add(&hash, name, strlen(name) + 1);
    }
    ap_hash_end(&hash, out->digest);
    return AP_OK;
}
