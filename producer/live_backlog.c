/* SPDX-License-Identifier: Apache-2.0 */
/* Live text that waits until what comes before it was read from Postgres. */
#include "producer/live_backlog.h"

#include <stdlib.h>
#include <string.h>

struct live_entry {
    struct live_entry *next;
    struct live_message message;
    char text[];
};

static size_t entry_size(const struct live_entry *entry)
{
    return sizeof(*entry) + entry->message.len;
}

/* Does the message hold what waits first, and so everything?  A worker shows its open chunk from
 * the start to whoever comes late. */
static bool covers(const struct live_message *message, const struct live_message *first)
{
    return message->run == first->run && message->seq == first->seq &&
           message->attempt == first->attempt && message->offset <= first->offset;
}

void live_backlog_add(struct live_backlog *backlog, const struct live_message *message)
{
    size_t size = sizeof(struct live_entry) + message->len;
    struct live_entry *entry;

    if (backlog->first && covers(message, &backlog->first->message))
        live_backlog_clear(backlog);
    entry = backlog->bytes + size <= LIVE_BACKLOG_BYTES ? malloc(size) : NULL;
    if (!entry) {
        live_backlog_clear(backlog);
        return;
    }
    entry->next = NULL;
    entry->message = *message;
    entry->message.text = entry->text;
    memcpy(entry->text, message->text, message->len);
    if (backlog->last)
        backlog->last->next = entry;
    else
        backlog->first = entry;
    backlog->last = entry;
    backlog->bytes += size;
}

bool live_backlog_first(const struct live_backlog *backlog, struct live_message *out)
{
    if (!backlog->first)
        return false;
    *out = backlog->first->message;
    return true;
}

void live_backlog_drop_first(struct live_backlog *backlog)
{
    struct live_entry *entry = backlog->first;

    if (!entry)
        return;
    backlog->first = entry->next;
    if (!backlog->first)
        backlog->last = NULL;
    backlog->bytes -= entry_size(entry);
    free(entry);
}

void live_backlog_clear(struct live_backlog *backlog)
{
    while (backlog->first)
        live_backlog_drop_first(backlog);
}
