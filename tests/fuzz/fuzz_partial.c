/* Any bytes as what is noted of a file that was fetched in part.
 *
 * Holds: what is accepted speaks of no byte that is not there, its pieces come to the whole file, its validator is a line
 * of a header, and a refusal is one line.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "fetch/partial.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static void check(const ap_partial *p, uint64_t file_bytes)
{
    uint64_t sum = 0;
    hold(p->bytes <= AP_TRANSFER_BYTES_MAX && p->piece_bytes > 0 && p->count == p->bytes / p->piece_bytes + (p->bytes % p->piece_bytes != 0));
    for (size_t i = 0; i < p->count; i++) {
        uint64_t start = i * p->piece_bytes;
        hold(p->done[i] <= p->piece_bytes && start + p->done[i] <= p->bytes && (p->done[i] == 0 || start + p->done[i] <= file_bytes));
        sum += p->done[i];
    }
    hold(sum == p->done_bytes && strlen(p->validator) < sizeof p->validator);
    for (const char *c = p->validator; *c; c++)
        hold((unsigned char)*c >= 0x20 && *c != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t there[] = {0, 5000, 2000000};
    char *text = ap_strndup((const char *)data, size); /* exactly as long as it is, for the sanitizer */
    for (size_t i = 0; text && i < sizeof there / sizeof there[0]; i++) {
        ap_partial p = {.folder = -1, .fd = -1, .name = "f", .address = "sha256:x"};
        ap_error err = {0};
        if (ap_partial_read_state(&p, (ap_str){text, size}, i ? UINT64_MAX : 2000000, there[i], &err) == AP_OK)
            check(&p, there[i]);
        else
            hold(err.message[0] && !strchr(err.message, '\n'));
        ap_partial_close(&p);
    }
    ap_free(text);
    return 0;
}
