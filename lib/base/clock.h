/* clock.h - durations from the monotonic clock; the wall clock only as a label.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_CLOCK_H
#define AP_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds since some fixed moment; never goes back. */
uint64_t ap_clock_ns(void);
/* Seconds since 1970, for the label "created". */
int64_t ap_clock_wall(void);

#endif
