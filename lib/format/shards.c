/* SPDX-License-Identifier: Apache-2.0 */
#include "format/shards.h"

#include "base/alloc.h"
#include "base/json.h"
#include "base/map.h"
#include "base/utf8.h"

enum { NAME_SHOWN_MAX = 80 };

typedef struct entry {
    ap_str tensor;
    uint32_t shard;
} entry;

struct ap_shards {
    json_t *root; /* owns the names */
    entry *entries;
    uint32_t tensor_count, shard_count;
    ap_str names[AP_SHARDS_MAX];
    ap_map index; /* of names */
};

bool ap_file_name_is_plain(ap_str name)
{
    if (name.len == 0 || name.len > AP_SHARD_NAME_BYTES_MAX || ap_str_is(name, ".") || ap_str_is(name, ".."))
        return false;
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.ptr[i] < 0x20 || name.ptr[i] == 0x7f || name.ptr[i] == '/' || name.ptr[i] == '\\')
            return false;
    return ap_utf8_valid(name);
}

static ap_status shard_of(ap_shards *s, ap_str name, uint32_t *shard, ap_error *err)
{
    if (ap_map_get(&s->index, name, shard))
        return AP_OK;
    if (!ap_file_name_is_plain(name))
        return ap_fail(err, AP_E_FORMAT, "'weight_map' names the file '%.*s'%s; a plain name of at most %d bytes in the same folder is needed",
                       (int)(name.len < NAME_SHOWN_MAX ? name.len : NAME_SHOWN_MAX), name.ptr,
                       name.len > NAME_SHOWN_MAX ? "…" : "", AP_SHARD_NAME_BYTES_MAX);
    if (s->shard_count == AP_SHARDS_MAX)
        return ap_fail(err, AP_E_LIMIT, "'weight_map' names more than %d files", AP_SHARDS_MAX);
    *shard = s->shard_count;
    s->names[s->shard_count++] = name;
    return ap_map_add(&s->index, name, *shard, NULL, err);
}

static ap_status read_map(ap_shards *s, ap_error *err)
{
    const json_t *map;
    AP_TRY(ap_json_get_object(s->root, "weight_map", &map, err));
    size_t count = json_object_size(map);
    if (count == 0 || count > AP_SHARD_TENSORS_MAX)
        return ap_fail(err, AP_E_LIMIT, "'weight_map' has %zu tensors; allowed are 1 to %d", count, AP_SHARD_TENSORS_MAX);
    s->entries = ap_alloc_array(count, sizeof *s->entries);
    if (!s->entries)
        return ap_fail_nomem(err, count * sizeof *s->entries);
    const char *key;
    size_t key_length;
    json_t *value;
    json_object_keylen_foreach((json_t *)map, key, key_length, value)
    {
        entry *e = &s->entries[s->tensor_count];
        e->tensor = (ap_str){key, key_length};
        if (!json_is_string(value))
            return ap_fail(err, AP_E_FORMAT, "'weight_map.%.80s' is %s; a string is needed", key, ap_json_kind_name(value));
        AP_TRY(shard_of(s, (ap_str){json_string_value(value), json_string_length(value)}, &e->shard, err));
        s->tensor_count++;
    }
    return AP_OK;
}

ap_status ap_shards_open(ap_shards **out, ap_str json, ap_error *err)
{
    *out = NULL;
    ap_shards *s = ap_alloc_zero(1, sizeof *s);
    if (!s)
        return ap_fail_nomem(err, sizeof *s);
    ap_status status = ap_json_parse(&s->root, json, (ap_json_limits){AP_SHARD_INDEX_BYTES_MAX, AP_SHARD_TENSORS_MAX + 1000}, err);
    if (status == AP_OK)
        status = read_map(s, err);
    if (status != AP_OK) {
        ap_shards_close(&s);
        return status == AP_E_NOTFOUND ? AP_E_FORMAT : status;
    }
    *out = s;
    return AP_OK;
}

void ap_shards_close(ap_shards **shards)
{
    if (*shards) {
        ap_map_deinit(&(*shards)->index);
        ap_free((*shards)->entries);
        json_decref((*shards)->root);
        ap_free(*shards);
    }
    *shards = NULL;
}

uint32_t ap_shards_count(const ap_shards *s) { return s->shard_count; }
ap_str ap_shards_name(const ap_shards *s, uint32_t shard) { return s->names[shard]; }
uint32_t ap_shards_tensor_count(const ap_shards *s) { return s->tensor_count; }

ap_str ap_shards_tensor(const ap_shards *s, uint32_t index, uint32_t *shard)
{
    *shard = s->entries[index].shard;
    return s->entries[index].tensor;
}
