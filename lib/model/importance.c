/* importance.c - gathers what imatrix.c reads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/arena.h"
#include "base/map.h"
#include "format/gguf_write.h"
#include "model/imatrix.h"

enum { NAME_ROOM = AP_GGUF_NAME_BYTES_MAX + 1 };

/* Of one tensor of the file: a matrix, or all experts' matrices. */
typedef struct entry {
    char name[NAME_ROOM];       /* of the tensor */
    char fused_name[NAME_ROOM]; /* another entry with the same numbers; empty: none */
    uint32_t columns, matrices;
    double *sums;   /* [matrices][columns] */
    double *counts; /* [matrices] tokens */
} entry;

/* Which entry, and which of its matrices, a matrix of the model belongs to. */
typedef struct place {
    const ap_matrix *matrix;
    uint32_t entry, index;
} place;

struct ap_importance {
    const ap_model *model;
    ap_arena arena;
    entry *entries;
    place *places;
    uint32_t entry_count, place_count, room;
    ap_map by_matrix; /* the bytes of the pointer in `places` -> its index */
    ap_map by_name;   /* of entries */
};

static bool is_gathered(ap_role role)
{
    switch ((int)role) {
    case AP_ROLE_Q:
    case AP_ROLE_K:
    case AP_ROLE_V:
    case AP_ROLE_ATTN_OUT:
    case AP_ROLE_GATE:
    case AP_ROLE_UP:
    case AP_ROLE_DOWN:
    case AP_ROLE_EXPERT_GATE:
    case AP_ROLE_EXPERT_UP:
    case AP_ROLE_EXPERT_DOWN: return true;
    }
    return false;
}

static ap_status count_one(void *context, const ap_wanted *w, ap_error *err)
{
    *(uint32_t *)context += is_gathered(w->rule->role);
    return AP_OK;
}

static ap_status add_entry(ap_importance *im, const ap_wanted *w, uint32_t matrices, uint32_t *index, ap_error *err)
{
    entry *e = &im->entries[im->entry_count];
    (void)snprintf(e->name, sizeof e->name, "%s", matrices > 1 || w->rule->fused == AP_FUSED_EXPERTS ? w->fused_name : w->name);
    if (ap_map_get(&im->by_name, ap_str_from(e->name), index))
        return AP_OK;
    if (w->rule->role == AP_ROLE_Q && w->rule->fused == AP_FUSED_QKV)
        (void)snprintf(e->fused_name, sizeof e->fused_name, "%s", w->fused_name);
    e->columns = w->columns;
    e->matrices = matrices;
    e->sums = ap_arena_zero(&im->arena, (size_t)matrices * w->columns, sizeof *e->sums);
    e->counts = ap_arena_zero(&im->arena, matrices, sizeof *e->counts);
    if (!e->sums || !e->counts)
        return ap_fail_nomem(err, (size_t)matrices * w->columns * sizeof *e->sums);
    *index = im->entry_count++;
    return ap_map_add(&im->by_name, ap_str_from(e->name), *index, NULL, err);
}

static ap_status add_matrix(void *context, const ap_wanted *w, ap_error *err)
{
    ap_importance *im = context;
    const ap_matrix *matrix = is_gathered(w->rule->role) ? ap_model_matrix(im->model, w) : NULL;
    if (!matrix)
        return AP_OK;
    place *p = &im->places[im->place_count];
    *p = (place){.matrix = matrix, .index = w->expert};
    AP_TRY(add_entry(im, w, w->rule->role >= AP_ROLE_EXPERT_FIRST ? im->model->sizes.expert_count : 1, &p->entry, err));
    return ap_map_add(&im->by_matrix, (ap_str){(const char *)&p->matrix, sizeof p->matrix}, im->place_count++, NULL, err);
}

static ap_status fill(ap_importance *im, ap_error *err)
{
    const ap_model *m = im->model;
    AP_TRY(ap_rules_walk(m->arch, &m->sizes, count_one, &im->room, err));
    im->entries = ap_arena_zero(&im->arena, im->room + 1, sizeof *im->entries);
    im->places = ap_arena_zero(&im->arena, im->room + 1, sizeof *im->places);
    if (!im->entries || !im->places)
        return ap_fail_nomem(err, im->room * sizeof *im->entries);
    AP_TRY(ap_map_reserve(&im->by_matrix, im->room + 1, err));
    AP_TRY(ap_map_reserve(&im->by_name, im->room + 1, err));
    return ap_rules_walk(m->arch, &m->sizes, add_matrix, im, err);
}

ap_status ap_importance_create(ap_importance **out, const ap_model *model, ap_error *err)
{
    *out = ap_alloc_zero(1, sizeof **out);
    if (!*out)
        return ap_fail_nomem(err, sizeof **out);
    (*out)->model = model;
    ap_status status = fill(*out, err);
    if (status != AP_OK)
        ap_importance_destroy(out);
    return status;
}

void ap_importance_destroy(ap_importance **importance)
{
    ap_importance *im = *importance;
    if (im) {
        ap_map_deinit(&im->by_matrix);
        ap_map_deinit(&im->by_name);
        ap_arena_deinit(&im->arena);
        ap_free(im);
    }
    *importance = NULL;
}

void ap_importance_add(void *importance, const ap_matrix *matrix, const float *x, uint32_t tokens)
{
    ap_importance *im = importance;
    uint32_t at;
    if (!ap_map_get(&im->by_matrix, (ap_str){(const char *)&matrix, sizeof matrix}, &at))
        return;
    const place *p = &im->places[at];
    entry *e = &im->entries[p->entry];
    double *sums = e->sums + (size_t)p->index * e->columns;
    for (uint32_t t = 0; t < tokens; t++, x += e->columns)
        for (uint32_t c = 0; c < e->columns; c++)
            sums[c] += (double)x[c] * (double)x[c];
    e->counts[p->index] += tokens;
}

/* ---- Writing ---- */

/* Each entry has up to two names, each name two tensors. */
typedef ap_status entry_fn(ap_gguf_writer *w, const char *name, const entry *e, ap_error *err);

static ap_status each_name(const ap_importance *im, ap_gguf_writer *w, entry_fn *fn, ap_error *err)
{
    for (uint32_t i = 0; i < im->entry_count; i++) {
        const entry *e = &im->entries[i];
        AP_TRY(fn(w, e->name, e, err));
        if (e->fused_name[0])
            AP_TRY(fn(w, e->fused_name, e, err));
    }
    return AP_OK;
}

static ap_status declare(ap_gguf_writer *w, const char *name, const entry *e, ap_error *err)
{
    char full[NAME_ROOM + 16];
    uint64_t sums[] = {e->columns, e->matrices}, counts[] = {1, e->matrices};
    (void)snprintf(full, sizeof full, "%s.in_sum2", name);
    AP_TRY(ap_gguf_writer_tensor(w, ap_str_from(full), AP_TYPE_F32, 2, sums, err));
    (void)snprintf(full, sizeof full, "%s.counts", name);
    return ap_gguf_writer_tensor(w, ap_str_from(full), AP_TYPE_F32, 2, counts, err);
}

static ap_status put_floats(ap_gguf_writer *w, const double *numbers, size_t count, ap_error *err)
{
    float part[256];
    for (size_t i = 0, n; i < count; i += n) {
        n = count - i < 256 ? count - i : 256;
        for (size_t j = 0; j < n; j++)
            part[j] = (float)numbers[i + j];
        AP_TRY(ap_gguf_writer_data(w, part, n * sizeof *part, err));
    }
    return AP_OK;
}

static ap_status put_data(ap_gguf_writer *w, const char *name, const entry *e, ap_error *err)
{
    AP_TRY(put_floats(w, e->sums, (size_t)e->matrices * e->columns, err));
    return put_floats(w, e->counts, e->matrices, err);
}

static ap_status write_all(const ap_importance *im, ap_gguf_writer *w, int fd, ap_str dataset, uint32_t chunk_tokens, uint32_t chunk_count,
                           uint64_t *file_bytes, ap_error *err)
{
    AP_TRY(ap_gguf_writer_str(w, "general.type", AP_STR("imatrix"), err));
    AP_TRY(ap_gguf_writer_strs(w, "imatrix.datasets", 1, &dataset, err));
    AP_TRY(ap_gguf_writer_u32(w, "imatrix.chunk_count", chunk_count, err));
    AP_TRY(ap_gguf_writer_u32(w, "imatrix.chunk_size", chunk_tokens, err));
    AP_TRY(each_name(im, w, declare, err));
    AP_TRY(ap_gguf_writer_begin(w, fd, err));
    AP_TRY(each_name(im, w, put_data, err));
    return ap_gguf_writer_end(w, file_bytes, err);
}

ap_status ap_importance_write(const ap_importance *im, int fd, ap_str dataset, uint32_t chunk_tokens, uint32_t chunk_count,
                              uint64_t *file_bytes, ap_error *err)
{
    ap_gguf_writer *w;
    AP_TRY(ap_gguf_writer_create(&w, AP_GGUF_ALIGNMENT_DEFAULT, err));
    ap_status status = write_all(im, w, fd, dataset, chunk_tokens, chunk_count, file_bytes, err);
    ap_gguf_writer_destroy(&w);
    return status;
}
