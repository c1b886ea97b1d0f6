/* SPDX-License-Identifier: Apache-2.0 */
/* Notices soon when the books of budgets are lost, and has them all made anew. */
#include "scheduler/books.h"

#include <stdio.h>
#include <string.h>

#include "common/io/redis.h"
#include "common/model/book_rebuild.h"
#include "common/model/book_redis.h"
#include "common/model/limit_cache.h"
#include "scheduler/scheduler.h"

static bool want(const char *tenant, const struct tenant_limits *limits, void *arg)
{
    struct scheduler *scheduler = arg;

    book_rebuild_want(scheduler->books, tenant, limits->generation, BOOK_STALE);
    return true;
}

static void end_pass(struct task *task)
{
    struct scheduler *scheduler = task->scheduler;

    if (scheduler->books_pass.is_lost)
        limit_cache_each_budget(scheduler->limits, want, scheduler);
    task_end(task, NULL, false);
}

static void on_head(const struct book_head *head, void *arg)
{
    struct task *task = arg;
    struct books_pass *pass = &task->scheduler->books_pass;

    if (!head->is_away && !*head->generation)
        pass->is_lost = true;
    if (--pass->outstanding == 0)
        end_pass(task);
}

static bool pick(const char *tenant, const struct tenant_limits *limits, void *arg)
{
    struct books_pass *pass = arg;

    (void)limits;
    if (pass->seen++ < pass->next)
        return true;
    snprintf(pass->sample[pass->sample_count], sizeof(pass->sample[0]), "%s", tenant);
    return ++pass->sample_count < BOOKS_SAMPLE;
}

static void look_at_sample(struct task *task)
{
    struct scheduler *scheduler = task->scheduler;
    struct books_pass *pass = &scheduler->books_pass;

    pass->seen = 0;
    pass->sample_count = 0;
    limit_cache_each_budget(scheduler->limits, pick, pass);
    pass->next = pass->sample_count < BOOKS_SAMPLE ? 0 : pass->next + BOOKS_SAMPLE;
    pass->outstanding = pass->sample_count;
    if (pass->sample_count == 0)
        end_pass(task);
    for (int i = 0, count = pass->sample_count; i < count; i++)
        book_head(scheduler->budget_redis, pass->sample[i], on_head, task);
}

void books_run(struct task *task)
{
    struct scheduler *scheduler = task->scheduler;
    struct books_pass *pass = &scheduler->books_pass;

    if (!scheduler->budget_redis || !redis_is_ready(scheduler->budget_redis) ||
        !limit_cache_is_ready(scheduler->limits)) {
        task_end(task, NULL, false);
        return;
    }
    pass->is_lost =
        strcmp(redis_run_id(scheduler->budget_redis), limit_cache_run_id(scheduler->limits)) != 0;
    if (pass->is_lost)
        end_pass(task);
    else
        look_at_sample(task);
}
