/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the options of webhooks. */
#include "common/model/webhook_options.h"

#include <string.h>

#include "common/base/config.h"
#include "common/model/webhook_secret.h"

static bool read_networks(const struct option_list *list, struct webhook_policy *out,
                          struct err *err)
{
    for (size_t i = 0; i < list->count; i++) {
        if (!network_parse(list->strings[i], &out->allow[i], err))
            return err_wrap(err, "webhooks.allow_networks[%zu]", i);
    }
    out->allow_count = list->count;
    return true;
}

static bool read_all(const struct webhook_settings *settings, struct webhook_policy *out,
                     struct err *err)
{
    memset(out, 0, sizeof(*out));
    if (!read_networks(&settings->allow_networks, out, err))
        return false;
    if (settings->schedule_s.count == 0)
        return err_set(err, "webhooks.schedule_s: expected at least one wait, got none");
    for (size_t i = 0; i < settings->schedule_s.count; i++)
        out->schedule_ms[i] = settings->schedule_s.numbers[i] * 1000;
    out->schedule_count = (int)settings->schedule_s.count;
    out->timeout_ms = settings->timeout_ms;
    return !settings->data_key || webhook_data_key_parse(settings->data_key, out->data_key, err);
}

bool webhook_policy_read(const struct webhook_settings *settings, struct webhook_policy *out,
                         struct err *err)
{
    if (!settings->data_key)
        return err_set(err, "secrets.data_key: expected %d random bytes in base64, got none",
                       CRYPTO_KEY_SIZE);
    return read_all(settings, out, err);
}

/* The messages begin with the option, but for an element's index. */
static const char *where(const struct config *config, const struct err *err)
{
    static const char *const options[] = {"webhooks.allow_networks", "webhooks.schedule_s",
                                          "secrets.data_key"};

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (strncmp(err->message, options[i], strlen(options[i])) == 0)
            return config_where(config, options[i]);
    return "?";
}

bool webhook_settings_check(const struct webhook_settings *settings, const struct config *config,
                            struct err *err)
{
    struct webhook_policy policy;
    bool ok = read_all(settings, &policy, err);

    crypto_wipe(&policy, sizeof(policy));
    return ok || err_wrap(err, "%s", where(config, err));
}
