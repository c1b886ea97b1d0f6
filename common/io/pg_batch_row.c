/* SPDX-License-Identifier: Apache-2.0 */
/* One row on its way through pg_batch: copied values, sort key, and who wants to know. */
#include "common/io/pg_batch_row.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "common/io/pg_value.h"

static bool has_bytes(const struct pg_value *value)
{
    return !value->is_null && (value->type == PG_TEXT || value->type == PG_BYTEA);
}

size_t pg_batch_values_room(const struct pg_value *values, size_t count)
{
    size_t size = 0;

    for (size_t i = 0; i < count; i++) {
        assert(values[i].type != PG_ARRAY);
        if (has_bytes(&values[i]))
            size += values[i].bytes.len;
    }
    return size;
}

void pg_batch_values_copy(struct pg_value *to, const struct pg_value *values, size_t count,
                          char *room)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = values[i];
        if (!has_bytes(&values[i]))
            continue;
        if (values[i].bytes.len > 0)
            memcpy(room, values[i].bytes.data, values[i].bytes.len);
        to[i].bytes.data = room;
        room += values[i].bytes.len;
    }
}

/* A marker for null, the value in an order that memcmp sees, and for text an end (it holds no NUL,
 * or the server would refuse it). */
static size_t key_size(const struct pg_value *values, int count)
{
    size_t size = 0;

    for (int i = 0; i < count; i++)
        size += 2 + (has_bytes(&values[i]) ? values[i].bytes.len : sizeof(struct id));
    return size;
}

static unsigned char *key_put(unsigned char *out, const struct pg_value *value)
{
    uint64_t number;

    *out++ = value->is_null ? 0 : 1;
    if (value->is_null)
        return out;
    switch (value->type) {
    case PG_UUID:
        memcpy(out, value->uuid.bytes, sizeof(value->uuid.bytes));
        return out + sizeof(value->uuid.bytes);
    case PG_TEXT:
    case PG_BYTEA:
        if (value->bytes.len > 0)
            memcpy(out, value->bytes.data, value->bytes.len);
        out += value->bytes.len;
        *out++ = 0;
        return out;
    case PG_BOOL:
        *out++ = value->b;
        return out;
    default: /* the sign bit turned round: negative numbers come first */
        number = htobe64((uint64_t)value->i ^ UINT64_C(1) << 63);
        memcpy(out, &number, sizeof(number));
        return out + sizeof(number);
    }
}

struct pg_batch_row *pg_batch_row_new(const struct pg_batch_kind *kind,
                                      const struct pg_value *values, pg_batch_done_fn *done,
                                      void *arg)
{
    size_t count = (size_t)kind->column_count;
    size_t room = pg_batch_values_room(values, count);
    size_t key_room = key_size(values, kind->key_columns);
    struct pg_batch_row *row = malloc(sizeof(*row) + count * sizeof(values[0]) + room + key_room);
    unsigned char *key;

    if (!row)
        return NULL;
    *row = (struct pg_batch_row){.done = done, .arg = arg, .answer = -1};
    row->values = (struct pg_value *)(void *)(row + 1);
    pg_batch_values_copy(row->values, values, count, (char *)(row->values + count));
    key = (unsigned char *)(row->values + count) + room;
    row->key = key;
    for (int i = 0; i < kind->key_columns; i++)
        key = key_put(key, &values[i]);
    row->key_len = (size_t)(key - row->key);
    for (size_t i = 0; i < count; i++) {
        assert(values[i].type == kind->columns[i]);
        row->bytes += sizeof(uint32_t) + pg_value_size(&values[i]);
    }
    return row;
}

int pg_batch_row_compare(const void *a, const void *b)
{
    const struct pg_batch_row *left = *(const struct pg_batch_row *const *)a;
    const struct pg_batch_row *right = *(const struct pg_batch_row *const *)b;
    size_t len = left->key_len < right->key_len ? left->key_len : right->key_len;
    int order = memcmp(left->key, right->key, len);

    if (order == 0 && left->key_len != right->key_len)
        order = left->key_len < right->key_len ? -1 : 1;
    if (order == 0)
        order = left->number < right->number ? -1 : left->number > right->number;
    return order;
}
