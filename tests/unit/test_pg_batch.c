/* SPDX-License-Identifier: Apache-2.0 */
/* pg_batch against a real Postgres of its own: gathering, order, splitting, retries. */
#include "common/io/pg_batch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/base/log.h"
#include "tests/unit/postgres_fixture.h"

enum { DEADLINE_MS = 15000, COLUMNS = 2 };

static struct postgres_fixture *postgres;
static struct event_base *base;
static struct pg *pg;
static struct pg_session *admin; /* blocking, to look and to meddle from outside */

/* What a row was told. */
struct told {
    int calls;
    enum pg_status status;
    char sqlstate[8];
    int row;
    struct pg_batch *free; /* pg_batch_free'd from inside the callback */
};

/* Each call of it leaves one transaction number. */
PG_STATEMENT(
    store_rows,
    "WITH input AS MATERIALIZED ("
    "  SELECT * FROM unnest($1::int8[], $2::text[]) WITH ORDINALITY AS input(id, note, ord)"
    "), stored AS ("
    "  INSERT INTO rows (id, note, ord, xact, tag)"
    "  SELECT id, note, ord, txid_current(), $3 FROM input"
    "  WHERE note IS DISTINCT FROM 'skip'"
    "  RETURNING ord)"
    "SELECT ord FROM stored");
/* Locks one row after the other; between them it passes a barrier. */
PG_STATEMENT(
    touch_rows,
    "WITH input AS MATERIALIZED ("
    "  SELECT * FROM unnest($1::int8[], $2::text[]) WITH ORDINALITY AS input(id, note, ord))"
    "SELECT ord, touch(id, note = 'barrier') FROM input");
PG_STATEMENT(begin_open, "BEGIN");
PG_STATEMENT(commit_open, "COMMIT");
PG_STATEMENT(touch_one, "SELECT touch($1, false)");

static void on_told(const struct pg_batch_reply *reply, void *arg)
{
    struct told *told = arg;

    told->calls++;
    told->status = reply->status;
    told->row = reply->row;
    snprintf(told->sqlstate, sizeof(told->sqlstate), "%s", reply->sqlstate);
    if (told->free)
        pg_batch_free(told->free);
}

static void on_done(const struct pg_reply *reply, void *arg)
{
    assert_int_equal(reply->status, PG_OK);
    *(bool *)arg = true;
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    fail_msg("the expected did not happen within %d ms", DEADLINE_MS);
}

static void on_poll(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
}

/* Turns the loop until is_true(arg). */
static void await(bool (*is_true)(void *arg), void *arg)
{
    struct timeval limit = {.tv_sec = DEADLINE_MS / 1000};
    struct timeval poll = {.tv_usec = 5000};
    struct event *deadline = event_new(base, -1, 0, on_deadline, NULL);
    struct event *poller = event_new(base, -1, EV_PERSIST, on_poll, NULL);

    event_add(deadline, &limit);
    event_add(poller, &poll);
    while (!is_true(arg))
        event_base_loop(base, EVLOOP_ONCE);
    event_free(deadline);
    event_free(poller);
}

static bool is_told(void *arg)
{
    return ((const struct told *)arg)->calls > 0;
}

static bool is_set(void *arg)
{
    return *(const bool *)arg;
}

static bool is_ready(void *arg)
{
    return pg_is_ready(arg);
}

static void await_told(struct told *told, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        await(is_told, &told[i]);
        assert_int_equal(told[i].calls, 1);
    }
}

static void admin_run(const char *sql)
{
    session_run(admin, sql);
}

static int64_t admin_number(const char *sql)
{
    return session_number(admin, sql);
}

static bool has_lock_waiters(void *arg)
{
    return admin_number("SELECT count(*) FROM pg_locks WHERE NOT granted") == *(const int *)arg;
}

static struct pg_batch_kind kind_of(const struct pg_statement *statement)
{
    return (struct pg_batch_kind){
        .statement = statement,
        .column_count = COLUMNS,
        .columns = {PG_INT8, PG_TEXT},
        .key_columns = 1,
    };
}

static struct pg_batch *batch_of(const struct pg_batch_kind *kind)
{
    struct pg_value tag = pg_text("tag");

    return pg_batch_new(pg, kind, &tag, kind->statement == &store_rows ? 1 : 0);
}

static void add(struct pg_batch *batch, int64_t id, const char *note, struct told *told)
{
    struct pg_value values[COLUMNS] = {pg_int8(id), pg_text(note)};

    assert_true(pg_batch_add(batch, values, on_told, told));
}

static int64_t count_batches(void)
{
    return admin_number("SELECT count(DISTINCT xact) FROM rows");
}

static void test_lone_row_goes_at_once(void **state)
{
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct pg_batch *batch = batch_of(&kind);
    struct told told = {0};

    (void)state;
    add(batch, 1, "lone", &told);
    assert_int_equal(pg_outstanding(pg), 0);
    event_base_loop(base, EVLOOP_NONBLOCK);
    assert_true(told.calls == 1 || pg_outstanding(pg) == 1); /* no timer in between */
    await_told(&told, 1);
    assert_int_equal(told.status, PG_OK);
    assert_int_equal(told.row, 0);
    assert_int_equal(pg_batch_outstanding(batch), 0);
    assert_int_equal(admin_number("SELECT count(*) FROM rows WHERE tag = 'tag'"), 1);
    pg_batch_free(batch);
}

static void test_rows_of_one_turn_go_together_sorted(void **state)
{
    static const int64_t ids[] = {5, -3, 900, 1, 0, 70000};
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct pg_batch *batch = batch_of(&kind);
    struct told told[6] = {{0}};

    (void)state;
    for (size_t i = 0; i < 6; i++)
        add(batch, ids[i], "x", &told[i]);
    await_told(told, 6);
    assert_int_equal(count_batches(), 1);
    assert_int_equal(
        admin_number("SELECT count(*) FROM (SELECT ord, row_number() OVER (ORDER BY id)"
                     " AS n FROM rows) AS r WHERE ord <> n"),
        0);
    pg_batch_free(batch);
}

static void test_rows_gather_while_a_batch_is_in_flight(void **state)
{
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct pg_batch *batch = batch_of(&kind);
    struct told told[11] = {{0}};
    int waiters = 1;

    (void)state;
    admin_run("BEGIN; LOCK TABLE rows");
    add(batch, 0, "first", &told[0]);
    await(has_lock_waiters, &waiters);
    for (int i = 1; i < 11; i++) {
        add(batch, i, "later", &told[i]);
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    admin_run("COMMIT");
    await_told(told, 11);
    assert_int_equal(count_batches(), 2);
    pg_batch_free(batch);
}

static void test_batches_are_capped_in_rows_and_bytes(void **state)
{
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct pg_batch *batch;
    struct told told[5] = {{0}};
    char *large = calloc(1, 1001);

    (void)state;
    kind.max_rows = 2;
    batch = batch_of(&kind);
    for (int i = 0; i < 5; i++)
        add(batch, i, "x", &told[i]);
    await_told(told, 5);
    assert_int_equal(count_batches(), 3);
    pg_batch_free(batch);

    admin_run("TRUNCATE rows");
    memset(told, 0, sizeof(told));
    memset(large, 'x', 1000);
    kind.max_rows = 0;
    kind.max_bytes = 500;
    batch = batch_of(&kind);
    add(batch, 1, "x", &told[0]);
    add(batch, 2, "x", &told[1]);
    add(batch, 3, large, &told[2]); /* alone */
    add(batch, 4, "x", &told[3]);
    await_told(told, 4);
    assert_int_equal(count_batches(), 3);
    pg_batch_free(batch);
    free(large);
}

static void test_equal_keys_go_in_separate_batches_in_order(void **state)
{
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct pg_batch *batch = batch_of(&kind);
    struct told told[5] = {{0}};

    (void)state;
    add(batch, 1, "a", &told[0]);
    add(batch, 1, "b", &told[1]);
    add(batch, 2, "a", &told[2]);
    add(batch, 1, "c", &told[3]);
    add(batch, 2, "b", &told[4]);
    await_told(told, 5);
    assert_int_equal(count_batches(), 3);
    assert_int_equal(admin_number("SELECT count(DISTINCT (id, xact)) FROM rows"), 5);
    assert_int_equal(
        admin_number("SELECT count(*) FROM (SELECT note, lag(note) OVER (PARTITION BY "
                     "id ORDER BY xact) AS before FROM rows) AS r WHERE before > note"),
        0);
    pg_batch_free(batch);
}

static void test_equal_keys_may_meet_where_allowed(void **state)
{
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct told told[3] = {{0}};
    struct pg_batch *batch;

    (void)state;
    kind.allow_equal_keys = true;
    batch = batch_of(&kind);
    add(batch, 2, "a", &told[0]);
    add(batch, 1, "a", &told[1]);
    add(batch, 1, "b", &told[2]);
    await_told(told, 3);
    assert_int_equal(count_batches(), 1);
    assert_int_equal(admin_number("SELECT ord FROM rows WHERE id = 1 AND note = 'a'"), 1);
    pg_batch_free(batch);
}

static void test_row_without_effect_is_told_so(void **state)
{
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct pg_batch *batch = batch_of(&kind);
    struct told told[3] = {{0}};

    (void)state;
    add(batch, 1, "x", &told[0]);
    add(batch, 2, "skip", &told[1]);
    add(batch, 3, "x", &told[2]);
    await_told(told, 3);
    assert_int_equal(told[0].row, 0);
    assert_int_equal(told[1].status, PG_OK);
    assert_int_equal(told[1].row, -1);
    assert_int_equal(told[2].row, 1);
    pg_batch_free(batch);
}

static void test_bad_row_fails_alone(void **state)
{
    enum { COUNT = 37, BAD = 11 };
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct pg_batch *batch = batch_of(&kind);
    struct told told[COUNT + 1] = {{0}};
    struct pg_value nul[COLUMNS] = {pg_int8(1000), pg_text_len("a\0b", 3)};

    (void)state;
    for (int i = 0; i < COUNT; i++)
        add(batch, i, i == BAD ? "bad" : "good", &told[i]);
    assert_true(pg_batch_add(batch, nul, on_told, &told[COUNT]));
    await_told(told, COUNT + 1);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(told[i].status, i == BAD ? PG_FAILED : PG_OK);
    assert_string_equal(told[BAD].sqlstate, "23514");
    assert_string_equal(told[COUNT].sqlstate, "22021");
    assert_int_equal(admin_number("SELECT count(*) FROM rows"), COUNT - 1);
    pg_batch_free(batch);
}

/* A real deadlock in which ours is the one to die: the other's own check comes much later. */
static void test_deadlock_is_tried_again(void **state)
{
    struct pg_batch_kind kind = kind_of(&touch_rows);
    struct pg_batch *batch = batch_of(&kind);
    struct pg_value ids[] = {pg_int8(1), pg_int8(2)};
    struct told told[2] = {{0}};
    bool done[4] = {false};
    int waiters = 1;
    char url[256];
    struct pg_options options = {.url = url, .duty = "other"};
    struct pg *other;

    (void)state;
    snprintf(url, sizeof(url), "%s?options=-cdeadlock_timeout%%3D60s",
             postgres_fixture_url(postgres));
    other = pg_new(base, &options, NULL);
    assert_non_null(other);
    admin_run("SELECT pg_advisory_lock(7)");
    pg_query(other, &begin_open, NULL, 0, on_done, &done[0]);
    pg_query(other, &touch_one, &ids[1], 1, on_done, &done[1]);
    await(is_set, &done[1]);
    add(batch, 1, "barrier", &told[0]); /* locks row 1, stands at the barrier, then wants row 2 */
    add(batch, 2, "x", &told[1]);
    await(has_lock_waiters, &waiters);
    pg_query(other, &touch_one, &ids[0], 1, on_done, &done[2]);
    waiters = 2;
    await(has_lock_waiters, &waiters);
    admin_run("SELECT pg_advisory_unlock(7)");
    await(is_set, &done[2]);
    pg_query(other, &commit_open, NULL, 0, on_done, &done[3]);
    await_told(told, 2);
    assert_int_equal(told[0].status, PG_OK);
    assert_int_equal(told[1].status, PG_OK);
    assert_true(pg_last_error_us(pg) > 0);
    assert_int_equal(admin_number("SELECT sum(touched)::int8 FROM touched"), 4);
    pg_free(other);
    pg_batch_free(batch);
}

static void kill_our_backends(void)
{
    admin_run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
              " WHERE application_name = 'nightshift-test'");
}

static void test_lost_batch_is_unknown_row_by_row(void **state)
{
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct pg_batch *batch = batch_of(&kind);
    struct told told[2] = {{0}};
    int waiters = 1;

    (void)state;
    admin_run("BEGIN; LOCK TABLE rows");
    add(batch, 1, "x", &told[0]);
    add(batch, 2, "x", &told[1]);
    await(has_lock_waiters, &waiters);
    kill_our_backends();
    await_told(told, 2);
    admin_run("COMMIT");
    assert_int_equal(told[0].status, PG_UNKNOWN);
    assert_int_equal(told[1].status, PG_UNKNOWN);
    pg_batch_free(batch);
}

static void test_repeatable_batch_is_sent_again(void **state)
{
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct told told[2] = {{0}};
    struct pg_batch *batch;
    int waiters = 1;

    (void)state;
    kind.is_repeatable = true;
    kind.retry_ms = DEADLINE_MS;
    batch = batch_of(&kind);
    admin_run("BEGIN; LOCK TABLE rows");
    add(batch, 1, "x", &told[0]);
    add(batch, 2, "x", &told[1]);
    await(has_lock_waiters, &waiters);
    kill_our_backends();
    admin_run("COMMIT");
    await_told(told, 2);
    assert_int_equal(told[0].status, PG_OK);
    assert_int_equal(told[1].status, PG_OK);
    assert_int_equal(admin_number("SELECT count(*) FROM rows"), 2);
    pg_batch_free(batch);
}

static void test_batch_outlasts_a_server_that_is_away(void **state)
{
    struct pg_options options = {
        .url = postgres_fixture_url(postgres), .duty = "brief", .unavailable_after_ms = 50};
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct told told[2] = {{0}};
    struct pg_batch *patient;
    struct pg_batch *hasty;
    struct pg_value tag = pg_text("tag");
    struct pg *brief;
    struct err err;

    (void)state;
    postgres_fixture_crash(postgres);
    brief = pg_new(base, &options, &err);
    assert_non_null(brief);
    hasty = pg_batch_new(brief, &kind, &tag, 1);
    kind.retry_ms = DEADLINE_MS;
    patient = pg_batch_new(brief, &kind, &tag, 1);
    add(hasty, 1, "x", &told[0]);
    add(patient, 2, "x", &told[1]);
    await_told(&told[0], 1);
    assert_int_equal(told[0].status, PG_UNAVAILABLE);
    assert_int_equal(told[1].calls, 0);
    assert_true(postgres_fixture_restart(postgres, &err));
    await_told(&told[1], 1);
    assert_int_equal(told[1].status, PG_OK);
    pg_batch_free(hasty);
    pg_batch_free(patient);
    pg_free(brief);
    pg_session_close(admin);
    admin = pg_session_open(postgres_fixture_url(postgres), "admin", &err);
    assert_non_null(admin);
    await(is_ready, pg);
}

static void test_full_queue_refuses(void **state)
{
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct pg_value values[COLUMNS] = {pg_int8(9), pg_text("x")};
    struct told told[4] = {{0}};
    struct pg_batch *batch;

    (void)state;
    kind.max_queued = 2;
    batch = batch_of(&kind);
    add(batch, 1, "x", &told[0]);
    add(batch, 1, "y", &told[1]); /* follows the first: counts too */
    assert_false(pg_batch_add(batch, values, on_told, &told[2]));
    assert_int_equal(pg_batch_outstanding(batch), 2);
    await_told(told, 2);
    pg_batch_free(batch);

    kind.max_queued = 0;
    kind.max_queued_bytes = 40;
    batch = batch_of(&kind);
    add(batch, 1, "x", &told[3]);
    values[1] = pg_text("more than forty bytes, all in all, in this row");
    assert_false(pg_batch_add(batch, values, on_told, &told[2]));
    await_told(&told[3], 1);
    pg_batch_free(batch);
    assert_int_equal(told[2].calls, 0);
}

static void test_statement_error_is_not_searched_for_in_the_rows(void **state)
{
    PG_STATEMENT(store_nowhere, "WITH input AS (SELECT * FROM unnest($1::int8[], $2::text[]))"
                                "INSERT INTO nowhere SELECT 1");
    struct pg_batch_kind kind = kind_of(&store_nowhere);
    struct told told[3] = {{0}};
    struct pg_batch *batch = batch_of(&kind);

    (void)state;
    for (int i = 0; i < 3; i++)
        add(batch, i, "x", &told[i]);
    await_told(told, 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(told[i].sqlstate, "42P01");
    pg_batch_free(batch);
}

static void test_free_tells_every_row(void **state)
{
    struct pg_batch_kind kind = kind_of(&store_rows);
    struct told told[5] = {{0}};
    struct pg_batch *batch = batch_of(&kind);
    int waiters = 1;

    (void)state;
    admin_run("BEGIN; LOCK TABLE rows");
    add(batch, 1, "x", &told[0]);
    add(batch, 1, "follows", &told[1]);
    await(has_lock_waiters, &waiters);
    add(batch, 2, "waits", &told[2]);
    pg_batch_free(batch);
    admin_run("COMMIT");
    assert_int_equal(told[0].status, PG_UNKNOWN);
    assert_int_equal(told[1].status, PG_UNAVAILABLE);
    assert_int_equal(told[2].status, PG_UNAVAILABLE);

    memset(told, 0, sizeof(told));
    batch = batch_of(&kind);
    told[0].free = batch;
    add(batch, 1, "x", &told[0]);
    add(batch, 2, "x", &told[1]);
    add(batch, 2, "follows", &told[2]);
    await_told(told, 3);
    assert_int_equal(told[0].status, PG_OK);
    assert_int_equal(told[1].status, PG_OK);
    assert_int_equal(told[2].status, PG_UNAVAILABLE);
}

static int empty_tables(void **state)
{
    (void)state;
    admin_run("TRUNCATE rows; UPDATE touched SET touched = 0");
    return 0;
}

static int start_everything(void **state)
{
    struct pg_options options = {.duty = "test"};
    struct err err;

    (void)state;
    log_setup("test", LOG_ERROR);
    base = event_base_new();
    postgres = postgres_fixture_start(&err);
    if (!postgres) {
        print_error("%s\n", err.message);
        return -1;
    }
    admin = pg_session_open(postgres_fixture_url(postgres), "admin", &err);
    assert_non_null(admin);
    admin_run("CREATE TABLE rows (id int8, note text CHECK (note <> 'bad'), ord int8, xact int8,"
              "                   tag text);"
              "CREATE TABLE touched (id int8 PRIMARY KEY, touched int);"
              "INSERT INTO touched VALUES (1, 0), (2, 0);"
              "CREATE FUNCTION touch(which int8, waits bool) RETURNS int LANGUAGE plpgsql AS $$ "
              "BEGIN"
              "  UPDATE touched SET touched = touched + 1 WHERE id = which;"
              "  IF waits THEN PERFORM pg_advisory_xact_lock(7); END IF;"
              "  RETURN 1;"
              "END $$");
    options.url = postgres_fixture_url(postgres);
    pg = pg_new(base, &options, &err);
    assert_non_null(pg);
    await(is_ready, pg);
    return 0;
}

static int stop_everything(void **state)
{
    (void)state;
    pg_free(pg);
    pg_session_close(admin);
    postgres_fixture_stop(postgres);
    event_base_free(base);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_lone_row_goes_at_once, empty_tables),
        cmocka_unit_test_setup(test_rows_of_one_turn_go_together_sorted, empty_tables),
        cmocka_unit_test_setup(test_rows_gather_while_a_batch_is_in_flight, empty_tables),
        cmocka_unit_test_setup(test_batches_are_capped_in_rows_and_bytes, empty_tables),
        cmocka_unit_test_setup(test_equal_keys_go_in_separate_batches_in_order, empty_tables),
        cmocka_unit_test_setup(test_equal_keys_may_meet_where_allowed, empty_tables),
        cmocka_unit_test_setup(test_row_without_effect_is_told_so, empty_tables),
        cmocka_unit_test_setup(test_bad_row_fails_alone, empty_tables),
        cmocka_unit_test_setup(test_deadlock_is_tried_again, empty_tables),
        cmocka_unit_test_setup(test_lost_batch_is_unknown_row_by_row, empty_tables),
        cmocka_unit_test_setup(test_repeatable_batch_is_sent_again, empty_tables),
        cmocka_unit_test_setup(test_full_queue_refuses, empty_tables),
        cmocka_unit_test_setup(test_statement_error_is_not_searched_for_in_the_rows, empty_tables),
        cmocka_unit_test_setup(test_free_tells_every_row, empty_tables),
        cmocka_unit_test_setup(test_batch_outlasts_a_server_that_is_away, empty_tables),
    };

    return cmocka_run_group_tests(tests, start_everything, stop_everything);
}
