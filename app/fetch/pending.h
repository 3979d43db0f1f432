/* pending.h - the folder of all downloads: one subfolder per source, with its name in pull.json and a lock.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FETCH_PENDING_H
#define AP_FETCH_PENDING_H

#include "fetch/fetch.h"

/* Makes (or finds again) the folder of out->state.source, locks it and notes the state in it; *is_same_state if that was
 * the state noted before.  AP_E_STATE if another process fetches it. */
ap_status ap_pending_begin(const char *folder, ap_fetched *out, bool *is_same_state, ap_error *err);
/* Removes what nobody touched for AP_FETCH_KEEP_DAYS, and says so. */
void ap_pending_sweep(const ap_fetch_options *options);

#endif
