/* convert_folder.c - from a GGUF file to a Hugging Face folder: its tensors.
 *
 * Each tensor of the folder is put together from the parts that the family's rules name, rows back in the folder's order.
 * Most have one part in the same order and stream through; others are made in memory, one at a time, of experts one expert
 * at a time.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>

#include "base/alloc.h"
#include "model/convert.h"
#include "model/hf.h"
#include "model/mix.h"

enum { BUFFER_BYTES = 8 * 1024 * 1024, NONE = 0x7fffffff };

/* A rule's rows, in GGUF's terms. */
typedef struct part {
    ap_source_part from;
    ap_hf_span span;
    uint64_t rows, columns; /* of a vector: its elements, 1 */
    uint32_t expert, next;  /* the next part of the same tensor, or NONE */
} part;

typedef struct target {
    char name[AP_HF_NAME_ROOM];
    ap_type type;
    uint32_t dim_count, first, last; /* parts */
    uint64_t dims[3];
    bool is_expert, is_turned, is_less_one, is_vector;
    uint64_t bytes, offset; /* in its file */
    uint32_t shard;
} target;

typedef struct plan {
    const ap_source *source;
    const ap_arch *arch;
    ap_hparams sizes;
    const ap_convert_options *options;
    ap_convert_report *report;
    ap_arena *arena;
    json_t *config;
    unsigned form; /* which alternative of names */
    ap_type decoded_type, main_type;
    part *parts;
    target *targets;
    ap_map index; /* of targets by name */
    uint32_t part_count, target_count, room, decoded_count;
    uint32_t decoded[AP_TYPE_ROOM]; /* parts by their type */
    ap_convert_tensors told;
    uint64_t done_bytes, total_bytes;
} plan;

static bool is_float(ap_type type) { return type == AP_TYPE_F32 || type == AP_TYPE_F16 || type == AP_TYPE_BF16; }
static uint64_t element_bytes(ap_type type) { return type == AP_TYPE_F32 ? 4 : 2; }

static bool ends_with(const char *name, const char *end)
{
    size_t length = strlen(name), end_length = strlen(end);
    return length >= end_length && strcmp(name + length - end_length, end) == 0;
}

/* ---- What will be written ---- */

/* Rotary divisors stand in config.json and not in a tensor. */
static ap_status keep_divisors(plan *p, const ap_wanted *w, const ap_gguf_tensor *t, ap_error *err)
{
    ap_role role = w->rule->role;
    if (role != AP_ROLE_ROPE_DIVISORS && role != AP_ROLE_ROPE_DIVISORS_LONG && role != AP_ROLE_ROPE_DIVISORS_SHORT)
        return AP_OK;
    float *copy = ap_arena_zero(p->arena, t->dims[0], sizeof *copy);
    unsigned char *room = ap_arena_alloc(p->arena, (size_t)t->bytes);
    if (!copy || !room)
        return ap_fail_nomem(err, (size_t)t->bytes);
    ap_decode(t->type, ap_source_rows(p->source, t, 0, 1, room), (size_t)t->dims[0], copy);
    for (uint64_t i = 0; i < t->dims[0]; i++)
        if (!(copy[i] > 0 && copy[i] < 1e9f))
            return ap_fail(err, AP_E_FORMAT, "tensor '%s' has the value %g; divisors are above 0", w->name, (double)copy[i]);
    *(role == AP_ROLE_ROPE_DIVISORS ? &p->told.divisors : role == AP_ROLE_ROPE_DIVISORS_LONG ? &p->told.divisors_long : &p->told.divisors_short) = copy;
    return AP_OK;
}

static void note_role(plan *p, ap_role role)
{
    p->told.has_head_bias = p->told.has_head_bias || role == AP_ROLE_HEAD_BIAS;
    p->told.has_norm_bias = p->told.has_norm_bias || role == AP_ROLE_EMBEDDING_NORM_BIAS || role == AP_ROLE_OUTPUT_NORM_BIAS ||
                            role == AP_ROLE_ATTN_NORM_BIAS || role == AP_ROLE_FFN_NORM_BIAS || role == AP_ROLE_HEAD_NORM_BIAS;

    p->told.has_output = p->told.has_output || role == AP_ROLE_OUTPUT;
    p->told.has_q_bias = p->told.has_q_bias || role == AP_ROLE_Q_BIAS;
    p->told.has_up_bias = p->told.has_up_bias || role == AP_ROLE_UP_BIAS;
}

static void shape_target(const plan *p, const ap_wanted *w, const ap_hf_span *span, target *t)
{
    uint64_t columns = w->columns;
    t->is_vector = w->rule->rows == AP_EXTENT_NONE;
    t->is_expert = span->rows == AP_HF_ROWS_EXPERT || span->rows == AP_HF_ROWS_EXPERT_GATE_UP;
    t->is_turned = t->is_expert || (p->arch->hf.has_columns_first && !t->is_vector && w->layer != AP_LAYER_NONE);
    t->is_less_one = p->arch->hf.are_norms_less_one && ends_with(w->rule->gguf_name, "norm.weight");
    if (t->is_expert)
        t->dims[t->dim_count++] = p->sizes.expert_count;
    uint64_t all = t->is_expert ? span->all / p->sizes.expert_count : span->all;
    if (t->is_vector) {
        t->dims[t->dim_count++] = all;
    } else {
        t->dims[t->dim_count++] = t->is_turned ? columns : all;
        t->dims[t->dim_count++] = t->is_turned ? all : columns;
    }
}

/* An encoder without a head is saved without the name that the classes around it give it. */
static void drop_root(const plan *p, char name[AP_HF_NAME_ROOM])
{
    size_t root = p->arch->hf.root ? strlen(p->arch->hf.root) : 0;
    if (p->arch->is_encoder && p->sizes.label_count == 0 && strncmp(name, p->arch->hf.root, root) == 0)
        memmove(name, name + root, strlen(name + root) + 1);
}

static ap_status add_part(void *context, const ap_wanted *w, ap_error *err)
{
    plan *p = context;
    ap_source_part from;
    AP_TRY(ap_source_find_part(p->source, w, &from, err));
    if (!from.tensor)
        return AP_OK;
    AP_TRY(keep_divisors(p, w, from.tensor, err));
    note_role(p, w->rule->role);
    if (!w->rule->hf_name)
        return AP_OK;
    if (!ap_quant_decodes(from.tensor->type))
        return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%s' has the type %s, which this release cannot decode", w->name,
                       ap_type_info_of(from.tensor->type)->name);
    char name[AP_HF_NAME_ROOM];
    uint32_t number;
    ap_hf_name(p->arch, w, p->form, name);
    drop_root(p, name);
    ap_hf_span span = ap_hf_span_of(w, &p->sizes);
    if (span.rows == AP_HF_ROWS_POSITIONS) {
        span.first = p->told.positions_skipped;
        span.all += p->told.positions_skipped;
    }
    bool is_new = !ap_map_get(&p->index, ap_str_from(name), &number);
    if (is_new) {
        number = p->target_count++;
        target *t = &p->targets[number];
        memcpy(t->name, name, sizeof name);
        t->type = is_float(from.tensor->type) ? from.tensor->type : p->decoded_type;
        t->first = t->last = NONE;
        shape_target(p, w, &span, t);
        AP_TRY(ap_map_add(&p->index, ap_str_from(t->name), number, NULL, err));
    }
    target *t = &p->targets[number];
    if (!is_float(from.tensor->type)) {
        p->decoded[from.tensor->type % AP_TYPE_ROOM]++;
        p->decoded_count++;
    }
    if ((is_float(from.tensor->type) ? from.tensor->type : p->decoded_type) != t->type)
        t->type = AP_TYPE_F32;
    uint32_t me = p->part_count++;
    p->parts[me] = (part){.from = from, .span = span, .rows = t->is_vector ? w->columns : w->rows, .columns = t->is_vector ? 1 : w->columns,
                          .expert = w->expert, .next = NONE};
    if (is_new)
        t->first = me;
    else
        p->parts[t->last].next = me;
    t->last = me;
    return AP_OK;
}

static ap_status count_part(void *context, const ap_wanted *w, ap_error *err)
{
    ((plan *)context)->room++;
    return AP_OK;
}

static uint64_t element_count(const target *t)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < t->dim_count; i++)
        count *= t->dims[i];
    return count;
}

/* ---- Elements ---- */

/* Rows [first, first + count) of a part as they will be written, but still one behind the other. */
typedef struct rows {
    unsigned char *given, *out;
    float *floats;
} rows;

static ap_status rows_create(rows *r, uint64_t given_bytes, uint64_t elements, ap_error *err)
{
    *r = (rows){ap_alloc_array((size_t)given_bytes, 1), ap_alloc_array((size_t)elements, sizeof(float)),
                ap_alloc_array((size_t)elements, sizeof(float))};
    return r->given && r->out && r->floats ? AP_OK : ap_fail_nomem(err, (size_t)elements * sizeof(float));
}

static void rows_destroy(rows *r)
{
    ap_free(r->given);
    ap_free(r->out);
    ap_free(r->floats);
}

static const unsigned char *make_rows(const plan *p, const target *t, const part *from, uint64_t first, uint64_t count, rows *r)
{
    const ap_gguf_tensor *tensor = from->from.tensor;
    const unsigned char *bytes = ap_source_rows(p->source, tensor, from->from.row + first, count, r->given) + from->from.skip;
    size_t elements = (size_t)(t->is_vector ? from->rows : count * from->columns);
    if (tensor->type == t->type && !t->is_less_one)
        return bytes;
    ap_decode(tensor->type, bytes, elements, r->floats);
    for (size_t i = 0; t->is_less_one && i < elements; i++)
        r->floats[i] -= 1;
    if (t->type == AP_TYPE_F32)
        return (const unsigned char *)r->floats;
    ap_encode(t->type, r->floats, elements, NULL, r->out);
    return r->out;
}

/* How many rows go through the buffers at once; a vector is one row of GGUF. */
static uint64_t rows_at_once(const part *from)
{
    uint64_t bytes = from->columns * sizeof(float);
    return BUFFER_BYTES / bytes + 1;
}

static ap_status rows_for(const plan *p, const target *t, rows *r, ap_error *err)
{
    uint64_t given = 0, elements = 0;
    for (uint32_t i = t->first; i != NONE; i = p->parts[i].next) {
        const part *from = &p->parts[i];
        uint64_t at_once = t->is_vector ? 1 : rows_at_once(from), each = t->is_vector ? from->rows : at_once * from->columns;
        uint64_t bytes = at_once * ap_source_row_bytes(from->from.tensor);
        given = bytes > given ? bytes : given;
        elements = each > elements ? each : elements;
    }
    return rows_create(r, given, elements, err);
}

typedef ap_status row_sink(void *context, const part *from, uint64_t first, uint64_t count, const unsigned char *bytes, ap_error *err);

static ap_status each_rows(const plan *p, const target *t, const part *from, rows *r, row_sink *sink, void *context, ap_error *err)
{
    if (t->is_vector)
        return sink(context, from, 0, from->rows, make_rows(p, t, from, 0, 1, r), err);
    uint64_t at_once = rows_at_once(from), step;
    for (uint64_t row = 0; row < from->rows; row += step) {
        step = from->rows - row < at_once ? from->rows - row : at_once;
        AP_TRY(sink(context, from, row, step, make_rows(p, t, from, row, step, r), err));
    }
    return AP_OK;
}

/* ---- Narrow vectors ---- */

/* GGUF keeps vectors and routers in F32, whatever type the model came in: where that type has every value, it is the type again. */
typedef struct narrow {
    ap_type type;
    uint64_t columns;
    bool fits;
} narrow;

static ap_status try_narrow(void *context, const part *from, uint64_t first, uint64_t count, const unsigned char *bytes, ap_error *err)
{
    narrow *n = context;
    for (uint64_t i = 0; n->fits && i < count * from->columns; i++) {
        float wide, back;
        unsigned char small[4];
        memcpy(&wide, bytes + 4 * i, 4);
        ap_encode(n->type, &wide, 1, NULL, small);
        ap_decode(n->type, small, 1, &back);
        n->fits = memcmp(&wide, &back, 4) == 0;
    }
    return AP_OK;
}

static ap_status narrow_targets(plan *p, ap_error *err)
{
    for (uint32_t i = 0; i < p->target_count && p->main_type != AP_TYPE_F32; i++) {
        target *t = &p->targets[i];
        if (t->type != AP_TYPE_F32)
            continue;
        rows r = {0};
        narrow n = {.type = p->main_type, .fits = true};
        ap_status status = rows_for(p, t, &r, err);
        for (uint32_t k = t->first; k != NONE && status == AP_OK && n.fits; k = p->parts[k].next)
            status = each_rows(p, t, &p->parts[k], &r, try_narrow, &n, err);
        rows_destroy(&r);
        AP_TRY(status);
        t->type = n.fits ? p->main_type : AP_TYPE_F32;
    }
    return AP_OK;
}

static void choose_main_type(plan *p)
{
    uint64_t bytes[3] = {0};
    static const ap_type types[] = {AP_TYPE_F32, AP_TYPE_F16, AP_TYPE_BF16};
    static const char *const names[] = {"float32", "float16", "bfloat16"};
    size_t most = 0;
    for (uint32_t i = 0; i < p->target_count; i++)
        for (size_t k = 0; k < 3; k++)
            bytes[k] += p->targets[i].type == types[k] && !p->targets[i].is_vector ? element_count(&p->targets[i]) : 0;
    for (size_t k = 1; k < 3; k++)
        most = bytes[k] > bytes[most] ? k : most;
    p->main_type = types[most];
    p->told.dtype = names[most];
}

/* ---- The plan ---- */

static ap_status refuse_unread(const plan *p, ap_error *err)
{
    bool *is_read = ap_arena_zero(p->arena, p->source->tensor_count ? p->source->tensor_count : 1, sizeof *is_read);
    if (!is_read)
        return ap_fail_nomem(err, p->source->tensor_count);
    for (uint32_t i = 0; i < p->part_count; i++)
        is_read[p->parts[i].from.tensor - p->source->tensors] = true;
    for (uint32_t i = 0; i < p->source->tensor_count; i++) {
        ap_str name = p->source->tensors[i].name;
        bool is_idle = ap_str_starts(name, AP_STR("rope_")) ||
                       (name.len > 21 && ap_str_is((ap_str){name.ptr + name.len - 21, 21}, ".attn_rot_embd.weight"));
        if (!is_read[i] && !is_idle)
            return ap_fail(err, AP_E_UNSUPPORTED, "tensor '%.*s' belongs to a feature that this release does not have", (int)name.len, name.ptr);
    }
    return AP_OK;
}

/* Tensors in the order of the rules; a file is full when the next would not fit. */
static void place(plan *p)
{
    uint64_t used = 0;
    uint32_t shard = 0;
    for (uint32_t i = 0; i < p->target_count; i++) {
        target *t = &p->targets[i];
        t->bytes = element_count(t) * element_bytes(t->type);
        if (used && used + t->bytes > p->options->shard_bytes_max) {
            used = 0;
            shard++;
        }
        t->shard = shard;
        t->offset = used;
        used += t->bytes;
        if (shard == p->options->shard)
            p->total_bytes += t->bytes;
    }
    p->report->shard_count = shard + 1;
}

/* A folder in which one norm serves attention and MLP gives two equal tensors.  (Rows of a GGUF file need no room.) */
static bool has_two_norms(const ap_source *s)
{
    const ap_gguf_tensor *a = ap_source_find(s, AP_STR("blk.0.attn_norm.weight")), *b = ap_source_find(s, AP_STR("blk.0.attn_norm_2.weight"));
    if (!a || !b || a->bytes != b->bytes)
        return a && b;
    return memcmp(ap_source_rows(s, a, 0, 1, NULL), ap_source_rows(s, b, 0, 1, NULL), (size_t)a->bytes) != 0;
}

static ap_status make_plan(plan *p, ap_error *err)
{
    AP_TRY(ap_source_sizes(p->source, &p->arch, &p->sizes, err));
    AP_TRY(ap_convert_family(p->source->keys, &p->arch, &p->told.positions_skipped, err));
    bool has_attn_norm = has_two_norms(p->source);
    AP_TRY(ap_convert_describe(p->arch, &p->sizes, has_attn_norm, &p->config, &p->form, err));
    AP_TRY(ap_rules_walk(p->arch, &p->sizes, count_part, p, err));
    p->parts = ap_arena_zero(p->arena, p->room, sizeof *p->parts);
    p->targets = ap_arena_zero(p->arena, p->room, sizeof *p->targets);
    if (!p->parts || !p->targets)
        return ap_fail_nomem(err, p->room * sizeof *p->targets);
    AP_TRY(ap_map_reserve(&p->index, p->room, err));
    AP_TRY(ap_rules_walk(p->arch, &p->sizes, add_part, p, err));
    AP_TRY(refuse_unread(p, err));
    choose_main_type(p);
    AP_TRY(narrow_targets(p, err));
    AP_TRY(ap_convert_config(p->config, p->arch, &p->sizes, p->source->keys, &p->told, err));
    place(p);
    return AP_OK;
}

/* ---- Writing ---- */

typedef struct sink {
    plan *plan;
    const target *target;
    unsigned char *whole; /* NULL: rows go out as they come */
    int fd;
} sink;

static ap_status put_out(sink *s, const unsigned char *bytes, uint64_t count, ap_error *err)
{
    plan *p = s->plan;
    AP_TRY(ap_file_write_all(s->fd, bytes, (size_t)count, err));
    p->done_bytes += count;
    p->report->written_bytes += count;
    if (p->options->progress)
        p->options->progress(p->options->progress_context, p->done_bytes, p->total_bytes);
    return AP_OK;
}

static ap_status take_rows(void *context, const part *from, uint64_t first, uint64_t count, const unsigned char *bytes, ap_error *err)
{
    sink *s = context;
    const target *t = s->target;
    uint64_t size = element_bytes(t->type), columns = from->columns;
    if (!s->whole)
        return put_out(s, bytes, count * columns * size, err);
    uint64_t all = t->dims[t->dim_count - 1]; /* of a matrix with its columns first: its rows */
    for (uint64_t i = 0; i < count; i++) {
        uint64_t row = ap_hf_span_row(&from->span, &s->plan->sizes, first + i);
        row = t->is_expert ? row % all : row;
        const unsigned char *at = bytes + i * columns * size;
        if (!t->is_turned || t->is_vector) {
            memcpy(s->whole + row * columns * size, at, (size_t)(columns * size));
            continue;
        }
        for (uint64_t c = 0; c < columns; c++)
            memcpy(s->whole + (c * all + row) * size, at + c * size, (size_t)size);
    }
    return AP_OK;
}

static ap_status write_parts(sink *s, uint32_t expert, rows *r, ap_error *err)
{
    const plan *p = s->plan;
    for (uint32_t i = s->target->first; i != NONE; i = p->parts[i].next)
        if (!s->target->is_expert || p->parts[i].expert == expert)
            AP_TRY(each_rows(p, s->target, &p->parts[i], r, take_rows, s, err));
    return AP_OK;
}

static ap_status write_target(plan *p, const target *t, int fd, ap_error *err)
{
    const part *only = &p->parts[t->first];
    bool streams = only->next == NONE && only->span.rows == AP_HF_ROWS_SAME && !t->is_turned;
    uint32_t pieces = t->is_expert ? p->sizes.expert_count : 1;
    uint64_t bytes = t->bytes / pieces;
    sink s = {.plan = p, .target = t, .fd = fd};
    rows r = {0};
    ap_status status = rows_for(p, t, &r, err);
    if (status == AP_OK && !streams && !(s.whole = ap_alloc_zero((size_t)bytes, 1)))
        status = ap_fail_nomem(err, (size_t)bytes);
    for (uint32_t i = 0; i < pieces && status == AP_OK; i++) {
        status = write_parts(&s, i, &r, err);
        if (status == AP_OK && s.whole)
            status = put_out(&s, s.whole, bytes, err);
    }
    ap_free(s.whole);
    rows_destroy(&r);
    return status;
}

static ap_status write_header(const plan *p, int fd, ap_error *err)
{
    ap_buf header = {0};
    ap_status status = ap_buf_printf(&header, err, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (uint32_t i = 0; i < p->target_count && status == AP_OK; i++) {
        const target *t = &p->targets[i];
        if (t->shard != p->options->shard)
            continue;
        const char *dtype = t->type == AP_TYPE_F32 ? "F32" : t->type == AP_TYPE_F16 ? "F16" : "BF16";
        status = ap_buf_printf(&header, err, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name, dtype);
        for (uint32_t k = 0; k < t->dim_count && status == AP_OK; k++)
            status = ap_buf_printf(&header, err, "%s%" PRIu64, k ? "," : "", t->dims[k]);
        if (status == AP_OK)
            status = ap_buf_printf(&header, err, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", t->offset, t->offset + t->bytes);
    }
    if (status == AP_OK)
        status = ap_buf_add_char(&header, '}', err);
    while (status == AP_OK && header.len % 8)
        status = ap_buf_add_char(&header, ' ', err);
    uint64_t length = header.len;
    if (status == AP_OK)
        status = ap_file_write_all(fd, &length, sizeof length, err);
    if (status == AP_OK)
        status = ap_file_write_all(fd, header.ptr, header.len, err);
    p->report->written_bytes = sizeof length + header.len;
    ap_buf_deinit(&header);
    return status;
}

/* Which tensor lies in which file. */
static ap_status write_index(const plan *p, ap_error *err)
{
    json_t *map = json_object();
    uint64_t total = 0;
    for (uint32_t i = 0; i < p->target_count; i++) {
        char file[64];
        (void)snprintf(file, sizeof file, AP_CONVERT_SHARD_NAME, p->targets[i].shard + 1, p->report->shard_count);
        (void)json_object_set_new(map, p->targets[i].name, json_string(file));
        total += p->targets[i].bytes;
    }
    json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    ap_status status = root ? ap_convert_document_json(p->options, "model.safetensors.index.json", root, err) : ap_fail_nomem(err, 1024);
    json_decref(root);
    return status;
}

static ap_status run(plan *p, int out_fd, ap_error *err)
{
    AP_TRY(make_plan(p, err));
    ap_vocab *vocab;
    AP_TRY(ap_vocab_create(&vocab, p->source->keys, err));
    ap_vocab_close(&vocab);
    if (p->options->shard >= p->report->shard_count)
        return ap_fail(err, AP_E_ARG, "there is no file %u; the model has %u", p->options->shard, p->report->shard_count);
    if (p->options->shard == 0) {
        AP_TRY(ap_convert_document_json(p->options, "config.json", p->config, err));
        AP_TRY(ap_convert_vocab(p->source->keys, p->arch, &p->sizes, p->options, err));
        AP_TRY(ap_convert_card(p->source->keys, p->options, err));
        AP_TRY(ap_convert_pooling_files(p->arch, &p->sizes, p->source->keys, p->options, err));
        if (p->report->shard_count > 1)
            AP_TRY(write_index(p, err));
    }
    AP_TRY(write_header(p, out_fd, err));
    for (uint32_t i = 0; i < p->target_count; i++)
        if (p->targets[i].shard == p->options->shard)
            AP_TRY(write_target(p, &p->targets[i], out_fd, err));
    char *notes = p->report->notes;
    size_t room = sizeof p->report->notes;
    if (p->decoded_count) {
        ap_str_append(notes, room, "Weights were decoded to %s, counted in parts of tensors: ", ap_type_info_of(p->decoded_type)->name);
        ap_type_counts_add(notes, room, p->decoded);
        ap_str_append(notes, room, ". ");
    }
    bool has_map = ap_gguf_find(p->source->keys, AP_STR("tokenizer.ggml.precompiled_charsmap"));
    if (has_map && !ap_gguf_find(p->source->keys, AP_STR("tokenizer.aperto.normalizer")))
        ap_str_append(notes, room, "The vocabulary's map of characters is looked up by graphemes in a tokenizer.json: "
                      "a few texts with combining marks get other tokens. ");
    return AP_OK;
}

static ap_status read_type(const char *name, ap_type *out, ap_error *err)
{
    static const ap_type types[] = {AP_TYPE_F16, AP_TYPE_BF16, AP_TYPE_F32};
    *out = AP_TYPE_F16;
    if (!name)
        return AP_OK;
    for (size_t i = 0; i < 3; i++)
        if (strcmp(name, ap_type_info_of(types[i])->name) == 0) {
            *out = types[i];
            return AP_OK;
        }
    return ap_fail(err, AP_E_ARG, "'%.40s' is no type of a folder's weights; there are F16, BF16 and F32", name);
}

ap_status ap_model_convert_to_folder(const ap_import_file *files, size_t file_count, int out_fd, const ap_convert_options *options,
                                     ap_convert_report *report, ap_error *err)
{
    *report = (ap_convert_report){0};
    AP_TRY(ap_convert_check_options(options, err));
    ap_source source;
    ap_arena arena = {0};
    plan p = {.source = &source, .options = options, .report = report, .arena = &arena};
    AP_TRY(read_type(options->type, &p.decoded_type, err));
    AP_TRY(file_count == 1 ? ap_source_open_gguf(&source, files[0].fd, err) : ap_source_open_split(&source, files, file_count, err));
    ap_status status = ap_gguf_find(source.keys, AP_STR("aperto.pack.version"))
                           ? ap_fail(err, AP_E_ARG, "this file is packed already; convert the file it was made of")
                           : run(&p, out_fd, err);
    report->source_bytes = source.file_bytes;
    report->tensor_count = p.target_count;
    json_decref(p.config);
    ap_map_deinit(&p.index);
    ap_arena_deinit(&arena);
    ap_source_close(&source);
    return status;
}
