/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/auxv.h>

#include "kernel/level.h"

/* As the kernel tells them; older headers know no names for them. */
enum { CAP_ASIMD = 1 << 1, CAP_ASIMDDP = 1 << 20, CAP2_I8MM = 1 << 13 };

bool ap_arm_has(ap_isa isa)
{
    unsigned long caps = getauxval(AT_HWCAP), caps2 = getauxval(AT_HWCAP2);
    bool neon = caps & CAP_ASIMD, dotprod = neon && (caps & CAP_ASIMDDP);
    switch (isa) {
    case AP_ISA_PLAIN: return true;
    case AP_ISA_NEON: return neon;
    case AP_ISA_DOTPROD: return dotprod;
    case AP_ISA_I8MM: return dotprod && (caps2 & CAP2_I8MM);
    default: return false;
    }
}
