/* SPDX-License-Identifier: Apache-2.0 */
#include "store/passport.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/json.h"
#include "store/inside.h"

enum { PASSPORT_BYTES_MAX = 16 * 1024, PASSPORT_VALUES_MAX = 100 };

/* ---- JSON ---- */

json_t *ap_passport_json(const ap_passport *p)
{
    const ap_measure *m = &p->measure;
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:I}", "version", 1, "sha256",
                     p->sha256, "parent", p->parent, "parent_sha256", p->parent_sha256, "text", p->text, "text_sha256", p->text_sha256,
                     "chunk_tokens", (int)p->chunk_tokens, "predictions", (json_int_t)m->predictions, "kl_mean", m->kl_mean, "kl_999",
                     m->kl_999, "perplexity_ratio", exp(m->nll - m->parent_nll), "nll", m->nll, "nll_error", m->nll_error, "parent_nll",
                     m->parent_nll, "top1", m->top1, "law", (int)p->law_version, "created", (json_int_t)p->created);
}

/* Text that will be printed. */
static ap_status get_text(const json_t *o, const char *key, char *out, size_t room, ap_error *err)
{
    ap_str text;
    AP_TRY(ap_json_get_str(o, key, &text, err));
    bool is_fit = text.len < room;
    for (size_t i = 0; is_fit && i < text.len; i++)
        is_fit = (unsigned char)text.ptr[i] >= 0x20 && text.ptr[i] != 0x7f;
    if (!is_fit)
        return ap_fail(err, AP_E_FORMAT, "'%s' is longer than %zu bytes or has control characters", key, room - 1);
    memcpy(out, text.ptr, text.len);
    out[text.len] = 0;
    return AP_OK;
}

static ap_status get_digest(const json_t *o, const char *key, char out[AP_HASH_HEX], ap_error *err)
{
    AP_TRY(get_text(o, key, out, AP_HASH_HEX, err));
    return strlen(out) == 64 && strspn(out, "0123456789abcdef") == 64 ? AP_OK : ap_fail(err, AP_E_FORMAT, "'%s' is no digest", key);
}

static ap_status get_number(const json_t *o, const char *key, double low, double high, double *out, ap_error *err)
{
    const json_t *value = ap_json_find(o, key);
    *out = json_number_value(value);
    return json_is_number(value) && *out >= low && *out <= high ? AP_OK
                                                               : ap_fail(err, AP_E_FORMAT, "'%s' is no number from %g to %g", key, low, high);
}

static ap_status read_members(const json_t *o, ap_passport *p, ap_error *err)
{
    ap_measure *m = &p->measure;
    double version, chunk, predictions, law, created;
    AP_TRY(get_number(o, "version", 1, 1, &version, err));
    AP_TRY(get_digest(o, "sha256", p->sha256, err));
    AP_TRY(get_digest(o, "parent_sha256", p->parent_sha256, err));
    AP_TRY(get_digest(o, "text_sha256", p->text_sha256, err));
    AP_TRY(get_text(o, "parent", p->parent, sizeof p->parent, err));
    AP_TRY(get_text(o, "text", p->text, sizeof p->text, err));
    AP_TRY(get_number(o, "chunk_tokens", 2, 1 << 20, &chunk, err));
    AP_TRY(get_number(o, "predictions", 1, 0x1p52, &predictions, err));
    AP_TRY(get_number(o, "kl_mean", 0, 1e6, &m->kl_mean, err));
    AP_TRY(get_number(o, "kl_999", 0, 1e6, &m->kl_999, err));
    AP_TRY(get_number(o, "nll", 0, 1e6, &m->nll, err));
    AP_TRY(get_number(o, "nll_error", 0, 1e6, &m->nll_error, err));
    AP_TRY(get_number(o, "parent_nll", 0, 1e6, &m->parent_nll, err));
    AP_TRY(get_number(o, "top1", 0, 1, &m->top1, err));
    AP_TRY(get_number(o, "law", 0, 1 << 20, &law, err));
    AP_TRY(get_number(o, "created", 0, 0x1p52, &created, err));
    p->chunk_tokens = (uint32_t)chunk;
    m->predictions = (uint64_t)predictions;
    p->law_version = (unsigned)law;
    p->created = (int64_t)created;
    return AP_OK;
}

ap_status ap_passport_parse(ap_str text, ap_passport *out, ap_error *err)
{
    json_t *root;
    *out = (ap_passport){0};
    AP_TRY(ap_json_parse(&root, text, (ap_json_limits){PASSPORT_BYTES_MAX, PASSPORT_VALUES_MAX}, err));
    ap_status status = json_is_object(root) ? read_members(root, out, err)
                                            : ap_fail(err, AP_E_FORMAT, "this is %s; an object is needed", ap_json_kind_name(root));
    json_decref(root);
    return status == AP_E_NOTFOUND ? AP_E_FORMAT : status;
}

/* ---- Files ---- */

static ap_status read_passport(const char *path, ap_passport *out, ap_error *err)
{
    ap_buf text;
    ap_error why = {0};
    AP_TRY(ap_file_read(path, PASSPORT_BYTES_MAX, &text, err));
    ap_status status = ap_passport_parse(ap_buf_str(&text), out, &why);
    ap_buf_deinit(&text);
    return status == AP_OK ? AP_OK : ap_fail(err, status, "the passport '%.300s' cannot be used: %s", path, why.message);
}

static ap_status write_passport(const char *path, const ap_passport *p, ap_error *err)
{
    json_t *root = ap_passport_json(p);
    char *text = root ? json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    if (!text)
        return ap_fail_nomem(err, sizeof *p);
    ap_file_new file;
    ap_status status = ap_file_new_begin(&file, path, err);
    if (status == AP_OK) {
        status = ap_file_write_all(file.fd, text, strlen(text), err);
        if (status == AP_OK)
            status = ap_file_write_all(file.fd, "\n", 1, err);
        if (status == AP_OK)
            status = ap_file_new_commit(&file, 0644, err);
        else
            ap_file_new_abort(&file);
    }
    free(text);
    return status;
}

static void place_of(const ap_store *store, const char *sha256, char path[AP_STORE_PATH_ROOM])
{
    (void)snprintf(path, AP_STORE_PATH_ROOM, "%s/passports/%s.json", store->folder, sha256);
}

ap_status ap_store_put_passport(ap_store *store, const ap_passport *p, ap_error *err)
{
    char path[AP_STORE_PATH_ROOM];
    (void)snprintf(path, sizeof path, "%s/passports", store->folder);
    ap_status status = ap_file_make_folders(path, 0755, err);
    place_of(store, p->sha256, path);
    if (status == AP_OK)
        status = write_passport(path, p, err);
    return status;
}

ap_status ap_store_passport(ap_store *store, const char *source_sha256, ap_passport *out, ap_error *err)
{
    char path[AP_STORE_PATH_ROOM];
    place_of(store, source_sha256, path);
    return read_passport(path, out, err);
}

static ap_status place_beside(const char *path, char out[AP_STORE_PATH_ROOM], ap_error *err)
{
    return snprintf(out, AP_STORE_PATH_ROOM, "%s.passport.json", path) < AP_STORE_PATH_ROOM
               ? AP_OK
               : ap_fail(err, AP_E_LIMIT, "the path is longer than %d bytes", AP_STORE_PATH_ROOM - 1);
}

ap_status ap_passport_write_beside(const char *path, const ap_passport *p, ap_error *err)
{
    char place[AP_STORE_PATH_ROOM];
    AP_TRY(place_beside(path, place, err));
    return write_passport(place, p, err);
}

ap_status ap_passport_read_beside(const char *path, const char *sha256, ap_passport *out, ap_error *err)
{
    char place[AP_STORE_PATH_ROOM];
    AP_TRY(place_beside(path, place, err));
    AP_TRY(read_passport(place, out, err));
    return strcmp(out->sha256, sha256) == 0
               ? AP_OK
               : ap_fail(err, AP_E_INTEGRITY, "the passport '%.300s' is not of this file: the digest it names is another", place);
}
