/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/assets.h"

/* Written by embed.sh from the files of web/. */
static const unsigned char page[] = {
#include "index.html.inc"
};
static const unsigned char script[] = {
#include "app.js.inc"
};
static const unsigned char style[] = {
#include "app.css.inc"
};

const ap_asset ap_assets[] = {
    {"/", "text/html; charset=utf-8", page, sizeof page},
    {"/app.js", "text/javascript; charset=utf-8", script, sizeof script},
    {"/app.css", "text/css; charset=utf-8", style, sizeof style},
};
const size_t ap_asset_count = sizeof ap_assets / sizeof *ap_assets;
