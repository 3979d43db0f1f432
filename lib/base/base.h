/* base.h - what every room stands on; it knows nothing of models.
 *
 *     error.h   a status up the stack, one line beside it        str.h    borrowed bytes, a growing buffer with a limit
 *     alloc.h   memory that tests can make fail                  arena.h  many small allocations of one lifetime
 *     map.h     from bytes to a number                           utf8.h   UTF-8 as Unicode has it
 *     file.h    regular files: read, map, replace atomically     hash.h   SHA-256 and BLAKE2b-256
 *     pool.h    a team of threads                                clock.h  durations and labels
 *     log.h     one line per event                               json.h   JSON of strangers, with limits
 *
 * Unlike the other rooms this one has no single interface: include what is needed.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_BASE_H
#define AP_BASE_BASE_H

#include "base/alloc.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/map.h"
#include "base/pool.h"
#include "base/str.h"
#include "base/utf8.h"

#endif
