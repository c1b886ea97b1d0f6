/* SPDX-License-Identifier: Apache-2.0 */
/* nightshift-simulator: the stand-in for model providers and webhook receivers. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <event2/event.h>

#include "common/base/log.h"
#include "common/base/str.h"
#include "tests/simulator/simulator.h"

enum { MAX_CONNECTIONS = 19000 };

static const char usage[] =
    "usage: nightshift-simulator [--port N] [--listen ADDRESS] [--log FILE] [--seed N]\n"
    "                            [--max-connections N] [--lenient]\n"
    "Stands in for model providers (OpenAI Chat Completions) and webhook receivers.\n"
    "Prints \"listening PORT\" when it answers.  tests/simulator/README.md tells what to ask it.\n"
    "  --port N             port on the listen address; 0 takes a free one (default 0)\n"
    "  --listen ADDRESS     (default 127.0.0.1)\n"
    "  --log FILE           appends every call as a line of JSON\n"
    "  --seed N             other texts\n"
    "  --max-connections N  at once (default 19000)\n"
    "  --lenient            takes unknown fields in requests, as compatible servers do\n";

struct arguments {
    const char *listen;
    const char *log_path;
    int64_t port;
    int64_t seed;
    int64_t max_connections;
    bool is_lenient;
};

static bool take_number(const char *name, int64_t max, int64_t *out)
{
    if (str_to_i64(optarg, strlen(optarg), out) && *out >= 0 && *out <= max)
        return true;
    fprintf(stderr, "nightshift-simulator: --%s: expected a number from 0 to %" PRId64 "\n", name,
            max);
    return false;
}

/* False: the program ends with *exit_code. */
static bool take_arguments(int argc, char **argv, struct arguments *arguments, int *exit_code)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'}, {"listen", required_argument, NULL, 'a'},
        {"log", required_argument, NULL, 'l'},  {"seed", required_argument, NULL, 's'},
        {"lenient", no_argument, NULL, 'e'},    {"max-connections", required_argument, NULL, 'm'},
        {"help", no_argument, NULL, 'h'},       {NULL, 0, NULL, 0},
    };
    bool ok = true;
    int c;

    *exit_code = 2;
    while (ok && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'p':
            ok = take_number("port", 65535, &arguments->port);
            break;
        case 's':
            ok = take_number("seed", INT64_MAX, &arguments->seed);
            break;
        case 'm':
            ok = take_number("max-connections", 1000000, &arguments->max_connections);
            break;
        case 'a':
            arguments->listen = optarg;
            break;
        case 'l':
            arguments->log_path = optarg;
            break;
        case 'e':
            arguments->is_lenient = true;
            break;
        case 'h':
            *exit_code = 0;
            fputs(usage, stdout);
            return false;
        default:
            ok = false;
        }
    }
    if (!ok || optind != argc)
        fputs(usage, stderr);
    return ok && optind == argc;
}

static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        log_warn(NULL, "the limit of open files could not be raised");
}

static void on_signal(evutil_socket_t signal, short what, void *arg)
{
    (void)signal;
    (void)what;
    event_base_loopbreak(arg);
}

static bool serve(const struct arguments *arguments, struct event_base *base, struct err *err)
{
    struct simulator simulator;
    struct event *term = evsignal_new(base, SIGTERM, on_signal, base);
    struct event *interrupt = evsignal_new(base, SIGINT, on_signal, base);
    char address[128];
    const struct simulator_options options = {
        .listen = address,
        .log_path = arguments->log_path,
        .seed = (uint64_t)arguments->seed,
        .max_connections = (int)arguments->max_connections,
        .is_lenient = arguments->is_lenient,
    };
    bool ok = false;

    snprintf(address, sizeof(address), "%s:%" PRId64, arguments->listen, arguments->port);
    if (!term || !interrupt || event_add(term, NULL) != 0 || event_add(interrupt, NULL) != 0)
        err_set(err, "watch for signals: out of memory");
    else if (simulator_open(&simulator, base, &options, err)) {
        printf("listening %d\n", simulator.port);
        fflush(stdout);
        ok = event_base_dispatch(base) >= 0;
        simulator_close(&simulator);
        /* Callbacks that libevent put off hold their connections, and the end of the base would
         * leave them held. */
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    if (term)
        event_free(term);
    if (interrupt)
        event_free(interrupt);
    return ok;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.listen = "127.0.0.1", .max_connections = MAX_CONNECTIONS};
    struct err err = {.message = ""};
    int exit_code;

    log_setup("simulator", LOG_INFO);
    if (!take_arguments(argc, argv, &arguments, &exit_code))
        return exit_code;
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    struct event_base *base = event_base_new();
    if (!base || !serve(&arguments, base, &err)) {
        log_error(NULL, "%s", err.message);
        return 1;
    }
    event_base_free(base);
    return 0;
}
