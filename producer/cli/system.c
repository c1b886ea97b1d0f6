/* SPDX-License-Identifier: Apache-2.0 */
/* `nightshift queues`, `workers`, `providers`, `pause` and `resume`: the state of the system. */
#include <string.h>

#include "producer/cli/api.h"
#include "producer/cli/commands.h"
#include "producer/cli/listing.h"

int queues_run(struct cli *cli)
{
    static const struct field fields[] = {
        FIELD("priority", "priority"),
        FIELD_AS(FIELD_NUMBER, "queued", "queued"),
        FIELD_AS(FIELD_NUMBER, "running", "running"),
        FIELD_AS(FIELD_MS, "oldest waits", "oldest_waiting_ms"),
        FIELD_AS(FIELD_YES, "paused", "paused"),
        FIELD_END,
    };

    return listing_get(cli, WHO_ADMIN, "/admin/v1/queues", fields);
}

int workers_run(struct cli *cli)
{
    static const struct field fields[] = {
        FIELD_WIDE("name", "name"),
        FIELD_AS(FIELD_NUMBER, "slots", "slots"),
        FIELD_AS(FIELD_NUMBER, "high", "used.high"),
        FIELD_AS(FIELD_NUMBER, "normal", "used.normal"),
        FIELD_AS(FIELD_NUMBER, "low", "used.low"),
        FIELD_AS(FIELD_YES, "alive", "alive"),
        FIELD_AS(FIELD_YES, "draining", "draining"),
        FIELD_AS(FIELD_TIME, "started", "started_at"),
        FIELD_AS(FIELD_TIME, "beat", "beat_at"),
        FIELD_END,
    };

    return listing_get(cli, WHO_ADMIN, "/admin/v1/workers", fields);
}

int providers_run(struct cli *cli)
{
    static const struct field fields[] = {
        FIELD("name", "name"),
        FIELD("format", "format"),
        FIELD("state", "state"),
        FIELD_AS(FIELD_NUMBER, "concurrency", "max_concurrency"),
        FIELD_AS(FIELD_NUMBER, "requests/min", "requests_per_minute"),
        FIELD_AS(FIELD_NUMBER, "tokens/min", "tokens_per_minute"),
        FIELD_WIDE("address", "base_url"),
        FIELD_END,
    };

    return listing_get(cli, WHO_ADMIN, "/admin/v1/providers", fields);
}

/* --- pause and resume ------------------------------------------------------------------------- */

static int change_pause(struct cli *cli, const char *path)
{
    static const struct field fields[] = {
        FIELD("priority", "priority"),
        FIELD("tenant", "tenant"),
        FIELD("provider", "provider"),
        FIELD_AS(FIELD_YES, "paused", "paused"),
        FIELD_AS(FIELD_TIME, "since", "created_at"),
        FIELD_END,
    };
    static const char *const kinds[] = {"priority", "tenant", "provider"};
    json_t *body = json_object();

    for (int i = 0; i < 3; i++)
        if (cli_option(cli, kinds[i]))
            json_object_set_new(body, kinds[i], json_string(cli_option(cli, kinds[i])));
    if (json_object_size(body) != 1) {
        json_decref(body);
        return cli_usage(cli, "expected one of --priority, --tenant and --provider");
    }
    return listing_post(cli, "POST", path, body, fields);
}

int pause_run(struct cli *cli)
{
    return change_pause(cli, "/admin/v1/pause");
}

int resume_run(struct cli *cli)
{
    return change_pause(cli, "/admin/v1/resume");
}
