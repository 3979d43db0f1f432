/* pages.h - the pool of KV pages.
 *
 * A page holds keys and values of AP_PAGE_TOKENS consecutive positions of one
 * sequence, for all layers (kernel/attention.h has the layout inside).  All
 * memory is taken at creation: "full" is an ordinary answer, and the scheduler
 * then preempts somebody.
 *
 * Belongs to the engine's thread.  Thousands of pages, tens of takes and drops per step: both are O(1).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_ENGINE_PAGES_H
#define AP_ENGINE_PAGES_H

#include "base/error.h"

typedef struct ap_pages ap_pages;
typedef uint32_t ap_page_id; /* index in the pool, never a pointer */

/* Reserves `count` pages of `page_bytes` each, aligned to 64 bytes.  The system gives the memory when a page
 * is first written.  On failure *out is NULL and err tells how many bytes were asked for. */
ap_status ap_pages_create(ap_pages **out, uint32_t count, size_t page_bytes, ap_error *err);
/* All pages must have been dropped. */
void ap_pages_destroy(ap_pages **pages);

/* Hands one free page to the caller, who now holds it; false if none is free. */
bool ap_pages_take(ap_pages *pages, ap_page_id *out);
void ap_pages_drop(ap_pages *pages, ap_page_id id);

void *ap_pages_memory(const ap_pages *pages, ap_page_id id);
uint32_t ap_pages_free_count(const ap_pages *pages);
uint32_t ap_pages_count(const ap_pages *pages);

#endif
