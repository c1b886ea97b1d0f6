/* SPDX-License-Identifier: Apache-2.0 */
/* JSON lists and objects as tables, records and CSV, by a description of their columns. */
#ifndef PRODUCER_CLI_LISTING_H
#define PRODUCER_CLI_LISTING_H

#include <jansson.h>

#include "common/base/buf.h"
#include "producer/cli/api.h"
#include "producer/cli/cli.h"

enum field_kind {
    FIELD_TEXT, /* also arrays of strings, joined by commas */
    FIELD_NUMBER,
    FIELD_MONEY, /* "0.000123400" with a dollar sign for people */
    FIELD_TIME,
    FIELD_MS, /* a duration */
    FIELD_YES,
};

/* path: members apart by dots ("used.high").  Ended by one without a path. */
struct field {
    const char *title;
    const char *path;
    enum field_kind kind;
    bool is_flexible; /* may be cut, or left out, in a narrow window */
    bool is_optional; /* may be left out */
};

#define FIELD_AS(k, t, p)                      \
    {                                          \
        .title = (t), .path = (p), .kind = (k) \
    }
#define FIELD(t, p) FIELD_AS(FIELD_TEXT, t, p)
#define FIELD_WIDE(t, p)                               \
    {                                                  \
        .title = (t), .path = (p), .is_flexible = true \
    }
#define FIELD_SPARE(k, t, p)                                        \
    {                                                               \
        .title = (t), .path = (p), .kind = (k), .is_optional = true \
    }
#define FIELD_END    \
    {                \
        .path = NULL \
    }

/* An array of objects on standard output: a table, or CSV with --csv (titles are the paths). */
void listing_show(const struct cli *cli, const json_t *array, const struct field *fields);
/* One object, a line a field; absent and null ones are left out. */
void listing_record(const struct cli *cli, const json_t *object, const struct field *fields);
/* GET of a list (`data`) and its table; --json passes it on as it came. */
int listing_get(struct cli *cli, enum api_who who, const char *path, const struct field *fields);
/* The same for an admin, at an address whose % are the command's arguments. */
int listing_of(struct cli *cli, const char *pattern, const struct field *fields);
/* A value as people read it. */
void field_format(const json_t *object, const struct field *field, struct buf *out);
/* The value at a path; NULL when there is none. */
const json_t *field_value(const json_t *object, const char *path);
/* A question that makes or changes something, and the object it is answered with. */
int listing_post(struct cli *cli, const char *method, const char *path, json_t *body,
                 const struct field *fields);

#endif
