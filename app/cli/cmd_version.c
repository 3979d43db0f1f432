/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

static bool as_json;
static const cli_option options[] = {{"--json", NULL, CLI_FLAG, &as_json, .help = "Print JSON."}};

static int run(unsigned count, char **operands)
{
    if (as_json) {
        json_t *levels = json_array();
        for (unsigned i = 0; ap_isa_available(i); i++)
            json_array_append_new(levels, json_string(ap_isa_available(i)));
        return cli_print_json(json_pack("{s:s, s:i, s:o}", "version", APERTO_VERSION, "law", AP_LAW_VERSION, "isa", levels));
    }
    (void)printf("aperto %s, law of same bits version %d\nCPU levels:", APERTO_VERSION, AP_LAW_VERSION);
    for (unsigned i = 0; ap_isa_available(i); i++)
        (void)printf(" %s", ap_isa_available(i));
    (void)putchar('\n');
    return cli_finish_output();
}

const cli_command cli_version = {
    .name = "version", .operands = "", .summary = "version, law, CPU levels",
    .description = "Prints the program's version, the version of its arithmetic, and the CPU levels it can use here, best first.",
    .options = options, .option_count = 1, .run = run,
};
