/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor on Redis and Kafka: is somebody there, does he answer, is he set up right? */
#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/str.h"
#include "common/io/kafka.h"
#include "common/io/redis.h"
#include "common/io/redis_url.h"
#include "common/model/topics.h"
#include "producer/cli/doctor.h"

enum { CONNECT_MS = 2000, ANSWER_MS = 3000, TOPICS_MS = 4000, KAFKA_PORT = 9092 };

/* --- is somebody there? ----------------------------------------------------------------------- */

/* 0, or the errno of the failure. */
static int connect_one(const struct addrinfo *address, int timeout_ms)
{
    int fd = socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    address->ai_protocol);
    struct pollfd wait = {.fd = fd, .events = POLLOUT};
    int why = 0;
    socklen_t size = sizeof(why);

    if (fd < 0)
        return errno;
    if (connect(fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS)
        why = errno;
    else if (poll(&wait, 1, timeout_ms) == 0)
        why = ETIMEDOUT;
    else
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &size);
    close(fd);
    return why;
}

bool doctor_connect(const char *host, int port, int timeout_ms, struct err *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char service[16];
    int failure, why = 0;

    snprintf(service, sizeof(service), "%d", port);
    failure = getaddrinfo(host, service, &hints, &list);
    if (failure)
        return err_set(err, "%s:%d: %s", host, port, gai_strerror(failure));
    for (const struct addrinfo *one = list; one; one = one->ai_next) {
        why = connect_one(one, timeout_ms);
        if (why == 0)
            break;
    }
    freeaddrinfo(list);
    return why == 0 || err_set(err, "%s:%d: %s", host, port, strerror(why));
}

/* --- Redis ------------------------------------------------------------------------------------ */

struct redis_look {
    struct event_base *base;
    struct event *poll, *deadline;
    struct redis *redis;
    bool is_asked, has_pong, has_info, is_late;
    char error[256];
    char policy[64];
    int64_t used, max;
};

/* "name:value\r\n" of INFO. */
static bool info_value(const char *text, const char *name, char *out, size_t size)
{
    const char *at = strstr(text, name);
    size_t len;

    if (!at)
        return false;
    at += strlen(name);
    len = strcspn(at, "\r\n");
    snprintf(out, size, "%.*s", (int)len, at);
    return true;
}

static void on_info(const struct redis_reply *reply, void *arg)
{
    struct redis_look *look = arg;
    char number[32];

    look->has_info = reply->kind == REDIS_TEXT;
    if (look->has_info) {
        info_value(reply->text, "maxmemory_policy:", look->policy, sizeof(look->policy));
        if (info_value(reply->text, "\nused_memory:", number, sizeof(number)))
            (void)!str_to_i64(number, strlen(number), &look->used);
        if (info_value(reply->text, "\nmaxmemory:", number, sizeof(number)))
            (void)!str_to_i64(number, strlen(number), &look->max);
    }
    event_base_loopbreak(look->base);
}

/* A write, because a Redis that is full, read-only or loading still answers PING. */
static void on_set(const struct redis_reply *reply, void *arg)
{
    static const char *const info[] = {"INFO", "memory"};
    struct redis_look *look = arg;

    look->has_pong = reply->kind != REDIS_LOST;
    if (reply->kind == REDIS_ERROR)
        snprintf(look->error, sizeof(look->error), "%.*s", (int)reply->len, reply->text);
    redis_command(look->redis, info, NULL, 2, on_info, look);
}

static void on_redis_poll(evutil_socket_t fd, short what, void *arg)
{
    static const char *const set[] = {"SET", "nightshift:doctor", "1", "PX", "1000"};
    struct redis_look *look = arg;

    (void)fd, (void)what;
    if (look->is_asked || !redis_is_ready(look->redis))
        return;
    look->is_asked = true;
    redis_command(look->redis, set, NULL, 5, on_set, look);
}

static void on_redis_late(evutil_socket_t fd, short what, void *arg)
{
    struct redis_look *look = arg;

    (void)fd, (void)what;
    look->is_late = true;
    event_base_loopbreak(look->base);
}

static void look_at_redis(const char *url, struct redis_look *look)
{
    const struct redis_options options = {.url = url, .command_timeout_ms = ANSWER_MS};
    const struct timeval often = {.tv_usec = 20000}, patience = {.tv_sec = ANSWER_MS / 1000};
    struct err err = {0};

    look->base = event_base_new();
    look->redis = look->base ? redis_new(look->base, &options, &err) : NULL;
    if (look->redis) {
        look->poll = event_new(look->base, -1, EV_PERSIST, on_redis_poll, look);
        look->deadline = evtimer_new(look->base, on_redis_late, look);
        event_add(look->poll, &often);
        event_add(look->deadline, &patience);
        event_base_dispatch(look->base);
        event_free(look->poll);
        event_free(look->deadline);
        redis_free(look->redis);
    }
    if (look->base)
        event_base_free(look->base);
}

static const char *redis_remedy(const char *error)
{
    static const struct {
        const char *part, *remedy;
    } causes[] = {
        {"OOM", "raise maxmemory"},
        {"READONLY", "redis_url must name the master, not a replica"},
        {"LOADING", "wait until it has loaded its data"},
        {"MISCONF",
         "it cannot save to its disk: make room, then CONFIG SET stop-writes-on-bgsave-error "
         "tells when to go on"},
        {"NOAUTH", "put user and password into redis_url"},
        {"NOPERM", "give the user the rights of Nightshift's keys and channels"},
    };

    for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++)
        if (strstr(error, causes[i].part))
            return causes[i].remedy;
    return "look at Redis's log";
}

static void judge_redis(struct check *check, const char *where, const struct redis_look *look)
{
    if (!look->has_pong && look->is_late)
        check_bad(check,
                  "%s takes connections but does not answer within %d s\nis Redis stopped (kill "
                  "-CONT), busy with a slow command, or is the password in redis_url wrong?",
                  where, ANSWER_MS / 1000);
    else if (!look->has_pong)
        check_bad(check, "%s closes the connection\nlook at Redis's log: TLS, ACL or maxclients",
                  where);
    else if (*look->error)
        check_bad(check, "%s refuses to write: %s\n%s", where, look->error,
                  redis_remedy(look->error));
    else if (look->max > 0 && *look->policy && strcmp(look->policy, "noeviction") != 0)
        check_bad(check,
                  "maxmemory-policy is %s: Redis may throw budgets away\nset maxmemory-policy "
                  "noeviction",
                  look->policy);
    else if (look->max > 0 && look->used > look->max / 10 * 9)
        check_warn(check, "memory is %" PRId64 " %% full\nraise maxmemory",
                   look->used * 100 / look->max);
    else
        check_ok(check, "%s answers and writes", where);
}

void doctor_check_redis(const struct doctor *doctor, struct check *check)
{
    struct redis_look look = {0};
    struct redis_url url = {0};
    struct err err = {0};
    char where[256];

    if (!doctor->redis_url) {
        check_skip(check, "no address: give --config FILE or REDIS_URL");
        return;
    }
    if (!redis_url_parse(doctor->redis_url, &url, &err)) {
        check_bad(check, "redis_url: %s\nwrite redis://[user:password@]host[:port][/db]",
                  err.message);
        return;
    }
    snprintf(where, sizeof(where), "%s", url.path ? url.path : url.host);
    if (!url.path && !doctor_connect(url.host, url.port, CONNECT_MS, &err)) {
        check_bad(check, "%s\nstart Redis (systemctl start redis-server), or correct redis_url",
                  err.message);
    } else {
        look_at_redis(doctor->redis_url, &look);
        judge_redis(check, where, &look);
    }
    redis_url_release(&url);
}

/* --- Kafka ------------------------------------------------------------------------------------ */

/* Each "host:port" of the list; how many take a connection.  The last failure is in err. */
static int count_brokers(const char *brokers, int *total, struct err *err)
{
    int there = 0;

    *total = 0;
    while (*brokers) {
        size_t len = strcspn(brokers, ",");
        char host[256];
        char *colon;
        int64_t port = KAFKA_PORT;

        snprintf(host, sizeof(host), "%.*s", (int)len, brokers + strspn(brokers, " "));
        colon = strrchr(host, ':');
        if (colon && str_to_i64(colon + 1, strlen(colon + 1), &port))
            *colon = '\0';
        ++*total;
        there += doctor_connect(host, (int)port, CONNECT_MS, err);
        brokers += len + (brokers[len] == ',');
    }
    return there;
}

/* The flag of the embedded broker makes the call look for the topics and make none. */
static bool look_at_topics(const struct doctor *doctor, struct err *err)
{
    const struct kafka_options options = {.brokers = doctor->kafka_brokers,
                                          .profile = KAFKA_EMBEDDED,
                                          .client_id = "nightshift-doctor"};

    return kafka_topics_ensure(&options, topic_names, PRIORITY_COUNT, TOPIC_PARTITIONS, TOPICS_MS,
                               err);
}

void doctor_check_kafka(const struct doctor *doctor, struct check *check)
{
    struct err err = {0};
    int total, there;

    if (!doctor->kafka_brokers) {
        check_skip(check, "no address: give --config FILE or KAFKA_BROKERS");
        return;
    }
    there = count_brokers(doctor->kafka_brokers, &total, &err);
    if (there == 0) {
        check_bad(check,
                  "no broker answers: %s\nstart Kafka, or correct kafka_brokers (meanwhile workers "
                  "take jobs from Postgres, a little later)",
                  err.message);
        return;
    }
    if (there < total)
        check_warn(check, "%d of %d brokers answer: %s\nstart the others", there, total,
                   err.message);
    if (!look_at_topics(doctor, &err))
        check_bad(check,
                  "%s\nis the broker stopped (kill -CONT)?  Missing topics are made by starting a "
                  "nightshift-worker, if Kafka lets it",
                  err.message);
    else if (there == total)
        check_ok(check, "%d broker%s, all topics are there", total, total == 1 ? "" : "s");
}
