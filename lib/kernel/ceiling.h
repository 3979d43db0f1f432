/* ceiling.h - how fast this CPU could multiply 8-bit codes at all: what products are measured against.
 *
 * A level's `dots` does nothing but dots of 8-bit codes whose operands stay in registers, with the
 * instructions its products use: no product of this level can be faster.  Where several dots may be added up
 * before they are widened, as short codes allow, they are.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_KERNEL_CEILING_H
#define AP_KERNEL_CEILING_H

#include <stdint.h>

#include "base/pool.h"

enum { AP_DOTS_X = 3, AP_DOTS_Y = -2 }; /* the codes that are multiplied, over and over */

typedef struct ap_dots {
    uint64_t products; /* done */
    uint32_t sum;      /* of all, modulo 2^32: what shows that they were done */
} ap_dots;
typedef ap_dots ap_dots_fn(uint32_t rounds);

typedef struct ap_ceiling_ops {
    ap_dots_fn *dots;
} ap_ceiling_ops;

struct ap_kernels;

/* Operations (a product and its addition are two) per second of all threads together: the best of some
 * passes, which take about a second. */
double ap_ceiling_measure(const struct ap_kernels *kernels, ap_pool *pool);

#endif
