/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is given as a webhook's URL: what passes is plain, and never an address inside. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/io/http_client.h"
#include "common/model/job.h"
#include "common/model/webhook_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_taken(const char *url)
{
    struct http_url parts;
    struct sockaddr_storage address;

    if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
        abort();
    if (!http_url_parse(url, &parts, NULL) || parts.has_userinfo || strlen(url) > URL_MAX ||
        strpbrk(url, " \r\n\t\\"))
        abort();
    if (address_from_literal(parts.host, &address) &&
        !address_is_allowed((const struct sockaddr *)&address, NULL, 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct network everything = {.bits = 0};
    char *url = strndup((const char *)data, size);
    struct err err;

    if (!url)
        return 0;
    if (webhook_url_check(url, NULL, 0, "webhook.url", &err)) {
        check_taken(url);
        if (!webhook_url_check(url, &everything, 1, "webhook.url", &err))
            abort();
    } else if (strcmp(err.code, "invalid_value") != 0) {
        abort();
    }
    free(url);
    return 0;
}
