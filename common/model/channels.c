/* SPDX-License-Identifier: Apache-2.0 */
/* Channel names and live messages to and from text. */
#include "common/model/channels.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/base/str.h"

static void channel_name(const char *kind, struct id id, char out[CHANNEL_SIZE])
{
    char hex[ID_TEXT_SIZE];

    str_hex(id.bytes, sizeof(id.bytes), hex);
    snprintf(out, CHANNEL_SIZE, "ns:%s:%s", kind, hex);
}

void channel_of_job(struct id job, char out[CHANNEL_SIZE])
{
    channel_name("job", job, out);
}

void channel_of_worker(struct id worker, char out[CHANNEL_SIZE])
{
    channel_name("worker", worker, out);
}

bool live_message_write(const struct live_message *message, struct buf *out)
{
    if (message->kind == LIVE_CHANGED)
        return buf_putc(out, 'c');
    return buf_printf(out, "d %d %d %d %lld\n", message->run, message->seq, message->attempt,
                      (long long)message->offset) &&
           buf_append(out, message->text, message->len);
}

/* Takes the number before the next stop character off the front. */
static bool take_number(const char **at, const char *end, char stop, int64_t max, int64_t *out)
{
    const char *to = memchr(*at, stop, (size_t)(end - *at));

    if (!to || !str_to_i64(*at, (size_t)(to - *at), out) || *out < 0 || *out > max)
        return false;
    *at = to + 1;
    return true;
}

bool live_message_read(const char *data, size_t len, struct live_message *out)
{
    const char *at = data + 2;
    const char *end = data + len;
    int64_t run, seq, attempt;

    memset(out, 0, sizeof(*out));
    if (len == 1 && data[0] == 'c') {
        out->kind = LIVE_CHANGED;
        return true;
    }
    if (len < 2 || memcmp(data, "d ", 2) != 0 || !take_number(&at, end, ' ', INT_MAX, &run) ||
        !take_number(&at, end, ' ', INT_MAX, &seq) ||
        !take_number(&at, end, ' ', INT_MAX, &attempt) ||
        !take_number(&at, end, '\n', INT64_MAX / 2, &out->offset))
        return false;
    out->kind = LIVE_DELTA;
    out->run = (int)run;
    out->seq = (int)seq;
    out->attempt = (int)attempt;
    out->text = at;
    out->len = (size_t)(end - at);
    return str_utf8_valid(out->text, out->len);
}
