/* SPDX-License-Identifier: Apache-2.0 */
/* The thresholds of budgets, and the SQL that tells of them. */
#include "common/model/budget_alert_store.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/money.h"
#include "common/io/pg.h"
#include "common/model/leader_store.h"

enum { BODY_MAX = 8192, ALERT_COLUMNS = 12, WAIT_PERCENT = 80 };

PG_STATEMENT(budget_alerts_make_statement,
    "WITH input AS MATERIALIZED ("
    "    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],"
    "        $6::int4[], $7::bool[], $8::int8[], $9::int8[], $10::int8[], $11::int8[], $12::text[])"
    "    WITH ORDINALITY AS input(tenant, scope, kind, name, window_id, percent, only_if_jobs_wait,"
    "        limit_nano, spent_nano, reserved_nano, unknown_nano, body, ord)"
    "), made AS ("
    "    INSERT INTO budget_alerts (tenant, scope, window_id, percent, limit_nano, spent_nano,"
    "                               reserved_nano, unknown_nano)"
    "    SELECT tenant, scope, window_id, percent, limit_nano, spent_nano, reserved_nano,"
    "           unknown_nano"
    "    FROM input i"
    "    WHERE NOT only_if_jobs_wait"
    "       OR EXISTS (SELECT FROM gates g"
    "                  WHERE g.tenant = i.tenant AND g.kind = i.kind AND g.name = i.name"
    "                    AND g.reason = 'budget' AND g.until > now())"
    "    ORDER BY 1, 2, 3, 4"
    "    ON CONFLICT DO NOTHING"
    "    RETURNING tenant, scope, window_id, percent"
    "), told AS MATERIALIZED ("
    "    SELECT i.tenant, i.body, i.ord"
    "    FROM input i"
    "    JOIN made m USING (tenant, scope, window_id, percent)"
    "), owed AS ("
    "    INSERT INTO deliveries (id, tenant, endpoint, url, type, body)"
    "    SELECT id_make(), t.tenant, e.id, e.url, 'budget.threshold', t.body"
    "    FROM told t"
    "    CROSS JOIN LATERAL ("
    "        SELECT id, url FROM endpoints"
    "        WHERE endpoints.tenant = t.tenant"
    "          AND deleted_at IS NULL"
    "          AND disabled_at IS NULL"
    "          AND (events IS NULL OR 'budget.threshold' = ANY (events))"
    "    ) AS e"
    ")"
    "SELECT ord - 1 FROM told");

/* --- which are due ---------------------------------------------------------------------------- */

/* "workflow:nightly|d20261121" taken apart. */
struct parts {
    char scope_text[LIMIT_SCOPE_TEXT_SIZE];
    enum limit_scope scope;
    const char *name; /* in scope_text */
    const char *window_id;
};

static bool take_apart(const char *account, struct parts *out)
{
    const char *bar = strrchr(account, '|');

    if (!bar || bar - account >= LIMIT_SCOPE_TEXT_SIZE)
        return false;
    snprintf(out->scope_text, sizeof(out->scope_text), "%.*s", (int)(bar - account), account);
    out->window_id = bar + 1;
    return limit_scope_parse(out->scope_text, &out->scope, &out->name);
}

/* The set whose ceiling the account has, and the name it was given to; NULL: none that is enforced.
 */
static const struct limit_set *find_set(const struct limit_cache *cache, const char *tenant,
                                        const struct parts *parts, const char **name)
{
    const struct limit_set *set;

    *name = parts->name;
    if (parts->scope == LIMIT_KEY)
        set = limits_set_of(limit_cache_key(cache, parts->name), LIMIT_TENANT, "");
    else
        set = book_account_set(limit_cache_tenant(cache, tenant)->limits, parts->scope, parts->name,
                               name);
    return set && !set->is_shadow ? set : NULL;
}

/* (A limit is at most MONEY_MAX_NANO: its product fits.) */
static bool is_over(int64_t booked, int64_t limit, int percent)
{
    return booked > INT64_MAX / 100 || booked * 100 >= limit * percent;
}

size_t budget_alerts_due(const struct limit_cache *cache, const char *tenant,
                         const struct book_account *account, int64_t now_us,
                         struct budget_alert out[BUDGET_ALERT_LEVELS])
{
    static const int levels[BUDGET_ALERT_LEVELS] = {50, 80, 100};
    int64_t booked = account->spent_nano + account->unknown_nano;
    const struct limit_set *set;
    struct budget_windows now;
    struct parts parts;
    const char *name;
    size_t count = 0;
    int window = 0;

    if (booked <= 0 || !take_apart(account->account, &parts) ||
        !limit_cache_windows(cache, tenant, now_us, &now))
        return 0;
    while (window < BUDGET_WINDOW_COUNT && strcmp(now.id[window], parts.window_id) != 0)
        window++;
    set = window < BUDGET_WINDOW_COUNT ? find_set(cache, tenant, &parts, &name) : NULL;
    if (!set || set->budget_nano[window] < 0)
        return 0;
    for (int i = 0; i < BUDGET_ALERT_LEVELS; i++) {
        int64_t limit = set->budget_nano[window];
        bool is_full = levels[i] == 100 && !is_over(booked, limit, 100) &&
                       is_over(booked, limit, WAIT_PERCENT) && account->reserved_nano == 0;
        struct budget_alert *alert = &out[count];

        if (!is_over(booked, limit, levels[i]) && !is_full)
            continue;
        *alert = (struct budget_alert){
            .scope = parts.scope,
            .window = (enum budget_window)window,
            .percent = levels[i],
            .only_if_jobs_wait = is_full,
            .limit_nano = limit,
            .spent_nano = account->spent_nano,
            .reserved_nano = account->reserved_nano,
            .unknown_nano = account->unknown_nano,
            .resets_us = now.end_us[window] == INT64_MAX ? 0 : now.end_us[window],
        };
        snprintf(alert->tenant, sizeof(alert->tenant), "%s", tenant);
        snprintf(alert->name, sizeof(alert->name), "%s", name);
        snprintf(alert->window_id, sizeof(alert->window_id), "%s", parts.window_id);
        count++;
    }
    return count;
}

/* --- telling ---------------------------------------------------------------------------------- */

static void put_money(struct buf *out, const char *name, int64_t nano)
{
    char text[MONEY_TEXT_SIZE];

    money_format(nano, text);
    buf_printf(out, ",\"%s\":\"%s\"", name, text);
}

static void put_time(struct buf *out, const char *name, int64_t us)
{
    char text[CLOCK_RFC3339_SIZE];

    if (us > 0)
        clock_format_rfc3339(us, text);
    buf_printf(out, us > 0 ? ",\"%s\":\"%s\"" : ",\"%s\":null", name, text);
}

static bool write_body(const struct budget_alert *alert, const char *scope, int64_t now_us,
                       struct buf *out)
{
    char at[CLOCK_RFC3339_SIZE];

    clock_format_rfc3339(now_us, at);
    buf_printf(out, "{\"type\":\"budget.threshold\",\"timestamp\":\"%s\",\"data\":{\"scope\":", at);
    buf_put_json_string(out, scope, strlen(scope));
    buf_printf(out, ",\"window\":\"%s\",\"window_id\":\"%s\",\"threshold_percent\":%d",
               budget_window_name(alert->window), alert->window_id, alert->percent);
    put_money(out, "limit_usd", alert->limit_nano);
    put_money(out, "spent_usd", alert->spent_nano);
    put_money(out, "reserved_usd", alert->reserved_nano);
    put_money(out, "unknown_usd", alert->unknown_nano);
    put_time(out, "resets_at", alert->resets_us);
    return buf_printf(out, ",\"sequence\":1}}");
}

/* What the arrays of the statement borrow from. */
struct texts {
    char scope[LIMIT_SCOPE_TEXT_SIZE];
    struct buf body;
};

static void fill(const struct budget_alert *alert, const struct texts *texts,
                 struct pg_value out[ALERT_COLUMNS])
{
    out[0] = pg_text(alert->tenant);
    out[1] = pg_text(texts->scope);
    out[2] = pg_text(limit_scope_name(alert->scope));
    out[3] = pg_text(alert->name);
    out[4] = pg_text(alert->window_id);
    out[5] = pg_int4(alert->percent);
    out[6] = pg_bool(alert->only_if_jobs_wait);
    out[7] = pg_int8(alert->limit_nano);
    out[8] = pg_int8(alert->spent_nano);
    out[9] = pg_int8(alert->reserved_nano);
    out[10] = pg_int8(alert->unknown_nano);
    out[11] = pg_text_len(texts->body.data, texts->body.len);
}

static void make(struct pg *pg, int64_t epoch, const struct budget_alert *alerts,
                 const struct texts *texts, size_t count, pg_done_fn *done, void *arg)
{
    static const enum pg_type types[ALERT_COLUMNS] = {PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT,
                                                      PG_TEXT, PG_INT4, PG_BOOL, PG_INT8,
                                                      PG_INT8, PG_INT8, PG_INT8, PG_TEXT};
    struct pg_value columns[ALERT_COLUMNS][BUDGET_ALERTS_MAX], row[ALERT_COLUMNS];
    struct pg_value values[ALERT_COLUMNS];

    for (size_t i = 0; i < count; i++) {
        fill(&alerts[i], &texts[i], row);
        for (int c = 0; c < ALERT_COLUMNS; c++)
            columns[c][i] = row[c];
    }
    for (int c = 0; c < ALERT_COLUMNS; c++)
        values[c] = pg_array(types[c], columns[c], count);
    leader_statement(pg, epoch, &budget_alerts_make_statement, values, ALERT_COLUMNS, done, arg);
}

bool budget_alerts_make(struct pg *pg, int64_t epoch, const struct budget_alert *alerts,
                        size_t count, int64_t now_us, pg_done_fn *done, void *arg)
{
    struct texts texts[BUDGET_ALERTS_MAX];
    bool ok = true;

    assert(count <= BUDGET_ALERTS_MAX);
    for (size_t i = 0; i < count; i++) {
        limit_scope_format(alerts[i].scope, alerts[i].name, texts[i].scope);
        buf_init(&texts[i].body, BODY_MAX);
        ok = write_body(&alerts[i], texts[i].scope, now_us, &texts[i].body) && ok;
    }
    if (ok)
        make(pg, epoch, alerts, texts, count, done, arg);
    for (size_t i = 0; i < count; i++)
        buf_release(&texts[i].body);
    return ok;
}

size_t budget_alert_read(const struct pg_result *result, int row)
{
    return (size_t)pg_get_int(result, row, 0);
}
