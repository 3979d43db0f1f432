/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/api.h"

#include <stdio.h>
#include <strings.h>

#include "base/alloc.h"
#include "serve/assets.h"

ap_status ap_api_create(ap_api **out, const ap_serve_options *options, ap_backend backend, ap_error *err)
{
    ap_api *api = ap_alloc_zero(1, sizeof *api);
    *out = api;
    if (!api)
        return ap_fail_nomem(err, sizeof *api);
    api->options = options;
    api->backend = backend;
    return AP_OK;
}

void ap_api_destroy(ap_api **api)
{
    ap_free(*api);
    *api = NULL;
}

void ap_api_drain(ap_api *api) { api->is_draining = true; }
size_t ap_api_call_count(const ap_api *api) { return api->call_count; }

/* ---- Small answers ------------------------------------------------------- */

static void answer_json(ap_reply *reply, int status, ap_buf *text, ap_status written)
{
    ap_refusal refusal;
    if (written != AP_OK) {
        (void)ap_refuse(&refusal, 503, NULL, NULL, "out of memory");
        ap_reply_refuse(reply, &refusal);
        return;
    }
    ap_reply_add(reply, text->ptr, text->len);
    ap_reply_complete(reply, status, "application/json");
}

static ap_status write_model(ap_buf *out, const ap_served_model *model, ap_error *err)
{
    AP_TRY(ap_buf_add_str(out, AP_STR("{\"id\":"), err));
    AP_TRY(ap_json_add_text(out, ap_str_from(model->name), err));
    return ap_buf_printf(out, err, ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"aperto\"}", model->created);
}

static ap_status write_models(ap_buf *out, const ap_serve_options *o, ap_error *err)
{
    AP_TRY(ap_buf_add_str(out, AP_STR("{\"object\":\"list\",\"data\":["), err));
    for (size_t i = 0; i < o->model_count; i++) {
        if (i)
            AP_TRY(ap_buf_add_char(out, ',', err));
        AP_TRY(write_model(out, &o->models[i], err));
    }
    return ap_buf_add_str(out, AP_STR("]}"), err);
}

static ap_status write_ready(ap_buf *out, const ap_api *api, bool *is_ready, ap_error *err)
{
    ap_buf models = {0};
    ap_status status = AP_OK;
    *is_ready = !api->is_draining;
    for (size_t i = 0; status == AP_OK && i < api->options->model_count; i++) {
        bool is_up = false;
        if (i)
            status = ap_buf_add_char(&models, ',', err);
        if (status == AP_OK)
            status = api->backend.ops->describe(api->backend.self, i, &models, &is_up, err);
        *is_ready = *is_ready && is_up;
    }
    if (status == AP_OK)
        status = ap_buf_printf(out, err, "{\"status\":\"%s\",\"law\":%d,\"models\":[",
                               api->is_draining ? "draining" : *is_ready ? "ready" : "not ready", AP_LAW_VERSION);
    if (status == AP_OK)
        status = ap_buf_add_str(out, ap_buf_str(&models), err);
    ap_buf_deinit(&models);
    return status == AP_OK ? ap_buf_add_str(out, AP_STR("]}"), err) : status;
}

static void get_models(ap_api *api, const ap_api_request *request, ap_reply *reply)
{
    ap_buf text = {0};
    answer_json(reply, 200, &text, write_models(&text, api->options, NULL));
    ap_buf_deinit(&text);
}

static void get_model(ap_api *api, const ap_api_request *request, ap_reply *reply)
{
    const char *name = request->path + strlen("/v1/models/");
    for (size_t i = 0; i < api->options->model_count; i++)
        if (strcmp(api->options->models[i].name, name) == 0) {
            ap_buf text = {0};
            answer_json(reply, 200, &text, write_model(&text, &api->options->models[i], NULL));
            ap_buf_deinit(&text);
            return;
        }
    ap_refusal refusal;
    (void)ap_refuse(&refusal, 404, "model", "model_not_found", "no model named '%.100s' is served", name);
    ap_reply_refuse(reply, &refusal);
}

static void get_health(ap_api *api, const ap_api_request *request, ap_reply *reply)
{
    ap_reply_add(reply, "{\"status\":\"ok\",\"server\":\"aperto\"}", 33);
    ap_reply_complete(reply, 200, "application/json");
}

static void get_ready(ap_api *api, const ap_api_request *request, ap_reply *reply)
{
    ap_buf text = {0};
    bool is_ready;
    ap_status status = write_ready(&text, api, &is_ready, NULL);
    answer_json(reply, is_ready ? 200 : 503, &text, status);
    ap_buf_deinit(&text);
}

static void get_asset(ap_api *api, const ap_api_request *request, ap_reply *reply)
{
    for (size_t i = 0; i < ap_asset_count; i++)
        if (strcmp(ap_assets[i].path, request->path) == 0) {
            reply->asset = (const char *)ap_assets[i].bytes;
            reply->asset_bytes = ap_assets[i].count;
            ap_reply_complete(reply, 200, ap_assets[i].type);
        }
}

/* ---- Routes -------------------------------------------------------------- */

typedef void small_route_fn(ap_api *api, const ap_api_request *request, ap_reply *reply);

typedef struct route {
    const char *path;
    bool is_prefix;
    small_route_fn *get;  /* GET and HEAD; NULL: POST */
    ap_endpoint endpoint; /* of a POST */
} route;

static const route routes[] = {
    {"/v1/chat/completions", false, NULL, AP_ENDPOINT_CHAT},
    {"/v1/completions", false, NULL, AP_ENDPOINT_COMPLETION},
    {"/v1/models", false, get_models, 0},
    {"/v1/models/", true, get_model, 0},
    {"/healthz", false, get_health, 0},
    {"/readyz", false, get_ready, 0},
    {"/", false, get_asset, 0},
    {"/app.js", false, get_asset, 0},
    {"/app.css", false, get_asset, 0},
};

static const route *find_route(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        size_t length = strlen(routes[i].path);
        if (routes[i].is_prefix ? strncmp(path, routes[i].path, length) == 0 && path[length]
                                : strcmp(path, routes[i].path) == 0)
            return &routes[i];
    }
    return NULL;
}

static bool is_json_type(const char *type)
{
    static const char name[] = "application/json";
    size_t length = sizeof name - 1;
    if (!type)
        return true;
    return strncasecmp(type, name, length) == 0 && (type[length] == 0 || strchr("; \t", type[length]));
}

static bool check_request(const ap_api *api, const route *r, const ap_api_request *request, ap_refusal *refusal)
{
    if (!r)
        return ap_refuse(refusal, 404, NULL, "unknown_path", "there is nothing at '%.100s'", request->path);
    bool is_get = strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
    if (r->get ? !is_get : strcmp(request->method, "POST") != 0)
        return ap_refuse(refusal, 405, NULL, "method_not_allowed", "%s takes %s, not %.20s", r->path,
                         r->get ? "GET" : "POST", request->method);
    if (r->get && request->body.len)
        return ap_refuse(refusal, 400, NULL, NULL, "%s takes no body", r->path);
    if (request->query && strncmp(r->path, "/v1/", 4) == 0)
        return ap_refuse(refusal, 400, request->query, "unknown_field", "%s takes no argument '%.60s'", r->path,
                         request->query);
    if (!r->get && !is_json_type(request->content_type))
        return ap_refuse(refusal, 415, NULL, "not_json", "the Content-Type must be application/json (curl -H 'Content-Type: application/json')");
    if (!r->get && api->is_draining)
        return ap_refuse(refusal, 503, NULL, "draining", "the server is being stopped");
    if (!r->get && api->call_count >= api->options->calls_max)
        return ap_refuse(refusal, 429, NULL, "queue_full", "%u requests are at work or waiting; try again later",
                         api->options->calls_max);
    return true;
}

void ap_api_begin(ap_api *api, const ap_api_request *request, ap_reply *reply, ap_call **call)
{
    ap_refusal refusal;
    *call = NULL;
    const route *r = find_route(request->path);
    if (r && strcmp(request->method, "OPTIONS") == 0) {
        ap_reply_header_add(reply, "Allow", "%s, OPTIONS", r->get ? "GET, HEAD" : "POST");
        ap_reply_complete(reply, 204, NULL);
        return;
    }
    if (!check_request(api, r, request, &refusal)) {
        if (refusal.status == 405)
            ap_reply_header_add(reply, "Allow", "%s, OPTIONS", r->get ? "GET, HEAD" : "POST");
        ap_reply_refuse(reply, &refusal);
        return;
    }
    if (r->get)
        r->get(api, request, reply);
    else
        ap_openai_begin(api, r->endpoint, request->body, reply, call);
}
