/* SPDX-License-Identifier: Apache-2.0 */
/* The strict check of a request's raw head, byte by byte, before http-parser sees it. */
#include "common/io/http_head.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    METHOD_MAX = 32,
    REQUEST_LINE_SLACK = METHOD_MAX + sizeof(" HTTP/1.1\r\n"), /* what is not target */
};

bool http_refuse(struct http_refusal *refusal, int status, const char *code, const char *fmt, ...)
{
    va_list args;

    refusal->status = status;
    refusal->code = code;
    va_start(args, fmt);
    vsnprintf(refusal->message, sizeof(refusal->message), fmt, args);
    va_end(args);
    return false;
}

static bool refuse_syntax(struct http_refusal *refusal, const char *message)
{
    return http_refuse(refusal, 400, "invalid_value", "%s", message);
}

static bool refuse_size(struct http_refusal *refusal, const char *what, size_t limit)
{
    return http_refuse(refusal, 431, "headers_too_large", "%s: the limit is %zu", what, limit);
}

/* --- finding the end ----------------------------------------------------------------------------
 */

static bool is_control(char c)
{
    return ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f;
}

static bool scan_sizes(const struct http_head_scan *scan, const struct http_head_limits *limits,
                       struct http_refusal *refusal)
{
    if (scan->lines == 0 && scan->line_bytes > limits->max_uri_bytes + REQUEST_LINE_SLACK)
        return refuse_size(refusal, "The request line is too long (bytes of URI)",
                           limits->max_uri_bytes);
    if (scan->bytes > limits->max_bytes)
        return refuse_size(refusal, "The head of the request is too large (bytes)",
                           limits->max_bytes);
    if (scan->lines > limits->max_fields && scan->line_bytes > 0)
        return refuse_size(refusal, "The request has too many header fields",
                           (size_t)limits->max_fields);
    return true;
}

/* A line ended.  True when it was the empty one that ends the head. */
static bool scan_line_end(struct http_head_scan *scan, struct http_refusal *refusal, bool *is_bad)
{
    bool is_empty = scan->line_bytes == 2;

    if (is_empty && scan->lines == 0) {
        /* RFC 9112 2.2: an empty line before the request line is to be ignored; one will do. */
        if (scan->bytes > 2)
            *is_bad = !refuse_syntax(refusal, "The request begins with empty lines");
        scan->line_bytes = 0;
        return false;
    }
    scan->line_bytes = 0;
    scan->lines++;
    return is_empty;
}

static bool scan_byte_is_good(struct http_head_scan *scan, char c, struct http_refusal *refusal)
{
    if (scan->is_after_cr && c != '\n')
        return refuse_syntax(refusal, "A CR in the head is not followed by LF");
    if (!scan->is_after_cr && c == '\n')
        return refuse_syntax(refusal, "A line of the head ends in a bare LF instead of CR LF");
    if (is_control(c) && c != '\r' && c != '\n')
        return refuse_syntax(refusal, "The head of the request contains a control character");
    return true;
}

enum http_head_state http_head_scan(struct http_head_scan *scan,
                                    const struct http_head_limits *limits, const char *data,
                                    size_t len, size_t *used, struct http_refusal *refusal)
{
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        bool is_bad = false;

        *used = i + 1;
        scan->bytes++;
        scan->line_bytes++;
        if (!scan_byte_is_good(scan, c, refusal))
            return HTTP_HEAD_REFUSED;
        scan->is_after_cr = c == '\r';
        if (c == '\n' && scan_line_end(scan, refusal, &is_bad))
            return HTTP_HEAD_DONE;
        if (is_bad)
            return HTTP_HEAD_REFUSED;
        /* The CR of the empty line is no field yet. */
        if (!(scan->is_after_cr && scan->line_bytes == 1) && !scan_sizes(scan, limits, refusal))
            return HTTP_HEAD_REFUSED;
    }
    *used = len;
    return HTTP_HEAD_MORE;
}

/* --- splitting ----------------------------------------------------------------------------------
 */

bool http_is_token_char(char c)
{
    if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
        return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!http_is_token_char(text[i]))
            return false;
    }
    return len > 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool parse_version(struct http_head *head, const char *text, size_t len,
                          struct http_refusal *refusal)
{
    if (len != 8 || memcmp(text, "HTTP/", 5) != 0 || !is_digit(text[5]) || text[6] != '.' ||
        !is_digit(text[7]))
        return refuse_syntax(refusal, "The request line does not end in an HTTP version");
    if (text[5] != '1' || text[7] > '1')
        return http_refuse(refusal, 505, "http_version",
                           "HTTP/%c.%c is not spoken here; use HTTP/1.1", text[5], text[7]);
    head->minor = text[7] - '0';
    return true;
}

static bool target_is_good(const struct http_head *head, size_t max, struct http_refusal *refusal)
{
    if (head->target_len == 0)
        return refuse_syntax(refusal, "The request line has no target");
    if (head->target_len > max)
        return refuse_size(refusal, "The URI is too long (bytes)", max);
    for (size_t i = 0; i < head->target_len; i++) {
        char c = head->target[i];

        if (c < 0x21 || c > 0x7e || c == '#')
            return refuse_syntax(refusal, "The request target has a character that must be "
                                          "percent-encoded");
    }
    return true;
}

static bool parse_request_line(struct http_head *head, char *line, size_t len,
                               const struct http_head_limits *limits, struct http_refusal *refusal)
{
    char *first = memchr(line, ' ', len);
    char *last = memrchr(line, ' ', len);

    if (!first || first == last)
        return refuse_syntax(refusal, "The request line is not 'METHOD target HTTP/1.1'");
    head->method = line;
    head->method_len = (size_t)(first - line);
    head->target = first + 1;
    head->target_len = (size_t)(last - first - 1);
    if (head->method_len > METHOD_MAX || !is_token(head->method, head->method_len))
        return refuse_syntax(refusal, "The method of the request is not a token");
    if (!target_is_good(head, limits->max_uri_bytes, refusal))
        return false;
    return parse_version(head, last + 1, (size_t)(line + len - last - 1), refusal);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool parse_field(struct http_field *field, char *line, size_t len,
                        struct http_refusal *refusal)
{
    char *colon = memchr(line, ':', len);
    char *end = line + len;

    if (is_blank(line[0]))
        return refuse_syntax(refusal, "A header field is folded over several lines");
    if (!colon)
        return refuse_syntax(refusal, "A header line has no colon");
    if (colon > line && is_blank(colon[-1]))
        return refuse_syntax(refusal, "A header name is followed by a blank before the colon");
    if (!is_token(line, (size_t)(colon - line)))
        return refuse_syntax(refusal, "A header name has a character that is not allowed");
    field->name = line;
    field->name_len = (size_t)(colon - line);
    field->value = colon + 1;
    while (field->value < end && is_blank(*field->value))
        field->value++;
    while (end > field->value && is_blank(end[-1]))
        end--;
    field->value_len = (size_t)(end - field->value);
    return true;
}

/* The length of the line at data without its CR LF; the scan made sure that there is one. */
static size_t line_length(const char *data, const char *end)
{
    const char *cr = memchr(data, '\r', (size_t)(end - data));

    return cr ? (size_t)(cr - data) : (size_t)(end - data);
}

static int count_lines(const char *data, size_t len)
{
    int lines = 0;

    for (size_t i = 0; i < len; i++)
        lines += data[i] == '\n';
    return lines;
}

static bool parse_fields(struct http_head *head, char *at, char *end, struct http_refusal *refusal)
{
    int room = count_lines(at, (size_t)(end - at));

    head->fields = calloc((size_t)room + 1, sizeof(*head->fields));
    if (!head->fields)
        return http_refuse(refusal, 503, "overloaded", "The server is out of memory");
    while (at < end) {
        size_t len = line_length(at, end);

        if (len == 0)
            break;
        if (!parse_field(&head->fields[head->field_count], at, len, refusal))
            return false;
        head->field_count++;
        at += len + 2;
    }
    return true;
}

/* --- judging ------------------------------------------------------------------------------------
 */

static bool field_is(const struct http_field *field, const char *name)
{
    return field->name_len == strlen(name) && strncasecmp(field->name, name, field->name_len) == 0;
}

static bool value_is(const struct http_field *field, const char *value)
{
    return field->value_len == strlen(value) &&
           strncasecmp(field->value, value, field->value_len) == 0;
}

struct http_field *http_head_find(const struct http_head *head, const char *name)
{
    for (int i = 0; i < head->field_count; i++) {
        if (field_is(&head->fields[i], name))
            return &head->fields[i];
    }
    return NULL;
}

static int count_fields(const struct http_head *head, const char *name)
{
    int count = 0;

    for (int i = 0; i < head->field_count; i++)
        count += field_is(&head->fields[i], name);
    return count;
}

static bool judge_host(const struct http_head *head, struct http_refusal *refusal)
{
    const struct http_field *host = http_head_find(head, "host");

    if (!host && head->minor == 1)
        return refuse_syntax(refusal, "The request has no Host header");
    if (count_fields(head, "host") > 1)
        return refuse_syntax(refusal, "The request has more than one Host header");
    for (size_t i = 0; host && i < host->value_len; i++) {
        char c = host->value[i];

        if (c < 0x21 || c > 0x7e || strchr("/?#@,\\\"<>^`{|}", c))
            return refuse_syntax(refusal, "The Host header is not a host name and port");
    }
    return true;
}

static bool parse_length(struct http_head *head, const struct http_field *field,
                         struct http_refusal *refusal)
{
    int64_t length = 0;

    if (field->value_len == 0)
        return refuse_syntax(refusal, "The Content-Length header is empty");
    for (size_t i = 0; i < field->value_len; i++) {
        if (!is_digit(field->value[i]))
            return refuse_syntax(refusal, "The Content-Length header is not a number");
    }
    for (size_t i = 0; i < field->value_len; i++) {
        if (length > INT64_MAX / 10 - 1)
            return http_refuse(refusal, 413, "too_large",
                               "The announced Content-Length is beyond every limit");
        length = length * 10 + (field->value[i] - '0');
    }
    head->content_length = length;
    return true;
}

/* RFC 9112 6.3, with every case that two parties could read differently refused. */
static bool judge_framing(struct http_head *head, struct http_refusal *refusal)
{
    const struct http_field *length = http_head_find(head, "content-length");
    const struct http_field *coding = http_head_find(head, "transfer-encoding");

    if (count_fields(head, "content-length") > 1)
        return refuse_syntax(refusal, "The request has more than one Content-Length header");
    if (count_fields(head, "transfer-encoding") > 1)
        return refuse_syntax(refusal, "The request has more than one Transfer-Encoding header");
    if (length && coding)
        return refuse_syntax(refusal, "The request has both Content-Length and Transfer-Encoding");
    if (coding && head->minor == 0)
        return refuse_syntax(refusal, "Transfer-Encoding is not allowed in HTTP/1.0");
    if (coding && !value_is(coding, "chunked"))
        return http_refuse(refusal, 501, "not_implemented",
                           "The only Transfer-Encoding understood is 'chunked'");
    head->is_chunked = coding != NULL;
    return !length || parse_length(head, length, refusal);
}

static bool judge_encoding(const struct http_head *head, struct http_refusal *refusal)
{
    for (int i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];

        if (field_is(field, "content-encoding") && !value_is(field, "identity") &&
            field->value_len > 0)
            return http_refuse(refusal, 415, "unsupported_media_type",
                               "Compressed bodies are not taken: send the body without "
                               "Content-Encoding");
    }
    return true;
}

bool http_head_parse(struct http_head *head, char *data, size_t len,
                     const struct http_head_limits *limits, struct http_refusal *refusal)
{
    char *end = data + len;
    size_t line;
    bool line_is_good;

    *head = (struct http_head){.content_length = -1};
    if (len >= 2 && data[0] == '\r') /* the one empty line that may come first */
        data += 2;
    line = line_length(data, end);
    line_is_good = parse_request_line(head, data, line, limits, refusal);
    /* A request line that is wrong is the first thing to tell, but x-request-id is wanted. */
    if (!line_is_good) {
        struct http_refusal ignored;

        return parse_fields(head, data + line + 2, end, &ignored) && false;
    }
    return parse_fields(head, data + line + 2, end, refusal) && judge_host(head, refusal) &&
           judge_framing(head, refusal) && judge_encoding(head, refusal);
}

void http_head_seal(struct http_head *head)
{
    head->method[head->method_len] = '\0';
    head->target[head->target_len] = '\0';
    for (int i = 0; i < head->field_count; i++) {
        struct http_field *field = &head->fields[i];

        for (size_t j = 0; j < field->name_len; j++) {
            if (field->name[j] >= 'A' && field->name[j] <= 'Z')
                field->name[j] = (char)(field->name[j] - 'A' + 'a');
        }
        field->name[field->name_len] = '\0';
        field->value[field->value_len] = '\0';
    }
}

void http_head_release(struct http_head *head)
{
    free(head->fields);
    head->fields = NULL;
    head->field_count = 0;
}
