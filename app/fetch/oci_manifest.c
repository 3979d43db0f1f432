/* Manifests: what is read of them, and which layer is the model.
 *
 * Media types of weights that are taken:
 *
 *     application/vnd.cncf.model.weight.v1.raw     ModelPack, one file as it is; with a file path that ends in .gguf, or none
 *     application/vnd.cncf.model.weight.v1.gguf    the same, as some write it
 *     application/vnd.docker.ai.gguf.v3            Docker Model Runner
 *     application/vnd.ollama.image.model           Ollama
 *     application/vnd.aperto.packed.v1             a packed file of our own
 *
 * Layers that change what the model says and that we would not apply (an adapter, a projector, a template beside the file)
 * are told to the user, or refused where leaving them out makes another model.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fetch/oci.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/utf8.h"

enum { MANIFEST_VALUES_MAX = 16 * 1024 };

/* ---- Reading ---- */

/* Printable ASCII without what would need quoting. */
static bool is_media_type(ap_str t)
{
    for (size_t i = 0; i < t.len; i++)
        if (t.ptr[i] <= 0x20 || t.ptr[i] >= 0x7f || t.ptr[i] == '"' || t.ptr[i] == '\\')
            return false;
    return t.len && t.len <= AP_OCI_MEDIA_TYPE_MAX;
}

static bool is_digest(ap_str t)
{
    static const char start[] = "sha256:";
    if (t.len != sizeof start - 1 + AP_HASH_HEX - 1 || memcmp(t.ptr, start, sizeof start - 1) != 0)
        return false;
    for (size_t i = sizeof start - 1; i < t.len; i++)
        if (!strchr("0123456789abcdef", t.ptr[i]) || !t.ptr[i])
            return false;
    return true;
}

/* What a layer calls its file.  It is shown, and its end looked at; no file is ever opened under it. */
static void read_file_name(const json_t *descriptor, ap_oci_blob *out)
{
    static const char *const keys[] = {"org.cncf.model.filepath", "org.cnai.model.filepath", "org.opencontainers.image.title"};
    const json_t *annotations = json_object_get(descriptor, "annotations");
    const json_t *value = NULL;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && !json_is_string(value); i++)
        value = json_object_get(annotations, keys[i]);
    if (!json_is_string(value))
        return;
    const char *text = json_string_value(value);
    size_t length = json_string_length(value), skipped = length > AP_OCI_NAME_MAX ? length - AP_OCI_NAME_MAX : 0, n = 0;
    for (size_t i = skipped; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        out->file_name[n++] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
    }
    out->file_name[n] = 0;
}

static ap_status read_blob(const json_t *descriptor, const char *what, size_t index, ap_oci_blob *out, ap_error *err)
{
    ap_str media_type = {0}, digest = {0};
    uint64_t bytes = 0;
    ap_status status = ap_json_get_str(descriptor, "mediaType", &media_type, err);
    if (status == AP_OK)
        status = ap_json_get_str(descriptor, "digest", &digest, err);
    if (status == AP_OK)
        status = ap_json_get_u64(descriptor, "size", &bytes, err);
    if (status == AP_OK && !is_media_type(media_type))
        status = ap_fail(err, AP_E_FORMAT, "its media type is none of 1 to %d printable characters", AP_OCI_MEDIA_TYPE_MAX);
    if (status == AP_OK && !is_digest(digest))
        status = ap_fail(err, AP_E_FORMAT, "its digest is not sha256: and 64 digits of 0-9 a-f");
    if (status == AP_OK && bytes > AP_TRANSFER_BYTES_MAX)
        status = ap_fail(err, AP_E_LIMIT, "it has %" PRIu64 " bytes, the limit is %" PRIu64, bytes, AP_TRANSFER_BYTES_MAX);
    if (status != AP_OK) {
        char where[64];
        (void)snprintf(where, sizeof where, "the manifest's %s %zu", what, index);
        ap_error_prefix(err, where);
        return status == AP_E_NOTFOUND ? AP_E_FORMAT : status;
    }
    memcpy(out->media_type, media_type.ptr, media_type.len);
    memcpy(out->sha256, digest.ptr + 7, AP_HASH_HEX - 1);
    out->bytes = bytes;
    read_file_name(descriptor, out);
    return AP_OK;
}

static ap_status read_root(const json_t *root, ap_oci_manifest *out, ap_error *err)
{
    uint32_t version;
    const json_t *config, *layers, *layer;
    size_t i;
    if (!json_is_object(root))
        return ap_fail(err, AP_E_FORMAT, "the manifest is %s and no object", ap_json_kind_name(root));
    if (json_object_get(root, "manifests"))
        return ap_fail(err, AP_E_UNSUPPORTED, "this is a list of manifests for several machines; name the one of the model by @sha256:DIGEST");
    if (ap_json_get_u32(root, "schemaVersion", &version, NULL) != AP_OK || version != 2)
        return ap_fail(err, AP_E_UNSUPPORTED, "the manifest's schemaVersion is not 2");
    if (ap_json_get_object(root, "config", &config, NULL) != AP_OK || ap_json_get_array(root, "layers", &layers, NULL) != AP_OK)
        return ap_fail(err, AP_E_FORMAT, "the manifest has no object 'config' or no array 'layers'");
    size_t count = json_array_size(layers);
    if (count == 0 || count > AP_OCI_LAYERS_MAX)
        return ap_fail(err, AP_E_LIMIT, "the manifest has %zu layers; 1 to %d are possible", count, AP_OCI_LAYERS_MAX);
    AP_TRY(read_blob(config, "config", 0, &out->config, err));
    out->layers = ap_alloc_zero(count, sizeof *out->layers);
    if (!out->layers)
        return ap_fail_nomem(err, count * sizeof *out->layers);
    json_array_foreach(layers, i, layer)
    {
        AP_TRY(read_blob(layer, "layer", i, &out->layers[i], err));
        out->layer_count++;
    }
    return AP_OK;
}

ap_status ap_oci_manifest_parse(ap_str text, ap_oci_manifest *out, ap_error *err)
{
    *out = (ap_oci_manifest){0};
    json_t *root;
    ap_status status = ap_json_parse(&root, text, (ap_json_limits){.bytes_max = AP_OCI_MANIFEST_BYTES_MAX, .values_max = MANIFEST_VALUES_MAX}, err);
    if (status != AP_OK) {
        ap_error_prefix(err, "the manifest");
        return status;
    }
    status = read_root(root, out, err);
    json_decref(root);
    return status;
}

void ap_oci_manifest_deinit(ap_oci_manifest *manifest)
{
    ap_free(manifest->layers);
    *manifest = (ap_oci_manifest){0};
}

/* ---- Choosing ---- */

typedef enum use { OTHER, WEIGHTS, NEEDED /* and not supported */, LEFT } use;

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_one_of(const char *type, const char *const *list)
{
    for (; *list; list++) {
        size_t length = strlen(*list);
        if (strncmp(type, *list, length) == 0 && (!type[length] || type[length] == ';' || ends_with(*list, ".") || ends_with(*list, "+")))
            return true;
    }
    return false;
}

static use use_of(const ap_oci_blob *b)
{
    static const char *const weights[] = {"application/vnd.cncf.model.weight.v1.gguf", "application/vnd.docker.ai.gguf.v3",
                                          "application/vnd.ollama.image.model", AP_OCI_PACKED, NULL};
    static const char *const raw[] = {AP_OCI_RAW, "application/vnd.cnai.model.weight.v1.raw", NULL};
    /* Without these it would be another model, or these are weights in a form that is not read from a registry. */
    static const char *const needed[] = {"application/vnd.ollama.image.adapter", "application/vnd.ollama.image.tensor",
                                         "application/vnd.cncf.model.weight.v1.", "application/vnd.cnai.model.weight.v1.",
                                         "application/vnd.docker.ai.safetensors", "application/vnd.docker.ai.model.file",
                                         "application/vnd.docker.ai.lora", NULL};
    static const char *const left[] = {"application/vnd.ollama.image.template", "application/vnd.ollama.image.system",
                                       "application/vnd.ollama.image.params", "application/vnd.ollama.image.messages",
                                       "application/vnd.ollama.image.projector", "application/vnd.docker.ai.mmproj",
                                       "application/vnd.docker.ai.chat.template.jinja", NULL};
    if (is_one_of(b->media_type, weights))
        return WEIGHTS;
    if (is_one_of(b->media_type, raw))
        return !b->file_name[0] || ends_with(b->file_name, ".gguf") ? WEIGHTS : NEEDED;
    return is_one_of(b->media_type, needed) ? NEEDED : is_one_of(b->media_type, left) ? LEFT : OTHER;
}

ap_status ap_oci_manifest_weights(const ap_oci_manifest *m, const ap_oci_blob **weights, ap_buf *left, ap_error *err)
{
    size_t count = 0;
    *weights = NULL;
    for (size_t i = 0; i < m->layer_count; i++) {
        const ap_oci_blob *b = &m->layers[i];
        use u = use_of(b);
        if (u == NEEDED)
            return ap_fail(err, AP_E_UNSUPPORTED, "layer %zu is '%s'%s%.100s%s, which is not read from a registry: only one GGUF file is", i,
                           b->media_type, b->file_name[0] ? " (" : "", b->file_name, b->file_name[0] ? ")" : "");
        if (u == WEIGHTS) {
            *weights = b;
            count++;
        }
        if (u == LEFT && left)
            AP_TRY(ap_buf_printf(left, err, "%s%s", left->len ? ", " : "", b->media_type));
    }
    if (count > 1)
        return ap_fail(err, AP_E_UNSUPPORTED, "the manifest has %zu layers of weights; only models in one GGUF file are read from a registry", count);
    if (count == 0)
        return ap_fail(err, AP_E_UNSUPPORTED, "no layer of the manifest is a model: the first of %zu is '%s'", m->layer_count,
                       m->layers[0].media_type);
    return AP_OK;
}
