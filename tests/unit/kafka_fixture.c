/* SPDX-License-Identifier: Apache-2.0 */
/* A broker of its own for a test: the embedded one, or Apache Kafka. */
#include "tests/unit/kafka_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ARGS_MAX = 64, PARTITIONS = 32, START_MS = 30000, STOP_MS = 5000 };

static int port_free(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&in, len) != 0 ||
        getsockname(fd, (struct sockaddr *)&in, &len) != 0)
        in.sin_port = 0;
    if (fd >= 0)
        close(fd);
    return ntohs(in.sin_port);
}

/* The folder of the running test program: build/plain/tests, build/asan/tests. */
static void test_dir(char *out, size_t size)
{
    ssize_t len = readlink("/proc/self/exe", out, size - 1);
    char *slash;

    out[len > 0 ? len : 0] = '\0';
    slash = strrchr(out, '/');
    if (slash)
        *slash = '\0';
}

static void broker_path(char *out, size_t size)
{
    char dir[256];

    test_dir(dir, sizeof(dir));
    snprintf(out, size, "%s/../nightshift-broker", dir);
    if (access(out, X_OK) != 0)
        snprintf(out, size, "%s/../../nightshift-broker", dir);
}

bool kafka_fixture_has_real(void)
{
    const char *wanted = getenv("NIGHTSHIFT_TEST_KAFKA");

    if (wanted && *wanted)
        return strcmp(wanted, "0") != 0;
    return access("build/kafka/.fetched", R_OK) == 0;
}

/* In the child: its output goes to the scratch folder. */
static void exec_quietly(const struct kafka_fixture *fixture, const char *const *args)
{
    union {
        const char *const *borrowed;
        char *const *list;
    } argv = {.borrowed = args};
    char path[KAFKA_FIXTURE_PATH_MAX + 16];
    int fd;

    setpgid(0, 0); /* a broker is a parent and a child: both hear of a signal */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(path, sizeof(path), "%s/log", fixture->dir);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, STDOUT_FILENO);
    dup2(fd, STDERR_FILENO);
    execv(args[0], argv.list);
    fprintf(stderr, "%s: %s\n", args[0], strerror(errno));
    _exit(127);
}

static bool spawn(struct kafka_fixture *fixture, struct err *err)
{
    static char names[ARGS_MAX][128];
    const char *args[ARGS_MAX] = {0};
    char program[300], port[16];
    int n = 0;

    broker_path(program, sizeof(program));
    snprintf(port, sizeof(port), "%d", fixture->port);
    args[n++] = fixture->profile == KAFKA_EMBEDDED ? program : "deploy/local/kafka/run";
    args[n++] = "--port";
    args[n++] = port;
    if (fixture->profile == KAFKA_REAL) {
        args[n++] = "--dir";
        args[n++] = fixture->dir;
    } else {
        for (int i = 0; i < fixture->topic_count && n + 3 < ARGS_MAX; i++) {
            snprintf(names[i], sizeof(names[i]), "%s:%d", fixture->topics[i], PARTITIONS);
            args[n++] = "--topic";
            args[n++] = names[i];
        }
    }
    fixture->pid = fork();
    if (fixture->pid < 0)
        return err_set(err, "fork: %s", strerror(errno));
    if (fixture->pid == 0)
        exec_quietly(fixture, args);
    setpgid(fixture->pid, fixture->pid); /* whoever comes first */
    return true;
}

bool kafka_fixture_restart(struct kafka_fixture *fixture, struct err *err)
{
    struct kafka_options options = kafka_fixture_options(fixture);

    return spawn(fixture, err) &&
           kafka_topics_ensure(&options, fixture->topics, fixture->topic_count, PARTITIONS,
                               START_MS, err);
}

bool kafka_fixture_start(struct kafka_fixture *fixture, enum kafka_profile profile,
                         const char *const *topics, int count, struct err *err)
{
    *fixture = (struct kafka_fixture){
        .profile = profile, .topics = topics, .topic_count = count, .port = port_free()};
    snprintf(fixture->brokers, sizeof(fixture->brokers), "127.0.0.1:%d", fixture->port);
    snprintf(fixture->dir, sizeof(fixture->dir), "/tmp/nightshift-kafka-XXXXXX");
    if (!mkdtemp(fixture->dir))
        return err_set(err, "make %s: %s", fixture->dir, strerror(errno));
    return kafka_fixture_restart(fixture, err);
}

/* The state letter in /proc/.../stat, which follows the name in brackets; 0: gone. */
static char state_of(const char *path)
{
    char text[512] = "";
    FILE *file = fopen(path, "re");
    const char *after;

    if (!file)
        return 0;
    if (!fgets(text, sizeof(text), file))
        text[0] = '\0';
    fclose(file);
    after = strrchr(text, ')');
    return after && after[1] ? after[2] : 0;
}

/* Has each thread of the process come to its stop? */
static bool is_stopped(pid_t pid)
{
    char folder[64], path[sizeof(folder) + 300];
    bool is_still = true;
    struct dirent *entry;
    DIR *tasks;

    snprintf(folder, sizeof(folder), "/proc/%d/task", (int)pid);
    tasks = opendir(folder);
    while (tasks && is_still && (entry = readdir(tasks))) {
        snprintf(path, sizeof(path), "%s/%s/stat", folder, entry->d_name);
        if (entry->d_name[0] != '.')
            is_still = state_of(path) == 'T';
    }
    if (tasks)
        closedir(tasks);
    return is_still;
}

/* A stop takes effect some time after kill() has returned, when the kernel runs one of the threads:
 * without this wait the broker may still answer what is sent to it next. */
static void await_stop(pid_t parent)
{
    static const struct timespec pause = {.tv_nsec = 1000000};
    char path[64];
    int child = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)parent, (int)parent);
    file = fopen(path, "re");
    if (file && fscanf(file, "%d", &child) != 1)
        child = 0;
    if (file)
        fclose(file);
    for (int i = 0; i < STOP_MS && !(is_stopped(parent) && (!child || is_stopped(child))); i++)
        nanosleep(&pause, NULL);
}

void kafka_fixture_signal(const struct kafka_fixture *fixture, int number)
{
    if (fixture->pid <= 0)
        return;
    kill(-fixture->pid, number);
    if (number == SIGSTOP)
        await_stop(fixture->pid);
}

void kafka_fixture_kill(struct kafka_fixture *fixture)
{
    kafka_fixture_signal(fixture, SIGKILL);
    if (fixture->pid > 0)
        waitpid(fixture->pid, NULL, 0);
    fixture->pid = 0;
}

void kafka_fixture_stop(struct kafka_fixture *fixture)
{
    char command[KAFKA_FIXTURE_PATH_MAX + 16];

    kafka_fixture_kill(fixture);
    snprintf(command, sizeof(command), "rm -rf '%s'", fixture->dir);
    if (fixture->dir[0] && system(command) != 0)
        fprintf(stderr, "%s is left behind\n", fixture->dir);
}

struct kafka_options kafka_fixture_options(const struct kafka_fixture *fixture)
{
    return (struct kafka_options){
        .brokers = fixture->brokers, .profile = fixture->profile, .client_id = "test"};
}
