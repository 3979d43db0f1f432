/* convert_card.c - README.md out of the keys general.*: the card of a model (hf_card.h).
 *
 * A file that was made of a folder has the card of that in a key of our own; what general.* says counts before it, and what no
 * card has a name for goes into its entry "gguf".
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "model/convert.h"
#include "model/hf_card.h"

enum { KEY_ROOM = 96, VALUES_MAX = 65536 };

/* ---- What the file says ---- */

static json_t *list_of(const ap_gguf *keys, const char *name)
{
    ap_arena arena = {0};
    const ap_str *texts;
    uint64_t count;
    json_t *list = NULL;
    if (ap_gguf_get_strs(keys, name, &arena, &texts, &count, NULL) == AP_OK && count > 0 && count < VALUES_MAX) {
        list = json_array();
        for (uint64_t i = 0; i < count; i++)
            if (json_array_append_new(list, json_stringn(texts[i].ptr, texts[i].len)) != 0) {
                json_decref(list);
                list = NULL;
                break;
            }
    }
    ap_arena_deinit(&arena);
    return list;
}

/* As it will be printed, so that what is read is equal; NULL if it is not finite. */
static json_t *real_of(float number)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%.9g", (double)number);
    return json_real(strtod(text, NULL));
}

/* NULL for what a card cannot say: an array of numbers, a number below 0 or of more than 32 bits. */
static json_t *value_of(const ap_gguf *keys, const ap_gguf_key *key, const char *name)
{
    ap_str text;
    uint32_t whole;
    float number;
    bool flag;
    switch ((int)key->kind) {
    case AP_GGUF_STRING: return ap_gguf_get_str(keys, name, &text, NULL) == AP_OK ? json_stringn(text.ptr, text.len) : NULL;
    case AP_GGUF_ARRAY: return key->item_kind == AP_GGUF_STRING ? list_of(keys, name) : NULL;
    case AP_GGUF_BOOL: return ap_gguf_get_bool(keys, name, &flag, NULL) == AP_OK ? json_boolean(flag) : NULL;
    case AP_GGUF_F32: return ap_gguf_get_f32(keys, name, &number, NULL) == AP_OK ? real_of(number) : NULL;
    case AP_GGUF_F64: return NULL;
    default: return ap_gguf_get_u32(keys, name, &whole, NULL) == AP_OK ? json_integer(whole) : NULL;
    }
}

static ap_status read_general(const ap_gguf *keys, json_t *out, ap_error *err)
{
    for (uint32_t i = 0; i < ap_gguf_key_count(keys); i++) {
        const ap_gguf_key *key = ap_gguf_key_at(keys, i);
        char name[KEY_ROOM];
        if (!ap_hf_card_owns(key->name) || memchr(key->name.ptr, 0, key->name.len) || !ap_utf8_valid(key->name))
            continue;
        (void)snprintf(name, sizeof name, "%.*s", (int)key->name.len, key->name.ptr);
        json_t *value = value_of(keys, key, name);
        if (value && json_object_set_new(out, name, value) != 0)
            return ap_fail_nomem(err, 64);
    }
    return AP_OK;
}

/* Nothing but texts and lists of texts, under names that stand at the beginning of a line. */
static void clean(json_t *card)
{
    const char *key;
    json_t *value, *item;
    void *next;
    size_t i;
    json_object_foreach_safe(card, next, key, value) {
        bool is_fine = ap_hf_card_is_name(ap_str_from(key)) && strcmp(key, AP_HF_CARD_GGUF) != 0 && (json_is_string(value) || json_array_size(value));
        json_array_foreach(value, i, item)
            is_fine = is_fine && json_is_string(item);
        if (!is_fine)
            (void)json_object_del(card, key);
    }
}

static ap_status read_card(const ap_gguf *keys, json_t **out, ap_error *err)
{
    ap_str text;
    if (ap_gguf_get_str(keys, AP_HF_KEY_CARD, &text, NULL) != AP_OK) {
        *out = json_object();
        return *out ? AP_OK : ap_fail_nomem(err, 64);
    }
    ap_status status = ap_json_parse(out, text, (ap_json_limits){2 * AP_HF_CARD_BYTES_MAX, 2 * AP_HF_CARD_LINES_MAX}, err);
    if (status == AP_OK && !json_is_object(*out))
        status = ap_fail(err, AP_E_FORMAT, "key '%s' is %s; an object is needed", AP_HF_KEY_CARD, ap_json_kind_name(*out));
    else if (status != AP_OK)
        ap_error_prefix(err, "key '" AP_HF_KEY_CARD "'");
    clean(*out);
    return status;
}

/* ---- The card that says it ---- */

/* "org/name" of the model or data that the keys describe; NULL if they give it no name. */
static json_t *origin_of(const json_t *general, const char *key, uint32_t index)
{
    char name[KEY_ROOM];
    const size_t home = sizeof AP_HF_CARD_HOME - 1;
    (void)snprintf(name, sizeof name, "%s.%u.repo_url", key, index);
    const json_t *url = json_object_get(general, name);
    if (json_is_string(url) && json_string_length(url) > home && strncmp(json_string_value(url), AP_HF_CARD_HOME, home) == 0)
        return json_stringn(json_string_value(url) + home, json_string_length(url) - home);
    (void)snprintf(name, sizeof name, "%s.%u.name", key, index);
    const json_t *title = json_object_get(general, name);
    (void)snprintf(name, sizeof name, "%s.%u.organization", key, index);
    const json_t *organization = json_object_get(general, name);
    if (!json_is_string(title))
        return NULL;
    return json_is_string(organization) ? json_sprintf("%s/%s", json_string_value(organization), json_string_value(title))
                                        : json_incref((json_t *)title);
}

static void set_origins(json_t *card, const ap_hf_card_field *f, const json_t *general, const json_t *made)
{
    char name[KEY_ROOM];
    (void)snprintf(name, sizeof name, "%s.count", f->key);
    json_int_t count = json_integer_value(json_object_get(general, name));
    bool is_same = json_integer_value(json_object_get(made, name)) == count;
    json_t *list = json_array();
    for (uint32_t i = 0; i < count && i < AP_HF_CARD_ORIGINS_MAX; i++) {
        (void)snprintf(name, sizeof name, "%s.%u.name", f->key, i);
        is_same = is_same && json_equal(json_object_get(general, name), json_object_get(made, name));
        json_t *origin = origin_of(general, f->key, i);
        if (origin)
            (void)json_array_append_new(list, origin);
    }
    if (!is_same && json_array_size(list) == 1)
        (void)json_object_set(card, f->card, json_array_get(list, 0));
    else if (!is_same && json_array_size(list))
        (void)json_object_set(card, f->card, list);
    json_decref(list);
}

/* Sets what general.* says otherwise than the card. */
static void set_fields(json_t *card, const json_t *general, const json_t *made)
{
    for (size_t i = 0; i < ap_hf_card_field_count; i++) {
        const ap_hf_card_field *f = &ap_hf_card_fields[i];
        json_t *value = json_object_get(general, f->key);
        if (value && json_is_array(value) == f->is_list && json_is_string(value) != f->is_list && !json_equal(value, json_object_get(made, f->key)))
            (void)json_object_set(card, f->card, value);
    }
    for (size_t i = 0; i < ap_hf_card_origin_count; i++)
        set_origins(card, &ap_hf_card_origins[i], general, made);
}

static void set_rest(json_t *card, const json_t *general, const json_t *made)
{
    const char *key;
    json_t *value, *rest = json_object();
    json_object_foreach((json_t *)general, key, value)
        if (!json_equal(value, json_object_get(made, key)))
            (void)json_object_set(rest, key, value);
    if (json_object_size(rest))
        (void)json_object_set(card, AP_HF_CARD_GGUF, rest);
    json_decref(rest);
}

static ap_status complete(json_t *card, const json_t *general, ap_error *err)
{
    json_t *made = NULL;
    ap_status status = ap_hf_card_general(card, &made, err);
    if (status == AP_OK)
        set_fields(card, general, made);
    json_decref(made);
    made = NULL;
    if (status == AP_OK)
        status = ap_hf_card_general(card, &made, err);
    if (status == AP_OK)
        set_rest(card, general, made);
    json_decref(made);
    return status;
}

/* ---- README.md ---- */

/* JSON is YAML; a word that nobody could take for something else stands without quotes. */
static ap_status print_text(const json_t *text, ap_buf *out, ap_error *err)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"};
    const char *bytes = json_string_value(text);
    size_t length = json_string_length(text);
    bool is_plain = length && ((bytes[0] >= 'a' && bytes[0] <= 'z') || (bytes[0] >= 'A' && bytes[0] <= 'Z'));
    for (size_t i = 0; i < length && is_plain; i++)
        is_plain = (bytes[i] >= 'a' && bytes[i] <= 'z') || (bytes[i] >= 'A' && bytes[i] <= 'Z') || (bytes[i] >= '0' && bytes[i] <= '9') ||
                   (bytes[i] != 0 && strchr("-_./+", bytes[i]));
    for (size_t i = 0; i < sizeof words / sizeof words[0] && is_plain; i++)
        is_plain = strcasecmp(bytes, words[i]) != 0;
    if (is_plain)
        return ap_buf_add(out, bytes, length, err);
    return ap_json_print(text, 0, out, err);
}

static ap_status print_entry(const char *key, const json_t *value, ap_buf *out, ap_error *err)
{
    size_t i;
    const json_t *item;
    bool is_object = json_is_object(value);
    if (!json_is_string(value) && !json_is_array(value) && !is_object)
        return AP_OK;
    AP_TRY(ap_buf_printf(out, err, "%s:%s", key, json_is_array(value) ? "\n" : " "));
    json_array_foreach(value, i, item) {
        AP_TRY(ap_buf_printf(out, err, "- "));
        AP_TRY(print_text(item, out, err));
        AP_TRY(ap_buf_add_char(out, '\n', err));
    }
    if (json_is_string(value))
        AP_TRY(print_text(value, out, err));
    if (is_object)
        AP_TRY(ap_json_print(value, JSON_REAL_PRECISION(9), out, err));
    return json_is_array(value) ? AP_OK : ap_buf_add_char(out, '\n', err);
}

static ap_status print_card(const json_t *card, const json_t *general, ap_buf *out, ap_error *err)
{
    const char *key;
    json_t *value;
    const json_t *name = json_object_get(general, "general.name");
    AP_TRY(ap_buf_printf(out, err, "---\n"));
    json_object_foreach((json_t *)card, key, value)
        AP_TRY(print_entry(key, value, out, err));
    AP_TRY(ap_buf_printf(out, err, "---\n\n# "));
    for (size_t i = 0; i < json_string_length(name); i++) /* a heading has one line */
        AP_TRY(ap_buf_add_char(out, (unsigned char)json_string_value(name)[i] < ' ' ? ' ' : json_string_value(name)[i], err));
    return ap_buf_printf(out, err, "%s\n\nThe files of this folder were made of a GGUF file by `aperto convert`.\n", name ? "" : "Model");
}

/* What was written is read as any card is, and must say the same. */
static ap_status read_back(const ap_buf *text, const json_t *general, ap_error *err)
{
    const char *key;
    json_t *card = NULL, *made = NULL, *value;
    ap_status status = ap_hf_card_read(&card, ap_buf_str(text), err);
    if (status == AP_OK)
        status = ap_hf_card_general(card, &made, err);
    if (status == AP_OK)
        json_object_foreach((json_t *)general, key, value)
            if (status == AP_OK && !json_equal(value, json_object_get(made, key)))
                status = ap_fail(err, AP_E_UNSUPPORTED, "key '%.95s' is one that the card in a README.md cannot say", key);
    json_decref(card);
    json_decref(made);
    return status;
}

ap_status ap_convert_card(const ap_gguf *keys, const ap_convert_options *options, ap_error *err)
{
    json_t *card = NULL, *general = json_object();
    ap_buf text = {0};
    ap_status status = general ? read_general(keys, general, err) : ap_fail_nomem(err, 64);
    if (status == AP_OK)
        status = read_card(keys, &card, err);
    if (status == AP_OK)
        status = complete(card, general, err);
    bool says_something = json_object_size(card) > 0;
    if (status == AP_OK && says_something)
        status = print_card(card, general, &text, err);
    if (status == AP_OK && says_something)
        status = read_back(&text, general, err);
    if (status == AP_OK && says_something)
        status = options->document(options->document_context, AP_HF_CARD_FILE, text.ptr, text.len, err);
    json_decref(card);
    json_decref(general);
    ap_buf_deinit(&text);
    return status;
}
