/* adapter.h - a LoRA adapter: for some matrices of one model, y = W x becomes y = W x + B (scale (A x)).
 *
 * It comes from strangers as a PEFT folder (adapter_config.json, adapter_model.safetensors) or as a GGUF file.  Every tensor
 * must belong to a matrix of the model it is opened for and have its shape; what is left over is refused by name.  A
 * and B are kept as floats, whatever they were, B column after column, so that a row's sum runs over the rank in
 * ascending order (docs/law.md, section 3).
 *
 * Constant after opening; the model must outlive it.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_MODEL_ADAPTER_H
#define AP_MODEL_ADAPTER_H

#include <jansson.h>

#include "aperto.h"
#include "model/arch.h"
#include "quant/quant.h"

enum { AP_LORA_RANK_MAX = 1024, AP_ADAPTER_CONFIG_BYTES_MAX = 1 << 20 };

/* For one matrix. */
typedef struct ap_lora {
    ap_matrix a;    /* [rank][columns] in F32; owned */
    float *b;       /* [rank][rows]; owned */
    uint32_t rows;
    float scale;
} ap_lora;

/* NULL if that matrix has none. */
const ap_lora *ap_adapter_find(const ap_adapter *adapter, uint32_t layer, ap_role role);
/* The largest rank. */
uint32_t ap_adapter_rank(const ap_adapter *adapter);

/* ---- adapter_config.json (adapter_config.c) ---- */

typedef struct ap_adapter_config {
    json_t *root;
    uint32_t rank;
    float alpha;
    bool is_by_root; /* the scale is alpha over the root of the rank */
} ap_adapter_config;

/* Refuses by name what this release lacks.  Ended by ap_adapter_config_deinit, also after a failure. */
ap_status ap_adapter_config_read(ap_adapter_config *out, ap_str json, ap_error *err);
void ap_adapter_config_deinit(ap_adapter_config *config);
/* The scale for a module ("model.layers.3.mlp.up_proj") whose A has `rank` rows: that must be what the config says. */
ap_status ap_adapter_config_scale(const ap_adapter_config *config, const char *module, uint32_t rank, float *scale, ap_error *err);

#endif
