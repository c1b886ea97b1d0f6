/* SPDX-License-Identifier: Apache-2.0 */
/* The order of the scripts' arguments and results, in one place. */
#include "common/model/admission_wire.h"

#include "common/base/clock.h"
#include "common/base/crypto.h"
#include "common/base/money.h"
#include "common/base/str.h"
#include "common/model/book_redis.h"
#include "common/model/limit_cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    NAME_SHOWN_MAX = LIMIT_SCOPE_TEXT_SIZE - 16, /* that fits into a scope's text */
    NAME_PLAIN_MAX = 200,
    HASH_BYTES = 16,
    REFUSAL_WORDS = 8, /* of admit's list */
    STALE_WORDS = 2,
    GO_HOLDS = 8, /* shadows stand above */
    HEAD_NUMBERS = 5,
    LEASE_GRAINS = 16,
    SCOPE_NUMBERS = 4,
    ACCOUNT_NUMBERS = 3,
    KIND_LEN = 2, /* "a:", "m:" or "z:" in front of a scope's text */
    ACCOUNT_FIELD_SIZE = KIND_LEN + LIMIT_SCOPE_TEXT_SIZE + WINDOW_ID_SIZE, /* a: text | id */
};

static const int64_t total_wait_us = 3600 * US_PER_S;
static const int64_t least_wait_us = 100 * US_PER_MS;

/* --- names ------------------------------------------------------------------------------------ */

void admission_name_format(struct id job, int run, int call, char out[ADMISSION_NAME_SIZE])
{
    size_t hex = 2 * sizeof(job.bytes);

    str_hex(job.bytes, sizeof(job.bytes), out);
    snprintf(out + hex, ADMISSION_NAME_SIZE - hex, ":%d:%d", run, call);
}

static bool parse_number(const char *text, size_t len, int *out)
{
    int64_t number;

    if (!str_to_i64(text, len, &number) || number < 0 || number > INT32_MAX)
        return false;
    *out = (int)number;
    return true;
}

bool admission_name_parse(const char *text, size_t len, struct id *job, int *run, int *call)
{
    enum { HEX = 32 };
    const char *colon = len > HEX + 1 ? memchr(text + HEX + 1, ':', len - HEX - 1) : NULL;

    return colon && text[HEX] == ':' && id_parse(text, HEX, "", job) &&
           parse_number(text + HEX + 1, (size_t)(colon - text) - HEX - 1, run) &&
           parse_number(colon + 1, len - (size_t)(colon - text) - 1, call);
}

const char *admission_dimension_name(enum admission_dimension dimension)
{
    static const char *const names[ADMISSION_DIMENSION_COUNT] = {
        [ADMISSION_REQUESTS] = "requests",       [ADMISSION_TOKENS] = "tokens",
        [ADMISSION_CONCURRENCY] = "concurrency", [ADMISSION_BUDGET] = "budget",
        [ADMISSION_CLOSED] = "closed",
    };

    return names[dimension];
}

void wire_scope_format(enum limit_scope scope, const char *name, char out[LIMIT_SCOPE_TEXT_SIZE])
{
    uint8_t digest[SHA256_SIZE];
    char hashed[2 * HASH_BYTES + 2];
    size_t len = strlen(name);

    if (len > 0 && (!str_is_visible_ascii(name, len) || len > NAME_PLAIN_MAX || strchr(name, '|') ||
                    name[0] == '#')) {
        crypto_sha256(name, len, digest);
        hashed[0] = '#';
        str_hex(digest, HASH_BYTES, hashed + 1);
        name = hashed;
    }
    limit_scope_format(scope, name, out);
}

void book_account_format(enum limit_scope scope, const char *name, const char *window_id,
                         char out[BOOK_ACCOUNT_SIZE])
{
    char text[LIMIT_SCOPE_TEXT_SIZE];

    wire_scope_format(scope, name, text);
    snprintf(out, BOOK_ACCOUNT_SIZE, "%s|%s", text, window_id);
}

/* A name that is looked for by its hash. */
struct sought {
    enum limit_scope scope;
    char text[LIMIT_SCOPE_TEXT_SIZE];
    const struct limit_set *set;
    const char *name;
};

static void seek(enum limit_scope scope, const char *name, const struct limit_set *set, void *arg)
{
    struct sought *sought = arg;
    char text[LIMIT_SCOPE_TEXT_SIZE];

    if (scope != sought->scope || sought->set)
        return;
    wire_scope_format(scope, name, text);
    if (strcmp(text, sought->text) != 0)
        return;
    sought->set = set;
    if (strlen(name) <= NAME_SHOWN_MAX)
        sought->name = name;
}

/* (Whoever has no set of his own is under "*".) */
const struct limit_set *book_account_set(const struct limits *limits, enum limit_scope scope,
                                         const char *written, const char **name)
{
    struct sought sought = {.scope = scope, .name = written};

    *name = written;
    if (written[0] != '#')
        return limits_set_of(limits, scope, written);
    limit_scope_format(scope, written, sought.text);
    limits_each(limits, seek, &sought);
    *name = sought.name;
    return sought.set ? sought.set : limits_set_of(limits, scope, "*");
}

/* --- requests --------------------------------------------------------------------------------- */

/* A double holds it, and it is over every ceiling. */
static int64_t bounded(int64_t nano)
{
    return nano < 0 ? 0 : nano > MONEY_MAX_NANO ? MONEY_MAX_NANO + 1 : nano;
}

/* The numbers of a question, which travel as one argument in front of the texts they go with. */
struct numbers {
    int64_t
        of[HEAD_NUMBERS + SCOPE_NUMBERS * WIRE_SCOPES_MAX + ACCOUNT_NUMBERS * WIRE_ACCOUNTS_MAX];
    size_t count;
};

static void put(struct numbers *numbers, int64_t number)
{
    numbers->of[numbers->count++] = number;
}

/* Ends of leases are rounded up to a multiple of it, so that there are few of them: a power of two,
 * at most a sixteenth of the lease. */
static int64_t lease_grain_us(int64_t lease_us)
{
    int64_t grain_us = 1;

    while (grain_us * 2 * LEASE_GRAINS <= lease_us)
        grain_us *= 2;
    return grain_us;
}

static void put_head(struct numbers *numbers, const struct admission_request *request,
                     bool is_enforced, int scopes)
{
    int lease_s = request->lease_s > 0 ? request->lease_s : WIRE_LEASE_DEFAULT_S;

    put(numbers, lease_s * INT64_C(1000));
    put(numbers, lease_grain_us(lease_s * US_PER_S));
    put(numbers, request->tokens > 0 ? request->tokens : 0);
    put(numbers, is_enforced);
    put(numbers, scopes);
}

static void put_scope(struct numbers *numbers, bool is_shadow, int64_t requests, int64_t tokens,
                      int64_t leases)
{
    put(numbers, is_shadow);
    put(numbers, requests);
    put(numbers, tokens);
    put(numbers, leases);
}

static void add_head(struct script_args *args, char kind, const char *owner,
                     const struct admission_request *request, const char *generation,
                     const struct numbers *numbers)
{
    char name[ADMISSION_NAME_SIZE];

    admission_name_format(request->job, request->run, request->call, name);
    script_args_add_prefix(args, kind, owner);
    script_args_add(args, name);
    script_args_add(args, generation);
    script_args_add_number(args, bounded(request->amount_nano));
    script_args_add_packed(args, numbers->of, numbers->count);
}

static void put_scopes(struct numbers *numbers, const struct admission_request *request)
{
    for (int i = 0; i < request->limit_count; i++) {
        const struct limit_set *set = request->limits[i].set;

        if (limit_set_has_rates(set))
            put_scope(numbers, set->is_shadow, set->requests_per_minute, set->tokens_per_minute,
                      set->max_concurrency);
    }
}

static void add_scopes(const struct admission_request *request, struct script_args *args,
                       struct wire_map *map)
{
    char text[KIND_LEN + LIMIT_SCOPE_TEXT_SIZE] = "m:";

    for (int i = 0; i < request->limit_count; i++) {
        const struct applied_limit *limit = &request->limits[i];

        if (!limit_set_has_rates(limit->set))
            continue;
        map->scopes[map->scope_count] = limit->scope;
        map->scope_texts[map->scope_count++] = args->count;
        text[0] = limit->set->is_shadow ? 'z' : 'm';
        wire_scope_format(limit->scope, limit->name, text + KIND_LEN);
        script_args_add(args, text);
    }
}

static int64_t window_wait_us(const struct admission_request *request, enum budget_window window)
{
    int64_t end_us = request->windows->end_us[window];
    int64_t wait_us = end_us == INT64_MAX ? total_wait_us : end_us - request->now_us;

    return wait_us > least_wait_us ? wait_us : least_wait_us;
}

static void put_accounts(struct numbers *numbers, const struct admission_request *request)
{
    for (int i = 0; i < request->limit_count; i++) {
        const struct limit_set *set = request->limits[i].set;

        for (int window = 0; window < BUDGET_WINDOW_COUNT; window++) {
            if (set->budget_nano[window] < 0)
                continue;
            put(numbers, set->budget_nano[window]);
            put(numbers, set->is_shadow);
            put(numbers, window_wait_us(request, (enum budget_window)window));
        }
    }
}

/* "a:<scope>|"; the window's id goes where it ends. */
static char *put_owner(const struct applied_limit *limit, char field[ACCOUNT_FIELD_SIZE])
{
    char *at;

    memcpy(field, "a:", KIND_LEN);
    wire_scope_format(limit->scope, limit->name, field + KIND_LEN);
    at = field + strlen(field);
    *at++ = '|';
    return at;
}

/* Each as the book's field. */
static void add_accounts(const struct admission_request *request, struct script_args *args,
                         struct wire_map *map)
{
    char field[ACCOUNT_FIELD_SIZE];

    for (int i = 0; i < request->limit_count; i++) {
        const struct applied_limit *limit = &request->limits[i];
        char *window_at = NULL;

        for (int window = 0; window < BUDGET_WINDOW_COUNT; window++) {
            if (limit->set->budget_nano[window] < 0)
                continue;
            if (!window_at)
                window_at = put_owner(limit, field);
            map->accounts[map->account_count++] = (struct wire_account){
                .scope = limit->scope, .window = (enum budget_window)window, .text = args->count};
            memcpy(window_at, request->windows->id[window], WINDOW_ID_SIZE);
            script_args_add(args, field);
        }
    }
}

/* The end of the book's record: the owner, and the accounts again. */
static void add_tail(const struct admission_request *request, struct script_args *args,
                     const struct wire_map *map)
{
    script_args_add_number(args, request->run_token);
    for (int i = 0; i < map->account_count; i++)
        script_args_extend(args, map->accounts[i].text, KIND_LEN);
}

/* Budgets, and whether one of them is enforced. */
static int count_budgets(const struct admission_request *request, bool *is_enforced)
{
    int count = 0;

    for (int i = 0; i < request->limit_count; i++) {
        for (int window = 0; window < BUDGET_WINDOW_COUNT; window++) {
            if (request->limits[i].set->budget_nano[window] < 0)
                continue;
            count++;
            *is_enforced = *is_enforced || !request->limits[i].set->is_shadow;
        }
    }
    return count;
}

bool wire_tenant(const struct admission_request *request, struct script_args *args,
                 struct wire_map *map)
{
    struct numbers numbers;
    int scopes = 0;
    bool has_accounts;

    numbers.count = 0;
    *map = (struct wire_map){.scope_count = 0};
    has_accounts = count_budgets(request, &map->has_money) > 0 && request->windows;
    for (int i = 0; i < request->limit_count; i++)
        scopes += limit_set_has_rates(request->limits[i].set);
    if (scopes == 0 && !has_accounts)
        return false;
    put_head(&numbers, request, map->has_money, scopes);
    put_scopes(&numbers, request);
    if (has_accounts)
        put_accounts(&numbers, request);
    add_head(args, 't', request->tenant, request,
             !has_accounts                                   ? ""
             : request->generation && request->generation[0] ? request->generation
                                                             : "0.0",
             &numbers);
    add_scopes(request, args, map);
    if (has_accounts)
        add_accounts(request, args, map);
    add_tail(request, args, map);
    return true;
}

bool wire_provider(const struct admission_request *request, struct script_args *args)
{
    struct numbers numbers;

    if (!request->provider)
        return false;
    numbers.count = 0;
    put_head(&numbers, request, false, 1);
    put_scope(&numbers, false, request->provider_requests_per_minute,
              request->provider_tokens_per_minute, request->provider_max_concurrency);
    add_head(args, 'p', request->provider, request, "", &numbers);
    script_args_add(args, "m:account");
    script_args_add_number(args, request->run_token);
    return true;
}

void wire_settle(char kind, const char *owner, const char *name, enum admission_end end,
                 int64_t cost_nano, int64_t tokens, unsigned parts, struct script_args *args)
{
    static const char *const ends[] = {
        [ADMISSION_UNDONE] = "X",
        [ADMISSION_RELEASED] = "R",
        [ADMISSION_UNKNOWN] = "U",
        [ADMISSION_SETTLED] = "S",
    };
    const int64_t numbers[] = {bounded(cost_nano), tokens, parts};

    script_args_add_prefix(args, kind, owner);
    script_args_add(args, name);
    script_args_add(args, ends[end]);
    script_args_add_packed(args, numbers, sizeof(numbers) / sizeof(numbers[0]));
}

/* --- answers ---------------------------------------------------------------------------------- */

void wire_detail(struct admission_answer *answer, const char *of)
{
    static const char *const limits[ADMISSION_DIMENSION_COUNT] = {
        [ADMISSION_REQUESTS] = "requests_per_minute",
        [ADMISSION_TOKENS] = "tokens_per_minute",
        [ADMISSION_CONCURRENCY] = "max_concurrency",
    };
    char limit[MONEY_TEXT_SIZE];
    char left[MONEY_TEXT_SIZE];

    if (answer->dimension == ADMISSION_CLOSED) {
        snprintf(answer->detail, sizeof(answer->detail), "%s asked to be left alone for a while",
                 of);
        return;
    }
    if (answer->dimension != ADMISSION_BUDGET) {
        snprintf(answer->detail, sizeof(answer->detail), "%s of %s: limit %" PRId64,
                 limits[answer->dimension], of, answer->limit);
        return;
    }
    money_format(answer->limit, limit);
    money_format(answer->free, left);
    snprintf(answer->detail, sizeof(answer->detail), "budget_usd.%s of %s: limit %s, free %s",
             budget_window_name(answer->window), of, limit, left);
}

bool wire_is_numbers(const struct redis_reply *reply, size_t count)
{
    if (reply->kind != REDIS_LIST || reply->count != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (reply->items[i].kind != REDIS_INT)
            return false;
    return true;
}

/* Who refused, by the index the script names; of gets its text. */
static bool find_refuser(const struct script_args *args, const struct wire_map *map,
                         const char *provider, int64_t index, struct admission_answer *answer,
                         char *of, size_t of_size)
{
    bool is_budget = answer->dimension == ADMISSION_BUDGET;
    const char *text;

    answer->is_provider = map == NULL;
    if (!map) {
        snprintf(of, of_size, "provider %s", provider);
        return true;
    }
    if (index < 0 || index >= (is_budget ? map->account_count : map->scope_count))
        return false;
    answer->scope = is_budget ? map->accounts[index].scope : map->scopes[index];
    if (is_budget)
        answer->window = map->accounts[index].window;
    text = script_args_get(args, is_budget ? map->accounts[index].text : map->scope_texts[index]);
    text += KIND_LEN;
    snprintf(of, of_size, "%.*s", (int)strcspn(text, is_budget ? "|" : ""), text);
    return true;
}

static bool read_refusal(const struct redis_reply *reply, const struct script_args *args,
                         const struct wire_map *map, const char *provider,
                         struct admission_answer *answer, unsigned *shadows)
{
    const struct redis_reply *words = reply->items;
    char of[ADMISSION_DETAIL_SIZE / 2];

    if (!wire_is_numbers(reply, REFUSAL_WORDS) || words[1].number < 0 ||
        words[1].number >= ADMISSION_DIMENSION_COUNT)
        return false;
    answer->outcome = words[0].number == 2 ? ADMISSION_NEVER : ADMISSION_WAIT;
    answer->dimension = (enum admission_dimension)words[1].number;
    answer->wait_us = words[3].number;
    answer->interval_us = words[4].number;
    answer->limit = words[5].number;
    answer->free = words[6].number;
    *shadows = (unsigned)words[7].number;
    if (!find_refuser(args, map, provider, words[2].number, answer, of, sizeof(of)))
        return false;
    wire_detail(answer, of);
    return true;
}

bool wire_answer(const struct redis_reply *reply, const struct script_args *args,
                 const struct wire_map *map, const char *provider, struct admission_answer *answer,
                 unsigned *shadows)
{
    *answer = (struct admission_answer){.outcome = ADMISSION_GO};
    *shadows = 0;
    if (reply->kind == REDIS_INT) {
        unsigned holds = (unsigned)reply->number % GO_HOLDS;

        answer->holds = map ? holds : holds ? ADMISSION_HOLDS_PROVIDER : 0;
        *shadows = (unsigned)reply->number / GO_HOLDS;
        return true;
    }
    if (reply->kind != REDIS_LIST || reply->count < STALE_WORDS)
        return false;
    if (reply->count == STALE_WORDS) {
        answer->outcome = ADMISSION_STALE;
        snprintf(answer->generation, sizeof(answer->generation), "%s",
                 reply->items[1].kind == REDIS_TEXT ? reply->items[1].text : "");
        return reply->items[0].kind == REDIS_INT && reply->items[0].number == 3;
    }
    return read_refusal(reply, args, map, provider, answer, shadows);
}
