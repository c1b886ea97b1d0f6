/* SPDX-License-Identifier: Apache-2.0 */
/* A tiny daemon, forked for real: it starts, is killed, restarts, reloads, drains and ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "common/base/clock.h"
#include "common/io/daemon.h"

enum { DEADLINE_MS = 20000, TEXT_SIZE = 64 * 1024 };

/* --- the daemon under test: tells all it does on a pipe --------------------------------------- */

struct settings {
    int64_t value;
    bool hangs;
    bool fails;
};

static const struct option options[] = {
    {.name = "test.value",
     .type = OPTION_INT,
     .offset = offsetof(struct settings, value),
     .fallback = "1",
     .is_reloadable = true,
     .help = "Told on reload."},
    {.name = "test.hangs",
     .type = OPTION_BOOL,
     .offset = offsetof(struct settings, hangs),
     .fallback = "false",
     .help = "Never finishes a drain."},
    {.name = "test.fails",
     .type = OPTION_BOOL,
     .offset = offsetof(struct settings, fails),
     .fallback = "false",
     .help = "Does not start."},
};

static int tell_fd = -1;

static void tell_number(const char *what, const struct daemon *daemon, long long number)
{
    char line[128];
    int len = snprintf(line, sizeof(line), "%s %d %ld %lld\n", what, daemon_process(daemon),
                       (long)getpid(), number);

    if (write(tell_fd, line, (size_t)len) != len)
        _exit(99);
}

static void tell(const char *what, const struct daemon *daemon)
{
    const struct settings *settings = daemon_settings(daemon);

    tell_number(what, daemon, settings->value);
}

/* How a core of this process could come about. */
static void tell_of_cores(const struct daemon *daemon)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_CORE, &limit), 0);
    tell_number("core_soft", daemon, (long long)limit.rlim_cur);
    tell_number("core_hard", daemon, (long long)limit.rlim_max);
    tell_number("dumpable", daemon, prctl(PR_GET_DUMPABLE));
}

static bool on_bind(struct daemon *daemon, struct err *err)
{
    return daemon_add_listener(daemon, "127.0.0.1:0", err) == 0;
}

static bool is_ready(char *why, size_t size, void *arg)
{
    (void)arg;
    snprintf(why, size, "the \"moon\" is down");
    return false;
}

static bool on_start(struct daemon *daemon, struct err *err)
{
    const struct settings *settings = daemon_settings(daemon);

    if (settings->fails)
        return err_set(err, "told to fail");
    if (settings->value == 8)
        tell_of_cores(daemon);
    if (settings->value == 7)
        daemon_set_ready_check(daemon, is_ready, NULL);
    if (daemon_listener(daemon, 0) < 0 || daemon_last_tick_us(daemon) == 0)
        return err_set(err, "no listener or no tick");
    tell("start", daemon);
    return true;
}

static void on_drain(struct daemon *daemon)
{
    const struct settings *settings = daemon_settings(daemon);

    tell("drain", daemon);
    if (!settings->hangs)
        daemon_finish(daemon);
}

static void on_reload(struct daemon *daemon, const struct config *config, const void *settings)
{
    assert_ptr_equal(config, daemon_config(daemon));
    assert_ptr_equal(settings, daemon_settings(daemon));
    tell("reload", daemon);
}

static void on_stop(struct daemon *daemon)
{
    tell("stop", daemon);
}

static bool on_check(const struct config *config, const void *settings, FILE *out, struct err *err)
{
    const struct settings *own = settings;

    (void)config;
    if (out)
        fprintf(out, "checked\n");
    return own->value != 13 || err_set(err, "13 is unlucky");
}

static const struct daemon_spec spec = {.name = "nightshift-test",
                                        .summary = "does nothing",
                                        .options = options,
                                        .option_count = 3,
                                        .settings_size = sizeof(struct settings),
                                        .check = on_check,
                                        .bind = on_bind,
                                        .start = on_start,
                                        .drain = on_drain,
                                        .reload = on_reload,
                                        .stop = on_stop};

/* --- running it ------------------------------------------------------------------------------- */

struct run {
    pid_t parent;
    int from; /* the pipe's reading end */
    int metrics_port;
    char config[64];
    char told[TEXT_SIZE]; /* all lines so far */
    size_t told_len;
    size_t seen; /* consumed by expect_line */
};

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void config_write(const struct run *run, const char *more)
{
    FILE *file = fopen(run->config, "we");

    assert_non_null(file);
    fprintf(file,
            "database_url: postgresql://x\nredis_url: redis://x\nkafka_brokers: x\n"
            "log_level: error\nmetrics_listen: 127.0.0.1:%d\ndrain_ms: 100\n%s",
            run->metrics_port, more);
    assert_int_equal(fclose(file), 0);
}

static void run_start(struct run *run, const char *config)
{
    char *argv[] = {(char[]){"test"}, (char[]){"--config"}, run->config, NULL};
    int ends[2], fd;

    memset(run, 0, sizeof(*run));
    strcpy(run->config, "/tmp/nightshift-daemon-XXXXXX");
    fd = mkstemp(run->config);
    assert_true(fd >= 0);
    close(fd);
    run->metrics_port = free_port();
    config_write(run, config);
    assert_int_equal(pipe(ends), 0);
    run->parent = fork();
    if (run->parent == 0) {
        close(ends[0]);
        setpgid(0, 0);
        tell_fd = ends[1];
        exit(daemon_main(&spec, 3, argv));
    }
    close(ends[1]);
    run->from = ends[0];
}

/* Reads more of what the daemon tells; false at the end (no process holds the pipe any more). */
static bool read_more(struct run *run, int64_t deadline_us)
{
    struct pollfd poll_fd = {.fd = run->from, .events = POLLIN};
    int64_t left_ms = (deadline_us - clock_monotonic_us()) / US_PER_MS;
    ssize_t got;

    if (left_ms <= 0 || poll(&poll_fd, 1, (int)left_ms) <= 0)
        fail_msg("nothing came in time after: %s", run->told);
    got = read(run->from, run->told + run->told_len, sizeof(run->told) - 1 - run->told_len);
    assert_true(got >= 0);
    run->told_len += (size_t)got;
    run->told[run->told_len] = '\0';
    return got > 0;
}

/* Waits for the next line of this kind (others before it are passed over); the process that told it
 * and the value it knew. */
static pid_t expect_line(struct run *run, const char *what, long long *value)
{
    int64_t deadline = clock_monotonic_us() + DEADLINE_MS * US_PER_MS;

    for (;;) {
        const char *line = run->told + run->seen, *end = strchr(line, '\n');
        char kind[32];
        long pid;
        long long number;
        int process;

        if (!end) {
            if (!read_more(run, deadline))
                fail_msg("the daemon ended before '%s': %s", what, run->told);
            continue;
        }
        run->seen = (size_t)(end + 1 - run->told);
        assert_int_equal(sscanf(line, "%31s %d %ld %lld", kind, &process, &pid, &number), 4);
        assert_true(process >= 1);
        if (strcmp(kind, what) != 0)
            continue;
        if (value)
            *value = number;
        return (pid_t)pid;
    }
}

static void expect_all_gone(struct run *run)
{
    int64_t deadline = clock_monotonic_us() + DEADLINE_MS * US_PER_MS;

    while (read_more(run, deadline))
        ;
}

static int run_end(struct run *run)
{
    int status;

    expect_all_gone(run);
    assert_int_equal(waitpid(run->parent, &status, 0), run->parent);
    close(run->from);
    assert_int_equal(unlink(run->config), 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* One GET on the metrics listener; the whole answer. */
static void http_get(const struct run *run, const char *path, char *out, size_t size)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)run->metrics_port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    size_t len = 0;
    ssize_t got;

    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_true(dprintf(fd, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path) > 0);
    while (len < size - 1 && (got = read(fd, out + len, size - 1 - len)) > 0)
        len += (size_t)got;
    out[len] = '\0';
    close(fd);
}

/* Asks for /metrics until it shows the line. */
static void expect_metric(const struct run *run, const char *line)
{
    static char text[TEXT_SIZE];
    int64_t deadline = clock_monotonic_us() + DEADLINE_MS * US_PER_MS;

    do {
        http_get(run, "/metrics", text, sizeof(text));
        if (strstr(text, line))
            return;
    } while (clock_monotonic_us() < deadline);
    fail_msg("no '%s' in %s", line, text);
}

/* --- the tests -------------------------------------------------------------------------------- */

static void test_term_drains_and_exits_0(void **state)
{
    struct run run;

    (void)state;
    run_start(&run, "processes: 2\n");
    expect_line(&run, "start", NULL);
    expect_line(&run, "start", NULL);
    kill(run.parent, SIGTERM);
    assert_int_equal(run_end(&run), 0);
    assert_non_null(strstr(run.told, "drain 1"));
    assert_non_null(strstr(run.told, "drain 2"));
    assert_non_null(strstr(run.told, "stop 1"));
    assert_non_null(strstr(run.told, "stop 2"));
}

static void test_term_to_the_whole_group_drains_once(void **state)
{
    struct run run;

    (void)state;
    run_start(&run, "processes: 1\n");
    expect_line(&run, "start", NULL);
    kill(-run.parent, SIGTERM);
    assert_int_equal(run_end(&run), 0);
    assert_null(strstr(strstr(run.told, "drain 1") + 1, "drain 1"));
}

static void test_second_term_ends_at_once_with_1(void **state)
{
    struct run run;

    (void)state;
    run_start(&run, "processes: 2\ntest: {hangs: true}\n");
    expect_line(&run, "start", NULL);
    expect_line(&run, "start", NULL);
    kill(run.parent, SIGTERM);
    expect_line(&run, "drain", NULL);
    kill(run.parent, SIGTERM);
    assert_int_equal(run_end(&run), 1);
    assert_null(strstr(run.told, "stop"));
}

static void test_killed_child_is_restarted(void **state)
{
    struct run run;
    pid_t first, second;

    (void)state;
    run_start(&run, "processes: 1\n");
    first = expect_line(&run, "start", NULL);
    kill(first, SIGKILL);
    second = expect_line(&run, "start", NULL);
    assert_int_not_equal(first, second);
    kill(run.parent, SIGINT);
    assert_int_equal(run_end(&run), 0);
}

static void test_children_die_with_a_killed_parent(void **state)
{
    struct run run;

    (void)state;
    run_start(&run, "processes: 3\n");
    for (int i = 0; i < 3; i++)
        expect_line(&run, "start", NULL);
    kill(run.parent, SIGKILL);
    assert_int_equal(run_end(&run), -SIGKILL);
}

static void test_ten_quick_deaths_end_the_parent(void **state)
{
    struct run run;

    (void)state;
    run_start(&run, "processes: 10\ntest: {fails: true}\n");
    assert_int_equal(run_end(&run), 1);
    assert_string_equal(run.told, "");
}

static void test_hup_takes_what_is_reloadable(void **state)
{
    struct run run;
    long long value;

    (void)state;
    run_start(&run, "processes: 1\ntest: {value: 2}\n");
    expect_line(&run, "start", &value);
    assert_int_equal(value, 2);
    config_write(&run, "processes: 5\ntest: {value: 3, hangs: true}\n");
    kill(run.parent, SIGHUP);
    expect_line(&run, "reload", &value);
    assert_int_equal(value, 3);
    kill(run.parent, SIGTERM); /* hangs was not taken over */
    assert_int_equal(run_end(&run), 0);
}

/* What the parent gives up before it reads a secret is inherited. */
static void test_no_process_leaves_a_core(void **state)
{
    static const char *const ways[] = {"core_soft", "core_hard", "dumpable"};
    long long values[3];
    struct run run;

    (void)state;
    run_start(&run, "processes: 1\ntest: {value: 8}\n");
    for (size_t i = 0; i < 3; i++)
        expect_line(&run, ways[i], &values[i]);
    kill(run.parent, SIGTERM);
    assert_int_equal(run_end(&run), 0);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(values[i], 0);
}

static void test_bad_reload_changes_nothing(void **state)
{
    struct run run;
    long long value;
    pid_t child;

    (void)state;
    run_start(&run, "processes: 1\ntest: {value: 2}\n");
    expect_line(&run, "start", NULL);
    config_write(&run, "test: {value: 13}\n");
    kill(run.parent, SIGHUP);
    expect_metric(&run, "\nnightshift_reload_failures_total 1\n");
    config_write(&run, "test: {value: 5}\n");
    kill(run.parent, SIGHUP);
    child = expect_line(&run, "reload", &value);
    assert_int_equal(value, 5);
    kill(child, SIGKILL); /* the next one starts with what was reloaded */
    expect_line(&run, "start", &value);
    assert_int_equal(value, 5);
    kill(run.parent, SIGTERM);
    assert_int_equal(run_end(&run), 0);
    assert_null(strstr(run.told, " 13\n"));
}

static void test_health_is_served(void **state)
{
    static char text[TEXT_SIZE];
    struct run run;

    (void)state;
    run_start(&run, "processes: 1\n");
    expect_line(&run, "start", NULL);
    http_get(&run, "/healthz", text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 200"));
    http_get(&run, "/readyz", text, sizeof(text));
    assert_non_null(strstr(text, "{\"status\":\"ready\"}"));
    http_get(&run, "/metrics", text, sizeof(text));
    assert_non_null(strstr(text, "text/plain; version=0.0.4"));
    assert_non_null(strstr(text, "# TYPE nightshift_loop_lag_seconds histogram\n"));
    assert_non_null(strstr(text, "\nnightshift_process_deaths_total 0\n"));
    http_get(&run, "/nothing", text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 404"));
    assert_non_null(strstr(text, "\"code\":\"not_found\""));
    kill(run.parent, SIGTERM);
    assert_int_equal(run_end(&run), 0);
}

static void test_not_ready_says_why(void **state)
{
    static char text[TEXT_SIZE];
    struct run run;

    (void)state;
    run_start(&run, "processes: 1\ntest: {value: 7}\n");
    expect_line(&run, "start", NULL);
    http_get(&run, "/readyz", text, sizeof(text));
    assert_non_null(strstr(text, "HTTP/1.1 503"));
    assert_non_null(strstr(text, "\"message\":\"the \\\"moon\\\" is down\""));
    kill(run.parent, SIGTERM);
    assert_int_equal(run_end(&run), 0);
}

/* Runs daemon_main in a process of its own with its output in a pipe; the exit status. */
static int command(char **argv, int argc, char *out, size_t size)
{
    int ends[2], status;
    size_t len = 0;
    ssize_t got;
    pid_t pid;

    assert_int_equal(pipe(ends), 0);
    pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        exit(daemon_main(&spec, argc, argv));
    }
    close(ends[1]);
    while (len < size - 1 && (got = read(ends[0], out + len, size - 1 - len)) > 0)
        len += (size_t)got;
    out[len] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

static void test_check_config_tells_what_was_understood(void **state)
{
    static const struct {
        const char *yaml, *expected;
        int status;
    } cases[] = {
        {"database_url: postgresql://u:secret@h/d\ntest: {value: 3}\nworker: {slots: 1}\n",
         "test.value=3\n", 0},
        {"", "checked\n", 0},
        {"database_url: postgresql://u:secret@h/d\n", "database_url=***\n", 0},
        {"\ntest: {vlaue: 3}\n", ":2: test.vlaue: unknown option (did you mean test.value?)\n", 1},
        {"test: {value: no}\n", ":1: test.value: expected an integer of at least 0, got \"no\"\n",
         1},
        {"broker_profile: rabbit\n",
         ":1: broker_profile: expected kafka or embedded, got \"rabbit\"\n", 1},
        {"metrics_listen: 99999\n",
         ":1: metrics_listen: listen on 99999: expected HOST:PORT, [IPv6]:PORT or :PORT\n", 1},
        {"metrics_listen: :99999\n",
         ":1: metrics_listen: listen on :99999: expected a port from 0 to 65535\n", 1},
        {"test: {value: 13}\n", "13 is unlucky\n", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char path[] = "/tmp/nightshift-daemon-XXXXXX", out[4096];
        char *argv[] = {(char[]){"test"}, (char[]){"--check-config"}, path, NULL};
        int fd = mkstemp(path);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, cases[i].yaml, strlen(cases[i].yaml)), strlen(cases[i].yaml));
        close(fd);
        assert_int_equal(command(argv, 3, out, sizeof(out)), cases[i].status);
        if (!strstr(out, cases[i].expected))
            fail_msg("expected '%s' in '%s'", cases[i].expected, out);
        assert_null(strstr(out, "secret@"));
        unlink(path);
    }
}

static void test_command_line(void **state)
{
    static const struct {
        const char *argument, *expected;
        int status;
    } cases[] = {
        {"--help", "  test.value (integer from 0, default 1, reloadable)", 0},
        {"--version", "nightshift-test " NIGHTSHIFT_VERSION "\n", 0},
        {"--wrong", "unknown or incomplete argument --wrong", 2},
        {"--config", "unknown or incomplete argument --config", 2},
        {"--log-level=loud", "expected debug, info, warn or error, got loud", 2},
        {"--config=/nonexistent", "open /nonexistent: No such file", 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char argument[64], out[16384];
        char *argv[] = {(char[]){"test"}, argument, NULL};

        snprintf(argument, sizeof(argument), "%s", cases[i].argument);
        assert_int_equal(command(argv, 2, out, sizeof(out)), cases[i].status);
        if (!strstr(out, cases[i].expected))
            fail_msg("expected '%s' in '%s'", cases[i].expected, out);
    }
}

/* --- daemon_defer ----------------------------------------------------------------------------- */

static char order[16];

static void note(void *arg)
{
    strcat(order, arg);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    static char deferred[] = "d";

    (void)fd;
    (void)what;
    daemon_defer(arg, note, deferred);
    strcat(order, "e");
}

static void test_deferred_runs_at_the_end_of_the_turn(void **state)
{
    struct event_base *base = event_base_new();
    struct event *first = event_new(base, -1, 0, on_event, base);
    struct event *second = event_new(base, -1, 0, on_event, base);

    (void)state;
    event_active(first, EV_TIMEOUT, 1);
    event_active(second, EV_TIMEOUT, 1);
    event_base_loop(base, EVLOOP_NONBLOCK);
    assert_string_equal(order, "eedd");
    event_free(first);
    event_free(second);
    event_base_free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_term_drains_and_exits_0),
        cmocka_unit_test(test_term_to_the_whole_group_drains_once),
        cmocka_unit_test(test_second_term_ends_at_once_with_1),
        cmocka_unit_test(test_killed_child_is_restarted),
        cmocka_unit_test(test_children_die_with_a_killed_parent),
        cmocka_unit_test(test_ten_quick_deaths_end_the_parent),
        cmocka_unit_test(test_hup_takes_what_is_reloadable),
        cmocka_unit_test(test_no_process_leaves_a_core),
        cmocka_unit_test(test_bad_reload_changes_nothing),
        cmocka_unit_test(test_health_is_served),
        cmocka_unit_test(test_not_ready_says_why),
        cmocka_unit_test(test_check_config_tells_what_was_understood),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_deferred_runs_at_the_end_of_the_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
