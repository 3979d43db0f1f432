/* editor.h - the line a person types at, and the terminal's modes around it.
 *
 * While an editor is open, what is pasted comes as one message (bracketed paste), and what is typed while an answer is
 * written is not shown there but waits for the next prompt.  The terminal gets its modes back on close, and when a
 * signal ends the program.
 *
 * One at a time, in one thread.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_CLI_EDITOR_H
#define AP_CLI_EDITOR_H

#include <signal.h>

#include "base/str.h"

typedef struct cli_editor cli_editor;

/* `history` is a file, or NULL for none.  AP_E_NOMEM. */
ap_status cli_editor_open(cli_editor **out, const char *history, ap_error *err);
/* Reads one message, which may have several lines, into *out; false at the end of input.  Ctrl-C throws away what was
 * typed: *interrupted is what its handler sets. */
bool cli_editor_read(cli_editor *editor, volatile sig_atomic_t *interrupted, ap_buf *out);
/* Writes the history.  NULL is fine. */
void cli_editor_close(cli_editor **editor);

#endif
