/* SPDX-License-Identifier: Apache-2.0 */
/* URLs through curl's own parser, so that no two parsers can disagree about the host. */
#include "common/base/err.h"
#include "common/io/http_client.h"

#include <curl/curl.h>

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Copies one part.  A part that is missing leaves out empty. */
static bool take_part(CURLU *url, CURLUPart part, unsigned flags, char *out, size_t size)
{
    char *text = NULL;
    bool fits = true;

    out[0] = '\0';
    if (curl_url_get(url, part, &text, flags) == CURLUE_OK) {
        fits = strlen(text) < size;
        if (fits)
            memcpy(out, text, strlen(text) + 1);
    }
    curl_free(text);
    return fits;
}

static bool has_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    bool found = curl_url_get(url, part, &text, 0) == CURLUE_OK;

    curl_free(text);
    return found;
}

static void tidy_host(char *host)
{
    size_t len = strlen(host);

    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        memmove(host, host + 1, len - 2);
        host[len - 2] = '\0';
    }
    for (char *at = host; *at; at++)
        *at = (char)tolower((unsigned char)*at);
}

static bool take_parts(CURLU *url, struct http_url *out, struct err *err)
{
    char port[8];

    if (!take_part(url, CURLUPART_SCHEME, 0, out->scheme, sizeof(out->scheme)) ||
        (strcmp(out->scheme, "http") != 0 && strcmp(out->scheme, "https") != 0))
        return err_set(err, "the URL must begin with http:// or https://");
    if (!take_part(url, CURLUPART_HOST, 0, out->host, sizeof(out->host)) || !out->host[0])
        return err_set(err, "the URL's host is missing or too long");
    if (has_part(url, CURLUPART_ZONEID))
        return err_set(err, "the URL's host must not have a zone id");
    if (!take_part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT, port, sizeof(port)))
        return err_set(err, "the URL's port is bad");
    out->port = (int)strtol(port, NULL, 10);
    if (out->port < 1 || out->port > 65535)
        return err_set(err, "the URL's port must be 1 to 65535");
    out->has_userinfo = has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD);
    tidy_host(out->host);
    return true;
}

bool http_url_parse(const char *text, struct http_url *out, struct err *err)
{
    bool ok = false;
    CURLU *url = curl_url();
    CURLUcode code;

    memset(out, 0, sizeof(*out));
    if (!url)
        return err_set(err, "read a URL: out of memory");
    code = curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME);
    if (code != CURLUE_OK)
        err_set(err, "the URL is bad: %s", curl_url_strerror(code));
    else
        ok = take_parts(url, out, err);
    curl_url_cleanup(url);
    return ok;
}
