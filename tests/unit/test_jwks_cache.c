/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of identity providers: fetched when they must be, never more often, kept while away. */
#include "common/model/jwks_cache.h"

#include "tests/unit/http_fixture.h"

#include <unistd.h>

#include "common/base/config.h"
#include "tests/unit/jwt_fixture.h"

enum { MANY = 2000 };

/* An identity provider: a server that answers `document` with `status`. */
static struct event_base *base;
static struct http_server *server;
static int port;
static const char *document;
static int status;
static int asked;
static bool is_silent;
static struct http_request *held;

static struct identity_settings *settings;
static struct jwks_cache *cache;

static void on_request(struct http_request *request, void *arg)
{
    (void)arg;
    asked++;
    if (is_silent)
        held = request;
    else
        http_reply(request, status, "application/json", document, strlen(document));
}

static void refuse(struct buf *body, int code, const char *name, const char *param,
                   const char *message)
{
    (void)body, (void)code, (void)name, (void)param, (void)message;
}

static int set_up(void **state)
{
    struct http_server_options options = {.handler = on_request, .refuse = refuse};
    struct err err;
    int listener;

    (void)state;
    base = event_base_new();
    listener = http_listen("127.0.0.1:0", &port, &err);
    server = listener >= 0 ? http_server_new(base, &options, &listener, 1, &err) : NULL;
    document = fixture_jwks();
    status = 200;
    asked = 0;
    is_silent = false;
    held = NULL;
    return server ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    jwks_cache_free(cache);
    identity_settings_free(settings);
    cache = NULL;
    settings = NULL;
    if (held)
        http_abort(held, false);
    http_server_free(server);
    event_base_free(base);
    return 0;
}

/* members: where the keys are, and what else stands in the section. */
static const struct identity_provider *start(const char *members)
{
    char text[2048];
    struct err err = {0};
    struct config *config;

    snprintf(text, sizeof(text),
             "identity_providers:\n  corp:\n    issuer: https://idp.example\n    audience: a\n"
             "    tenants: {t: acme}\n%s",
             members);
    config = config_parse("test.yaml", text, strlen(text), &err);
    settings = config ? identity_settings_load(config, &err) : NULL;
    config_free(config);
    cache = settings ? jwks_cache_new(base, settings, NULL, 0, &err) : NULL;
    if (!cache)
        fail_msg("%s", err.message);
    return &settings->providers[0];
}

static const struct identity_provider *start_url(const char *scheme, const char *more)
{
    char members[512];

    snprintf(members, sizeof(members), "    jwks_url: %s://127.0.0.1:%d/jwks\n%s", scheme, port,
             more);
    return start(members);
}

#define LOOPBACK "    allow_networks: [127.0.0.0/8]\n"

struct found {
    int told;
    bool has_keys, has_kid;
    const char *kid;
};

static void on_found(const struct jwt_keys *keys, void *arg)
{
    struct found *found = arg;

    found->told++;
    found->has_keys = keys != NULL;
    found->has_kid = keys && jwt_keys_have(keys, found->kid);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    *(bool *)arg = true;
}

static void turn_until(const int *count, int want)
{
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    bool is_late = false;
    struct event *deadline = evtimer_new(base, on_late, &is_late);

    assert_non_null(deadline);
    evtimer_add(deadline, &patience);
    while (*count < want && !is_late)
        event_base_loop(base, EVLOOP_ONCE);
    event_free(deadline);
    assert_true(*count >= want);
}

static struct found find(const struct identity_provider *provider, const char *kid)
{
    struct found found = {.kid = kid};

    jwks_cache_find(cache, provider, kid, on_found, &found);
    turn_until(&found.told, 1);
    assert_int_equal(found.told, 1);
    return found;
}

static void test_keys_are_fetched_once_for_many(void **state)
{
    static struct found found[MANY];
    const struct identity_provider *provider = start_url("http", LOOPBACK);
    int told = 0;

    (void)state;
    memset(found, 0, sizeof(found));
    for (int i = 0; i < JWKS_WAITERS_MAX; i++) {
        found[i].kid = "rsa";
        jwks_cache_find(cache, provider, "rsa", on_found, &found[i]);
        assert_int_equal(found[i].told, 0);
    }
    turn_until(&found[0].told, 1);
    for (int i = 0; i < JWKS_WAITERS_MAX; i++)
        told += found[i].told == 1 && found[i].has_kid;
    assert_int_equal(told, JWKS_WAITERS_MAX);
    for (int i = 0; i < 100; i++)
        assert_true(find(provider, i % 2 ? "rsa" : "ec").has_kid);
    assert_int_equal(asked, 1);
}

static void test_flood_of_unknown_keys_asks_once(void **state)
{
    static struct found found[MANY];
    static char kids[MANY][24];
    const struct identity_provider *provider = start_url("http", LOOPBACK);

    (void)state;
    assert_true(find(provider, "rsa").has_kid);
    memset(found, 0, sizeof(found));
    for (int i = 0; i < MANY; i++) {
        snprintf(kids[i], sizeof(kids[i]), "made-up-%d", i);
        found[i].kid = kids[i];
        jwks_cache_find(cache, provider, kids[i], on_found, &found[i]);
    }
    for (int i = 0; i < MANY; i++) {
        turn_until(&found[i].told, 1);
        assert_true(found[i].has_keys && !found[i].has_kid);
    }
    for (int i = 0; i < MANY; i++)
        assert_false(find(provider, kids[i]).has_kid);
    assert_int_equal(asked, 2); /* the first, and one for all the unknown */
}

static void test_rotated_key_is_found_by_its_first_token(void **state)
{
    const struct identity_provider *provider = start_url("http", LOOPBACK);

    (void)state;
    assert_true(find(provider, "rsa").has_kid);
    document = fixture_jwks_named("rsa-2", "ec");
    assert_true(find(provider, "rsa-2").has_kid);
    assert_false(find(provider, "rsa").has_kid); /* withdrawn */
    assert_int_equal(asked, 2);
}

static void test_old_keys_serve_while_the_provider_is_away(void **state)
{
    static const char *const bad[] = {"", "<html>", "{\"keys\":7}"};
    const struct identity_provider *provider = start_url("http", LOOPBACK);

    (void)state;
    assert_true(find(provider, "rsa").has_kid);
    for (size_t i = 0; i < 3; i++) {
        document = bad[i];
        jwks_cache_refresh(cache);
        assert_false(find(provider, "none").has_kid); /* waits for that fetch */
        assert_int_equal(asked, 2 + (int)i);
        assert_true(find(provider, "rsa").has_kid);
    }
    status = 500;
    document = fixture_jwks_named("other", "ec");
    assert_false(find(provider, "other").has_kid); /* what comes with a 500 is not looked at */
    assert_true(find(provider, "rsa").has_kid);
}

static void test_without_keys_nobody_is_told_any(void **state)
{
    const struct identity_provider *provider = start_url("http", LOOPBACK);

    (void)state;
    status = 503;
    for (int i = 0; i < 100; i++)
        assert_false(find(provider, "rsa").has_keys);
    assert_int_equal(asked, 1); /* the next try is some seconds off */
}

static void test_who_waits_at_the_end_is_told(void **state)
{
    const struct identity_provider *provider = start_url("http", LOOPBACK);
    struct found found = {.kid = "rsa"};

    (void)state;
    is_silent = true;
    jwks_cache_find(cache, provider, "rsa", on_found, &found);
    turn_until(&asked, 1);
    jwks_cache_free(cache);
    cache = NULL;
    assert_int_equal(found.told, 1);
    assert_false(found.has_keys);
}

static void test_address_that_is_not_public_is_not_connected_to(void **state)
{
    const struct identity_provider *provider = start_url("https", "");

    (void)state;
    assert_false(find(provider, "rsa").has_keys);
    assert_int_equal(asked, 0);
    assert_int_equal(jwks_cache_fetches(cache, provider), 1);
}

static void test_keys_in_a_file_are_read_again(void **state)
{
    char path[] = "/tmp/nightshift-jwks-XXXXXX", members[128];
    int fd = mkstemp(path);
    const struct identity_provider *provider;

    (void)state;
    assert_true(fd >= 0);
    assert_true(write(fd, document, strlen(document)) > 0);
    close(fd);
    snprintf(members, sizeof(members), "    jwks_file: %s\n", path);
    provider = start(members);
    assert_true(find(provider, "ec").has_kid);
    unlink(path);
    jwks_cache_refresh(cache);
    assert_true(find(provider, "ec").has_kid);
    assert_false(find(provider, "other").has_kid);
    assert_int_equal(asked, 0);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_keys_are_fetched_once_for_many),
        CASE(test_flood_of_unknown_keys_asks_once),
        CASE(test_rotated_key_is_found_by_its_first_token),
        CASE(test_old_keys_serve_while_the_provider_is_away),
        CASE(test_without_keys_nobody_is_told_any),
        CASE(test_who_waits_at_the_end_is_told),
        CASE(test_address_that_is_not_public_is_not_connected_to),
        CASE(test_keys_in_a_file_are_read_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
