/* SPDX-License-Identifier: Apache-2.0 */
/* nightshift-producer: its options, and what a daemon does with it. */
#include <event2/event.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/io/daemon.h"
#include "common/io/http_server.h"
#include "common/model/api_key.h"
#include "common/model/identity.h"
#include "common/model/settings.h"
#include "producer/producer.h"

enum { DRAIN_LOOK_MS = 20, KNOWN_MAX = 16 };

static const struct option options[] = {
    {.name = "producer.listen",
     .type = OPTION_STRING,
     .offset = offsetof(struct producer_settings, listen),
     .fallback = "127.0.0.1:8080",
     .help = "address and port of the API"},
    {.name = "producer.max_body_bytes",
     .type = OPTION_INT,
     .offset = offsetof(struct producer_settings, max_body_bytes),
     .fallback = "4194304",
     .unit = "bytes",
     .min = 1024,
     .max = 64 * 1024 * 1024,
     .is_reloadable = true,
     .help = "largest body of a request, and largest line of a bulk"},
    {.name = "producer.max_inflight_bytes",
     .type = OPTION_INT,
     .offset = offsetof(struct producer_settings, max_inflight_bytes),
     .fallback = "268435456",
     .unit = "bytes",
     .min = 64 * 1024 * 1024,
     .max = INT64_C(1) << 36,
     .is_reloadable = true,
     .help = "all bodies a process reads into memory at a time; over it 503"},
    {.name = "producer.max_connections",
     .type = OPTION_INT,
     .offset = offsetof(struct producer_settings, max_connections),
     .fallback = "10000",
     .min = 1,
     .max = 1000000,
     .help = "open connections of a process; over it 503"},
    {.name = "producer.max_connections_per_ip",
     .type = OPTION_INT,
     .offset = offsetof(struct producer_settings, max_connections_per_ip),
     .fallback = "0",
     .min = 0,
     .max = 1000000,
     .help = "open connections from one address to a process; 0: no limit"},
    {.name = "producer.tls_certificate",
     .type = OPTION_STRING,
     .offset = offsetof(struct producer_settings, tls_certificate),
     .help = "PEM file of the certificate and its chain; without it plain HTTP"},
    {.name = "producer.tls_key",
     .type = OPTION_STRING,
     .offset = offsetof(struct producer_settings, tls_key),
     .help = "PEM file of the certificate's key"},
    {.name = "secrets.pepper",
     .type = OPTION_SECRET,
     .offset = offsetof(struct producer_settings, pepper),
     .help = "32 random bytes in base64 that hash API keys"},
    WEBHOOK_OPTIONS(struct producer_settings, webhooks),
};

/* A producer and what only its end needs. */
struct program {
    struct producer *producer;
    struct event *drain_tick; /* looks whether all is answered */
    int64_t drain_since_us;
};

static bool check(const struct config *config, const void *settings, FILE *out, struct err *err)
{
    const struct producer_settings *fresh = settings;
    struct settings *routes = settings_load(config, err);
    struct identity_settings *identity;
    uint8_t pepper[API_KEY_PEPPER_SIZE];
    bool ok = true;

    if (!routes)
        return false;
    identity = identity_settings_load(config, err);
    if (out && identity) {
        settings_print(routes, out);
        identity_settings_print(identity, out);
    }
    settings_unref(routes);
    if (!identity)
        return false;
    identity_settings_free(identity);
    /* A file that is only looked at may leave the secrets to another one. */
    if (!fresh->pepper && !out)
        return err_set(err, "secrets.pepper: is required (32 random bytes in base64)");
    if (fresh->pepper)
        ok = api_key_pepper_parse(fresh->pepper, pepper, err) ||
             err_wrap(err, "%s", config_where(config, "secrets.pepper"));
    crypto_wipe(pepper, sizeof(pepper));
    if (ok && !fresh->tls_certificate != !fresh->tls_key)
        return err_set(err, "producer.tls_certificate and producer.tls_key go together");
    if (ok && !http_listen_check(fresh->listen, err))
        return err_wrap(err, "%s: producer.listen", config_where(config, "producer.listen"));
    return ok && webhook_settings_check(&fresh->webhooks, config, err);
}

static bool bind_listener(struct daemon *daemon, struct err *err)
{
    const struct producer_settings *settings = daemon_settings(daemon);

    return daemon_add_listener(daemon, settings->listen, err) >= 0;
}

static bool start(struct daemon *daemon, struct err *err)
{
    struct program *program = calloc(1, sizeof(*program));

    if (!program)
        return err_set(err, "start: out of memory");
    program->producer = producer_start(daemon, err);
    if (!program->producer) {
        free(program);
        return false;
    }
    daemon_set_data(daemon, program);
    daemon_set_ready_check(daemon, producer_is_ready, program->producer);
    return true;
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Requests that wait or stream see that the daemon drains, and end by themselves. */
static void on_drain_tick(evutil_socket_t fd, short what, void *arg)
{
    struct daemon *daemon = arg;
    struct program *program = daemon_data(daemon);
    int64_t grace_us = daemon_common(daemon)->drain_ms * US_PER_MS;

    (void)fd;
    (void)what;
    if (http_server_requests(program->producer->server) > 0 &&
        clock_monotonic_us() - program->drain_since_us < grace_us)
        return;
    event_del(program->drain_tick);
    daemon_finish(daemon);
}

static void drain(struct daemon *daemon)
{
    const struct timeval period = {.tv_usec = DRAIN_LOOK_MS * 1000};
    struct program *program = daemon_data(daemon);

    program->drain_since_us = clock_monotonic_us();
    producer_drain(program->producer);
    program->drain_tick = event_new(daemon_base(daemon), -1, EV_PERSIST, on_drain_tick, daemon);
    if (!program->drain_tick || event_add(program->drain_tick, &period) != 0)
        daemon_finish(daemon);
}

static void reload(struct daemon *daemon, const struct config *config, const void *settings)
{
    struct program *program = daemon_data(daemon);

    producer_reload(program->producer, config, settings);
}

static void stop(struct daemon *daemon)
{
    struct program *program = daemon_data(daemon);

    if (program->drain_tick)
        event_free(program->drain_tick);
    producer_free(program->producer);
    free(program);
}

int main(int argc, char **argv)
{
    static const char *known[KNOWN_MAX] = {"secrets.*"}; /* the other daemons' ones */
    static struct daemon_spec spec = {
        .name = "nightshift-producer",
        .summary = "serves the HTTP API",
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
        .settings_size = sizeof(struct producer_settings),
        .known = known,
        .known_count = 1,
        .check = check,
        .bind = bind_listener,
        .start = start,
        .drain = drain,
        .reload = reload,
        .stop = stop,
    };

    for (size_t i = 0; i < settings_known_count && spec.known_count < KNOWN_MAX - 1; i++)
        known[spec.known_count++] = settings_known[i];
    known[spec.known_count++] = identity_known;
    return daemon_main(&spec, argc, argv);
}
