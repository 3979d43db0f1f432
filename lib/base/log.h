/* log.h - one line per event on standard error, "time level message".
 *
 * Messages carry no prompts, answers or keys; text from strangers is made one
 * line first.  The level is set before threads start.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_BASE_LOG_H
#define AP_BASE_LOG_H

typedef enum ap_log_level { AP_LOG_ERROR, AP_LOG_WARN, AP_LOG_INFO, AP_LOG_DEBUG } ap_log_level;

void ap_log_set_level(ap_log_level level);
void ap_log(ap_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
