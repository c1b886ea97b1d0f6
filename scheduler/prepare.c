/* SPDX-License-Identifier: Apache-2.0 */
/* What must be there before the scheduler is ready: the schema, and the topics, which it makes. */
#include "scheduler/prepare.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/log.h"
#include "common/model/schema_store.h"
#include "common/model/topics.h"

enum { TOPICS_TIMEOUT_MS = 3000, PAUSE_S = 2 };

static const struct log_context log_prepare = {.component = "prepare"};

struct prepare {
    const char *database_url;
    struct kafka_options kafka;
    pthread_t thread;
    pthread_mutex_t lock; /* over what follows */
    pthread_cond_t wake;
    bool is_stopping;
    bool has_schema;
    char why[ERR_MESSAGE_MAX]; /* not */
};

static bool look_for_schema(struct prepare *prepare)
{
    struct err err = {0};
    enum schema_state state = schema_check(prepare->database_url, &err);

    pthread_mutex_lock(&prepare->lock);
    prepare->has_schema = state == SCHEMA_FITS;
    if (state == SCHEMA_OLD && strcmp(prepare->why, err.message) != 0)
        log_error(&log_prepare, "%s", err.message);
    snprintf(prepare->why, sizeof(prepare->why), "%s", err.message);
    pthread_mutex_unlock(&prepare->lock);
    return state == SCHEMA_FITS;
}

static bool make_topics(struct prepare *prepare, bool has_failed)
{
    struct err err = {0};

    if (kafka_topics_ensure(&prepare->kafka, topic_names, PRIORITY_COUNT, TOPIC_PARTITIONS,
                            TOPICS_TIMEOUT_MS, &err)) {
        log_info(&log_prepare, "the topics are there");
        return true;
    }
    if (!has_failed)
        log_warn(&log_prepare, "no topics yet: %s", err.message);
    return false;
}

/* False: we are to stop. */
static bool pause_a_while(struct prepare *prepare)
{
    struct timespec until;
    bool goes_on;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PAUSE_S;
    pthread_mutex_lock(&prepare->lock);
    if (!prepare->is_stopping)
        pthread_cond_timedwait(&prepare->wake, &prepare->lock, &until);
    goes_on = !prepare->is_stopping;
    pthread_mutex_unlock(&prepare->lock);
    return goes_on;
}

static void *prepare_main(void *arg)
{
    struct prepare *prepare = arg;
    bool has_schema = false, has_topics = false, has_failed = false;

    do {
        has_schema = has_schema || look_for_schema(prepare);
        has_topics = has_topics || make_topics(prepare, has_failed);
        has_failed = true;
    } while ((!has_schema || !has_topics) && pause_a_while(prepare));
    return NULL;
}

/* The loop's signals are the loop's. */
static bool start_thread(struct prepare *prepare)
{
    sigset_t all, before;
    int failed;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&prepare->thread, NULL, prepare_main, prepare);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed == 0;
}

struct prepare *prepare_start(const char *database_url, const struct kafka_options *kafka,
                              struct err *err)
{
    struct prepare *prepare = calloc(1, sizeof(*prepare));

    if (prepare) {
        prepare->database_url = database_url;
        prepare->kafka = *kafka;
        pthread_mutex_init(&prepare->lock, NULL);
        pthread_cond_init(&prepare->wake, NULL);
        snprintf(prepare->why, sizeof(prepare->why), "the schema has not been looked at yet");
        if (start_thread(prepare))
            return prepare;
    }
    free(prepare);
    err_set(err, "start the preparations: out of memory or threads");
    return NULL;
}

void prepare_free(struct prepare *prepare)
{
    if (!prepare)
        return;
    pthread_mutex_lock(&prepare->lock);
    prepare->is_stopping = true;
    pthread_cond_signal(&prepare->wake);
    pthread_mutex_unlock(&prepare->lock);
    pthread_join(prepare->thread, NULL);
    pthread_cond_destroy(&prepare->wake);
    pthread_mutex_destroy(&prepare->lock);
    free(prepare);
}

bool prepare_is_ready(struct prepare *prepare, char *why, size_t size)
{
    bool is_ready;

    pthread_mutex_lock(&prepare->lock);
    is_ready = prepare->has_schema;
    if (!is_ready)
        snprintf(why, size, "%s", prepare->why);
    pthread_mutex_unlock(&prepare->lock);
    return is_ready;
}
