/* SPDX-License-Identifier: Apache-2.0 */
/* /admin/v1/audit: read as NDJSON, and verified. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "common/io/http_server.h"
#include "common/model/audit_store.h"
#include "producer/admin.h"
#include "producer/admin_handlers.h"
#include "producer/producer.h"
#include "producer/reply.h"

/* --- GET /admin/v1/audit ---------------------------------------------------------------------- */

/* Our own JSON as it is; what somebody put there who should not, as a string. */
static void put_document(struct buf *out, const char *name, const char *text)
{
    json_t *value = text ? json_parse(text, strlen(text), JSON_READ_LENIENT, NULL) : NULL;

    if (value || !text)
        admin_put_json(out, name, text);
    else
        admin_put_text(out, name, text);
    json_decref(value);
}

static void put_hash(struct buf *out, const char *name, const uint8_t *hash)
{
    char text[2 * SHA256_SIZE + 1] = "";

    if (hash)
        str_hex(hash, SHA256_SIZE, text);
    admin_put_text(out, name, text);
}

static void put_row(struct buf *out, const struct audit_row *row)
{
    buf_putc(out, '{');
    admin_put_int(out, "seq", row->seq);
    admin_put_time(out, "at", row->at_us);
    admin_put_int(out, "at_us", row->at_us);
    admin_put_int(out, "version", row->version);
    admin_put_text(out, "actor", row->actor);
    admin_put_text(out, "key_id", row->key_id);
    admin_put_text(out, "address", row->address);
    admin_put_text(out, "request_id", row->request_id);
    admin_put_text(out, "action", row->action);
    admin_put_text(out, "object", row->object);
    put_document(out, "detail", row->detail);
    put_document(out, "before", row->before);
    put_document(out, "after", row->after);
    admin_put_text(out, "data_class", row->data_class);
    admin_put_text(out, "purpose", row->purpose);
    put_hash(out, "prev_hash", row->prev_hash);
    put_hash(out, "hash", row->hash);
    buf_puts(out, "}\n");
}

/* The limit that was asked for waits in data; one row more was asked of the store. */
static void on_rows(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;
    int limit = (int)(intptr_t)context->data;
    struct audit_row row = {0};
    char next[24];
    struct buf body;

    if (admin_refused(context, reply->outcome, "", ""))
        return;
    buf_init(&body, ADMIN_ANSWER_MAX);
    for (int at = 0; at < reply->count && at < limit; at++) {
        audit_row_read(reply, at, &row);
        put_row(&body, &row);
    }
    if (body.is_broken) {
        reply_error(context->http, "internal", NULL,
                    "the page is too large; ask for a lower limit");
        buf_release(&body);
        return;
    }
    snprintf(next, sizeof(next), "%lld", (long long)row.seq);
    if (reply->count > limit)
        http_add_header(context->http, "x-next-after", next);
    http_reply(context->http, 200, "application/x-ndjson", body.data ? body.data : "", body.len);
    buf_release(&body);
}

static bool read_time(const struct admin_param *param, int64_t *out, struct err *err)
{
    if (!param->is_given || clock_parse_rfc3339(param->value, strlen(param->value), out))
        return true;
    return err_input(err, "invalid_value", param->name,
                     "%s: expected a time like 2026-11-22T01:00:00Z", param->name);
}

enum { FROM, TO, ACTOR, OBJECT, AFTER, LIMIT, PARAM_COUNT };

static bool read_filter(const struct admin_param params[PARAM_COUNT], struct audit_filter *out,
                        struct err *err)
{
    *out = (struct audit_filter){.limit = AUDIT_PAGE_MAX};
    if (!read_time(&params[FROM], &out->from_us, err) ||
        !read_time(&params[TO], &out->to_us, err) ||
        !admin_limit(&params[LIMIT], AUDIT_PAGE_MAX, &out->limit, err))
        return false;
    if (out->from_us && out->to_us && out->from_us >= out->to_us)
        return err_input(err, "invalid_value", "to", "to: must be later than from");
    if (params[AFTER].is_given &&
        (!str_to_i64(params[AFTER].value, strlen(params[AFTER].value), &out->after) ||
         out->after < 0))
        return err_input(err, "invalid_value", "after", "after: expected the number of a row");
    out->actor = params[ACTOR].is_given ? params[ACTOR].value : NULL;
    out->object = params[OBJECT].is_given ? params[OBJECT].value : NULL;
    return true;
}

void audit_list_handle(struct request_context *context)
{
    struct admin_param params[PARAM_COUNT] = {{.name = "from"},  {.name = "to"},
                                              {.name = "actor"}, {.name = "object"},
                                              {.name = "after"}, {.name = "limit"}};
    struct audit_filter filter;
    struct err err = {0};

    if (!admin_params(context, params, PARAM_COUNT))
        return;
    if (!read_filter(params, &filter, &err)) {
        reply_err(context->http, &err);
        return;
    }
    context->data = (void *)(intptr_t)filter.limit;
    filter.limit++;
    admin_started(context, audit_list(context->producer->api_pg, &filter, on_rows, context));
}

/* --- GET /admin/v1/audit/verify --------------------------------------------------------------- */

/* One walk along the chain, a page at a time. */
struct walk {
    struct request_context *context;
    struct audit_verifier verifier;
    struct audit_checkpoint trusted;
    uint8_t key[CRYPTO_KEY_SIZE];
};

static void walk_free(struct walk *walk)
{
    crypto_wipe(walk->key, sizeof(walk->key));
    free(walk);
}

static void walk_reply(struct walk *walk)
{
    const struct audit_verifier *verifier = &walk->verifier;
    struct buf body;

    buf_init(&body, ADMIN_ANSWER_MAX);
    buf_putc(&body, '{');
    admin_put_text(&body, "object", "audit_verification");
    admin_put_bool(&body, "ok", !verifier->fault);
    admin_put_int(&body, "first_bad", verifier->first_bad);
    admin_put_text(&body, "fault", verifier->fault);
    admin_put_int(&body, "rows", verifier->rows);
    admin_put_int(&body, "checkpoints", verifier->checkpoints);
    put_hash(&body, "hash", verifier->hash);
    buf_putc(&body, '}');
    reply_json(walk->context->http, 200, &body);
}

static void on_chain(const struct pg_reply *reply, void *arg)
{
    struct walk *walk = arg;

    if (reply->status != PG_OK) {
        reply_pg_failure(walk->context->http, "verify the audit", reply->status, reply->sqlstate,
                         reply->message);
        walk_free(walk);
        return;
    }
    if (audit_chain_verify(reply->result, &walk->verifier)) {
        audit_chain(walk->context->producer->api_pg, walk->verifier.seq, on_chain, walk);
        return;
    }
    if (walk->verifier.has_failed)
        reply_error(walk->context->http, "internal", NULL,
                    "row %lld of the audit could not be hashed: no memory for it",
                    (long long)walk->verifier.seq + 1);
    else
        walk_reply(walk);
    walk_free(walk);
}

void audit_verify_handle(struct request_context *context)
{
    struct admin_param param = {.name = "checkpoint"};
    struct walk *walk;

    if (!admin_params(context, &param, 1))
        return;
    walk = calloc(1, sizeof(*walk));
    if (!walk) {
        admin_started(context, false);
        return;
    }
    if (param.is_given && !audit_checkpoint_parse(param.value, &walk->trusted)) {
        reply_error(context->http, "invalid_value", "checkpoint",
                    "checkpoint: expected one as the scheduler's log has it");
        walk_free(walk);
        return;
    }
    walk->context = context;
    audit_key_derive(context->producer->webhooks.data_key, walk->key);
    audit_verify_init(&walk->verifier, walk->key, param.is_given ? &walk->trusted : NULL);
    audit_chain(context->producer->api_pg, 0, on_chain, walk);
}
