/* SPDX-License-Identifier: Apache-2.0 */
/* A batch under way: its lines, what was submitted, what has ended, what was written. */
#ifndef PRODUCER_CLI_BATCH_H
#define PRODUCER_CLI_BATCH_H

#include <stdint.h>
#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/heap.h"
#include "common/base/id.h"
#include "producer/cli/api.h"
#include "producer/cli/batch_input.h"
#include "producer/cli/cli.h"
#include "producer/cli/progress.h"

struct event;

enum entry_state {
    ENTRY_READ,      /* waits to be submitted */
    ENTRY_SUBMITTED, /* has an id; its end is awaited */
    ENTRY_OVER,      /* its result is in the spool */
};

/* One line of the input, in its order. */
struct entry {
    enum entry_state state;
    struct heap_entry look; /* when it is looked at next */
    struct batch *batch;
    struct api_call *call; /* looking at it now */
    struct id job;
    int64_t line;
    int64_t spool_at;
    size_t spool_len;
    int looks; /* without its end */
};

/* A line that is to be sent, with its text. */
struct pending {
    struct entry *entry;
    char *text;
    size_t len;
    bool may_be_ours; /* an upload of this run that held it broke off */
};

enum {
    BATCH_LINES_MAX = 1 << 24, /* of one input */
    BATCH_CHUNK_LINES = 500,
    BATCH_CHUNK_BYTES = 4 * 1024 * 1024,
};

struct batch {
    struct cli *cli;
    struct batch_input *input;
    bool is_input_over;
    struct buf line; /* the input's newest */

    struct entry **entries;
    size_t count, cap;

    struct pending chunk[BATCH_CHUNK_LINES]; /* read, not yet accepted or refused */
    int chunk_count;
    size_t chunk_bytes;
    struct api_call *upload;
    struct event *submit_timer, *look_timer, *draw_timer, *interrupt, *terminate;

    bool waits; /* for results; else the ids are the results */
    struct heap looks;
    size_t next_look; /* entries before it have been looked at or are over */
    int looking;      /* calls out */
    int active;       /* submitted, looked at, not long known to be slow */

    FILE *spool; /* results before their turn */
    int64_t spool_end;
    FILE *out;
    int out_error;      /* errno of its first failure; 0: there was none */
    bool is_whole;      /* every line's result is written */
    char *partial_path; /* of -o FILE, until it is whole */
    size_t written;     /* entries whose result stands in out */
    bool is_csv;

    struct progress progress;
    struct rate rate;
    int64_t begun_us, last_answer_us, first_id_us, server_skew_us;
    int64_t submitted, resumed, bad_lines;
    int failures;  /* in a row, of the server */
    int line_len;  /* of the progress line on the screen */
    bool is_drawn; /* there is one */
    int code;      /* how it ends, once is_ended */
    bool is_ended;
};

/* Stops with this exit code: what was done stays, and the rest is resumed another time. */
void batch_stop(struct batch *batch, int code);
/* Takes the progress line away for now. */
void batch_clear_line(struct batch *batch);
/* A message on standard error, above the progress line. */
void batch_say(struct batch *batch, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The server answered, or did not: after two minutes without an answer the batch stops.  The pause
 * before the next try. */
void batch_answered(struct batch *batch);
int64_t batch_unanswered(struct batch *batch, const struct api_answer *answer);

/* --- batch_submit.c: reading and uploading ---------------------------------------------------- */
void batch_submit_more(struct batch *batch);

/* --- batch_results.c: looking, spooling, writing ---------------------------------------------- */
void batch_look_more(struct batch *batch);
/* The entry is over: a line that was bad or refused.  code and message go into the result. */
void batch_entry_bad(struct batch *batch, struct entry *entry, const char *code,
                     const char *message);
/* The entry is over without being waited for. */
void batch_entry_accepted(struct batch *batch, struct entry *entry);
void batch_write_ready(struct batch *batch);

#endif
