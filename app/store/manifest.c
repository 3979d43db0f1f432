/* A manifest as JSON.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "store/inside.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { MANIFEST_BYTES_MAX = 64 * 1024 };

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

static bool read_root(const json_t *root, ap_store_entry *e, ap_file_stamp *stamp)
{
    ap_import_report *r = &e->report;
    uint64_t created, context, law;
    if (!get_text(root, "name", e->name, sizeof e->name) || !get_text(root, "digest", e->digest, sizeof e->digest) ||
        !is_digest(e->digest) || !get_number(root, "packed_bytes", &e->packed_bytes) ||
        !get_text(root, "source", e->source, sizeof e->source) ||
        !get_text(root, "source_sha256", e->source_sha256, sizeof e->source_sha256) || !get_number(root, "created", &created) ||
        !get_text(root, "architecture", r->architecture, sizeof r->architecture) ||
        !get_text(root, "model_name", r->name, sizeof r->name) || !get_text(root, "license", r->license, sizeof r->license) ||
        !get_text(root, "quantization", r->quantization, sizeof r->quantization) ||
        !get_text(root, "notes", r->notes, sizeof r->notes) || !get_number(root, "parameters", &r->parameter_count) ||
        !get_number(root, "source_bytes", &r->source_bytes) || !get_number(root, "context_tokens", &context) ||
        !json_is_boolean(json_object_get(root, "has_chat_template")) || !read_stamp(root, stamp) ||
        !get_number(root, "law", &law) || law > UINT32_MAX || context > UINT32_MAX || !ap_store_name_is_valid(e->name) ||
        !is_digest(e->source_sha256))
        return false;
    e->law_version = (unsigned)law;
    e->created = (int64_t)created;
    r->context_tokens = (uint32_t)context;
    r->packed_bytes = e->packed_bytes;
    r->has_chat_template = json_is_true(json_object_get(root, "has_chat_template"));
    return true;
}

ap_status ap_manifest_read(const char *path, ap_store_entry *entry, ap_file_stamp *stamp, ap_error *err)
{
    *entry = (ap_store_entry){0};
    *stamp = (ap_file_stamp){0};
    ap_buf text;
    AP_TRY(ap_file_read(path, MANIFEST_BYTES_MAX, &text, err));
    json_error_t why;
    json_t *root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &why);
    ap_buf_deinit(&text);
    bool is_json = root != NULL, is_good = root && read_root(root, entry, stamp);
    json_decref(root);
    return is_good ? AP_OK : ap_fail(err, AP_E_FORMAT, "the manifest '%s' is damaged: %s", path,
                                     is_json ? "a member is missing or impossible" : why.text);
}

ap_status ap_manifest_write(const char *path, const ap_store_entry *e, const ap_file_stamp *stamp, ap_error *err)
{
    const ap_import_report *r = &e->report;
    json_t *root = json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:i, s:i}", "name", e->name,
                             "digest", e->digest, "packed_bytes", (json_int_t)e->packed_bytes, "source", e->source,
                             "source_sha256", e->source_sha256, "created", (json_int_t)e->created, "architecture",
                             r->architecture, "model_name", r->name, "license", r->license, "quantization", r->quantization,
                             "notes", r->notes, "parameters", (json_int_t)r->parameter_count, "source_bytes",
                             (json_int_t)r->source_bytes, "context_tokens", (json_int_t)r->context_tokens,
                             "has_chat_template", (int)r->has_chat_template, "law", AP_LAW_VERSION, "manifest", 1);
    if (root && stamp)
        json_object_set_new(root, "stamp",
                            json_pack("{s:I, s:I, s:I, s:I, s:I}", "device", (json_int_t)stamp->device, "inode",
                                      (json_int_t)stamp->inode, "bytes", (json_int_t)stamp->bytes, "modified_ns",
                                      (json_int_t)stamp->modified_ns, "changed_ns", (json_int_t)stamp->changed_ns));
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    /* json_pack refuses text that is not UTF-8: names come from strangers' files. */
    if (!text)
        return ap_fail(err, AP_E_FORMAT, "the manifest of '%s' cannot be written: a text in the model is not UTF-8", e->name);
    ap_file_new file;
    ap_status status = ap_file_new_begin(&file, path, err);
    if (status == AP_OK) {
        status = ap_file_write_all(file.fd, text, strlen(text), err);
        if (status == AP_OK)
            status = ap_file_new_commit(&file, 0644, err);
        else
            ap_file_new_abort(&file);
    }
    free(text);
    return status;
}
