/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "cli/cli.h"

static cli_measuring what = {.chunk_tokens = CLI_CHUNK_TOKENS};
static bool as_json;

static const cli_option options[] = {
    {"--file", "FILE", CLI_TEXT, &what.file, .help = "The text; - is standard input."},
    {"--parent", "MODEL", CLI_TEXT, &what.parent,
     .help = "Also say how far MODEL is from this one, which it was quantised from; what is found is kept as its passport, and 'show' "
             "prints it."},
    CLI_OPTION_CHUNKS(&what.chunk_tokens, &what.chunks_max),
    CLI_OPTION_THREADS(&what.threads),
    CLI_OPTION_ISA(&what.isa),
    CLI_OPTION_JSON(&as_json),
    CLI_OPTION_SANDBOX,
};

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    ap_measure m;
    ap_passport passport;
    if (!what.file)
        return cli_error(CLI_MISUSE, "option --file is needed");
    what.model = operands[0];
    if (cli_measure(&what, &m, &passport, &err) != AP_OK)
        return cli_failed(&err);
    if (as_json) {
        json_t *o = json_pack("{s:I, s:f, s:f, s:f}", "predictions", (json_int_t)m.predictions, "perplexity", exp(m.nll), "nll", m.nll,
                              "nll_error", m.nll_error);
        if (o && what.parent)
            json_object_set_new(o, "passport", ap_passport_json(&passport));
        return cli_print_json(o);
    }
    (void)printf("perplexity     %.6g ± %.3g (%.6f nats a token, %llu predictions)\n", exp(m.nll), exp(m.nll) * m.nll_error, m.nll,
                 (unsigned long long)m.predictions);
    if (what.parent)
        cli_print_passport(&passport);
    return cli_finish_output();
}

const cli_command cli_perplexity = {
    .name = "perplexity",
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .summary = "how well a model foretells a text, and how far it is from its parent",
    .description = "Runs a text through MODEL in chunks and prints how surprised the model is by it: lower is better. With --parent both "
                   "models run side by side, and the divergence between what they foretell, the ratio of perplexities and the share of "
                   "equal first choices are printed and kept as MODEL's passport, bound to the digests of both.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
