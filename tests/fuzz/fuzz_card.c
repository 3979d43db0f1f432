/* Any bytes as the README.md of a folder: refused in one line, or keys of which a card is made that says the same (ap_convert_card
 * reads what it wrote); and any bytes as the card that a GGUF file keeps for itself.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdlib.h>

#include "model/convert.h"
#include "model/hf_card.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hold(bool condition)
{
    if (!condition)
        abort();
}

static ap_status keep(void *context, const char *name, const char *bytes, size_t count, ap_error *err)
{
    hold(strcmp(name, AP_HF_CARD_FILE) == 0);
    return ap_buf_add(context, bytes, count, err);
}

/* The keys as a GGUF file; false: they are refused. */
static bool close_keys(ap_gguf_writer *keys, ap_buf *out, ap_gguf **gguf)
{
    ap_error err = {0};
    bool is_fine = ap_gguf_writer_keys_only(keys, out, &err) == AP_OK;
    ap_gguf_writer_destroy(&keys);
    hold(is_fine ? ap_gguf_open(gguf, (const unsigned char *)out->ptr, out->len, &err) == AP_OK : err.message[0] && !strchr(err.message, '\n'));
    return is_fine;
}

static void make_card(const ap_gguf *gguf, bool must)
{
    ap_error err = {0};
    ap_buf readme = {0};
    ap_convert_options options = {.size = sizeof options, .document = keep, .document_context = &readme};
    ap_status status = ap_convert_card(gguf, &options, &err);
    hold(status == AP_OK || (err.message[0] && !strchr(err.message, '\n')));
    hold(status == AP_OK || !must);
    ap_buf_deinit(&readme);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ap_error err = {0};
    ap_gguf_writer *keys;
    ap_gguf *gguf = NULL;
    ap_buf bytes = {0};
    ap_hf_file file = {.name = AP_HF_CARD_FILE, .map = {data, size}};
    ap_hf_files files = {.files = &file, .count = 1};
    hold(ap_gguf_writer_create(&keys, AP_GGUF_ALIGNMENT_DEFAULT, &err) == AP_OK);
    ap_status status = ap_hf_card_write(&files, NULL, keys, &err);
    if (status != AP_OK) {
        hold(err.message[0] && !strchr(err.message, '\n'));
        ap_gguf_writer_destroy(&keys);
    } else if (close_keys(keys, &bytes, &gguf)) {
        make_card(gguf, true);
    }
    ap_gguf_close(&gguf);
    ap_buf_deinit(&bytes);

    hold(ap_gguf_writer_create(&keys, AP_GGUF_ALIGNMENT_DEFAULT, &err) == AP_OK);
    hold(ap_gguf_writer_str(keys, AP_HF_KEY_CARD, (ap_str){(const char *)data, size}, &err) == AP_OK);
    hold(ap_gguf_writer_str(keys, "general.name", (ap_str){(const char *)data, size}, &err) == AP_OK);
    hold(ap_gguf_writer_f32(keys, "general.number", 0.1f, &err) == AP_OK);
    if (close_keys(keys, &bytes, &gguf))
        make_card(gguf, false);
    ap_gguf_close(&gguf);
    ap_buf_deinit(&bytes);
    return 0;
}
