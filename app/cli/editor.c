/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/editor.h"

#include <errno.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"

enum { HISTORY_LINES = 1000, PASTE_CHARACTERS_MAX = 1024 * 1024 };

#define PASTE_ON "\033[?2004h"
#define PASTE_OFF "\033[?2004l"
#define PASTE_BEGIN "\033[200~"
#define PASTE_END L"\033[201~"

struct cli_editor {
    EditLine *line;
    History *past;
    const char *history, *prompt;
};

/* What a signal handler needs. */
static struct termios before;
static bool has_before, has_paste;

/* ---- The terminal's modes ---- */

static void restore_terminal(void) /* also in a signal handler */
{
    if (has_before)
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &before);
    if (has_paste && write(STDOUT_FILENO, PASTE_OFF, sizeof PASTE_OFF - 1) < 0)
        return;
}

static void on_end(int signal_number)
{
    restore_terminal();
    (void)signal(signal_number, SIG_DFL);
    (void)raise(signal_number);
}

/* Between two prompts: what is typed is not shown, and waits byte for byte.  Ctrl-C still acts. */
static void be_quiet(void)
{
    struct termios quiet = before;
    if (!has_before)
        return;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ICANON);
    quiet.c_cc[VMIN] = 1;
    quiet.c_cc[VTIME] = 0;
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &quiet);
}

/* ---- Pasting ---- */

/* Line ends become '\n' (terminals send a carriage return), other control characters but tabs go. */
static void tidy_paste(wchar_t *text, size_t count)
{
    size_t n = 0;
    wchar_t last = 0;
    for (size_t i = 0; i < count; i++) {
        wchar_t c = text[i] == L'\r' ? L'\n' : text[i];
        bool is_second = text[i] == L'\n' && last == L'\r';
        last = text[i];
        if (!is_second && (c == L'\n' || c == L'\t' || (c >= 0x20 && c != 0x7f)))
            text[n++] = c;
    }
    text[n] = 0;
}

/* The terminal announced a paste: all of it goes into the line, with its ends of lines. */
static unsigned char take_paste(EditLine *line, int key)
{
    static const size_t end_length = sizeof PASTE_END / sizeof(wchar_t) - 1;
    wchar_t *text = ap_alloc_array(PASTE_CHARACTERS_MAX + 1, sizeof *text), c;
    size_t count = 0, matched = 0;
    bool is_too_long = !text;
    while (matched < end_length) {
        if (el_wgetc(line, &c) != 1) {
            ap_free(text);
            return CC_EOF;
        }
        matched = c == PASTE_END[matched] ? matched + 1 : c == PASTE_END[0];
        if (count < PASTE_CHARACTERS_MAX && text)
            text[count++] = c;
        else
            is_too_long = true;
    }
    if (!is_too_long) {
        tidy_paste(text, count - end_length);
        is_too_long = text[0] && el_winsertstr(line, text) != 0;
    }
    ap_free(text);
    if (!is_too_long)
        return CC_REFRESH;
    (void)printf("\r\nThe paste is too long: at most %d characters can be taken.\r\n", PASTE_CHARACTERS_MAX - (int)end_length);
    return CC_REDISPLAY;
}

static void begin_paste_mode(EditLine *line)
{
    const char *terminal = getenv("TERM");
    el_set(line, EL_ADDFN, "take-paste", "Takes pasted text as one message", take_paste);
    el_set(line, EL_BIND, PASTE_BEGIN, "take-paste", NULL);
    has_paste = terminal && strcmp(terminal, "dumb") != 0;
    if (has_paste)
        (void)fputs(PASTE_ON, stdout);
}

/* ---- Opening and reading ---- */

static char *prompt_of(EditLine *line)
{
    cli_editor *e;
    el_get(line, EL_CLIENTDATA, &e);
    return (char *)(uintptr_t)e->prompt;
}

ap_status cli_editor_open(cli_editor **out, const char *history_file, ap_error *err)
{
    HistEvent event;
    /* The line editor needs to know that a character may be several bytes. */
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        (void)setlocale(LC_CTYPE, "C.UTF-8");
    cli_editor *e = *out = ap_alloc_zero(1, sizeof *e);
    if (!e)
        return ap_fail_nomem(err, sizeof *e);
    has_before = tcgetattr(STDIN_FILENO, &before) == 0;
    e->line = el_init("aperto", stdin, stdout, stderr);
    e->past = history_init();
    if (!e->line || !e->past) {
        cli_editor_close(out);
        return ap_fail(err, AP_E_NOMEM, "the line editor could not be started");
    }
    (void)history(e->past, &event, H_SETSIZE, HISTORY_LINES);
    e->history = history_file;
    if (history_file)
        (void)history(e->past, &event, H_LOAD, history_file);
    el_set(e->line, EL_CLIENTDATA, e);
    el_set(e->line, EL_PROMPT, prompt_of);
    el_set(e->line, EL_EDITOR, "emacs");
    el_set(e->line, EL_SIGNAL, 1);
    el_set(e->line, EL_HIST, history, e->past);
    const struct sigaction end = {.sa_handler = on_end};
    (void)sigaction(SIGTERM, &end, NULL);
    (void)sigaction(SIGHUP, &end, NULL);
    (void)sigaction(SIGQUIT, &end, NULL);
    begin_paste_mode(e->line);
    be_quiet();
    return AP_OK;
}

bool cli_editor_read(cli_editor *e, volatile sig_atomic_t *interrupted, ap_buf *out)
{
    ap_buf_clear(out);
    e->prompt = "> ";
    for (;;) {
        int length = 0;
        *interrupted = 0;
        errno = 0;
        const char *line = el_gets(e->line, &length);
        int why = errno;
        be_quiet();
        if (!line || length <= 0) {
            if (!*interrupted && why != EINTR)
                return false;
            (void)putchar('\n'); /* Ctrl-C throws the line away */
            ap_buf_clear(out);
            e->prompt = "> ";
            continue;
        }
        bool goes_on = length >= 2 && line[length - 1] == '\n' && line[length - 2] == '\\';
        size_t kept = (size_t)length - (goes_on ? 2u : 0u);
        while (!goes_on && kept && line[kept - 1] == '\n')
            kept--;
        if (ap_buf_add(out, line, kept, NULL) != AP_OK || (goes_on && ap_buf_add_char(out, '\n', NULL) != AP_OK))
            return false;
        if (goes_on) {
            e->prompt = ". ";
            continue;
        }
        HistEvent event;
        if (out->len)
            (void)history(e->past, &event, H_ENTER, out->ptr);
        return true;
    }
}

void cli_editor_close(cli_editor **pointer)
{
    HistEvent event;
    cli_editor *e = *pointer;
    *pointer = NULL;
    if (!e)
        return;
    if (e->past && e->history)
        (void)history(e->past, &event, H_SAVE, e->history);
    if (e->past)
        history_end(e->past);
    if (e->line)
        el_end(e->line);
    (void)fflush(stdout);
    restore_terminal();
    has_before = has_paste = false;
    ap_free(e);
}
