/* template_messages.h - inside the room: messages as the API has them, made into what a template can take.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_TEXT_TEMPLATE_MESSAGES_H
#define AP_TEXT_TEMPLATE_MESSAGES_H

#include "text/jinja.h"
#include "text/template.h"

/* Changes *messages, fresh from JSON and seen by nobody else, as template.h says at ap_template_render.
 * Roles of the known set become ours: many templates build control tokens around them. */
ap_status ap_messages_prepare(ap_jrun *run, const ap_template_traits *traits, bool knows_developer, ap_jval *messages);

#endif
