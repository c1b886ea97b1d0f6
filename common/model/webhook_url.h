/* SPDX-License-Identifier: Apache-2.0 */
/* Which URLs a webhook may have, as far as the text alone can tell. */
#ifndef COMMON_MODEL_WEBHOOK_URL_H
#define COMMON_MODEL_WEBHOOK_URL_H

#include "common/base/address.h"
#include "common/base/err.h"

/* Judges a URL when it is given (a job's webhook.url, an endpoint's url): http or https, at most
 * URL_MAX visible ASCII characters, no user name or password, no zone id, a port of 1 to 65535, and
 * where the host is an IP address in any notation, one that address_is_allowed.  Host names are not
 * looked up: the address a try really connects to is judged then.  On failure err is bad input
 * (`invalid_value`) of the field param ("webhook.url", "url"). */
bool webhook_url_check(const char *url, const struct network *allow, size_t allow_count,
                       const char *param, struct err *err) MUST_CHECK;

#endif
