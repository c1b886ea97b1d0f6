/* SPDX-License-Identifier: Apache-2.0 */
/* Reading events from a real Postgres: pages, news, and what a cursor names. */
#include "common/model/event_read_store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/model/job.h"
#include "tests/unit/store_fixture.h"

static struct event_reads *reads;

static int start(void **state)
{
    int bad = fixture_start(state);

    reads = bad ? NULL : event_reads_new(fixture_pg[0]);
    return reads ? 0 : -1;
}

static int stop(void **state)
{
    event_reads_free(reads);
    return fixture_stop(state);
}

static void add_text(struct id job, int run, int seq, int offset, const char *text)
{
    sql_run("INSERT INTO events (job, run, seq, kind, attempt, byte_offset, text)"
            " VALUES ('%s', %d, %d, 'output.delta', 1, %d, '%s')",
            hex(job), run, seq, offset, text);
}

static void add_other(struct id job, int run, int seq, const char *kind)
{
    sql_run("INSERT INTO events (job, run, seq, kind, attempt, data)"
            " VALUES ('%s', %d, %d, '%s', 1, '{\"attempt\": 1}')",
            hex(job), run, seq, kind);
}

/* Queued, started, "Hell" and "o \u00fc", failed. */
static struct id make_story(void)
{
    struct id job = fixture_queue_job(PRIORITY_NORMAL);

    add_other(job, 0, 0, "job.queued");
    add_other(job, 1, 1, "job.started");
    add_text(job, 1, 2, 0, "Hell");
    add_text(job, 1, 3, 4, "o \xc3\xbc");
    return job;
}

/* --- pages ------------------------------------------------------------------------------------ */

struct told_page {
    bool is_told;
    bool is_full;
    int count;
    struct id worker;
    char kinds[512]; /* of the first rows */
    int64_t text_bytes;
};

static void on_page(const struct event_page *page, void *arg)
{
    struct told_page *told = arg;

    assert_int_equal(page->status, PG_OK);
    told->is_told = true;
    told->is_full = page->is_full;
    told->count = page->count;
    told->worker = page->worker;
    for (int i = 0; i < page->count; i++) {
        const struct event_read_row *row = &page->rows[i];
        size_t end = strlen(told->kinds);

        told->text_bytes += (int64_t)row->text_len;
        assert_true((row->text != NULL) == (strcmp(row->kind, "output.delta") == 0));
        if (i < 8)
            snprintf(told->kinds + end, sizeof(told->kinds) - end, "%d/%d:%s ", row->run, row->seq,
                     row->kind);
    }
}

static struct told_page read_page(struct id job, int run, int seq)
{
    struct told_page told = {0};

    assert_true(event_read(reads, job, "acme", run, seq, on_page, &told));
    await_flag(&told.is_told);
    return told;
}

static void test_page_begins_with_the_row_that_is_named(void **state)
{
    struct id job = make_story();
    struct told_page page = read_page(job, 0, -1);

    (void)state;
    assert_string_equal(page.kinds,
                        "0/0:job.queued 1/1:job.started 1/2:output.delta 1/3:output.delta ");
    assert_false(page.is_full);
    assert_true(id_is_zero(page.worker));
    page = read_page(job, 1, 3);
    assert_string_equal(page.kinds, "1/3:output.delta ");
    page = read_page(job, 1, 4);
    assert_int_equal(page.count, 0);
}

static void test_page_tells_who_runs_the_job(void **state)
{
    struct id job = make_story();

    (void)state;
    sql_run("INSERT INTO runs (job, tenant, priority, run, run_token, worker, deadline,"
            "    dispatch_seq, est_tokens, lease_until, calls, attempts, deferrals, crashes,"
            "    started_at) "
            "VALUES ('%s', 'acme', 1, 1, 1, '%s', now(), 0, 1, now(), 0, 0, 0, 0, now())",
            hex(job), hex(fixture_worker));
    assert_true(id_equal(read_page(job, 9, 0).worker, fixture_worker));
}

static void test_page_is_bounded_in_rows_and_bytes(void **state)
{
    struct id job = fixture_queue_job(PRIORITY_NORMAL);
    struct told_page page;

    (void)state;
    sql_run("INSERT INTO events (job, run, seq, kind, attempt, byte_offset, text)"
            " SELECT '%s', 1, n, 'output.delta', 1, n, 'x' FROM generate_series(1, 201) n",
            hex(job));
    page = read_page(job, 1, 1);
    assert_int_equal(page.count, EVENT_PAGE_ROWS);
    assert_true(page.is_full);
    page = read_page(job, 1, 3);
    assert_int_equal(page.count, 199);
    assert_false(page.is_full);
    sql_run("UPDATE events SET text = repeat('x', 100000) WHERE job = '%s'", hex(job));
    page = read_page(job, 1, 100);
    assert_int_equal(page.count, 3); /* the third passes 256 KiB */
    assert_true(page.is_full);
    sql_run("UPDATE events SET text = repeat('x', 1000000) WHERE job = '%s'", hex(job));
    assert_int_equal(read_page(job, 1, 100).count, 1); /* one always comes */
}

/* --- news ------------------------------------------------------------------------------------- */

struct told_peek {
    bool is_told;
    bool has_news;
};

static void on_peeked(enum pg_status status, bool has_news, void *arg)
{
    struct told_peek *told = arg;

    assert_int_equal(status, PG_OK);
    told->is_told = true;
    told->has_news = has_news;
}

static bool peek(struct id job, int run, int seq, int64_t offset)
{
    struct told_peek told = {0};

    assert_true(event_peek(reads, job, "acme", run, seq, offset, on_peeked, &told));
    await_flag(&told.is_told);
    return told.has_news;
}

static void test_peek_sees_rows_behind_and_text_inside(void **state)
{
    struct id job = make_story();

    (void)state;
    assert_true(peek(job, 0, -1, 0));
    assert_true(peek(job, 1, 2, 4));
    assert_false(peek(job, 1, 3, 8));
    assert_true(peek(job, 1, 3, 6));  /* inside the row: more of it is stored than was sent */
    assert_false(peek(job, 1, 4, 9)); /* live text that is not stored yet */
    assert_false(peek(id_make(1), 0, -1, 0));
}

static void test_many_peeks_of_one_moment_are_answered_each(void **state)
{
    struct told_peek told[200] = {0};
    struct id job = make_story(), quiet = fixture_queue_job(PRIORITY_LOW);

    (void)state;
    for (int i = 0; i < 200; i++)
        assert_true(event_peek(reads, i % 2 ? job : quiet, "acme", 0, 0, 0, on_peeked, &told[i]));
    for (int i = 0; i < 200; i++) {
        await_flag(&told[i].is_told);
        assert_int_equal(told[i].has_news, i % 2);
    }
}

/* --- places ----------------------------------------------------------------------------------- */

struct told_place {
    bool is_told;
    struct event_place place;
};

static void on_located(const struct event_place *place, void *arg)
{
    struct told_place *told = arg;

    assert_int_equal(place->status, PG_OK);
    told->is_told = true;
    told->place = *place;
}

static struct event_place locate(struct id job, const char *tenant, int run, int seq,
                                 int64_t offset)
{
    struct told_place told = {0};

    assert_true(event_locate(reads, job, tenant, run, seq, offset, on_located, &told));
    await_flag(&told.is_told);
    return told.place;
}

static void test_place_of_a_row_and_inside_it(void **state)
{
    struct id job = make_story();
    struct event_place place = locate(job, "acme", 1, 3, 8);

    (void)state;
    assert_true(place.is_found && place.has_row && place.is_text && place.is_boundary);
    assert_int_equal(place.row_offset, 4);
    assert_int_equal(place.row_len, 4);
    assert_int_equal(place.attempt, 1);
    assert_int_equal(place.text_end, 8);
    assert_int_equal(place.last_seq, 3);
    assert_true(locate(job, "acme", 1, 3, 6).is_boundary);
    assert_false(locate(job, "acme", 1, 3, 7).is_boundary); /* inside a character */
    assert_false(locate(job, "acme", 1, 3, 9).is_boundary);
    place = locate(job, "acme", 1, 1, 0);
    assert_true(place.has_row && !place.is_text);
    assert_int_equal(place.text_end, 0);
}

static void test_place_behind_what_is_stored(void **state)
{
    struct id job = make_story();
    struct event_place place = locate(job, "acme", 1, 4, 20);

    (void)state;
    assert_true(place.is_found);
    assert_false(place.has_row);
    assert_int_equal(place.last_seq, 3);
    assert_int_equal(place.attempt, 1);
    assert_int_equal(place.text_end, 8);
    add_other(job, 1, SEQ_ENDED, "job.failed");
    assert_int_equal(locate(job, "acme", 1, 4, 20).last_seq, 3);
    assert_int_equal(locate(job, "acme", 2, 1, 0).last_seq, -1);
}

static void test_place_in_a_foreign_job_is_not_found(void **state)
{
    struct id job = make_story();

    (void)state;
    assert_false(locate(job, "other", 1, 1, 0).is_found);
    assert_false(locate(id_make(1), "acme", 1, 1, 0).is_found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_page_begins_with_the_row_that_is_named, fixture_reset),
        cmocka_unit_test_setup(test_page_tells_who_runs_the_job, fixture_reset),
        cmocka_unit_test_setup(test_page_is_bounded_in_rows_and_bytes, fixture_reset),
        cmocka_unit_test_setup(test_peek_sees_rows_behind_and_text_inside, fixture_reset),
        cmocka_unit_test_setup(test_many_peeks_of_one_moment_are_answered_each, fixture_reset),
        cmocka_unit_test_setup(test_place_of_a_row_and_inside_it, fixture_reset),
        cmocka_unit_test_setup(test_place_behind_what_is_stored, fixture_reset),
        cmocka_unit_test_setup(test_place_in_a_foreign_job_is_not_found, fixture_reset),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
