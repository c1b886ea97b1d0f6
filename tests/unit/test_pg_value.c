/* SPDX-License-Identifier: Apache-2.0 */
/* Binary encoding of parameters, byte for byte, and which errors mean a lost server. */
#include "common/io/pg_value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/base/clock.h"

static void assert_encoded(struct pg_value value, unsigned int type, const char *bytes, int len)
{
    char sqlstate[PG_SQLSTATE_SIZE];
    struct pg_params params;

    assert_true(pg_params_encode(&params, &value, 1, sqlstate, NULL));
    assert_int_equal(params.count, 1);
    assert_int_equal(params.types[0], type);
    assert_int_equal(params.formats[0], 1);
    assert_int_equal(params.lengths[0], len);
    if (bytes)
        assert_memory_equal(params.values[0], bytes, (size_t)len);
    else
        assert_null(params.values[0]);
    pg_params_release(&params);
}

static void test_scalars_are_big_endian_with_their_oid(void **state)
{
    struct id id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

    (void)state;
    assert_encoded(pg_bool(true), 16, "\1", 1);
    assert_encoded(pg_bool(false), 16, "\0", 1);
    assert_encoded(pg_int4(-2), 23, "\xff\xff\xff\xfe", 4);
    assert_encoded(pg_int8(INT64_C(0x0102030405060708)), 20, "\1\2\3\4\5\6\7\10", 8);
    assert_encoded(pg_text("ab"), 25, "ab", 2);
    assert_encoded(pg_text(""), 25, "", 0);
    assert_encoded(pg_text_len("abc", 2), 25, "ab", 2);
    assert_encoded(pg_bytea("a\0b", 3), 17, "a\0b", 3);
    assert_encoded(pg_uuid(id), 2950, (const char *)id.bytes, 16);
}

static void test_time_counts_from_the_year_2000(void **state)
{
    (void)state;
    assert_encoded(pg_time(INT64_C(946684800) * US_PER_S), 1184, "\0\0\0\0\0\0\0\0", 8);
    assert_encoded(pg_time(INT64_C(946684800) * US_PER_S + 1), 1184, "\0\0\0\0\0\0\0\1", 8);
    assert_encoded(pg_time_or_null(0), 1184, NULL, 0);
}

static void test_null_keeps_its_type(void **state)
{
    (void)state;
    assert_encoded(pg_null(PG_INT4), 23, NULL, 0);
    assert_encoded(pg_text(NULL), 25, NULL, 0);
    assert_encoded(pg_bytea(NULL, 0), 17, NULL, 0);
    assert_encoded(pg_null(PG_ARRAY), 1009, NULL, 0);
}

static void test_array_has_head_dimension_and_elements(void **state)
{
    struct pg_value numbers[] = {pg_int4(1), pg_null(PG_INT4)};
    struct pg_value texts[] = {pg_text("a"), pg_text("")};

    (void)state;
    assert_encoded(pg_array(PG_INT4, numbers, 2), 1007,
                   "\0\0\0\1\0\0\0\1\0\0\0\x17\0\0\0\2\0\0\0\1\0\0\0\4\0\0\0\1\xff\xff\xff\xff",
                   32);
    assert_encoded(pg_array(PG_TEXT, texts, 2), 1009,
                   "\0\0\0\1\0\0\0\0\0\0\0\x19\0\0\0\2\0\0\0\1\0\0\0\1a\0\0\0\0", 29);
    assert_encoded(pg_array(PG_UUID, NULL, 0), 2951, "\0\0\0\0\0\0\0\0\0\0\x0b\x86", 12);
    assert_encoded(pg_array(PG_BOOL, NULL, 0), 1000, "\0\0\0\0\0\0\0\0\0\0\0\x10", 12);
    assert_encoded(pg_array(PG_INT8, NULL, 0), 1016, "\0\0\0\0\0\0\0\0\0\0\0\x14", 12);
    assert_encoded(pg_array(PG_BYTEA, NULL, 0), 1001, "\0\0\0\0\0\0\0\0\0\0\0\x11", 12);
    assert_encoded(pg_array(PG_TIME, NULL, 0), 1185, "\0\0\0\0\0\0\0\0\0\0\4\xa0", 12);
}

static void test_several_values_share_a_block_without_overlap(void **state)
{
    struct pg_value values[] = {pg_text("first"), pg_null(PG_TEXT), pg_text(""), pg_int4(7)};
    char sqlstate[PG_SQLSTATE_SIZE];
    struct pg_params params;

    (void)state;
    assert_true(pg_params_encode(&params, values, 4, sqlstate, NULL));
    assert_memory_equal(params.values[0], "first", 5);
    assert_null(params.values[1]);
    assert_non_null(params.values[2]); /* empty is not null */
    assert_int_equal(params.lengths[2], 0);
    assert_memory_equal(params.values[3], "\0\0\0\7", 4);
    pg_params_release(&params);
}

static void test_nul_inside_text_is_refused(void **state)
{
    struct pg_value elements[] = {pg_text("fine"), pg_text_len("a\0b", 3)};
    struct pg_value cases[] = {pg_text_len("\0", 1), pg_array(PG_TEXT, elements, 2)};
    char sqlstate[PG_SQLSTATE_SIZE];
    struct pg_params params;
    struct err err;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_false(pg_params_encode(&params, &cases[i], 1, sqlstate, &err));
        assert_string_equal(sqlstate, "22021");
        assert_string_equal(err.message, "parameter $1: a NUL byte inside text");
    }
}

static void test_too_large_is_refused_before_memory_is_asked_for(void **state)
{
    struct pg_value values[] = {pg_bytea("x", 800u << 20), pg_bytea("x", 800u << 20)};
    char sqlstate[PG_SQLSTATE_SIZE];
    struct pg_params params;

    (void)state;
    assert_false(pg_params_encode(&params, values, 2, sqlstate, NULL));
    assert_string_equal(sqlstate, "54000");
}

static void test_loss_is_told_from_refusal(void **state)
{
    static const struct {
        const char *sqlstate;
        bool is_loss;
    } cases[] = {
        {"57P01", true},  {"57P03", true},  {"08006", true},  {"53300", true},  {"57014", false},
        {"23505", false}, {"40P01", false}, {"55P03", false}, {"53100", false}, {"", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(pg_sqlstate_is_loss(cases[i].sqlstate), cases[i].is_loss);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars_are_big_endian_with_their_oid),
        cmocka_unit_test(test_time_counts_from_the_year_2000),
        cmocka_unit_test(test_null_keeps_its_type),
        cmocka_unit_test(test_array_has_head_dimension_and_elements),
        cmocka_unit_test(test_several_values_share_a_block_without_overlap),
        cmocka_unit_test(test_nul_inside_text_is_refused),
        cmocka_unit_test(test_too_large_is_refused_before_memory_is_asked_for),
        cmocka_unit_test(test_loss_is_told_from_refusal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
