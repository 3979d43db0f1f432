/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pages.h"

#include "base/alloc.h"

struct ap_pages {
    unsigned char *memory;
    size_t page_bytes;
    uint32_t count;
    uint32_t free_count;
    ap_page_id *free_ids; /* a stack: the page dropped last is warm and is taken first */
    bool *is_held;
};

ap_status ap_pages_create(ap_pages **out, uint32_t count, size_t page_bytes, ap_error *err)
{
    *out = NULL;
    size_t total;
    if (!ap_mul_size(count, page_bytes, &total))
        return ap_fail(err, AP_E_LIMIT, "%u KV pages of %zu bytes are more than memory can address", count, page_bytes);
    ap_pages *pages = ap_alloc_zero(1, sizeof *pages);
    if (!pages)
        return ap_fail_nomem(err, sizeof *pages);
    *pages = (ap_pages){.page_bytes = page_bytes, .count = count, .free_count = count};
    pages->memory = ap_alloc_aligned(total);
    pages->free_ids = ap_alloc_array(count, sizeof *pages->free_ids);
    pages->is_held = ap_alloc_zero(count, sizeof *pages->is_held);
    if (!pages->memory || !pages->free_ids || !pages->is_held) {
        ap_pages_destroy(&pages);
        return ap_fail_nomem(err, total);
    }
    for (uint32_t i = 0; i < count; i++)
        pages->free_ids[i] = count - 1 - i;
    *out = pages;
    return AP_OK;
}

void ap_pages_destroy(ap_pages **pages_pointer)
{
    ap_pages *pages = *pages_pointer;
    *pages_pointer = NULL;
    if (!pages)
        return;
    ap_assert(pages->free_count == pages->count);
    ap_free(pages->memory);
    ap_free(pages->free_ids);
    ap_free(pages->is_held);
    ap_free(pages);
}

bool ap_pages_take(ap_pages *pages, ap_page_id *out)
{
    if (pages->free_count == 0)
        return false;
    *out = pages->free_ids[--pages->free_count];
    ap_assert(!pages->is_held[*out]);
    pages->is_held[*out] = true;
    return true;
}

void ap_pages_drop(ap_pages *pages, ap_page_id id)
{
    ap_assert(id < pages->count);
    ap_assert(pages->is_held[id]);
    pages->is_held[id] = false;
    pages->free_ids[pages->free_count++] = id;
}

void *ap_pages_memory(const ap_pages *pages, ap_page_id id)
{
    ap_assert(id < pages->count);
    return pages->memory + (size_t)id * pages->page_bytes;
}

uint32_t ap_pages_free_count(const ap_pages *pages) { return pages->free_count; }
uint32_t ap_pages_count(const ap_pages *pages) { return pages->count; }
