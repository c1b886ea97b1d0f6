/* SPDX-License-Identifier: Apache-2.0 */
/* Providers, routes and prices of the configuration file, checked whole. */
#ifndef COMMON_MODEL_SETTINGS_H
#define COMMON_MODEL_SETTINGS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/err.h"
#include "common/base/money.h"

struct config;

enum { PROVIDERS_MAX = 256, ROUTES_MAX = 1024, TARGETS_MAX = 16, PRICE_CHANGES_MAX = 15 };
enum { PRICED_OTHERS_MAX = 8, PRICED_NAME_SIZE = 48 };

struct provider {
    char *name;
    char *format;   /* "openai" */
    char *base_url; /* without trailing slash */
    char *api_key;  /* resolved secret; "" when none */
    int64_t connect_ms, first_byte_ms, idle_ms, total_ms;
    /* Of the account, shared by the whole fleet; 0: no limit. */
    int max_concurrency;
    int64_t requests_per_minute;
    int64_t tokens_per_minute;
    char *prices; /* its name in the price table */
    bool is_free;
};

/* What a model costs from a moment on. */
struct price_change {
    int64_t from_us;
    struct price price;
};

struct target {
    const struct provider *provider;
    char *model;        /* as the provider calls it */
    int64_t timeout_ms; /* 0: the provider's */
    struct price price; /* before all changes; for one moment's see target_price */
    int change_count;
    struct price_change changes[PRICE_CHANGES_MAX]; /* the earliest first */
    int64_t context_tokens;                         /* 0: unknown */
    int64_t max_output_tokens;                      /* the model's own maximum; 0: unknown */
    /* What may be used under a ceiling, because the price tells of it, see price_guard. */
    unsigned priced_fields; /* bit per enum priced_field */
    int priced_other_count; /* and members of other names */
    char priced_others[PRICED_OTHERS_MAX][PRICED_NAME_SIZE];
};

struct route {
    char *name;
    int target_count;
    struct target targets[TARGETS_MAX]; /* in order of fallback */
};

/* The price in force at a moment: a call has that of its start for ever. */
struct price target_price(const struct target *target, int64_t at_us);
/* In each part the dearest that is in force at some moment from from_us to to_us. */
struct price target_dearest_price(const struct target *target, int64_t from_us, int64_t to_us);

/* Immutable and counted: a run keeps the settings it began with across a reload. */
struct settings;

/* Reads `providers`, `routes`, `prices` (a file or an inline map).  Anything unknown, missing or
 * out of range fails with "FILE:LINE: path: expected ...".  A target without a price is refused
 * unless the target or its provider says `free: true`. */
struct settings *settings_load(const struct config *config, struct err *err) MUST_CHECK;
struct settings *settings_ref(struct settings *settings);
void settings_unref(struct settings *settings); /* wipes keys with the last one */

const struct route *settings_route(const struct settings *settings, const char *name); /* or NULL */
/* For error messages: the nearest route name, or NULL. */
const char *settings_nearest_route(const struct settings *settings, const char *name);
size_t settings_routes(const struct settings *settings, const struct route **out); /* array */
size_t settings_providers(const struct settings *settings, const struct provider **out);
void settings_print(const struct settings *settings,
                    FILE *out); /* what was understood; no secrets */

/* The configuration paths that settings_load reads, for daemon_spec.known. */
extern const char *const settings_known[];
extern const size_t settings_known_count;

#endif
