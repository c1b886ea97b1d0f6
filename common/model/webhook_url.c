/* SPDX-License-Identifier: Apache-2.0 */
/* Judges webhook URLs through curl's own parser, so that no two parsers can disagree. */
#include "common/model/webhook_url.h"

#include <string.h>

#include "common/base/str.h"
#include "common/io/http_client.h"
#include "common/model/job.h"

static bool refuse(struct err *err, const char *param, const char *why)
{
    return err_input(err, "invalid_value", param, "%s: %s", param, why);
}

/* curl also takes "https:/host", "https:///host" and backslashes: no sender means those. */
static bool has_odd_slashes(const char *url)
{
    const char *colon = strchr(url, ':');

    return strchr(url, '\\') || (colon && (strncmp(colon, "://", 3) != 0 || colon[3] == '/'));
}

bool webhook_url_check(const char *url, const struct network *allow, size_t allow_count,
                       const char *param, struct err *err)
{
    struct http_url parts;
    struct sockaddr_storage address;
    struct err why;

    if (strlen(url) > URL_MAX)
        return err_input(err, "invalid_value", param, "%s: expected at most %d characters, got %zu",
                         param, URL_MAX, strlen(url));
    if (!str_is_visible_ascii(url, strlen(url)))
        return refuse(err, param,
                      "expected a URL of visible ASCII characters (others percent-encoded)");
    if (!http_url_parse(url, &parts, &why))
        return refuse(err, param, why.message);
    if (has_odd_slashes(url))
        return refuse(err, param, "expected the URL's host behind \"://\", and no backslash");
    if (parts.has_userinfo)
        return refuse(err, param, "the URL must not have a user name or password");
    if (address_from_literal(parts.host, &address) &&
        !address_is_allowed((const struct sockaddr *)&address, allow, allow_count))
        return refuse(err, param,
                      "the URL's address is not public (loopback, private, link-local and reserved "
                      "ones are refused unless webhooks.allow_networks has them)");
    return true;
}
