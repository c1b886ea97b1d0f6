/* SPDX-License-Identifier: Apache-2.0 */
/* `nightshift endpoints` and `deliveries`: where webhooks go, and what became of them. */
#include <stdlib.h>
#include <string.h>

#include "producer/cli/admin_path.h"
#include "producer/cli/api.h"
#include "producer/cli/commands.h"
#include "producer/cli/listing.h"

static const struct field endpoint_fields[] = {
    FIELD("id", "id"),
    FIELD_WIDE("url", "url"),
    FIELD_WIDE("events", "events"),
    FIELD_AS(FIELD_YES, "disabled", "disabled"),
    FIELD_WIDE("why", "disabled_reason"),
    FIELD_AS(FIELD_TIME, "created", "created_at"),
    FIELD_END,
};

static const struct field endpoint_secret_fields[] = {
    FIELD("id", "id"),         FIELD("url", "url"), FIELD("events", "events"),
    FIELD("secret", "secret"), FIELD_END,
};

static const struct field delivery_fields[] = {
    FIELD("id", "id"),
    FIELD_WIDE("tenant", "tenant"),
    FIELD("job", "job"),
    FIELD_WIDE("type", "type"),
    FIELD("state", "state"),
    FIELD_WIDE("url", "url"),
    FIELD_AS(FIELD_TIME, "next", "next_at"),
    FIELD_AS(FIELD_TIME, "ended", "ended_at"),
    FIELD_END,
};

int endpoints_list_run(struct cli *cli)
{
    return listing_of(cli, "/admin/v1/tenants/%/endpoints", endpoint_fields);
}

int endpoints_create_run(struct cli *cli)
{
    const char *events = cli_option(cli, "events");
    json_t *body = json_pack("{s:s}", "url", cli->arguments[1]);
    struct buf path;
    int code;

    if (!body)
        return cli_usage(cli, "the URL is not UTF-8");
    if (events)
        json_object_set_new(body, "events", admin_names(events));
    admin_path(&path, "/admin/v1/tenants/%/endpoints", cli->arguments);
    code = listing_post(cli, "POST", path.data, body, endpoint_secret_fields);
    buf_release(&path);
    return code;
}

static int change(struct cli *cli, const char *method, const char *pattern,
                  const struct field *fields)
{
    struct buf path;
    int code;

    admin_path(&path, pattern, cli->arguments);
    code = listing_post(cli, method, path.data, NULL, fields);
    buf_release(&path);
    return code;
}

int endpoints_delete_run(struct cli *cli)
{
    return change(cli, "DELETE", "/admin/v1/tenants/%/endpoints/%", endpoint_fields);
}

int endpoints_rotate_run(struct cli *cli)
{
    return change(cli, "POST", "/admin/v1/tenants/%/endpoints/%/rotate", endpoint_secret_fields);
}

int endpoints_test_run(struct cli *cli)
{
    return change(cli, "POST", "/admin/v1/tenants/%/endpoints/%/test", delivery_fields);
}

int deliveries_list_run(struct cli *cli)
{
    static const char *const names[] = {"tenant", "job", "endpoint", "state", "limit", "after"};
    struct buf path;
    int code;

    admin_path(&path, "/admin/v1/deliveries", NULL);
    for (int i = 0; i < 6; i++)
        api_put_query(&path, names[i], cli_option(cli, names[i]));
    code = listing_get(cli, WHO_ADMIN, path.data, delivery_fields);
    buf_release(&path);
    return code;
}

int deliveries_redeliver_run(struct cli *cli)
{
    return change(cli, "POST", "/admin/v1/deliveries/%/redeliver", delivery_fields);
}
