/* SPDX-License-Identifier: Apache-2.0 */
/* What a reader of a job's events has been sent, and what may be sent next.  Pure. */
#ifndef PRODUCER_STREAM_POSITION_H
#define PRODUCER_STREAM_POSITION_H

#include <stddef.h>
#include <stdint.h>

#include "producer/cursor.h"

/* Two sources tell the same story: rows of Postgres, in order and complete but late, and live
 * messages, at once but with holes.  A reader takes from each what continues what it has: never a
 * byte twice, never one left out.
 *
 * Within a run events are numbered 1, 2, 3, ...; closing ones have high numbers.  Rows of one run
 * may become visible in another order than they are numbered (they come down two connections of the
 * worker), so a number left out means: not there yet. */
struct stream_position {
    struct cursor at;
    bool is_stored;   /* the row of `at` was seen in Postgres */
    int attempt;      /* whose text was last told of; 0: none yet */
    int64_t text_end; /* bytes of that attempt's output sent */
};

/* An event, from either source. */
struct stream_event {
    int run, seq;
    bool is_text;
    int attempt;    /* 0: none */
    int64_t offset; /* of text in the attempt's output */
    int64_t len;
};

enum stream_verdict {
    STREAM_SEND, /* send it, of text what follows the first *skip bytes; the position has moved */
    STREAM_SKIP, /* it was sent already */
    STREAM_WAIT, /* something before it is missing: read Postgres (again) */
};

/* At the start of the job. */
void stream_position_init(struct stream_position *position);
/* After a cursor: attempt and text_end as Postgres knows them there. */
void stream_position_resume(struct stream_position *position, const struct cursor *cursor,
                            const struct cursor_facts *facts, int attempt);

/* A row of Postgres; rows come in order, from the cursor's own row on.  is_forced: what is missing
 * will not come any more (a server's crash took it), go on without it. */
enum stream_verdict stream_position_row(struct stream_position *position,
                                        const struct stream_event *row, bool is_forced,
                                        int64_t *skip);
/* A live message with text. */
enum stream_verdict stream_position_live(struct stream_position *position,
                                         const struct stream_event *live, int64_t *skip);

#endif
