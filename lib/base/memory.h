/* memory.h - how much memory may still be taken before the kernel ends a process to get some.
 *
 * No state, any thread.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_MEMORY_H
#define AP_BASE_MEMORY_H

#include <stdint.h>

/* The least of what the machine has (MemAvailable) and what each control group from ours up, version 1 or 2,
 * leaves: its limit less its use without the page cache, which can be dropped.  Swap does not count.  At least 1,
 * so that it can be a bound where 0 is none; UINT64_MAX where nothing tells.  `root` stands before /proc and /sys:
 * "", or a test's folder. */
uint64_t ap_memory_available(const char *root);

#endif
