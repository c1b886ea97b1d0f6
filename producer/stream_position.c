/* SPDX-License-Identifier: Apache-2.0 */
/* What a reader of a job's events has been sent, and what may be sent next. */
#include "producer/stream_position.h"

#include "common/model/job.h"

void stream_position_init(struct stream_position *position)
{
    *position = (struct stream_position){.at = CURSOR_START, .is_stored = true};
}

void stream_position_resume(struct stream_position *position, const struct cursor *cursor,
                            const struct cursor_facts *facts, int attempt)
{
    bool is_in_text = cursor->offset > 0;

    *position = (struct stream_position){
        .at = *cursor,
        .is_stored = facts->has_row,
        .attempt = attempt,
        .text_end = is_in_text ? cursor->offset : facts->text_end,
    };
}

static bool is_closing(int seq)
{
    return seq >= SEQ_SUPERSEDED;
}

/* Is nothing between the position and the row, as far as the numbers tell? */
static bool follows(const struct stream_position *position, const struct stream_event *row)
{
    if (is_closing(row->seq)) /* written behind the run's lock: all before it is visible */
        return true;
    if (row->run != position->at.run)
        return row->seq == 1;
    return position->is_stored && row->seq == position->at.seq + 1;
}

/* The end, before this event, of what was sent of its attempt's text. */
static int64_t sent_of(const struct stream_position *position, int attempt)
{
    return attempt == position->attempt ? position->text_end : 0;
}

static void move(struct stream_position *position, const struct stream_event *event, bool is_stored)
{
    int64_t end = event->offset + event->len;

    if (event->attempt > 0 && event->attempt != position->attempt) {
        position->attempt = event->attempt;
        position->text_end = 0;
    }
    if (event->is_text && end > position->text_end)
        position->text_end = end;
    position->at = (struct cursor){event->run, event->seq, event->is_text ? end : 0};
    position->is_stored = is_stored;
}

/* The row that the position stands in, or behind. */
static enum stream_verdict same_row(struct stream_position *position,
                                    const struct stream_event *row, int64_t *skip)
{
    position->is_stored = true;
    if (!row->is_text || row->offset + row->len <= position->at.offset)
        return STREAM_SKIP;
    *skip = position->at.offset > row->offset ? position->at.offset - row->offset : 0;
    move(position, row, true);
    return STREAM_SEND;
}

enum stream_verdict stream_position_row(struct stream_position *position,
                                        const struct stream_event *row, bool is_forced,
                                        int64_t *skip)
{
    struct cursor key = {row->run, row->seq, 0};
    struct cursor at = {position->at.run, position->at.seq, 0};
    int order = cursor_compare(&key, &at);
    int64_t sent;

    *skip = 0;
    if (order < 0)
        return STREAM_SKIP;
    if (order == 0)
        return same_row(position, row, skip);
    if (!is_forced && !follows(position, row))
        return STREAM_WAIT;
    if (row->is_text) {
        sent = sent_of(position, row->attempt);
        if (row->offset > sent && !is_forced)
            return STREAM_WAIT;
        if (row->offset + row->len <= sent) {
            position->at = (struct cursor){row->run, row->seq, row->offset + row->len};
            position->is_stored = true;
            return STREAM_SKIP;
        }
        if (sent > row->offset)
            *skip = sent - row->offset;
    }
    move(position, row, true);
    return STREAM_SEND;
}

enum stream_verdict stream_position_live(struct stream_position *position,
                                         const struct stream_event *live, int64_t *skip)
{
    int64_t end = live->offset + live->len;

    *skip = 0;
    if (live->run < position->at.run ||
        (live->run == position->at.run && live->seq < position->at.seq))
        return STREAM_SKIP;
    if (live->run > position->at.run || live->seq > position->at.seq + 1 ||
        live->attempt > position->attempt)
        return STREAM_WAIT;
    if (live->attempt < position->attempt || end <= position->text_end)
        return STREAM_SKIP;
    if (live->offset > position->text_end)
        return STREAM_WAIT;
    if (live->seq == position->at.seq && position->at.offset == 0)
        return STREAM_SKIP; /* the row there is no text: the message lies */
    *skip = position->text_end - live->offset;
    move(position, live, false);
    return STREAM_SEND;
}
