/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a request's query into variables by a table. */
#ifndef TESTS_SIMULATOR_QUERY_H
#define TESTS_SIMULATOR_QUERY_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"

struct http_request;

/* One parameter: a number in min..max, or a text of less than size bytes. */
struct query_field {
    const char *name;
    int64_t *number;
    int64_t min, max;
    char *text;
    size_t size;
};

/* False: a parameter is unknown or bad, and the request was answered with 400. */
bool query_read(struct http_request *http, const struct query_field *fields,
                size_t count) MUST_CHECK;

/* Answers {"error":{"message":...}} with status. */
void query_refuse(struct http_request *http, int status, const char *message);

#endif
