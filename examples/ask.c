/* ask.c - one prompt, one answer, by aperto.h alone:  ask MODEL.aperto "Why is the sky blue?"
 * SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "aperto.h"

static void show(void *context, const ap_event *event)
{
    (void)fwrite(event->text, 1, event->text_length, stdout);
}

int main(int argc, char **argv)
{
    ap_error err = {0};
    ap_model *model = NULL;
    ap_engine *engine = NULL;
    ap_tokens prompt = {0};
    ap_engine_options options = {.size = sizeof options};
    int fd = argc == 3 ? open(argv[1], O_RDONLY) : -1;
    bool busy = ap_model_open(&model, fd, &err) == AP_OK && ap_engine_create(&engine, model, &options, &err) == AP_OK &&
                ap_vocab_tokenize(ap_model_vocab(model), argv[2], strlen(argv[2]), AP_TOKENIZE_BOS, &prompt, &err) == AP_OK;
    if (busy) {
        ap_request request = {.size = sizeof request, .id = 1, .prompt = prompt.ids, .prompt_count = prompt.count,
                              .max_tokens = 32, .sampling = ap_sampling_default()};
        busy = ap_engine_submit(engine, &request, &err) == AP_OK;
    }
    while (busy && ap_engine_step(engine, show, NULL, &busy, &err) == AP_OK)
        ;
    (void)putchar('\n');
    if (err.status != AP_OK)
        (void)fprintf(stderr, "ask: %s\n", err.message);
    ap_release(prompt.ids);
    ap_engine_destroy(&engine);
    ap_model_close(&model);
    (void)close(fd);
    return err.status != AP_OK;
}
