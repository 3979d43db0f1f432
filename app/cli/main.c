/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "cli/cli.h"

static const cli_command *const commands[] = {&cli_run,    &cli_serve, &cli_pull,     &cli_list,   &cli_show,
                                              &cli_verify, &cli_rm,    &cli_tag, &cli_rollback, &cli_outdated, &cli_push, &cli_tokenize, &cli_render, &cli_logits,
                                              &cli_bench,  &cli_convert, &cli_quantize, &cli_imatrix, &cli_perplexity, &cli_version};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static const cli_command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

static void print_overview(void)
{
    (void)puts("Aperto runs open-weight language models on your own machine, with the same bits everywhere.\n\nUsage: aperto COMMAND …\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
    (void)puts("\n'aperto COMMAND --help' tells more. MODEL is a name in the store or the path of a GGUF file or of a folder.");
}

static void print_overview_man(void)
{
    (void)puts(".TH aperto 1 \"\" \"aperto\" \"Aperto manual\"\n.SH NAME\naperto \\- run open\\-weight language models on your own machine\n"
               ".SH SYNOPSIS\n.B aperto\n.I COMMAND\n[OPTION...]\n.SH COMMANDS");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)printf(".TP\n.BR aperto\\-%s (1)\n%s\n", commands[i]->name, commands[i]->summary);
    (void)puts(".SH ENVIRONMENT\n.TP\n.B APERTO_DATA\nThe data folder; else $XDG_DATA_HOME/aperto, else ~/.local/share/aperto.\n"
               ".TP\n.B NO_COLOR\nNo colours.\n.SH EXIT STATUS\n0: done, 1: it failed, 2: it was asked wrongly.");
}

static int unknown_command(const char *word)
{
    const char *names[COMMAND_COUNT];
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i]->name;
    /* What it is called elsewhere. */
    static const char *const elsewhere[][2] = {{"ls", "list"},    {"chat", "run"}, {"import", "pull"}, {"add", "pull"},
                                               {"remove", "rm"}, {"delete", "rm"}, {"info", "show"}, {"inspect", "show"}};
    const char *near = NULL;
    for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++)
        near = strcmp(word, elsewhere[i][0]) == 0 ? elsewhere[i][1] : near;
    if (!near)
        near = cli_nearest(word, names, COMMAND_COUNT);
    return cli_error(CLI_MISUSE, "there is no command '%s'%s%s%s", word, near ? "; did you mean '" : "; 'aperto --help' lists them",
                     near ? near : "", near ? "'?" : "");
}

static int run_help(int argc, char **argv)
{
    bool is_man = argc > 0 && strcmp(argv[0], "--man") == 0; /* for the build: the manual pages */
    if (is_man)
        argv++, argc--;
    if (argc > 1)
        return cli_error(CLI_MISUSE, "help does not expect '%s'", argv[1]);
    const cli_command *c = argc ? find_command(argv[0]) : NULL;
    if (argc && !c)
        return unknown_command(argv[0]);
    if (c)
        is_man ? cli_print_man(c) : cli_print_help(c);
    else
        is_man ? print_overview_man() : print_overview();
    return cli_finish_output();
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "worker") == 0) {
        if (argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
            (void)puts("aperto worker is the process that holds one model, in its sandbox. It is started by 'run' and 'serve'; it is no "
                       "command for people.");
            return cli_finish_output();
        }
        return ap_worker_main(argc, argv);
    }
    /* Without these three a model would be opened as standard input or output.  Reading finds nothing, writing
     * still fails. */
    for (int fd = 0; fd <= STDERR_FILENO; fd = fd < 0 ? STDERR_FILENO + 1 : fd + 1)
        if (fcntl(fd, F_GETFD) < 0)
            fd = open("/dev/null", O_RDONLY);
    /* Writing to a closed pipe is an error that is reported, not a death. */
    (void)signal(SIGPIPE, SIG_IGN);
    if (argc < 2)
        return run_help(0, argv);
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return run_help(argc - 2, argv + 2);
    const cli_command *c = find_command(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
    if (!c)
        return unknown_command(argv[1]);
    unsigned count = 0;
    bool wants_help;
    int code = cli_parse(c, argc - 2, argv + 2, &count, &wants_help);
    if (code != CLI_DONE)
        return code;
    if (wants_help) {
        cli_print_help(c);
        return cli_finish_output();
    }
    return c->run(count, argv + 2);
}
