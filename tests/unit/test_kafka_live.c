/* SPDX-License-Identifier: Apache-2.0 */
/* Producer and consumer against a real broker: the embedded one, and Apache Kafka when it is there.
 *
 * Every test has its own topic and group.  The embedded broker always needs 3 s for a first
 * assignment, so the tests of one group share a consumer's life where they can. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/kafka.h"
#include "tests/unit/kafka_fixture.h"
#include "tests/unit/valgrind.h"

#include <event2/event.h>

enum { MESSAGES_MAX = 4096, WAIT_MS = 20000 };

static const char *const topics[] = {"flow", "commit", "pause", "outage", "fatal", "bounded"};
enum { TOPIC_COUNT = sizeof(topics) / sizeof(topics[0]) };

static struct kafka_fixture broker;
static struct event_base *base;

/* --- helpers ---------------------------------------------------------------------------------- */

/* Turns the loop until is_true(arg) or the time is up. */
static bool until(bool (*is_true)(void *arg), void *arg, int timeout_ms)
{
    int64_t deadline = clock_monotonic_us() + timeout_ms * US_PER_MS;
    const struct timeval slice = {.tv_usec = 20000};

    while (!is_true(arg)) {
        if (clock_monotonic_us() > deadline)
            return false;
        event_base_loopexit(base, &slice);
        event_base_loop(base, EVLOOP_ONCE);
    }
    return true;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

/* What became of a number of messages. */
struct outcome {
    int ok;
    int lost;
    int wanted; /* answers */
};

static void on_delivered(bool ok, void *arg)
{
    struct outcome *outcome = arg;

    if (ok)
        outcome->ok++;
    else
        outcome->lost++;
}

static bool is_answered(void *arg)
{
    const struct outcome *outcome = arg;

    return outcome->ok + outcome->lost >= outcome->wanted;
}

static bool is_ready(void *arg)
{
    return kafka_producer_is_ready(arg);
}

static struct kafka_producer *producer_start(const char *topic, const char *const *extra)
{
    struct kafka_options options = kafka_fixture_options(&broker);
    struct kafka_producer *producer;
    struct err err;

    options.extra = extra;
    producer = kafka_producer_new(base, &options, &err);
    assert_non_null(producer);
    kafka_producer_warm(producer, &topic, 1);
    assert_true(until(is_ready, producer, WAIT_MS));
    return producer;
}

/* Sends the numbers from..to-1. */
static struct outcome send_numbers(struct kafka_producer *producer, const char *topic, int from,
                                   int to)
{
    struct outcome outcome = {.wanted = to - from};

    for (int i = from; i < to; i++)
        assert_true(kafka_produce(producer, topic, &i, sizeof(i), on_delivered, &outcome));
    assert_true(until(is_answered, &outcome, WAIT_MS));
    return outcome;
}

/* Takes all that comes. */
struct reader {
    struct kafka_consumer *consumer;
    int counts[MESSAGES_MAX]; /* how often a number came */
    int total;
    int wanted;
};

static void on_ready(void *arg)
{
    struct reader *reader = arg;
    struct kafka_message message;
    int number;

    while (kafka_consumer_take(reader->consumer, &message)) {
        assert_int_equal(message.len, sizeof(number));
        memcpy(&number, message.data, sizeof(number));
        assert_in_range(number, 0, MESSAGES_MAX - 1);
        reader->counts[number]++;
        reader->total++;
    }
}

static struct reader *reader_start(const char *group, const char *topic)
{
    struct kafka_options options = kafka_fixture_options(&broker);
    struct reader *reader = calloc(1, sizeof(*reader));
    struct err err;

    assert_non_null(reader);
    reader->consumer = kafka_consumer_new(base, &options, group, topic, &err);
    assert_non_null(reader->consumer);
    kafka_consumer_on_ready(reader->consumer, on_ready, reader);
    return reader;
}

static void reader_stop(struct reader *reader)
{
    kafka_consumer_free(reader->consumer, 5000);
    free(reader);
}

static bool has_wanted(void *arg)
{
    const struct reader *reader = arg;

    return reader->total >= reader->wanted;
}

static bool is_assigned(void *arg)
{
    const struct reader *reader = arg;

    return kafka_consumer_is_assigned(reader->consumer);
}

static void assert_each_came(const struct reader *reader, int from, int to, int times)
{
    for (int i = from; i < to; i++)
        if (reader->counts[i] != times)
            fail_msg("number %d came %d times, not %d", i, reader->counts[i], times);
}

static int compare_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_every_message_is_taken_once_and_soon(void **state)
{
    enum { ROUNDS = 200 };
    struct kafka_producer *producer = producer_start("flow", NULL);
    struct reader *reader = reader_start("flow", "flow");
    int64_t took[ROUNDS], start = clock_monotonic_us();
    struct outcome outcome;

    (void)state;
    assert_int_equal(kafka_consumer_idle_since_us(reader->consumer), 0);
    assert_true(until(is_assigned, reader, WAIT_MS));
    print_message("  first assignment after %d ms\n", (int)((clock_monotonic_us() - start) / 1000));
    for (int i = 0; i < ROUNDS; i++) {
        start = clock_monotonic_us();
        outcome = send_numbers(producer, "flow", i, i + 1);
        assert_int_equal(outcome.ok, 1);
        reader->wanted = i + 1;
        assert_true(until(has_wanted, reader, WAIT_MS));
        took[i] = clock_monotonic_us() - start;
    }
    qsort(took, ROUNDS, sizeof(took[0]), compare_i64);
    print_message("  produce to consume p50 %d us, p99 %d us\n", (int)took[ROUNDS / 2],
                  (int)took[ROUNDS * 99 / 100]);
    start = clock_monotonic_us();
    outcome = send_numbers(producer, "flow", ROUNDS, MESSAGES_MAX);
    assert_int_equal(outcome.ok, MESSAGES_MAX - ROUNDS);
    reader->wanted = MESSAGES_MAX;
    assert_true(until(has_wanted, reader, WAIT_MS));
    print_message("  %d more in %d ms\n", MESSAGES_MAX - ROUNDS,
                  (int)((clock_monotonic_us() - start) / 1000));
    assert_each_came(reader, 0, MESSAGES_MAX, 1);
    assert_true(kafka_consumer_idle_since_us(reader->consumer) > 0);
    reader_stop(reader);
    kafka_producer_free(producer, 1000);
}

static void test_rewind_brings_back_what_was_not_committed(void **state)
{
    struct kafka_producer *producer = producer_start("commit", NULL);
    struct reader *reader = reader_start("commit", "commit");

    (void)state;
    send_numbers(producer, "commit", 0, 100);
    reader->wanted = 100;
    assert_true(until(has_wanted, reader, WAIT_MS));
    kafka_consumer_commit(reader->consumer);
    send_numbers(producer, "commit", 100, 200);
    reader->wanted = 200;
    assert_true(until(has_wanted, reader, WAIT_MS));
    kafka_consumer_rewind(reader->consumer);
    reader->wanted = 300;
    assert_true(until(has_wanted, reader, WAIT_MS));
    assert_each_came(reader, 0, 100, 1);
    assert_each_came(reader, 100, 200, 2);
    kafka_consumer_commit(reader->consumer);
    send_numbers(producer, "commit", 200, 210);
    reader->wanted = 310;
    assert_true(until(has_wanted, reader, WAIT_MS)); /* taken, never committed */
    reader_stop(reader);

    /* The next member of the group starts after what was committed. */
    reader = reader_start("commit", "commit");
    reader->wanted = 10;
    assert_true(until(has_wanted, reader, WAIT_MS));
    assert_false(until(never, NULL, 300));
    assert_each_came(reader, 0, 200, 0);
    assert_each_came(reader, 200, 210, 1);
    reader_stop(reader);
    kafka_producer_free(producer, 1000);
}

static void test_paused_member_stays_in_the_group(void **state)
{
    struct kafka_producer *producer = producer_start("pause", NULL);
    struct reader *paused = reader_start("pause", "pause");
    struct reader *other;

    (void)state;
    assert_true(until(is_assigned, paused, WAIT_MS));
    kafka_consumer_pause(paused->consumer);
    send_numbers(producer, "pause", 0, 400);
    /* A second member: the paused one has to take part in the rebalance, and keeps a half. */
    other = reader_start("pause", "pause");
    assert_true(until(is_assigned, other, WAIT_MS));
    assert_false(until(never, NULL, 1000));
    assert_true(kafka_consumer_is_assigned(paused->consumer));
    assert_int_equal(paused->total, 0);
    assert_int_equal(kafka_consumer_idle_since_us(paused->consumer), 0);
    assert_in_range(other->total, 1, 399);
    kafka_consumer_resume(paused->consumer);
    paused->wanted = 400 - other->total;
    assert_true(until(has_wanted, paused, WAIT_MS));
    for (int i = 0; i < 400; i++)
        assert_int_equal(paused->counts[i] + other->counts[i], 1);
    /* The one that leaves hands over what it had and did not commit. */
    kafka_consumer_commit(paused->consumer);
    kafka_consumer_leave(other->consumer);
    paused->wanted = 400;
    assert_true(until(has_wanted, paused, WAIT_MS));
    assert_each_came(paused, 0, 400, 1);
    reader_stop(other);
    reader_stop(paused);
    kafka_producer_free(producer, 1000);
}

static void test_producer_and_consumer_survive_a_dead_broker(void **state)
{
    static const char *const extra[] = {"message.timeout.ms=1500", NULL};
    struct kafka_producer *producer = producer_start("outage", extra);
    struct reader *reader = reader_start("outage", "outage");
    struct outcome outcome;
    int64_t start;
    int number = 11, first;
    struct err err;

    (void)state;
    assert_true(until(is_assigned, reader, WAIT_MS));
    assert_int_equal(send_numbers(producer, "outage", 0, 10).ok, 10);
    kafka_fixture_kill(&broker);
    outcome = send_numbers(producer, "outage", 10, 20);
    assert_int_equal(outcome.lost, 10);
    /* Now one message at a time is let through, to find out. */
    outcome = (struct outcome){.wanted = 1};
    assert_true(kafka_produce(producer, "outage", &number, sizeof(number), on_delivered, &outcome));
    assert_false(kafka_produce(producer, "outage", &number, sizeof(number), NULL, NULL));
    start = clock_monotonic_us();
    assert_true(kafka_fixture_restart(&broker, &err));
    assert_true(until(is_answered, &outcome, WAIT_MS));
    while (outcome.ok == 0) {
        outcome = (struct outcome){.wanted = 1};
        assert_true(
            kafka_produce(producer, "outage", &number, sizeof(number), on_delivered, &outcome));
        assert_true(until(is_answered, &outcome, WAIT_MS));
    }
    print_message("  delivered again %d ms after the broker was started\n",
                  (int)((clock_monotonic_us() - start) / 1000));
    /* Its partitions come back one after the other. */
    for (first = 20; send_numbers(producer, "outage", first, first + 10).ok < 10; first += 10)
        assert_true(clock_monotonic_us() - start < WAIT_MS * US_PER_MS);
    reader->wanted = 0;
    for (start = clock_monotonic_us();
         reader->counts[first + 9] == 0 || reader->counts[first] == 0;) {
        assert_true(clock_monotonic_us() - start < WAIT_MS * US_PER_MS);
        assert_false(until(never, NULL, 50));
    }
    print_message("  consumed again %d ms later\n", (int)((clock_monotonic_us() - start) / 1000));
    assert_each_came(reader, first, first + 10, 1);
    reader_stop(reader);
    kafka_producer_free(producer, 1000);
}

static void test_fatal_error_fails_what_is_outstanding_and_starts_afresh(void **state)
{
    struct kafka_producer *producer = producer_start("fatal", NULL);
    struct outcome outcome = {.wanted = 20};
    int64_t deadline = clock_monotonic_us() + WAIT_MS * US_PER_MS;
    int number = 1;

    (void)state;
    kafka_fixture_signal(&broker, SIGSTOP);
    for (int i = 0; i < 20; i++)
        assert_true(kafka_produce(producer, "fatal", &i, sizeof(i), on_delivered, &outcome));
    kafka_producer_test_fatal(producer);
    assert_true(until(is_answered, &outcome, 2000));
    assert_int_equal(outcome.lost, 20);
    kafka_fixture_signal(&broker, SIGCONT);
    outcome = (struct outcome){.wanted = 1};
    while (!kafka_produce(producer, "fatal", &number, sizeof(number), on_delivered, &outcome)) {
        assert_true(clock_monotonic_us() < deadline);
        assert_false(until(never, NULL, 20));
    }
    assert_true(until(is_answered, &outcome, WAIT_MS));
    assert_int_equal(outcome.ok, 1);
    kafka_producer_free(producer, 1000);
}

static void test_frees_are_bounded_when_the_broker_hangs(void **state)
{
    struct kafka_producer *producer = producer_start("bounded", NULL);
    struct reader *reader = reader_start("bounded", "bounded");
    struct outcome outcome = {.wanted = 1};
    int64_t start;
    int number = 1;

    (void)state;
    assert_true(until(is_assigned, reader, WAIT_MS));
    kafka_fixture_signal(&broker, SIGSTOP);
    assert_true(
        kafka_produce(producer, "bounded", &number, sizeof(number), on_delivered, &outcome));
    start = clock_monotonic_us();
    kafka_consumer_free(reader->consumer, 300);
    assert_true(clock_monotonic_us() - start < patient_ms(500) * US_PER_MS);
    free(reader);
    start = clock_monotonic_us();
    kafka_producer_free(producer, 200);
    assert_true(clock_monotonic_us() - start < patient_ms(1500) * US_PER_MS);
    assert_int_equal(outcome.lost, 1);
    kafka_fixture_signal(&broker, SIGCONT);
}

static void test_topics_are_made_or_awaited(void **state)
{
    static const char *const missing[] = {"flow", "made-later"};
    struct kafka_options options = kafka_fixture_options(&broker);
    struct err err;

    (void)state;
    assert_true(kafka_topics_ensure(&options, topics, TOPIC_COUNT, 32, WAIT_MS, &err));
    if (broker.profile == KAFKA_REAL) {
        assert_true(kafka_topics_ensure(&options, missing, 2, 8, WAIT_MS, &err));
        assert_true(kafka_topics_ensure(&options, missing, 2, 8, WAIT_MS, &err));
        return;
    }
    assert_false(kafka_topics_ensure(&options, missing, 2, 8, 1000, &err));
    assert_non_null(strstr(err.message, "made-later"));
}

static void test_wrong_properties_are_named(void **state)
{
    static const char *const extra[] = {"no.such.thing=1", NULL};
    struct kafka_options options = kafka_fixture_options(&broker);
    struct err err;

    (void)state;
    options.extra = extra;
    assert_null(kafka_producer_new(base, &options, &err));
    assert_non_null(strstr(err.message, "no.such.thing"));
    assert_null(kafka_consumer_new(base, &options, "g", "flow", &err));
    assert_non_null(strstr(err.message, "no.such.thing"));
}

/* --- groups ----------------------------------------------------------------------------------- */

static int broker_setup(enum kafka_profile profile)
{
    struct err err;

    base = event_base_new();
    if (base && kafka_fixture_start(&broker, profile, topics, TOPIC_COUNT, &err))
        return 0;
    print_error("broker: %s\n", err.message);
    kafka_fixture_stop(&broker);
    return -1;
}

static int setup_embedded(void **state)
{
    (void)state;
    return broker_setup(KAFKA_EMBEDDED);
}

static int setup_real(void **state)
{
    (void)state;
    return broker_setup(KAFKA_REAL);
}

static int teardown(void **state)
{
    (void)state;
    kafka_fixture_stop(&broker);
    event_base_free(base);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topics_are_made_or_awaited),
        cmocka_unit_test(test_wrong_properties_are_named),
        cmocka_unit_test(test_every_message_is_taken_once_and_soon),
        cmocka_unit_test(test_rewind_brings_back_what_was_not_committed),
        cmocka_unit_test(test_paused_member_stays_in_the_group),
        cmocka_unit_test(test_producer_and_consumer_survive_a_dead_broker),
        cmocka_unit_test(test_fatal_error_fails_what_is_outstanding_and_starts_afresh),
        cmocka_unit_test(test_frees_are_bounded_when_the_broker_hangs),
    };
    int failed;

    log_setup("test_kafka_live", getenv("NIGHTSHIFT_TEST_DEBUG") ? LOG_DEBUG : LOG_ERROR);
    failed = cmocka_run_group_tests_name("kafka, embedded broker", tests, setup_embedded, teardown);
    if (kafka_fixture_has_real())
        failed += cmocka_run_group_tests_name("kafka, Apache Kafka", tests, setup_real, teardown);
    return failed;
}
