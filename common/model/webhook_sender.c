/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks from claim to record: each delivery in work is a `send`, which ends in one place. */
#include "common/model/webhook_sender.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/backoff.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/str.h"
#include "common/io/daemon.h"
#include "common/io/http_client.h"
#include "common/io/metrics.h"
#include "common/io/pg.h"
#include "common/model/delivery_store.h"
#include "common/model/webhook_guard.h"
#include "common/model/webhook_schedule.h"
#include "common/model/webhook_secret.h"
#include "common/model/webhook_sign.h"

enum {
    MAX_IN_FLIGHT = 256,
    PER_ENDPOINT = 4,
    PER_TENANT = 16,
    PER_TENANT_WHEN_BUSY = 2,
    LEASE_MS = 60000,
    CLAIM_ROWS = 64,
    ANSWER_MAX = 64 * 1024,
    IDLE_CONNECTIONS = 64,
    SECRETS_MAX = 2,
    SIGNATURE_MAX = 256,
};

static const struct log_context sender_log = {.component = "webhooks"};

static const struct metric deliveries_metric = {
    .name = "nightshift_webhook_deliveries_total",
    .type = METRIC_COUNTER,
    .help = "Tries to deliver a webhook, by how they ended.",
    .labels = {"outcome"},
};

/* A claimed delivery. */
struct send {
    TAILQ_ENTRY(send) link;
    struct webhook_sender *sender;
    struct id id;
    char *tenant;
    char *endpoint; /* NULL: the job's own URL */
    char *url;
    int attempt;
    struct buf body;
    bool is_body_kept; /* the row has it already */
    struct webhook_secret secrets[SECRETS_MAX];
    size_t secret_count;
    struct http_call *call; /* NULL: not sent, or being recorded */
    int64_t retry_after_ms;
    int64_t at_us;
    int64_t began_us;    /* monotonic */
    const char *outcome; /* for the metric */
};

struct webhook_sender {
    struct webhook_sender_options options;
    struct webhook_policy policy;
    struct pg *own_pg; /* NULL: the caller's is used */
    struct delivery_store *store;
    struct http_client *http;
    struct webhook_guard *guard;
    TAILQ_HEAD(send_list, send) sends;
    int count;        /* of sends */
    bool is_claiming; /* a claim is on its way */
    bool is_wanted;   /* look again when it comes back, or when there is room */
    bool is_draining;
    bool is_freed; /* dies with the last claim and record */
};

/* --- the end of a send -------------------------------------------------------------------------
 */

static void sender_destroy_when_idle(struct webhook_sender *sender)
{
    if (!sender->is_freed || sender->is_claiming || sender->count > 0)
        return;
    crypto_wipe(&sender->policy, sizeof(sender->policy));
    free(sender);
}

/* The one place where a send dies. */
static void send_free(struct send *send)
{
    struct webhook_sender *sender = send->sender;

    TAILQ_REMOVE(&sender->sends, send, link);
    sender->count--;
    free(send->tenant);
    free(send->endpoint);
    free(send->url);
    buf_release(&send->body);
    crypto_wipe(send->secrets, sizeof(send->secrets));
    free(send);
}

static void on_recorded(enum store_outcome outcome, void *arg)
{
    struct send *send = arg;
    struct webhook_sender *sender = send->sender;

    if (outcome == STORE_DONE)
        metric_add(&deliveries_metric, METRIC_LABELS(send->outcome), 1);
    else if (!sender->is_freed)
        log_warn(&sender_log, "a webhook's try was not recorded (%s), it may be sent again",
                 store_outcome_name(outcome));
    send_free(send);
    if (sender->is_freed)
        sender_destroy_when_idle(sender);
    else
        webhook_sender_sweep(sender);
}

static void send_record(struct send *send, const struct webhook_choice *choice, int status)
{
    static const enum delivery_state states[] = {
        [WEBHOOK_DELIVERED] = DELIVERY_DELIVERED,
        [WEBHOOK_RETRY] = DELIVERY_WAITING,
        [WEBHOOK_FAILED] = DELIVERY_FAILED,
        [WEBHOOK_DISABLE] = DELIVERY_FAILED,
    };
    bool keeps_body = choice->verdict == WEBHOOK_RETRY && !send->is_body_kept && send->body.len;
    struct delivery_try try = {
        .id = send->id,
        .attempt = send->attempt,
        .state = states[choice->verdict],
        .wait_ms = choice->wait_ms,
        .at_us = send->at_us,
        .status = status,
        .error = choice->error,
        .duration_ms = (clock_monotonic_us() - send->began_us) / US_PER_MS,
        .body = keeps_body ? send->body.data : NULL,
        .body_len = send->body.len,
        .disable = choice->verdict == WEBHOOK_DISABLE ? send->endpoint : NULL,
    };

    if (delivery_record(send->sender->store, &try, on_recorded, send))
        return;
    log_warn(&sender_log, "record a webhook's try: too many wait already; it will be sent again");
    send_free(send);
}

static const char *outcome_label(const struct webhook_choice *choice)
{
    switch (choice->verdict) {
    case WEBHOOK_DELIVERED:
        return "delivered";
    case WEBHOOK_RETRY:
        return "retried";
    case WEBHOOK_DISABLE:
        return "disabled";
    case WEBHOOK_FAILED:
        break;
    }
    return str_equal(choice->error, "blocked_address") ? "blocked" : "failed";
}

static void send_end(struct send *send, const struct webhook_try *try, const char *error)
{
    struct webhook_choice choice = webhook_choose(&send->sender->policy, try, backoff_random());

    if (error)
        choice.error = error;
    send->outcome = outcome_label(&choice);
    log_debug(&sender_log, "try %d ended: status=%d %s", send->attempt, try->status,
              choice.error ? choice.error : "delivered");
    send_record(send, &choice, try->status);
}

/* It was not even tried: by our own fault (another try may help), or because none may be made. */
static void send_give_up(struct send *send, bool may_retry, const char *error)
{
    struct webhook_try try = {
        .attempt = send->attempt,
        .outcome = may_retry ? HTTP_NOT_SENT : HTTP_BLOCKED,
        .retry_after_ms = -1,
    };

    send_end(send, &try, error);
}

/* --- the call ----------------------------------------------------------------------------------
 */

static void on_header(struct http_call *call, const char *name, const char *value, void *arg)
{
    struct send *send = arg;

    (void)call;
    if (strcmp(name, "retry-after") == 0)
        send->retry_after_ms = webhook_retry_after_ms(value, clock_now_us());
}

static void on_done(struct http_call *call, const struct http_answer *answer, void *arg)
{
    struct send *send = arg;
    struct webhook_try try = {
        .attempt = send->attempt,
        .outcome = answer->outcome,
        .status = answer->status,
        .retry_after_ms = send->retry_after_ms,
    };

    (void)call;
    send->call = NULL;
    send_end(send, &try, NULL);
}

static bool send_call(struct send *send, const char *id, const char *timestamp,
                      const char *signature, struct err *err)
{
    static const struct http_callbacks callbacks = {.on_header = on_header, .on_done = on_done};
    const char *const headers[] = {
        "content-type: application/json",
        "user-agent: Nightshift/" NIGHTSHIFT_VERSION,
        id,
        timestamp,
        signature,
        NULL,
    };
    struct http_call_spec spec = {
        .method = "POST",
        .url = send->url,
        .headers = headers,
        .body = send->body.data,
        .body_len = send->body.len,
        .total_timeout_ms = send->sender->policy.timeout_ms,
        .max_body_bytes = ANSWER_MAX,
    };

    send->call = http_call_start(send->sender->http, &spec, &callbacks, send, err);
    return send->call != NULL;
}

/* Signs for this very try and posts. */
static void send_start(struct send *send)
{
    char id[64] = "webhook-id: ", timestamp[64];
    size_t name_len = strlen(id);
    int64_t now_s = clock_now_us() / US_PER_S;
    struct buf signature;
    struct err err;

    id_format(send->id, "msg_", id + name_len);
    snprintf(timestamp, sizeof(timestamp), "webhook-timestamp: %" PRId64, now_s);
    buf_init(&signature, SIGNATURE_MAX);
    buf_puts(&signature, "webhook-signature: ");
    if (!webhook_sign(id + name_len, now_s, send->body.data, send->body.len, send->secrets,
                      send->secret_count, &signature)) {
        send_give_up(send, true, "not_signed");
    } else if (!send_call(send, id, timestamp, signature.data, &err)) {
        log_warn(&sender_log, "post a webhook: %s", err.message);
        send_give_up(send, false, "bad_url");
    }
    buf_release(&signature);
}

/* --- claims ------------------------------------------------------------------------------------
 */

static void open_secret(struct send *send, const char *sealed, size_t len)
{
    struct webhook_secret *secret = &send->secrets[send->secret_count];
    const char *kind = send->endpoint ? "endpoint" : "tenant";
    const char *owner = send->endpoint ? send->endpoint : send->tenant;
    struct err err;

    if (!sealed)
        return;
    if (webhook_secret_open(send->sender->policy.data_key, kind, owner, sealed, len, secret, &err))
        send->secret_count++;
    else
        log_error(&sender_log, "%s", err.message);
}

static bool copy_body(struct send *send, const struct delivery *row)
{
    buf_init(&send->body, WEBHOOK_BODY_MAX);
    send->is_body_kept = row->body != NULL;
    if (row->is_closed)
        return true;
    if (row->body)
        return buf_append(&send->body, row->body, row->body_len);
    return webhook_body_write(&row->job, &send->body);
}

/* NULL: out of memory (the lease runs out, and it is tried again). */
static struct send *send_new(struct webhook_sender *sender, const struct delivery *row)
{
    struct send *send = calloc(1, sizeof(*send));

    if (!send)
        return NULL;
    send->sender = sender;
    send->id = row->id;
    send->attempt = row->attempt;
    send->retry_after_ms = -1;
    send->at_us = clock_db_us();
    send->began_us = clock_monotonic_us();
    TAILQ_INSERT_TAIL(&sender->sends, send, link);
    sender->count++;
    send->tenant = strdup(row->tenant);
    send->endpoint = row->endpoint ? strdup(row->endpoint) : NULL;
    send->url = strdup(row->url);
    if (!copy_body(send, row) || !send->tenant || !send->url ||
        (row->endpoint && !send->endpoint)) {
        send_free(send);
        return NULL;
    }
    return send;
}

static void take_row(struct webhook_sender *sender, const struct delivery *row)
{
    struct send *send = send_new(sender, row);

    if (!send) {
        log_error(&sender_log, "take a claimed webhook: out of memory");
        return;
    }
    if (row->is_closed) {
        send_give_up(send, false, send->endpoint ? "endpoint_disabled" : "job_gone");
        return;
    }
    open_secret(send, row->secret, row->secret_len);
    open_secret(send, row->old_secret, row->old_secret_len);
    send_start(send);
}

static void on_claimed(const struct pg_reply *reply, void *arg)
{
    struct webhook_sender *sender = arg;
    int rows = reply->status == PG_OK ? pg_rows(reply->result) : 0;

    sender->is_claiming = false;
    if (sender->is_freed) {
        sender_destroy_when_idle(sender);
        return;
    }
    if (reply->status != PG_OK) { /* whoever sweeps next tries again */
        log_warn(&sender_log, "claim webhooks that are due: %s", reply->message);
        sender->is_wanted = false;
        return;
    }
    for (int row = 0; row < rows; row++) {
        struct delivery delivery;

        delivery_read(reply->result, row, &delivery);
        take_row(sender, &delivery);
    }
    if (rows > 0 || sender->is_wanted)
        webhook_sender_sweep(sender);
}

static void send_claim(struct webhook_sender *sender, int room)
{
    const struct webhook_sender_options *options = &sender->options;
    bool is_busy = sender->count >= options->max_in_flight / 2;
    struct delivery_lane busy[MAX_IN_FLIGHT];
    struct delivery_claim claim = {
        .busy = busy,
        .per_url = options->per_endpoint,
        .per_tenant = is_busy && options->per_tenant > PER_TENANT_WHEN_BUSY ? PER_TENANT_WHEN_BUSY
                                                                            : options->per_tenant,
        .limit = room < CLAIM_ROWS ? room : CLAIM_ROWS,
        .lease_ms = options->lease_ms,
        .first_wait_ms = sender->policy.schedule_ms[0],
    };
    struct send *send;

    TAILQ_FOREACH(send, &sender->sends, link)
    busy[claim.busy_count++] = (struct delivery_lane){
        .tenant = send->tenant, .endpoint = send->endpoint, .url = send->url};
    sender->is_claiming = true;
    delivery_claim(sender->store, &claim, on_claimed, sender);
}

void webhook_sender_sweep(struct webhook_sender *sender)
{
    int room = sender->options.max_in_flight - sender->count;

    sender->is_wanted = true;
    if (sender->is_draining || sender->is_claiming || room <= 0)
        return;
    sender->is_wanted = false;
    webhook_guard_refresh(sender->guard);
    send_claim(sender, room);
}

/* --- the sender ---------------------------------------------------------------------------------
 */

static void set_defaults(struct webhook_sender_options *options)
{
    if (options->max_in_flight <= 0 || options->max_in_flight > MAX_IN_FLIGHT)
        options->max_in_flight = MAX_IN_FLIGHT;
    if (options->per_endpoint <= 0)
        options->per_endpoint = PER_ENDPOINT;
    if (options->per_tenant <= 0)
        options->per_tenant = PER_TENANT;
    if (options->lease_ms <= 0)
        options->lease_ms = LEASE_MS;
}

static bool make_parts(struct webhook_sender *sender, struct event_base *base, struct pg *pg,
                       const struct webhook_sender_options *options, struct err *err)
{
    struct http_client_options http = {
        .max_calls = sender->options.max_in_flight,
        .max_idle_connections = IDLE_CONNECTIONS,
        .address_allowed = webhook_guard_allows,
        .ca_file = options->ca_file,
    };

    sender->guard = webhook_guard_new(base, sender->policy.allow, sender->policy.allow_count,
                                      options->backends, options->backend_count);
    sender->store = delivery_store_new(pg);
    if (!sender->guard || !sender->store)
        return err_set(err, "make the sender of webhooks: out of memory");
    http.arg = sender->guard;
    sender->http = http_client_new(base, &http, err);
    return sender->http != NULL;
}

struct webhook_sender *webhook_sender_new(struct event_base *base, struct pg *pg,
                                          const struct webhook_sender_options *options,
                                          struct err *err)
{
    struct webhook_sender *sender = xcalloc(1, sizeof(*sender));

    TAILQ_INIT(&sender->sends);
    sender->options = *options;
    sender->policy = *options->policy;
    sender->options.policy = NULL; /* borrowed, like the backends, only until we return */
    sender->options.backends = NULL;
    set_defaults(&sender->options);
    if (make_parts(sender, base, pg, options, err))
        return sender;
    webhook_sender_free(sender);
    return NULL;
}

struct webhook_sender *webhook_sender_start(struct daemon *daemon,
                                            const struct webhook_settings *settings,
                                            struct err *err)
{
    const struct daemon_settings *common = daemon_common(daemon);
    const char *const backends[] = {common->database_url, common->redis_url, common->kafka_brokers};
    struct pg_options duty = {.url = common->database_url, .duty = "webhooks"};
    struct webhook_policy policy;
    struct webhook_sender_options options = {
        .policy = &policy,
        .backends = backends,
        .backend_count = sizeof(backends) / sizeof(backends[0]),
    };
    struct webhook_sender *sender = NULL;
    struct pg *pg;

    if (!webhook_policy_read(settings, &policy, err))
        return NULL;
    pg = pg_new(daemon_base(daemon), &duty, err);
    if (pg)
        sender = webhook_sender_new(daemon_base(daemon), pg, &options, err);
    crypto_wipe(&policy, sizeof(policy));
    if (sender)
        sender->own_pg = pg;
    else if (pg)
        pg_free(pg);
    return sender;
}

void webhook_sender_reload(struct webhook_sender *sender, const struct webhook_settings *settings)
{
    struct webhook_policy policy;
    struct err err;

    if (webhook_policy_read(settings, &policy, &err))
        memcpy(sender->policy.data_key, policy.data_key, CRYPTO_KEY_SIZE);
    else
        log_error(&sender_log, "reload: %s", err.message);
    crypto_wipe(&policy, sizeof(policy));
}

void webhook_sender_drain(struct webhook_sender *sender)
{
    sender->is_draining = true;
}

int webhook_sender_outstanding(const struct webhook_sender *sender)
{
    return sender->count + (sender->is_claiming ? 1 : 0);
}

void webhook_sender_free(struct webhook_sender *sender)
{
    struct send *send, *next;

    if (!sender)
        return;
    for (send = TAILQ_FIRST(&sender->sends); send; send = next) {
        next = TAILQ_NEXT(send, link);
        if (!send->call)
            continue; /* its record's callback frees it */
        http_call_cancel(send->call);
        send_free(send);
    }
    sender->is_freed = true;
    http_client_free(sender->http);
    webhook_guard_free(sender->guard);
    sender->guard = NULL;
    sender->count++; /* nothing may free it while the store ends its rows */
    delivery_store_free(sender->store);
    if (sender->own_pg)
        pg_free(sender->own_pg);
    sender->count--;
    sender_destroy_when_idle(sender);
}

void webhook_sender_declare_metrics(void)
{
    static const char *const outcomes[] = {"delivered", "retried", "failed", "disabled", "blocked"};

    for (size_t i = 0; i < sizeof(outcomes) / sizeof(outcomes[0]); i++)
        metric_declare(&deliveries_metric, METRIC_LABELS(outcomes[i]));
}
