/* SPDX-License-Identifier: Apache-2.0 */
/* What Nightshift is measured against: the plain loop that an application would write.  curl_multi
 * on an event loop, a fixed number of streams at once, each event parsed into a JSON tree, the text
 * gathered. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <curl/curl.h>
#include <event2/event.h>
#include <jansson.h>

#include "common/base/buf.h"
#include "common/base/file.h"

enum { LINE_MAX_BYTES = 1 << 20, TEXT_MAX_BYTES = 16 << 20 };

struct stream {
    CURL *easy;
    struct buf line; /* what came of the line so far */
    struct buf text;
    bool is_done; /* [DONE] came */
};

struct bare {
    struct event_base *base;
    struct event *timer;
    CURLM *multi;
    struct curl_slist *headers;
    struct buf body;
    const char *url;
    int wanted;
    int concurrency;
    int started;
    int succeeded;
    int failed;
    size_t text_bytes;
};

/* --- one stream ------------------------------------------------------------------------------- */

static void take_event(struct stream *stream, const char *data, size_t len)
{
    json_t *event = json_loadb(data, len, 0, NULL);
    json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
    const char *text =
        json_string_value(json_object_get(json_object_get(choice, "delta"), "content"));

    if (text)
        buf_append(&stream->text, text, strlen(text));
    json_decref(event);
}

static void take_line(struct stream *stream)
{
    static const char field[] = "data: ", end[] = "[DONE]";
    const char *line = stream->line.data;
    size_t len = stream->line.len, skip = sizeof(field) - 1;

    if (len > 0 && line[len - 1] == '\r')
        len--;
    if (len < skip || memcmp(line, field, skip) != 0)
        return;
    if (len - skip == sizeof(end) - 1 && memcmp(line + skip, end, sizeof(end) - 1) == 0)
        stream->is_done = true;
    else
        take_event(stream, line + skip, len - skip);
}

static size_t on_data(char *data, size_t size, size_t count, void *arg)
{
    struct stream *stream = arg;
    size_t left = size * count;

    while (left > 0) {
        const char *newline = memchr(data, '\n', left);
        size_t part = newline ? (size_t)(newline - data) : left;

        buf_append(&stream->line, data, part);
        if (!newline)
            break;
        take_line(stream);
        buf_clear(&stream->line);
        data += part + 1;
        left -= part + 1;
    }
    return size * count;
}

static void stream_free(struct bare *bare, struct stream *stream)
{
    curl_multi_remove_handle(bare->multi, stream->easy);
    curl_easy_cleanup(stream->easy);
    buf_release(&stream->line);
    buf_release(&stream->text);
    free(stream);
}

static void stream_start(struct bare *bare)
{
    struct stream *stream = calloc(1, sizeof(*stream));

    if (!stream)
        abort();
    buf_init(&stream->line, LINE_MAX_BYTES);
    buf_init(&stream->text, TEXT_MAX_BYTES);
    stream->easy = curl_easy_init();
    bare->started++;
    curl_easy_setopt(stream->easy, CURLOPT_URL, bare->url);
    curl_easy_setopt(stream->easy, CURLOPT_HTTPHEADER, bare->headers);
    curl_easy_setopt(stream->easy, CURLOPT_POSTFIELDS, bare->body.data);
    curl_easy_setopt(stream->easy, CURLOPT_POSTFIELDSIZE, (long)bare->body.len);
    curl_easy_setopt(stream->easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(stream->easy, CURLOPT_WRITEDATA, stream);
    curl_easy_setopt(stream->easy, CURLOPT_PRIVATE, stream);
    curl_easy_setopt(stream->easy, CURLOPT_TIMEOUT, 120L);
    curl_multi_add_handle(bare->multi, stream->easy);
}

/* --- the loop --------------------------------------------------------------------------------- */

static void stream_end(struct bare *bare, const CURLMsg *message)
{
    struct stream *stream = NULL;

    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &stream);
    if (message->data.result == CURLE_OK && stream->is_done)
        bare->succeeded++;
    else
        bare->failed++;
    bare->text_bytes += stream->text.len;
    stream_free(bare, stream);
    if (bare->started < bare->wanted)
        stream_start(bare);
    else if (bare->succeeded + bare->failed == bare->wanted)
        event_base_loopbreak(bare->base);
}

static void act(struct bare *bare, curl_socket_t fd, int action)
{
    int running = 0, left;
    CURLMsg *message;

    curl_multi_socket_action(bare->multi, fd, action, &running);
    while ((message = curl_multi_info_read(bare->multi, &left)))
        if (message->msg == CURLMSG_DONE)
            stream_end(bare, message);
}

static void on_ready(evutil_socket_t fd, short what, void *arg)
{
    act(arg, fd, (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    struct bare *bare = arg;
    struct event *event = known;
    short kind = EV_PERSIST;

    (void)easy;
    if (event)
        event_free(event);
    kind |= what & CURL_POLL_IN ? EV_READ : 0;
    kind |= what & CURL_POLL_OUT ? EV_WRITE : 0;
    event = what == CURL_POLL_REMOVE ? NULL : event_new(bare->base, fd, kind, on_ready, bare);
    if (event)
        event_add(event, NULL);
    curl_multi_assign(bare->multi, fd, event);
    return 0;
}

static int want_timer(CURLM *multi, long ms, void *arg)
{
    struct bare *bare = arg;
    struct timeval wait = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

    (void)multi;
    if (ms < 0)
        event_del(bare->timer);
    else
        event_add(bare->timer, &wait);
    return 0;
}

static void loop(struct bare *bare)
{
    bare->base = event_base_new();
    bare->timer = event_new(bare->base, -1, 0, on_timer, bare);
    curl_multi_setopt(bare->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    curl_multi_setopt(bare->multi, CURLMOPT_SOCKETDATA, bare);
    curl_multi_setopt(bare->multi, CURLMOPT_TIMERFUNCTION, want_timer);
    curl_multi_setopt(bare->multi, CURLMOPT_TIMERDATA, bare);
    while (bare->started < bare->wanted && bare->started < bare->concurrency)
        stream_start(bare);
    event_base_dispatch(bare->base);
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void run(struct bare *bare)
{
    struct rusage before, after;
    double begun_s = now_s(), elapsed_s, cpu_s;

    getrusage(RUSAGE_SELF, &before);
    loop(bare);
    getrusage(RUSAGE_SELF, &after);
    elapsed_s = now_s() - begun_s;
    cpu_s = seconds_of(after.ru_utime) + seconds_of(after.ru_stime) - seconds_of(before.ru_utime) -
            seconds_of(before.ru_stime);
    printf("{\"requests\":%d,\"failed\":%d,\"per_s\":%.1f,\"cpu_ms\":%.4f,\"text_bytes\":%zu}\n",
           bare->wanted, bare->failed, bare->wanted / elapsed_s, 1000 * cpu_s / bare->wanted,
           bare->text_bytes);
}

static void usage(void)
{
    fputs("usage: bare --url URL --body FILE [--requests N] [--concurrency N]\n"
          "POSTs the file N times, so many streams at once; prints one JSON line.\n",
          stderr);
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},
        {"body", required_argument, NULL, 'b'},
        {"requests", required_argument, NULL, 'n'},
        {"concurrency", required_argument, NULL, 'c'},
        {NULL, 0, NULL, 0},
    };
    struct bare bare = {.wanted = 1000, .concurrency = 64};
    const char *body_path = NULL;
    struct err err;
    int letter;

    while ((letter = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (letter) {
        case 'u':
            bare.url = optarg;
            break;
        case 'b':
            body_path = optarg;
            break;
        case 'n':
            bare.wanted = atoi(optarg);
            break;
        case 'c':
            bare.concurrency = atoi(optarg);
            break;
        default:
            usage();
        }
    }
    if (!bare.url || !body_path || bare.wanted < 1 || bare.concurrency < 1)
        usage();
    if (!file_read(body_path, 16 * 1024 * 1024, &bare.body, &err)) {
        fprintf(stderr, "bare: %s\n", err.message);
        return 1;
    }
    curl_global_init(CURL_GLOBAL_DEFAULT);
    bare.multi = curl_multi_init();
    curl_multi_setopt(bare.multi, CURLMOPT_MAXCONNECTS, 4096L);
    bare.headers = curl_slist_append(NULL, "authorization: Bearer bench");
    bare.headers = curl_slist_append(bare.headers, "content-type: application/json");
    run(&bare);
    curl_multi_cleanup(bare.multi);
    event_free(bare.timer);
    event_base_free(bare.base);
    curl_slist_free_all(bare.headers);
    curl_global_cleanup();
    buf_release(&bare.body);
    return bare.failed ? 1 : 0;
}
