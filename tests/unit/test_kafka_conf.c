/* SPDX-License-Identifier: Apache-2.0 */
/* How a handle of the Kafka library is made; no broker is needed for that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include <cmocka.h>

#include "common/base/log.h"
#include "common/io/kafka_conf.h"

enum { LEAST_SLACK_NS = 1000000 }; /* the library rounds its waits down to milliseconds */

/* What threads of the library saw; asked and answered in them. */
struct seen {
    int threads;
    int sharp; /* with a slack below LEAST_SLACK_NS */
};

static int slack_ns(void)
{
    return prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL);
}

static rd_kafka_resp_err_t on_thread_start(rd_kafka_t *handle, rd_kafka_thread_type_t type,
                                           const char *name, void *arg)
{
    struct seen *seen = arg;

    (void)handle, (void)type, (void)name;
    __atomic_add_fetch(&seen->threads, 1, __ATOMIC_RELAXED);
    if (slack_ns() < LEAST_SLACK_NS)
        __atomic_add_fetch(&seen->sharp, 1, __ATOMIC_RELAXED);
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

static rd_kafka_resp_err_t on_new(rd_kafka_t *handle, const rd_kafka_conf_t *conf, void *arg,
                                  char *why, size_t size)
{
    (void)conf, (void)why, (void)size;
    return rd_kafka_interceptor_add_on_thread_start(handle, "slack", on_thread_start, arg);
}

/* Its main thread would burn the rest of a millisecond with each of its timers. */
static void test_threads_of_the_library_wake_up_behind_their_time(void **state)
{
    const struct kafka_options options = {.brokers = "127.0.0.1:1"};
    struct seen seen = {0};
    struct err err;
    rd_kafka_conf_t *conf = kafka_conf_new(&options, NULL, NULL, &err);
    rd_kafka_t *handle;
    int own = slack_ns();

    (void)state;
    assert_non_null(conf);
    assert_int_equal(rd_kafka_conf_interceptor_add_on_new(conf, "slack", on_new, &seen),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
    handle = kafka_handle_new(RD_KAFKA_PRODUCER, conf, &err);
    assert_non_null(handle);
    rd_kafka_destroy(handle);       /* waits for its threads */
    assert_true(seen.threads >= 2); /* the main one, and one for each broker */
    assert_int_equal(seen.sharp, 0);
    assert_int_equal(slack_ns(), own);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_of_the_library_wake_up_behind_their_time),
    };

    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
