/* SPDX-License-Identifier: Apache-2.0 */
/* A request as its handler sees it: made from a judged head, path and query decoded. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/str.h"
#include "common/io/http_conn.h"

enum {
    QUERY_PARAMETERS_MAX = 200,
    REQUEST_ID_MAX = 128,
    ANSWER_FIELDS_MAX = 16 * 1024,
};

struct http_joined {
    struct http_joined *next;
    char text[];
};

/* --- decoding -----------------------------------------------------------------------------------
 */

/* Decodes len bytes of text into out (which may be text; it never gets longer) and NUL-terminates.
 * A query has '+' for a blank; a path keeps "%2F" as it is.  NULL, or what is wrong. */
static const char *percent_decode(const char *text, size_t len, bool is_query, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        int high, low;

        if (text[i] != '%') {
            out[n++] = is_query && text[i] == '+' ? ' ' : text[i];
            continue;
        }
        high = i + 2 < len ? str_hex_digit(text[i + 1]) : -1;
        low = i + 2 < len ? str_hex_digit(text[i + 2]) : -1;
        if (high < 0 || low < 0)
            return "a percent sign is not followed by two hexadecimal digits";
        if (high == 0 && low == 0)
            return "%00 is not allowed";
        i += 2;
        if (!is_query && high * 16 + low == '/') {
            memcpy(out + n, "%2F", 3);
            n += 3;
        } else {
            out[n++] = (char)(high * 16 + low);
        }
    }
    out[n] = '\0';
    return str_utf8_valid(out, n) ? NULL : "it is not UTF-8";
}

/* The path of a target: origin form, absolute form (RFC 9112 wants it understood), or "*". */
static bool target_path(struct http_request *request, char **path, struct http_refusal *refusal)
{
    char *target = request->head.target;
    char *at = NULL;

    if (target[0] == '/' || strcmp(target, "*") == 0) {
        *path = target;
        return true;
    }
    if (strncasecmp(target, "http://", 7) == 0)
        at = target + 7;
    else if (strncasecmp(target, "https://", 8) == 0)
        at = target + 8;
    if (!at || *at == '\0' || *at == '/' || *at == '?')
        return http_refuse(refusal, 400, "invalid_value",
                           "The request target is neither a path nor an http URL");
    *path = at + strcspn(at, "/?");
    return true;
}

static bool decode_target(struct http_request *request, struct http_refusal *refusal)
{
    const char *wrong;
    char *path = NULL;
    char *mark;

    if (!target_path(request, &path, refusal))
        return false;
    mark = strchr(path, '?');
    request->query = mark ? mark + 1 : "";
    if (mark)
        *mark = '\0';
    if (*path == '\0') { /* "http://host" and "http://host?query" */
        request->path = strdup("/");
        return request->path ||
               http_refuse(refusal, 503, "overloaded", "The server is out of memory");
    }
    request->path = strdup(path);
    if (!request->path)
        return http_refuse(refusal, 503, "overloaded", "The server is out of memory");
    wrong = percent_decode(path, strlen(path), false, request->path);
    return !wrong || http_refuse(refusal, 400, "invalid_value", "The path: %s", wrong);
}

/* --- making and freeing -------------------------------------------------------------------------
 */

/* Joins all fields of that name into the first and takes the others out. */
static bool join_fields(struct http_request *request, struct http_field *first)
{
    struct http_field *end = request->head.fields + request->head.field_count;
    struct http_field *kept = first + 1;
    struct http_joined *joined;
    size_t size = 1;
    char *at;

    for (struct http_field *field = first; field < end; field++)
        size += strcmp(field->name, first->name) == 0 ? field->value_len + 2 : 0;
    joined = malloc(sizeof(*joined) + size);
    if (!joined)
        return false;
    at = stpcpy(joined->text, first->value);
    for (struct http_field *field = first + 1; field < end; field++) {
        if (strcmp(field->name, first->name) == 0)
            at = stpcpy(stpcpy(at, ", "), field->value);
        else
            *kept++ = *field;
    }
    first->value = joined->text;
    first->value_len = (size_t)(at - joined->text);
    request->head.field_count = (int)(kept - request->head.fields);
    joined->next = request->joined;
    request->joined = joined;
    return true;
}

/* A repeated field is one list (RFC 9110 5.3).  Those that may not repeat were refused before. */
static bool join_repeated(struct http_request *request)
{
    struct http_head *head = &request->head;

    for (int i = 0; i < head->field_count; i++) {
        for (int j = i + 1; j < head->field_count; j++) {
            if (strcmp(head->fields[i].name, head->fields[j].name) == 0 &&
                !join_fields(request, &head->fields[i]))
                return false;
        }
    }
    return true;
}

void http_request_make_id(char *id)
{
    uint8_t random[16];

    crypto_random(random, sizeof(random));
    str_hex(random, sizeof(random), id);
}

/* The caller's own id when it is one we can repeat. */
static void choose_id(const struct http_head *head, char *id)
{
    const struct http_field *field = http_head_find(head, "x-request-id");

    if (field && field->value_len <= REQUEST_ID_MAX &&
        str_is_visible_ascii(field->value, field->value_len)) {
        memcpy(id, field->value, field->value_len);
        id[field->value_len] = '\0';
        return;
    }
    http_request_make_id(id);
}

static struct http_request *request_alloc(struct http_conn *conn)
{
    struct http_request *request = calloc(1, sizeof(*request));

    if (!request)
        return NULL;
    request->conn = conn;
    request->raw = conn->head;
    buf_init(&conn->head, conn->head.max);
    request->started_us = clock_monotonic_us();
    buf_init(&request->fields, ANSWER_FIELDS_MAX);
    buf_init(&request->body.data, SIZE_MAX / 2);
    return request;
}

static bool request_parse(struct http_request *request, struct http_refusal *refusal)
{
    const struct http_limits *limits = &request->conn->server->options.limits;
    struct http_head_limits head_limits = {
        .max_bytes = limits->max_head_bytes,
        .max_uri_bytes = limits->max_uri_bytes,
        .max_fields = limits->max_fields,
    };
    bool is_good =
        http_head_parse(&request->head, request->raw.data, request->raw.len, &head_limits, refusal);

    choose_id(&request->head, request->id);
    if (!is_good || !http_body_init(request, &request->conn->keep_alive, refusal))
        return false;
    http_head_seal(&request->head);
    if (!join_repeated(request))
        return http_refuse(refusal, 503, "overloaded", "The server is out of memory");
    request->is_head = strcmp(request->head.method, "HEAD") == 0;
    return decode_target(request, refusal);
}

struct http_request *http_request_new(struct http_conn *conn, struct http_refusal *refusal,
                                      char *id)
{
    struct http_request *request = request_alloc(conn);

    if (!request) {
        http_refuse(refusal, 503, "overloaded", "The server is out of memory");
        http_request_make_id(id);
        return NULL;
    }
    if (!request_parse(request, refusal)) {
        memcpy(id, request->id, sizeof(request->id));
        http_request_free(request);
        return NULL;
    }
    return request;
}

void http_request_free(struct http_request *request)
{
    if (!request)
        return;
    while (request->joined) {
        struct http_joined *joined = request->joined;

        request->joined = joined->next;
        free(joined);
    }
    http_body_release(request);
    http_head_release(&request->head);
    buf_release(&request->raw);
    buf_release(&request->fields);
    free(request->path);
    free(request);
}

void http_request_tell_closed(struct http_request *request)
{
    void (*on_close)(struct http_request *, void *) = request->on_close;

    request->is_closed = true;
    if (request->is_ended || request->is_close_told)
        return;
    if (on_close) {
        request->is_close_told = true;
        on_close(request, request->on_close_arg);
    } else if (request->body.want == HTTP_BODY_READ && request->body.done) {
        /* The handler waited for nothing but the body, which will never come. */
        request->is_close_told = true;
        http_end(request);
    }
}

/* --- accessors ----------------------------------------------------------------------------------
 */

const char *http_method(const struct http_request *request)
{
    return request->head.method;
}

const char *http_path(const struct http_request *request)
{
    return request->path;
}

const char *http_request_id(const struct http_request *request)
{
    return request->id;
}

int64_t http_content_length(const struct http_request *request)
{
    return request->head.content_length;
}

bool http_is_chunked(const struct http_request *request)
{
    return request->head.is_chunked;
}

const char *http_peer(const struct http_request *request)
{
    return request->conn->peer;
}

void http_set_data(struct http_request *request, void *data)
{
    request->data = data;
}

void *http_data(const struct http_request *request)
{
    return request->data;
}

void http_on_close(struct http_request *request, void (*on_close)(struct http_request *, void *),
                   void *arg)
{
    request->on_close = on_close;
    request->on_close_arg = arg;
    if (request->is_closed)
        http_conn_wake(request->conn);
}

bool http_is_closed(const struct http_request *request)
{
    return request->is_closed;
}

void http_on_half_close(struct http_request *request,
                        void (*on_half_close)(struct http_request *, void *), void *arg)
{
    request->on_half_close = on_half_close;
    request->on_half_close_arg = arg;
    if (request->conn->is_eof)
        http_conn_wake(request->conn);
}

const char *http_header(const struct http_request *request, const char *name)
{
    const struct http_field *field = http_head_find(&request->head, name);

    return field ? field->value : NULL;
}

/* --- the query ----------------------------------------------------------------------------------
 */

struct query {
    bool (*visit)(const char *name, const char *value, void *arg, struct err *err);
    void *arg;
    const char *names[QUERY_PARAMETERS_MAX]; /* so far */
    int count;
};

/* Which of two values was meant nobody can say. */
static bool note_name(struct query *query, const char *name, struct err *err)
{
    if (query->count == QUERY_PARAMETERS_MAX)
        return err_input(err, "invalid_value", NULL, "the query has more than %d parameters",
                         QUERY_PARAMETERS_MAX);
    for (int i = 0; i < query->count; i++)
        if (strcmp(query->names[i], name) == 0)
            return err_input(err, "invalid_value", name, "%.64s: is given more than once", name);
    query->names[query->count++] = name;
    return true;
}

/* One "name=value" in place; scratch is ours to change. */
static bool visit_pair(struct query *query, char *pair, struct err *err)
{
    char *value = strchr(pair, '=');
    const char *wrong;

    if (value)
        *value++ = '\0';
    wrong = percent_decode(pair, strlen(pair), true, pair);
    if (wrong)
        return err_input(err, "invalid_value", NULL, "a name in the query: %s", wrong);
    wrong = value ? percent_decode(value, strlen(value), true, value) : NULL;
    if (wrong)
        return err_input(err, "invalid_value", pair, "%s: %s", pair, wrong);
    return note_name(query, pair, err) && query->visit(pair, value ? value : "", query->arg, err);
}

bool http_query_each(const struct http_request *request,
                     bool (*visit)(const char *name, const char *value, void *arg, struct err *err),
                     void *arg, struct err *err)
{
    struct query query = {.visit = visit, .arg = arg};
    char *scratch = strdup(request->query);
    char *rest = scratch;
    char *pair;
    bool ok = true;

    if (!scratch)
        return err_set(err, "decode the query: out of memory");
    while (ok && (pair = strsep(&rest, "&")) != NULL) {
        if (*pair != '\0')
            ok = visit_pair(&query, pair, err);
    }
    free(scratch);
    return ok;
}
