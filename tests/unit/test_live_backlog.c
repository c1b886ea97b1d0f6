/* SPDX-License-Identifier: Apache-2.0 */
/* Live text that waits: kept in order, bounded, and replaced by a chunk that is told again. */
#include "producer/live_backlog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void add(struct live_backlog *backlog, int seq, int64_t offset, const char *text)
{
    struct live_message message = {
        .kind = LIVE_DELTA,
        .run = 1,
        .seq = seq,
        .attempt = 1,
        .offset = offset,
        .text = text,
        .len = strlen(text),
    };

    live_backlog_add(backlog, &message);
}

static void assert_next(struct live_backlog *backlog, int seq, int64_t offset, const char *text)
{
    struct live_message message;

    assert_true(live_backlog_first(backlog, &message));
    assert_int_equal(message.seq, seq);
    assert_int_equal(message.offset, offset);
    assert_int_equal(message.len, strlen(text));
    assert_memory_equal(message.text, text, message.len);
    live_backlog_drop_first(backlog);
}

static void test_messages_wait_in_order(void **state)
{
    struct live_backlog backlog = {0};
    struct live_message message;

    (void)state;
    add(&backlog, 2, 0, "a");
    add(&backlog, 2, 1, "b");
    add(&backlog, 3, 2, "c");
    assert_next(&backlog, 2, 0, "a");
    assert_next(&backlog, 2, 1, "b");
    assert_next(&backlog, 3, 2, "c");
    assert_false(live_backlog_first(&backlog, &message));
    assert_int_equal(backlog.bytes, 0);
}

/* A piece from the middle must not keep back the whole chunk that comes after it. */
static void test_a_chunk_told_again_replaces_its_pieces(void **state)
{
    struct live_backlog backlog = {0};

    (void)state;
    add(&backlog, 2, 5, "f");
    add(&backlog, 2, 6, "g");
    add(&backlog, 2, 0, "abcdefg");
    add(&backlog, 2, 7, "h");
    assert_next(&backlog, 2, 0, "abcdefg");
    assert_next(&backlog, 2, 7, "h");
    assert_null(backlog.first);
}

static void test_another_chunk_replaces_nothing(void **state)
{
    struct live_backlog backlog = {0};

    (void)state;
    add(&backlog, 2, 5, "f");
    add(&backlog, 3, 5, "x");
    assert_next(&backlog, 2, 5, "f");
    assert_next(&backlog, 3, 5, "x");
}

static void test_over_its_limit_everything_is_left_to_postgres(void **state)
{
    static char large[LIVE_BACKLOG_BYTES / 2 + 1];
    struct live_backlog backlog = {0};

    (void)state;
    memset(large, 'x', sizeof(large) - 1);
    add(&backlog, 2, 0, large);
    assert_non_null(backlog.first);
    add(&backlog, 2, sizeof(large), large);
    assert_null(backlog.first);
    assert_int_equal(backlog.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_wait_in_order),
        cmocka_unit_test(test_a_chunk_told_again_replaces_its_pieces),
        cmocka_unit_test(test_another_chunk_replaces_nothing),
        cmocka_unit_test(test_over_its_limit_everything_is_left_to_postgres),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
