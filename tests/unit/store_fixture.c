/* SPDX-License-Identifier: Apache-2.0 */
/* The database of the stores' tests. */
#include "tests/unit/store_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "migrations/migrate.h"
#include "tests/unit/postgres_fixture.h"

enum { DEADLINE_MS = 15000, SQL_MAX = 8192 };

struct event_base *fixture_base;
struct pg *fixture_pg[FIXTURE_CONNECTIONS];
struct id fixture_worker;
struct postgres_fixture *fixture_postgres;

static struct pg_session *admin;
static struct pg_session *other;

/* --- the loop --------------------------------------------------------------------------------- */

static void on_nothing(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
}

static void await(bool (*is_true)(const void *arg), const void *arg)
{
    int64_t until = clock_monotonic_us() + DEADLINE_MS * US_PER_MS;
    struct timeval poll = {.tv_usec = 5000};
    struct event *poller = event_new(fixture_base, -1, EV_PERSIST, on_nothing, NULL);

    event_add(poller, &poll);
    while (!is_true(arg)) {
        if (clock_monotonic_us() > until)
            fail_msg("the expected did not happen within %d ms", DEADLINE_MS);
        event_base_loop(fixture_base, EVLOOP_ONCE);
    }
    event_free(poller);
}

static bool flag_is_set(const void *arg)
{
    return *(const bool *)arg;
}

void await_flag(const bool *flag)
{
    await(flag_is_set, flag);
}

struct wanted {
    const int *count;
    int want;
};

static bool count_is_reached(const void *arg)
{
    const struct wanted *wanted = arg;

    return *wanted->count >= wanted->want;
}

void await_count(const int *count, int want)
{
    struct wanted wanted = {.count = count, .want = want};

    await(count_is_reached, &wanted);
}

static bool is_past(const void *arg)
{
    return clock_monotonic_us() >= *(const int64_t *)arg;
}

void turn_loop_ms(int ms)
{
    int64_t until = clock_monotonic_us() + ms * US_PER_MS;

    await(is_past, &until);
}

static bool is_ready(const void *arg)
{
    return pg_is_ready(arg);
}

/* --- SQL -------------------------------------------------------------------------------------- */

static void PRINTF_LIKE(3, 0)
    run(struct pg_session *session, struct pg_result **result, const char *fmt, va_list args)
{
    char sql[SQL_MAX];
    struct err err = {0};

    vsnprintf(sql, sizeof(sql), fmt, args);
    if (!pg_session_run(session, sql, NULL, 0, result, &err))
        fail_msg("%s: %s", sql, err.message);
}

void sql_run(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    run(admin, NULL, fmt, args);
    va_end(args);
}

void other_run(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    run(other, NULL, fmt, args);
    va_end(args);
}

int64_t sql_number(const char *fmt, ...)
{
    struct pg_result *result;
    va_list args;
    int64_t number;

    va_start(args, fmt);
    run(admin, &result, fmt, args);
    va_end(args);
    number = pg_rows(result) > 0 ? pg_get_int(result, 0, 0) : -1;
    pg_result_free(result);
    return number;
}

void sql_assert_text(const char *expected, const char *fmt, ...)
{
    struct pg_result *result;
    const char *text;
    va_list args;

    va_start(args, fmt);
    run(admin, &result, fmt, args);
    va_end(args);
    text = pg_rows(result) > 0 ? pg_get_text(result, 0, 0, NULL) : NULL;
    if (!text || strcmp(text, expected) != 0)
        fail_msg("expected \"%s\", got \"%s\": %s", expected, text ? text : "(null)", fmt);
    pg_result_free(result);
}

void await_blocked(void)
{
    int64_t until_us = clock_monotonic_us() + 20 * US_PER_S;

    while (sql_number("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0) {
        assert_true(clock_monotonic_us() < until_us);
        turn_loop_ms(2);
    }
}

struct job_new fixture_new_job(const char *tenant, enum priority priority, const char *key)
{
    static char key_id[] = "key1", model[] = "fast", request[] = "{}";
    struct job_new job = {
        .id = id_make(clock_now_us()),
        .tenant = (char *)(uintptr_t)tenant,
        .key_id = key_id,
        .priority = priority,
        .model = model,
        .request = request,
        .request_len = 2,
        .deadline_us = clock_now_us() + US_PER_DAY,
        .max_attempts = 5,
        .timeout_s = 600,
        .max_cost_nano = -1,
        .est_tokens = 10,
        .idempotency_key = (char *)(uintptr_t)key,
    };

    memset(job.body_hash, 7, sizeof(job.body_hash));
    return job;
}

const char *hex(struct id id)
{
    static char texts[4][ID_TEXT_SIZE];
    static unsigned next;
    char *text = texts[next++ % 4];

    id_format(id, "", text);
    return text;
}

/* --- rows ------------------------------------------------------------------------------------- */

struct id fixture_queue_job(int priority)
{
    struct id job = id_make(clock_now_us());

    sql_run("INSERT INTO jobs (id, tenant, key_id, priority, model, request, deadline,"
            "                  max_attempts, timeout_s, est_tokens) "
            "VALUES ('%s', 'acme', 'k1', %d, 'fast', '{\"a\": 1.0}', now() + interval '14 d', 5,"
            "        600, 100);"
            "INSERT INTO queue (job, tenant, priority, ready_at, deadline, dispatched_at,"
            "                   est_tokens) "
            "SELECT id, tenant, priority, now() - interval '4 s', deadline,"
            "       now() - interval '3 s', est_tokens FROM jobs WHERE id = '%s';"
            "INSERT INTO counts VALUES ('acme', %d, 'queued', 1)",
            hex(job), priority, hex(job), priority);
    return job;
}

void assert_counts_balance(void)
{
    assert_int_equal(
        sql_number("WITH truth AS ("
                   "    SELECT tenant, priority, 'queued' AS state FROM queue"
                   "    UNION ALL SELECT tenant, priority, 'running' FROM runs"
                   "    UNION ALL SELECT tenant, priority, state FROM jobs WHERE state IS NOT NULL"
                   "), counted AS ("
                   "    SELECT tenant, priority, state, sum(delta) AS n FROM counts"
                   "    GROUP BY 1, 2, 3 HAVING sum(delta) <> 0"
                   "), true_ones AS (SELECT tenant, priority, state, count(*) AS n FROM truth"
                   "                 GROUP BY 1, 2, 3)"
                   "SELECT count(*) FROM counted FULL JOIN true_ones"
                   "    USING (tenant, priority, state, n) "
                   "WHERE counted.tenant IS NULL OR true_ones.tenant IS NULL"),
        0);
    assert_int_equal(sql_number("SELECT count(*) FROM jobs "
                                "WHERE (state IS NOT NULL)::int"
                                "    + (EXISTS (SELECT FROM queue WHERE job = id))::int"
                                "    + (EXISTS (SELECT FROM runs WHERE job = id))::int <> 1"),
                     0);
}

/* --- start and stop --------------------------------------------------------------------------- */

static void apply_schema(void)
{
    char notices[1024] = "";
    FILE *out = fmemopen(notices, sizeof(notices), "w");
    struct err err = {0};

    if (!migrate_apply(admin, migrations_table, out, &err))
        fail_msg("%s", err.message);
    fclose(out);
}

static void open_sessions(void)
{
    struct err err = {0};

    admin = pg_session_open(fixture_url(), "test", &err);
    other = pg_session_open(fixture_url(), "other", &err);
    if (!admin || !other)
        fail_msg("%s", err.message);
}

const char *fixture_url(void)
{
    return postgres_fixture_url(fixture_postgres);
}

void fixture_restart(void)
{
    struct err err = {0};

    pg_session_close(other);
    pg_session_close(admin);
    if (!postgres_fixture_restart(fixture_postgres, &err))
        fail_msg("%s", err.message);
    open_sessions();
    for (int i = 0; i < FIXTURE_CONNECTIONS; i++)
        await(is_ready, fixture_pg[i]);
}

int fixture_start(void **state)
{
    struct err err = {0};

    (void)state;
    log_setup("test", LOG_WARN);
    fixture_base = event_base_new();
    fixture_postgres = postgres_fixture_start(&err);
    if (!fixture_postgres)
        fail_msg("%s", err.message);
    open_sessions();
    apply_schema();
    for (int i = 0; i < FIXTURE_CONNECTIONS; i++) {
        struct pg_options options = {.url = fixture_url(), .duty = i ? "second" : "first"};

        fixture_pg[i] = pg_new(fixture_base, &options, &err);
        if (!fixture_pg[i])
            fail_msg("%s", err.message);
        await(is_ready, fixture_pg[i]);
    }
    return 0;
}

int fixture_stop(void **state)
{
    (void)state;
    for (int i = 0; i < FIXTURE_CONNECTIONS; i++)
        pg_free(fixture_pg[i]);
    pg_session_close(other);
    pg_session_close(admin);
    postgres_fixture_stop(fixture_postgres);
    event_base_free(fixture_base);
    return 0;
}

int fixture_reset(void **state)
{
    (void)state;
    fixture_worker = id_make(clock_now_us());
    sql_run(
        "TRUNCATE jobs, queue, runs, workers, gates, counts, events, calls, deliveries, endpoints,"
        "         pauses, tenants, unreadable_tickets, usage_deltas, usage_cells, usage_totals,"
        "         usage_hours, usage_days, usage_months, usage_user_hours, usage_user_days,"
        "         usage_user_months CASCADE;"
        "INSERT INTO tenants (id, name, webhook_secret) VALUES ('acme', 'Acme', '');"
        "INSERT INTO workers (id, name, slots) VALUES ('%s', 'w1', 10)",
        hex(fixture_worker));
    return 0;
}
