/* SPDX-License-Identifier: Apache-2.0 */
/* A broker of its own for a test: the embedded one, or Apache Kafka. */
#ifndef TESTS_UNIT_KAFKA_FIXTURE_H
#define TESTS_UNIT_KAFKA_FIXTURE_H

#include <sys/types.h>

#include "common/io/kafka.h"

enum { KAFKA_FIXTURE_PATH_MAX = 128 };

struct kafka_fixture {
    enum kafka_profile profile;
    pid_t pid; /* 0: not running */
    int port;
    char brokers[32];
    char dir[KAFKA_FIXTURE_PATH_MAX]; /* scratch */
    const char *const *topics;
    int topic_count;
};

/* Is Apache Kafka wanted here: it was fetched (build/kafka), or NIGHTSHIFT_TEST_KAFKA says so. */
bool kafka_fixture_has_real(void);

/* Starts a broker on a free port and waits until its topics (32 partitions each) are there.  The
 * array is borrowed.  The broker dies with the test. */
bool kafka_fixture_start(struct kafka_fixture *fixture, enum kafka_profile profile,
                         const char *const *topics, int count, struct err *err) MUST_CHECK;
void kafka_fixture_kill(struct kafka_fixture *fixture); /* KILL, and waits for its end */
/* On the same port and data. */
bool kafka_fixture_restart(struct kafka_fixture *fixture, struct err *err) MUST_CHECK;
void kafka_fixture_signal(const struct kafka_fixture *fixture, int number); /* STOP and CONT */
void kafka_fixture_stop(struct kafka_fixture *fixture);                     /* and wipes its data */

struct kafka_options kafka_fixture_options(const struct kafka_fixture *fixture);

#endif
