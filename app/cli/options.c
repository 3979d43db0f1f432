/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/utf8.h"
#include "cli/cli.h"

/* ---- Values ---- */

/* Digits, perhaps after a minus; strtoll and strtod would also take white space, a plus, hexadecimal digits, "inf". */
static bool begins_as_number(const char *text)
{
    const char *digits = text + (text[0] == '-');
    return digits[0] >= '0' && digits[0] <= '9' && !(digits[0] == '0' && (digits[1] | 0x20) == 'x');
}

static int set_number(const cli_option *o, const char *text)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (!begins_as_number(text) || errno || *end || (double)value < o->low || (double)value > o->high)
        return cli_error(CLI_MISUSE, "option %s is '%s'; a whole number from %.0f to %" PRId64 " is needed", o->name, text, o->low,
                         o->high < 0x1p63 ? (int64_t)o->high : INT64_MAX);
    *(int64_t *)o->out = value;
    return CLI_DONE;
}

static int set_real(const cli_option *o, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (!begins_as_number(text) || *end || !(value >= o->low && value <= o->high) || (o->above_low && value <= o->low))
        return cli_error(CLI_MISUSE, "option %s is '%s'; a number %s %g %s %g is needed", o->name, text,
                         o->above_low ? "above" : "from", o->low, o->above_low ? "and at most" : "to", o->high);
    *(double *)o->out = value;
    return CLI_DONE;
}

static int set_size(const cli_option *o, const char *text)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : *end == 'T' ? 40 : 0;
    if (shift)
        end++;
    if (*end == 'B')
        end++;
    if (!begins_as_number(text) || errno || *end || value <= 0 || value > (INT64_MAX >> shift))
        return cli_error(CLI_MISUSE, "option %s is '%s'; a size such as 512M or 4G is needed", o->name, text);
    *(int64_t *)o->out = value << shift;
    return CLI_DONE;
}

static int add_text(const cli_option *o, const char *text)
{
    cli_texts *all = o->out;
    if (all->count == CLI_TEXTS_MAX)
        return cli_error(CLI_MISUSE, "option %s may be given %d times", o->name, CLI_TEXTS_MAX);
    all->texts[all->count++] = text;
    return CLI_DONE;
}

static int set_isa(const cli_option *o, const char *text)
{
    char levels[128] = "";
    for (unsigned i = 0; ap_isa_available(i); i++) {
        if (strcmp(ap_isa_available(i), text) == 0) {
            *(const char **)o->out = text;
            return CLI_DONE;
        }
        size_t used = strlen(levels);
        (void)snprintf(levels + used, sizeof levels - used, "%s%s", i ? ", " : "", ap_isa_available(i));
    }
    return cli_error(CLI_MISUSE, "option %s is '%s'; this CPU and program have %s", o->name, text, levels);
}

static int set_kv_type(const cli_option *o, const char *text)
{
    for (unsigned type = 0; ap_kv_type_name(type); type++)
        if (strcmp(text, ap_kv_type_name(type)) == 0) {
            *(ap_kv_type *)o->out = (ap_kv_type)type;
            return CLI_DONE;
        }
    return cli_error(CLI_MISUSE, "option %s is '%s'; f16, f32 or q8 is needed", o->name, text);
}

static int set_sandbox(const cli_option *o, const char *text)
{
    if (strcmp(text, "full") != 0 && strcmp(text, "reduced") != 0)
        return cli_error(CLI_MISUSE, "option %s is '%s'; full or reduced is needed", o->name, text);
    *(ap_sandbox_mode *)o->out = strcmp(text, "full") == 0 ? AP_SANDBOX_FULL : AP_SANDBOX_REDUCED;
    return CLI_DONE;
}

static int set_option(const cli_option *o, const char *text)
{
    switch (o->kind) {
    case CLI_FLAG: *(bool *)o->out = true; return CLI_DONE;
    case CLI_TEXT: *(const char **)o->out = text; return CLI_DONE;
    case CLI_TEXTS: return add_text(o, text);
    case CLI_NUMBER: return set_number(o, text);
    case CLI_REAL: return set_real(o, text);
    case CLI_SIZE: return set_size(o, text);
    case CLI_ISA: return set_isa(o, text);
    case CLI_KV: return set_kv_type(o, text);
    case CLI_SANDBOX: return set_sandbox(o, text);
    case CLI_REFUSED: return cli_error(CLI_MISUSE, "option %s is not in this release", o->name);
    }
    return CLI_MISUSE;
}

ap_status cli_check_text(ap_str text, const char *what, ap_error *err)
{
    size_t length;
    for (size_t at = 0; at < text.len; at += length)
        if (ap_utf8_next(text.ptr + at, text.len - at, &length) < 0)
            return ap_fail(err, AP_E_ARG, "%s is not valid UTF-8: byte %zu, 0x%02x, begins no character", what, at,
                           (unsigned char)text.ptr[at]);
    return AP_OK;
}

/* A pipe that has a name is a text like standard input: the shell's <(…). */
static ap_status read_pipe(const char *file, size_t limit, ap_buf *out, ap_error *err)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return ap_fail(err, AP_E_IO, "'%s' cannot be opened: %s", file, strerror(errno));
    ap_status status = ap_file_read_fd(fd, limit, out, err);
    close(fd);
    return status;
}

ap_status cli_read_file(const char *file, size_t limit, ap_buf *out, ap_error *err)
{
    struct stat st;
    if (strcmp(file, "-") != 0 && (stat(file, &st) != 0 || !S_ISFIFO(st.st_mode)))
        return ap_file_read(file, limit, out, err);
    bool is_pipe = strcmp(file, "-") != 0;
    ap_status status = is_pipe ? read_pipe(file, limit, out, err) : ap_file_read_fd(STDIN_FILENO, limit, out, err);
    if (status != AP_OK)
        ap_error_prefix(err, is_pipe ? file : "standard input");
    return status;
}

int cli_read_ids_of(const char *text, const char *option, const char *file, int32_t **ids, size_t *count)
{
    enum { IDS_BYTES_MAX = 64 * 1024 * 1024 };
    ap_error err = {0};
    ap_buf bytes = {0};
    if (!text && cli_read_file(file, IDS_BYTES_MAX, &bytes, &err) != AP_OK)
        return cli_failed(&err);
    ap_status status = cli_read_ids(text ? ap_str_from(text) : ap_buf_str(&bytes), ids, count, &err);
    ap_buf_deinit(&bytes);
    if (status == AP_OK && *count == 0)
        status = ap_fail(&err, AP_E_ARG, "there are no token ids");
    if (status == AP_OK)
        return CLI_DONE;
    return text ? cli_error(CLI_MISUSE, "%s: %s", option, err.message) : cli_error(CLI_FAILED, "%s: %s", file, err.message);
}

/* `input` is NUL-terminated. */
ap_status cli_read_ids(ap_str input, int32_t **ids, size_t *count, ap_error *err)
{
    size_t room = 0;
    *ids = NULL;
    *count = 0;
    for (const char *p = input.ptr;;) {
        p += strspn(p, ", \t\r\n");
        if (p == input.ptr + input.len)
            return AP_OK;
        char *end;
        long value = strtol(p, &end, 10);
        /* a digit first: strtol would take more white space and a plus */
        if (*p < '0' || *p > '9' || value > INT32_MAX || (*end && !strchr(", \t\r\n", *end))) {
            ap_free(*ids);
            *ids = NULL;
            return ap_fail(err, AP_E_ARG, "'%.20s' is no token id", p);
        }
        if (*count == room) {
            room = room ? 2 * room : 256;
            int32_t *grown = ap_realloc_array(*ids, room, sizeof *grown);
            if (!grown) {
                ap_free(*ids);
                *ids = NULL;
                return ap_fail_nomem(err, room * sizeof *grown);
            }
            *ids = grown;
        }
        (*ids)[(*count)++] = (int32_t)value;
        p = end;
    }
}

/* ---- Words ---- */

/* Slips that turn one word into the other: a letter more, less, another, or two that changed places. */
static unsigned distance(const char *a, const char *b)
{
    unsigned d[64][64] = {{0}};
    size_t m = strlen(a), n = strlen(b);
    if (m > 63 || n > 63)
        return 63;
    for (size_t i = 0; i <= m; i++) {
        for (size_t j = 0; j <= n; j++) {
            unsigned least = i + j ? 63 : 0;
            if (i && d[i - 1][j] + 1 < least)
                least = d[i - 1][j] + 1;
            if (j && d[i][j - 1] + 1 < least)
                least = d[i][j - 1] + 1;
            if (i && j && d[i - 1][j - 1] + (a[i - 1] != b[j - 1]) < least)
                least = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < least)
                least = d[i - 2][j - 2] + 1;
            d[i][j] = least;
        }
    }
    return d[m][n];
}

const char *cli_nearest(const char *word, const char *const *names, size_t count)
{
    const char *best = NULL;
    size_t length = strcspn(word, "=");
    unsigned least = length < 5 ? (unsigned)(length + 1) / 2 : 3; /* as far away it is another word, not a slip */
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(names[i]);
        /* "--temperature" for "--temp", "--sys" for "--system" */
        bool is_part = n > 3 && length > 3 && strncmp(word, names[i], n < length ? n : length) == 0;
        unsigned d = is_part ? 0 : distance(word, names[i]);
        if (d < least || (is_part && !best)) {
            least = d;
            best = names[i];
        }
    }
    return best;
}

static const cli_option *find_option(const cli_command *c, const char *word, size_t length)
{
    for (size_t i = 0; i < c->option_count; i++)
        if (strlen(c->options[i].name) == length && strncmp(c->options[i].name, word, length) == 0)
            return &c->options[i];
    return NULL;
}

static int unknown_option(const cli_command *c, const char *word)
{
    const char *names[64];
    size_t count = 0;
    for (; count < c->option_count && count < 63; count++)
        names[count] = c->options[count].name;
    names[count++] = "--help";
    const char *near = cli_nearest(word, names, count);
    return cli_error(CLI_MISUSE, "%s has no option '%s'%s%s%s", c->name, word, near ? "; did you mean '" : "", near ? near : "",
                     near ? "'?" : "");
}

/* Finds the option that a word begins; its value too, if that is in the same word: --temp=1, -n=3, -n3. */
static const cli_option *read_option(const cli_command *c, char *word, const char **value)
{
    char *equals = strchr(word, '=');
    const cli_option *o = find_option(c, word, equals ? (size_t)(equals - word) : strlen(word));
    *value = equals ? equals + 1 : NULL;
    if (o || word[1] == '-')
        return o;
    o = find_option(c, word, 2);
    *value = word + 2;
    return o && o->value ? o : NULL;
}

int cli_parse(const cli_command *c, int argc, char **argv, unsigned *count, bool *wants_help)
{
    enum { OPTIONS_MAX = 64 };
    unsigned operands = 0;
    bool only_operands = false, is_given[OPTIONS_MAX] = {false};
    ap_assert(c->option_count <= OPTIONS_MAX);
    *wants_help = false;
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        bool is_number = word[0] == '-' && begins_as_number(word); /* no option begins with a digit */
        if (only_operands || word[0] != '-' || !word[1] || is_number) {
            argv[operands++] = word;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            only_operands = true;
            continue;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            *wants_help = true;
            return CLI_DONE;
        }
        const char *value;
        const cli_option *o = read_option(c, word, &value);
        if (!o)
            return unknown_option(c, word);
        if (o->kind != CLI_TEXTS && is_given[o - c->options])
            return cli_error(CLI_MISUSE, "option %s is given twice", o->name);
        is_given[o - c->options] = true;
        if (o->value && !value && o->kind != CLI_REFUSED) {
            if (++i == argc)
                return cli_error(CLI_MISUSE, "option %s needs a value: %s %s", o->name, o->name, o->value);
            value = argv[i];
        } else if (!o->value && value) {
            return cli_error(CLI_MISUSE, "option %s takes no value", o->name);
        }
        int code = set_option(o, value);
        if (code != CLI_DONE)
            return code;
    }
    if (operands < c->operands_min)
        return cli_error(CLI_MISUSE, "%s needs %s; 'aperto %s --help' tells more", c->name, c->operands, c->name);
    if (operands > c->operands_max)
        return cli_error(CLI_MISUSE, "%s does not expect '%s'; 'aperto %s --help' tells more", c->name, argv[c->operands_max],
                         c->name);
    *count = operands;
    return CLI_DONE;
}

/* ---- Help ---- */

/* Prints text from `column` on, broken at 100 columns. */
static void print_wrapped(const char *text, int column)
{
    int at = column;
    while (*text) {
        size_t word = strcspn(text, " \n");
        if (at > column && at + (int)word > 100) {
            (void)printf("\n%*s", column, "");
            at = column;
        }
        (void)printf("%.*s", (int)word, text);
        at += (int)word;
        text += word;
        if (*text == '\n') {
            (void)printf("\n%*s", column, "");
            at = column;
            text++;
        } else if (*text) {
            (void)putchar(' ');
            at++;
            text++;
        }
    }
    (void)putchar('\n');
}

void cli_print_help(const cli_command *c)
{
    (void)printf("Usage: aperto %s %s%s\n\n", c->name, c->operands, c->option_count ? (c->operands[0] ? " [OPTION…]" : "[OPTION…]") : "");
    print_wrapped(c->description, 0);
    if (c->option_count)
        (void)puts("\nOptions:");
    for (size_t i = 0; i < c->option_count; i++) {
        const cli_option *o = &c->options[i];
        if (o->kind == CLI_REFUSED)
            continue;
        char left[40];
        (void)snprintf(left, sizeof left, "  %s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
        (void)printf("%-22s ", left);
        print_wrapped(o->help, 23);
    }
}

/* Dots and quotes at the start of a line, and backslashes, mean something to troff. */
static void put_troff(const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\\')
            (void)fputs("\\e", stdout);
        else if (*p == '-')
            (void)fputs("\\-", stdout);
        else if ((*p == '.' || *p == '\'') && (p == text || p[-1] == '\n'))
            (void)printf("\\&%c", *p);
        else
            (void)putchar(*p);
    }
}

static void print_troff(const char *text)
{
    put_troff(text);
    (void)putchar('\n');
}

void cli_print_man(const cli_command *c)
{
    (void)printf(".TH aperto-%s 1 \"\" \"aperto\" \"Aperto manual\"\n.SH NAME\naperto\\-%s \\- ", c->name, c->name);
    print_troff(c->summary);
    (void)printf(".SH SYNOPSIS\n.B aperto %s\n", c->name);
    if (c->operands[0])
        print_troff(c->operands);
    if (c->option_count)
        (void)puts("[OPTION...]");
    (void)puts(".SH DESCRIPTION");
    print_troff(c->description);
    if (c->option_count)
        (void)puts(".SH OPTIONS");
    for (size_t i = 0; i < c->option_count; i++) {
        const cli_option *o = &c->options[i];
        if (o->kind == CLI_REFUSED)
            continue;
        (void)fputs(".TP\n.BI \"", stdout);
        put_troff(o->name);
        (void)printf("%s\" %s\n", o->value ? " " : "", o->value ? o->value : "");
        print_troff(o->help);
    }
    (void)puts(".SH EXIT STATUS\n0: done, 1: it failed, 2: it was asked wrongly.\n.SH SEE ALSO\n.BR aperto (1)");
}
