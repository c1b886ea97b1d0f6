/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor on the producer and the providers: reachable, and do they take our keys? */
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/str.h"
#include "common/io/http_client.h"
#include "common/model/settings.h"
#include "producer/cli/cli.h"
#include "producer/cli/doctor.h"

enum { CONNECT_MS = 3000, TOTAL_MS = 6000, BODY_MAX = 8 * 1024 * 1024, SHOWN_MAX = 200 };

struct asked {
    enum http_outcome outcome;
    int status;
    char message[256];
    char body[SHOWN_MAX + 1]; /* its beginning */
    size_t len;
    int *left;
    struct event_base *base;
};

struct asking {
    struct event_base *base;
    struct http_client *client;
    int left;
};

static bool on_data(struct http_call *call, const char *data, size_t len, void *arg)
{
    struct asked *asked = arg;
    size_t fits = SHOWN_MAX - asked->len < len ? SHOWN_MAX - asked->len : len;

    (void)call;
    memcpy(asked->body + asked->len, data, fits);
    asked->len += fits;
    asked->body[asked->len] = '\0';
    return true;
}

static void on_done(struct http_call *call, const struct http_answer *answer, void *arg)
{
    struct asked *asked = arg;

    (void)call;
    asked->outcome = answer->outcome;
    asked->status = answer->outcome == HTTP_DONE ? answer->status : 0;
    snprintf(asked->message, sizeof(asked->message), "%s",
             answer->message && *answer->message ? answer->message
                                                 : http_outcome_name(answer->outcome));
    if (--*asked->left == 0)
        event_base_loopbreak(asked->base);
}

static bool asking_init(struct asking *asking)
{
    const struct http_client_options options = {.ca_file = getenv("NIGHTSHIFT_CA_FILE")};
    struct err err;

    memset(asking, 0, sizeof(*asking));
    asking->base = event_base_new();
    asking->client = asking->base ? http_client_new(asking->base, &options, &err) : NULL;
    return asking->client != NULL;
}

static void asking_release(struct asking *asking)
{
    http_client_free(asking->client);
    if (asking->base)
        event_base_free(asking->base);
}

static void ask(struct asking *asking, const char *url, const char *const *headers,
                struct asked *asked)
{
    static const struct http_callbacks callbacks = {.on_data = on_data, .on_done = on_done};
    const struct http_call_spec spec = {.method = "GET",
                                        .url = url,
                                        .headers = headers,
                                        .connect_timeout_ms = CONNECT_MS,
                                        .total_timeout_ms = TOTAL_MS,
                                        .max_body_bytes = BODY_MAX};
    struct err err = {0};

    asked->left = &asking->left;
    asked->base = asking->base;
    if (http_call_start(asking->client, &spec, &callbacks, asked, &err))
        asking->left++;
    else
        snprintf(asked->message, sizeof(asked->message), "%.255s", err.message);
}

static void await(struct asking *asking)
{
    while (asking->left > 0)
        event_base_loop(asking->base, EVLOOP_ONCE);
}

/* --- the producer ----------------------------------------------------------------------------- */

static void ask_path(struct asking *asking, const struct doctor *doctor, const char *path,
                     const char *key, struct asked *asked)
{
    char url[1024], authorization[8192];
    const char *headers[] = {key ? authorization : NULL, NULL};

    snprintf(url, sizeof(url), "%s%s", doctor->cli->profile.url, path);
    snprintf(authorization, sizeof(authorization), "authorization: Bearer %s", key ? key : "");
    ask(asking, url, headers, asked);
    crypto_wipe(authorization, sizeof(authorization));
}

static void judge_key(struct check *check, const char *variable, const char *what,
                      const struct asked *asked)
{
    if (asked->status == 401)
        check_bad(check,
                  "the %s key is not accepted\nset %s (or the profile) to a key that is not "
                  "revoked; `nightshift keys create TENANT` makes one",
                  what, variable);
    else if (asked->status == 403)
        check_bad(check,
                  "the %s key has not the right scope, or its tenant is disabled: %.120s\n"
                  "make a key with the right scopes: `nightshift keys create`",
                  what, asked->body);
    else if (asked->status != 200 && asked->status != 0)
        check_warn(check, "asking with the %s key gives %d: %.120s\nlook at the producer's log",
                   what, asked->status, asked->body);
}

static void judge_producer(const struct doctor *doctor, struct check *check,
                           const struct asked *ready)
{
    const char *url = doctor->cli->profile.url;

    if (ready->status == 0)
        check_bad(check,
                  "%s: %s\nstart nightshift-producer (kill -CONT if it is stopped), or correct the "
                  "URL (NIGHTSHIFT_URL, --url or the profile)",
                  url, ready->message);
    else if (ready->status == 503)
        check_bad(check, "%s is not ready: %.160s\nit says what it waits for; see the checks below",
                  url, ready->body);
    else if (ready->status != 200)
        check_bad(check, "%s answers %d to /readyz\nis that Nightshift, or a proxy before it?", url,
                  ready->status);
}

void doctor_check_producer(const struct doctor *doctor, struct check *check)
{
    const char *api_key = doctor->cli->profile.api_key, *admin_key = doctor->cli->profile.admin_key;
    struct asked ready = {0}, tenant = {0}, admin = {0};
    struct asking asking;

    if (!asking_init(&asking)) {
        check_bad(check, "no HTTP client\nfree some memory");
        asking_release(&asking);
        return;
    }
    ask_path(&asking, doctor, "/readyz", NULL, &ready);
    if (api_key)
        ask_path(&asking, doctor, "/v1/jobs?limit=1", api_key, &tenant);
    if (admin_key)
        ask_path(&asking, doctor, "/admin/v1/queues", admin_key, &admin);
    await(&asking);
    judge_producer(doctor, check, &ready);
    if (ready.status == 200) {
        judge_key(check, "NIGHTSHIFT_API_KEY", "API", &tenant);
        judge_key(check, "NIGHTSHIFT_ADMIN_KEY", "admin", &admin);
    }
    if (check->count == 0)
        check_ok(check, "%s is ready%s%s", doctor->cli->profile.url,
                 api_key ? ", takes the API key" : ", no API key to try",
                 admin_key ? ", takes the admin key" : "");
    asking_release(&asking);
}

/* --- the providers ---------------------------------------------------------------------------- */

/* Listing models costs nothing and needs the key. */
static void ask_provider(struct asking *asking, const struct provider *provider,
                         struct asked *asked)
{
    char url[2048], key[8192];
    const char *headers[] = {NULL, NULL, NULL};

    snprintf(url, sizeof(url), "%s/models", provider->base_url);
    if (strcmp(provider->format, "anthropic") == 0) {
        snprintf(key, sizeof(key), "x-api-key: %s", provider->api_key);
        headers[1] = "anthropic-version: 2023-06-01";
    } else if (strcmp(provider->format, "gemini") == 0) {
        snprintf(key, sizeof(key), "x-goog-api-key: %s", provider->api_key);
    } else {
        snprintf(key, sizeof(key), "authorization: Bearer %s", provider->api_key);
    }
    headers[0] = *provider->api_key ? key : headers[1];
    if (!*provider->api_key)
        headers[1] = NULL;
    ask(asking, url, headers, asked);
    crypto_wipe(key, sizeof(key));
}

static void judge_provider(struct check *check, const struct provider *provider,
                           const struct asked *asked)
{
    const char *name = provider->name;

    if (asked->status == 0)
        check_bad(check,
                  "%s cannot be reached at %s: %s\nis the provider up, the address right, and may "
                  "this machine go there (firewall, proxy, name server)?",
                  name, provider->base_url, asked->message);
    else if (asked->status == 401 || asked->status == 403)
        check_bad(check,
                  "%s does not accept the key (%d)\nput a valid one where providers.%s.api_key "
                  "points, and send the workers SIGHUP",
                  name, asked->status, name);
    else if (asked->status == 429)
        check_warn(check,
                   "%s is reachable, but over its limit (429)\nwait, or spread the load over "
                   "other targets of the route",
                   name);
    else if (asked->status >= 500)
        check_bad(check,
                  "%s answers %d\nthe provider is in trouble; routes with a second target go on",
                  name, asked->status);
    else if (asked->status == 200)
        check_ok(check, "%s is reachable%s", name,
                 *provider->api_key ? " and accepts the key" : " (no key is set)");
    else if (*provider->api_key)
        check_skip(check,
                   "%s is reachable, but its key was not tried: it lists no models (%d), and what "
                   "else would need the key costs money",
                   name, asked->status);
    else
        check_ok(check, "%s is reachable (no key is set)", name);
}

void doctor_check_providers(const struct doctor *doctor, struct check *check)
{
    const struct provider *providers;
    struct asking asking;
    struct asked *asked;
    size_t count;

    if (!doctor->calls_providers || !doctor->settings) {
        check_skip(check, doctor->calls_providers ? "no configuration: give --config FILE"
                                                  : "not wanted (--no-providers)");
        return;
    }
    count = settings_providers(doctor->settings, &providers);
    asked = xcalloc(count + 1, sizeof(*asked));
    if (asking_init(&asking)) {
        for (size_t i = 0; i < count; i++)
            ask_provider(&asking, &providers[i], &asked[i]);
        await(&asking);
        for (size_t i = 0; i < count; i++)
            judge_provider(check, &providers[i], &asked[i]);
    }
    asking_release(&asking);
    free(asked);
}
