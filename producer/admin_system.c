/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the system, and its pauses: /admin/v1/queues, workers, pause, resume. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/json.h"
#include "common/base/str.h"
#include "common/model/job.h"
#include "common/model/pause_store.h"
#include "common/model/settings.h"
#include "common/model/system_store.h"
#include "producer/admin.h"
#include "producer/admin_handlers.h"
#include "producer/producer.h"
#include "producer/reply.h"

enum { PAUSE_NAME_MAX = 256 };

/* --- queues and workers ----------------------------------------------------------------------- */

static void on_queues(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;
    struct queue_info queue;
    struct buf body;

    if (admin_refused(context, reply->outcome, "", ""))
        return;
    admin_list_begin(&body);
    for (int row = 0; row < reply->count; row++) {
        queue_info_read(reply, row, &queue);
        admin_list_item(&body);
        admin_put_text(&body, "object", "queue");
        admin_put_text(&body, "priority", priority_name(queue.priority));
        admin_put_int(&body, "queued", queue.queued);
        admin_put_int(&body, "running", queue.running);
        admin_put_int(&body, "oldest_waiting_ms", queue.oldest_waiting_us / US_PER_MS);
        admin_put_bool(&body, "paused", queue.is_paused);
        buf_putc(&body, '}');
    }
    admin_list_end(&body);
    buf_putc(&body, '}');
    reply_json(context->http, 200, &body);
}

void queues_handle(struct request_context *context)
{
    if (admin_params(context, NULL, 0))
        admin_started(context, queue_list(context->producer->api_pg, on_queues, context));
}

static void put_worker(struct buf *out, const struct worker_info *worker)
{
    char id[ID_TEXT_SIZE];

    id_format(worker->id, "", id);
    admin_put_text(out, "id", id);
    admin_put_text(out, "object", "worker");
    admin_put_text(out, "name", worker->name);
    admin_put_int(out, "slots", worker->slots);
    admin_put_name(out, "used");
    buf_putc(out, '{');
    for (int i = 0; i < PRIORITY_COUNT; i++)
        admin_put_int(out, priority_name((enum priority)i), worker->used[i]);
    buf_putc(out, '}');
    admin_put_bool(out, "draining", worker->is_draining);
    admin_put_bool(out, "alive", worker->is_alive);
    admin_put_time(out, "started_at", worker->started_at_us);
    admin_put_time(out, "beat_at", worker->beat_at_us);
}

static void on_workers(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;
    struct worker_info worker;
    struct buf body;

    if (admin_refused(context, reply->outcome, "", ""))
        return;
    admin_list_begin(&body);
    for (int row = 0; row < reply->count; row++) {
        worker_info_read(reply, row, &worker);
        admin_list_item(&body);
        put_worker(&body, &worker);
        buf_putc(&body, '}');
    }
    admin_list_end(&body);
    buf_putc(&body, '}');
    reply_json(context->http, 200, &body);
}

void workers_handle(struct request_context *context)
{
    if (admin_params(context, NULL, 0))
        admin_started(context, worker_list(context->producer->api_pg, on_workers, context));
}

/* --- pause and resume ------------------------------------------------------------------------- */

static const char *const kinds[] = {"priority", "tenant", "provider"};
enum { KIND_PRIORITY, KIND_TENANT, KIND_PROVIDER, KIND_COUNT };

struct pause_wait {
    struct request_context *context;
    const char *kind;
    char name[PAUSE_NAME_MAX + 1];
};

static const char *nearest_provider(const struct settings *settings, const char *name, bool *known)
{
    const char *names[PROVIDERS_MAX];
    const struct provider *providers;
    size_t count = settings_providers(settings, &providers);

    *known = false;
    for (size_t i = 0; i < count; i++) {
        names[i] = providers[i].name;
        *known |= strcmp(names[i], name) == 0;
    }
    return str_nearest(name, names, count);
}

/* There is no such tenant, or no such provider to resume. */
static void say_missing(const struct pause_wait *wait, char *out, size_t size)
{
    const char *nearest;
    bool is_known;

    if (wait->kind != kinds[KIND_PROVIDER]) {
        snprintf(out, size, "%s: there is none named \"%s\"", wait->kind, wait->name);
        return;
    }
    nearest = nearest_provider(wait->context->producer->settings, wait->name, &is_known);
    snprintf(out, size,
             "provider: the configuration has none named \"%s\", and none of this name is "
             "paused%s%s%s",
             wait->name, nearest ? " (did you mean \"" : "", nearest ? nearest : "",
             nearest ? "\"?)" : "");
}

static void on_pause(const struct admin_reply *reply, void *arg)
{
    struct pause_wait *wait = arg;
    struct request_context *context = wait->context;
    char missing[4 * PAUSE_NAME_MAX];
    struct pause pause;
    struct buf body;

    say_missing(wait, missing, sizeof(missing));
    free(wait);
    if (admin_refused(context, reply->outcome, missing, ""))
        return;
    pause_read(reply, 0, &pause);
    buf_init(&body, ADMIN_ANSWER_MAX);
    buf_putc(&body, '{');
    admin_put_text(&body, "object", "pause");
    admin_put_text(&body, pause.kind, pause.name);
    admin_put_bool(&body, "paused", pause.created_at_us > 0);
    admin_put_time(&body, "created_at", pause.created_at_us);
    buf_putc(&body, '}');
    reply_json(context->http, 200, &body);
}

/* Only what exists can be paused.  A provider that has gone may still be paused, and be resumed:
 * *is_known says whether the configuration has it. */
static bool judge_name(const struct request_context *context, const char *kind, const char *name,
                       bool is_pause, bool *is_known, struct err *err)
{
    enum priority priority;
    const char *nearest;

    *is_known = true;
    if (kind == kinds[KIND_PRIORITY] && !priority_parse(name, &priority))
        return err_input(err, "invalid_value", "priority",
                         "priority: expected \"high\", \"normal\" or \"low\"");
    if (kind != kinds[KIND_PROVIDER])
        return true;
    nearest = nearest_provider(context->producer->settings, name, is_known);
    if (*is_known || !is_pause)
        return true;
    return err_input(
        err, "invalid_value", "provider", "provider: the configuration has none of this name%s%s%s",
        nearest ? " (did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?)" : "");
}

/* Exactly one of the three. */
static bool read_pause(const json_t *body, const char **kind, const char **name, struct err *err)
{
    int found = -1;

    for (int i = 0; i < KIND_COUNT; i++) {
        const char *value = NULL;

        if (!json_read_string(body, "", kinds[i], PAUSE_NAME_MAX, &value, err))
            return false;
        if (!value)
            continue;
        if (found >= 0)
            return err_input(err, "invalid_value", kinds[i],
                             "expected one of priority, tenant and provider, got two");
        found = i;
        *name = value;
    }
    if (found < 0)
        return err_input(err, "missing_field", "priority",
                         "expected one of priority, tenant and provider");
    *kind = kinds[found];
    return true;
}

/* False: out of memory, or of places in the connection's queue. */
static bool start(struct request_context *context, const char *kind, const char *name,
                  bool is_pause, bool is_known)
{
    struct pause_wait *wait = calloc(1, sizeof(*wait));
    struct pg *pg = context->producer->api_pg;
    char actor[ADMIN_ACTOR_SIZE];

    if (!wait)
        return false;
    wait->context = context;
    wait->kind = kind;
    snprintf(wait->name, sizeof(wait->name), "%s", name);
    admin_actor(context, actor);
    if (is_pause ? pause_set(pg, kind, name, actor, on_pause, wait)
                 : pause_lift(pg, kind, name, is_known, actor, on_pause, wait))
        return true;
    free(wait);
    return false;
}

static void pause_or_resume(struct request_context *context, bool is_pause)
{
    json_t *body = admin_body(context, kinds, KIND_COUNT);
    const char *name = "", *kind = "";
    struct err err = {0};
    bool is_known;

    if (!body)
        return;
    if (!read_pause(body, &kind, &name, &err) ||
        !judge_name(context, kind, name, is_pause, &is_known, &err))
        reply_err(context->http, &err);
    else
        admin_started(context, start(context, kind, name, is_pause, is_known));
    json_decref(body);
}

void pause_handle(struct request_context *context)
{
    pause_or_resume(context, true);
}

void resume_handle(struct request_context *context)
{
    pause_or_resume(context, false);
}
