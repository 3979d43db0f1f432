/* The way of a model to a registry.
 *
 * SPDX-License-Identifier: Apache-2.0 */
#include "fetch/fetch.h"

#include <stdio.h>

#include "base/alloc.h"
#include "fetch/oci.h"
#include "fetch/settings.h"

ap_status ap_fetch_check_target(const char *target, ap_error *err)
{
    ap_oci_ref ref;
    AP_TRY(ap_oci_ref_parse(target, &ref, err));
    return ref.tag[0] && !ref.sha256[0] ? AP_OK : ap_fail(err, AP_E_ARG, "'%.300s': a push needs :TAG and no digest", target);
}

static ap_status push(ap_transfer *transfer, const ap_oci_ref *ref, const ap_fetch_push *p, ap_fetch_state *out, ap_error *err)
{
    ap_oci *oci;
    ap_oci_blob layer = {.bytes = p->bytes};
    ap_oci_manifest manifest = {.config = {.media_type = "application/vnd.cncf.model.config.v1+json"}, .layers = &layer, .layer_count = 1};
    (void)snprintf(layer.media_type, sizeof layer.media_type, "%s", p->is_packed ? AP_OCI_PACKED : AP_OCI_RAW);
    (void)snprintf(layer.sha256, sizeof layer.sha256, "%s", p->sha256);
    (void)snprintf(layer.file_name, sizeof layer.file_name, "%s", p->file_name);
    AP_TRY(ap_oci_open(&oci, transfer, ref, err));
    ap_status status = ap_oci_put_blob(oci, p->fd, &layer, p->progress, p->context, err);
    if (status == AP_OK)
        status = ap_oci_put_bytes(oci, ap_str_from(p->config), &manifest.config, err);
    if (status == AP_OK)
        status = ap_oci_put_manifest(oci, &manifest, err);
    if (status == AP_OK)
        (void)snprintf(out->revision, sizeof out->revision, "sha256:%s", manifest.sha256);
    ap_oci_close(&oci);
    return status;
}

ap_status ap_fetch_push_model(const char *target, const ap_fetch_push *p, ap_fetch_state *out, ap_error *err)
{
    ap_oci_ref ref;
    ap_transfer *transfer;
    *out = (ap_fetch_state){.bytes = p->bytes};
    AP_TRY(ap_fetch_check_target(target, err));
    AP_TRY(ap_oci_ref_parse(target, &ref, err));
    ap_oci_ref_source(&ref, out->source);
    ap_fetch_settings *settings = ap_alloc(sizeof *settings);
    if (!settings)
        return ap_fail_nomem(err, sizeof *settings);
    ap_status status = ap_fetch_settings_read(settings, err);
    const ap_transfer_options options = {.ca_file = settings->ca_file, .stop = p->stop, .note = p->note, .context = p->context};
    if (status == AP_OK)
        status = ap_transfer_open(&transfer, &options, err);
    if (status == AP_OK) {
        status = push(transfer, &ref, p, out, err);
        ap_transfer_close(&transfer);
    }
    ap_free(settings);
    return status;
}
