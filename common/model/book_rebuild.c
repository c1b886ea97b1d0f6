/* SPDX-License-Identifier: Apache-2.0 */
/* The rebuilding of books: passes over what is wanted, a batch of tenants at a time. */
#include "common/model/book_rebuild.h"

#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/io/metrics.h"
#include "common/io/pg.h"
#include "common/io/redis.h"
#include "common/model/book_ledger.h"
#include "common/model/book_redis.h"
#include "common/model/book_store.h"
#include "common/model/limit_cache.h"

enum {
    PASS_MAX = 500,       /* tenants of one pass; not over BOOK_BATCH_MAX */
    TICK_MS = 25,         /* between looks while something is wanted */
    AWAY_MS = 200,        /* the same while a server is away */
    RAISED_PAUSE_MS = 50, /* for who has just raised a generation, to mark the book */
    PATIENCE_MS = 2000,   /* with the mark of another, at first */
    PATIENCE_MAX_MS = 60000,
    TEXT_SIZE = sizeof("building:") + GENERATION_TEXT_SIZE,
};
_Static_assert((int)PASS_MAX <= (int)BOOK_BATCH_MAX, "one statement takes them");

static const struct metric rebuilds = {
    .name = "nightshift_budget_rebuilds_total",
    .type = METRIC_COUNTER,
    .help = "Books of budgets that were made anew from the ledger, by what was wrong with them.",
    .labels = {"reason"},
};

static const char *const reasons[] = {"lost", "stale", "rebound", "abandoned", "drift"};

static const struct log_context log_books = {.component = "books"};

/* A book that is wanted. */
struct entry {
    TAILQ_ENTRY(entry) link;
    bool is_drift;
    int64_t look_us; /* not before */
    int64_t patience_us;
    char seen[GENERATION_TEXT_SIZE]; /* Postgres's generation when we, or who wants it, looked last
                                      */
    char mark[TEXT_SIZE];            /* another's, that we wait for; "" none */
    int64_t mark_since_us;
    char tenant[];
};
TAILQ_HEAD(entry_list, entry);

/* Where an entry of the pass is. */
enum slot_state {
    SLOT_LOOKING,
    SLOT_CURRENT, /* it need not be built */
    SLOT_BUILD,   /* it is ours to build, if we raise it */
    SLOT_RAISED,
    SLOT_MARKED,
    SLOT_PUBLISHED,
    SLOT_DROPPED, /* not this time */
};

struct slot {
    struct book_rebuild *rebuild;
    struct entry *entry;
    enum slot_state state;
    const char *reason;
    int64_t book; /* generation seen */
    char generation[GENERATION_TEXT_SIZE];
    const struct ledger_book *sums;
    size_t accounts_written, records_written;
};

enum step {
    STEP_IDLE,
    STEP_POLL,
    STEP_BIND,
    STEP_LOOK,
    STEP_RAISE,
    STEP_CHECK,
    STEP_MARK,
    STEP_SUM,
    STEP_WRITE
};

struct book_rebuild {
    struct pg *pg;
    struct redis *redis;
    struct limit_cache *cache;
    struct map *by_tenant;
    struct entry_list wanted;
    struct event *timer;
    bool is_freed;

    enum step step;
    int outstanding; /* callbacks that will come */
    struct slot slots[PASS_MAX];
    size_t slot_count;
    struct ledger ledger;
    char run_id[RUN_ID_MAX + 1]; /* of the connection, to which the books are bound */
    int64_t started_us;
};

static void begin_step(struct book_rebuild *rebuild, enum step step);

/* --- what is wanted --------------------------------------------------------------------------- */

static void finish(struct book_rebuild *rebuild, struct entry *entry)
{
    TAILQ_REMOVE(&rebuild->wanted, entry, link);
    map_remove(rebuild->by_tenant, entry->tenant, strlen(entry->tenant));
    free(entry);
}

static void later(struct book_rebuild *rebuild, int64_t wait_ms)
{
    struct timeval wait = {.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};

    if (!rebuild->is_freed)
        event_add(rebuild->timer, &wait);
}

/* --- the end of steps ------------------------------------------------------------------------- */

static void release(struct book_rebuild *rebuild)
{
    ledger_release(&rebuild->ledger);
    map_free(rebuild->by_tenant);
    free(rebuild);
}

/* A callback came.  False: the object is being freed, and by now perhaps gone. */
static bool arrived(struct book_rebuild *rebuild)
{
    rebuild->outstanding--;
    if (!rebuild->is_freed)
        return true;
    if (rebuild->outstanding == 0)
        release(rebuild);
    return false;
}

static void end_pass(struct book_rebuild *rebuild, int64_t wait_ms)
{
    ledger_release(&rebuild->ledger);
    rebuild->slot_count = 0;
    rebuild->step = STEP_IDLE;
    if (!TAILQ_EMPTY(&rebuild->wanted))
        later(rebuild, wait_ms);
}

static size_t count_in(const struct book_rebuild *rebuild, enum slot_state state)
{
    size_t count = 0;

    for (size_t i = 0; i < rebuild->slot_count; i++)
        count += rebuild->slots[i].state == state;
    return count;
}

/* --- poll: what Postgres says ----------------------------------------------------------------- */

static void on_bound(const struct pg_reply *reply, void *arg)
{
    struct book_rebuild *rebuild = arg;

    if (!arrived(rebuild))
        return;
    if (reply->status != PG_OK)
        end_pass(rebuild, AWAY_MS);
    else
        begin_step(rebuild, STEP_POLL);
}

/* Another Redis than the one the books are bound to: none of its books may be believed. */
static void move_books(struct book_rebuild *rebuild, const char *run_id)
{
    log_warn(&log_books, "the books move to another Redis (run_id %s); all are made anew", run_id);
    rebuild->step = STEP_BIND;
    rebuild->outstanding++;
    book_bind(rebuild->pg, limit_cache_run_id(rebuild->cache), run_id, on_bound, rebuild);
}

static void on_polled(bool ok, void *arg)
{
    struct book_rebuild *rebuild = arg;
    const char *run_id = redis_run_id(rebuild->redis);

    if (!arrived(rebuild))
        return;
    if (!ok || !redis_is_ready(rebuild->redis) || !*run_id) {
        end_pass(rebuild, AWAY_MS);
    } else if (rebuild->step == STEP_CHECK) {
        begin_step(rebuild, STEP_MARK);
    } else if (strcmp(run_id, limit_cache_run_id(rebuild->cache)) != 0) {
        move_books(rebuild, run_id);
    } else {
        snprintf(rebuild->run_id, sizeof(rebuild->run_id), "%s", run_id);
        begin_step(rebuild, STEP_LOOK);
    }
}

static void poll(struct book_rebuild *rebuild)
{
    rebuild->outstanding++;
    if (limit_cache_poll(rebuild->cache, on_polled, rebuild))
        return;
    rebuild->outstanding--;
    end_pass(rebuild, AWAY_MS);
}

/* --- look: what Redis says -------------------------------------------------------------------- */

static bool has_other_binding(const char *a, const char *b)
{
    size_t len = strcspn(a, ".");

    return len != strcspn(b, ".") || strncmp(a, b, len) != 0;
}

static void build(struct slot *slot, const char *reason)
{
    slot->state = SLOT_BUILD;
    slot->reason = slot->entry->is_drift ? "drift" : reason;
}

static void look_again(struct slot *slot, int64_t wait_ms)
{
    slot->state = SLOT_DROPPED;
    slot->entry->look_us = clock_monotonic_us() + wait_ms * US_PER_MS;
}

/* Somebody builds the book for the generation that counts: wait, but not for ever.  Patience grows,
 * so that a sum which takes long is not cut off for ever by those who want to help. */
static void judge_mark(struct slot *slot, const char *mark)
{
    struct entry *entry = slot->entry;
    int64_t now_us = clock_monotonic_us();

    if (strcmp(entry->mark, mark) != 0) {
        snprintf(entry->mark, sizeof(entry->mark), "%s", mark);
        entry->mark_since_us = now_us;
    } else if (now_us - entry->mark_since_us > entry->patience_us) {
        if (entry->patience_us < PATIENCE_MAX_MS * US_PER_MS)
            entry->patience_us *= 2;
        build(slot, "abandoned");
        return;
    }
    look_again(slot, TICK_MS);
}

static void judge(struct slot *slot, const char *found)
{
    static const char building[] = "building:";
    const struct tenant_limits *known =
        limit_cache_tenant(slot->rebuild->cache, slot->entry->tenant);
    bool is_marked = strncmp(found, building, strlen(building)) == 0;
    bool is_new = strcmp(slot->entry->seen, known->generation) != 0;

    slot->book = known->book_generation;
    snprintf(slot->entry->seen, sizeof(slot->entry->seen), "%s", known->generation);
    if (strcmp(found, known->generation) == 0)
        slot->state = SLOT_CURRENT;
    else if (is_marked && strcmp(found + strlen(building), known->generation) == 0)
        judge_mark(slot, found);
    else if (is_new) /* who raised it is about to mark it */
        look_again(slot, RAISED_PAUSE_MS);
    else if (is_marked)
        build(slot, "abandoned");
    else if (!*found)
        build(slot, "lost");
    else
        build(slot, has_other_binding(found, known->generation) ? "rebound" : "stale");
}

static void end_look(struct book_rebuild *rebuild)
{
    for (size_t i = 0; i < rebuild->slot_count; i++)
        if (rebuild->slots[i].state == SLOT_CURRENT)
            finish(rebuild, rebuild->slots[i].entry);
    if (count_in(rebuild, SLOT_BUILD) > 0)
        begin_step(rebuild, STEP_RAISE);
    else
        end_pass(rebuild, TICK_MS);
}

static void on_head(const struct book_head *head, void *arg)
{
    struct slot *slot = arg;
    struct book_rebuild *rebuild = slot->rebuild;

    if (!arrived(rebuild))
        return;
    if (head->is_away)
        look_again(slot, AWAY_MS);
    else
        judge(slot, head->generation);
    if (rebuild->outstanding == 0)
        end_look(rebuild);
}

static void look(struct book_rebuild *rebuild)
{
    int64_t now_us = clock_monotonic_us();
    struct entry *entry;

    rebuild->slot_count = 0;
    TAILQ_FOREACH(entry, &rebuild->wanted, link)
    {
        if (entry->look_us > now_us)
            continue;
        if (rebuild->slot_count == PASS_MAX)
            break;
        rebuild->slots[rebuild->slot_count++] = (struct slot){.rebuild = rebuild, .entry = entry};
    }
    if (rebuild->slot_count == 0) {
        end_pass(rebuild, TICK_MS);
        return;
    }
    rebuild->outstanding += (int)rebuild->slot_count;
    for (size_t i = 0; i < rebuild->slot_count; i++)
        book_head(rebuild->redis, rebuild->slots[i].entry->tenant, on_head, &rebuild->slots[i]);
}

/* --- raise the generation --------------------------------------------------------------------- */

static struct slot *find_slot(struct book_rebuild *rebuild, const char *tenant)
{
    for (size_t i = 0; i < rebuild->slot_count; i++)
        if (rebuild->slots[i].state != SLOT_CURRENT &&
            strcmp(rebuild->slots[i].entry->tenant, tenant) == 0)
            return &rebuild->slots[i];
    return NULL;
}

static void on_raised(const struct pg_reply *reply, void *arg)
{
    struct book_rebuild *rebuild = arg;
    struct book_bumped bumped;

    if (!arrived(rebuild))
        return;
    if (reply->status != PG_OK) {
        log_warn(&log_books, "generations were not raised: sqlstate=%s %s", reply->sqlstate,
                 reply->message);
        end_pass(rebuild, AWAY_MS); /* the next look begins with what Postgres says */
        return;
    }
    for (int row = 0; row < pg_rows(reply->result); row++) {
        struct slot *slot;

        book_bumped_read(reply->result, row, &bumped);
        slot = find_slot(rebuild, bumped.tenant);
        if (!slot)
            continue;
        slot->state = SLOT_RAISED;
        snprintf(slot->generation, sizeof(slot->generation), "%lld.%lld", (long long)bumped.binding,
                 (long long)bumped.book);
        memcpy(slot->entry->seen, slot->generation, sizeof(slot->entry->seen));
    }
    begin_step(rebuild, STEP_CHECK);
}

static void raise_generations(struct book_rebuild *rebuild)
{
    struct book_seen seen[PASS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < rebuild->slot_count; i++)
        if (rebuild->slots[i].state == SLOT_BUILD)
            seen[count++] = (struct book_seen){.tenant = rebuild->slots[i].entry->tenant,
                                               .generation = rebuild->slots[i].book};
    rebuild->outstanding++;
    book_bump(rebuild->pg, seen, count, on_raised, rebuild);
}

/* --- mark ------------------------------------------------------------------------------------- */

static void on_marked(enum book_outcome outcome, void *arg)
{
    struct slot *slot = arg;
    struct book_rebuild *rebuild = slot->rebuild;

    if (!arrived(rebuild))
        return;
    if (outcome == BOOK_DONE)
        slot->state = SLOT_MARKED;
    else
        look_again(slot, TICK_MS);
    if (rebuild->outstanding == 0)
        begin_step(rebuild, STEP_SUM);
}

/* The cache was asked again after the raising, so that its documents are those that the new
 * generation goes with: other accounts make another generation. */
static void mark(struct book_rebuild *rebuild)
{
    for (size_t i = 0; i < rebuild->slot_count; i++) {
        struct slot *slot = &rebuild->slots[i];

        if (slot->state == SLOT_RAISED &&
            strcmp(limit_cache_tenant(rebuild->cache, slot->entry->tenant)->generation,
                   slot->generation) != 0)
            look_again(slot, TICK_MS);
    }
    if (count_in(rebuild, SLOT_RAISED) == 0) {
        end_pass(rebuild, TICK_MS);
        return;
    }
    rebuild->outstanding += (int)count_in(rebuild, SLOT_RAISED);
    for (size_t i = 0; i < rebuild->slot_count; i++)
        if (rebuild->slots[i].state == SLOT_RAISED)
            book_mark(rebuild->redis, rebuild->run_id, rebuild->slots[i].entry->tenant,
                      rebuild->slots[i].generation, on_marked, &rebuild->slots[i]);
}

/* --- sum -------------------------------------------------------------------------------------- */

static void match_sums(struct book_rebuild *rebuild)
{
    for (size_t i = 0; i < rebuild->slot_count; i++) {
        struct slot *slot = &rebuild->slots[i];

        if (slot->state != SLOT_MARKED)
            continue;
        slot->sums = ledger_find(&rebuild->ledger, slot->entry->tenant);
        if (!slot->sums || strcmp(slot->sums->generation, slot->generation) != 0)
            look_again(slot, TICK_MS);
    }
}

static void on_summed(const struct pg_reply *reply, void *arg)
{
    struct book_rebuild *rebuild = arg;

    if (!arrived(rebuild))
        return;
    if (reply->status != PG_OK || !ledger_read(reply->result, rebuild->cache, &rebuild->ledger)) {
        log_warn(&log_books, "the ledger was not summed: sqlstate=%s %s", reply->sqlstate,
                 reply->message);
        end_pass(rebuild, AWAY_MS);
        return;
    }
    match_sums(rebuild);
    begin_step(rebuild, STEP_WRITE);
}

static void sum(struct book_rebuild *rebuild)
{
    const char *tenants[PASS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < rebuild->slot_count; i++)
        if (rebuild->slots[i].state == SLOT_MARKED)
            tenants[count++] = rebuild->slots[i].entry->tenant;
    if (count == 0) {
        end_pass(rebuild, TICK_MS);
        return;
    }
    rebuild->outstanding++;
    book_sum(rebuild->pg, tenants, count, on_summed, rebuild);
}

/* --- write and publish ------------------------------------------------------------------------ */

static void end_build(struct book_rebuild *rebuild)
{
    size_t count = count_in(rebuild, SLOT_PUBLISHED);

    if (count > 0)
        log_info(&log_books, "%zu books made anew from the ledger in %lld ms (the first: %s)",
                 count, (long long)((clock_monotonic_us() - rebuild->started_us) / US_PER_MS),
                 rebuild->slots[0].reason ? rebuild->slots[0].reason : "waits");
    for (size_t i = 0; i < rebuild->slot_count; i++) {
        struct slot *slot = &rebuild->slots[i];

        if (slot->state != SLOT_PUBLISHED)
            continue;
        metric_add(&rebuilds, METRIC_LABELS(slot->reason), 1);
        finish(rebuild, slot->entry);
    }
    end_pass(rebuild, 0);
}

static void end_slot(struct slot *slot, bool is_published)
{
    if (is_published)
        slot->state = SLOT_PUBLISHED;
    else
        look_again(slot, TICK_MS);
    if (slot->rebuild->outstanding == 0)
        end_build(slot->rebuild);
}

static void on_published(enum book_outcome outcome, void *arg)
{
    struct slot *slot = arg;

    if (arrived(slot->rebuild))
        end_slot(slot, outcome == BOOK_DONE);
}

static void on_written(enum book_outcome outcome, void *arg);

static void write_more(struct slot *slot)
{
    struct book_rebuild *rebuild = slot->rebuild;
    const struct ledger_book *sums = slot->sums;
    struct book_account accounts[BOOK_CHUNK_MAX];
    const struct book_record *records = sums->records + slot->records_written;
    size_t account_count = 0, record_count;

    while (account_count < BOOK_CHUNK_MAX && slot->accounts_written < sums->account_count)
        accounts[account_count++] = sums->accounts[slot->accounts_written++].book;
    record_count = sums->record_count - slot->records_written;
    if (record_count > BOOK_CHUNK_MAX - account_count)
        record_count = BOOK_CHUNK_MAX - account_count;
    slot->records_written += record_count;
    rebuild->outstanding++;
    if (account_count + record_count > 0)
        book_write(rebuild->redis, rebuild->run_id, slot->entry->tenant, slot->generation, accounts,
                   account_count, records, record_count, on_written, slot);
    else
        book_publish(rebuild->redis, rebuild->run_id, slot->entry->tenant, slot->generation,
                     sums->account_count + sums->record_count, on_published, slot);
}

static void on_written(enum book_outcome outcome, void *arg)
{
    struct slot *slot = arg;

    if (!arrived(slot->rebuild))
        return;
    if (outcome == BOOK_DONE)
        write_more(slot);
    else
        end_slot(slot, false);
}

static void write_all(struct book_rebuild *rebuild)
{
    if (count_in(rebuild, SLOT_MARKED) == 0) {
        end_build(rebuild);
        return;
    }
    for (size_t i = 0; i < rebuild->slot_count; i++)
        if (rebuild->slots[i].state == SLOT_MARKED)
            write_more(&rebuild->slots[i]);
}

/* --- the machine ------------------------------------------------------------------------------ */

static void begin_step(struct book_rebuild *rebuild, enum step step)
{
    static void (*const steps[])(struct book_rebuild *) = {
        [STEP_POLL] = poll,       [STEP_LOOK] = look, [STEP_RAISE] = raise_generations,
        [STEP_CHECK] = poll,      [STEP_MARK] = mark, [STEP_SUM] = sum,
        [STEP_WRITE] = write_all,
    };

    rebuild->step = step;
    steps[step](rebuild);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct book_rebuild *rebuild = arg;

    (void)fd, (void)what;
    if (rebuild->step != STEP_IDLE || TAILQ_EMPTY(&rebuild->wanted))
        return;
    rebuild->started_us = clock_monotonic_us();
    begin_step(rebuild, STEP_POLL);
}

/* --- what others call ------------------------------------------------------------------------- */

struct book_rebuild *book_rebuild_new(struct event_base *base, struct pg *pg, struct redis *redis,
                                      struct limit_cache *cache)
{
    struct book_rebuild *rebuild = calloc(1, sizeof(*rebuild));

    if (!rebuild)
        return NULL;
    rebuild->pg = pg;
    rebuild->redis = redis;
    rebuild->cache = cache;
    TAILQ_INIT(&rebuild->wanted);
    rebuild->by_tenant = map_new(BOOK_WANTED_MAX);
    rebuild->timer = event_new(base, -1, 0, on_timer, rebuild);
    if (rebuild->by_tenant && rebuild->timer)
        return rebuild;
    book_rebuild_free(rebuild);
    return NULL;
}

void book_rebuild_free(struct book_rebuild *rebuild)
{
    struct entry *entry;

    if (!rebuild)
        return;
    rebuild->is_freed = true;
    limit_cache_cancel(rebuild->cache, rebuild);
    if (rebuild->step == STEP_POLL || rebuild->step == STEP_CHECK)
        rebuild->outstanding = 0; /* nothing else was asked */
    if (rebuild->timer)
        event_free(rebuild->timer);
    while ((entry = TAILQ_FIRST(&rebuild->wanted)) != NULL)
        finish(rebuild, entry);
    if (rebuild->outstanding == 0)
        release(rebuild);
}

static struct entry *add_entry(struct book_rebuild *rebuild, const char *tenant,
                               const char *generation)
{
    size_t len = strlen(tenant);
    struct entry *entry = xcalloc(1, sizeof(*entry) + len + 1);

    memcpy(entry->tenant, tenant, len + 1);
    snprintf(entry->seen, sizeof(entry->seen), "%s", generation);
    entry->patience_us = PATIENCE_MS * US_PER_MS;
    if (!map_put(rebuild->by_tenant, tenant, len, entry)) {
        free(entry);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&rebuild->wanted, entry, link);
    if (rebuild->step == STEP_IDLE)
        later(rebuild, 0);
    return entry;
}

void book_rebuild_want(struct book_rebuild *rebuild, const char *tenant, const char *generation,
                       enum book_reason reason)
{
    struct entry *entry = map_get(rebuild->by_tenant, tenant, strlen(tenant));

    if (!entry)
        entry = add_entry(rebuild, tenant, generation);
    if (entry && reason == BOOK_DRIFT)
        entry->is_drift = true;
}

size_t book_rebuild_outstanding(const struct book_rebuild *rebuild)
{
    return map_count(rebuild->by_tenant);
}

void book_rebuild_declare_metrics(void)
{
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        metric_declare(&rebuilds, METRIC_LABELS(reasons[i]));
}
