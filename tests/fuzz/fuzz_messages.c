/* SPDX-License-Identifier: Apache-2.0 */
/* Tickets and live messages: whatever is accepted is written back as it came. */
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/model/channels.h"
#include "common/model/topics.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_ticket(const char *text, size_t size)
{
    struct ticket ticket, again;
    char out[TICKET_TEXT_MAX];
    size_t len;

    if (!ticket_read(text, size, &ticket))
        return;
    len = ticket_write(&ticket, out);
    if (!ticket_read(out, len, &again) || !id_equal(ticket.job, again.job) ||
        ticket.dispatch_seq != again.dispatch_seq || strcmp(ticket.tenant, again.tenant) != 0)
        abort();
}

static void check_live_message(const char *text, size_t size)
{
    struct live_message message, again;
    struct buf out;

    if (!live_message_read(text, size, &message))
        return;
    buf_init(&out, size + 128);
    if (!live_message_write(&message, &out) || !live_message_read(out.data, out.len, &again) ||
        message.offset != again.offset || message.len != again.len ||
        (message.len && memcmp(message.text, again.text, message.len) != 0))
        abort();
    buf_release(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_ticket((const char *)data, size);
    check_live_message((const char *)data, size);
    return 0;
}
