/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP transfer: how curl is told to do it, what it reports, and what its end means. */
#include "common/base/clock.h"
#include "common/base/str.h"
#include "common/io/http_client.h"
#include "common/io/http_internal.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <event2/event.h>
#include <netinet/in.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/time.h>

enum {
    CONNECT_TIMEOUT_DEFAULT_MS = 5000,
    MAX_HEAD_DEFAULT = 64 * 1024,
    MAX_BODY_DEFAULT = 16 * 1024 * 1024,
    IDLE_CONNECTION_MAX_S = 20,
    KEEPALIVE_S = 30,
};

_Static_assert((int)HTTP_MESSAGE_MAX >= CURL_ERROR_SIZE, "curl writes that much");

const char *http_outcome_name(enum http_outcome outcome)
{
    static const char *const names[] = {
        [HTTP_DONE] = "done",
        [HTTP_NOT_SENT] = "not_sent",
        [HTTP_BLOCKED] = "blocked",
        [HTTP_CONNECT_TIMEOUT] = "connect_timeout",
        [HTTP_FIRST_BYTE_TIMEOUT] = "first_byte_timeout",
        [HTTP_IDLE_TIMEOUT] = "idle_timeout",
        [HTTP_TOTAL_TIMEOUT] = "total_timeout",
        [HTTP_CUT] = "cut",
        [HTTP_RESENT] = "resent",
        [HTTP_TOO_LARGE] = "too_large",
        [HTTP_STOPPED] = "stopped",
        [HTTP_BAD_ANSWER] = "bad_answer",
    };

    return names[outcome];
}

bool http_outcome_sent(enum http_outcome outcome)
{
    return outcome != HTTP_NOT_SENT && outcome != HTTP_BLOCKED && outcome != HTTP_CONNECT_TIMEOUT;
}

/* Which deadline comes first, and as what the call ends at it.  Before the request is on the wire
 * every deadline is a connect timeout: what was not sent must never look as if it had been. */
static int64_t first_deadline_us(const struct http_call *call, enum http_outcome *outcome)
{
    const struct {
        bool applies;
        int64_t from_us;
        int64_t timeout_us;
        enum http_outcome outcome;
    } deadlines[] = {
        {call->sends == 0, call->start_us, call->connect_timeout_us, HTTP_CONNECT_TIMEOUT},
        {!call->final_head_us, call->start_us, call->first_byte_timeout_us,
         HTTP_FIRST_BYTE_TIMEOUT},
        {call->final_head_us, call->last_byte_us, call->idle_timeout_us, HTTP_IDLE_TIMEOUT},
        {true, call->start_us, call->total_timeout_us, HTTP_TOTAL_TIMEOUT},
    };
    int64_t first = INT64_MAX;

    for (size_t i = 0; i < sizeof(deadlines) / sizeof(deadlines[0]); i++) {
        if (!deadlines[i].applies || deadlines[i].timeout_us <= 0 ||
            deadlines[i].from_us + deadlines[i].timeout_us >= first)
            continue;
        first = deadlines[i].from_us + deadlines[i].timeout_us;
        *outcome = call->sends == 0 ? HTTP_CONNECT_TIMEOUT : deadlines[i].outcome;
    }
    return first;
}

/* The timer is set to the first deadline.  Deadlines that move on (each byte moves the idle one)
 * are found when it fires, so that a busy stream costs no timer work. */
static void arm_timer(struct http_call *call)
{
    enum http_outcome outcome = HTTP_TOTAL_TIMEOUT;
    int64_t due_us = first_deadline_us(call, &outcome);
    int64_t wait_us = due_us - clock_monotonic_us();

    if (due_us == INT64_MAX) {
        event_del(call->timer);
        return;
    }
    if (wait_us < 0)
        wait_us = 0;
    event_add(call->timer, &(struct timeval){.tv_sec = (time_t)(wait_us / US_PER_S),
                                             .tv_usec = (suseconds_t)(wait_us % US_PER_S)});
}

static void on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct http_call *call = arg;
    struct http_client *client = call->client;
    enum http_outcome outcome = HTTP_TOTAL_TIMEOUT;
    int64_t now_us = clock_monotonic_us();

    (void)fd;
    (void)what;
    if (call->state == CALL_DEAD)
        return;
    if (now_us < first_deadline_us(call, &outcome)) {
        arm_timer(call);
        return;
    }
    http_client_enter(client);
    snprintf(call->message, sizeof(call->message), "%s after %" PRId64 " ms",
             http_outcome_name(outcome), (now_us - call->start_us) / US_PER_MS);
    http_client_end_call(call, outcome);
    http_client_leave(client);
}

/* Notes why we are about to make curl abort. */
static void stop(struct http_call *call, enum http_outcome outcome)
{
    call->is_stopped = true;
    call->stopped_as = outcome;
}

static bool may_go_on(const struct http_call *call)
{
    return call->state == CALL_ACTIVE && !call->is_stopped;
}

static void note_address(struct http_call *call, const struct sockaddr *address)
{
    const void *bytes = NULL;

    if (address->sa_family == AF_INET)
        bytes = &((const struct sockaddr_in *)(const void *)address)->sin_addr;
    else if (address->sa_family == AF_INET6)
        bytes = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (bytes)
        inet_ntop(address->sa_family, bytes, call->peer, sizeof(call->peer));
}

/* curl is about to connect to this very address.  A call that has already been on the wire opens
 * another connection only to send again. */
static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
    struct http_call *call = arg;
    const struct http_client_options *options = &call->client->options;

    (void)purpose;
    if (call->sends > 0)
        call->is_resent = true;
    if (call->is_resent || !may_go_on(call))
        return CURL_SOCKET_BAD;
    note_address(call, &to->addr);
    if (options->address_allowed && !options->address_allowed(&to->addr, options->arg)) {
        call->is_blocked = true;
        return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* The connection stands and the request is about to be written.  libcurl 7.88 silently writes a
 * request again when a reused connection dies before the first byte of the answer; the second visit
 * here is that, and ends the call. */
static int on_about_to_send(void *arg, char *remote_ip, char *local_ip, int remote_port,
                            int local_port)
{
    struct http_call *call = arg;

    (void)local_ip;
    (void)remote_port;
    (void)local_port;
    if (!may_go_on(call))
        return CURL_PREREQFUNC_ABORT;
    if (call->sends > 0) {
        call->is_resent = true;
        return CURL_PREREQFUNC_ABORT;
    }
    call->sends++;
    if (remote_ip)
        snprintf(call->peer, sizeof(call->peer), "%s", remote_ip);
    return CURL_PREREQFUNC_OK;
}

/* The number in "HTTP/1.1 200 OK", or 0.  libcurl lets more pass. */
static int read_status(const char *line, size_t len)
{
    enum { AT = sizeof("HTTP/1.1 ") - 1 };
    int64_t status = 0;

    if (len < AT + 3 || memcmp(line, "HTTP/1.", 7) != 0 || line[AT - 1] != ' ' ||
        (len > AT + 3 && line[AT + 3] != ' ') || !str_to_i64(line + AT, 3, &status))
        return 0;
    return (int)status;
}

/* A status line begins a head, provisional or final. */
static void begin_head(struct http_call *call, const char *line, size_t len)
{
    int status = read_status(line, len);

    call->is_in_head = true;
    if (status < 100 || status == 101) { /* nobody asked for another protocol */
        stop(call, HTTP_BAD_ANSWER);
        return;
    }
    call->head_status = status;
    if (status < 200)
        return;
    call->status = status;
    call->final_head_us = call->last_byte_us;
    arm_timer(call); /* the idle deadline may come before the one it is set to */
}

static void tell_field(struct http_call *call, const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);
    const char *end = line + len;
    struct buf *scratch = &call->client->scratch;
    size_t name_len;

    if (!call->callbacks.on_header || !colon || line[0] == ' ' || line[0] == '\t')
        return;
    name_len = (size_t)(colon - line);
    for (colon++; colon < end && (*colon == ' ' || *colon == '\t'); colon++)
        ;
    while (end > colon && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    buf_clear(scratch);
    for (size_t i = 0; i < name_len; i++)
        buf_putc(scratch, (char)tolower((unsigned char)line[i]));
    buf_putc(scratch, '\0');
    buf_append(scratch, colon, (size_t)(end - colon));
    buf_putc(scratch, '\0');
    if (scratch->is_broken)
        stop(call, HTTP_TOO_LARGE);
    else
        call->callbacks.on_header(call, scratch->data, scratch->data + name_len + 1, call->arg);
}

/* curl hands over head lines one at a time: provisional heads, the final one, then trailers. */
static size_t on_head_line(char *data, size_t size, size_t count, void *arg)
{
    struct http_call *call = arg;
    size_t total = size * count;
    size_t len = total;

    if (!may_go_on(call))
        return 0;
    call->last_byte_us = clock_monotonic_us();
    call->head_bytes += len;
    if (call->head_bytes > call->max_head_bytes)
        stop(call, HTTP_TOO_LARGE);
    while (len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r'))
        len--;
    if (call->is_stopped || call->head_is_whole) {
        /* too large, or a trailer */
    } else if (!call->is_in_head) {
        begin_head(call, data, len);
    } else if (len == 0) {
        call->is_in_head = false;
        call->head_is_whole = call->head_status >= 200;
    } else if (call->head_status >= 200) {
        tell_field(call, data, len);
    }
    return may_go_on(call) ? total : 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct http_call *call = arg;
    size_t len = size * count;

    if (!may_go_on(call))
        return CURL_WRITEFUNC_ERROR;
    call->last_byte_us = clock_monotonic_us();
    if (len > call->max_body_bytes - call->body_bytes) {
        stop(call, HTTP_TOO_LARGE);
        return CURL_WRITEFUNC_ERROR;
    }
    call->body_bytes += len;
    if (call->callbacks.on_data && !call->callbacks.on_data(call, data, len, call->arg))
        stop(call, HTTP_STOPPED);
    return may_go_on(call) ? len : CURL_WRITEFUNC_ERROR;
}

static enum http_outcome outcome_of_sent(const struct http_call *call, CURLcode code)
{
    if (call->is_resent)
        return HTTP_RESENT;
    if (call->is_stopped)
        return call->stopped_as;
    switch (code) {
    case CURLE_OK: /* also when the connection closed inside the head */
        return call->head_is_whole ? HTTP_DONE : HTTP_CUT;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
        return HTTP_BAD_ANSWER;
    case CURLE_FILESIZE_EXCEEDED:
        return HTTP_TOO_LARGE;
    case CURLE_OUT_OF_MEMORY: /* also a head line over curl's own 100 KiB */
        return call->head_is_whole ? HTTP_CUT : HTTP_TOO_LARGE;
    default:
        return HTTP_CUT;
    }
}

static const char *own_message(enum http_outcome outcome)
{
    switch (outcome) {
    case HTTP_DONE:
        return "";
    case HTTP_BLOCKED:
        return "the address is not allowed";
    case HTTP_RESENT:
        return "the connection died before the answer; the request was not sent again";
    case HTTP_TOO_LARGE:
        return "the answer is too large";
    case HTTP_STOPPED:
        return "stopped by the reader";
    case HTTP_BAD_ANSWER:
        return "the answer is not HTTP/1.1";
    default:
        return NULL;
    }
}

enum http_outcome http_call_outcome(struct http_call *call, int code)
{
    enum http_outcome outcome;
    const char *message;

    if (call->sends > 0)
        outcome = outcome_of_sent(call, (CURLcode)code);
    else if (call->is_blocked)
        outcome = HTTP_BLOCKED;
    else
        outcome = code == CURLE_OPERATION_TIMEDOUT ? HTTP_CONNECT_TIMEOUT : HTTP_NOT_SENT;
    message = own_message(outcome);
    if (!message && !call->message[0])
        message = code == CURLE_OK ? "closed inside the head" : curl_easy_strerror((CURLcode)code);
    if (message)
        snprintf(call->message, sizeof(call->message), "%s", message);
    return outcome;
}

static bool is_name(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("!#$%&'*+-.^_`|~", text[i]))
            return false;
    return len > 0;
}

static bool header_is(const char *header, const char *name)
{
    return strncasecmp(header, name, strlen(name)) == 0 && header[strlen(name)] == ':';
}

static bool append_line(struct http_call *call, const char *line)
{
    struct curl_slist *longer = curl_slist_append(call->headers, line);

    if (longer)
        call->headers = longer;
    return longer != NULL;
}

static bool add_header(struct http_call *call, const char *header, struct err *err)
{
    const char *colon = strchr(header, ':');
    size_t name_len = colon ? (size_t)(colon - header) : 0;
    char empty[256];

    if (!colon || !is_name(header, name_len) || strpbrk(header, "\r\n"))
        return err_set(err, "bad header field %.*s", (int)name_len, header);
    if (header_is(header, "content-length") || header_is(header, "transfer-encoding") ||
        header_is(header, "expect"))
        return err_set(err, "header field %.*s is not the caller's", (int)name_len, header);
    if (colon[1 + strspn(colon + 1, " \t")] == '\0') { /* curl writes "name;" as an empty field */
        snprintf(empty, sizeof(empty), "%.*s;", (int)name_len, header);
        header = empty;
    }
    return append_line(call, header) || err_set(err, "add a header field: out of memory");
}

static bool set_headers(struct http_call *call, const struct http_call_spec *spec, struct err *err)
{
    bool has_type = false;

    for (const char *const *header = spec->headers; header && *header; header++) {
        if (!add_header(call, *header, err))
            return false;
        has_type = has_type || header_is(*header, "content-type");
    }
    /* A name without a value takes out what curl would add by itself. */
    if (!append_line(call, "Expect:") || (!has_type && !append_line(call, "Content-Type:")))
        return err_set(err, "add a header field: out of memory");
    return curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers) == CURLE_OK ||
           err_set(err, "set the header fields: out of memory");
}

static bool set_method(struct http_call *call, const struct http_call_spec *spec, struct err *err)
{
    int bad = 0;
    bool is_post = strcmp(spec->method, "POST") == 0;
    bool is_head = strcmp(spec->method, "HEAD") == 0;

    if (!is_name(spec->method, strlen(spec->method)))
        return err_set(err, "bad method");
    call->body = malloc(spec->body_len + 1);
    if (!call->body)
        return err_set(err, "copy a request body: out of memory");
    if (spec->body_len)
        memcpy(call->body, spec->body, spec->body_len);
    if (is_head)
        bad |= (int)curl_easy_setopt(call->easy, CURLOPT_NOBODY, 1L);
    else
        bad |= (int)curl_easy_setopt(call->easy, CURLOPT_MAXFILESIZE_LARGE,
                                     (curl_off_t)call->max_body_bytes);
    if (spec->body_len || is_post) {
        bad |= (int)curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                                     (curl_off_t)spec->body_len);
        bad |= (int)curl_easy_setopt(call->easy, CURLOPT_POSTFIELDS, call->body);
    }
    if (!is_post && !is_head)
        bad |= (int)curl_easy_setopt(call->easy, CURLOPT_CUSTOMREQUEST, spec->method);
    return bad == 0 || err_set(err, "set the method: out of memory");
}

/* Nothing from the environment, nothing remembered, nothing followed. */
static bool set_options(struct http_call *call, const char *url)
{
    CURL *easy = call->easy;
    const char *ca_file = call->client->options.ca_file;
    int bad = 0;

    bad |= (int)curl_easy_setopt(easy, CURLOPT_URL, url);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    bad |= (int)curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    bad |= (int)curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    bad |= (int)curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_USERAGENT, "nightshift/" NIGHTSHIFT_VERSION);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* Without this, removing a call whose name is being looked up waits for the lookup. */
    bad |= (int)curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_S);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_S);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)IDLE_CONNECTION_MAX_S);
    /* Our own timer is the one that counts; curl's must only not come first (it has a default). */
    bad |= (int)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                                 (long)(call->connect_timeout_us / US_PER_MS + 1000));
    if (ca_file) {
        bad |= (int)curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
        bad |= (int)curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
    return bad == 0;
}

static bool set_callbacks(struct http_call *call)
{
    CURL *easy = call->easy;
    int bad = 0;

    bad |= (int)curl_easy_setopt(easy, CURLOPT_PRIVATE, call);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->message);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, call);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_about_to_send);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_PREREQDATA, call);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head_line);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    bad |= (int)curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    return bad == 0;
}

static bool prepare(struct http_call *call, const struct http_call_spec *spec, struct err *err)
{
    struct http_url url;

    if (!http_url_parse(spec->url, &url, err))
        return false;
    if (url.has_userinfo)
        return err_set(err, "the URL must not hold a user name or password");
    call->easy = curl_easy_init();
    call->timer = evtimer_new(call->client->base, on_deadline, call);
    if (!call->easy || !call->timer || !set_options(call, spec->url) || !set_callbacks(call))
        return err_set(err, "prepare an HTTP call: out of memory");
    return set_method(call, spec, err) && set_headers(call, spec, err);
}

static struct http_call *call_new(struct http_client *client, const struct http_call_spec *spec)
{
    struct http_call *call = calloc(1, sizeof(*call));
    int64_t connect_ms =
        spec->connect_timeout_ms > 0 ? spec->connect_timeout_ms : CONNECT_TIMEOUT_DEFAULT_MS;

    if (!call)
        return NULL;
    call->client = client;
    call->connect_timeout_us = connect_ms * US_PER_MS;
    call->first_byte_timeout_us = spec->first_byte_timeout_ms * US_PER_MS;
    call->idle_timeout_us = spec->idle_timeout_ms * US_PER_MS;
    call->total_timeout_us = spec->total_timeout_ms * US_PER_MS;
    call->max_head_bytes = spec->max_head_bytes ? spec->max_head_bytes : MAX_HEAD_DEFAULT;
    call->max_body_bytes = spec->max_body_bytes ? spec->max_body_bytes : MAX_BODY_DEFAULT;
    call->start_us = clock_monotonic_us();
    return call;
}

struct http_call *http_call_start(struct http_client *client, const struct http_call_spec *spec,
                                  const struct http_callbacks *callbacks, void *arg,
                                  struct err *err)
{
    struct http_call *call;

    if (client->is_freed || client->count >= client->options.max_calls) {
        err_set(err, "start an HTTP call: %d are out already", client->count);
        return NULL;
    }
    call = call_new(client, spec);
    if (!call) {
        err_set(err, "start an HTTP call: out of memory");
        return NULL;
    }
    call->callbacks = *callbacks;
    call->arg = arg;
    if (!prepare(call, spec, err)) {
        http_call_free(call);
        return NULL;
    }
    arm_timer(call);
    client->count++;
    TAILQ_INSERT_TAIL(&client->calls[CALL_QUEUED], call, link);
    event_active(client->work, 0, 0);
    return call;
}

void http_call_cancel(struct http_call *call)
{
    if (call && call->state != CALL_DEAD)
        http_call_move(call, CALL_DEAD);
}

void http_call_free(struct http_call *call)
{
    curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    if (call->timer)
        event_free(call->timer);
    free(call->body);
    free(call);
}

int http_call_status(const struct http_call *call)
{
    return call->status;
}

bool http_call_was_sent(const struct http_call *call)
{
    return call->sends > 0;
}
