/* SPDX-License-Identifier: Apache-2.0 */
/* Submit bodies out of a text and named values.  Pure. */
#ifndef PRODUCER_CLI_REQUEST_H
#define PRODUCER_CLI_REQUEST_H

#include <jansson.h>

#include "common/base/err.h"

/* {"request":{"model","messages":[system?, user]}}; the caller's.  NULL: text is no UTF-8. */
json_t *request_body(const char *model, const char *system, const char *text,
                     struct err *err) MUST_CHECK;

/* Is it the name of a value that request_put takes? */
bool request_knows(const char *name) MUST_CHECK;

/* Puts one named value ("max_tokens", "priority", "metadata.customer", ...) where a submit body has
 * it.  False: the name is none, or the value is no number where it must be one. */
bool request_put(json_t *body, const char *name, const char *value, struct err *err) MUST_CHECK;

/* The text with {name} replaced by what find gives ("{{" is a brace); the caller frees.  NULL: a
 * name that find does not know. */
typedef const char *request_find_fn(const char *name, void *arg);
char *request_template(const char *text, request_find_fn *find, void *arg,
                       struct err *err) MUST_CHECK;

#endif
