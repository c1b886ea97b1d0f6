/* SPDX-License-Identifier: Apache-2.0 */
/* Providers, routes and prices: loaded whole or not at all, looked up by name, printed. */
#include "common/model/settings.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/map.h"
#include "common/base/str.h"
#include "common/model/settings_read.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

const char *const settings_known[] = {"providers.*", "routes.*", "prices.*", "prices"};
const size_t settings_known_count = COUNT(settings_known);

static void provider_release(struct provider *provider)
{
    if (provider->api_key)
        crypto_wipe(provider->api_key, strlen(provider->api_key));
    free(provider->api_key);
    free(provider->name);
    free(provider->format);
    free(provider->base_url);
    free(provider->prices);
}

static void settings_free(struct settings *settings)
{
    for (size_t i = 0; i < settings->provider_count; i++)
        provider_release(&settings->providers[i]);
    for (size_t i = 0; i < settings->route_count; i++) {
        for (int t = 0; t < settings->routes[i].target_count; t++)
            free(settings->routes[i].targets[t].model);
        free(settings->routes[i].name);
    }
    map_free(settings->routes_by_name);
    free(settings->providers);
    free(settings->routes);
    free(settings);
}

static bool index_routes(struct settings *settings, struct err *err)
{
    settings->routes_by_name = map_new(ROUTES_MAX);
    for (size_t i = 0; settings->routes_by_name && i < settings->route_count; i++) {
        struct route *route = &settings->routes[i];

        if (!map_put(settings->routes_by_name, route->name, strlen(route->name), route))
            return err_set(err, "index routes: out of memory");
    }
    return settings->routes_by_name || err_set(err, "index routes: out of memory");
}

struct settings *settings_load(const struct config *config, struct err *err)
{
    struct settings *settings = xcalloc(1, sizeof(*settings));
    struct price_table prices = {0};
    bool ok;

    settings->references = 1;
    ok = settings_read_providers(settings, config, err) && price_table_open(&prices, config, err) &&
         settings_read_routes(settings, config, &prices, err) && index_routes(settings, err);
    price_table_close(&prices);
    if (ok)
        return settings;
    settings_free(settings);
    return NULL;
}

struct settings *settings_ref(struct settings *settings)
{
    settings->references++;
    return settings;
}

void settings_unref(struct settings *settings)
{
    if (settings && --settings->references == 0)
        settings_free(settings);
}

const struct route *settings_route(const struct settings *settings, const char *name)
{
    return map_get(settings->routes_by_name, name, strlen(name));
}

const char *settings_nearest_route(const struct settings *settings, const char *name)
{
    const char *names[ROUTES_MAX];

    for (size_t i = 0; i < settings->route_count; i++)
        names[i] = settings->routes[i].name;
    return str_nearest(name, names, settings->route_count);
}

size_t settings_routes(const struct settings *settings, const struct route **out)
{
    *out = settings->routes;
    return settings->route_count;
}

size_t settings_providers(const struct settings *settings, const struct provider **out)
{
    *out = settings->providers;
    return settings->provider_count;
}

/* --- print ------------------------------------------------------------------------------------ */

static void print_provider(const struct provider *provider, FILE *out)
{
    fprintf(out,
            "provider %s: format=%s base_url=%s api_key=%s connect_ms=%lld first_byte_ms=%lld "
            "idle_ms=%lld total_ms=%lld max_concurrency=%d requests_per_minute=%lld "
            "tokens_per_minute=%lld prices=%s%s\n",
            provider->name, provider->format, provider->base_url,
            *provider->api_key ? "***" : "none", (long long)provider->connect_ms,
            (long long)provider->first_byte_ms, (long long)provider->idle_ms,
            (long long)provider->total_ms, provider->max_concurrency,
            (long long)provider->requests_per_minute, (long long)provider->tokens_per_minute,
            provider->prices, provider->is_free ? " free" : "");
}

static void print_price(const struct price *price, FILE *out)
{
    char input[MONEY_TEXT_SIZE], cached[MONEY_TEXT_SIZE], output[MONEY_TEXT_SIZE];

    money_format(price->input_nano_per_mtok, input);
    money_format(price->cached_input_nano_per_mtok, cached);
    money_format(price->output_nano_per_mtok, output);
    fprintf(out, "input_per_mtok=%s cached_input_per_mtok=%s output_per_mtok=%s", input, cached,
            output);
}

static void print_target(const struct route *route, int index, FILE *out)
{
    const struct target *target = &route->targets[index];
    char from[CLOCK_RFC3339_SIZE];

    fprintf(out, "route %s target %d: provider=%s model=%s timeout_ms=%lld ", route->name,
            index + 1, target->provider->name, target->model,
            (long long)(target->timeout_ms > 0 ? target->timeout_ms : target->provider->total_ms));
    print_price(&target->price, out);
    fprintf(out, " context_tokens=%lld max_output_tokens=%lld\n", (long long)target->context_tokens,
            (long long)target->max_output_tokens);
    for (int i = 0; i < target->change_count; i++) {
        clock_format_rfc3339(target->changes[i].from_us, from);
        fprintf(out, "route %s target %d: from=%s ", route->name, index + 1, from);
        print_price(&target->changes[i].price, out);
        fprintf(out, "\n");
    }
}

void settings_print(const struct settings *settings, FILE *out)
{
    for (size_t i = 0; i < settings->provider_count; i++)
        print_provider(&settings->providers[i], out);
    for (size_t i = 0; i < settings->route_count; i++)
        for (int t = 0; t < settings->routes[i].target_count; t++)
            print_target(&settings->routes[i], t, out);
}
