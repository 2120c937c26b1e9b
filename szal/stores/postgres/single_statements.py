"""Writes to PostgreSQL that are one statement, and a transaction by that: each makes sure that its leases are held.

So they wait for the network once. What follows where one has written nothing is `PostgresLedger`'s.
"""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from szal.stores.postgres.terms import NOW, RECORD, RECORD_COLUMNS, RECORD_VALUES, SET, STEP_OVER, TELL, TOLD
from szal.stores.statement import Statement

__all__ = ["CARRY_OUT_FEW", "SAVE_FEW_STEPS", "SAVE_HELD_STEP", "TAKE_NEW"]

_TYPES = ", ".join(f"{name} text" for name in RECORD)

SAVE_HELD_STEP = Statement(
    f"""
    INSERT INTO szal.szal_steps (execution_id, step_name, seq, result, signal_id)
    SELECT %s, %s, %s, %s, coalesce(nullif({TELL}, ''), %s) FROM (
        SELECT execution_id, watched FROM szal.szal_leases
        WHERE execution_id = %s AND epoch = %s AND fenced IS DISTINCT FROM epoch FOR KEY SHARE
    ) AS held {STEP_OVER}
    """,
    by="Ledger.apply, where a batch is one step",
    indexes="szal_leases_pkey",
    json=(3,),
)
SAVE_FEW_STEPS = Statement(
    f"""
    WITH given AS MATERIALIZED (
        SELECT * FROM json_to_recordset(%s::json)
        AS r (execution_id text, step_name text, seq bigint, result text, signal_id text, epoch bigint)
    ), held AS (
        SELECT execution_id, watched FROM szal.szal_leases
        WHERE (execution_id, epoch) IN (SELECT execution_id, epoch FROM given)
        AND fenced IS DISTINCT FROM epoch ORDER BY execution_id FOR KEY SHARE
    )
    INSERT INTO szal.szal_steps (execution_id, step_name, seq, result, signal_id)
    SELECT execution_id, step_name, seq, result, signal_id FROM given
    WHERE (SELECT {TOLD} FROM held) = (SELECT count(DISTINCT (execution_id, epoch)) FROM given) {STEP_OVER}
    """,
    by="Ledger.apply, where a batch is nothing but few steps",
    indexes="szal_leases_pkey",
)
CARRY_OUT_FEW = Statement(
    f"""
    WITH given AS MATERIALIZED (SELECT %s::json AS everything),
    needed AS MATERIALIZED (
        SELECT * FROM json_to_recordset((SELECT everything -> 'held' FROM given))
        AS r (execution_id text, epoch bigint)
    ),
    held AS (
        SELECT execution_id, watched FROM szal.szal_leases
        WHERE (execution_id, epoch) IN (SELECT execution_id, epoch FROM needed)
        AND fenced IS DISTINCT FROM epoch ORDER BY execution_id FOR KEY SHARE
    ),
    may AS MATERIALIZED (SELECT (SELECT {TOLD} FROM held) = (SELECT count(*) FROM needed) AS go),
    new AS MATERIALIZED (
        SELECT * FROM json_to_recordset((SELECT everything -> 'new' FROM given))
        AS r ({_TYPES}, owner text, epoch bigint, ttl float8, content_id text, wake float8, awaits text,
            flow text)
        WHERE (SELECT go FROM may)
    ),
    begun AS (
        INSERT INTO szal.szal_executions ({RECORD_COLUMNS}) SELECT {RECORD_VALUES} FROM new ORDER BY execution_id
        ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id
    ),
    leased AS (
        INSERT INTO szal.szal_leases
            (execution_id, owner, epoch, expires, content_id, recoveries, cancelled, wake, awaits)
        SELECT execution_id, owner, epoch, coalesce({NOW} + ttl, 0), content_id, 0, 0,
            wake, awaits
        FROM new ORDER BY execution_id
        ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id
    ),
    defined AS (
        INSERT INTO szal.szal_flows (content_id, data)
        SELECT content_id, max(flow) FROM new WHERE flow IS NOT NULL GROUP BY content_id ORDER BY content_id
        ON CONFLICT (content_id) DO NOTHING RETURNING content_id
    ),
    known AS (
        SELECT content_id FROM szal.szal_flows WHERE content_id IN (SELECT content_id FROM new)
        ORDER BY content_id FOR KEY SHARE
    ),
    stepped AS (
        INSERT INTO szal.szal_steps (execution_id, step_name, seq, result, signal_id)
        SELECT * FROM json_to_recordset((SELECT everything -> 'steps' FROM given))
        AS r (execution_id text, step_name text, seq bigint, result text, signal_id text)
        WHERE (SELECT go FROM may) {STEP_OVER}
    ),
    saved AS (
        INSERT INTO szal.szal_executions ({RECORD_COLUMNS})
        SELECT {RECORD_VALUES} FROM json_to_recordset((SELECT everything -> 'saves' FROM given)) AS r ({_TYPES})
        WHERE (SELECT go FROM may)
        ON CONFLICT (execution_id) DO UPDATE SET {SET}
    ),
    released AS (
        UPDATE szal.szal_leases AS l SET owner = NULL, expires = 0, wake = r.wake, awaits = r.awaits
        FROM json_to_recordset((SELECT everything -> 'releases' FROM given))
        AS r (wake float8, awaits text, execution_id text)
        WHERE l.execution_id = r.execution_id AND (SELECT go FROM may)
    ),
    gone AS (DELETE FROM szal.szal_commits WHERE writer = %s AND number = %s),
    marked AS (INSERT INTO szal.szal_commits (writer, number, made) VALUES (%s, %s, {NOW}))
    SELECT 1 / (
        (SELECT go FROM may)
        AND (SELECT count(*) FROM begun) = (SELECT count(*) FROM new)
        AND (SELECT count(*) FROM leased) = (SELECT count(*) FROM new)
        AND (SELECT count(*) FROM defined) + (SELECT count(*) FROM known)
            = (SELECT count(DISTINCT content_id) FROM new)
    )::int
    """,
    by="Ledger.apply, where a batch is small",
    indexes="szal_leases_pkey szal_flows_pkey szal_commits_pkey",
)
TAKE_NEW = Statement(
    f"""
    WITH taken AS (
        UPDATE szal.szal_leases SET owner = %s, epoch = epoch + %s, expires = {NOW} + %s, pausing = 0
        WHERE execution_id = %s AND epoch = %s AND owner IS NULL AND cancelled = 0
        RETURNING execution_id, watched
    ),
    gone AS (DELETE FROM szal.szal_commits WHERE writer = %s AND number = %s),
    marked AS (INSERT INTO szal.szal_commits (writer, number, made) VALUES (%s, %s, {NOW}))
    SELECT 1 / (SELECT {TOLD} FROM taken)
    """,
    by="Ledger.take_over, of what has not begun",
    indexes="szal_leases_pkey szal_commits_pkey",
)
