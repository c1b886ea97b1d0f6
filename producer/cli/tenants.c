/* SPDX-License-Identifier: Apache-2.0 */
/* `nightshift tenants` and `keys`: who may call. */
#include <stdlib.h>
#include <string.h>

#include "producer/cli/admin_path.h"
#include "producer/cli/api.h"
#include "producer/cli/commands.h"
#include "producer/cli/listing.h"

static const struct field tenant_fields[] = {
    FIELD("id", "id"),
    FIELD_WIDE("name", "name"),
    FIELD_AS(FIELD_NUMBER, "weight", "weight"),
    FIELD_AS(FIELD_YES, "disabled", "disabled"),
    FIELD_AS(FIELD_TIME, "created", "created_at"),
    FIELD_END,
};

static const struct field tenant_secret_fields[] = {
    FIELD("id", "id"),
    FIELD("name", "name"),
    FIELD_AS(FIELD_NUMBER, "weight", "weight"),
    FIELD_AS(FIELD_YES, "disabled", "disabled"),
    FIELD_AS(FIELD_TIME, "created", "created_at"),
    FIELD("webhook secret", "webhook_secret"),
    FIELD_END,
};

static const struct field key_fields[] = {
    FIELD("id", "id"),
    FIELD_WIDE("name", "name"),
    FIELD_WIDE("scopes", "scopes"),
    FIELD_AS(FIELD_TIME, "created", "created_at"),
    FIELD_AS(FIELD_TIME, "expires", "expires_at"),
    FIELD_AS(FIELD_TIME, "last used", "last_used_at"),
    FIELD_END,
};

static const struct field key_secret_fields[] = {
    FIELD("id", "id"),         FIELD("name", "name"),
    FIELD("scopes", "scopes"), FIELD_AS(FIELD_TIME, "expires", "expires_at"),
    FIELD("key", "key"),       FIELD_END,
};

/* --- tenants ---------------------------------------------------------------------------------- */

int tenants_list_run(struct cli *cli)
{
    struct buf path;
    int code;

    admin_path(&path, "/admin/v1/tenants", NULL);
    api_put_query(&path, "after", cli_option(cli, "after"));
    code = listing_get(cli, WHO_ADMIN, path.data, tenant_fields);
    buf_release(&path);
    return code;
}

/* The members that create and set have in common. */
static bool put_tenant(const struct cli *cli, json_t *body)
{
    int64_t weight = 0;

    if (!cli_option_number(cli, "weight", 1, INT32_MAX, &weight))
        return false;
    if (cli_option(cli, "name"))
        json_object_set_new(body, "name", json_string(cli_option(cli, "name")));
    if (weight > 0)
        json_object_set_new(body, "weight", json_integer(weight));
    return true;
}

int tenants_create_run(struct cli *cli)
{
    json_t *body = json_pack("{s:s}", "id", cli->arguments[0]);

    if (!body || !put_tenant(cli, body)) {
        json_decref(body);
        return CLI_USAGE;
    }
    return listing_post(cli, "POST", "/admin/v1/tenants", body, tenant_secret_fields);
}

int tenants_set_run(struct cli *cli)
{
    bool disables = cli_flag(cli, "disable"), enables = cli_flag(cli, "enable");
    json_t *body = json_object();
    struct buf path;
    int code;

    if (disables && enables) {
        json_decref(body);
        return cli_usage(cli, "--disable and --enable: which one?");
    }
    if (!put_tenant(cli, body)) {
        json_decref(body);
        return CLI_USAGE;
    }
    if (disables || enables)
        json_object_set_new(body, "disabled", json_boolean(disables));
    if (json_object_size(body) == 0) {
        json_decref(body);
        return cli_usage(cli, "nothing to change: --name, --weight, --disable or --enable");
    }
    admin_path(&path, "/admin/v1/tenants/%", cli->arguments);
    code = listing_post(cli, "PATCH", path.data, body, tenant_fields);
    buf_release(&path);
    return code;
}

/* --- keys ------------------------------------------------------------------------------------- */

int keys_list_run(struct cli *cli)
{
    return listing_of(cli, "/admin/v1/tenants/%/keys", key_fields);
}

int keys_create_run(struct cli *cli)
{
    const char *name = cli_option(cli, "name"), *scopes = cli_option(cli, "scopes");
    const char *expires = cli_option(cli, "expires-at");
    json_t *body = json_pack("{s:s,s:o}", "name", name ? name : "cli", "scopes",
                             admin_names(scopes ? scopes : "jobs:write,jobs:read"));
    struct buf path;
    int code;

    if (!body)
        return cli_usage(cli, "--name: not UTF-8");
    if (expires)
        json_object_set_new(body, "expires_at", json_string(expires));
    admin_path(&path, "/admin/v1/tenants/%/keys", cli->arguments);
    code = listing_post(cli, "POST", path.data, body, key_secret_fields);
    buf_release(&path);
    return code;
}

int keys_revoke_run(struct cli *cli)
{
    static const struct field nothing[] = {FIELD_END};
    struct buf path;
    int code;

    admin_path(&path, "/admin/v1/keys/%", cli->arguments);
    code = listing_post(cli, "DELETE", path.data, NULL, nothing);
    buf_release(&path);
    return code;
}
