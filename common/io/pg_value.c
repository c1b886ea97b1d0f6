/* SPDX-License-Identifier: Apache-2.0 */
/* Postgres values in binary: parameters and arrays out, result columns in. */
#include "common/io/pg_value.h"

#include <assert.h>
#include <endian.h>
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"

/* From pg_type.dat; they never change. */
enum {
    OID_BOOL = 16,
    OID_BYTEA = 17,
    OID_CHAR = 18,
    OID_NAME = 19,
    OID_INT8 = 20,
    OID_INT2 = 21,
    OID_INT4 = 23,
    OID_TEXT = 25,
    OID_JSON = 114,
    OID_UNKNOWN = 705,
    OID_BOOL_ARRAY = 1000,
    OID_BYTEA_ARRAY = 1001,
    OID_INT4_ARRAY = 1007,
    OID_TEXT_ARRAY = 1009,
    OID_INT8_ARRAY = 1016,
    OID_BPCHAR = 1042,
    OID_VARCHAR = 1043,
    OID_TIMESTAMP = 1114,
    OID_TIMESTAMPTZ = 1184,
    OID_TIMESTAMPTZ_ARRAY = 1185,
    OID_UUID = 2950,
    OID_UUID_ARRAY = 2951,
    OID_JSONB = 3802,
    OID_FIRST_USER = 16384, /* enums of our own are sent as their label */
};

enum {
    ARRAY_HEAD_SIZE = 12,      /* dimensions, has nulls, element type */
    ARRAY_DIMENSION_SIZE = 8,  /* length, lower bound */
    PARAMS_SIZE_MAX = 1 << 30, /* a message of the protocol cannot be larger */
};

/* Postgres counts microseconds from 2000-01-01. */
#define EPOCH_US (INT64_C(946684800) * US_PER_S)

/* OIDs of a type and of arrays of it. */
static const struct {
    unsigned int oid, array_oid;
} types[] = {
    [PG_BOOL] = {OID_BOOL, OID_BOOL_ARRAY},
    [PG_INT4] = {OID_INT4, OID_INT4_ARRAY},
    [PG_INT8] = {OID_INT8, OID_INT8_ARRAY},
    [PG_TEXT] = {OID_TEXT, OID_TEXT_ARRAY},
    [PG_BYTEA] = {OID_BYTEA, OID_BYTEA_ARRAY},
    [PG_UUID] = {OID_UUID, OID_UUID_ARRAY},
    [PG_TIME] = {OID_TIMESTAMPTZ, OID_TIMESTAMPTZ_ARRAY},
};

struct pg_value pg_null(enum pg_type type)
{
    struct pg_value value = {.type = type, .is_null = true};

    if (type == PG_ARRAY)
        value.array.type = PG_TEXT;
    return value;
}

struct pg_value pg_bool(bool value)
{
    return (struct pg_value){.type = PG_BOOL, .b = value};
}

struct pg_value pg_int4(int32_t value)
{
    return (struct pg_value){.type = PG_INT4, .i = value};
}

struct pg_value pg_int8(int64_t value)
{
    return (struct pg_value){.type = PG_INT8, .i = value};
}

struct pg_value pg_text(const char *text)
{
    return text ? pg_text_len(text, strlen(text)) : pg_null(PG_TEXT);
}

struct pg_value pg_text_len(const char *text, size_t len)
{
    if (!text)
        return pg_null(PG_TEXT);
    return (struct pg_value){.type = PG_TEXT, .bytes = {.data = text, .len = len}};
}

struct pg_value pg_bytea(const void *data, size_t len)
{
    if (!data)
        return pg_null(PG_BYTEA);
    return (struct pg_value){.type = PG_BYTEA, .bytes = {.data = data, .len = len}};
}

struct pg_value pg_uuid(struct id id)
{
    return (struct pg_value){.type = PG_UUID, .uuid = id};
}

struct pg_value pg_time(int64_t us)
{
    return (struct pg_value){.type = PG_TIME, .i = us};
}

struct pg_value pg_time_or_null(int64_t us)
{
    return us == 0 ? pg_null(PG_TIME) : pg_time(us);
}

struct pg_value pg_array(enum pg_type type, const struct pg_value *elements, size_t count)
{
    assert(type != PG_ARRAY);
    return (struct pg_value){.type = PG_ARRAY,
                             .array = {.type = type, .elements = elements, .count = count}};
}

static size_t array_size(const struct pg_value *value)
{
    size_t size = ARRAY_HEAD_SIZE;

    if (value->array.count > 0)
        size += ARRAY_DIMENSION_SIZE;
    for (size_t i = 0; i < value->array.count; i++)
        size += sizeof(uint32_t) + pg_value_size(&value->array.elements[i]);
    return size;
}

size_t pg_value_size(const struct pg_value *value)
{
    if (value->is_null)
        return 0;
    switch (value->type) {
    case PG_BOOL:
        return 1;
    case PG_INT4:
        return 4;
    case PG_INT8:
    case PG_TIME:
        return 8;
    case PG_UUID:
        return sizeof(value->uuid.bytes);
    case PG_TEXT:
    case PG_BYTEA:
        return value->bytes.len;
    case PG_ARRAY:
        return array_size(value);
    }
    return 0;
}

static char *put_u32(char *out, uint32_t number)
{
    number = htobe32(number);
    memcpy(out, &number, sizeof(number));
    return out + sizeof(number);
}

static char *put_i64(char *out, int64_t number)
{
    uint64_t wire = htobe64((uint64_t)number);

    memcpy(out, &wire, sizeof(wire));
    return out + sizeof(wire);
}

/* A value that is neither null nor an array. */
static char *put_scalar(char *out, const struct pg_value *value)
{
    switch (value->type) {
    case PG_BOOL:
        *out = value->b ? 1 : 0;
        return out + 1;
    case PG_INT4:
        return put_u32(out, (uint32_t)(int32_t)value->i);
    case PG_INT8:
        return put_i64(out, value->i);
    case PG_TIME:
        return put_i64(out, value->i - EPOCH_US);
    case PG_UUID:
        memcpy(out, value->uuid.bytes, sizeof(value->uuid.bytes));
        return out + sizeof(value->uuid.bytes);
    case PG_TEXT:
    case PG_BYTEA:
        if (value->bytes.len > 0)
            memcpy(out, value->bytes.data, value->bytes.len);
        return out + value->bytes.len;
    case PG_ARRAY:
        break;
    }
    assert(!"a scalar");
    return out;
}

static bool array_has_nulls(const struct pg_value *value)
{
    for (size_t i = 0; i < value->array.count; i++) {
        if (value->array.elements[i].is_null)
            return true;
    }
    return false;
}

static char *put_array(char *out, const struct pg_value *value)
{
    size_t count = value->array.count;

    out = put_u32(out, count > 0 ? 1 : 0);
    out = put_u32(out, array_has_nulls(value) ? 1 : 0);
    out = put_u32(out, types[value->array.type].oid);
    if (count > 0) {
        out = put_u32(out, (uint32_t)count);
        out = put_u32(out, 1);
    }
    for (size_t i = 0; i < count; i++) {
        const struct pg_value *element = &value->array.elements[i];

        assert(element->type == value->array.type);
        if (element->is_null) {
            out = put_u32(out, UINT32_MAX);
            continue;
        }
        out = put_u32(out, (uint32_t)pg_value_size(element));
        out = put_scalar(out, element);
    }
    return out;
}

static bool text_has_nul(const struct pg_value *value)
{
    if (value->is_null)
        return false;
    if (value->type == PG_TEXT)
        return value->bytes.len > 0 && memchr(value->bytes.data, 0, value->bytes.len) != NULL;
    if (value->type != PG_ARRAY || value->array.type != PG_TEXT)
        return false;
    for (size_t i = 0; i < value->array.count; i++) {
        if (text_has_nul(&value->array.elements[i]))
            return true;
    }
    return false;
}

static bool refuse(char sqlstate[PG_SQLSTATE_SIZE], const char *why)
{
    memcpy(sqlstate, why, PG_SQLSTATE_SIZE);
    return false;
}

/* Adds up the values' sizes (a byte more each, so that an empty one has an address of its own). */
static bool measure(const struct pg_value *values, size_t count, size_t *size,
                    char sqlstate[PG_SQLSTATE_SIZE], struct err *err)
{
    *size = 0;
    for (size_t i = 0; i < count; i++) {
        size_t more = pg_value_size(&values[i]) + 1;

        if (text_has_nul(&values[i])) {
            err_set(err, "parameter $%zu: a NUL byte inside text", i + 1);
            return refuse(sqlstate, "22021");
        }
        if (more > PARAMS_SIZE_MAX - *size) {
            err_set(err, "parameter $%zu: over %d bytes in one statement", i + 1, PARAMS_SIZE_MAX);
            return refuse(sqlstate, "54000");
        }
        *size += more;
    }
    return true;
}

bool pg_params_encode(struct pg_params *params, const struct pg_value *values, size_t count,
                      char sqlstate[PG_SQLSTATE_SIZE], struct err *err)
{
    size_t per_value = sizeof(char *) + sizeof(unsigned int) + 2 * sizeof(int);
    size_t size;
    char *memory;
    char *out;

    assert(count <= PG_PARAMS_MAX);
    *params = (struct pg_params){.count = (int)count};
    if (!measure(values, count, &size, sqlstate, err))
        return false;
    memory = malloc(count * per_value + size + 1);
    if (!memory) {
        err_set(err, "out of memory for %zu bytes of parameters", size);
        return refuse(sqlstate, "53200");
    }
    params->bytes = size;
    params->values = (const char **)(void *)memory;
    params->types = (unsigned int *)(void *)(params->values + count);
    params->lengths = (int *)(void *)(params->types + count);
    params->formats = params->lengths + count;
    out = (char *)(params->formats + count);
    for (size_t i = 0; i < count; i++) {
        const struct pg_value *value = &values[i];
        bool is_array = value->type == PG_ARRAY;
        char *start = out;

        params->types[i] = is_array ? types[value->array.type].array_oid : types[value->type].oid;
        params->formats[i] = 1;
        if (!value->is_null)
            out = is_array ? put_array(out, value) : put_scalar(out, value);
        params->values[i] = value->is_null ? NULL : start;
        params->lengths[i] = (int)(out - start);
        out++;
    }
    return true;
}

void pg_params_release(struct pg_params *params)
{
    free((void *)params->values);
    *params = (struct pg_params){.count = 0};
}

bool pg_sqlstate_is_loss(const char *sqlstate)
{
    return strncmp(sqlstate, "08", 2) == 0 || strncmp(sqlstate, "57P", 3) == 0 ||
           strcmp(sqlstate, "53300") == 0;
}

int pg_rows(const struct pg_result *result)
{
    return PQntuples(result);
}

/* The cell's bytes and type; NULL when it is null. */
static const char *cell(const struct pg_result *result, int row, int column, Oid *type, size_t *len)
{
    assert(row >= 0 && row < PQntuples(result));
    assert(column >= 0 && column < PQnfields(result));
    assert(PQfformat(result, column) == 1);
    *type = PQftype(result, column);
    *len = (size_t)PQgetlength(result, row, column);
    return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

bool pg_is_null(const struct pg_result *result, int row, int column)
{
    Oid type;
    size_t len;

    return cell(result, row, column, &type, &len) == NULL;
}

bool pg_get_bool(const struct pg_result *result, int row, int column)
{
    Oid type;
    size_t len;
    const char *data = cell(result, row, column, &type, &len);

    assert(type == OID_BOOL);
    return data && *data != 0;
}

static uint64_t get_big_endian(const char *data, size_t len)
{
    uint64_t number = 0;

    for (size_t i = 0; i < len; i++)
        number = number << 8 | (unsigned char)data[i];
    return number;
}

int64_t pg_get_int(const struct pg_result *result, int row, int column)
{
    Oid type;
    size_t len;
    const char *data = cell(result, row, column, &type, &len);

    assert(type == OID_INT2 || type == OID_INT4 || type == OID_INT8);
    if (!data)
        return 0;
    if (type == OID_INT2)
        return (int16_t)get_big_endian(data, 2);
    if (type == OID_INT4)
        return (int32_t)get_big_endian(data, 4);
    return (int64_t)get_big_endian(data, 8);
}

int64_t pg_get_time(const struct pg_result *result, int row, int column)
{
    Oid type;
    size_t len;
    const char *data = cell(result, row, column, &type, &len);
    int64_t us;

    assert(type == OID_TIMESTAMPTZ || type == OID_TIMESTAMP);
    if (!data)
        return 0;
    us = (int64_t)get_big_endian(data, 8);
    return us > INT64_MAX - EPOCH_US ? INT64_MAX : us + EPOCH_US; /* infinity stays it */
}

struct id pg_get_uuid(const struct pg_result *result, int row, int column)
{
    struct id id = {{0}};
    Oid type;
    size_t len;
    const char *data = cell(result, row, column, &type, &len);

    assert(type == OID_UUID);
    if (data)
        memcpy(id.bytes, data, sizeof(id.bytes));
    return id;
}

static bool is_text_like(Oid type)
{
    static const Oid known[] = {OID_TEXT, OID_VARCHAR, OID_JSON, OID_JSONB,  OID_BYTEA,
                                OID_NAME, OID_BPCHAR,  OID_CHAR, OID_UNKNOWN};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (type == known[i])
            return true;
    }
    return type >= OID_FIRST_USER;
}

const char *pg_get_text(const struct pg_result *result, int row, int column, size_t *len)
{
    Oid type;
    size_t cell_len;
    const char *data = cell(result, row, column, &type, &cell_len);

    assert(is_text_like(type));
    if (data && type == OID_JSONB && cell_len > 0) { /* a version byte comes first */
        data++;
        cell_len--;
    }
    if (len)
        *len = data ? cell_len : 0;
    return data;
}

void pg_result_free(struct pg_result *result)
{
    PQclear(result);
}
