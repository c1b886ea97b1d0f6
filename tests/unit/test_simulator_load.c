/* SPDX-License-Identifier: Apache-2.0 */
/* Five thousand streams at once through one simulator: all must complete; the CPU time is told. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "tests/unit/simulator_fixture.h"

/* TOKENS words, one every GAP_MS: all streams are open together for most of a second. */
enum { STREAMS = 5000, TOKENS = 20, GAP_MS = 100, DEADLINE_MS = 120000, TAIL = 64 };

struct stream {
    int fd;
    bool is_ended;
    char tail[TAIL]; /* the last bytes that came */
    size_t tail_len;
    size_t bytes;
};

static struct stream streams[STREAMS];

static void open_stream(struct stream *stream, int epoll, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = stream};
    char body[256], request[512];

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    stream->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(stream->fd >= 0);
    assert_int_equal(connect(stream->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    int body_len = snprintf(body, sizeof(body),
                            "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\","
                            "\"content\":\"[[sim tokens=%d gap_ms=%d]]\"}]}",
                            TOKENS, GAP_MS);
    int len = snprintf(request, sizeof(request),
                       "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
                       "authorization: Bearer k\r\ncontent-length: %d\r\n\r\n%s",
                       body_len, body);
    assert_int_equal(send(stream->fd, request, (size_t)len, MSG_NOSIGNAL), len);
    assert_int_equal(fcntl(stream->fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, stream->fd, &event), 0);
}

static void keep_tail(struct stream *stream, const char *data, size_t len)
{
    size_t take = len < TAIL ? len : TAIL;
    size_t keep = stream->tail_len + take > TAIL ? TAIL - take : stream->tail_len;

    memmove(stream->tail, stream->tail + stream->tail_len - keep, keep);
    memcpy(stream->tail + keep, data + len - take, take);
    stream->tail_len = keep + take;
    stream->bytes += len;
}

/* True when the stream has ended. */
static bool read_stream(struct stream *stream)
{
    char block[16384];
    ssize_t n;

    while ((n = recv(stream->fd, block, sizeof(block), 0)) > 0)
        keep_tail(stream, block, (size_t)n);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    assert_int_equal(n, 0);
    close(stream->fd);
    stream->is_ended = true;
    return true;
}

static int read_all(int epoll)
{
    int64_t deadline = clock_monotonic_us() + DEADLINE_MS * US_PER_MS;
    int ended = 0;

    while (ended < STREAMS && clock_monotonic_us() < deadline) {
        struct epoll_event events[512];
        int count = epoll_wait(epoll, events, 512, 1000);

        for (int i = 0; i < count; i++)
            ended += read_stream(events[i].data.ptr);
    }
    return ended;
}

static void report(int64_t begin_us, const struct simulator_fixture *simulator)
{
    struct rusage usage;
    size_t bytes = 0;

    for (int i = 0; i < STREAMS; i++)
        bytes += streams[i].bytes;
    int64_t took_us = clock_monotonic_us() - begin_us;
    assert_true(simulator_fixture_stop(simulator, &usage));
    double cpu = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                 ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6;
    print_message(
        "%d streams of %d words in %.2f s: simulator used %.2f s of CPU (%.1f us a word), "
        "%ld KiB resident, %zu KiB sent\n",
        STREAMS, TOKENS, (double)took_us / 1e6, cpu, cpu * 1e6 / STREAMS / TOKENS, usage.ru_maxrss,
        bytes / 1024);
}

static void test_five_thousand_streams_at_once_all_complete(void **state)
{
    const struct simulator_options options = {.listen = "127.0.0.1:0",
                                              .max_connections = STREAMS + 100};
    struct simulator_fixture simulator;
    struct rlimit limit;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < STREAMS + 200) {
        print_message("only %llu files may be open: skipped\n", (unsigned long long)limit.rlim_cur);
        skip();
    }
    assert_true(simulator_fixture_start(&simulator, &options));
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int64_t begin_us = clock_monotonic_us();

    for (int i = 0; i < STREAMS; i++)
        open_stream(&streams[i], epoll, simulator.port);
    assert_int_equal(read_all(epoll), STREAMS);
    close(epoll);
    for (int i = 0; i < STREAMS; i++) {
        assert_non_null(memmem(streams[i].tail, streams[i].tail_len, "data: [DONE]\n\n", 14));
        assert_memory_equal(streams[i].tail + streams[i].tail_len - 5, "0\r\n\r\n", 5);
    }
    report(begin_us, &simulator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_five_thousand_streams_at_once_all_complete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
