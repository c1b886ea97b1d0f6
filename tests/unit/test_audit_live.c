/* SPDX-License-Identifier: Apache-2.0 */
/* The audit against a real Postgres: what its rows hold, and that no tampering goes unseen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/str.h"
#include "common/model/audit_store.h"
#include "common/model/tenant_store.h"
#include "tests/unit/scheduler_fixture.h"

#define WHO                                                               \
    "{\"actor\":\"key:abc\",\"key_id\":\"abc\",\"address\":\"10.1.2.3\"," \
    "\"request_id\":\"req-1\",\"data_class\":\"personal\",\"purpose\":\"support\"}"

enum { ROWS = 12, SEALED = 8 }; /* of set_up: rows, and those under a checkpoint */

static uint8_t key[CRYPTO_KEY_SIZE] = {42};

static void append(int count)
{
    sql_run("SELECT audit_append('key:' || n, 'tenant.change', 'tenant:t' || n,"
            " '{\"before\":{\"weight\":1},\"after\":{\"weight\":2},\"n\":' || n || '}')"
            " FROM generate_series(1, %d) AS n",
            count);
}

static struct audit_verifier verify_with(const struct audit_checkpoint *trusted)
{
    struct audit_verifier verifier;
    struct err err;

    if (!audit_verify_database(fixture_url(), key, trusted, &verifier, &err))
        fail_msg("%s", err.message);
    return verifier;
}

static struct audit_checkpoint make_checkpoint(const uint8_t *with)
{
    struct audit_verifier verifier = verify_with(NULL);
    struct audit_checkpoint checkpoint = {.seq = verifier.seq, .at_us = 1700000000000000};

    assert_null(verifier.fault);
    memcpy(checkpoint.hash, verifier.hash, SHA256_SIZE);
    audit_checkpoint_sign(&checkpoint, with);
    return checkpoint;
}

static void store_checkpoint(const struct audit_checkpoint *checkpoint)
{
    char hash[2 * SHA256_SIZE + 1], mac[2 * SHA256_SIZE + 1];

    str_hex(checkpoint->hash, SHA256_SIZE, hash);
    str_hex(checkpoint->mac, SHA256_SIZE, mac);
    sql_run("INSERT INTO audit_checkpoints VALUES (%lld, '\\x%s',"
            " timestamptz 'epoch' + %lld * interval '1 us', '\\x%s')",
            (long long)checkpoint->seq, hash, (long long)checkpoint->at_us, mac);
}

static void empty(void)
{
    sql_run("TRUNCATE audit, audit_checkpoints, api_keys CASCADE");
    sql_run("DELETE FROM audit_head; INSERT INTO audit_head (seq, hash)"
            " VALUES (0, decode(repeat('00', 32), 'hex'))");
}

static int set_up(void **state)
{
    struct audit_checkpoint checkpoint;

    empty();
    fixture_reset(state);
    append(SEALED);
    checkpoint = make_checkpoint(key);
    store_checkpoint(&checkpoint);
    append(ROWS - SEALED);
    return 0;
}

static void assert_bad(int64_t row, const char *fault)
{
    struct audit_verifier verifier = verify_with(NULL);

    assert_int_equal(verifier.first_bad, row);
    assert_string_equal(verifier.fault, fault);
}

static void assert_good(int64_t rows)
{
    struct audit_verifier verifier = verify_with(NULL);

    if (verifier.fault)
        fail_msg("row %lld: %s", (long long)verifier.first_bad, verifier.fault);
    assert_int_equal(verifier.rows, rows);
}

/* What somebody does who has all of the database but not the data key: makes the chain and the
 * head right again from a row on. */
static void rechain(int from)
{
    sql_run("DO $$ DECLARE r audit; p bytea; BEGIN"
            " SELECT hash INTO p FROM audit WHERE seq = %d - 1;"
            " FOR r IN SELECT * FROM audit WHERE seq >= %d ORDER BY seq LOOP"
            "  UPDATE audit SET prev_hash = p, hash = audit_hash_fields(p, '2', seq::text,"
            "   (extract(epoch FROM at) * 1000000)::int8::text, actor, action, object, detail,"
            "   key_id, address, request_id, before, after, data_class, purpose)"
            "  WHERE seq = r.seq RETURNING hash INTO p;"
            " END LOOP;"
            " UPDATE audit_head SET hash = p, seq = (SELECT max(seq) FROM audit);"
            " END $$",
            from, from);
}

/* --- what a row holds ------------------------------------------------------------------------- */

static void on_done(const struct admin_reply *reply, void *arg)
{
    assert_int_equal(reply->outcome, ADMIN_DONE);
    *(bool *)arg = true;
}

static void test_row_tells_who_from_where_what_before_and_after(void **state)
{
    bool is_disabled = true, is_done = false;

    (void)state;
    assert_true(tenant_change(fixture_pg[0], "acme",
                              &(struct tenant_change){.is_disabled = &is_disabled}, WHO, on_done,
                              &is_done));
    await_flag(&is_done);
    sql_assert_text("key:abc abc 10.1.2.3 req-1 personal support tenant.change tenant:acme false "
                    "true {}",
                    "SELECT concat_ws(' ', actor, key_id, address, request_id, data_class,"
                    " purpose, action, object, before::json->>'disabled',"
                    " after::json->>'disabled', detail) FROM audit ORDER BY seq DESC LIMIT 1");
    assert_good(ROWS + 1);
}

static void test_row_of_a_plain_actor_leaves_the_rest_empty(void **state)
{
    (void)state;
    sql_run("SELECT audit_append('nightshift-migrate', 'x', 'y', '{\"n\":1}')");
    sql_assert_text("nightshift-migrate {\"n\":1} 0",
                    "SELECT concat_ws(' ', actor, detail, num_nonnulls(key_id, address,"
                    " request_id, before, after, data_class, purpose))"
                    " FROM audit ORDER BY seq DESC LIMIT 1");
    assert_good(ROWS + 1);
}

static void test_change_that_is_rolled_back_leaves_no_row(void **state)
{
    (void)state;
    sql_run("BEGIN; SELECT audit_append('a', 'b', 'c', '{}'); ROLLBACK");
    assert_good(ROWS);
    append(1);
    assert_good(ROWS + 1);
}

static void test_rows_from_before_the_new_columns_still_verify(void **state)
{
    (void)state;
    empty();
    sql_run("INSERT INTO audit (seq, at, actor, action, object, detail, prev_hash, hash)"
            " SELECT 1, t, 'a', 'b', 'c', '{}', z, audit_hash(z, '1',"
            "  (extract(epoch FROM t) * 1000000)::int8::text, 'a', 'b', 'c', '{}')"
            " FROM (SELECT now() AS t, decode(repeat('00', 32), 'hex') AS z) AS v");
    sql_run("UPDATE audit_head SET seq = 1, hash = (SELECT hash FROM audit)");
    append(3);
    assert_good(4);
    sql_run("UPDATE audit SET before = '{}' WHERE seq = 1");
    assert_bad(1, "its version is not one it can have");
}

/* --- tampering -------------------------------------------------------------------------------- */

static void test_edit_of_any_column_is_found(void **state)
{
    static const char *const edits[] = {
        "actor = 'key:other'",
        "action = 'x'",
        "object = 'tenant:other'",
        "detail = '{}'",
        "before = NULL",
        "after = '{\"weight\":3}'",
        "key_id = 'abc'",
        "address = '127.0.0.1'",
        "request_id = 'r'",
        "data_class = 'x'",
        "purpose = 'x'",
        "at = at + interval '1 us'",
        "hash = sha256('x')",
        "hash = ''",
        "prev_hash = sha256('x')",
        "version = 1",
        "version = 3",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
        set_up(state);
        sql_run("UPDATE audit SET %s WHERE seq = 5", edits[i]);
        assert_int_equal(verify_with(NULL).first_bad, 5);
    }
}

static void test_moved_text_between_fields_is_found(void **state)
{
    (void)state;
    sql_run("UPDATE audit SET actor = 'key:5t', action = 'enant.change' WHERE seq = 5");
    assert_bad(5, "its hash is not that of its fields");
}

static void test_deleted_row_is_found(void **state)
{
    (void)state;
    sql_run("DELETE FROM audit WHERE seq = 6");
    assert_bad(6, "it is missing");
    sql_run("UPDATE audit SET seq = seq - 1 WHERE seq > 6");
    assert_bad(6, "it does not follow on the row before");
}

static void test_first_row_deleted_is_found(void **state)
{
    (void)state;
    sql_run("DELETE FROM audit WHERE seq = 1");
    assert_bad(1, "it is missing");
}

static void test_swapped_rows_are_found(void **state)
{
    (void)state;
    sql_run("UPDATE audit SET seq = -3 WHERE seq = 3; UPDATE audit SET seq = 3 WHERE seq = 7;"
            "UPDATE audit SET seq = 7 WHERE seq = -3");
    assert_bad(3, "it does not follow on the row before");
}

static void test_inserted_row_is_found(void **state)
{
    (void)state;
    sql_run("UPDATE audit SET seq = -seq WHERE seq > 4;"
            "UPDATE audit SET seq = -seq + 1 WHERE seq < 0;"
            "INSERT INTO audit SELECT 5, at, actor, action, object, detail, prev_hash, hash"
            " FROM audit WHERE seq = 4");
    assert_int_equal(verify_with(NULL).first_bad, 5);
}

static void test_row_put_behind_the_head_is_found(void **state)
{
    (void)state;
    sql_run("INSERT INTO audit (seq, at, version, actor, action, object, detail, prev_hash, hash)"
            " SELECT seq + 1, at, 2, 'a', 'b', 'c', '{}', hash, audit_hash_fields(hash, '2',"
            "  (seq + 1)::text, (extract(epoch FROM at) * 1000000)::int8::text, 'a', 'b', 'c',"
            "  '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
            " FROM audit ORDER BY seq DESC LIMIT 1");
    assert_bad(ROWS + 1, "it stands behind the head");
}

static void test_cut_tail_is_found_by_the_head(void **state)
{
    (void)state;
    sql_run("DELETE FROM audit WHERE seq > 10");
    assert_bad(11, "it is missing: the head is further on");
    sql_run("DELETE FROM audit");
    assert_bad(1, "it is missing: the head is further on");
    sql_run("DELETE FROM audit_head");
    assert_bad(1, "the row of the head is gone");
}

static void test_tail_cut_with_its_head_is_found_by_a_checkpoint(void **state)
{
    (void)state;
    sql_run("DELETE FROM audit WHERE seq > 6;"
            "UPDATE audit_head SET seq = 6, hash = (SELECT hash FROM audit WHERE seq = 6)");
    assert_bad(7, "it is missing: a checkpoint is further on");
}

static void test_rewritten_chain_is_found_by_a_checkpoint(void **state)
{
    (void)state;
    sql_run("UPDATE audit SET actor = 'key:innocent' WHERE seq = 5");
    rechain(5);
    assert_bad(SEALED, "a checkpoint holds another hash of it");
}

static void test_forged_checkpoint_is_found(void **state)
{
    uint8_t other[CRYPTO_KEY_SIZE] = {43};
    struct audit_checkpoint forged;

    (void)state;
    sql_run("DELETE FROM audit_checkpoints; UPDATE audit SET actor = 'me' WHERE seq = 5");
    rechain(5);
    assert_good(ROWS);
    forged = make_checkpoint(other);
    store_checkpoint(&forged);
    assert_bad(ROWS, "its checkpoint is not signed with our key");
}

static void test_checkpoint_out_of_the_log_outlives_the_database(void **state)
{
    struct audit_checkpoint kept = make_checkpoint(key), read;
    char text[AUDIT_CHECKPOINT_TEXT_SIZE];

    (void)state;
    audit_checkpoint_format(&kept, text);
    assert_true(audit_checkpoint_parse(text, &read));
    assert_memory_equal(&kept, &read, sizeof(kept));
    assert_null(verify_with(&read).fault);
    sql_run("DELETE FROM audit_checkpoints; DELETE FROM audit WHERE seq > 6;"
            "UPDATE audit_head SET seq = 6, hash = (SELECT hash FROM audit WHERE seq = 6)");
    assert_good(6);
    assert_int_equal(verify_with(&read).first_bad, 7);
    append(ROWS - 6); /* as many rows as there were, but others */
    assert_int_equal(verify_with(&read).first_bad, ROWS);
}

static void test_checkpoint_text_has_a_rule(void **state)
{
    static const char *const bad[] = {"", ".", "1.2.3.4", "1.2", "x.1.00.00", "1...", "1.2..."};
    struct audit_checkpoint checkpoint = make_checkpoint(key);
    char text[AUDIT_CHECKPOINT_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(audit_checkpoint_parse(bad[i], &checkpoint));
    checkpoint = make_checkpoint(key);
    audit_checkpoint_format(&checkpoint, text);
    text[strlen(text) - 1] = '\0';
    assert_false(audit_checkpoint_parse(text, &checkpoint));
}

/* 64 MiB of detail are more than a row is hashed with: no word on the row, good or bad. */
static void test_row_that_cannot_be_hashed_is_no_tampering(void **state)
{
    const size_t len = 64UL * 1024 * 1024;
    uint8_t hash[SHA256_SIZE] = {0};
    struct audit_row row = {.seq = 1,
                            .version = 2,
                            .actor = "a",
                            .action = "b",
                            .object = "c",
                            .prev_hash = hash,
                            .hash = hash};
    struct audit_verifier verifier;
    char *detail = malloc(len + 1);

    (void)state;
    assert_non_null(detail);
    memset(detail, ' ', len);
    detail[len] = '\0';
    row.detail = detail;
    assert_false(audit_row_hash(&row, hash, hash));
    audit_verify_init(&verifier, NULL, NULL);
    assert_false(audit_verify_row(&verifier, &row, NULL));
    assert_true(verifier.has_failed);
    assert_false(audit_verify_end(&verifier, 1, hash, 0));
    assert_null(verifier.fault);
    assert_int_equal(verifier.first_bad, 0);
    free(detail);
}

static void test_change_is_refused_when_the_head_is_gone(void **state)
{
    (void)state;
    sql_run("DELETE FROM audit_head");
    sql_run("DO $$ BEGIN PERFORM audit_append('a', 'b', 'c', '{}'); RAISE 'appended';"
            " EXCEPTION WHEN SQLSTATE 'NS002' THEN NULL; END $$");
}

static void test_more_rows_than_a_page_verify(void **state)
{
    (void)state;
    append(2 * AUDIT_PAGE_MAX - ROWS); /* the last page is full, and an empty one follows */
    assert_good(2 * AUDIT_PAGE_MAX);
    append(1);
    assert_good(2 * AUDIT_PAGE_MAX + 1);
    sql_run("UPDATE audit SET actor = 'x' WHERE seq = %d", AUDIT_PAGE_MAX + 1);
    assert_int_equal(verify_with(NULL).first_bad, AUDIT_PAGE_MAX + 1);
}

/* --- the scheduler's task --------------------------------------------------------------------- */

static struct fixture_scheduler *make_scheduler(void)
{
    static char data_key[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    static const uint8_t zeros[CRYPTO_KEY_SIZE];
    struct fixture_scheduler *one = fixture_scheduler_new("one");

    one->settings.webhooks.data_key = data_key;
    audit_key_derive(zeros, key);
    empty();
    fixture_lead(one);
    return one;
}

static int64_t checkpoints(void)
{
    return sql_number("SELECT count(*) FROM audit_checkpoints");
}

static void test_scheduler_seals_what_was_added(void **state)
{
    struct fixture_scheduler *one = make_scheduler();

    (void)state;
    assert_true(fixture_pass(one, "audit"));
    assert_int_equal(checkpoints(), 0); /* nothing to seal */
    append(3);
    assert_true(fixture_pass(one, "audit"));
    assert_true(fixture_pass(one, "audit"));
    assert_int_equal(checkpoints(), 1);
    append(2);
    assert_true(fixture_pass(one, "audit"));
    assert_int_equal(sql_number("SELECT max(seq) FROM audit_checkpoints"), 5);
    assert_int_equal(verify_with(NULL).checkpoints, 2);
    assert_good(5);
    fixture_scheduler_free(one);
}

static void test_scheduler_seals_nothing_that_is_broken(void **state)
{
    struct fixture_scheduler *one = make_scheduler();

    (void)state;
    append(3);
    assert_true(fixture_pass(one, "audit"));
    append(3);
    sql_run("UPDATE audit SET actor = 'x' WHERE seq = 5");
    assert_true(fixture_pass(one, "audit"));
    assert_int_equal(checkpoints(), 1);
    sql_run("DELETE FROM audit WHERE seq > 2; DELETE FROM audit_checkpoints;"
            "UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit WHERE seq = 2)");
    assert_true(fixture_pass(one, "audit")); /* it remembers its own */
    assert_int_equal(checkpoints(), 0);
    fixture_scheduler_free(one);
}

int main(void)
{
#define LIVE(test) cmocka_unit_test_setup(test, set_up)
    const struct CMUnitTest tests[] = {
        LIVE(test_row_tells_who_from_where_what_before_and_after),
        LIVE(test_row_of_a_plain_actor_leaves_the_rest_empty),
        LIVE(test_change_that_is_rolled_back_leaves_no_row),
        LIVE(test_rows_from_before_the_new_columns_still_verify),
        LIVE(test_edit_of_any_column_is_found),
        LIVE(test_moved_text_between_fields_is_found),
        LIVE(test_deleted_row_is_found),
        LIVE(test_first_row_deleted_is_found),
        LIVE(test_swapped_rows_are_found),
        LIVE(test_inserted_row_is_found),
        LIVE(test_row_put_behind_the_head_is_found),
        LIVE(test_cut_tail_is_found_by_the_head),
        LIVE(test_tail_cut_with_its_head_is_found_by_a_checkpoint),
        LIVE(test_rewritten_chain_is_found_by_a_checkpoint),
        LIVE(test_forged_checkpoint_is_found),
        LIVE(test_checkpoint_out_of_the_log_outlives_the_database),
        LIVE(test_checkpoint_text_has_a_rule),
        LIVE(test_row_that_cannot_be_hashed_is_no_tampering),
        LIVE(test_change_is_refused_when_the_head_is_gone),
        LIVE(test_more_rows_than_a_page_verify),
        cmocka_unit_test(test_scheduler_seals_what_was_added),
        cmocka_unit_test(test_scheduler_seals_nothing_that_is_broken),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
