/* Any bytes as a manifest of the store.
 *
 * Holds: a refusal is one line; what is read can be printed, names files inside the store only, and reads back the same
 * after it was written.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>
#include <unistd.h>

#include "store/inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static void check_entry(const ap_store_entry *e)
{
    hold(ap_store_name_is_valid(e->name) && !strchr(e->name, '/'));
    hold(strlen(e->digest) == AP_HASH_HEX - 1 && strspn(e->digest, "0123456789abcdef") == AP_HASH_HEX - 1);
    const char *const texts[] = {e->source, e->revision, e->report.name, e->report.license, e->report.notes};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        for (const char *p = texts[i]; *p; p++)
            hold((unsigned char)*p >= 0x20 && *p != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char path[] = "/tmp/aperto-manifest-XXXXXX";
    static bool has_path;
    ap_manifest m, again;
    ap_error err = {0};
    ap_status status = ap_manifest_parse((ap_str){(const char *)data, size}, &m, &err);
    if (status != AP_OK) {
        hold(err.message[0] && !strchr(err.message, '\n'));
        ap_manifest_deinit(&m);
        return 0;
    }
    check_entry(&m.now);
    hold(m.before_count <= AP_STORE_HISTORY_MAX);
    for (size_t i = 0; i < m.before_count; i++) {
        check_entry(&m.before[i]);
        hold(strcmp(m.before[i].name, m.now.name) == 0);
    }
    if (!has_path) {
        int fd = mkstemp(path);
        hold(fd >= 0);
        close(fd);
        has_path = true;
    }
    hold(ap_manifest_write(path, &m, &err) == AP_OK);
    hold(ap_manifest_read(path, &again, &err) == AP_OK);
    (void)unlink(path);
    hold(strcmp(again.now.digest, m.now.digest) == 0 && strcmp(again.now.source, m.now.source) == 0);
    hold(again.now.law_version == m.now.law_version && ap_file_stamp_equal(&again.stamp, &m.stamp));
    hold(again.before_count == m.before_count);
    ap_manifest_deinit(&again);
    ap_manifest_deinit(&m);
    return 0;
}
