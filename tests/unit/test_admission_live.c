/* SPDX-License-Identifier: Apache-2.0 */
/* Budgets in a real Redis that loses replies, scripts and data: what broke elsewhere must not break
 * here (the rows of the table of failures each have a test of their own). */
#include "tests/unit/admission_fixture.h"

#include "tests/unit/metric_fixture.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include <netinet/in.h>

/* --- money ------------------------------------------------------------------------------------ */

static void test_a_thousand_at_once_with_a_cent_left_pass_the_ceiling_by_nothing(void **state)
{
    enum { CALLS = 1000, EACH_PART = 3 };
    struct world *world = world_new();
    struct under under;
    (void)state;

    world_open_book(world);
    for (int i = 0; i < CALLS; i++) {
        under_init(&under, i);
        under.tenant.budget_nano[BUDGET_DAY] = CENT;
        under.request.amount_nano = CENT / EACH_PART;
        world_ask_only(world, &under);
    }
    world->done = 0;
    wait_until(world, world->done == CALLS);
    assert_int_equal(world->go, EACH_PART);
    assert_int_equal(world->wait, CALLS - EACH_PART);
    assert_string_equal(world_account(world, DAY), "0 9999999 0");
    world_free(world);
}

static void test_money_is_reserved_before_and_settled_after_by_name(void **state)
{
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 600, 1000), ADMISSION_GO);
    assert_int_equal(world->answer.holds, ADMISSION_HOLDS_MONEY);
    assert_string_equal(world_account(world, DAY), "0 600 0");
    assert_int_equal(world_ask_money(world, 2, 600, 1000), ADMISSION_WAIT);
    assert_int_equal(world->answer.dimension, ADMISSION_BUDGET);
    assert_int_equal(world->answer.window, BUDGET_DAY);
    assert_int_equal(world->answer.wait_us, US_PER_S); /* the other may turn out cheaper */
    assert_int_equal(world->answer.interval_us, 100 * US_PER_MS);
    assert_int_equal(world->answer.free, 400);
    assert_string_equal(world->answer.detail,
                        "budget_usd.day of tenant: limit 0.000001000, free 0.000000400");
    world_settle(world, 1, ADMISSION_SETTLED, 100, -1, ADMISSION_HOLDS_MONEY);
    assert_string_equal(world_account(world, DAY), "100 0 0");
    assert_int_equal(world_ask_money(world, 2, 901, 1000), ADMISSION_WAIT);
    assert_int_equal(world->answer.wait_us, 3600 * US_PER_S); /* the window's end */
    assert_int_equal(world_ask_money(world, 2, 900, 1000), ADMISSION_GO);
    assert_int_equal(world_ask_money(world, 3, 1001, 1000), ADMISSION_NEVER);
    world_free(world);
}

static void test_release_after_settle_changes_nothing(void **state)
{
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 600, 1000), ADMISSION_GO);
    world_settle(world, 1, ADMISSION_SETTLED, 250, -1, ADMISSION_HOLDS_MONEY);
    world_settle(world, 1, ADMISSION_RELEASED, 0, -1, ADMISSION_HOLDS_MONEY);
    world_settle(world, 1, ADMISSION_UNDONE, 0, -1, ADMISSION_HOLDS_MONEY);
    world_settle(world, 1, ADMISSION_SETTLED, 999, -1, ADMISSION_HOLDS_MONEY);
    world_settle(world, 1, ADMISSION_UNKNOWN, 0, -1, ADMISSION_HOLDS_MONEY);
    assert_string_equal(world_account(world, DAY), "250 0 0");
    assert_string_equal(world_book(world, "live"), "0");
    world_free(world);
}

static void test_a_call_that_nobody_knows_of_keeps_its_whole_reservation(void **state)
{
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 600, 1000), ADMISSION_GO);
    world_settle(world, 1, ADMISSION_UNKNOWN, 0, -1, ADMISSION_HOLDS_MONEY);
    world_settle(world, 1, ADMISSION_UNKNOWN, 0, -1, ADMISSION_HOLDS_MONEY);
    assert_string_equal(world_account(world, DAY), "0 0 600");
    assert_int_equal(world_ask_money(world, 2, 500, 1000), ADMISSION_WAIT);
    assert_int_equal(world->answer.wait_us, 3600 * US_PER_S); /* nothing out that may free it */
    world_settle(world, 1, ADMISSION_SETTLED, 20, -1, ADMISSION_HOLDS_MONEY); /* resolved */
    assert_string_equal(world_account(world, DAY), "20 0 0");
    world_free(world);
}

static int64_t overruns_counted(void)
{
    return metric_value("nightshift_reservation_overruns_total");
}

static void test_a_cost_over_the_reservation_is_counted_also_when_it_is_resolved(void **state)
{
    struct world *world = world_new();
    int64_t before = overruns_counted();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 600, 10000), ADMISSION_GO);
    world_settle(world, 1, ADMISSION_SETTLED, 700, -1, ADMISSION_HOLDS_MONEY);
    wait_until(world, overruns_counted() == before + 1);
    assert_int_equal(world_ask_money(world, 2, 600, 10000), ADMISSION_GO);
    world_settle(world, 2, ADMISSION_UNKNOWN, 0, -1, ADMISSION_HOLDS_MONEY);
    world_settle(world, 2, ADMISSION_SETTLED, 600, -1, ADMISSION_HOLDS_MONEY);
    assert_int_equal(overruns_counted(), before + 1);
    assert_int_equal(world_ask_money(world, 3, 600, 10000), ADMISSION_GO);
    world_settle(world, 3, ADMISSION_UNKNOWN, 0, -1, ADMISSION_HOLDS_MONEY);
    world_settle(world, 3, ADMISSION_SETTLED, 601, -1, ADMISSION_HOLDS_MONEY);
    wait_until(world, overruns_counted() == before + 2);
    assert_string_equal(world_account(world, DAY), "1901 0 0");
    world_free(world);
}

static void test_a_cost_that_its_worker_has_judged_is_not_counted_again(void **state)
{
    const struct admission_settlement settlement = {.tenant = "acme",
                                                    .job = job_of(1),
                                                    .run = 1,
                                                    .call = 1,
                                                    .holds = ADMISSION_HOLDS_MONEY,
                                                    .end = ADMISSION_SETTLED,
                                                    .cost_nano = 700,
                                                    .tokens = -1};
    struct world *world = world_new();
    int64_t before = overruns_counted();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 600, 10000), ADMISSION_GO);
    admission_settle(world->admission, &settlement);
    wait_until(world, admission_settles_kept(world->admission) == 0);
    assert_string_equal(world_account(world, DAY), "700 0 0");
    assert_int_equal(overruns_counted(), before);
    world_free(world);
}

static void test_every_account_is_checked_before_any_is_written(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    world_open_book(world);
    under_init(&under, 1);
    under.tenant.budget_nano[BUDGET_DAY] = 1000;
    under.tenant.requests_per_minute = 60;
    under.tenant.tokens_per_minute = 6000;
    under.tenant.max_concurrency = 3;
    under.workflow.budget_nano[BUDGET_TOTAL] = 100;
    under.request.amount_nano = 500;
    assert_int_equal(world_ask(world, &under), ADMISSION_NEVER);
    assert_int_equal(world->answer.scope, LIMIT_WORKFLOW);
    assert_int_equal(world->answer.window, BUDGET_TOTAL);
    assert_string_equal(world_command(world, "HLEN {t:acme}:book"), "1");
    assert_string_equal(world_command(world, "DBSIZE"), "1"); /* the book */
    world_free(world);
}

static void test_the_window_is_in_the_name_and_an_old_call_settles_in_its_own(void **state)
{
    struct budget_windows before = windows;
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 600, 1000), ADMISSION_GO);
    snprintf(windows.id[BUDGET_DAY], WINDOW_ID_SIZE, "d20261122");
    assert_int_equal(world_ask_money(world, 2, 1000, 1000), ADMISSION_GO);
    world_settle(world, 1, ADMISSION_SETTLED, 555, -1, ADMISSION_HOLDS_MONEY);
    assert_string_equal(world_account(world, DAY), "555 0 0");
    assert_string_equal(world_account(world, "tenant|d20261122"), "0 1000 0");
    windows = before;
    world_free(world);
}

static void test_money_is_exact_up_to_nine_million_dollars(void **state)
{
    const int64_t limit = INT64_C(9000000000000000);
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, limit - 1, limit), ADMISSION_GO);
    assert_int_equal(world_ask_money(world, 2, 2, limit), ADMISSION_WAIT);
    assert_int_equal(world_ask_money(world, 2, 1, limit), ADMISSION_GO);
    assert_string_equal(world_account(world, DAY), "0 9000000000000000 0");
    world_settle(world, 1, ADMISSION_SETTLED, INT64_C(8999999999999997), -1, ADMISSION_HOLDS_MONEY);
    assert_string_equal(world_account(world, DAY), "8999999999999997 1 0");
    assert_int_equal(world_ask_money(world, 3, INT64_MAX, limit), ADMISSION_NEVER);
    world_free(world);
}

static void test_a_name_asked_twice_is_charged_once(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    world_open_book(world);
    under_init(&under, 1);
    under.tenant.budget_nano[BUDGET_DAY] = 1000;
    under.tenant.requests_per_minute = 1;
    under.tenant.max_concurrency = 1;
    under.request.amount_nano = 1000;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(world_ask(world, &under), ADMISSION_GO);
        assert_int_equal(world->answer.holds, ADMISSION_HOLDS_MONEY | ADMISSION_HOLDS_RATES);
    }
    assert_string_equal(world_account(world, DAY), "0 1000 0");
    assert_int_equal(world_leases(world, "{t:acme}:m:tenant"), 1);
    world_free(world);
}

/* The server stands still after it got the question: the connection is dropped, the question comes
 * again over a new one, and both are answered by the server in the end. */
static void test_a_reply_lost_after_the_server_applied_it_counts_once(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    world_open_book(world);
    under_init(&under, 1);
    under.tenant.budget_nano[BUDGET_DAY] = 1000;
    under.request.amount_nano = 700;
    redis_fixture_freeze(world_server, true);
    world_ask_only(world, &under);
    world->done = 0;
    wait_until(world, !redis_is_ready(world->redis)); /* the deadline */
    assert_int_equal(world->done, 0);
    redis_fixture_freeze(world_server, false);
    wait_until(world, world->done == 1);
    assert_int_equal(world->answer.outcome, ADMISSION_GO);
    wait_until(world, redis_is_ready(world->side));
    assert_string_equal(world_account(world, DAY), "0 700 0");
    assert_string_equal(world_book(world, "live"), "1");
    world_free(world);
}

static void test_a_settlement_lost_after_the_server_applied_it_counts_once(void **state)
{
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 600, 1000), ADMISSION_GO);
    assert_int_equal(world_ask_money(world, 2, 300, 1000), ADMISSION_GO);
    redis_fixture_freeze(world_server, true);
    world_settle_only(world, 1, ADMISSION_SETTLED, 250, -1, ADMISSION_HOLDS_MONEY);
    wait_until(world, !redis_is_ready(world->redis));
    redis_fixture_freeze(world_server, false);
    wait_until(world, admission_settles_kept(world->admission) == 0);
    wait_until(world, redis_is_ready(world->side));
    assert_string_equal(world_account(world, DAY), "250 300 0");
    world_free(world);
}

/* Given up as away, but the server ran it after all: what it reserved is taken back by itself. */
static void test_what_was_given_up_is_taken_back_when_redis_answers_again(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    world_open_book(world);
    under_init(&under, 1);
    under.tenant.budget_nano[BUDGET_DAY] = 1000;
    under.tenant.max_concurrency = 5;
    under.request.amount_nano = 700;
    redis_fixture_freeze(world_server, true);
    assert_int_equal(world_ask(world, &under), ADMISSION_AWAY);
    assert_int_equal(world->answer.holds, 0);
    assert_int_equal(world_ask(world, &under), ADMISSION_AWAY); /* the name is closed until then */
    redis_fixture_freeze(world_server, false);
    wait_until(world, admission_settles_kept(world->admission) == 0);
    wait_until(world, redis_is_ready(world->side));
    assert_string_equal(world_book(world, "live"), "0");
    assert_int_equal(world_leases(world, "{t:acme}:m:tenant"), 0);
    assert_int_equal(world_ask_money(world, 1, 700, 1000), ADMISSION_GO);
    world_free(world);
}

static void test_a_cancelled_question_gives_back_what_it_was_granted(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    world_open_book(world);
    under_init(&under, 1);
    under.tenant.budget_nano[BUDGET_DAY] = 1000;
    under.request.amount_nano = 700;
    under.request.run_id = world->run_id;
    admission_cancel(admission_ask(world->admission, &under.request, world_on_answer, world));
    assert_int_equal(world_ask_money(world, 2, 200, 1000), ADMISSION_GO);
    wait_until(world, admission_settles_kept(world->admission) == 0);
    assert_string_equal(world_account(world, DAY), "0 200 0");
    assert_int_equal(world->go, 1);
    world_free(world);
}

/* --- the book's generation -------------------------------------------------------------------- */

static void test_a_flushed_redis_is_stale_and_never_admits(void **state)
{
    struct world *world = world_new();
    (void)state;

    assert_int_equal(world_ask_money(world, 1, 1, 1000), ADMISSION_STALE);
    assert_string_equal(world->answer.generation, "");
    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 1, 1000), ADMISSION_GO);
    world_command(world, "FLUSHALL");
    assert_int_equal(world_ask_money(world, 2, 1, 1000), ADMISSION_STALE);
    world_settle(world, 1, ADMISSION_SETTLED, 1, -1, ADMISSION_HOLDS_MONEY); /* the ledger has it */
    assert_string_equal(world_command(world, "EXISTS {t:acme}:book"), "0");
    world_free(world);
}

/* As it was before its numbers were packed. */
static void test_a_book_of_another_form_is_none(void **state)
{
    struct world *world = world_new();
    (void)state;

    world_command(world, "HSET {t:acme}:book gen %s ver 7 live 1 a:" DAY " 5:0:0", generation);
    world_command(world, "HSET {t:acme}:book r:00000000000070008000000000000001:1:1 R:1");
    assert_int_equal(world_ask_money(world, 2, 1, 1000), ADMISSION_STALE);
    assert_string_equal(world->answer.generation, "");
    world_settle(world, 1, ADMISSION_SETTLED, 1, -1, ADMISSION_HOLDS_MONEY);
    world_open_book(world);
    assert_string_equal(world_command(world, "HLEN {t:acme}:book"), "1");
    assert_int_equal(world_ask_money(world, 2, 1000, 1000), ADMISSION_GO);
    world_free(world);
}

static void test_an_old_copy_of_the_book_is_stale(void **state)
{
    struct world *world = world_new();
    (void)state;

    assert_int_equal(world_mark(world, "1.9"), BOOK_DONE);
    assert_int_equal(world_publish(world, "1.9", 0), BOOK_DONE);
    assert_int_equal(world_ask_money(world, 1, 1, 1000), ADMISSION_STALE);
    assert_string_equal(world->answer.generation, "1.9");
    world_free(world);
}

static void test_another_server_is_stale_whatever_it_holds(void **state)
{
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    snprintf(world->run_id, sizeof(world->run_id), "0123456789012345678901234567890123456789");
    assert_int_equal(world_ask_money(world, 1, 1, 1000), ADMISSION_STALE);
    assert_true(world->answer.is_other_redis);
    assert_int_equal(world_mark(world, "1.2"), BOOK_AWAY);
    world_free(world);
}

static void test_while_a_book_is_made_nobody_is_admitted_and_settlements_wait(void **state)
{
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 600, 1000), ADMISSION_GO);
    assert_int_equal(world_mark(world, "1.2"), BOOK_DONE);
    assert_int_equal(world_ask_money(world, 2, 1, 1000), ADMISSION_STALE);
    assert_string_equal(world->answer.generation, "building:1.2");
    /* The ledger was summed while the call was out: it stands there as a record. */
    assert_int_equal(world_write_record(world, "1.2", 1, 600, false), BOOK_DONE);
    world_settle_only(world, 1, ADMISSION_SETTLED, 50, -1, ADMISSION_HOLDS_MONEY);
    world_command(world, "PING");
    assert_int_equal(admission_settles_kept(world->admission), 1);
    assert_int_equal(world_publish(world, "1.2", 2), BOOK_DONE);
    wait_until(world, admission_settles_kept(world->admission) == 0);
    assert_string_equal(world_account(world, DAY), "50 0 0");
    world_free(world);
}

static void test_only_the_newest_rebuild_writes_and_publishes(void **state)
{
    struct world *world = world_new();
    (void)state;

    assert_int_equal(world_mark(world, "1.2"), BOOK_DONE);
    assert_int_equal(world_write_account(world, "1.2", DAY, 5), BOOK_DONE);
    assert_int_equal(world_mark(world, "1.2"), BOOK_DONE); /* said twice: what is written stays */
    assert_int_equal(world_mark(world, "2.1"), BOOK_DONE);
    assert_int_equal(world_write_account(world, "1.2", DAY, 5), BOOK_NOT_OURS);
    assert_int_equal(world_publish(world, "1.2", 1), BOOK_NOT_OURS);
    assert_int_equal(world_mark(world, "1.10"), BOOK_NOT_OURS);
    assert_int_equal(world_write_account(world, "2.1", DAY, 7), BOOK_DONE);
    assert_int_equal(world_publish(world, "1.2", 1), BOOK_NOT_OURS); /* though it is as long */
    assert_int_equal(world_write_account(world, "2.1", DAY, 8), BOOK_DONE); /* absolute values */
    assert_int_equal(world_publish(world, "2.1", 1), BOOK_DONE);
    assert_int_equal(world_publish(world, "2.1", 1), BOOK_DONE);
    assert_int_equal(world_mark(world, "2.1"), BOOK_NOT_OURS); /* too late, it lives */
    assert_string_equal(world_account(world, DAY), "8 0 0");
    world_free(world);
}

/* A flush between two chunks: the mark that is said again must not publish half a book. */
static void test_half_a_book_is_not_published(void **state)
{
    struct world *world = world_new();
    (void)state;

    assert_int_equal(world_mark(world, "1.2"), BOOK_DONE);
    assert_int_equal(world_write_account(world, "1.2", "tenant|t", 5), BOOK_DONE);
    world_command(world, "FLUSHALL");
    assert_int_equal(world_mark(world, "1.2"), BOOK_DONE);
    assert_int_equal(world_write_account(world, "1.2", DAY, 5), BOOK_DONE);
    assert_int_equal(world_publish(world, "1.2", 2), BOOK_NOT_OURS);
    world_free(world);
}

struct seen_book {
    int accounts, records, unknown, ends;
    int64_t spent, amount, version;
    enum book_outcome outcome;
};

static void on_seen_account(const struct book_account *found, void *arg)
{
    struct seen_book *seen = arg;

    seen->accounts++;
    seen->spent += found->spent_nano;
    assert_string_equal(found->account, DAY);
}

static void on_seen_record(const struct book_record_found *record, void *arg)
{
    struct seen_book *seen = arg;
    struct id job = job_of(record->is_unknown ? 2 : 1);

    seen->records++;
    seen->unknown += record->is_unknown;
    seen->amount += record->amount_nano;
    assert_true(id_equal(record->job, job));
    assert_int_equal(record->owner, 7);
    assert_string_equal(record->accounts, DAY);
}

static void on_seen_end(enum book_outcome outcome, const char *which, int64_t version, void *arg)
{
    struct seen_book *seen = arg;

    seen->ends++;
    seen->outcome = outcome;
    seen->version = version;
    assert_string_equal(which, generation);
}

static void on_head(const struct book_head *head, void *arg)
{
    struct world *world = arg;

    world->done++;
    snprintf(world->text, sizeof(world->text), "%s %ld live of %ld", head->generation,
             (long)head->live, (long)head->fields);
}

static void on_values(const struct book_account *values, size_t count, void *arg)
{
    struct world *world = arg;

    world->done++;
    snprintf(world->text, sizeof(world->text), "none");
    if (values)
        snprintf(world->text, sizeof(world->text), "%zu: %s %ld %ld %ld, %s %ld", count,
                 values[0].account, (long)values[0].spent_nano, (long)values[0].reserved_nano,
                 (long)values[0].unknown_nano, values[1].account, (long)values[1].spent_nano);
}

static void test_a_book_can_be_read_asked_and_pruned(void **state)
{
    static const struct book_reader reader = {on_seen_account, on_seen_record, on_seen_end};
    const char *const names[] = {DAY, "tenant|t"};
    struct world *world = world_new();
    struct seen_book seen = {0};
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 600, 1000), ADMISSION_GO);
    assert_int_equal(world_ask_money(world, 2, 300, 1000), ADMISSION_GO);
    world_settle(world, 2, ADMISSION_UNKNOWN, 0, -1, ADMISSION_HOLDS_MONEY);
    book_read(world->side, "acme", &reader, &seen);
    wait_until(world, seen.ends == 1);
    assert_int_equal(seen.outcome, BOOK_DONE);
    assert_int_equal(seen.accounts, 1);
    assert_int_equal(seen.records, 2);
    assert_int_equal(seen.unknown, 1);
    assert_int_equal(seen.amount, 900);
    world->done = 0;
    book_head(world->side, "acme", on_head, world);
    wait_until(world, world->done == 1);
    assert_string_equal(world->text, "1.1 1 live of 3");
    book_accounts(world->side, world->run_id, "acme", generation, names, 2, on_values, world);
    wait_until(world, world->done == 2);
    assert_string_equal(world->text, "2: " DAY " 0 600 300, tenant|t 0");
    book_accounts(world->side, world->run_id, "acme", "1.2", names, 2, on_values, world);
    wait_until(world, world->done == 3);
    assert_string_equal(world->text, "none");
    book_prune(world->side, "acme", generation, names, 2, world_on_book, world);
    wait_until(world, world->done == 4);
    assert_string_equal(world_account(world, DAY), "0 600 300"); /* not while something is out */
    world_settle(world, 1, ADMISSION_SETTLED, 1, -1, ADMISSION_HOLDS_MONEY);
    world_settle(world, 2, ADMISSION_RELEASED, 1, -1, ADMISSION_HOLDS_MONEY);
    world->done = 0;
    book_prune(world->side, "acme", generation, names, 2, world_on_book, world);
    wait_until(world, world->done == 1);
    assert_string_equal(world_account(world, DAY), "");
    book_forget(world->side, "acme", generation, world_on_book, world);
    wait_until(world, world->done >= 3);
    assert_int_equal(world_ask_money(world, 3, 1, 1000), ADMISSION_STALE);
    world_free(world);
}

/* --- when Redis will not ---------------------------------------------------------------------- */

static void test_flushed_scripts_are_sent_again_at_once(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 1, 1000), ADMISSION_GO);
    world_command(world, "SCRIPT FLUSH");
    for (int i = 2; i < 6; i++) {
        under_init(&under, i);
        under.tenant.budget_nano[BUDGET_DAY] = 1000;
        under.request.amount_nano = 1;
        world_ask_only(world, &under);
    }
    world_settle(world, 1, ADMISSION_SETTLED, 1, -1, ADMISSION_HOLDS_MONEY);
    wait_until(world, world->go == 5);
    world_intake(world, &under, 1);
    assert_false(world->intake.is_away);
    assert_string_equal(world_account(world, DAY), "1 4 0");
    world_free(world);
}

/* What somebody wrote into the book by hand is no reason to say the same for ever. */
static void test_a_record_that_cannot_be_read_is_left_to_reconciliation(void **state)
{
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 10, 1000), ADMISSION_GO);
    world_command(world, "HSET {t:acme}:book r:00000000000070008000000000000001:1:1 nonsense");
    world_settle(world, 1, ADMISSION_SETTLED, 9, -1, ADMISSION_HOLDS_MONEY);
    assert_string_equal(world_account(world, DAY), "0 10 0");
    world_free(world);
}

/* A full Redis takes nothing new, but what frees it is taken. */
static void test_a_full_redis_is_away_and_still_settles(void **state)
{
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 10, 1000), ADMISSION_GO);
    world_command(world, "CONFIG SET maxmemory 1");
    assert_int_equal(world_ask_money(world, 2, 10, 1000), ADMISSION_AWAY);
    world_settle(world, 1, ADMISSION_SETTLED, 9, -1, ADMISSION_HOLDS_MONEY);
    assert_string_equal(world_account(world, DAY), "9 0 0");
    world_command(world, "CONFIG SET maxmemory 0");
    assert_int_equal(world_ask_money(world, 2, 10, 1000), ADMISSION_GO);
    world_free(world);
}

static void test_a_replica_is_away_and_settlements_wait_for_a_master(void **state)
{
    struct world *world = world_new();
    (void)state;

    world_open_book(world);
    assert_int_equal(world_ask_money(world, 1, 10, 1000), ADMISSION_GO);
    world_command(world, "REPLICAOF 127.0.0.1 1");
    assert_int_equal(world_ask_money(world, 2, 10, 1000), ADMISSION_AWAY);
    world_settle_only(world, 1, ADMISSION_SETTLED, 9, -1, ADMISSION_HOLDS_MONEY);
    world_command(world, "PING");
    assert_int_equal(admission_settles_kept(world->admission), 1);
    world_command(world, "REPLICAOF NO ONE");
    wait_until(world, admission_settles_kept(world->admission) == 0);
    assert_string_equal(world_account(world, DAY), "9 0 0");
    world_free(world);
}

static void test_a_dead_redis_is_away_for_money_and_local_for_rates(void **state)
{
    struct world *world = world_new();
    struct under under;
    (void)state;

    world_open_book(world);
    redis_fixture_crash(world_server);
    wait_until(world, !redis_is_ready(world->redis));
    assert_int_equal(world_ask_money(world, 1, 10, 1000), ADMISSION_AWAY);
    admission_set_workers(world->admission, 4);
    under_init(&under, 1);
    under.tenant.max_concurrency = 8; /* two for each of four */
    for (int i = 1; i <= 3; i++) {
        under.request.job = job_of(i);
        assert_int_equal(world_ask(world, &under), i <= 2 ? ADMISSION_GO : ADMISSION_WAIT);
    }
    assert_string_equal(world->answer.detail, "max_concurrency of tenant: limit 8");
    world_settle_only(world, 1, ADMISSION_SETTLED, 0, -1, ADMISSION_HOLDS_LOCAL);
    assert_int_equal(world_ask(world, &under), ADMISSION_GO);
    assert_int_equal(world->answer.holds, ADMISSION_HOLDS_LOCAL);
    under.tenant.submits_per_minute = 40; /* one at a time for each */
    world_intake(world, &under, 1);
    assert_true(world->intake.is_away);
    assert_false(world->intake.is_refused);
    world_intake(world, &under, 1);
    assert_true(world->intake.is_refused);
    assert_true(redis_fixture_restart(world_server, &(struct err){.message = ""}));
    world_wait_ready(world);
    assert_int_equal(world_ask_money(world, 1, 10, 1000), ADMISSION_STALE);
    world_free(world);
}

/* A server that greets and then refuses everything in the words it was given. */
struct refuser {
    struct evconnlistener *listener;
    struct bufferevent *stream; /* the one connection */
    const char *words;
    int port;
};

static char *next_line(struct evbuffer *input, size_t *left)
{
    char *line = evbuffer_readln(input, left, EVBUFFER_EOL_CRLF_STRICT);

    return line;
}

static void on_refuser_read(struct bufferevent *stream, void *arg)
{
    struct refuser *refuser = arg;
    struct evbuffer *input = bufferevent_get_input(stream);
    struct evbuffer *output = bufferevent_get_output(stream);
    size_t len;
    char *line;

    /* Commands come whole here: they are small. */
    while ((line = next_line(input, &len)) != NULL) {
        int words = atoi(line + 1);
        char name[16] = "";

        free(line);
        for (int i = 0; i < words; i++) {
            char *size = next_line(input, &len);
            char *word = next_line(input, &len);

            if (i == 0)
                snprintf(name, sizeof(name), "%s", word ? word : "");
            free(size);
            free(word);
        }
        if (strcmp(name, "PING") == 0)
            evbuffer_add_printf(output, "+PONG\r\n");
        else if (strcmp(name, "INFO") == 0)
            evbuffer_add_printf(output, "$16\r\n#\r\nrun_id:abcd\r\n\r\n");
        else
            evbuffer_add_printf(output, "-%s\r\n", refuser->words);
    }
}

static void on_refuser_event(struct bufferevent *stream, short what, void *arg)
{
    struct refuser *refuser = arg;

    if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)))
        return;
    bufferevent_free(stream);
    refuser->stream = NULL;
}

static void on_refuser_accept(struct evconnlistener *listener, evutil_socket_t fd,
                              struct sockaddr *from, int len, void *arg)
{
    struct refuser *refuser = arg;
    struct bufferevent *stream =
        bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);

    (void)from;
    (void)len;
    refuser->stream = stream;
    bufferevent_setcb(stream, on_refuser_read, NULL, on_refuser_event, arg);
    bufferevent_enable(stream, EV_READ | EV_WRITE);
}

static void test_every_error_of_redis_is_away_and_never_go(void **state)
{
    static const char *const errors[] = {
        "LOADING Redis is loading the dataset in memory",
        "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "READONLY You can't write against a read only replica.",
        "NOREPLICAS Not enough good replicas to write.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "BUSY Redis is busy running a script.",
        "NOSCRIPT No matching script. Please use EVAL.",
        "NOPERM this user has no permissions to run the 'evalsha' command",
        "ERR unknown command",
    };
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    socklen_t len = sizeof(address);
    struct world *world = world_new();
    struct redis *own = world->redis;
    struct refuser refuser = {.words = ""};
    char url[64];
    const struct redis_options options = {.url = url, .command_timeout_ms = 300};
    struct err err;
    (void)state;

    refuser.listener =
        evconnlistener_new_bind(world->base, on_refuser_accept, &refuser, LEV_OPT_CLOSE_ON_FREE, 8,
                                (struct sockaddr *)&address, sizeof(address));
    getsockname(evconnlistener_get_fd(refuser.listener), (struct sockaddr *)&address, &len);
    snprintf(url, sizeof(url), "redis://127.0.0.1:%d", ntohs(address.sin_port));
    admission_free(world->admission);
    world->redis = redis_new(world->base, &options, &err);
    world->admission = admission_new(world->base, world->redis);
    world_wait_ready(world);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        refuser.words = errors[i];
        assert_int_equal(world_ask_money(world, (int)i, 1, 1000), ADMISSION_AWAY);
        assert_int_equal(world_mark(world, generation), BOOK_AWAY);
    }
    world_settle_only(world, 1, ADMISSION_SETTLED, 1, -1, ADMISSION_HOLDS_MONEY);
    assert_int_equal(admission_settles_kept(world->admission), 1);
    evconnlistener_free(refuser.listener);
    if (refuser.stream)
        bufferevent_free(refuser.stream);
    redis_free(own);
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_thousand_at_once_with_a_cent_left_pass_the_ceiling_by_nothing),
        cmocka_unit_test(test_money_is_reserved_before_and_settled_after_by_name),
        cmocka_unit_test(test_release_after_settle_changes_nothing),
        cmocka_unit_test(test_a_call_that_nobody_knows_of_keeps_its_whole_reservation),
        cmocka_unit_test(test_a_cost_over_the_reservation_is_counted_also_when_it_is_resolved),
        cmocka_unit_test(test_a_cost_that_its_worker_has_judged_is_not_counted_again),
        cmocka_unit_test(test_every_account_is_checked_before_any_is_written),
        cmocka_unit_test(test_the_window_is_in_the_name_and_an_old_call_settles_in_its_own),
        cmocka_unit_test(test_money_is_exact_up_to_nine_million_dollars),
        cmocka_unit_test(test_a_name_asked_twice_is_charged_once),
        cmocka_unit_test(test_a_reply_lost_after_the_server_applied_it_counts_once),
        cmocka_unit_test(test_a_settlement_lost_after_the_server_applied_it_counts_once),
        cmocka_unit_test(test_what_was_given_up_is_taken_back_when_redis_answers_again),
        cmocka_unit_test(test_a_cancelled_question_gives_back_what_it_was_granted),
        cmocka_unit_test(test_a_flushed_redis_is_stale_and_never_admits),
        cmocka_unit_test(test_a_book_of_another_form_is_none),
        cmocka_unit_test(test_an_old_copy_of_the_book_is_stale),
        cmocka_unit_test(test_another_server_is_stale_whatever_it_holds),
        cmocka_unit_test(test_while_a_book_is_made_nobody_is_admitted_and_settlements_wait),
        cmocka_unit_test(test_only_the_newest_rebuild_writes_and_publishes),
        cmocka_unit_test(test_half_a_book_is_not_published),
        cmocka_unit_test(test_a_book_can_be_read_asked_and_pruned),
        cmocka_unit_test(test_flushed_scripts_are_sent_again_at_once),
        cmocka_unit_test(test_a_record_that_cannot_be_read_is_left_to_reconciliation),
        cmocka_unit_test(test_a_full_redis_is_away_and_still_settles),
        cmocka_unit_test(test_a_replica_is_away_and_settlements_wait_for_a_master),
        cmocka_unit_test(test_a_dead_redis_is_away_for_money_and_local_for_rates),
        cmocka_unit_test(test_every_error_of_redis_is_away_and_never_go),
    };

    return cmocka_run_group_tests(tests, world_start_server, world_stop_server);
}
