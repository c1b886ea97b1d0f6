/* SPDX-License-Identifier: Apache-2.0 */
/* A made-up job and a reader that comes and goes: nothing may be left out or sent twice, whatever
 * comes when.  Driven by a string of bytes, so that the unit test and the fuzzer share it. */
#ifndef TESTS_UNIT_STREAM_STORY_H
#define TESTS_UNIT_STREAM_STORY_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "common/model/job.h"
#include "producer/stream_position.h"

enum { STORY_EVENTS_MAX = 64, STORY_ATTEMPTS_MAX = 16 };

struct story {
    const uint8_t *choices;
    size_t left;
    struct stream_event events[STORY_EVENTS_MAX]; /* all that is ever stored, in order */
    int count;
    int visible;                          /* of them, at this moment */
    int64_t output[STORY_ATTEMPTS_MAX];   /* bytes of each attempt, in all */
    int64_t received[STORY_ATTEMPTS_MAX]; /* by the reader */
    struct stream_position position;
    struct cursor last; /* the newest id the reader got */
    bool got_end;
};

static int story_choice(struct story *story, int n)
{
    if (story->left == 0)
        return 0;
    story->left--;
    return *story->choices++ % n;
}

static void story_add(struct story *story, int run, int seq, int attempt, int64_t len)
{
    struct stream_event *event = &story->events[story->count++];

    *event = (struct stream_event){.run = run, .seq = seq, .attempt = attempt};
    if (len == 0)
        return;
    event->is_text = true;
    event->offset = story->output[attempt];
    event->len = len;
    story->output[attempt] += len;
}

static void story_make(struct story *story)
{
    int runs = 1 + story_choice(story, 3);
    int attempt = 0;

    story_add(story, 0, 0, 0, 0);
    for (int run = 1; run <= runs; run++) {
        int seq = 1;

        for (int calls = 1 + story_choice(story, 2); calls > 0; calls--) {
            story_add(story, run, seq++, ++attempt, 0); /* job.started */
            for (int rows = story_choice(story, 5); rows > 0; rows--)
                story_add(story, run, seq++, attempt, story_choice(story, 4) * 3);
            if (calls > 1)
                story_add(story, run, seq++, attempt, 0); /* attempt.superseded */
        }
        if (run < runs && story_choice(story, 2))
            story_add(story, run, SEQ_SUPERSEDED, attempt, 0);
        story_add(story, run, run < runs ? SEQ_RETRYING : SEQ_ENDED, attempt, 0);
    }
}

/* The reader is sent an event: it must be the very next thing. */
static void story_receive(struct story *story, const struct stream_event *event, int64_t skip)
{
    const struct cursor *at = &story->position.at;

    assert(cursor_compare(at, &story->last) > 0);
    story->last = *at;
    if (event->is_text) {
        assert(event->offset + skip == story->received[event->attempt]);
        assert(skip < event->len);
        story->received[event->attempt] = event->offset + event->len;
    }
    if (event->seq >= SEQ_SUPERSEDED || !event->is_text)
        for (int i = 0; i <= event->attempt; i++) /* all text before an event is there before it */
            assert(i == event->attempt || story->received[i] == story->output[i]);
    story->got_end |= event->seq == SEQ_ENDED;
}

static void story_read(struct story *story)
{
    int64_t skip;

    for (int i = 0; i < story->visible; i++) {
        const struct stream_event *row = &story->events[i];
        struct cursor key = {row->run, row->seq, 0};
        struct cursor from = {story->position.at.run, story->position.at.seq, 0};
        enum stream_verdict verdict;

        if (cursor_compare(&key, &from) < 0)
            continue;
        verdict = stream_position_row(&story->position, row, false, &skip);
        assert(verdict != STREAM_WAIT); /* the rows of this story have no holes */
        if (verdict == STREAM_SEND)
            story_receive(story, row, skip);
    }
}

/* A live message: part of a chunk of the newest visible attempt that is stored later. */
static void story_live(struct story *story)
{
    int at = story->visible + story_choice(story, 3);
    struct stream_event live;
    int64_t from, len, skip;

    if (at >= story->count || !story->events[at].is_text)
        return;
    for (int i = story->visible; i < at; i++) /* text is told of only behind a stored start */
        if (!story->events[i].is_text)
            return;
    live = story->events[at];
    from = story_choice(story, (int)live.len);
    len = 1 + story_choice(story, (int)(live.len - from));
    live.offset += from;
    live.len = len;
    if (stream_position_live(&story->position, &live, &skip) == STREAM_SEND)
        story_receive(story, &live, skip);
}

/* The reader comes back with its newest id; facts as the statement event_locate gives them. */
static void story_resume(struct story *story)
{
    struct cursor_facts facts = {.last_seq = -1};
    const struct cursor *cursor = &story->last;
    int attempt = 0;

    if (cursor->seq < 0)
        return;
    for (int i = 0; i < story->visible; i++) {
        const struct stream_event *row = &story->events[i];
        struct cursor key = {row->run, row->seq, 0};
        struct cursor from = {cursor->run, cursor->seq, 0};

        if (row->run == cursor->run && row->seq < SEQ_SUPERSEDED)
            facts.last_seq = row->seq;
        if (cursor_compare(&key, &from) > 0)
            continue;
        if (row->attempt > 0 && row->attempt != attempt) {
            attempt = row->attempt;
            facts.text_end = 0;
        }
        if (row->is_text)
            facts.text_end = row->offset + row->len;
        if (cursor_compare(&key, &from) == 0) {
            facts.has_row = facts.is_boundary = true;
            facts.is_text = row->is_text;
            facts.row_offset = row->offset;
            facts.row_len = row->len;
        }
    }
    assert(cursor_is_possible(cursor, &facts));
    stream_position_resume(&story->position, cursor, &facts, attempt);
}

/* Plays the story that the bytes tell; asserts what must hold. */
static void story_play(const uint8_t *choices, size_t len)
{
    struct story story = {.choices = choices, .left = len, .last = CURSOR_START};

    story_make(&story);
    story.visible = 1;
    stream_position_init(&story.position);
    while (story.left > 0) {
        switch (story_choice(&story, 8)) {
        case 0:
        case 1:
            story_read(&story);
            break;
        case 2:
            story_resume(&story);
            break;
        case 3:
        case 4:
            if (story.visible < story.count)
                story.visible++;
            break;
        default:
            story_live(&story);
        }
    }
    story.visible = story.count;
    story_read(&story);
    assert(story.got_end);
    for (int i = 0; i < STORY_ATTEMPTS_MAX; i++)
        assert(story.received[i] == story.output[i]);
}

#endif
