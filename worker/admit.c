/* SPDX-License-Identifier: Apache-2.0 */
/* The parts behind admission, and how many workers share the limits while Redis is away. */
#include "worker/admit.h"

#include <stdlib.h>

#include "common/io/pg.h"
#include "common/io/redis.h"
#include "common/model/admission.h"
#include "common/model/book_rebuild.h"
#include "common/model/limit_cache.h"
#include "common/model/worker_store.h"

#include <event2/event.h>

struct admit {
    struct pg *pg;
    struct redis *redis;
    struct limit_cache *limits;
    struct admission *admission;
    struct book_rebuild *books;
    struct event *tick;
    bool is_looking;
};

/* --- the fleet -------------------------------------------------------------------------------- */

static void on_counted(const struct pg_reply *reply, void *arg)
{
    struct admit *admit = arg;

    admit->is_looking = false;
    if (reply->status == PG_OK && pg_rows(reply->result) > 0 && admit->admission)
        admission_set_workers(admit->admission, (int)pg_get_int(reply->result, 0, 0));
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct admit *admit = arg;

    (void)fd;
    (void)what;
    if (admit->is_looking)
        return;
    admit->is_looking = true;
    worker_count(admit->pg, on_counted, admit);
}

/* --- life ------------------------------------------------------------------------------------- */

static bool start_parts(struct admit *admit, struct event_base *base, const char *database_url,
                        const char *redis_url, struct err *err)
{
    static const struct timeval second = {.tv_sec = 1};
    struct pg_options pg = {.url = database_url, .duty = "limits"};
    struct redis_options redis = {.url = redis_url};

    admit->pg = pg_new(base, &pg, err);
    admit->redis = admit->pg ? redis_new(base, &redis, err) : NULL;
    if (!admit->redis)
        return false;
    admit->limits = limit_cache_new(base, admit->pg);
    admit->admission = admission_new(base, admit->redis);
    if (admit->limits)
        admit->books = book_rebuild_new(base, admit->pg, admit->redis, admit->limits);
    admit->tick = event_new(base, -1, EV_PERSIST, on_tick, admit);
    if (!admit->limits || !admit->admission || !admit->books || !admit->tick ||
        event_add(admit->tick, &second) != 0)
        return err_set(err, "watch the limits: out of memory");
    on_tick(-1, 0, admit);
    return true;
}

struct admit *admit_start(struct event_base *base, const char *database_url, const char *redis_url,
                          struct err *err)
{
    struct admit *admit = calloc(1, sizeof(*admit));

    if (!admit) {
        err_set(err, "watch the limits: out of memory");
        return NULL;
    }
    book_rebuild_declare_metrics();
    if (start_parts(admit, base, database_url, redis_url, err))
        return admit;
    admit_free(admit);
    return NULL;
}

void admit_free(struct admit *admit)
{
    if (!admit)
        return;
    if (admit->tick)
        event_free(admit->tick);
    if (admit->books)
        book_rebuild_free(admit->books);
    if (admit->admission)
        admission_free(admit->admission);
    admit->admission = NULL;
    if (admit->limits)
        limit_cache_free(admit->limits);
    if (admit->redis)
        redis_free(admit->redis);
    if (admit->pg)
        pg_free(admit->pg);
    free(admit);
}

struct admission *admit_admission(struct admit *admit)
{
    return admit->admission;
}

void admit_reread(struct admit *admit)
{
    (void)!limit_cache_poll(admit->limits, NULL, NULL);
}

const struct limit_cache *admit_limits(const struct admit *admit)
{
    return admit->limits;
}

struct book_rebuild *admit_books(struct admit *admit)
{
    return admit->books;
}

bool admit_is_quiet(const struct admit *admit)
{
    return admission_settles_kept(admit->admission) == 0;
}
