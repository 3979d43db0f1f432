/* server.h - HTTP connections over libmicrohttpd: limits, deadlines, streams.
 * Knows no models; what a request means is the API's matter.
 *
 * What is wrong with a request is answered with OpenAI's error object, except where libmicrohttpd refuses it before
 * telling us: docs/errors.md lists those.  It leaves these to its user, and each is done here:
 *   - it accepts Content-Length beside Transfer-Encoding, and either twice, which
 *     lets one request hide in another: more than one in all is refused;
 *   - one byte a second outlives its time-out: header, body and each piece of an
 *     answer have deadlines of their own, after which the socket is shut down;
 *   - it does not see that the client of a waiting request is gone: such sockets
 *     stand in an epoll of ours, and the request is cancelled at once.
 *
 * No thread: ap_server_poll tells what to wait for, ap_server_run does what is due.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef AP_SERVE_SERVER_H
#define AP_SERVE_SERVER_H

#include <poll.h>

#include "serve/api.h"

typedef struct ap_server ap_server;

/* Listens.  *port is the one in use.  AP_E_IO names the address that could not be had. */
ap_status ap_server_create(ap_server **out, const ap_serve_options *options, ap_api *api, uint16_t *port, ap_error *err);
void ap_server_destroy(ap_server **server);
/* Two descriptors; lowers *timeout_ms (-1: none). */
enum { AP_SERVER_FDS = 2 };
void ap_server_poll(ap_server *server, struct pollfd fds[AP_SERVER_FDS], int *timeout_ms);
void ap_server_run(ap_server *server);
/* Takes no connections any more; answers from now on close theirs. */
void ap_server_drain(ap_server *server);
/* Requests received in part or whole and not yet answered. */
size_t ap_server_busy_count(const ap_server *server);

#endif
