/* tokenize.c - how long a text takes to become ids, in one call on one thread.
 *
 *     build/bench/bench_tokenize VOCABULARY TEXT [ROUNDS]
 *
 * VOCABULARY is what `aperto tokenize` takes as a file.  Prints the number of ids, the processor time of the first call of
 * the process (nothing is in a cache) and the median of ROUNDS (7) further calls, in seconds.  No call remembers words
 * of another: each has its table of words to fill.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "aperto.h"
#include "base/file.h"

enum { ROUNDS_MAX = 999 };

/* Processor time: other programs run on the machine as well. */
static double now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    ap_error err = {0};
    ap_vocab *vocab = NULL;
    ap_buf text = {0};
    int fd = argc > 2 ? open(argv[1], O_RDONLY) : -1, rounds = argc > 3 ? atoi(argv[3]) : 7;
    if (fd < 0 || ap_vocab_open(&vocab, fd, &err) != AP_OK || ap_file_read(argv[2], 1 << 30, &text, &err) != AP_OK) {
        (void)fprintf(stderr, "bench_tokenize VOCABULARY TEXT [ROUNDS]: %s\n", err.message);
        return 1;
    }
    double taken[1 + ROUNDS_MAX];
    ap_tokens tokens = {0};
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    for (int i = 0; i <= rounds; i++) {
        ap_release(tokens.ids);
        double start = now();
        if (ap_vocab_tokenize(vocab, text.ptr, text.len, AP_TOKENIZE_SPECIAL, &tokens, &err) != AP_OK) {
            (void)fprintf(stderr, "%s\n", err.message);
            return 1;
        }
        taken[i] = now() - start;
    }
    qsort(taken + 1, (size_t)rounds, sizeof *taken, ascending);
    printf("%zu %.5f %.5f\n", tokens.count, taken[0], taken[1 + rounds / 2]);
    ap_release(tokens.ids);
    ap_vocab_close(&vocab);
    ap_buf_deinit(&text);
    return 0;
}
