/* SPDX-License-Identifier: Apache-2.0 */
/* Topic names, and tickets to and from text. */
#include "common/model/topics.h"

#include <stdio.h>
#include <string.h>

#include "common/base/str.h"

const char *const topic_names[PRIORITY_COUNT] = {
    [PRIORITY_HIGH] = "nightshift.high",
    [PRIORITY_NORMAL] = "nightshift.normal",
    [PRIORITY_LOW] = "nightshift.low",
};

const char *topic_name(enum priority priority)
{
    return topic_names[priority];
}

size_t ticket_write(const struct ticket *ticket, char out[TICKET_TEXT_MAX])
{
    char job[ID_TEXT_SIZE];
    int len;

    id_format(ticket->job, "", job);
    len = snprintf(out, TICKET_TEXT_MAX, "1 %s %d %s", job, ticket->dispatch_seq, ticket->tenant);
    return (size_t)len;
}

bool ticket_read(const void *data, size_t len, struct ticket *out)
{
    enum { JOB_AT = 2, JOB_LEN = 32, SEQ_AT = JOB_AT + JOB_LEN + 1 };
    const char *text = data;
    const char *end;
    int64_t seq;
    size_t tenant_len;

    if (len <= SEQ_AT || len >= TICKET_TEXT_MAX || memcmp(text, "1 ", 2) != 0 ||
        text[SEQ_AT - 1] != ' ')
        return false;
    end = memchr(text + SEQ_AT, ' ', len - SEQ_AT);
    if (!end || !id_parse(text + JOB_AT, JOB_LEN, "", &out->job) ||
        !str_to_i64(text + SEQ_AT, (size_t)(end - text) - SEQ_AT, &seq) || seq < 0 ||
        seq > INT32_MAX)
        return false;
    tenant_len = len - (size_t)(end + 1 - text);
    if (tenant_len >= sizeof(out->tenant) || !str_is_label(end + 1, tenant_len, JOB_LABEL_MAX))
        return false;
    memcpy(out->tenant, end + 1, tenant_len);
    out->tenant[tenant_len] = '\0';
    out->dispatch_seq = (int)seq;
    return true;
}
