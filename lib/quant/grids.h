/* grids.h - the codebooks of the IQ formats; inside the room only.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_QUANT_GRIDS_H
#define AP_QUANT_GRIDS_H

#include <stdint.h>

extern const uint16_t ap_grid_iq1[2048], ap_grid_iq2_xxs[256], ap_grid_iq2_xs[512], ap_grid_iq2_s[1024];
extern const uint16_t ap_grid_iq3_xxs[256], ap_grid_iq3_s[512];

#endif
