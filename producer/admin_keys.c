/* SPDX-License-Identifier: Apache-2.0 */
/* API keys of a tenant: made, listed, revoked. */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/json.h"
#include "common/model/key_admin_store.h"
#include "producer/admin.h"
#include "producer/admin_handlers.h"
#include "producer/producer.h"
#include "producer/reply.h"

static void put_key(struct buf *out, const struct key_info *key)
{
    admin_put_text(out, "id", key->id);
    admin_put_text(out, "object", "api_key");
    admin_put_text(out, "name", key->name);
    admin_put_json(out, "scopes", key->scopes);
    admin_put_time(out, "created_at", key->created_at_us);
    admin_put_time(out, "expires_at", key->expires_at_us);
    admin_put_time(out, "last_used_at", key->last_used_at_us);
}

/* --- POST ------------------------------------------------------------------------------------- */

struct key_wait {
    struct request_context *context;
    char text[API_KEY_SIZE]; /* the key itself, shown once */
};

static void key_wait_free(struct key_wait *wait)
{
    crypto_wipe(wait, sizeof(*wait));
    free(wait);
}

static void on_created(const struct admin_reply *reply, void *arg)
{
    struct key_wait *wait = arg;
    struct request_context *context = wait->context;
    struct key_info key;
    struct buf body;

    if (!admin_refused(context, reply->outcome, "no tenant has this id",
                       "the tenant has as many keys as it may have; revoke one first")) {
        key_info_read(reply, 0, &key);
        buf_init(&body, ADMIN_ANSWER_MAX);
        buf_putc(&body, '{');
        put_key(&body, &key);
        admin_put_text(&body, "key", wait->text);
        buf_putc(&body, '}');
        reply_json(context->http, 201, &body);
    }
    key_wait_free(wait);
}

static bool read_scopes(const json_t *body, struct key_new *key, const char **scopes,
                        struct err *err)
{
    static const char *const known[] = {"jobs:write", "jobs:read"};
    const json_t *array = json_object_get(body, "scopes");

    if (!array || json_is_null(array))
        return err_input(err, "missing_field", "scopes",
                         "scopes: required, an array of \"jobs:write\" and \"jobs:read\"");
    for (size_t i = 0; i < json_array_size(array); i++) {
        const char *scope = json_string_value(json_array_get(array, i));

        if (scope && strcmp(scope, "admin") == 0)
            return err_input(err, "invalid_value", "scopes",
                             "scopes: a tenant's key cannot have the scope admin");
    }
    return admin_read_names(body, "scopes", known, 2, scopes, 2, &key->scope_count, err);
}

static bool read_key(const json_t *body, struct key_new *key, const char **scopes, struct err *err)
{
    const char *expires_at = NULL;

    key->name = "";
    if (!json_read_string(body, "", "name", KEY_NAME_MAX, &key->name, err) ||
        !read_scopes(body, key, scopes, err) ||
        !json_read_string(body, "", "expires_at", CLOCK_RFC3339_SIZE * 2, &expires_at, err))
        return false;
    if (!expires_at)
        return true;
    if (!clock_parse_rfc3339(expires_at, strlen(expires_at), &key->expires_at_us))
        return err_input(err, "invalid_value", "expires_at",
                         "expires_at: expected a time like 2026-11-22T01:00:00Z");
    if (key->expires_at_us <= clock_db_us())
        return err_input(err, "invalid_value", "expires_at", "expires_at: is in the past");
    return true;
}

/* Makes the key and starts to store it; false: the request must be answered. */
static bool store_key(struct request_context *context, struct key_new *row)
{
    struct key_wait *wait = calloc(1, sizeof(*wait));
    uint8_t hash[API_KEY_HASH_SIZE];
    char actor[ADMIN_ACTOR_SIZE];
    struct api_key key;
    bool is_started;

    if (!wait)
        return false;
    wait->context = context;
    api_key_make(&key, wait->text);
    api_key_hash(context->producer->pepper, &key, hash);
    admin_actor(context, actor);
    row->id = key.id;
    row->hash = hash;
    is_started = key_create(context->producer->api_pg, row, actor, on_created, wait);
    crypto_wipe(&key, sizeof(key));
    if (!is_started)
        key_wait_free(wait);
    return is_started;
}

void key_create_handle(struct request_context *context)
{
    static const char *const names[] = {"name", "scopes", "expires_at"};
    json_t *body = admin_body(context, names, 3);
    const char *scopes[KEY_SCOPES_MAX];
    struct key_new row = {.tenant = context->params[0], .scopes = scopes};
    struct err err = {0};

    if (!body)
        return;
    if (read_key(body, &row, scopes, &err))
        admin_started(context, store_key(context, &row));
    else
        reply_err(context->http, &err);
    json_decref(body);
}

/* --- GET and DELETE --------------------------------------------------------------------------- */

static void on_keys(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;
    struct key_info key;
    struct buf body;

    if (admin_refused(context, reply->outcome, "no tenant has this id", ""))
        return;
    admin_list_begin(&body);
    for (int row = 0; row < reply->count; row++) {
        key_info_read(reply, row, &key);
        if (!key.id)
            break;
        admin_list_item(&body);
        put_key(&body, &key);
        buf_putc(&body, '}');
    }
    admin_list_end(&body);
    buf_putc(&body, '}');
    reply_json(context->http, 200, &body);
}

void key_list_handle(struct request_context *context)
{
    if (admin_params(context, NULL, 0))
        admin_started(context,
                      key_list(context->producer->api_pg, context->params[0], on_keys, context));
}

static void on_revoked(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;

    if (!admin_refused(context, reply->outcome, "no key has this id", ""))
        reply_empty(context->http, 204);
}

void key_revoke_handle(struct request_context *context)
{
    char actor[ADMIN_ACTOR_SIZE];

    admin_actor(context, actor);
    admin_started(context, key_revoke(context->producer->api_pg, context->params[0], actor,
                                      on_revoked, context));
}
