/* SPDX-License-Identifier: Apache-2.0 */
/* nightshift-broker: the Kafka protocol in memory, for one machine (librdkafka's mock cluster).
 *
 * It keeps nothing: after a restart the topics are there again, empty, and the scheduler publishes
 * again what was lost.  That is why it must come back on the same port, and why it must answer
 * nobody before its topics exist (the mock makes a topic that somebody asks for, with too few
 * partitions).  The mock cluster has no setting for either, so this program stands between it and
 * the C library in three calls: bind(), listen() and accept(). */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    TOPICS_MAX = 64,
    TOPIC_NAME_MAX = 249,
    PARTITIONS_DEFAULT = 32,
    PARTITIONS_MAX = 1024,
    BACKLOG = 256
};

struct topic {
    char name[TOPIC_NAME_MAX + 1];
    int partitions;
};

struct broker_args {
    int port; /* 0: any */
    struct topic topics[TOPICS_MAX];
    int topic_count;
};

static int wanted_port;
static atomic_bool is_serving;

/* The mock asks for any port on 127.0.0.1; it gets the one it should have.  (glibc declares these
 * calls with a transparent union of all address types.) */
int bind(int fd, __CONST_SOCKADDR_ARG any, socklen_t len)
{
    const struct sockaddr *address = any.__sockaddr__;
    struct sockaddr_in in;
    int on = 1;

    if (!address || address->sa_family != AF_INET || len != sizeof(in))
        return (int)syscall(SYS_bind, fd, address, len);
    memcpy(&in, address, sizeof(in));
    if (in.sin_port == 0)
        in.sin_port = htons((uint16_t)wanted_port);
    /* Connections of the previous life may still linger on the port. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        syscall(SYS_bind, fd, &in, len) != 0) {
        /* Handing the failure back would run into an assertion of the mock. */
        fprintf(stderr, "nightshift-broker: listen on 127.0.0.1:%d: %s\n", ntohs(in.sin_port),
                strerror(errno));
        _exit(1);
    }
    return 0;
}

/* The mock asks for a backlog of 5: too short when a whole fleet reconnects. */
int listen(int fd, int backlog)
{
    return (int)syscall(SYS_listen, fd, backlog > BACKLOG ? backlog : BACKLOG);
}

/* Callers stay in the backlog until the topics are made.  And the mock leaves Nagle's algorithm on,
 * which holds many an answer back for 40 ms. */
int accept(int fd, __SOCKADDR_ARG any, socklen_t *len)
{
    int on = 1;
    int peer;

    if (!atomic_load(&is_serving)) {
        errno = EAGAIN;
        return -1;
    }
    peer = (int)syscall(SYS_accept4, fd, any.__sockaddr__, len, SOCK_CLOEXEC);
    if (peer >= 0)
        (void)setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return peer;
}

static int usage(void)
{
    fprintf(stderr, "usage: nightshift-broker --port PORT --topic NAME[:PARTITIONS] ...\n"
                    "An in-memory Kafka broker on 127.0.0.1 for trying things out; it prints READY "
                    "and its address\nwhen it serves and ends on TERM.  Default: 32 partitions.\n");
    return 2;
}

static bool number_parse(const char *text, int min, int max, int *out)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < min || value > max)
        return false;
    *out = (int)value;
    return true;
}

static bool topic_parse(const char *text, struct topic *topic)
{
    const char *colon = strchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : strlen(text);

    if (len == 0 || len > TOPIC_NAME_MAX)
        return false;
    memcpy(topic->name, text, len);
    topic->name[len] = '\0';
    topic->partitions = PARTITIONS_DEFAULT;
    return !colon || number_parse(colon + 1, 1, PARTITIONS_MAX, &topic->partitions);
}

static bool args_parse(int argc, char **argv, struct broker_args *args)
{
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            return false;
        if (strcmp(argv[i], "--port") == 0) {
            if (!number_parse(argv[i + 1], 0, UINT16_MAX, &args->port))
                return false;
        } else if (strcmp(argv[i], "--topic") == 0) {
            if (args->topic_count == TOPICS_MAX ||
                !topic_parse(argv[i + 1], &args->topics[args->topic_count++]))
                return false;
        } else {
            return false;
        }
    }
    return args->topic_count > 0;
}

static bool topics_create(rd_kafka_mock_cluster_t *cluster, const struct broker_args *args)
{
    for (int i = 0; i < args->topic_count; i++) {
        const struct topic *topic = &args->topics[i];
        rd_kafka_resp_err_t code =
            rd_kafka_mock_topic_create(cluster, topic->name, topic->partitions, 1);

        if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
            fprintf(stderr, "nightshift-broker: topic %s: %s\n", topic->name,
                    rd_kafka_err2str(code));
            return false;
        }
    }
    return true;
}

/* Serves until TERM or INT, which are blocked in every thread. */
static bool serve(rd_kafka_t *handle, const struct broker_args *args, const sigset_t *ends)
{
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(handle, 1);
    bool ok = false;
    int signal_number;

    if (!cluster) {
        fprintf(stderr, "nightshift-broker: the mock cluster did not start\n");
        return false;
    }
    if (topics_create(cluster, args)) {
        atomic_store(&is_serving, true);
        printf("READY %s\n", rd_kafka_mock_cluster_bootstraps(cluster));
        fflush(stdout);
        ok = sigwait(ends, &signal_number) == 0;
    }
    rd_kafka_mock_cluster_destroy(cluster);
    return ok;
}

static void log_nothing(const rd_kafka_t *handle, int level, const char *facility, const char *text)
{
    (void)handle, (void)level, (void)facility, (void)text;
}

static int run(const struct broker_args *args, const sigset_t *ends)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *handle;
    char why[256];
    bool ok;

    rd_kafka_conf_set_log_cb(conf, log_nothing);
    handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    if (!handle) {
        rd_kafka_conf_destroy(conf);
        fprintf(stderr, "nightshift-broker: %s\n", why);
        return 1;
    }
    ok = serve(handle, args, ends);
    rd_kafka_destroy(handle);
    return ok ? 0 : 1;
}

static pid_t start(const struct broker_args *args, const sigset_t *ends)
{
    pid_t parent = getpid(), child = fork();

    if (child != 0)
        return child;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(1);
    exit(run(args, ends));
}

/* The mock cluster of librdkafka 2.0.2 aborts when a member joins its group again at a bad moment
 * (rdkafka_mock_cgrp.c: `!member->resp`), as after a worker was killed.  Since it keeps nothing, a
 * new one on the same port is as good. */
static int supervise(const struct broker_args *args, const sigset_t *ends)
{
    sigset_t heard = *ends;
    struct timespec rest = {.tv_nsec = 100 * 1000 * 1000};
    bool is_ending = false;
    int status, what;
    pid_t child;

    sigaddset(&heard, SIGCHLD);
    sigprocmask(SIG_BLOCK, &heard, NULL);
    child = start(args, ends);
    while (child > 0) {
        if (sigwait(&heard, &what) != 0)
            continue;
        if (what != SIGCHLD) {
            is_ending = true;
            kill(child, SIGTERM);
        } else if (waitpid(child, &status, WNOHANG) == child) {
            if (WIFEXITED(status) || is_ending)
                return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
            fprintf(stderr, "nightshift-broker: signal %d ended it; it begins again\n",
                    WTERMSIG(status));
            nanosleep(&rest, NULL);
            child = start(args, ends);
        }
    }
    perror("nightshift-broker: fork");
    return 1;
}

int main(int argc, char **argv)
{
    static struct broker_args args;
    sigset_t ends;

    if (!args_parse(argc, argv, &args))
        return usage();
    wanted_port = args.port;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    /* Without a port of its own it could not come back where it was. */
    return args.port ? supervise(&args, &ends) : run(&args, &ends);
}
