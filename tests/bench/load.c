/* SPDX-License-Identifier: Apache-2.0 */
/* A load generator: one request over and over, a fixed number at a time, latencies as JSON. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/io/http_client.h"

struct load {
    struct event_base *base;
    struct http_client *client;
    struct http_call_spec spec;
    int wanted;
    int concurrency;
    int started;
    int ended;
    int failed;
    char first_failure[256];
    int64_t *latencies_us; /* of those that succeeded */
    int succeeded;
    int64_t begun_us;
};

struct request {
    struct load *load;
    int64_t begun_us;
};

static void start_one(struct load *load);

static bool on_data(struct http_call *call, const char *data, size_t len, void *arg)
{
    (void)call;
    (void)data;
    (void)len;
    (void)arg;
    return true;
}

static void on_done(struct http_call *call, const struct http_answer *answer, void *arg)
{
    struct request *request = arg;
    struct load *load = request->load;

    (void)call;
    load->ended++;
    if (answer->outcome == HTTP_DONE && answer->status >= 200 && answer->status < 300) {
        load->latencies_us[load->succeeded++] = clock_monotonic_us() - request->begun_us;
    } else if (load->failed++ == 0) {
        snprintf(load->first_failure, sizeof(load->first_failure), "%s status=%d %s",
                 http_outcome_name(answer->outcome), answer->status, answer->message);
    }
    free(request);
    if (load->started < load->wanted)
        start_one(load);
    else if (load->ended == load->wanted)
        event_base_loopbreak(load->base);
}

static void start_one(struct load *load)
{
    static const struct http_callbacks callbacks = {.on_data = on_data, .on_done = on_done};
    struct request *request = calloc(1, sizeof(*request));
    struct err err;

    if (!request)
        abort();
    request->load = load;
    request->begun_us = clock_monotonic_us();
    load->started++;
    if (!http_call_start(load->client, &load->spec, &callbacks, request, &err)) {
        fprintf(stderr, "load: %s\n", err.message);
        exit(1);
    }
}

static int compare_latency(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;

    return (left > right) - (left < right);
}

static double percentile_ms(const struct load *load, double part)
{
    int index = (int)(part * (load->succeeded - 1) + 0.5);

    return load->succeeded ? (double)load->latencies_us[index] / 1000.0 : 0;
}

static void print_result(struct load *load)
{
    double elapsed_s = (double)(clock_monotonic_us() - load->begun_us) / 1e6;

    qsort(load->latencies_us, (size_t)load->succeeded, sizeof(int64_t), compare_latency);
    printf("{\"requests\":%d,\"failed\":%d,\"elapsed_s\":%.3f,\"per_s\":%.1f,\"p50_ms\":%.2f,"
           "\"p99_ms\":%.2f}\n",
           load->wanted, load->failed, elapsed_s, load->wanted / elapsed_s,
           percentile_ms(load, 0.5), percentile_ms(load, 0.99));
    if (load->failed)
        fprintf(stderr, "load: first failure: %s\n", load->first_failure);
}

static void run(struct load *load)
{
    int first = load->concurrency < load->wanted ? load->concurrency : load->wanted;

    load->begun_us = clock_monotonic_us();
    while (load->started < first)
        start_one(load);
    event_base_dispatch(load->base);
    print_result(load);
}

static void usage(void)
{
    fputs("usage: bench-load --url URL --body FILE [--key KEY] [--requests N] [--concurrency N]\n"
          "POSTs the file N times, so many at once; prints one JSON line.\n",
          stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},         {"body", required_argument, NULL, 'b'},
        {"key", required_argument, NULL, 'k'},         {"requests", required_argument, NULL, 'n'},
        {"concurrency", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0},
    };
    struct http_client_options client_options = {.max_idle_connections = 4096};
    struct load load = {.wanted = 1000, .concurrency = 64};
    char authorization[256] = "authorization: Bearer none";
    const char *headers[] = {authorization, "content-type: application/json", NULL};
    const char *body_path = NULL;
    struct err err;
    struct buf body;
    bool ok = false;
    int letter;

    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'u':
            load.spec.url = optarg;
            break;
        case 'b':
            body_path = optarg;
            break;
        case 'k':
            snprintf(authorization, sizeof(authorization), "authorization: Bearer %s", optarg);
            break;
        case 'n':
            load.wanted = atoi(optarg);
            break;
        case 'c':
            load.concurrency = atoi(optarg);
            break;
        default:
            usage();
        }
    }
    if (!load.spec.url || !body_path || load.wanted < 1 || load.concurrency < 1)
        usage();
    signal(SIGPIPE, SIG_IGN);
    if (!file_read(body_path, 16 * 1024 * 1024, &body, &err)) {
        fprintf(stderr, "load: %s\n", err.message);
        return 1;
    }
    load.latencies_us = calloc((size_t)load.wanted, sizeof(int64_t));
    load.base = event_base_new();
    client_options.max_calls = load.concurrency + 1;
    load.client = http_client_new(load.base, &client_options, &err);
    if (!load.client || !load.latencies_us) {
        fprintf(stderr, "load: %s\n", err.message);
        goto done;
    }
    load.spec.method = "POST";
    load.spec.headers = headers;
    load.spec.body = body.data;
    load.spec.body_len = body.len;
    load.spec.total_timeout_ms = 120000;
    run(&load);
    ok = load.failed == 0;
done:
    if (load.client)
        http_client_free(load.client);
    event_base_free(load.base);
    free(load.latencies_us);
    buf_release(&body);
    return ok ? 0 : 1;
}
