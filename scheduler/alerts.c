/* SPDX-License-Identifier: Apache-2.0 */
/* Alerts of budgets: gathered from accounts, told in one statement, remembered. */
#include "scheduler/alerts.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/map.h"
#include "common/io/metrics.h"
#include "common/io/pg.h"

enum {
    TOLD_MAX = 100000, /* remembered; more are asked of Postgres again */
    KEY_SIZE = JOB_LABEL_MAX + LIMIT_SCOPE_TEXT_SIZE + 64,
};

static const struct metric alerts_made = {
    .name = "nightshift_budget_alerts_total",
    .type = METRIC_COUNTER,
    .help = "Thresholds of budgets that tenants were told of.",
    .labels = {"percent"},
};

struct alerts {
    struct map *told; /* those that Postgres has: "tenant account percent" */
    struct budget_alert due[BUDGET_ALERTS_MAX];
    size_t count;
    alerts_done_fn *done;
    void *arg;
};

struct alerts *alerts_new(void)
{
    struct alerts *alerts = calloc(1, sizeof(*alerts));

    if (!alerts)
        return NULL;
    alerts->told = map_new(TOLD_MAX);
    if (alerts->told)
        return alerts;
    free(alerts);
    return NULL;
}

void alerts_free(struct alerts *alerts)
{
    if (!alerts)
        return;
    map_free(alerts->told);
    free(alerts);
}

static size_t key_of(const struct budget_alert *alert, char *out, size_t size)
{
    int len = snprintf(out, size, "%s %d:%s|%s %d", alert->tenant, (int)alert->scope, alert->name,
                       alert->window_id, alert->percent);

    return len > 0 && (size_t)len < size ? (size_t)len : size - 1;
}

static void count_made(const struct alerts *alerts, const struct pg_result *result)
{
    char percent[8];

    for (int row = 0; row < pg_rows(result); row++) {
        const struct budget_alert *alert = &alerts->due[budget_alert_read(result, row)];

        snprintf(percent, sizeof(percent), "%d", alert->percent);
        metric_add(&alerts_made, METRIC_LABELS(percent), 1);
    }
}

static void remember(struct alerts *alerts)
{
    char key[KEY_SIZE];
    struct map *empty;

    if (map_count(alerts->told) > TOLD_MAX - BUDGET_ALERTS_MAX &&
        (empty = map_new(TOLD_MAX)) != NULL) {
        map_free(alerts->told);
        alerts->told = empty;
    }
    for (size_t i = 0; i < alerts->count; i++) {
        size_t len = key_of(&alerts->due[i], key, sizeof(key));

        /* Whether jobs wait may be otherwise next time. */
        if (!alerts->due[i].only_if_jobs_wait && !map_put(alerts->told, key, len, alerts))
            break;
    }
}

static void on_made(const struct pg_reply *reply, void *arg)
{
    struct alerts *alerts = arg;
    bool ok = reply->status == PG_OK;

    if (ok) {
        count_made(alerts, reply->result);
        remember(alerts);
    }
    alerts->count = 0;
    alerts->done(ok ? NULL : reply, alerts->arg);
}

void alerts_add(struct alerts *alerts, const struct limit_cache *cache, const char *tenant,
                const struct book_account *account, int64_t now_us)
{
    struct budget_alert due[BUDGET_ALERT_LEVELS];
    size_t count = budget_alerts_due(cache, tenant, account, now_us, due);
    char key[KEY_SIZE];

    for (size_t i = 0; i < count && alerts->count < BUDGET_ALERTS_MAX; i++)
        if (!map_get(alerts->told, key, key_of(&due[i], key, sizeof(key))))
            alerts->due[alerts->count++] = due[i];
}

bool alerts_tell(struct alerts *alerts, struct pg *pg, int64_t epoch, int64_t now_us,
                 alerts_done_fn *done, void *arg)
{
    alerts->done = done;
    alerts->arg = arg;
    if (alerts->count > 0 &&
        budget_alerts_make(pg, epoch, alerts->due, alerts->count, now_us, on_made, alerts))
        return true;
    alerts->count = 0;
    return false;
}

void alerts_declare_metrics(void)
{
    metric_declare(&alerts_made, METRIC_LABELS("50"));
    metric_declare(&alerts_made, METRIC_LABELS("80"));
    metric_declare(&alerts_made, METRIC_LABELS("100"));
}
