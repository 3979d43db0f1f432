/* SPDX-License-Identifier: Apache-2.0 */
#include "model/hf.h"

#include <stdio.h>

#include "base/alloc.h"
#include "format/shards.h"

enum { FILES_MAX = AP_SHARDS_MAX + 32, JSON_BYTES_MAX = 16 << 20, JSON_VALUES_MAX = 1 << 20 };

static ap_hf_file *find_file(const ap_hf_files *f, ap_str name)
{
    for (size_t i = 0; i < f->count; i++)
        if (ap_str_is(name, f->files[i].name))
            return &f->files[i];
    return NULL;
}

bool ap_hf_files_find(const ap_hf_files *f, const char *name, ap_str *bytes)
{
    const ap_hf_file *file = find_file(f, ap_str_from(name));
    if (file)
        *bytes = (ap_str){(const char *)file->map.ptr, (size_t)file->map.len};
    return file != NULL;
}

static ap_status read_json(const ap_hf_files *f, const char *name, json_type kind, json_t **root, ap_error *err)
{
    ap_str text;
    *root = NULL;
    if (!ap_hf_files_find(f, name, &text))
        return AP_OK;
    ap_status status = ap_json_parse(root, text, (ap_json_limits){JSON_BYTES_MAX, JSON_VALUES_MAX}, err);
    if (status == AP_OK && json_typeof(*root) != kind) {
        status = ap_fail(err, AP_E_FORMAT, "this is %s; an %s is needed", ap_json_kind_name(*root),
                         kind == JSON_OBJECT ? "object" : "array");
        json_decref(*root);
        *root = NULL;
    }
    if (status != AP_OK)
        ap_error_prefix(err, name);
    return status;
}

ap_status ap_hf_files_json(const ap_hf_files *f, const char *name, json_t **root, ap_error *err)
{
    return read_json(f, name, JSON_OBJECT, root, err);
}

ap_status ap_hf_files_list(const ap_hf_files *f, const char *name, json_t **root, ap_error *err)
{
    return read_json(f, name, JSON_ARRAY, root, err);
}

/* ---- Weights ---- */

static ap_status open_tensors(ap_hf_file *file, ap_error *err)
{
    ap_status status = file->tensors ? AP_OK : ap_safetensors_open(&file->tensors, file->map.ptr, file->map.len, err);
    if (status != AP_OK)
        ap_error_prefix(err, file->name);
    return status;
}

static ap_status reserve_weights(ap_hf_files *f, uint32_t count, ap_error *err)
{
    f->weights = ap_alloc_zero(count, sizeof *f->weights);
    if (!f->weights)
        return ap_fail_nomem(err, count * sizeof *f->weights);
    return ap_map_reserve(&f->weight_index, count, err);
}

/* Of a model that reads pictures too, the text part's tensors are called as if they stood alone, but for a prefix. */
static ap_str name_in_text_part(ap_str name)
{
    static const char *const prefixes[] = {"model.language_model.", "language_model."};
    for (size_t i = 0; i < 2; i++)
        if (ap_str_starts(name, ap_str_from(prefixes[i])))
            return (ap_str){name.ptr + strlen(prefixes[i]), name.len - strlen(prefixes[i])};
    return name;
}

static bool is_of_pictures(ap_str name)
{
    static const char *const prefixes[] = {"vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."};
    for (size_t i = 0; i < 4; i++)
        if (ap_str_starts(name, ap_str_from(prefixes[i])))
            return true;
    return false;
}

static ap_status add_weight(ap_hf_files *f, const ap_hf_file *file, const ap_safetensor *tensor, ap_error *err)
{
    ap_str name = name_in_text_part(tensor->name);
    if (is_of_pictures(name)) {
        f->has_pictures = true;
        return AP_OK;
    }
    f->weights[f->weight_count] = (ap_hf_weight){name, tensor, ap_safetensors_data(file->tensors, tensor), false};
    return ap_map_add(&f->weight_index, name, f->weight_count++, NULL, err);
}

static ap_status read_single(ap_hf_files *f, ap_hf_file *file, ap_error *err)
{
    AP_TRY(open_tensors(file, err));
    uint32_t count = ap_safetensors_count(file->tensors);
    AP_TRY(reserve_weights(f, count, err));
    for (uint32_t i = 0; i < count; i++)
        AP_TRY(add_weight(f, file, ap_safetensors_at(file->tensors, i), err));
    return AP_OK;
}

static int shown(ap_str name) { return (int)(name.len < 120 ? name.len : 120); }

/* The index is believed about where a tensor lies; that it lies there is checked. */
static ap_status read_shards(ap_hf_files *f, const ap_shards *shards, ap_error *err)
{
    ap_hf_file *files[AP_SHARDS_MAX];
    for (uint32_t i = 0; i < ap_shards_count(shards); i++) {
        ap_str name = ap_shards_name(shards, i);
        files[i] = find_file(f, name);
        if (!files[i])
            return ap_fail(err, AP_E_FORMAT, "the folder has no file '%.*s', which the index names", shown(name), name.ptr);
        AP_TRY(open_tensors(files[i], err));
    }
    AP_TRY(reserve_weights(f, ap_shards_tensor_count(shards), err));
    for (uint32_t i = 0; i < ap_shards_tensor_count(shards); i++) {
        uint32_t shard;
        ap_str name = ap_shards_tensor(shards, i, &shard);
        const ap_safetensor *tensor = ap_safetensors_find(files[shard]->tensors, name);
        if (!tensor)
            return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' is not in '%s', where the index says it is", shown(name), name.ptr,
                           files[shard]->name);
        AP_TRY(add_weight(f, files[shard], tensor, err));
    }
    return AP_OK;
}

static ap_status read_weights(ap_hf_files *f, ap_error *err)
{
    static const char index_name[] = "model.safetensors.index.json";
    ap_hf_file *single = find_file(f, AP_STR("model.safetensors"));
    if (single)
        return read_single(f, single, err);
    ap_str index;
    if (!ap_hf_files_find(f, index_name, &index))
        return ap_fail(err, AP_E_NOTFOUND, "the folder has neither model.safetensors nor %s", index_name);
    ap_shards *shards;
    ap_status status = ap_shards_open(&shards, index, err);
    if (status == AP_OK)
        status = read_shards(f, shards, err);
    else
        ap_error_prefix(err, index_name);
    ap_shards_close(&shards);
    return status;
}

ap_hf_weight *ap_hf_files_weight(const ap_hf_files *f, ap_str name)
{
    uint32_t index;
    return ap_map_get(&f->weight_index, name, &index) ? &f->weights[index] : NULL;
}

ap_status ap_hf_weight_check(const ap_hf_weight *w, uint32_t dim_count, const uint64_t *shape, ap_error *err)
{
    const ap_safetensor *t = w->tensor;
    char got[128] = "", wanted[128] = "";
    size_t used = 0;
    if (t->dim_count == dim_count && memcmp(t->dims, shape, dim_count * sizeof *shape) == 0)
        return AP_OK;
    for (uint32_t i = 0; i < t->dim_count && used < sizeof got - 24; i++)
        used += (size_t)snprintf(got + used, sizeof got - used, "%s%" PRIu64, i ? ", " : "", t->dims[i]);
    used = 0;
    for (uint32_t i = 0; i < dim_count; i++)
        used += (size_t)snprintf(wanted + used, sizeof wanted - used, "%s%" PRIu64, i ? ", " : "", shape[i]);
    return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' has the shape [%s]; [%s] is needed", shown(w->name), w->name.ptr, got, wanted);
}

/* ---- Opening ---- */

static ap_status map_files(ap_hf_files *f, const ap_import_file *files, size_t count, ap_error *err)
{
    for (size_t i = 0; i < count; i++) {
        ap_str name = ap_str_from(files[i].name);
        bool is_fine = ap_file_name_is_plain(name) || ap_str_is(name, AP_HF_POOLING_FILE);
        if (!is_fine || find_file(f, name))
            return ap_fail(err, AP_E_ARG, "'%.*s' is no plain name of a file, or is given twice", shown(name), name.ptr);
        ap_hf_file *file = &f->files[f->count++];
        file->name = files[i].name;
        ap_status status = ap_file_map(files[i].fd, &file->map, err);
        if (status != AP_OK) {
            ap_error_prefix(err, file->name);
            return status;
        }
        f->bytes += file->map.len;
    }
    return AP_OK;
}

ap_status ap_hf_files_open(ap_hf_files *out, const ap_import_file *files, size_t count, ap_error *err)
{
    *out = (ap_hf_files){0};
    if (count > FILES_MAX)
        return ap_fail(err, AP_E_LIMIT, "the folder has %zu files of a model; at most %d are allowed", count, FILES_MAX);
    out->files = ap_alloc_zero(count, sizeof *out->files);
    if (!out->files)
        return ap_fail_nomem(err, count * sizeof *out->files);
    ap_status status = map_files(out, files, count, err);
    if (status == AP_OK)
        status = read_weights(out, err);
    if (status != AP_OK)
        ap_hf_files_close(out);
    return status;
}

void ap_hf_files_close(ap_hf_files *f)
{
    for (size_t i = 0; i < f->count; i++) {
        ap_safetensors_close(&f->files[i].tensors);
        ap_file_unmap(&f->files[i].map);
    }
    ap_map_deinit(&f->weight_index);
    ap_free(f->weights);
    ap_free(f->files);
    *f = (ap_hf_files){0};
}
