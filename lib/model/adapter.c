/* SPDX-License-Identifier: Apache-2.0 */
#include "model/adapter.h"

#include <stdio.h>

#include "base/alloc.h"
#include "model/hf.h"
#include "model/model.h"

enum { NAME_ROOM = 200 };

struct ap_adapter {
    const ap_model *model;
    ap_lora *loras; /* [layer][role]; no panels: none */
    uint32_t rank;
};

/* A tensor of either file, as rows of columns. */
typedef struct tensor {
    ap_str name;
    ap_type type;
    uint64_t rows, columns;
    const unsigned char *data;
    bool is_used;
} tensor;

/* While reading. */
typedef struct reader {
    ap_adapter *adapter;
    ap_mapping weights, config;
    ap_safetensors *safetensors;
    ap_gguf *gguf; /* or this */
    ap_adapter_config settings;
    float alpha; /* of a GGUF file; 0: the scale is 1 */
    tensor *tensors;
    uint32_t count;
    ap_map index;
} reader;

/* ---- Tensors ---- */

static int shown(ap_str name) { return (int)(name.len < 150 ? name.len : 150); }

static ap_status reserve(reader *r, uint32_t count, ap_error *err)
{
    if (count == 0)
        return ap_fail(err, AP_E_FORMAT, "the adapter has no tensors");
    r->tensors = ap_alloc_zero(count, sizeof *r->tensors);
    if (!r->tensors)
        return ap_fail_nomem(err, count * sizeof *r->tensors);
    return ap_map_reserve(&r->index, count, err);
}

static ap_status add(reader *r, tensor t, ap_error *err)
{
    r->tensors[r->count] = t;
    return ap_map_add(&r->index, t.name, r->count++, NULL, err);
}

static ap_status list_safetensors(reader *r, ap_error *err)
{
    AP_TRY(ap_safetensors_open(&r->safetensors, r->weights.ptr, r->weights.len, err));
    uint32_t count = ap_safetensors_count(r->safetensors);
    AP_TRY(reserve(r, count, err));
    for (uint32_t i = 0; i < count; i++) {
        const ap_safetensor *t = ap_safetensors_at(r->safetensors, i);
        bool is_matrix = t->dim_count == 2;
        tensor one = {.name = t->name, .rows = is_matrix ? t->dims[0] : 0, .columns = is_matrix ? t->dims[1] : 0,
                      .data = ap_safetensors_data(r->safetensors, t)};
        switch ((int)t->dtype) {
        case AP_DTYPE_F32: one.type = AP_TYPE_F32; break;
        case AP_DTYPE_F16: one.type = AP_TYPE_F16; break;
        case AP_DTYPE_BF16: one.type = AP_TYPE_BF16; break;
        default:
            return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' has the type %s; F32, F16 and BF16 are read", shown(t->name), t->name.ptr,
                           ap_dtype_name(t->dtype));
        }
        AP_TRY(add(r, one, err));
    }
    return AP_OK;
}

static ap_status list_gguf(reader *r, ap_error *err)
{
    uint32_t count = ap_gguf_tensor_count(r->gguf);
    AP_TRY(reserve(r, count, err));
    for (uint32_t i = 0; i < count; i++) {
        const ap_gguf_tensor *t = ap_gguf_tensor_at(r->gguf, i);
        if (!ap_quant_decodes(t->type))
            return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' has the type %s, which this release cannot run", shown(t->name), t->name.ptr,
                           ap_type_info_of(t->type)->name);
        bool is_matrix = t->dim_count <= 2;
        AP_TRY(add(r, (tensor){.name = t->name, .type = t->type, .rows = is_matrix ? t->dims[1] : 0, .columns = is_matrix ? t->dims[0] : 0,
                               .data = ap_gguf_data(r->gguf, t)}, err));
    }
    return AP_OK;
}

static tensor *find(const reader *r, const char *name)
{
    uint32_t index;
    return ap_map_get(&r->index, ap_str_from(name), &index) ? &r->tensors[index] : NULL;
}

/* Both or none: *a is NULL then. */
static ap_status find_pair(const reader *r, const char *stem, const char *end_a, const char *end_b, tensor **a, tensor **b, ap_error *err)
{
    char name_a[NAME_ROOM], name_b[NAME_ROOM];
    (void)snprintf(name_a, sizeof name_a, "%s%s", stem, end_a);
    (void)snprintf(name_b, sizeof name_b, "%s%s", stem, end_b);
    *a = find(r, name_a);
    *b = find(r, name_b);
    if (!*a != !*b)
        return ap_fail(err, AP_E_FORMAT, "tensor '%s' is missing", *a ? name_b : name_a);
    return AP_OK;
}

/* ---- One matrix ---- */

static ap_status check_shape(const tensor *t, uint64_t rows, uint64_t columns, ap_error *err)
{
    if (t->rows == rows && t->columns == columns)
        return AP_OK;
    return ap_fail(err, AP_E_FORMAT, "tensor '%.*s' has %" PRIu64 " rows of %" PRIu64 "; this model needs %" PRIu64 " of %" PRIu64,
                   shown(t->name), t->name.ptr, t->rows, t->columns, rows, columns);
}

static void read_row(const tensor *t, uint64_t row, float *out)
{
    ap_decode(t->type, t->data + row * ap_row_bytes(t->type, (uint32_t)t->columns), (size_t)t->columns, out);
}

/* A into panels, B turned; row r of the model's matrix is row span(r) of B. */
static ap_status keep(reader *r, const ap_wanted *w, const tensor *a, const tensor *b, const ap_hf_span *span, float scale, ap_error *err)
{
    ap_adapter *adapter = r->adapter;
    ap_lora *lora = &adapter->loras[(size_t)w->layer * AP_ROLE_COUNT + w->rule->role];
    uint32_t rank = (uint32_t)a->rows, columns = w->columns, rows = w->rows;
    uint64_t bytes;
    AP_TRY(ap_pack_bytes(AP_TYPE_F32, rank, columns, &bytes, err));
    unsigned char *panels = ap_alloc_aligned((size_t)bytes);
    float *decoded = ap_alloc_array((size_t)AP_PANEL_ROWS * columns, sizeof *decoded);
    float *row_of_b = ap_alloc_array(rank, sizeof *row_of_b);
    lora->a = (ap_matrix){.type = AP_TYPE_F32, .rows = rank, .cols = columns, .panels = panels};
    lora->b = ap_alloc_array((size_t)rank * rows, sizeof *lora->b);
    lora->rows = rows;
    lora->scale = scale;
    bool has_all = panels && decoded && row_of_b && lora->b;
    for (uint32_t first = 0; has_all && first < rank; first += AP_PANEL_ROWS) {
        uint32_t count = rank - first < AP_PANEL_ROWS ? rank - first : AP_PANEL_ROWS;
        for (uint32_t i = 0; i < count; i++)
            read_row(a, first + i, decoded + (size_t)i * columns);
        ap_pack_rows(AP_TYPE_F32, columns, count, (const unsigned char *)decoded,
                     panels + first / AP_PANEL_ROWS * ap_panel_bytes(AP_TYPE_F32, columns));
    }
    for (uint32_t row = 0; has_all && row < rows; row++) {
        read_row(b, ap_hf_span_row(span, &adapter->model->sizes, row), row_of_b);
        for (uint32_t i = 0; i < rank; i++)
            lora->b[(size_t)i * rows + row] = row_of_b[i];
    }
    ap_free(decoded);
    ap_free(row_of_b);
    adapter->rank = rank > adapter->rank ? rank : adapter->rank;
    return has_all ? AP_OK : ap_fail_nomem(err, (size_t)bytes);
}

static ap_status check_pair(const ap_wanted *w, const tensor *a, const tensor *b, uint64_t all_rows, ap_error *err)
{
    if (a->rows == 0 || a->rows > AP_LORA_RANK_MAX)
        return ap_fail(err, AP_E_LIMIT, "tensor '%.*s' has rank %" PRIu64 "; allowed are 1 to %d", shown(a->name), a->name.ptr, a->rows,
                       AP_LORA_RANK_MAX);
    AP_TRY(check_shape(a, a->rows, w->columns, err));
    return check_shape(b, all_rows, a->rows, err);
}

/* "model.layers.3.self_attn.q_proj" of "self_attn.q_proj.weight". */
static bool write_module(const ap_arch *arch, const ap_wanted *w, ap_str rest, char module[NAME_ROOM])
{
    static const char end[] = ".weight";
    if (rest.len < sizeof end || memcmp(rest.ptr + rest.len - (sizeof end - 1), end, sizeof end - 1) != 0)
        return false;
    (void)snprintf(module, NAME_ROOM, "%s%u.%.*s", arch->hf.layers, w->layer, (int)(rest.len - (sizeof end - 1)), rest.ptr);
    return true;
}

static ap_status claim_peft(reader *r, const ap_wanted *w, ap_error *err)
{
    ap_str rest;
    for (unsigned i = 0; ap_hf_alternative(w->rule->hf_name, i, &rest); i++) {
        char module[NAME_ROOM], stem[NAME_ROOM];
        tensor *a, *b;
        float scale;
        if (!write_module(r->adapter->model->arch, w, rest, module))
            continue;
        (void)snprintf(stem, sizeof stem, "base_model.model.%.150s", module);
        AP_TRY(find_pair(r, stem, ".lora_A.weight", ".lora_B.weight", &a, &b, err));
        if (!a)
            continue;
        ap_hf_span span = ap_hf_span_of(w, &r->adapter->model->sizes);
        a->is_used = b->is_used = true;
        AP_TRY(check_pair(w, a, b, span.all, err));
        ap_status status = ap_adapter_config_scale(&r->settings, module, (uint32_t)a->rows, &scale, err);
        if (status != AP_OK) {
            ap_error_prefix(err, "adapter_config.json");
            return status;
        }
        return keep(r, w, a, b, &span, scale, err);
    }
    return AP_OK;
}

static ap_status claim_gguf(reader *r, const ap_wanted *w, ap_error *err)
{
    tensor *a, *b;
    ap_hf_span span = {.step = 1, .all = w->rows};
    AP_TRY(find_pair(r, w->name, ".lora_a", ".lora_b", &a, &b, err));
    if (!a && w->fused_total) {
        AP_TRY(find_pair(r, w->fused_name, ".lora_a", ".lora_b", &a, &b, err));
        /* The name of a fused tensor may be that of one of its parts. */
        if (a && b->rows != w->fused_total)
            return AP_OK;
        span = (ap_hf_span){.first = w->fused_first, .step = 1, .all = w->fused_total};
    } else if (a && w->fused_total && strcmp(w->name, w->fused_name) == 0 && b->rows == w->fused_total) {
        span = (ap_hf_span){.first = w->fused_first, .step = 1, .all = w->fused_total};
    }
    if (!a)
        return AP_OK;
    a->is_used = b->is_used = true;
    AP_TRY(check_pair(w, a, b, span.all, err));
    return keep(r, w, a, b, &span, r->alpha != 0 ? (float)((double)r->alpha / (double)a->rows) : 1, err);
}

static ap_status claim(void *context, const ap_wanted *w, ap_error *err)
{
    reader *r = context;
    if (w->layer == AP_LAYER_NONE || w->rule->rows == AP_EXTENT_NONE || w->rule->role >= AP_ROLE_EXPERT_FIRST)
        return AP_OK;
    if (r->gguf)
        return claim_gguf(r, w, err);
    return w->rule->hf_name ? claim_peft(r, w, err) : AP_OK;
}

/* ---- What is left over ---- */

static bool has(ap_str name, const char *part) { return memmem(name.ptr, name.len, part, strlen(part)) != NULL; }

static ap_status refuse_unread(const reader *r, ap_error *err)
{
    static const struct {
        const char *part, *what;
    } reasons[] = {
        {"lora_magnitude_vector", "belongs to DoRA"},
        {"lora_embedding_", "is for the embedding"},
        {"token_embd.", "is for the embedding"},
        {"embed_tokens.", "is for the embedding"},
        {"lm_head.", "is for the output matrix"},
        {"output.weight", "is for the output matrix"},
        {"experts", "is for experts"},
        {"_exps.", "is for experts"},
        {"lora_B.bias", "is a bias of an adapter"},
    };
    for (uint32_t i = 0; i < r->count; i++) {
        ap_str name = r->tensors[i].name;
        const char *what = has(name, ".lora_") ? "is for no matrix of this model" : "is no part of an adapter";
        if (r->tensors[i].is_used)
            continue;
        for (size_t k = sizeof reasons / sizeof reasons[0]; k-- > 0;)
            if (has(name, reasons[k].part))
                what = reasons[k].what;
        return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' %s, which this release does not have", shown(name), name.ptr, what);
    }
    return AP_OK;
}

/* ---- Opening ---- */

static ap_status check_key(const ap_gguf *gguf, const char *key, const char *must, ap_error *err)
{
    ap_str text;
    AP_TRY(ap_gguf_get_str(gguf, key, &text, err));
    return ap_str_is(text, must) ? AP_OK
                                 : ap_fail(err, AP_E_ARG, "key '%s' is '%.*s'; '%s' is needed", key, (int)(text.len < 40 ? text.len : 40),
                                           text.ptr, must);
}

static ap_status read_gguf(reader *r, ap_error *err)
{
    AP_TRY(ap_gguf_open(&r->gguf, r->weights.ptr, r->weights.len, err));
    AP_TRY(check_key(r->gguf, "general.type", "adapter", err));
    AP_TRY(check_key(r->gguf, "adapter.type", "lora", err));
    AP_TRY(check_key(r->gguf, "general.architecture", r->adapter->model->arch->name, err));
    AP_TRY(ap_gguf_get_f32(r->gguf, "adapter.lora.alpha", &r->alpha, err));
    if (!(r->alpha >= -1e30f && r->alpha <= 1e30f))
        return ap_fail(err, AP_E_FORMAT, "key 'adapter.lora.alpha' is %g; -1e30 to 1e30 is allowed", (double)r->alpha);
    if (ap_gguf_find(r->gguf, AP_STR("adapter.alora.invocation_tokens")))
        return ap_fail(err, AP_E_UNSUPPORTED, "key 'adapter.alora.invocation_tokens' is set: adapters that begin at certain tokens are not in this release");
    return list_gguf(r, err);
}

static ap_status read_peft(reader *r, int config_fd, ap_error *err)
{
    if (!r->adapter->model->arch->hf.layers)
        return ap_fail(err, AP_E_UNSUPPORTED, "folders of '%s' are not read, so no adapter in this form either", r->adapter->model->arch->name);
    ap_status status = ap_file_map(config_fd, &r->config, err);
    if (status == AP_OK)
        status = ap_adapter_config_read(&r->settings, (ap_str){(const char *)r->config.ptr, (size_t)r->config.len}, err);
    if (status != AP_OK) {
        ap_error_prefix(err, "adapter_config.json");
        return status;
    }
    return list_safetensors(r, err);
}

static ap_status read_all(reader *r, int config_fd, int weights_fd, ap_error *err)
{
    const ap_model *model = r->adapter->model;
    if (model->info.is_encoder)
        return ap_fail(err, AP_E_UNSUPPORTED, "the model is an encoder; this release has adapters of models that write text");
    AP_TRY(ap_file_map(weights_fd, &r->weights, err));
    if (config_fd >= 0)
        AP_TRY(read_peft(r, config_fd, err));
    else
        AP_TRY(read_gguf(r, err));
    AP_TRY(ap_rules_walk(model->arch, &model->sizes, claim, r, err));
    return refuse_unread(r, err);
}

ap_status ap_adapter_open(ap_adapter **out, const ap_model *model, int config_fd, int weights_fd, ap_error *err)
{
    *out = NULL;
    reader r = {.adapter = ap_alloc_zero(1, sizeof *r.adapter)};
    if (!r.adapter)
        return ap_fail_nomem(err, sizeof *r.adapter);
    r.adapter->model = model;
    r.adapter->loras = ap_alloc_zero((size_t)model->sizes.layer_count * AP_ROLE_COUNT, sizeof *r.adapter->loras);
    ap_status status = r.adapter->loras ? read_all(&r, config_fd, weights_fd, err) : ap_fail_nomem(err, sizeof *r.adapter->loras);
    ap_map_deinit(&r.index);
    ap_free(r.tensors);
    ap_adapter_config_deinit(&r.settings);
    ap_gguf_close(&r.gguf);
    ap_safetensors_close(&r.safetensors);
    ap_file_unmap(&r.config);
    ap_file_unmap(&r.weights);
    if (status != AP_OK) {
        ap_adapter_close(&r.adapter);
        return status == AP_E_NOTFOUND ? AP_E_FORMAT : status;
    }
    *out = r.adapter;
    return AP_OK;
}

void ap_adapter_close(ap_adapter **adapter)
{
    ap_adapter *a = *adapter;
    *adapter = NULL;
    if (!a)
        return;
    for (size_t i = 0; a->loras && i < (size_t)a->model->sizes.layer_count * AP_ROLE_COUNT; i++) {
        ap_free((void *)(uintptr_t)a->loras[i].a.panels);
        ap_free(a->loras[i].b);
    }
    ap_free(a->loras);
    ap_free(a);
}

const ap_lora *ap_adapter_find(const ap_adapter *a, uint32_t layer, ap_role role)
{
    const ap_lora *lora = a ? &a->loras[(size_t)layer * AP_ROLE_COUNT + role] : NULL;
    return lora && lora->a.panels ? lora : NULL;
}

uint32_t ap_adapter_rank(const ap_adapter *a) { return a ? a->rank : 0; }
