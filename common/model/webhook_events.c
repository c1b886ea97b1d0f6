/* SPDX-License-Identifier: Apache-2.0 */
/* The table of webhook events, and the check of lists of them. */
#include "common/model/webhook_events.h"

#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/json.h"
#include "common/base/str.h"

enum { EVENTS_MAX = 16, EVENTS_TEXT_MAX = 1024 };

static const char *const names[] = {
    "job.succeeded", "job.failed",       "job.cancelled",
    "job.expired",   "budget.threshold", "endpoint.test",
};

static bool is_known(const char *name)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool refuse_name(const json_t *value, const char *param, size_t index, struct err *err)
{
    const char *name = json_string_value(value);
    const char *nearest = name ? str_nearest(name, names, sizeof(names) / sizeof(names[0])) : NULL;
    char full[ERR_PARAM_MAX], what[JSON_DESCRIBE_SIZE];

    snprintf(full, sizeof(full), "%s[%zu]", param, index);
    json_describe(value, what, sizeof(what));
    if (nearest)
        return err_input(err, "invalid_value", full,
                         "%s: expected the name of an event, got %s (did you mean %s?)", full, what,
                         nearest);
    return err_input(err, "invalid_value", full,
                     "%s: expected job.succeeded, job.failed, job.cancelled or job.expired, got %s",
                     full, what);
}

bool webhook_events_read(const json_t *value, const char *param, char **out, struct err *err)
{
    size_t count = json_array_size(value);
    struct buf list;

    *out = NULL;
    if (!value || json_is_null(value))
        return true;
    if (!json_is_array(value) || count == 0 || count > EVENTS_MAX)
        return err_input(err, "invalid_value", param,
                         "%s: expected an array of 1 to %d names of events", param, EVENTS_MAX);
    buf_init(&list, EVENTS_TEXT_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(value, i);

        if (!json_is_string(item) || !is_known(json_string_value(item))) {
            buf_release(&list);
            return refuse_name(item, param, i, err);
        }
        buf_printf(&list, "%s%s", i ? "," : "", json_string_value(item));
    }
    *out = list.is_broken ? NULL : buf_detach(&list, NULL);
    buf_release(&list);
    return *out || err_set(err, "read %s: out of memory", param);
}
