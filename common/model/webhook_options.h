/* SPDX-License-Identifier: Apache-2.0 */
/* What of the configuration concerns webhooks: rows for a daemon's option table, and their meaning.
 */
#ifndef COMMON_MODEL_WEBHOOK_OPTIONS_H
#define COMMON_MODEL_WEBHOOK_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/address.h"
#include "common/base/crypto.h"
#include "common/base/err.h"
#include "common/base/option.h"

enum { WEBHOOK_TIMEOUT_MAX_MS = 15000, WEBHOOK_WAIT_MAX_S = 30 * 86400 };

struct config;

/* A member of the daemon's own settings struct. */
struct webhook_settings {
    struct option_list allow_networks;
    struct option_list schedule_s;
    int64_t timeout_ms;
    char *data_key;
};

/* Rows of an option table for the member (a struct webhook_settings) of a settings struct:
 *     static const struct option options[] = {
 *         {.name = "worker.slots", ...},
 *         WEBHOOK_OPTIONS(struct worker_settings, webhooks),
 *     };
 */
#define WEBHOOK_OPTIONS(struct_type, member)                                                     \
    {                                                                                            \
        .name = "webhooks.allow_networks",                                                       \
        .type = OPTION_STRING_LIST,                                                              \
        .offset = offsetof(struct_type, member.allow_networks),                                  \
        .help = "Networks (ADDRESS/BITS) that webhooks may reach although they are not public.", \
    },                                                                                           \
        {                                                                                        \
            .name = "webhooks.schedule_s",                                                       \
            .type = OPTION_INT_LIST,                                                             \
            .offset = offsetof(struct_type, member.schedule_s),                                  \
            .fallback = "0,5,300,1800,7200,18000,36000,50400,72000,86400",                       \
            .unit = "s",                                                                         \
            .max = WEBHOOK_WAIT_MAX_S,                                                           \
            .help =                                                                              \
                "Waits before the tries of a delivery: the first one, and after each failure.",  \
        },                                                                                       \
        {                                                                                        \
            .name = "webhooks.timeout_ms",                                                       \
            .type = OPTION_INT,                                                                  \
            .offset = offsetof(struct_type, member.timeout_ms),                                  \
            .fallback = "15000",                                                                 \
            .unit = "ms",                                                                        \
            .min = 100,                                                                          \
            .max = WEBHOOK_TIMEOUT_MAX_MS,                                                       \
            .help = "How long one try of a delivery may take.",                                  \
        },                                                                                       \
    {                                                                                            \
        .name = "secrets.data_key", .type = OPTION_SECRET,                                       \
        .offset = offsetof(struct_type, member.data_key), .is_reloadable = true,                 \
        .help = "32 random bytes in base64 that encrypt webhook secrets.",                       \
    }

/* The same, understood. */
struct webhook_policy {
    struct network allow[OPTION_LIST_MAX];
    size_t allow_count;
    int64_t schedule_ms[OPTION_LIST_MAX]; /* [0] before the first try, [n] after the nth failure */
    int schedule_count;                   /* tries in all; at least 1 */
    int64_t timeout_ms;
    uint8_t data_key[CRYPTO_KEY_SIZE]; /* wipe it (crypto_wipe) at the end */
};

/* At a daemon's start.  A missing data key, a network that is none and an empty schedule fail. */
bool webhook_policy_read(const struct webhook_settings *settings, struct webhook_policy *out,
                         struct err *err) MUST_CHECK;

/* For a daemon's check, which also sees files that leave the secrets to another one: as
 * webhook_policy_read, but the data key may be missing, and the error says where in config. */
bool webhook_settings_check(const struct webhook_settings *settings, const struct config *config,
                            struct err *err) MUST_CHECK;

#endif
