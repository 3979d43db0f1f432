/* A manifest as JSON: what a name means now, and under "history" what it meant before, each with the same members.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "store/inside.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"

/* One meaning takes at most 5 KiB. */
enum { MANIFEST_BYTES_MAX = 512 * 1024 };

/* Copies a string member; one that is missing or too long makes the manifest damaged. */
static bool get_text(const json_t *object, const char *key, char *out, size_t room)
{
    const char *text = json_string_value(json_object_get(object, key));
    size_t length = text ? strlen(text) : room;
    if (length >= room)
        return false;
    for (const char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false; /* it will be printed */
    memcpy(out, text, length + 1);
    return true;
}

static bool get_number(const json_t *object, const char *key, uint64_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static bool is_digest(const char *text) { return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64; }

static bool read_stamp(const json_t *root, ap_file_stamp *stamp)
{
    const json_t *s = json_object_get(root, "stamp");
    uint64_t modified, changed;
    if (!s)
        return true;
    if (!get_number(s, "device", &stamp->device) || !get_number(s, "inode", &stamp->inode) ||
        !get_number(s, "bytes", &stamp->bytes) || !get_number(s, "modified_ns", &modified) ||
        !get_number(s, "changed_ns", &changed))
        return false;
    stamp->modified_ns = (int64_t)modified;
    stamp->changed_ns = (int64_t)changed;
    return true;
}

/* What the first release did not write may be missing. */
static bool read_later_members(const json_t *o, ap_store_entry *e)
{
    uint64_t replaced = 0, chat = 0;
    ap_import_report *r = &e->report;
    if ((json_object_get(o, "chat") && (!get_number(o, "chat", &chat) || chat > AP_CHAT_ALL ||
                                        !get_text(o, "chat_calls", r->chat_calls, sizeof r->chat_calls))) ||
        (json_object_get(o, "revision") && !get_text(o, "revision", e->revision, sizeof e->revision)) ||
        (json_object_get(o, "replaced") && !get_number(o, "replaced", &replaced)))
        return false;
    e->replaced = (int64_t)replaced;
    r->chat = (uint32_t)chat;
    e->is_undone = json_is_true(json_object_get(o, "undone"));
    return true;
}

static bool read_entry(const json_t *o, ap_store_entry *e)
{
    ap_import_report *r = &e->report;
    uint64_t created, context, law;
    if (!get_text(o, "name", e->name, sizeof e->name) || !get_text(o, "digest", e->digest, sizeof e->digest) ||
        !is_digest(e->digest) || !get_number(o, "packed_bytes", &e->packed_bytes) ||
        !get_text(o, "source", e->source, sizeof e->source) ||
        !get_text(o, "source_sha256", e->source_sha256, sizeof e->source_sha256) || !get_number(o, "created", &created) ||
        !get_text(o, "architecture", r->architecture, sizeof r->architecture) ||
        !get_text(o, "model_name", r->name, sizeof r->name) || !get_text(o, "license", r->license, sizeof r->license) ||
        !get_text(o, "quantization", r->quantization, sizeof r->quantization) ||
        !get_text(o, "notes", r->notes, sizeof r->notes) || !get_number(o, "parameters", &r->parameter_count) ||
        !get_number(o, "source_bytes", &r->source_bytes) || !get_number(o, "context_tokens", &context) ||
        !json_is_boolean(json_object_get(o, "has_chat_template")) || !get_number(o, "law", &law) || law > UINT32_MAX ||
        context > UINT32_MAX || !ap_store_name_is_valid(e->name) || !is_digest(e->source_sha256) || !read_later_members(o, e))
        return false;
    e->law_version = (unsigned)law;
    e->created = (int64_t)created;
    r->context_tokens = (uint32_t)context;
    r->packed_bytes = e->packed_bytes;
    r->has_chat_template = json_is_true(json_object_get(o, "has_chat_template"));
    return true;
}

static ap_status read_history(const json_t *root, ap_manifest *m, ap_error *err)
{
    const json_t *list = json_object_get(root, "history"), *item;
    size_t count = json_array_size(list), i;
    if (list && (!json_is_array(list) || count > AP_STORE_HISTORY_MAX))
        return ap_fail(err, AP_E_FORMAT, "its history is no list of at most %d", AP_STORE_HISTORY_MAX);
    m->before = count ? ap_alloc_zero(count, sizeof *m->before) : NULL;
    if (count && !m->before)
        return ap_fail_nomem(err, count * sizeof *m->before);
    json_array_foreach(list, i, item)
    {
        if (!read_entry(item, &m->before[i]) || strcmp(m->before[i].name, m->now.name) != 0)
            return ap_fail(err, AP_E_FORMAT, "entry %zu of its history is impossible", i);
        m->before_count++;
    }
    return AP_OK;
}

ap_status ap_manifest_parse(ap_str text, ap_manifest *out, ap_error *err)
{
    *out = (ap_manifest){0};
    /* Not ap_json_parse: times in nanoseconds have more digits than it takes for an integer. */
    json_error_t why;
    json_t *root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return json_error_code(&why) == json_error_out_of_memory ? ap_fail_nomem(err, text.len)
                                                                 : ap_fail(err, AP_E_FORMAT, "this is not valid JSON: %s", why.text);
    ap_status status = read_entry(root, &out->now) && read_stamp(root, &out->stamp)
                           ? read_history(root, out, err)
                           : ap_fail(err, AP_E_FORMAT, "a member is missing or impossible");
    json_decref(root);
    return status;
}

ap_status ap_manifest_read(const char *path, ap_manifest *out, ap_error *err)
{
    *out = (ap_manifest){0};
    ap_buf text;
    ap_error why = {0};
    AP_TRY(ap_file_read(path, MANIFEST_BYTES_MAX, &text, err));
    ap_status status = ap_manifest_parse(ap_buf_str(&text), out, &why);
    ap_buf_deinit(&text);
    if (status == AP_E_NOMEM && err)
        *err = why;
    return status == AP_OK || status == AP_E_NOMEM ? status
                                                   : ap_fail(err, AP_E_FORMAT, "the manifest '%s' is damaged: %s", path, why.message);
}

void ap_manifest_deinit(ap_manifest *manifest)
{
    ap_free(manifest->before);
    *manifest = (ap_manifest){0};
}

/* json_pack gives NULL for text that is not UTF-8: names come from strangers' files. */
static json_t *make_entry(const ap_store_entry *e)
{
    const ap_import_report *r = &e->report;
    json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:I, s:s, s:I}", "name", e->name,
                          "digest", e->digest, "packed_bytes", (json_int_t)e->packed_bytes, "source", e->source,
                          "source_sha256", e->source_sha256, "revision", e->revision, "created", (json_int_t)e->created,
                          "architecture", r->architecture, "model_name", r->name, "license", r->license, "quantization",
                          r->quantization, "notes", r->notes, "parameters", (json_int_t)r->parameter_count, "source_bytes",
                          (json_int_t)r->source_bytes, "context_tokens", (json_int_t)r->context_tokens,
                          "has_chat_template", (int)r->has_chat_template, "chat", (json_int_t)r->chat, "chat_calls",
                          r->chat_calls, "law", (json_int_t)e->law_version);
    bool is_whole = o && (!e->replaced || json_object_set_new(o, "replaced", json_integer(e->replaced)) == 0) &&
                    (!e->is_undone || json_object_set_new(o, "undone", json_true()) == 0);
    if (!is_whole)
        json_decref(o);
    return is_whole ? o : NULL;
}

static json_t *make_root(const ap_manifest *m)
{
    static const ap_file_stamp none;
    json_t *root = make_entry(&m->now), *list = json_array();
    bool is_whole = root && list && json_object_set_new(root, "manifest", json_integer(1)) == 0;
    for (size_t i = 0; is_whole && i < m->before_count; i++)
        is_whole = json_array_append_new(list, make_entry(&m->before[i])) == 0;
    if (is_whole && m->before_count)
        is_whole = json_object_set(root, "history", list) == 0;
    if (is_whole && !ap_file_stamp_equal(&m->stamp, &none))
        is_whole = json_object_set_new(root, "stamp",
                                       json_pack("{s:I, s:I, s:I, s:I, s:I}", "device", (json_int_t)m->stamp.device, "inode",
                                                 (json_int_t)m->stamp.inode, "bytes", (json_int_t)m->stamp.bytes, "modified_ns",
                                                 (json_int_t)m->stamp.modified_ns, "changed_ns", (json_int_t)m->stamp.changed_ns)) == 0;
    json_decref(list);
    if (!is_whole)
        json_decref(root);
    return is_whole ? root : NULL;
}

ap_status ap_manifest_write(const char *path, const ap_manifest *m, ap_error *err)
{
    json_t *root = make_root(m);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text)
        return ap_fail(err, AP_E_FORMAT, "the manifest of '%s' cannot be written: a text in the model is not UTF-8", m->now.name);
    ap_status status = ap_file_replace(path, text, strlen(text), 0644, err);
    free(text);
    return status;
}
