/* Any bytes as what a registry says: a manifest, a challenge; and as a reference.
 *
 * Holds: a refusal is one line; what is read stays within the limits, digests are digests, a reference makes no other
 * path than it says, and what is shown has no control characters.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "fetch/oci_inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static bool is_digest(const char *text) { return strlen(text) == AP_HASH_HEX - 1 && strspn(text, "0123456789abcdef") == AP_HASH_HEX - 1; }

static bool is_shown(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            return false;
    return true;
}

static void check_refusal(ap_status status, const ap_error *err)
{
    hold(status == AP_OK || (err->message[0] && !strchr(err->message, '\n')));
}

static void check_blob(const ap_oci_blob *b)
{
    hold(is_digest(b->sha256) && b->bytes <= AP_TRANSFER_BYTES_MAX && b->media_type[0] && is_shown(b->media_type) && is_shown(b->file_name));
}

static void as_manifest(ap_str text)
{
    ap_oci_manifest m;
    ap_error err = {0};
    ap_status status = ap_oci_manifest_parse(text, &m, &err);
    check_refusal(status, &err);
    if (status == AP_OK) {
        const ap_oci_blob *weights;
        ap_buf left = {0};
        hold(m.layer_count >= 1 && m.layer_count <= AP_OCI_LAYERS_MAX);
        check_blob(&m.config);
        for (size_t i = 0; i < m.layer_count; i++)
            check_blob(&m.layers[i]);
        status = ap_oci_manifest_weights(&m, &weights, &left, &err);
        check_refusal(status, &err);
        hold(status != AP_OK || (weights >= m.layers && weights < m.layers + m.layer_count));
        ap_buf_deinit(&left);
    }
    ap_oci_manifest_deinit(&m);
}

static void as_challenge(ap_str text)
{
    static ap_oci_challenge c;
    ap_error err = {0};
    ap_status status = ap_oci_challenge_parse(text, &c, &err);
    check_refusal(status, &err);
    hold(is_shown(c.realm) && is_shown(c.service) && is_shown(c.scope));
    hold(status != AP_OK || !c.is_bearer || c.realm[0]);
}

static void as_reference(const char *text)
{
    ap_oci_ref ref, again;
    ap_error err = {0};
    ap_status status = ap_oci_ref_parse(text, &ref, &err);
    check_refusal(status, &err);
    if (status != AP_OK)
        return;
    char source[AP_OCI_SOURCE_ROOM];
    hold(!strstr(ref.repository, "..") && !strstr(ref.repository, "//") && ref.repository[0] != '/' && !strchr(ref.tag, '/'));
    hold(!strchr(ref.host, '/') && !strchr(ref.host, '@') && (ref.tag[0] || is_digest(ref.sha256)));
    ap_oci_ref_source(&ref, source);
    hold(ap_oci_ref_parse(source, &again, NULL) == AP_OK && strcmp(again.host, ref.host) == 0 &&
         strcmp(again.repository, ref.repository) == 0 && strcmp(again.tag, ref.tag) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[1024];
    as_manifest((ap_str){(const char *)data, size});
    as_challenge((ap_str){(const char *)data, size});
    if (size < sizeof text) {
        memcpy(text, data, size);
        text[size] = 0;
        as_reference(text);
    }
    return 0;
}
