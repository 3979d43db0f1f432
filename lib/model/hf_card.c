/* SPDX-License-Identifier: Apache-2.0 */
#include "model/hf_card.h"

#include <stdio.h>

#include "model/hf.h"

enum { KEY_ROOM = 96, OWN_VALUES_MAX = 4096 };

const ap_hf_card_field ap_hf_card_fields[] = {
    {"license", "general.license"},
    {"license_name", "general.license.name"},
    {"license_link", "general.license.link"},
    {"model_name", "general.name"},
    {"author", "general.author"},
    {"organization", "general.organization"},
    {"version", "general.version"},
    {"description", "general.description"},
    {"finetune", "general.finetune"},
    {"basename", "general.basename"},
    {"size_label", "general.size_label"},
    {"quantized_by", "general.quantized_by"},
    {"url", "general.url"},
    {"doi", "general.doi"},
    {"uuid", "general.uuid"},
    {"repo_url", "general.repo_url"},
    {"tags", "general.tags", true},
    {"language", "general.languages", true},
};
const size_t ap_hf_card_field_count = sizeof ap_hf_card_fields / sizeof ap_hf_card_fields[0];

const ap_hf_card_field ap_hf_card_origins[] = {{"base_model", "general.base_model", true}, {"datasets", "general.dataset", true}};
const size_t ap_hf_card_origin_count = sizeof ap_hf_card_origins / sizeof ap_hf_card_origins[0];

const ap_hf_sampling_field ap_hf_sampling[AP_HF_SAMPLING_COUNT] = {{"temperature", "general.sampling.temp"},
                                                                  {"top_k", "general.sampling.top_k", true},
                                                                  {"top_p", "general.sampling.top_p"},
                                                                  {"min_p", "general.sampling.min_p"},
                                                                  {"repetition_penalty", "general.sampling.penalty_repeat"}};

bool ap_hf_card_owns(ap_str key)
{
    static const char *const others[] = {"general.architecture", "general.type", "general.alignment", "general.file_type",
                                         "general.quantization_version"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (ap_str_is(key, others[i]))
            return false;
    for (size_t i = 0; i < AP_HF_SAMPLING_COUNT; i++)
        if (ap_str_is(key, ap_hf_sampling[i].key))
            return false; /* generation_config.json says it */
    return ap_str_starts(key, AP_STR("general.")) && key.len < KEY_ROOM;
}

/* ---- Texts ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* 'it''s' */
static json_t *read_single_quoted(ap_str text)
{
    ap_buf out = {0};
    json_t *made = NULL;
    ap_status status = AP_OK;
    for (size_t i = 1; i + 1 < text.len && status == AP_OK; i++) {
        status = ap_buf_add_char(&out, text.ptr[i], NULL);
        i += text.ptr[i] == '\'';
    }
    if (status == AP_OK)
        made = json_stringn(out.ptr ? out.ptr : "", out.len);
    ap_buf_deinit(&out);
    return made;
}

/* NULL for what is no text: nothing, null, a map, a block, an anchor; and for bytes that are no UTF-8. */
static json_t *read_text(ap_str text)
{
    text = ap_str_trim(text);
    if (text.len == 0 || strchr("{[|>&*!%@`", text.ptr[0]))
        return NULL;
    if (text.ptr[0] == '"' || text.ptr[0] == '\'') {
        size_t end = 1;
        char quote = text.ptr[0];
        while (end < text.len && text.ptr[end] != quote)
            end += quote == '"' && text.ptr[end] == '\\' ? 2 : 1;
        while (quote == '\'' && end + 1 < text.len && text.ptr[end + 1] == quote)
            for (end += 2; end < text.len && text.ptr[end] != quote;)
                end++;
        if (end >= text.len)
            return NULL;
        text.len = end + 1; /* a comment may follow */
        return quote == '"' ? json_loadb(text.ptr, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : read_single_quoted(text);
    }
    for (size_t i = 1; i < text.len; i++)
        if (text.ptr[i] == '#' && is_blank(text.ptr[i - 1]))
            text.len = i;
    text = ap_str_trim(text);
    bool is_map = text.ptr[text.len - 1] == ':' || memmem(text.ptr, text.len, ": ", 2);
    return is_map || ap_str_is(text, "null") || ap_str_is(text, "~") ? NULL : json_stringn(text.ptr, text.len);
}

/* [a, "b, c"]: NULL if one of them is no text or the list goes on in the next line. */
static json_t *read_flow(ap_str text)
{
    json_t *list = json_array();
    size_t begin = 1;
    char quote = 0;
    for (size_t i = 1; i < text.len; i++) {
        char c = text.ptr[i];
        if (quote) {
            i += quote == '"' && c == '\\';
            quote = c == quote ? 0 : quote;
            continue;
        }
        if ((c == '"' || c == '\'') && ap_str_trim((ap_str){text.ptr + begin, i - begin}).len == 0)
            quote = c;
        if (c != ',' && c != ']')
            continue;
        ap_str item = ap_str_trim((ap_str){text.ptr + begin, i - begin});
        json_t *value = item.len ? read_text(item) : NULL;
        if (item.len && (!value || json_array_append_new(list, value) != 0))
            break;
        if (c == ']')
            return list;
        begin = i + 1;
    }
    json_decref(list);
    return NULL;
}

/* ---- Lines ---- */

typedef struct reader {
    json_t *card;
    char key[KEY_ROOM]; /* the last at the beginning of a line; empty: one that is passed over */
    size_t count;
    ap_error *err;
} reader;

static bool is_key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

bool ap_hf_card_is_name(ap_str name)
{
    bool is_name = name.len > 0 && name.len < KEY_ROOM && name.ptr[0] != '-';
    for (size_t i = 0; i < name.len && is_name; i++)
        is_name = is_key_char(name.ptr[i]);
    return is_name;
}

static void keep(reader *r, json_t *value)
{
    if (!value || json_object_set_new(r->card, r->key, value) != 0)
        r->key[0] = 0;
}

static void read_entry(reader *r, ap_str line)
{
    size_t length = 0;
    while (length < line.len && is_key_char(line.ptr[length]))
        length++;
    r->key[0] = 0;
    bool ends = length < line.len && line.ptr[length] == ':' && (length + 1 == line.len || is_blank(line.ptr[length + 1]));
    if (!ends || !ap_hf_card_is_name((ap_str){line.ptr, length}))
        return;
    (void)snprintf(r->key, sizeof r->key, "%.*s", (int)length, line.ptr);
    ap_str value = ap_str_trim((ap_str){line.ptr + length + 1, line.len - length - 1});
    if (value.len == 0 || value.ptr[0] == '#')
        (void)json_object_del(r->card, r->key); /* a list follows, or nothing */
    else if (value.ptr[0] == '[')
        keep(r, read_flow(value));
    else if (strcmp(r->key, AP_HF_CARD_GGUF) == 0 && value.ptr[0] == '{') {
        json_t *own = NULL;
        (void)ap_json_parse(&own, value, (ap_json_limits){AP_HF_CARD_BYTES_MAX, OWN_VALUES_MAX}, NULL);
        keep(r, own);
    } else
        keep(r, read_text(value));
}

/* "- item"; what else is indented belongs to something that no list of texts is. */
static void read_item(reader *r, ap_str line)
{
    json_t *list = json_object_get(r->card, r->key);
    ap_str item = ap_str_trim(line);
    bool is_item = item.len > 1 && item.ptr[0] == '-' && is_blank(item.ptr[1]);
    json_t *value = is_item ? read_text((ap_str){item.ptr + 1, item.len - 1}) : NULL;
    if (value && !list)
        (void)json_object_set_new(r->card, r->key, list = json_array());
    if (value && json_is_array(list) && json_array_append(list, value) == 0) {
        json_decref(value);
        return;
    }
    json_decref(value);
    (void)json_object_del(r->card, r->key);
    r->key[0] = 0;
}

ap_status ap_hf_card_read(json_t **out, ap_str readme, ap_error *err)
{
    reader r = {.card = json_object(), .err = err};
    *out = r.card;
    if (!r.card)
        return ap_fail_nomem(err, 64);
    if (readme.len == 0) /* and there may be no pointer */
        return AP_OK;
    if (ap_str_starts(readme, AP_STR("\xef\xbb\xbf")))
        readme = (ap_str){readme.ptr + 3, readme.len - 3};
    const char *start = readme.ptr;
    if (!ap_str_is(ap_str_trim(ap_str_next_line(&readme)), "---"))
        return AP_OK;
    while (readme.len) {
        ap_str line = ap_str_next_line(&readme), words = ap_str_trim(line);
        size_t read = (size_t)(readme.ptr - start);
        bool is_inside = line.len && (is_blank(line.ptr[0]) || line.ptr[0] == '-');
        if (ap_str_is(words, "---") || ap_str_is(words, "..."))
            return AP_OK;
        if (read > AP_HF_CARD_BYTES_MAX || r.count++ == AP_HF_CARD_LINES_MAX)
            return ap_fail(err, AP_E_LIMIT, AP_HF_CARD_FILE ": what stands in front of the text has more than %d bytes or %d lines",
                           AP_HF_CARD_BYTES_MAX, AP_HF_CARD_LINES_MAX);
        if (words.len == 0 || words.ptr[0] == '#')
            continue;
        if (!is_inside)
            read_entry(&r, line);
        else if (r.key[0])
            read_item(&r, line);
    }
    (void)json_object_clear(r.card); /* it never ended, so it was none */
    return AP_OK;
}

/* ---- Keys ---- */

static ap_status put(json_t *general, const char *key, json_t *value, ap_error *err)
{
    return json_object_set_new(general, key, value) == 0 ? AP_OK : ap_fail_nomem(err, 64);
}

static ap_status put_text(json_t *general, const char *key, const char *text, size_t length, ap_error *err)
{
    return put(general, key, json_stringn(text, length), err);
}

static bool has_item(const json_t *list, const json_t *text)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
        if (json_equal(item, text))
            return true;
    return false;
}

static ap_status put_field(const json_t *card, const ap_hf_card_field *f, json_t *general, ap_error *err)
{
    const json_t *value = json_object_get(card, f->card), *task = json_object_get(card, "pipeline_tag");
    if (!f->is_list) {
        value = json_is_array(value) ? json_array_get(value, 0) : value;
        return json_is_string(value) ? put(general, f->key, json_incref((json_t *)value), err) : AP_OK;
    }
    json_t *list = json_is_array(value) ? json_copy((json_t *)value) : json_array();
    if (list && json_is_string(value))
        (void)json_array_append(list, (json_t *)value);
    if (list && strcmp(f->card, "tags") == 0 && json_is_string(task) && !has_item(list, task)) /* what a model is for counts among its tags */
        (void)json_array_append(list, (json_t *)task);
    ap_status status = json_array_size(list) ? put(general, f->key, json_incref(list), err) : AP_OK;
    json_decref(list);
    return status;
}

static ap_status put_origin(const char *key, uint32_t index, const json_t *id, json_t *general, ap_error *err)
{
    char name[KEY_ROOM];
    ap_buf url = {0};
    const char *text = json_string_value(id);
    size_t length = json_string_length(id);
    const char *slash = memchr(text, '/', length), *last = slash ? slash + 1 : text;
    (void)snprintf(name, sizeof name, "%s.%u.name", key, index);
    AP_TRY(put_text(general, name, last, (size_t)(text + length - last), err));
    if (!slash)
        return AP_OK;
    (void)snprintf(name, sizeof name, "%s.%u.organization", key, index);
    AP_TRY(put_text(general, name, text, (size_t)(slash - text), err));
    (void)snprintf(name, sizeof name, "%s.%u.repo_url", key, index);
    ap_status status = ap_buf_printf(&url, err, AP_HF_CARD_HOME "%.*s", (int)length, text);
    if (status == AP_OK)
        status = put_text(general, name, url.ptr, url.len, err);
    ap_buf_deinit(&url);
    return status;
}

static ap_status put_origins(const json_t *card, const ap_hf_card_field *f, json_t *general, ap_error *err)
{
    char name[KEY_ROOM];
    const json_t *value = json_object_get(card, f->card);
    size_t count = json_is_array(value) ? json_array_size(value) : json_is_string(value);
    if (count > AP_HF_CARD_ORIGINS_MAX)
        return ap_fail(err, AP_E_LIMIT, AP_HF_CARD_FILE ": '%s' has %zu names; at most %d are allowed", f->card, count, AP_HF_CARD_ORIGINS_MAX);
    for (uint32_t i = 0; i < count; i++)
        AP_TRY(put_origin(f->key, i, json_is_array(value) ? json_array_get(value, i) : value, general, err));
    (void)snprintf(name, sizeof name, "%s.count", f->key);
    return count ? put(general, name, json_integer((json_int_t)count), err) : AP_OK;
}

ap_status ap_hf_card_general(const json_t *card, json_t **out, ap_error *err)
{
    const char *key;
    json_t *value, *general = *out = json_object();
    if (!general)
        return ap_fail_nomem(err, 64);
    for (size_t i = 0; i < ap_hf_card_field_count; i++)
        AP_TRY(put_field(card, &ap_hf_card_fields[i], general, err));
    for (size_t i = 0; i < ap_hf_card_origin_count; i++)
        AP_TRY(put_origins(card, &ap_hf_card_origins[i], general, err));
    json_object_foreach(json_object_get(card, AP_HF_CARD_GGUF), key, value)
        if (ap_hf_card_owns(ap_str_from(key)))
            AP_TRY(put(general, key, json_incref(value), err));
    return AP_OK;
}

static ap_status write_list(const char *key, const json_t *list, ap_gguf_writer *keys, ap_error *err)
{
    ap_arena arena = {0};
    size_t count = json_array_size(list);
    ap_str *texts = ap_arena_zero(&arena, count, sizeof *texts);
    ap_status status = texts ? AP_OK : ap_fail_nomem(err, count * sizeof *texts);
    for (size_t i = 0; i < count && texts; i++)
        texts[i] = (ap_str){json_string_value(json_array_get(list, i)), json_string_length(json_array_get(list, i))};
    if (status == AP_OK)
        status = ap_gguf_writer_strs(keys, key, count, texts, err);
    ap_arena_deinit(&arena);
    return status;
}

static ap_status write_key(const char *key, const json_t *value, ap_gguf_writer *keys, ap_error *err)
{
    json_int_t whole = json_integer_value(value);
    bool is_list = json_array_size(value) > 0;
    for (size_t i = 0; i < json_array_size(value); i++)
        is_list = is_list && json_is_string(json_array_get(value, i));
    switch (json_typeof(value)) {
    case JSON_STRING: return ap_gguf_writer_str(keys, key, (ap_str){json_string_value(value), json_string_length(value)}, err);
    case JSON_TRUE:
    case JSON_FALSE: return ap_gguf_writer_bool(keys, key, json_is_true(value), err);
    case JSON_REAL: return ap_gguf_writer_f32(keys, key, (float)json_real_value(value), err);
    case JSON_INTEGER: return whole >= 0 && whole <= UINT32_MAX ? ap_gguf_writer_u32(keys, key, (uint32_t)whole, err) : AP_OK;
    case JSON_ARRAY: return is_list ? write_list(key, value, keys, err) : AP_OK;
    default: return AP_OK;
    }
}

/* The last part of the name under which it was saved: "org/model" or a path. */
static ap_status put_saved_name(const json_t *config, json_t *general, ap_error *err)
{
    ap_str name;
    if (json_object_get(general, "general.name") || !ap_json_find(config, "_name_or_path"))
        return AP_OK;
    AP_TRY(ap_json_get_str(config, "_name_or_path", &name, err));
    while (name.len && name.ptr[name.len - 1] == '/')
        name.len--;
    const char *slash = name.len ? memrchr(name.ptr, '/', name.len) : NULL;
    const char *last = slash ? slash + 1 : name.ptr;
    return name.len ? put_text(general, "general.name", last, (size_t)(name.ptr + name.len - last), err) : AP_OK;
}

ap_status ap_hf_card_keep(const char *key, const json_t *object, ap_gguf_writer *keys, ap_error *err)
{
    ap_buf text = {0};
    if (json_object_size(object) == 0)
        return AP_OK;
    ap_status status = ap_json_print(object, JSON_COMPACT | JSON_REAL_PRECISION(9), &text, err);
    if (status == AP_OK)
        status = ap_gguf_writer_str(keys, key, ap_buf_str(&text), err);
    ap_buf_deinit(&text);
    return status;
}

static ap_status write_general(json_t *general, const json_t *card, const json_t *config, ap_gguf_writer *keys, ap_error *err)
{
    const char *key;
    json_t *value;
    ap_status status = put_saved_name(config, general, err);
    if (status != AP_OK)
        ap_error_prefix(err, "config.json");
    json_object_foreach(general, key, value)
        if (status == AP_OK)
            status = write_key(key, value, keys, err);
    return status == AP_OK ? ap_hf_card_keep(AP_HF_KEY_CARD, card, keys, err) : status;
}

ap_status ap_hf_card_write(const ap_hf_files *files, const json_t *config, ap_gguf_writer *keys, ap_error *err)
{
    ap_str readme = {0};
    json_t *card = NULL, *general = NULL;
    (void)ap_hf_files_find(files, AP_HF_CARD_FILE, &readme);
    ap_status status = ap_hf_card_read(&card, readme, err);
    if (status == AP_OK)
        status = ap_hf_card_general(card, &general, err);
    (void)json_object_del(card, AP_HF_CARD_GGUF);
    if (status == AP_OK)
        status = write_general(general, card, config, keys, err);
    json_decref(card);
    json_decref(general);
    return status;
}
