/* ask.c - one prompt, one answer, by aperto.h alone:  ask MODEL.aperto "Why is the sky blue?"
 * SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "aperto.h"

static void show(void *failure, const ap_event *event)
{
    (void)fwrite(event->text, 1, event->text_length, stdout);
    if (event->kind == AP_EVENT_FAILED)
        *(ap_error *)failure = *event->error;
}

static ap_status make_tokens(const ap_vocab *vocab, const char *text, ap_tokens *ids, ap_error *err)
{
    if (ap_vocab_has_template(vocab)) /* a chat; else the text is continued */
        return ap_vocab_render_user(vocab, text, strlen(text), time(NULL), ids, err);
    return ap_vocab_tokenize(vocab, text, strlen(text), AP_TOKENIZE_BOS, ids, err);
}

int main(int argc, char **argv)
{
    ap_error err = {0};
    ap_model *model = NULL;
    ap_engine *engine = NULL;
    ap_engine_options options = {.size = sizeof options};
    ap_request asked = {.size = sizeof asked, .id = 1, .max_tokens = 32, .sampling = ap_sampling_default()};
    ap_tokens ids = {0};
    bool busy = ap_model_open(&model, open(argc == 3 ? argv[1] : "", O_RDONLY), &err) == AP_OK &&
                ap_engine_create(&engine, model, &options, &err) == AP_OK &&
                make_tokens(ap_model_vocab(model), argv[2], &ids, &err) == AP_OK;
    asked.prompt = ids.ids, asked.prompt_count = ids.count;
    busy = busy && ap_engine_submit(engine, &asked, &err) == AP_OK;
    while (busy && ap_engine_step(engine, show, &err, &busy, &err) == AP_OK) {}
    ap_release(ids.ids), ap_engine_destroy(&engine), ap_model_close(&model);
    (void)(err.status == AP_OK ? puts("") : fprintf(stderr, "ask: %s\n", err.message));
    return err.status != AP_OK || fflush(stdout) != 0;
}
