/* SPDX-License-Identifier: Apache-2.0 */
/* pg against a real Postgres of its own: values, transactions, loss and recovery. */
#include "common/io/pg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "tests/unit/postgres_fixture.h"
#include "tests/unit/valgrind.h"

enum { DEADLINE_MS = 15000 };

static struct postgres_fixture *postgres;
static struct event_base *base;
static struct pg_session *admin; /* blocking, to look from outside */

/* What a query was told. */
struct answer {
    int calls;
    enum pg_status status;
    char sqlstate[8];
    char message[256];
    int rows;
    int64_t number;  /* first column of the first row, when it is an integer */
    char text[64];   /* or text */
    int order;       /* of all answers */
    struct pg *free; /* pg_free'd from inside the callback */
};

static int answers_given;

PG_STATEMENT(select_number, "SELECT $1::int8");
PG_STATEMENT(select_text, "SELECT $1::text");
PG_STATEMENT(select_slow, "SELECT 1::int8 FROM pg_sleep($1::int4 / 1000.0)");
PG_STATEMENT(insert_thing, "INSERT INTO things (id) VALUES ($1)");
PG_STATEMENT(insert_thing_returning, "INSERT INTO things (id) VALUES ($1) RETURNING id");
PG_STATEMENT(insert_checked_late, "INSERT INTO late (id) VALUES ($1)");
PG_STATEMENT(count_things, "SELECT count(*) FROM things");
PG_STATEMENT(select_missing, "SELECT id FROM missing");
PG_STATEMENT(select_star, "SELECT * FROM changing");
PG_STATEMENT(my_backend, "SELECT pg_backend_pid()");
PG_STATEMENT(kill_backend, "SELECT pg_terminate_backend($1)");
PG_STATEMENT(show_setting, "SELECT current_setting($1)");

static void on_answer(const struct pg_reply *reply, void *arg)
{
    struct answer *answer = arg;

    answer->calls++;
    answer->order = ++answers_given;
    answer->status = reply->status;
    snprintf(answer->sqlstate, sizeof(answer->sqlstate), "%s", reply->sqlstate);
    snprintf(answer->message, sizeof(answer->message), "%s", reply->message);
    if (reply->result)
        answer->rows = pg_rows(reply->result);
    if (answer->free)
        pg_free(answer->free);
}

static void on_number(const struct pg_reply *reply, void *arg)
{
    struct answer *answer = arg;

    on_answer(reply, arg);
    if (answer->rows > 0)
        answer->number = pg_get_int(reply->result, 0, 0);
}

static void on_text(const struct pg_reply *reply, void *arg)
{
    struct answer *answer = arg;

    on_answer(reply, arg);
    if (answer->rows > 0)
        snprintf(answer->text, sizeof(answer->text), "%s", pg_get_text(reply->result, 0, 0, NULL));
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what, (void)arg;
    fail_msg("the expected did not happen within %d ms", patient_ms(DEADLINE_MS));
}

/* Turns the loop until the answer is there. */
static void await(const struct answer *answer)
{
    struct timeval wait = {.tv_sec = patient_ms(DEADLINE_MS) / 1000};
    struct event *deadline = event_new(base, -1, 0, on_deadline, NULL);

    event_add(deadline, &wait);
    while (answer->calls == 0)
        event_base_loop(base, EVLOOP_ONCE);
    event_free(deadline);
    assert_int_equal(answer->calls, 1);
}

static void await_ready(struct pg *pg)
{
    while (!pg_is_ready(pg))
        event_base_loop(base, EVLOOP_ONCE);
}

static struct pg *connect_with(struct pg_options options)
{
    struct err err;
    struct pg *pg;

    options.url = options.url ? options.url : postgres_fixture_url(postgres);
    options.duty = "test";
    pg = pg_new(base, &options, &err);
    if (!pg)
        fail_msg("%s", err.message);
    return pg;
}

static struct pg *connect_plain(void)
{
    return connect_with((struct pg_options){.duty = "test"});
}

static void admin_run(const char *sql)
{
    session_run(admin, sql);
}

static int64_t admin_number(const char *sql)
{
    return session_number(admin, sql);
}

static void open_admin(void)
{
    struct err err;

    pg_session_close(admin);
    admin = pg_session_open(postgres_fixture_url(postgres), "admin", &err);
    if (!admin)
        fail_msg("%s", err.message);
}

static void test_answer_comes_from_the_loop_never_from_the_call(void **state)
{
    struct pg *pg = connect_plain();
    struct pg_value value = pg_int8(42);
    struct answer answer = {0};

    (void)state;
    pg_query(pg, &select_number, &value, 1, on_number, &answer);
    assert_int_equal(answer.calls, 0);
    assert_int_equal(pg_outstanding(pg), 1);
    await(&answer);
    assert_int_equal(answer.status, PG_OK);
    assert_int_equal(answer.number, 42);
    assert_int_equal(pg_outstanding(pg), 0);
    assert_int_equal(pg_last_error_us(pg), 0);
    pg_free(pg);
}

static void test_many_queries_are_answered_in_order(void **state)
{
    enum { COUNT = 1000 };
    static struct answer answers[COUNT];
    struct pg *pg = connect_plain();

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        struct pg_value value = pg_int8(i);

        pg_query(pg, &select_number, &value, 1, on_number, &answers[i]);
    }
    await(&answers[COUNT - 1]);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(answers[i].status, PG_OK);
        assert_int_equal(answers[i].number, i);
        assert_int_equal(answers[i].order, answers[0].order + i);
    }
    pg_free(pg);
}

/* More than the sockets hold in both directions: would stand still if reading waited for writing.
 */
static void test_large_values_flow_both_ways_at_once(void **state)
{
    enum { COUNT = 8, SIZE = 16 * 1024 * 1024 };
    static struct answer answers[COUNT];
    char *text = malloc(SIZE + 1);
    struct pg *pg =
        connect_with((struct pg_options){.statement_timeout_ms = patient_ms(DEADLINE_MS),
                                         .unavailable_after_ms = patient_ms(DEADLINE_MS)});

    (void)state;
    memset(text, 'x', SIZE);
    text[SIZE] = '\0';
    for (int i = 0; i < COUNT; i++) {
        struct pg_value value = pg_text_len(text, SIZE);

        pg_query(pg, &select_text, &value, 1, on_text, &answers[i]);
    }
    await(&answers[COUNT - 1]);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(answers[i].status, PG_OK);
    free(text);
    pg_free(pg);
}

static void test_nul_in_text_fails_here_and_harms_nobody(void **state)
{
    struct pg *pg = connect_plain();
    struct pg_value bad = pg_text_len("a\0b", 3);
    struct pg_value good = pg_text("good");
    struct answer answers[2] = {{0}};

    (void)state;
    pg_query(pg, &select_text, &bad, 1, on_text, &answers[0]);
    pg_query(pg, &select_text, &good, 1, on_text, &answers[1]);
    assert_int_equal(answers[0].calls, 0);
    await(&answers[1]);
    assert_int_equal(answers[0].calls, 1);
    assert_int_equal(answers[0].status, PG_FAILED);
    assert_string_equal(answers[0].sqlstate, "22021");
    assert_string_equal(answers[1].text, "good");
    pg_free(pg);
}

static void test_failed_query_does_not_touch_its_neighbours(void **state)
{
    struct pg *pg = connect_plain();
    struct pg_value one = pg_int8(1);
    struct answer answers[4] = {{0}};

    (void)state;
    admin_run("TRUNCATE things CASCADE");
    pg_query(pg, &insert_thing, &one, 1, on_answer, &answers[0]);
    pg_query(pg, &insert_thing, &one, 1, on_answer, &answers[1]);
    pg_query(pg, &select_missing, NULL, 0, on_answer, &answers[2]);
    pg_query(pg, &count_things, NULL, 0, on_number, &answers[3]);
    await(&answers[3]);
    assert_int_equal(answers[0].status, PG_OK);
    assert_int_equal(answers[1].status, PG_FAILED);
    assert_string_equal(answers[1].sqlstate, "23505");
    assert_string_equal(answers[2].sqlstate, "42P01");
    assert_int_equal(answers[3].number, 1);
    assert_true(pg_last_error_us(pg) > 0);
    pg_free(pg);
}

static void test_transaction_happens_whole_or_not_at_all(void **state)
{
    struct pg *pg = connect_plain();
    struct pg_value values[] = {pg_int8(1), pg_int8(2), pg_int8(3)};
    struct pg_step good[] = {{&insert_thing, &values[0], 1}, {&count_things, NULL, 0}};
    struct pg_step bad[] = {{&insert_thing, &values[1], 1},
                            {&insert_thing, &values[0], 1},
                            {&insert_thing, &values[2], 1}};
    struct answer answers[3] = {{0}};

    (void)state;
    admin_run("TRUNCATE things CASCADE");
    pg_transaction(pg, good, 2, on_number, &answers[0]);
    pg_transaction(pg, bad, 3, on_answer, &answers[1]);
    pg_query(pg, &count_things, NULL, 0, on_number, &answers[2]);
    await(&answers[2]);
    assert_int_equal(answers[0].status, PG_OK);
    assert_int_equal(answers[0].number, 1); /* the second step saw the first */
    assert_int_equal(answers[1].status, PG_FAILED);
    assert_string_equal(answers[1].sqlstate, "23505");
    assert_int_equal(answers[2].number, 1);
    pg_free(pg);
}

static void test_result_is_of_the_last_step_with_rows(void **state)
{
    struct pg *pg = connect_plain();
    struct pg_value values[] = {pg_int8(11), pg_int8(12)};
    struct pg_step steps[] = {{&insert_thing_returning, &values[0], 1},
                              {&insert_thing, &values[1], 1}};
    struct answer answer = {0};

    (void)state;
    admin_run("TRUNCATE things CASCADE");
    pg_transaction(pg, steps, 2, on_number, &answer);
    await(&answer);
    assert_int_equal(answer.status, PG_OK);
    assert_int_equal(answer.number, 11);
    pg_free(pg);
}

/* libpq 15 must not lose count of its messages when the error belongs to the Sync. */
static void test_error_at_commit_fails_only_its_own_transaction(void **state)
{
    struct pg *pg = connect_plain();
    struct pg_value one = pg_int8(1);
    struct answer answers[3] = {{0}};

    (void)state;
    pg_query(pg, &insert_checked_late, &one, 1, on_answer, &answers[0]);
    pg_query(pg, &select_number, &one, 1, on_number, &answers[1]);
    await(&answers[1]);
    pg_query(pg, &select_number, &one, 1, on_number, &answers[2]);
    await(&answers[2]);
    assert_int_equal(answers[0].status, PG_FAILED);
    assert_string_equal(answers[0].sqlstate, "23503");
    assert_int_equal(answers[1].status, PG_OK);
    assert_int_equal(answers[2].number, 1);
    pg_free(pg);
}

static void test_statement_that_could_not_be_prepared_is_tried_again(void **state)
{
    struct pg *pg = connect_plain();
    struct answer answers[3] = {{0}};

    (void)state;
    pg_query(pg, &select_missing, NULL, 0, on_answer, &answers[0]);
    pg_query(pg, &select_missing, NULL, 0, on_answer, &answers[1]); /* in the same pipeline */
    await(&answers[1]);
    assert_string_equal(answers[0].sqlstate, "42P01");
    assert_string_equal(answers[1].sqlstate, "42P01");
    admin_run("CREATE TABLE missing (id int)");
    pg_query(pg, &select_missing, NULL, 0, on_answer, &answers[2]);
    await(&answers[2]);
    assert_int_equal(answers[2].status, PG_OK);
    admin_run("DROP TABLE missing");
    pg_free(pg);
}

static void test_changed_table_is_prepared_anew_without_a_word(void **state)
{
    struct pg *pg = connect_plain();
    struct answer answers[2] = {{0}};

    (void)state;
    admin_run("CREATE TABLE changing AS SELECT 7::int8 AS id");
    pg_query(pg, &select_star, NULL, 0, on_number, &answers[0]);
    await(&answers[0]);
    admin_run("ALTER TABLE changing ADD COLUMN more text");
    pg_query(pg, &select_star, NULL, 0, on_number, &answers[1]);
    await(&answers[1]);
    assert_int_equal(answers[1].status, PG_OK);
    assert_int_equal(answers[1].number, 7);
    admin_run("DROP TABLE changing");
    pg_free(pg);
}

static void test_settings_are_in_force(void **state)
{
    static const char *const expected[][2] = {
        {"application_name", "nightshift-test"},
        {"synchronous_commit", "off"},
        {"statement_timeout", "1234ms"},
        {"lock_timeout", "5s"},
        {"enable_seqscan", "off"},
        {"TimeZone", "UTC"},
        {"jit", "off"},
        {"work_mem", "5MB"},
    };
    char url[300];
    struct pg *pg;

    (void)state;
    snprintf(url, sizeof(url), "%s?options=-c%%20work_mem%%3D5MB", postgres_fixture_url(postgres));
    pg = connect_with(
        (struct pg_options){.url = url, .asynchronous_commit = true, .statement_timeout_ms = 1234});
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        struct pg_value name = pg_text(expected[i][0]);
        struct answer answer = {0};

        pg_query(pg, &show_setting, &name, 1, on_text, &answer);
        await(&answer);
        assert_string_equal(answer.text, expected[i][1]);
    }
    pg_free(pg);
}

static void test_slow_statement_is_cut_by_its_timeout(void **state)
{
    struct pg *pg = connect_with((struct pg_options){.statement_timeout_ms = 50});
    struct pg_value ms = pg_int4(60000);
    struct answer answer = {0};

    (void)state;
    pg_query(pg, &select_slow, &ms, 1, on_answer, &answer);
    await(&answer);
    assert_int_equal(answer.status, PG_FAILED);
    assert_string_equal(answer.sqlstate, "57014");
    pg_free(pg);
}

static void test_host_name_is_looked_up(void **state)
{
    char url[256];
    const char *port = strrchr(postgres_fixture_url(postgres), ':');
    struct pg_value value = pg_int8(5);
    struct answer answer = {0};
    struct pg *pg;

    (void)state;
    snprintf(url, sizeof(url), "postgresql://nightshift@nowhere.invalid%.*s,localhost%s",
             (int)(strchr(port, '/') - port), port, port);
    pg = connect_with((struct pg_options){.url = url, .unavailable_after_ms = DEADLINE_MS});
    pg_query(pg, &select_number, &value, 1, on_number, &answer);
    await(&answer);
    assert_int_equal(answer.number, 5);
    pg_free(pg);
}

static void test_bad_url_is_refused_without_its_password(void **state)
{
    struct pg_options options = {.url = "postgresql://me:secret@[host/db", .duty = "test"};
    struct err err;

    (void)state;
    assert_null(pg_new(base, &options, &err));
    assert_null(strstr(err.message, "secret"));
}

static void test_database_clock_is_measured(void **state)
{
    struct pg *pg;
    struct pg_value value = pg_int8(1);
    struct answer answer = {0};

    (void)state;
    clock_set_db_us(clock_now_us() - INT64_C(3600) * US_PER_S);
    pg = connect_with((struct pg_options){.keeps_clock = true});
    pg_query(pg, &select_number, &value, 1, on_number, &answer);
    await(&answer);
    assert_in_range(clock_db_us() - clock_now_us() + US_PER_S, 0, 2 * US_PER_S);
    clock_set_db_us(0);
    pg_free(pg);
}

static void test_full_queue_refuses_the_newcomer_only(void **state)
{
    struct pg *pg = connect_with((struct pg_options){.max_queued = 2});
    struct pg_value value = pg_int8(1);
    struct answer answers[3] = {{0}};

    (void)state;
    for (int i = 0; i < 3; i++)
        pg_query(pg, &select_number, &value, 1, on_number, &answers[i]);
    await(&answers[2]);
    assert_int_equal(answers[2].status, PG_UNAVAILABLE);
    await(&answers[1]);
    assert_int_equal(answers[0].status, PG_OK);
    assert_int_equal(answers[1].status, PG_OK);
    pg_free(pg);
}

static void test_killed_backend_leaves_what_was_sent_unknown(void **state)
{
    struct pg *pg = connect_plain();
    struct pg *other = connect_plain();
    struct pg_value ms = pg_int4(60000);
    struct pg_value pid;
    struct answer answers[4] = {{0}};

    (void)state;
    pg_query(pg, &my_backend, NULL, 0, on_number, &answers[0]);
    await(&answers[0]);
    pg_query(pg, &select_slow, &ms, 1, on_answer, &answers[1]);
    pid = pg_int4((int32_t)answers[0].number);
    pg_query(other, &kill_backend, &pid, 1, on_answer, &answers[2]);
    await(&answers[1]);
    assert_int_equal(answers[1].status, PG_UNKNOWN);
    pg_query(pg, &my_backend, NULL, 0, on_number, &answers[3]);
    await(&answers[3]);
    assert_int_equal(answers[3].status, PG_OK);
    assert_int_not_equal(answers[3].number, answers[0].number);
    pg_free(pg);
    pg_free(other);
}

static void test_query_waits_for_a_server_that_comes_back(void **state)
{
    struct pg *pg = connect_with((struct pg_options){.unavailable_after_ms = DEADLINE_MS});
    struct pg_value value = pg_int8(9);
    struct answer answer = {0};
    struct err err;

    (void)state;
    await_ready(pg);
    postgres_fixture_crash(postgres);
    while (pg_is_ready(pg))
        event_base_loop(base, EVLOOP_ONCE);
    pg_query(pg, &select_number, &value, 1, on_number, &answer);
    event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(answer.calls, 0);
    assert_true(postgres_fixture_restart(postgres, &err));
    await(&answer);
    assert_int_equal(answer.number, 9);
    pg_free(pg);
    open_admin();
}

static void test_query_is_told_unavailable_when_its_wait_is_over(void **state)
{
    struct pg *pg;
    struct pg_value value = pg_int8(9);
    struct answer answers[2] = {{0}};
    struct err err;
    int64_t began_us;

    (void)state;
    postgres_fixture_crash(postgres);
    pg = connect_with((struct pg_options){.unavailable_after_ms = 200});
    began_us = clock_monotonic_us();
    pg_query(pg, &select_number, &value, 1, on_number, &answers[0]);
    await(&answers[0]);
    assert_int_equal(answers[0].status, PG_UNAVAILABLE);
    assert_in_range(clock_monotonic_us() - began_us, 199 * US_PER_MS, 5 * US_PER_S);
    assert_true(postgres_fixture_restart(postgres, &err));
    await_ready(pg);
    pg_query(pg, &select_number, &value, 1, on_number, &answers[1]);
    await(&answers[1]);
    assert_int_equal(answers[1].status, PG_OK);
    pg_free(pg);
    open_admin();
}

/* The TCP connection is alive, the server says nothing: past statement_timeout it counts as lost.
 */
static void test_silent_server_is_given_up(void **state)
{
    struct pg *pg = connect_with((struct pg_options){.statement_timeout_ms = 100});
    struct pg_value value = pg_int8(1);
    struct answer answer = {0};

    (void)state;
    await_ready(pg);
    postgres_fixture_freeze(postgres, true);
    pg_query(pg, &select_number, &value, 1, on_number, &answer);
    await(&answer);
    postgres_fixture_freeze(postgres, false);
    assert_int_equal(answer.status, PG_UNKNOWN);
    pg_free(pg);
}

static void test_free_ends_what_is_outstanding(void **state)
{
    struct pg *pg = connect_plain();
    struct pg_value value = pg_int8(1);
    struct answer answers[3] = {{0}};

    (void)state;
    pg_query(pg, &select_number, &value, 1, on_number, &answers[0]);
    pg_free(pg); /* never connected */
    assert_int_equal(answers[0].status, PG_UNAVAILABLE);

    pg = connect_plain();
    await_ready(pg);
    answers[1].free = pg;
    pg_query(pg, &select_number, &value, 1, on_answer, &answers[1]);
    pg_query(pg, &select_number, &value, 1, on_answer, &answers[2]);
    await(&answers[2]);
    assert_int_equal(answers[1].status, PG_OK);
    assert_int_equal(answers[2].status, PG_UNKNOWN);
}

static void test_values_come_back_as_they_went(void **state)
{
    struct id id = {{0x01, 0x93, 1, 2, 3, 4, 0x70, 5, 0x80, 6, 7, 8, 9, 10, 11, 12}};
    struct pg_value texts[] = {pg_text("a"), pg_null(PG_TEXT), pg_text("\xc3\xa9")};
    struct pg_value values[] = {pg_bool(true),
                                pg_int4(-7),
                                pg_int8(INT64_MIN),
                                pg_text("t"),
                                pg_bytea("\0b", 2),
                                pg_uuid(id),
                                pg_time(INT64_C(1763694245678901)),
                                pg_array(PG_TEXT, texts, 3),
                                pg_null(PG_INT8)};
    struct pg_result *result;
    struct err err;
    size_t len;

    (void)state;
    if (!pg_session_run(
            admin,
            "SELECT $1, $2, $3, $4, $5, $6, $7, $8::text, $9, '{\"a\": 1}'::jsonb, 3::int2, "
            "'infinity'::timestamptz, to_char($7, 'YYYY-MM-DD HH24:MI:SS.US')",
            values, 9, &result, &err))
        fail_msg("%s", err.message);
    assert_true(pg_get_bool(result, 0, 0));
    assert_int_equal(pg_get_int(result, 0, 1), -7);
    assert_true(pg_get_int(result, 0, 2) == INT64_MIN);
    assert_string_equal(pg_get_text(result, 0, 3, NULL), "t");
    assert_memory_equal(pg_get_text(result, 0, 4, &len), "\0b", 2);
    assert_int_equal(len, 2);
    assert_true(id_equal(pg_get_uuid(result, 0, 5), id));
    assert_true(pg_get_time(result, 0, 6) == INT64_C(1763694245678901));
    assert_string_equal(pg_get_text(result, 0, 7, NULL), "{a,NULL,\xc3\xa9}");
    assert_true(pg_is_null(result, 0, 8));
    assert_int_equal(pg_get_int(result, 0, 8), 0);
    assert_string_equal(pg_get_text(result, 0, 9, &len), "{\"a\": 1}");
    assert_int_equal(len, 8);
    assert_int_equal(pg_get_int(result, 0, 10), 3);
    assert_true(pg_get_time(result, 0, 11) == INT64_MAX);
    assert_string_equal(pg_get_text(result, 0, 12, NULL), "2025-11-21 03:04:05.678901");
    pg_result_free(result);
}

static void test_session_tells_what_went_wrong(void **state)
{
    struct pg_value value = pg_int8(1);
    struct pg_result *result;
    struct err err;

    (void)state;
    assert_false(pg_session_run(admin, "SELECT nothing FROM nowhere", NULL, 0, NULL, &err));
    assert_non_null(strstr(err.message, "nowhere"));
    assert_false(pg_session_run(admin, "SELECT $1 / 0", &value, 1, &result, &err));
    assert_non_null(strstr(err.message, "division by zero"));
    assert_int_equal(admin_number("SELECT 1::int8"), 1);
    assert_null(pg_session_open("postgresql://x:secret@127.0.0.1:1/x", "test", &err));
    assert_null(strstr(err.message, "secret"));
}

static int start_everything(void **state)
{
    struct err err;

    (void)state;
    log_setup("test", LOG_ERROR);
    base = event_base_new();
    postgres = postgres_fixture_start(&err);
    if (!postgres) {
        print_error("%s\n", err.message);
        return -1;
    }
    open_admin();
    admin_run("CREATE TABLE things (id int8 PRIMARY KEY);"
              "CREATE TABLE late (id int8 REFERENCES things DEFERRABLE INITIALLY DEFERRED)");
    return 0;
}

static int stop_everything(void **state)
{
    (void)state;
    pg_session_close(admin);
    postgres_fixture_stop(postgres);
    event_base_free(base);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_comes_from_the_loop_never_from_the_call),
        cmocka_unit_test(test_many_queries_are_answered_in_order),
        cmocka_unit_test(test_large_values_flow_both_ways_at_once),
        cmocka_unit_test(test_nul_in_text_fails_here_and_harms_nobody),
        cmocka_unit_test(test_failed_query_does_not_touch_its_neighbours),
        cmocka_unit_test(test_transaction_happens_whole_or_not_at_all),
        cmocka_unit_test(test_result_is_of_the_last_step_with_rows),
        cmocka_unit_test(test_error_at_commit_fails_only_its_own_transaction),
        cmocka_unit_test(test_statement_that_could_not_be_prepared_is_tried_again),
        cmocka_unit_test(test_changed_table_is_prepared_anew_without_a_word),
        cmocka_unit_test(test_settings_are_in_force),
        cmocka_unit_test(test_slow_statement_is_cut_by_its_timeout),
        cmocka_unit_test(test_host_name_is_looked_up),
        cmocka_unit_test(test_bad_url_is_refused_without_its_password),
        cmocka_unit_test(test_database_clock_is_measured),
        cmocka_unit_test(test_full_queue_refuses_the_newcomer_only),
        cmocka_unit_test(test_values_come_back_as_they_went),
        cmocka_unit_test(test_session_tells_what_went_wrong),
        cmocka_unit_test(test_free_ends_what_is_outstanding),
        cmocka_unit_test(test_killed_backend_leaves_what_was_sent_unknown),
        cmocka_unit_test(test_silent_server_is_given_up),
        cmocka_unit_test(test_query_waits_for_a_server_that_comes_back),
        cmocka_unit_test(test_query_is_told_unavailable_when_its_wait_is_over),
    };

    return cmocka_run_group_tests(tests, start_everything, stop_everything);
}
