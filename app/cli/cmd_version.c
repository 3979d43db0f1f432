/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

static bool as_json;
static const cli_option options[] = {CLI_OPTION_JSON(&as_json)};

static ap_status do_nothing(ap_oneshot *self, void *context, ap_error *err) { return AP_OK; }

static int run(unsigned count, char **operands)
{
    ap_error err = {0};
    const ap_oneshot_options in_sandbox = {.output_fd = -1};
    const char *sandbox = ap_worker_oneshot(do_nothing, NULL, &in_sandbox, &err) == AP_OK ? "full" : err.message;
    if (as_json) {
        json_t *levels = json_array();
        for (unsigned i = 0; ap_isa_available(i); i++)
            json_array_append_new(levels, json_string(ap_isa_available(i)));
        return cli_print_json(json_pack("{s:s, s:i, s:o, s:s}", "version", APERTO_VERSION, "law", AP_LAW_VERSION, "isa", levels,
                                        "sandbox", sandbox));
    }
    (void)printf("aperto %s, law of same bits version %d\nCPU levels:", APERTO_VERSION, AP_LAW_VERSION);
    for (unsigned i = 0; ap_isa_available(i); i++)
        (void)printf(" %s", ap_isa_available(i));
    (void)printf("\nSandbox: %s\n", sandbox);
    return cli_finish_output();
}

const cli_command cli_version = {
    .name = "version", .operands = "", .summary = "version, law, CPU levels, sandbox",
    .description = "Prints the program's version, the version of its arithmetic, the CPU levels it can use here, best first, and whether this "
                   "kernel has all parts of the sandbox.",
    .options = options, .option_count = 1, .run = run,
};
