/* assets.h - the page's files, put into the program at build time from web/.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_ASSETS_H
#define AP_SERVE_ASSETS_H

#include <stddef.h>

typedef struct ap_asset {
    const char *path, *type;
    const unsigned char *bytes;
    size_t count;
} ap_asset;

extern const ap_asset ap_assets[];
extern const size_t ap_asset_count;

#endif
