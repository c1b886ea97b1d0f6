-- SPDX-License-Identifier: Apache-2.0
-- The audit tells more of each act, has its head outside the table, and is sealed by checkpoints.

-- version: what a row's hash covers.  1: seq, at, actor, action, object, detail; 2: these and the
-- columns made here.  Rows of version 1 stand before all others.
ALTER TABLE audit
    ADD COLUMN version    smallint NOT NULL DEFAULT 1,
    ADD COLUMN key_id     text,                         -- the API key that was used
    ADD COLUMN address    text,                         -- where the request came from
    ADD COLUMN request_id text,                         -- its x-request-id
    ADD COLUMN before     text,                         -- JSON: the object as it was ...
    ADD COLUMN after      text,                         -- ... and as it became
    ADD COLUMN data_class text,                         -- as the caller gave them
    ADD COLUMN purpose    text;
CREATE INDEX audit_at ON audit (at, seq);
CREATE INDEX audit_actor ON audit (actor, seq);
CREATE INDEX audit_object ON audit (object, seq);

-- The last row's number and hash: a tail that was cut off is missed by this row, and one that was
-- cut off together with it by the checkpoints.
CREATE TABLE audit_head (
    is_head boolean PRIMARY KEY DEFAULT true CHECK (is_head),
    seq     bigint NOT NULL,
    hash    bytea NOT NULL
);
INSERT INTO audit_head (seq, hash)
SELECT coalesce(max(seq), 0),
       coalesce((SELECT hash FROM audit ORDER BY seq DESC LIMIT 1), decode(repeat('00', 32), 'hex'))
FROM audit;

-- What the scheduler found to be an unbroken chain up to seq, signed with a key that is not in the
-- database (and written to its log, which is not either).
CREATE TABLE audit_checkpoints (
    seq  bigint PRIMARY KEY,
    hash bytea NOT NULL,
    at   timestamptz NOT NULL,
    mac  bytea NOT NULL
);

-- As audit_hash, for fields that may be null: "-," is no netstring.
CREATE FUNCTION audit_hash_fields(prev_hash bytea, VARIADIC fields text[]) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT sha256(prev_hash || convert_to(string_agg(coalesce(octet_length(field) || ':' || field,
                                                              '-') || ',', '' ORDER BY n), 'UTF8'))
    FROM unnest(fields) WITH ORDINALITY AS f(field, n)
$$;

-- Appends a row, in the transaction of the change that it tells of; one session at a time (the row
-- of the head is locked), so that the chain has no forks.  Runs as its owner: the daemons' role can
-- add to the audit by no other way, and neither change nor delete.
--   actor   a name, or {"actor", "key_id", "address", "request_id", "data_class", "purpose"}
--   detail  a JSON object; its members "before" and "after" become the columns of these names
CREATE OR REPLACE FUNCTION audit_append(actor text, action text, object text, detail text)
    RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = public, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    who json := CASE WHEN left(actor, 1) = '{' THEN actor::json
                     ELSE json_build_object('actor', actor) END;
    was text := nullif((detail::json -> 'before')::text, 'null');
    became text := nullif((detail::json -> 'after')::text, 'null');
    more text := CASE WHEN detail::jsonb ?| ARRAY['before', 'after']
                      THEN (detail::jsonb - 'before' - 'after')::text ELSE detail END;
    last audit_head;
    next_hash bytea;
    made_at timestamptz;
BEGIN
    SELECT * INTO last FROM audit_head FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the audit has lost its head: nothing may be changed' USING ERRCODE = 'NS002';
    END IF;
    made_at := clock_timestamp();
    next_hash := audit_hash_fields(
        last.hash, '2', (last.seq + 1)::text,
        (extract(epoch FROM made_at) * 1000000)::bigint::text, who ->> 'actor', action, object,
        more, who ->> 'key_id', who ->> 'address', who ->> 'request_id', was, became,
        who ->> 'data_class', who ->> 'purpose');
    INSERT INTO audit (seq, at, version, actor, action, object, detail, key_id, address, request_id,
                       before, after, data_class, purpose, prev_hash, hash)
    VALUES (last.seq + 1, made_at, 2, who ->> 'actor', action, object, more, who ->> 'key_id',
            who ->> 'address', who ->> 'request_id', was, became, who ->> 'data_class',
            who ->> 'purpose', last.hash, next_hash);
    UPDATE audit_head SET seq = last.seq + 1, hash = next_hash;
    RETURN last.seq + 1;
END
$$;
REVOKE EXECUTE ON FUNCTION audit_append(text, text, text, text) FROM PUBLIC;
