/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/utf8.h"

ap_status ap_words_open(ap_words *words, int *write_end, ap_error *err)
{
    memset(words, 0, sizeof *words);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        words->fd = *write_end = -1;
        return ap_fail(err, AP_E_IO, "no pipe for a child's messages: %s", strerror(errno));
    }
    words->fd = ends[0];
    *write_end = ends[1];
    return AP_OK;
}

static void end_line(ap_words *words, const char *name)
{
    while (words->length && words->line[words->length - 1] == '\r')
        words->length--;
    if (words->length == 0)
        return;
    for (size_t i = 0; i < words->length; i++) {
        unsigned char c = (unsigned char)words->line[i];
        words->last[i] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    words->last[words->length] = 0;
    /* A terminal takes some bytes above 0x7f as orders, unless they are proper characters. */
    if (!ap_utf8_valid((ap_str){words->last, words->length}))
        for (size_t i = 0; i < words->length; i++)
            if ((unsigned char)words->last[i] >= 0x80)
                words->last[i] = '?';
    words->length = 0;
    if (words->logged < AP_WORDS_LOGGED_MAX)
        ap_log(AP_LOG_WARN, "worker %s: %s", name, words->last);
    else if (words->logged == AP_WORDS_LOGGED_MAX)
        ap_log(AP_LOG_WARN, "worker %s: wrote %d lines; further ones are not shown", name,
               AP_WORDS_LOGGED_MAX);
    if (words->logged <= AP_WORDS_LOGGED_MAX)
        words->logged++;
}

void ap_words_drain(ap_words *words, const char *name)
{
    char piece[4096];
    if (words->fd < 0)
        return;
    ssize_t n = read(words->fd, piece, sizeof piece);
    if (n == 0) {
        end_line(words, name);
        ap_words_close(words);
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (piece[i] == '\n' || words->length == sizeof words->line - 1)
            end_line(words, name);
        if (piece[i] != '\n')
            words->line[words->length++] = piece[i];
    }
}

void ap_words_close(ap_words *words)
{
    if (words->fd >= 0)
        (void)close(words->fd);
    words->fd = -1;
}

void ap_child_reap(pid_t pid, bool kill_first, int *wait_status)
{
    if (kill_first)
        (void)kill(pid, SIGKILL); /* a child that is ending already keeps its own cause */
    *wait_status = -1;
    while (waitpid(pid, wait_status, 0) < 0 && errno == EINTR)
        ;
}

void ap_child_describe(int wait_status, const ap_words *words, char *text, size_t bytes)
{
    int n;
    if (wait_status == -1)
        n = snprintf(text, bytes, "ended, and somebody else took note of how");
    else if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGSYS)
        n = snprintf(text, bytes, "was ended by its sandbox: it made a system call that it may not make");
    else if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGBUS)
        n = snprintf(text, bytes,
                     "was ended by signal 7 (Bus error): its model file became shorter or could not be read");
    else if (WIFSIGNALED(wait_status))
        n = snprintf(text, bytes, "was ended by signal %d (%s)", WTERMSIG(wait_status),
                     strsignal(WTERMSIG(wait_status)));
    else
        n = snprintf(text, bytes, "ended with exit status %d", WEXITSTATUS(wait_status));
    if (words && words->last[0] && n > 0 && (size_t)n < bytes)
        (void)snprintf(text + n, bytes - (size_t)n, "; its last words: %s", words->last);
}

void ap_child_reset_signals(void)
{
    (void)setsid(); /* a terminal's Ctrl-C is meant for the front */
    static const int ours[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGCHLD,
                               SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        (void)signal(ours[i], SIG_DFL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}
