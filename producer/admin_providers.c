/* SPDX-License-Identifier: Apache-2.0 */
/* /admin/v1/providers: what is configured, what is paused, and what the providers say of limits. */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/model/admission.h"
#include "common/model/pause_store.h"
#include "common/model/settings.h"
#include "producer/admin.h"
#include "producer/admin_handlers.h"
#include "producer/producer.h"
#include "producer/reply.h"

/* What the fleet learned of a provider's account. */
struct learned {
    struct providers_view *view;
    bool is_there;
    bool is_paused;
    struct admission_seen seen;
    int64_t closed_us;
};

/* An answer in the making: all of Redis's words are awaited. */
struct providers_view {
    struct request_context *context;
    struct settings *settings;
    const struct provider *providers;
    size_t count;
    size_t awaited;
    struct learned learned[];
};

/* --- the answer ------------------------------------------------------------------------------- */

static void put_limit(struct buf *out, const char *name, int64_t limit, int64_t none)
{
    if (limit == none)
        admin_put_text(out, name, NULL);
    else
        admin_put_int(out, name, limit);
}

static void put_learned(struct buf *out, const struct learned *learned)
{
    const struct admission_seen *seen = &learned->seen;

    if (!learned->is_there) {
        admin_put_text(out, "seen", NULL);
        return;
    }
    admin_put_name(out, "seen");
    buf_putc(out, '{');
    put_limit(out, "limit_requests", seen->limit_requests, -1);
    put_limit(out, "remaining_requests", seen->remaining_requests, -1);
    put_limit(out, "limit_tokens", seen->limit_tokens, -1);
    put_limit(out, "remaining_tokens", seen->remaining_tokens, -1);
    buf_putc(out, '}');
}

static void put_provider(struct buf *out, const struct provider *provider,
                         const struct learned *learned)
{
    bool is_closed = learned->closed_us > 0;

    admin_put_text(out, "name", provider->name);
    admin_put_text(out, "object", "provider");
    admin_put_text(out, "format", provider->format);
    admin_put_text(out, "base_url", provider->base_url);
    put_limit(out, "max_concurrency", provider->max_concurrency, 0);
    put_limit(out, "requests_per_minute", provider->requests_per_minute, 0);
    put_limit(out, "tokens_per_minute", provider->tokens_per_minute, 0);
    put_learned(out, learned);
    admin_put_text(out, "state", learned->is_paused ? "paused" : is_closed ? "closed" : "open");
    admin_put_bool(out, "paused", learned->is_paused);
    admin_put_time(out, "closed_until", is_closed ? clock_now_us() + learned->closed_us : 0);
}

static void answer(struct providers_view *view)
{
    struct buf body;

    admin_list_begin(&body);
    for (size_t i = 0; i < view->count; i++) {
        admin_list_item(&body);
        put_provider(&body, &view->providers[i], &view->learned[i]);
        buf_putc(&body, '}');
    }
    admin_list_end(&body);
    buf_putc(&body, '}');
    reply_json(view->context->http, 200, &body);
    settings_unref(view->settings);
    free(view);
}

/* --- the questions ---------------------------------------------------------------------------- */

static void on_seen(bool ok, const struct admission_seen *seen, int64_t age_us, int64_t closed_us,
                    void *arg)
{
    struct learned *learned = arg;
    struct providers_view *view = learned->view;

    learned->is_there = ok && age_us >= 0;
    learned->seen = *seen;
    learned->closed_us = ok ? closed_us : 0;
    if (--view->awaited == 0)
        answer(view);
}

static bool is_paused(const struct admin_reply *pauses, const char *name)
{
    struct pause pause;

    for (int row = 0; row < pauses->count; row++) {
        pause_read(pauses, row, &pause);
        if (strcmp(pause.name, name) == 0)
            return true;
    }
    return false;
}

static void on_pauses(const struct admin_reply *reply, void *arg)
{
    struct request_context *context = arg;
    struct producer *producer = context->producer;
    const struct provider *providers;
    size_t count = settings_providers(producer->settings, &providers);
    struct providers_view *view;

    if (admin_refused(context, reply->outcome, "", ""))
        return;
    view = calloc(1, sizeof(*view) + count * sizeof(view->learned[0]));
    if (!view) {
        admin_started(context, false);
        return;
    }
    view->context = context;
    view->settings = settings_ref(producer->settings);
    view->providers = providers;
    view->count = count;
    view->awaited = count;
    for (size_t i = 0; i < count; i++) {
        view->learned[i].view = view;
        view->learned[i].is_paused = is_paused(reply, providers[i].name);
    }
    if (count == 0)
        answer(view);
    for (size_t i = 0; i < count; i++)
        admission_read_seen(producer->limit_redis, providers[i].name, on_seen, &view->learned[i]);
}

void providers_handle(struct request_context *context)
{
    if (admin_params(context, NULL, 0))
        admin_started(context,
                      pause_list(context->producer->api_pg, "provider", on_pauses, context));
}
