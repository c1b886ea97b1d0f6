-- SPDX-License-Identifier: Apache-2.0
-- Budgets that came near their ceiling: what tenants were told, once per account and threshold.

CREATE TABLE budget_alerts (
    tenant        text NOT NULL REFERENCES tenants (id),
    scope         text NOT NULL,                        -- "tenant", "workflow:nightly"
    window_id     text NOT NULL,                        -- "d20261121", "m202611", "t"
    percent       smallint NOT NULL CHECK (percent IN (50, 80, 100)),
    limit_nano    bigint NOT NULL,                      -- all four as they were then
    spent_nano    bigint NOT NULL,
    reserved_nano bigint NOT NULL,
    unknown_nano  bigint NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, scope, window_id, percent)
);
CREATE INDEX budget_alerts_age ON budget_alerts (created_at);
