-- SPDX-License-Identifier: Apache-2.0
-- Roll-ups of a year of tenant "big" that made 10^8 calls: 120 combinations of workflow, model,
-- provider and key, and 10,000 users with two combinations each; as the scheduler would have left
-- them.  Hours by user only for the days at the two ends: a year's question reads no others.
\set ON_ERROR_STOP on
\set tenant '''big'''
BEGIN;
INSERT INTO tenants (id, name, webhook_secret) VALUES (:tenant, 'Big', '') ON CONFLICT DO NOTHING;

CREATE TEMP TABLE cells ON COMMIT DROP AS
SELECT n, 'workflow-' || n / 6 AS workflow, 'route-' || n / 24 AS route,
       CASE WHEN n % 2 = 0 THEN 'main' ELSE 'spare' END AS provider,
       'model-' || n / 24 || '-' || n % 2 AS model, 'key-' || n / 2 % 3 || '-' || n / 12 AS key_id
FROM generate_series(0, 119) AS n;
ALTER TABLE cells ADD cell uuid;
UPDATE cells SET cell = usage_cell(:tenant, route, workflow, provider, model, key_id);
INSERT INTO usage_cells (cell, tenant, route, workflow, provider, model, key_id)
SELECT cell, :tenant, route, workflow, provider, model, key_id FROM cells ON CONFLICT DO NOTHING;

-- Calls of a cell in an hour, of a user in a day: 11,416 an hour, 274,000 a day in all.
CREATE TEMP TABLE hours ON COMMIT DROP AS
SELECT hour, (hour AT TIME ZONE 'Europe/Berlin')::date AS day
FROM generate_series(date_trunc('day', now(), 'UTC') - interval '365 days',
                     date_trunc('day', now(), 'UTC') + interval '23 hours', interval '1 hour') AS hour;

INSERT INTO usage_hours (tenant, day, hour, cell, jobs, calls, retries, errors, input_tokens,
                         output_tokens, cached_input_tokens, cache_hits, cost_nano, unknown_calls,
                         unknown_nano, queue_wait_ms)
SELECT :tenant, day, hour, cell, 90, 95, 5, 3, 95 * 700, 95 * 300, 9000, 0, 95 * 123457 + n, 0, 0, 4321
FROM hours, cells ORDER BY hour, cell;

CREATE TEMP TABLE sums ON COMMIT DROP AS
SELECT tenant, day, cell, sum(jobs) AS jobs, sum(calls) AS calls, sum(retries) AS retries,
       sum(errors) AS errors, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
       sum(cached_input_tokens) AS cached_input_tokens, 0 AS cache_hits, sum(cost_nano) AS cost_nano,
       0 AS unknown_calls, 0 AS unknown_nano, sum(queue_wait_ms) AS queue_wait_ms
FROM usage_hours WHERE tenant = :tenant GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
INSERT INTO usage_days (tenant, day, cell, jobs, calls, retries, errors, input_tokens, output_tokens,
                        cached_input_tokens, cache_hits, cost_nano, unknown_calls, unknown_nano,
                        queue_wait_ms) SELECT * FROM sums;
INSERT INTO usage_months (tenant, day, cell, jobs, calls, retries, errors, input_tokens,
                          output_tokens, cached_input_tokens, cache_hits, cost_nano, unknown_calls,
                          unknown_nano, queue_wait_ms)
SELECT tenant, date_trunc('month', day)::date, cell, sum(jobs), sum(calls), sum(retries), sum(errors),
       sum(input_tokens), sum(output_tokens), sum(cached_input_tokens), 0, sum(cost_nano), 0, 0,
       sum(queue_wait_ms)
FROM sums GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
INSERT INTO usage_totals (tenant, day, hour, jobs, calls, retries, errors, input_tokens,
                          output_tokens, cached_input_tokens, cache_hits, cost_nano, unknown_calls,
                          unknown_nano, queue_wait_ms)
SELECT tenant, day, hour, sum(jobs), sum(calls), sum(retries), sum(errors), sum(input_tokens),
       sum(output_tokens), sum(cached_input_tokens), 0, sum(cost_nano), 0, 0, sum(queue_wait_ms)
FROM usage_hours WHERE tenant = :tenant GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;

CREATE TEMP TABLE users ON COMMIT DROP AS
SELECT 'u-' || u AS end_user, c.n, c.cell
FROM generate_series(1, 10000) AS u JOIN cells c ON c.n / 2 = u % 60;
INSERT INTO usage_user_days (tenant, day, end_user, cell, jobs, calls, retries, errors, input_tokens,
                             output_tokens, cached_input_tokens, cache_hits, cost_nano,
                             unknown_calls, unknown_nano, queue_wait_ms)
SELECT :tenant, day, end_user, cell, 13, 14, 1, 0, 14 * 700, 14 * 300, 1300, 0, 14 * 123457 + n, 0, 0, 640
FROM (SELECT DISTINCT day FROM hours) AS d, users ORDER BY day, end_user, cell;
INSERT INTO usage_user_months (tenant, day, end_user, cell, jobs, calls, retries, errors,
                               input_tokens, output_tokens, cached_input_tokens, cache_hits,
                               cost_nano, unknown_calls, unknown_nano, queue_wait_ms)
SELECT tenant, date_trunc('month', day)::date, end_user, cell, sum(jobs), sum(calls), sum(retries),
       sum(errors), sum(input_tokens), sum(output_tokens), sum(cached_input_tokens), 0,
       sum(cost_nano), 0, 0, sum(queue_wait_ms)
FROM usage_user_days WHERE tenant = :tenant GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
INSERT INTO usage_user_hours (tenant, day, hour, end_user, cell, jobs, calls, retries, errors,
                              input_tokens, output_tokens, cached_input_tokens, cache_hits,
                              cost_nano, unknown_calls, unknown_nano, queue_wait_ms)
SELECT :tenant, day, hour, end_user, cell, 1, 1, 0, 0, 700, 300, 100, 0, 123457, 0, 0, 30
FROM hours, users
WHERE (hour < (SELECT min(hour) FROM hours) + interval '3 days'
       OR hour > (SELECT max(hour) FROM hours) - interval '3 days')
  AND n % 2 = 0
ORDER BY day, hour, end_user, cell;
COMMIT;
VACUUM ANALYZE usage_cells, usage_totals, usage_hours, usage_days, usage_months, usage_user_hours,
    usage_user_days, usage_user_months, usage_deltas;
