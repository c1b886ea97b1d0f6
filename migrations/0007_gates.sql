-- SPDX-License-Identifier: Apache-2.0
-- What the feeder needs to deal to a tenant at its limits exactly as much as may go.

ALTER TABLE gates
    ADD COLUMN most bigint,                             -- of concurrency: how many calls at once
    ADD COLUMN tail timestamptz,                        -- the last of the rows that were put off
    ADD COLUMN refused_at timestamptz NOT NULL DEFAULT clock_timestamp();

-- What a gate is matched with, as in queue, so that the way back needs no look at the wide row, and
-- to count what runs of a scope.  Null in rows of daemons before this.
ALTER TABLE runs
    ADD COLUMN key_id text,
    ADD COLUMN workflow text,
    ADD COLUMN end_user text,
    ADD COLUMN model text;

-- What of a tenant was dealt and not claimed.
CREATE INDEX queue_dealt_tenant ON queue (tenant) WHERE dispatched_at IS NOT NULL;
CREATE INDEX tenants_disabled ON tenants (id) WHERE is_disabled;
