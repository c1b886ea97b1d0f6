/* SPDX-License-Identifier: Apache-2.0 */
/* Providers and routes as the configuration file tells them. */
#include "common/model/settings_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/crypto.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/io/http_client.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { CONCURRENCY_MAX = 1000000, RATE_MAX = 1000000000, API_KEY_MAX = 8192, MODEL_MAX = 256 };

/* The defaults of `timeouts`. */
enum { CONNECT_MS = 2000, FIRST_BYTE_MS = 60000, IDLE_MS = 30000, TOTAL_MS = 600000 };

static bool check_name(const struct section *section, const char *name)
{
    if (str_is_label(name, strlen(name), SETTINGS_NAME_MAX))
        return true;
    return section_refuse(section, NULL, "expected a name of 1 to %d of [A-Za-z0-9._/@:-]",
                          SETTINGS_NAME_MAX);
}

/* --- providers -------------------------------------------------------------------------------- */

static bool read_format(const struct section *section, struct provider *provider)
{
    static const char *const formats[] = {"openai",  "anthropic", "gemini",
                                          "bedrock", "azure",     "mistral"};
    const char *format;

    if (!section_text_required(section, "format", &format))
        return false;
    if (strcmp(format, "openai") != 0) {
        for (size_t i = 0; i < COUNT(formats); i++)
            if (strcmp(format, formats[i]) == 0)
                return section_refuse(section, "format", "%s is not supported yet (only openai is)",
                                      format);
        return section_refuse(section, "format", "expected openai, got \"%s\"", format);
    }
    provider->format = xstrdup(format);
    return true;
}

static bool read_base_url(const struct section *section, struct provider *provider)
{
    const char *text;
    struct http_url url;
    struct err why;
    size_t len;

    if (!section_text_required(section, "base_url", &text))
        return false;
    if (!http_url_parse(text, &url, &why))
        return section_refuse(section, "base_url", "expected an http or https URL: %s",
                              why.message);
    if (url.has_userinfo || strpbrk(text, "?#"))
        return section_refuse(section, "base_url",
                              "expected a URL without user name, query and fragment");
    len = strlen(text);
    while (len > 0 && text[len - 1] == '/')
        len--;
    provider->base_url = xcalloc(1, len + 1);
    memcpy(provider->base_url, text, len);
    return true;
}

/* The message never shows the key. */
static bool read_api_key(const struct section *section, struct provider *provider)
{
    const char *text = NULL;
    char path[SETTINGS_PATH_SIZE];
    const json_t *value = json_object_get(section->object, "api_key");
    struct err why;

    provider->api_key = xstrdup("");
    if (!value || json_is_null(value))
        return true;
    text = json_string_value(value);
    if (!text || strlen(text) != json_string_length(value))
        return section_refuse(section, "api_key",
                              "expected a text (quote it), ${NAME} or file:PATH");
    if (!*text)
        return true;
    section_member_path(section, "api_key", path);
    free(provider->api_key);
    provider->api_key = config_secret(text, config_folder(section->config, path), &why);
    if (!provider->api_key)
        return section_refuse(section, "api_key", "%s", why.message);
    if (strlen(provider->api_key) > API_KEY_MAX ||
        !str_is_visible_ascii(provider->api_key, strlen(provider->api_key)))
        return section_refuse(section, "api_key", "expected visible ASCII, at most %d characters",
                              API_KEY_MAX);
    return true;
}

static bool read_timeouts(const struct section *section, struct provider *provider)
{
    static const char *const names[] = {"connect_ms", "first_byte_ms", "idle_ms", "total_ms"};
    const json_t *value = json_object_get(section->object, "timeouts");
    int64_t *const outs[] = {&provider->connect_ms, &provider->first_byte_ms, &provider->idle_ms,
                             &provider->total_ms};
    char path[SETTINGS_PATH_SIZE];
    struct section timeouts;

    provider->connect_ms = CONNECT_MS;
    provider->first_byte_ms = FIRST_BYTE_MS;
    provider->idle_ms = IDLE_MS;
    provider->total_ms = TOTAL_MS;
    if (!value || json_is_null(value))
        return true;
    section_member_path(section, "timeouts", path);
    if (!section_open(&timeouts, section->config, value, path, section->err) ||
        !section_check_members(&timeouts, names, COUNT(names)))
        return false;
    for (size_t i = 0; i < COUNT(names); i++)
        if (!section_number(&timeouts, names[i], 1, SETTINGS_TIMEOUT_MAX_MS, outs[i]))
            return false;
    return true;
}

static bool read_provider(const struct section *section, const char *name,
                          struct provider *provider)
{
    static const char *const names[] = {"format",
                                        "base_url",
                                        "api_key",
                                        "prices",
                                        "timeouts",
                                        "max_concurrency",
                                        "requests_per_minute",
                                        "tokens_per_minute",
                                        "free"};
    const char *prices = NULL;
    int64_t max_concurrency = 0;

    provider->name = xstrdup(name);
    if (!check_name(section, name) || !section_check_members(section, names, COUNT(names)) ||
        !read_format(section, provider) || !read_base_url(section, provider) ||
        !read_api_key(section, provider) || !read_timeouts(section, provider) ||
        !section_text(section, "prices", &prices) ||
        !section_number(section, "max_concurrency", 0, CONCURRENCY_MAX, &max_concurrency) ||
        !section_number(section, "requests_per_minute", 0, RATE_MAX,
                        &provider->requests_per_minute) ||
        !section_number(section, "tokens_per_minute", 0, RATE_MAX, &provider->tokens_per_minute) ||
        !section_bool(section, "free", &provider->is_free))
        return false;
    provider->max_concurrency = (int)max_concurrency;
    provider->prices = prices ? xstrdup(prices) : NULL;
    return true;
}

/* The mapping called name, or *out NULL when there is none. */
static bool open_top(struct section *section, const struct config *config, const char *name,
                     size_t max, struct err *err)
{
    const json_t *value = config_get(config, name);

    section->object = NULL;
    if (!value)
        return true;
    if (!section_open(section, config, value, name, err))
        return false;
    if (json_object_size(value) > max)
        return section_refuse(section, NULL, "expected at most %zu, got %zu", max,
                              json_object_size(value));
    return true;
}

bool settings_read_providers(struct settings *settings, const struct config *config,
                             struct err *err)
{
    struct section all, section;
    char path[SETTINGS_PATH_SIZE];
    const char *name;
    json_t *value;

    if (!open_top(&all, config, "providers", PROVIDERS_MAX, err))
        return false;
    if (!all.object)
        return true;
    settings->providers = xcalloc(json_object_size(all.object) + 1, sizeof(struct provider));
    json_object_foreach((json_t *)(uintptr_t)all.object, name, value)
    {
        section_member_path(&all, name, path);
        if (!section_open(&section, config, value, path, err) ||
            !read_provider(&section, name, &settings->providers[settings->provider_count++]))
            return false;
    }
    return true;
}

/* --- routes ----------------------------------------------------------------------------------- */

static bool find_provider(const struct settings *settings, const struct section *section,
                          const char *name, struct target *target)
{
    const char *names[PROVIDERS_MAX], *nearest;

    for (size_t i = 0; i < settings->provider_count; i++) {
        names[i] = settings->providers[i].name;
        if (strcmp(names[i], name) == 0) {
            target->provider = &settings->providers[i];
            return true;
        }
    }
    nearest = str_nearest(name, names, settings->provider_count);
    if (nearest)
        return section_refuse(section, "provider", "there is no provider %s (did you mean %s?)",
                              name, nearest);
    return section_refuse(section, "provider", "there is no provider %s", name);
}

static bool read_timeout(const struct section *section, struct target *target)
{
    int64_t seconds = 0;

    if (!section_number(section, "timeout_s", 1, SETTINGS_TIMEOUT_MAX_MS / 1000, &seconds) ||
        !section_number(section, "timeout_ms", 1, SETTINGS_TIMEOUT_MAX_MS, &target->timeout_ms))
        return false;
    if (seconds > 0 && target->timeout_ms > 0)
        return section_refuse(section, "timeout_s", "give timeout_s or timeout_ms, not both");
    if (seconds > 0)
        target->timeout_ms = seconds * 1000;
    return true;
}

/* What the route will be able to do one day is refused now, never ignored. */
static bool check_unsupported(const struct section *section, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (json_object_get(section->object, names[i]))
            return section_refuse(section, names[i], "not supported yet");
    return true;
}

/* Prices go by the provider's own name in the table, then by what its option says, then by its
 * format: an explicit option always wins. */
static void name_prices(const struct price_table *prices, struct provider *provider)
{
    if (provider->prices)
        return;
    provider->prices =
        xstrdup(json_object_get(prices->root, provider->name) ? provider->name : provider->format);
}

static bool read_target(const struct settings *settings, const struct section *section,
                        const struct price_table *prices, struct target *target)
{
    static const char *const names[] = {"provider", "model", "timeout_s", "timeout_ms", "free"};
    static const char *const unsupported[] = {"weight", "region"};
    const char *provider, *model;
    bool is_free = false;

    if (!check_unsupported(section, unsupported, COUNT(unsupported)) ||
        !section_check_members(section, names, COUNT(names)) ||
        !section_text_required(section, "provider", &provider) ||
        !section_text_required(section, "model", &model) ||
        !find_provider(settings, section, provider, target) || !read_timeout(section, target))
        return false;
    if (strlen(model) > MODEL_MAX)
        return section_refuse(section, "model", "expected at most %d bytes", MODEL_MAX);
    is_free = target->provider->is_free;
    if (!section_bool(section, "free", &is_free))
        return false;
    target->model = xstrdup(model);
    return price_table_apply(prices, section, is_free, target);
}

static bool read_targets(const struct settings *settings, const struct section *route_section,
                         const struct price_table *prices, struct route *route)
{
    const json_t *targets = json_object_get(route_section->object, "targets");
    struct section section;
    char path[SETTINGS_PATH_SIZE], name[32];
    size_t count = json_array_size(targets);

    if (!json_is_array(targets) || count < 1 || count > TARGETS_MAX)
        return section_refuse(route_section, "targets", "expected a list of 1 to %d targets",
                              TARGETS_MAX);
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "targets[%zu]", i);
        section_member_path(route_section, name, path);
        if (!section_open(&section, route_section->config, json_array_get(targets, i), path,
                          route_section->err))
            return false;
        route->target_count++;
        if (!read_target(settings, &section, prices, &route->targets[i]))
            return false;
    }
    return true;
}

static bool read_strategy(const struct section *section)
{
    const char *strategy = "fallback";

    if (!section_text(section, "strategy", &strategy))
        return false;
    if (strcmp(strategy, "fallback") == 0)
        return true;
    if (strcmp(strategy, "weighted") == 0 || strcmp(strategy, "cheapest") == 0)
        return section_refuse(section, "strategy", "%s is not supported yet (only fallback is)",
                              strategy);
    return section_refuse(section, "strategy", "expected fallback, got \"%s\"", strategy);
}

static bool read_route(const struct settings *settings, const struct section *section,
                       const struct price_table *prices, const char *name, struct route *route)
{
    static const char *const names[] = {"strategy", "targets"};

    route->name = xstrdup(name);
    return check_name(section, name) && section_check_members(section, names, COUNT(names)) &&
           read_strategy(section) && read_targets(settings, section, prices, route);
}

bool settings_read_routes(struct settings *settings, const struct config *config,
                          const struct price_table *prices, struct err *err)
{
    struct section all, section;
    char path[SETTINGS_PATH_SIZE];
    const char *name;
    json_t *value;

    for (size_t i = 0; i < settings->provider_count; i++)
        name_prices(prices, &settings->providers[i]);
    if (!open_top(&all, config, "routes", ROUTES_MAX, err))
        return false;
    if (!all.object)
        return true;
    settings->routes = xcalloc(json_object_size(all.object) + 1, sizeof(struct route));
    json_object_foreach((json_t *)(uintptr_t)all.object, name, value)
    {
        section_member_path(&all, name, path);
        if (!section_open(&section, config, value, path, err) ||
            !read_route(settings, &section, prices, name,
                        &settings->routes[settings->route_count++]))
            return false;
    }
    return true;
}
