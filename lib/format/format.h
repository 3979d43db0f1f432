/* format.h - bytes from strangers in, checked structures out.
 *
 * This room owns the table of weight types (type.h), the reader of GGUF files
 * (gguf.h), their writer (gguf_write.h), the packed file that the model store
 * keeps (packed.h), the reader of safetensors files (safetensors.h) and of the index of
 * a model in several of them (shards.h).  It knows nothing of what a model does.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_FORMAT_FORMAT_H
#define AP_FORMAT_FORMAT_H

#include "format/gguf.h"
#include "format/gguf_write.h"
#include "format/packed.h"
#include "format/safetensors.h"
#include "format/shards.h"
#include "format/type.h"

#endif
