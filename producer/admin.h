/* SPDX-License-Identifier: Apache-2.0 */
/* What the handlers of /admin/v1 have in common: reading bodies and queries, writing objects. */
#ifndef PRODUCER_ADMIN_H
#define PRODUCER_ADMIN_H

#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/base/buf.h"
#include "common/model/admin_query.h"
#include "producer/routes.h"

#define ADMIN_DATA_CLASS_HEADER "x-nightshift-data-class"
#define ADMIN_PURPOSE_HEADER "x-nightshift-purpose"

/* Names of webhook events. */
enum { ADMIN_EVENT_COUNT = 6 };
extern const char *const admin_event_names[ADMIN_EVENT_COUNT];

enum { ADMIN_ACTOR_SIZE = 1024, ADMIN_PARAM_MAX = 255, ADMIN_ANSWER_MAX = 64 * 1024 * 1024 };

/* --- what comes in ---------------------------------------------------------------------------- */

/* Who the audit says it was, for audit_append(): key, address and id of the request, and the data
 * class and purpose that the caller gave in headers. */
void admin_actor(const struct request_context *context, char out[ADMIN_ACTOR_SIZE]);

/* The two headers are absent, or labels.  False with err: x-nightshift-... is at fault. */
bool admin_headers_check(const struct http_request *http, struct err *err) MUST_CHECK;

/* The body as an object with no other members than names (count of them).  NULL: the request was
 * answered.  The caller json_decref()s. */
json_t *admin_body(struct request_context *context, const char *const *names,
                   size_t count) MUST_CHECK;

/* The member `name`: an array of up to max different strings out of known.  Absent or null leaves
 * *count 0; out borrows from known. */
bool admin_read_names(const json_t *object, const char *name, const char *const *known,
                      size_t known_count, const char **out, size_t max, size_t *count,
                      struct err *err) MUST_CHECK;

struct admin_param {
    const char *name;
    bool is_given;
    char value[ADMIN_PARAM_MAX + 1];
};

/* The query has no other parameters than params, each at most once.  False: the request was
 * answered. */
bool admin_params(struct request_context *context, struct admin_param *params,
                  size_t count) MUST_CHECK;

/* An optional `limit` of 1 to max. */
bool admin_limit(const struct admin_param *param, int max, int *limit, struct err *err) MUST_CHECK;

/* --- what goes out ---------------------------------------------------------------------------- */

/* For what a store function returned: when it could not start, answers 503. */
void admin_started(struct request_context *context, bool is_started);

/* Answers what was not ADMIN_DONE and says so (true).  missing names what was not found, as in "no
 * tenant has this id"; conflict says why it cannot be. */
bool admin_refused(struct request_context *context, enum admin_outcome outcome, const char *missing,
                   const char *conflict) MUST_CHECK;

/* Members of an object; a comma goes in front unless it is the first. */
void admin_put_name(struct buf *out, const char *name);
void admin_put_text(struct buf *out, const char *name, const char *text); /* NULL: null */
void admin_put_int(struct buf *out, const char *name, int64_t value);
void admin_put_bool(struct buf *out, const char *name, bool value);
void admin_put_time(struct buf *out, const char *name, int64_t us);       /* 0: null */
void admin_put_json(struct buf *out, const char *name, const char *json); /* NULL: null */

/* {"object":"list","data":[ ... objects, each begun with admin_list_item ... ]}. */
void admin_list_begin(struct buf *out);
void admin_list_item(struct buf *out); /* the comma between objects, and "{" */
void admin_list_end(struct buf *out);

/* --- the end ---------------------------------------------------------------------------------- */

/* Forgets jobs that were being woken because their limits changed; after api_pg is gone. */
void limits_wakings_free(struct producer *producer);

#endif
