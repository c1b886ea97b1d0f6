/* SPDX-License-Identifier: Apache-2.0 */
/* Providers, routes and prices: what is understood, and what is refused with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/model/request_facts.h"
#include "common/model/settings.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct settings *load_named(const char *name, const char *text, struct err *err)
{
    struct config *config = config_parse(name, text, strlen(text), err);
    struct settings *settings;

    assert_non_null(config);
    settings = settings_load(config, err);
    config_free(config);
    return settings;
}

static struct settings *load(const char *text)
{
    struct err err = {0};
    struct settings *settings = load_named("test.yaml", text, &err);

    if (!settings)
        fail_msg("%s", err.message);
    return settings;
}

#define PRICES                                                                               \
    "prices:\n"                                                                              \
    "  notes: anything\n"                                                                    \
    "  main:\n"                                                                              \
    "    gpt-4.1: {input_per_mtok: 0.4, cached_input_per_mtok: 0.1, output_per_mtok: 1.6,\n" \
    "              context_tokens: 1047576, max_output_tokens: 32768, batch_x: 1}\n"         \
    "    tiny: {input_per_mtok: 0.000000001, cached_input_per_mtok: null,\n"                 \
    "           output_per_mtok: \"2.5e-7\"}\n"                                              \
    "    unpriced: {input_per_mtok: null, output_per_mtok: 1, context_tokens: 5}\n"          \
    "  openai:\n"                                                                            \
    "    gpt-4.1: {input_per_mtok: 7, output_per_mtok: 8}\n"                                 \
    "  other:\n"                                                                             \
    "    gpt-4.1: {input_per_mtok: 3, output_per_mtok: 4}\n"

static const char good[] =
    "providers:\n"
    "  main:\n"
    "    format: openai\n"
    "    base_url: https://api.example/v1//\n"
    "    api_key: sk-1\n"
    "    timeouts: {connect_ms: 1, idle_ms: 7}\n"
    "    max_concurrency: 200\n"
    "  plain: {format: openai, base_url: \"http://h:1/v1\"}\n"
    "  named: {format: openai, base_url: \"http://h:1\", prices: other}\n"
    "  gift: {format: openai, base_url: \"http://h:1/\", free: true}\n"
    "routes:\n"
    "  fast:\n"
    "    targets:\n"
    "      - {provider: main, model: gpt-4.1}\n"
    "      - {provider: plain, model: gpt-4.1, timeout_s: 3}\n"
    "      - {provider: named, model: gpt-4.1, timeout_ms: 50}\n"
    "      - {provider: gift, model: whatever}\n"
    "      - {provider: main, model: unpriced, free: true}\n"
    "      - {provider: main, model: tiny}\n"
    "  a.b/c: {strategy: fallback, targets: [{provider: main, model: tiny}]}\n" PRICES;

static void test_everything_is_understood(void **state)
{
    struct settings *settings = load(good);
    const struct route *route = settings_route(settings, "fast"), *routes;
    const struct provider *providers;
    const struct target *targets;

    (void)state;
    assert_int_equal(settings_providers(settings, &providers), 4);
    assert_string_equal(providers[0].name, "main");
    assert_string_equal(providers[0].base_url, "https://api.example/v1");
    assert_string_equal(providers[0].api_key, "sk-1");
    assert_int_equal(providers[0].connect_ms, 1);
    assert_int_equal(providers[0].first_byte_ms, 60000);
    assert_int_equal(providers[0].idle_ms, 7);
    assert_int_equal(providers[0].max_concurrency, 200);
    assert_string_equal(providers[1].api_key, "");
    assert_int_equal(settings_routes(settings, &routes), 2);
    assert_string_equal(routes[1].name, "a.b/c");

    assert_non_null(route);
    assert_int_equal(route->target_count, 6);
    targets = route->targets;
    assert_int_equal(targets[0].price.input_nano_per_mtok, 400000000);
    assert_int_equal(targets[0].price.cached_input_nano_per_mtok, 100000000);
    assert_int_equal(targets[0].context_tokens, 1047576);
    assert_int_equal(targets[0].max_output_tokens, 32768);
    /* By format, by option, free. */
    assert_int_equal(targets[1].price.input_nano_per_mtok, 7 * NANO_PER_USD);
    assert_int_equal(targets[1].price.cached_input_nano_per_mtok, 7 * NANO_PER_USD);
    assert_int_equal(targets[1].timeout_ms, 3000);
    assert_int_equal(targets[2].price.output_nano_per_mtok, 4 * NANO_PER_USD);
    assert_int_equal(targets[2].timeout_ms, 50);
    assert_int_equal(targets[3].price.output_nano_per_mtok, 0);
    assert_int_equal(targets[4].context_tokens, 5);
    assert_int_equal(targets[5].price.input_nano_per_mtok, 1);
    assert_int_equal(targets[5].price.output_nano_per_mtok, 250);
    settings_unref(settings);
}

static void test_names_are_found_and_guessed(void **state)
{
    struct settings *settings = load(good);

    (void)state;
    assert_non_null(settings_route(settings, "a.b/c"));
    assert_null(settings_route(settings, "fas"));
    assert_null(settings_route(settings, ""));
    assert_string_equal(settings_nearest_route(settings, "fsat"), "fast");
    assert_null(settings_nearest_route(settings, "something else"));
    settings_unref(settings);
}

static void test_empty_configuration_has_no_routes(void **state)
{
    struct settings *settings = load("worker: {slots: 1}\n");
    const struct route *routes;

    (void)state;
    assert_int_equal(settings_routes(settings, &routes), 0);
    assert_null(settings_route(settings, "fast"));
    assert_null(settings_nearest_route(settings, "fast"));
    settings_unref(settings);
}

static void test_settings_live_until_the_last_reference(void **state)
{
    struct settings *settings = load(good);

    (void)state;
    assert_ptr_equal(settings_ref(settings), settings);
    settings_unref(settings);
    assert_non_null(settings_route(settings, "fast"));
    settings_unref(settings);
    settings_unref(NULL);
}

static void test_print_shows_no_secret(void **state)
{
    struct settings *settings = load(good);
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    settings_print(settings, out);
    fclose(out);
    assert_null(strstr(text, "sk-1"));
    assert_non_null(strstr(text, "api_key=***"));
    assert_non_null(strstr(text, "route fast target 2: provider=plain model=gpt-4.1 "
                                 "timeout_ms=3000 input_per_mtok=7.000000000"));
    free(text);
    settings_unref(settings);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void test_prices_and_keys_may_be_files_beside_the_configuration(void **state)
{
    char folder[] = "/tmp/test_settings_XXXXXX", name[64], path[64], key[64];
    struct settings *settings;
    struct err err = {0};

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(name, sizeof(name), "%s/nightshift.yaml", folder);
    snprintf(path, sizeof(path), "%s/prices.json", folder);
    snprintf(key, sizeof(key), "%s/key", folder);
    write_file(path, "{\"source\":\"x\",\"openai\":{\"m\":{\"input_per_mtok\":0.15,"
                     "\"cached_input_per_mtok\":null,\"output_per_mtok\":0.6}}}");
    write_file(key, "from-a-file\n");
    settings = load_named(name,
                          "providers: {p: {format: openai, base_url: \"http://h\", "
                          "api_key: \"file:key\"}}\n"
                          "routes: {r: {targets: [{provider: p, model: m}]}}\n"
                          "prices: prices.json\n",
                          &err);
    assert_non_null(settings);
    assert_int_equal(settings_route(settings, "r")->targets[0].price.input_nano_per_mtok,
                     150000000);
    assert_string_equal(settings_route(settings, "r")->targets[0].provider->api_key, "from-a-file");
    settings_unref(settings);

    write_file(path, "{\"openai\":{\"m\":\n{\"input_per_mtok\":-1,\"output_per_mtok\":0.6}}}");
    assert_null(load_named(name,
                           "providers: {p: {format: openai, base_url: \"http://h\"}}\n"
                           "routes: {r: {targets: [{provider: p, model: m}]}}\n"
                           "prices: prices.json\n",
                           &err));
    assert_non_null(strstr(err.message, "prices.json:2: openai.m.input_per_mtok: expected US"));
    unlink(path);
    unlink(key);
    rmdir(folder);
}

#define PROVIDER "providers: {p: {format: openai, base_url: \"http://h\", free: true}}\n"

#define PRICED PROVIDER "routes:\n  r: {targets: [{provider: p, model: m}]}\nprices:\n  p: {m: "

static const struct {
    const char *text, *message;
} bad[] = {
    {"providers: 5\n", "test.yaml:1: providers: expected a mapping, got 5"},
    {"providers:\n  p: {}\n", "test.yaml:2: providers.p.format: missing"},
    {"providers:\n  p:\n    format: anthropic\n",
     "test.yaml:3: providers.p.format: anthropic is not supported yet (only openai is)"},
    {"providers:\n  p:\n    format: opena\n",
     "test.yaml:3: providers.p.format: expected openai, got \"opena\""},
    {"providers:\n  p: {format: openai}\n", "test.yaml:2: providers.p.base_url: missing"},
    {"providers:\n  p: {format: openai, base_url: \"ftp://x\"}\n",
     "test.yaml:2: providers.p.base_url: expected an http or https URL"},
    {"providers:\n  p: {format: openai, base_url: \"http://u:p@x/\"}\n",
     "test.yaml:2: providers.p.base_url: expected a URL without user name"},
    {"providers:\n  p: {format: openai, base_url: \"http://x/?a\"}\n",
     "test.yaml:2: providers.p.base_url: expected a URL without user name"},
    {"providers:\n  p: {format: openai, base_url: \"http://x\", api_keys: a}\n",
     "test.yaml:2: providers.p.api_keys: unknown option (did you mean api_key?)"},
    {"providers:\n  p: {format: openai, base_url: \"http://x\", api_key: \"a b\"}\n",
     "test.yaml:2: providers.p.api_key: expected visible ASCII"},
    {"providers:\n  p: {format: openai, base_url: \"http://x\", api_key: 5}\n",
     "test.yaml:2: providers.p.api_key: expected a text"},
    {"providers:\n  p: {format: openai, base_url: \"http://x\", api_key: \"file:/no/such\"}\n",
     "test.yaml:2: providers.p.api_key: "},
    {"providers:\n  p: {format: openai, base_url: \"http://x\",\n   timeouts: {idle_ms: 0}}\n",
     "test.yaml:3: providers.p.timeouts.idle_ms: expected a whole number from 1 to 3600000, got "},
    {"providers:\n  p: {format: openai, base_url: \"http://x\", timeouts: {idle_s: 1}}\n",
     "test.yaml:2: providers.p.timeouts.idle_s: unknown option (did you mean idle_ms?)"},
    {"providers:\n  p: {format: openai, base_url: \"http://x\", max_concurrency: lots}\n",
     "test.yaml:2: providers.p.max_concurrency: expected a whole number from 0 to 1000000"},
    {"providers:\n  p: {format: openai, base_url: \"http://x\", free: 1}\n",
     "test.yaml:2: providers.p.free: expected true or false, got "},
    {"providers:\n  \"p q\": {format: openai}\n",
     "test.yaml:2: providers.p q: expected a name of 1 to 128 of"},
    {PROVIDER "routes:\n  r: {}\n",
     "test.yaml:3: routes.r.targets: expected a list of 1 to 16 targets"},
    {PROVIDER "routes:\n  r: {targets: []}\n",
     "test.yaml:3: routes.r.targets: expected a list of 1 to 16 targets"},
    {PROVIDER "routes:\n  r: {strategy: weighted, targets: []}\n",
     "test.yaml:3: routes.r.strategy: weighted is not supported yet (only fallback is)"},
    {PROVIDER "routes:\n  r: {strategy: random, targets: []}\n",
     "test.yaml:3: routes.r.strategy: expected fallback, got \"random\""},
    {PROVIDER "routes:\n  r:\n    targets:\n      - {provider: p, model: m}\n      - {model: m}\n",
     "test.yaml:6: routes.r.targets[1].provider: missing"},
    {PROVIDER "routes:\n  r: {targets: [{provider: pp, model: m}]}\n",
     "test.yaml:3: routes.r.targets[0].provider: there is no provider pp (did you mean p?)"},
    {PROVIDER "routes:\n  r: {targets: [{provider: p}]}\n",
     "test.yaml:3: routes.r.targets[0].model: missing"},
    {PROVIDER "routes:\n  r: {targets: [{provider: p, model: \"\"}]}\n",
     "test.yaml:3: routes.r.targets[0].model: expected a text that is not empty"},
    {PROVIDER "routes:\n  r: {targets: [{provider: p, model: m, weight: 3}]}\n",
     "test.yaml:3: routes.r.targets[0].weight: not supported yet"},
    {PROVIDER "routes:\n  r: {targets: [{provider: p, model: m, timeout_s: 1, timeout_ms: 2}]}\n",
     "test.yaml:3: routes.r.targets[0].timeout_s: give timeout_s or timeout_ms, not both"},
    {PROVIDER "routes:\n  r: {targets: [{provider: p, model: m, timeout_s: 3601}]}\n",
     "test.yaml:3: routes.r.targets[0].timeout_s: expected a whole number from 1 to 3600, got "},
    {PROVIDER "routes:\n  r: {targets: [{provider: p, model: m, free: false}]}\n",
     "test.yaml:3: routes.r.targets[0].model: no price for m in prices.openai"},
    {PROVIDER "routes:\n  r: {targets: [{provider: p, model: m}]}\nprices: 3\n",
     "test.yaml:4: prices: expected a mapping or the path of a file"},
    {PROVIDER "routes:\n  r: {targets: [{provider: p, model: m}]}\nprices: /no/such\n",
     "test.yaml:4: prices: "},
    {PROVIDER "routes:\n  r: {targets: [{provider: p, model: m}]}\nprices:\n  p: {m: 5}\n",
     "test.yaml:5: prices.p.m: expected a mapping, got "},
    {PROVIDER "routes:\n  r: {targets: [{provider: p, model: m}]}\nprices:\n"
              "  p: {m: {input_per_mtok: 0.0000000001, output_per_mtok: 1}}\n",
     "test.yaml:5: prices.p.m.input_per_mtok: expected US dollars"},
    {PROVIDER "routes:\n  r: {targets: [{provider: p, model: m}]}\nprices:\n"
              "  p: {m: {context_tokens: 1.5}}\n",
     "test.yaml:5: prices.p.m.context_tokens: expected a whole number"},
    {PRICED "{input_per_mtok: 0, output_per_mtok: 0}}\n",
     "test.yaml:5: prices.p.m.input_per_mtok: 0 for input and output is no price"},
    {PRICED "{input_per_mtok: 1, output_per_mtok: 10000.000000001}}\n",
     "test.yaml:5: prices.p.m.output_per_mtok: expected at most 10000 US dollars"},
    {PRICED "{input_per_mtok: -1, output_per_mtok: 1}}\n",
     "test.yaml:5: prices.p.m.input_per_mtok: expected US dollars"},
    {PRICED "{input_per_mtok: 1, output_per_mtok: 1, priced_fields: audio}}\n",
     "test.yaml:5: prices.p.m.priced_fields: expected a list of names of request fields"},
    {PRICED "{input_per_mtok: 1, output_per_mtok: 1, priced_fields: [service_teir]}}\n",
     "test.yaml:5: prices.p.m.priced_fields: expected names of request fields, each once (did you "
     "mean service_tier?)"},
    {PRICED "{input_per_mtok: 1, output_per_mtok: 1, priced_fields: [audio, audio]}}\n",
     "test.yaml:5: prices.p.m.priced_fields: expected names of request fields, each once"},
    {PRICED "{input_per_mtok: 1, output_per_mtok: 1, priced_fields: [plugins, plugins]}}\n",
     "test.yaml:5: prices.p.m.priced_fields: expected names of request fields, each once"},
    {PRICED "{input_per_mtok: 1, output_per_mtok: 1, priced_fields: [5]}}\n",
     "test.yaml:5: prices.p.m.priced_fields: expected names of request fields, each once"},
    {PRICED "{input_per_mtok: 1, output_per_mtok: 1, priced_fields: [\"\"]}}\n",
     "test.yaml:5: prices.p.m.priced_fields: expected names of request fields, each once"},
    {PRICED
     "{input_per_mtok: 1, output_per_mtok: 1, priced_fields: [a, b, c, d, e, f, g, h, i]}}\n",
     "test.yaml:5: prices.p.m.priced_fields: expected at most 8 fields beside those"},
    {PRICED "[]}\n", "test.yaml:5: prices.p.m: expected a price, or a list of 1 to 16"},
    {PRICED "[5]}\n", "test.yaml:5: prices.p.m[0]: expected a mapping, got "},
    {PRICED "[{input_per_mtok: 1}]}\n",
     "test.yaml:5: prices.p.m[0]: expected input_per_mtok and output_per_mtok"},
    {PRICED "[{from: \"2100-01-01T00:00:00Z\", input_per_mtok: 1, output_per_mtok: 2}]}\n",
     "test.yaml:5: prices.p.m[0].from: expected a time that has come"},
    {PRICED "[{from: 2026-01-01, input_per_mtok: 1, output_per_mtok: 2}]}\n",
     "test.yaml:5: prices.p.m[0].from: expected an RFC 3339 time"},
    {PRICED "[{input_per_mtok: 1, output_per_mtok: 2}, {input_per_mtok: 1, output_per_mtok: 2}]}\n",
     "test.yaml:5: prices.p.m[1].from: missing"},
    {PRICED "[{from: \"2026-02-01T00:00:00Z\", input_per_mtok: 1, output_per_mtok: 2},"
            " {from: \"2026-01-01T00:00:00Z\", input_per_mtok: 1, output_per_mtok: 2}]}\n",
     "test.yaml:5: prices.p.m[1].from: expected later than the version before"},
    {PRICED "[{from: \"2026-02-01T00:00:00Z\", input_per_mtok: 1, output_per_mtok: 2},"
            " {from: \"2026-02-01T01:00:00+01:00\", input_per_mtok: 1, output_per_mtok: 2}]}\n",
     "test.yaml:5: prices.p.m[1].from: expected later than the version before"},
};

static void test_priced_fields_are_what_all_versions_list(void **state)
{
    struct settings *settings =
        load("providers:\n  p: {format: openai, base_url: \"http://x\"}\n"
             "routes:\n  r: {targets: [{provider: p, model: m}, {provider: p, model: n},"
             " {provider: p, model: f, free: true}]}\nprices:\n"
             "  p:\n    m: [{input_per_mtok: 1, output_per_mtok: 9,"
             " priced_fields: [plugins, tools, speed, audio, documents]},"
             " {from: \"2026-01-01T00:00:00Z\", input_per_mtok: 2, output_per_mtok: 4,"
             " priced_fields: [documents, audio, plugins, modalities]}]\n"
             "    n: {input_per_mtok: 1, output_per_mtok: 1, priced_fields: [messages, top_q]}\n"
             "    f: {priced_fields: [enable_thinking]}\n");
    const struct target *targets = settings_route(settings, "r")->targets;

    (void)state;
    assert_int_equal(targets[0].priced_fields, 1u << PRICED_AUDIO);
    assert_int_equal(targets[0].priced_other_count, 2);
    assert_string_equal(targets[0].priced_others[0], "plugins");
    assert_string_equal(targets[0].priced_others[1], "documents");
    assert_int_equal(targets[1].priced_fields, 1u << PRICED_MESSAGES);
    assert_int_equal(targets[1].priced_other_count, 1);
    assert_string_equal(targets[1].priced_others[0], "top_q");
    assert_string_equal(targets[2].priced_others[0], "enable_thinking");
    settings_unref(settings);
}

static void test_price_is_the_one_in_force(void **state)
{
    struct settings *settings =
        load("providers:\n  p: {format: openai, base_url: \"http://x\"}\n"
             "routes:\n  r: {targets: [{provider: p, model: m}]}\nprices:\n"
             "  p: {m: [{input_per_mtok: 1, output_per_mtok: 9, context_tokens: 7},"
             " {from: \"2026-01-01T00:00:00Z\", input_per_mtok: 2, output_per_mtok: 4},"
             " {from: \"2100-01-01T01:00:00+01:00\", input_per_mtok: 0.5,"
             "  output_per_mtok: 5, context_tokens: 8}]}\n");
    const struct target *target = &settings_route(settings, "r")->targets[0];
    int64_t first, second;
    struct price price;
    char printed[2048] = {0};
    FILE *out = fmemopen(printed, sizeof(printed) - 1, "w");

    (void)state;
    assert_true(clock_parse_rfc3339("2026-01-01T00:00:00Z", 20, &first));
    assert_true(clock_parse_rfc3339("2100-01-01T00:00:00Z", 20, &second));
    assert_int_equal(target_price(target, first - 1).input_nano_per_mtok, 1 * NANO_PER_USD);
    assert_int_equal(target_price(target, first).input_nano_per_mtok, 2 * NANO_PER_USD);
    assert_int_equal(target_price(target, second - 1).output_nano_per_mtok, 4 * NANO_PER_USD);
    assert_int_equal(target_price(target, second).output_nano_per_mtok, 5 * NANO_PER_USD);
    assert_int_equal(target->context_tokens, 8);
    price = target_dearest_price(target, second - 1, second);
    assert_int_equal(price.input_nano_per_mtok, 2 * NANO_PER_USD);
    assert_int_equal(price.output_nano_per_mtok, 5 * NANO_PER_USD);
    assert_int_equal(target_dearest_price(target, second, second + 1).input_nano_per_mtok,
                     NANO_PER_USD / 2);
    assert_int_equal(target_dearest_price(target, first, second - 1).output_nano_per_mtok,
                     4 * NANO_PER_USD);
    settings_print(settings, out);
    fclose(out);
    assert_non_null(strstr(printed, "from=2026-01-01T00:00:00.000Z input_per_mtok=2.000000000"));
    assert_non_null(strstr(printed, "from=2100-01-01T00:00:00.000Z input_per_mtok=0.500000000"));
    settings_unref(settings);
}

static void test_mistakes_are_refused_with_their_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct err err = {0};
        struct settings *settings = load_named("test.yaml", bad[i].text, &err);

        if (settings || strncmp(err.message, bad[i].message, strlen(bad[i].message)) != 0)
            fail_msg("case %zu: expected \"%s\", got \"%s\"", i, bad[i].message, err.message);
    }
}

static void test_counts_are_limited(void **state)
{
    char *text = malloc(200000);
    size_t len = 0;
    struct err err = {0};

    (void)state;
    len += (size_t)sprintf(text + len, "providers:\n");
    for (int i = 0; i < PROVIDERS_MAX + 1; i++)
        len += (size_t)sprintf(text + len, "  p%d: {format: openai, base_url: \"http://h\"}\n", i);
    assert_null(load_named("test.yaml", text, &err));
    assert_string_equal(err.message, "test.yaml:2: providers: expected at most 256, got 257");

    len = (size_t)sprintf(text, PROVIDER "routes:\n  r:\n    targets:\n");
    for (int i = 0; i < TARGETS_MAX + 1; i++)
        len += (size_t)sprintf(text + len, "      - {provider: p, model: m}\n");
    assert_null(load_named("test.yaml", text, &err));
    assert_non_null(strstr(err.message, "routes.r.targets: expected a list of 1 to 16 targets"));

    len = (size_t)sprintf(text, PROVIDER "routes:\n");
    for (int i = 0; i < ROUTES_MAX + 1; i++)
        len += (size_t)sprintf(text + len, "  r%d: {targets: [{provider: p, model: m}]}\n", i);
    assert_null(load_named("test.yaml", text, &err));
    assert_non_null(strstr(err.message, "routes: expected at most 1024, got 1025"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_is_understood),
        cmocka_unit_test(test_names_are_found_and_guessed),
        cmocka_unit_test(test_empty_configuration_has_no_routes),
        cmocka_unit_test(test_settings_live_until_the_last_reference),
        cmocka_unit_test(test_print_shows_no_secret),
        cmocka_unit_test(test_priced_fields_are_what_all_versions_list),
        cmocka_unit_test(test_price_is_the_one_in_force),
        cmocka_unit_test(test_prices_and_keys_may_be_files_beside_the_configuration),
        cmocka_unit_test(test_mistakes_are_refused_with_their_place),
        cmocka_unit_test(test_counts_are_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
