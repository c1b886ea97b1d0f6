/* SPDX-License-Identifier: Apache-2.0 */
/* What a reader of events may be sent next, case by case and by thousands of made-up stories. */
#include "producer/stream_position.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/stream_story.h"

static struct stream_position position_at(int run, int seq, int64_t offset, int attempt,
                                          int64_t text_end)
{
    return (struct stream_position){{run, seq, offset}, true, attempt, text_end};
}

static struct stream_event text(int run, int seq, int attempt, int64_t offset, int64_t len)
{
    return (struct stream_event){run, seq, true, attempt, offset, len};
}

static struct stream_event other(int run, int seq, int attempt)
{
    return (struct stream_event){.run = run, .seq = seq, .attempt = attempt};
}

static void test_rows_come_once_and_in_order(void **state)
{
    const struct {
        struct stream_position position;
        struct stream_event row;
        enum stream_verdict verdict;
        int64_t skip;
    } cases[] = {
        {position_at(0, -1, 0, 0, 0), other(0, 0, 0), STREAM_SEND, 0},
        {position_at(0, 0, 0, 0, 0), other(0, 0, 0), STREAM_SKIP, 0},
        {position_at(0, 0, 0, 0, 0), other(1, 1, 1), STREAM_SEND, 0},
        {position_at(0, 0, 0, 0, 0), other(1, 2, 1), STREAM_WAIT, 0},
        {position_at(0, 0, 0, 0, 0), other(0, SEQ_ENDED, 0), STREAM_SEND, 0},
        {position_at(1, 1, 0, 1, 0), text(1, 2, 1, 0, 9), STREAM_SEND, 0},
        {position_at(1, 1, 0, 1, 0), text(1, 3, 1, 0, 9), STREAM_WAIT, 0},
        {position_at(1, 1, 0, 1, 0), text(1, 2, 1, 5, 9), STREAM_WAIT, 0},
        {position_at(1, 2, 4, 1, 4), text(1, 2, 1, 0, 9), STREAM_SEND, 4}, /* inside a row */
        {position_at(1, 2, 9, 1, 9), text(1, 2, 1, 0, 9), STREAM_SKIP, 0},
        {position_at(1, 2, 9, 1, 9), text(1, 3, 1, 9, 9), STREAM_SEND, 0},
        {position_at(1, 2, 12, 1, 12), text(1, 3, 1, 9, 9), STREAM_SEND, 3},
        {position_at(1, 2, 9, 1, 9), text(1, 3, 2, 0, 9), STREAM_SEND, 0}, /* another attempt */
        {position_at(1, 7, 9, 1, 9), other(1, SEQ_SUPERSEDED, 1), STREAM_SEND, 0},
        {position_at(1, SEQ_RETRYING, 0, 1, 9), other(2, 1, 2), STREAM_SEND, 0},
        {position_at(1, SEQ_RETRYING, 0, 1, 9), other(1, SEQ_ENDED, 0), STREAM_SEND, 0},
        {position_at(2, 1, 0, 2, 0), text(1, 9, 1, 0, 9), STREAM_SKIP, 0}, /* a zombie's */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct stream_position position = cases[i].position;
        int64_t skip;

        if (stream_position_row(&position, &cases[i].row, false, &skip) != cases[i].verdict ||
            skip != cases[i].skip)
            fail_msg("case %zu", i);
    }
}

static void test_live_text_is_taken_where_it_continues(void **state)
{
    const struct {
        struct stream_position position;
        struct stream_event live;
        enum stream_verdict verdict;
        int64_t skip;
    } cases[] = {
        {position_at(1, 1, 0, 1, 0), text(1, 2, 1, 0, 5), STREAM_SEND, 0},
        {position_at(1, 1, 0, 1, 0), text(1, 2, 1, 3, 5), STREAM_WAIT, 0},
        {position_at(1, 1, 0, 1, 0), text(1, 3, 1, 0, 5), STREAM_WAIT, 0},
        {position_at(1, 2, 5, 1, 5), text(1, 2, 1, 5, 5), STREAM_SEND, 0},
        {position_at(1, 2, 5, 1, 5), text(1, 2, 1, 3, 5), STREAM_SEND, 2},
        {position_at(1, 2, 5, 1, 5), text(1, 2, 1, 0, 5), STREAM_SKIP, 0},
        {position_at(1, 2, 5, 1, 5), text(1, 2, 1, 6, 5), STREAM_WAIT, 0},
        {position_at(1, 2, 5, 1, 5), text(1, 3, 1, 5, 5), STREAM_SEND, 0},
        {position_at(1, 2, 5, 1, 5), text(1, 3, 1, 7, 5), STREAM_WAIT, 0},
        {position_at(1, 2, 5, 1, 5), text(2, 2, 2, 0, 5), STREAM_WAIT, 0},
        {position_at(1, 2, 5, 1, 5), text(1, 3, 2, 0, 5), STREAM_WAIT,
         0}, /* its start is missing */
        {position_at(2, 1, 0, 2, 0), text(1, 3, 1, 5, 5), STREAM_SKIP, 0}, /* a zombie's */
        {position_at(1, 3, 0, 1, 5), text(1, 4, 1, 5, 5), STREAM_SEND, 0}, /* after a tool delta */
        {position_at(1, 3, 0, 1, 5), text(1, 3, 1, 5, 5), STREAM_SKIP, 0},
        {position_at(0, 0, 0, 0, 0), text(1, 2, 1, 0, 5), STREAM_WAIT, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct stream_position position = cases[i].position;
        int64_t skip;

        if (stream_position_live(&position, &cases[i].live, &skip) != cases[i].verdict ||
            skip != cases[i].skip)
            fail_msg("case %zu", i);
    }
}

static void test_row_after_live_text_waits_for_the_row_of_that_text(void **state)
{
    struct stream_position position = position_at(1, 1, 0, 1, 0);
    struct stream_event live = text(1, 2, 1, 0, 5), late = other(1, 3, 1);
    struct stream_event row = text(1, 2, 1, 0, 8);
    int64_t skip;

    (void)state;
    assert_int_equal(stream_position_live(&position, &live, &skip), STREAM_SEND);
    assert_int_equal(stream_position_row(&position, &late, false, &skip), STREAM_WAIT);
    assert_int_equal(stream_position_row(&position, &row, false, &skip), STREAM_SEND);
    assert_int_equal(skip, 5);
    assert_int_equal(stream_position_row(&position, &late, false, &skip), STREAM_SEND);
}

static void test_lost_live_text_does_not_stop_the_superseding(void **state)
{
    struct stream_position position = position_at(1, 1, 0, 1, 0);
    struct stream_event live = text(1, 2, 1, 0, 5), closing = other(1, SEQ_SUPERSEDED, 1);
    int64_t skip;

    (void)state;
    assert_int_equal(stream_position_live(&position, &live, &skip), STREAM_SEND);
    assert_int_equal(stream_position_row(&position, &closing, false, &skip), STREAM_SEND);
}

static void test_forced_row_is_sent_over_a_hole(void **state)
{
    struct stream_position position = position_at(1, 1, 0, 1, 0);
    struct stream_event row = text(1, 3, 1, 20, 5);
    int64_t skip;

    (void)state;
    assert_int_equal(stream_position_row(&position, &row, false, &skip), STREAM_WAIT);
    assert_int_equal(stream_position_row(&position, &row, true, &skip), STREAM_SEND);
    assert_int_equal(skip, 0);
    assert_int_equal(position.text_end, 25);
}

static uint8_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return (uint8_t)(*random >> 24);
}

static void test_any_story_reaches_its_reader_whole_and_once(void **state)
{
    uint8_t choices[400];
    uint64_t random = 7; /* xorshift: the same stories every time */

    (void)state;
    for (int i = 0; i < 20000; i++) {
        for (size_t j = 0; j < sizeof(choices); j++)
            choices[j] = next_random(&random);
        story_play(choices, sizeof(choices));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_come_once_and_in_order),
        cmocka_unit_test(test_live_text_is_taken_where_it_continues),
        cmocka_unit_test(test_row_after_live_text_waits_for_the_row_of_that_text),
        cmocka_unit_test(test_lost_live_text_does_not_stop_the_superseding),
        cmocka_unit_test(test_forced_row_is_sent_over_a_hole),
        cmocka_unit_test(test_any_story_reaches_its_reader_whole_and_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
