/* manifest.h - a manifest as JSON; inside the room only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_STORE_MANIFEST_H
#define AP_STORE_MANIFEST_H

#include "store/store.h"

/* AP_E_FORMAT names the file and what is wrong with it; AP_E_NOTFOUND. */
ap_status ap_manifest_read(const char *path, ap_store_entry *entry, ap_file_stamp *stamp, ap_error *err);
/* Atomically; `stamp` (of a source given by path) may be NULL. */
ap_status ap_manifest_write(const char *path, const ap_store_entry *entry, const ap_file_stamp *stamp, ap_error *err);

#endif
