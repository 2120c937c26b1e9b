"""What is said to PostgreSQL of the queue, and of schedules."""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from szal.stores.postgres.terms import SOON, STATE
from szal.stores.queue_statements import QueueStatements, ScheduleStatements
from szal.stores.statement import Statement

__all__ = ["CLAIM_NOW", "QUEUE", "SCHEDULES"]

# What is queued, `q`, may begin: nothing runs, waits, or is about to begin with the same concurrency key;
# or it is cancelled, which needs none.
_IS_FREE = f"""
    (q.concurrency_key IS NULL OR q.concurrency_key <> ALL (ARRAY(
        SELECT e.concurrency_key FROM szal.szal_executions AS e
        WHERE e.concurrency_key IS NOT NULL AND e.{STATE} IN ('Running', 'Paused', 'RollingBack')
        AND (e.{STATE} = 'Paused' OR coalesce((
            SELECT l.owner IS NULL OR l.expires > {SOON} FROM szal.szal_leases AS l
            WHERE l.execution_id = e.execution_id
        ), true))
        UNION ALL
        SELECT t.concurrency_key FROM szal.szal_queue AS t
        WHERE t.concurrency_key IS NOT NULL AND t.due > {SOON} AND t.due IS DISTINCT FROM t.not_before
    )) OR (SELECT l.cancelled = 1 FROM szal.szal_leases AS l WHERE l.execution_id = q.execution_id))
"""

# The queues of a worker: few, which the planner is told by a limit that it does not know. It takes an array of JSON to
# be a hundred long, and what it does for each to be worth compiling (JIT), which takes tens of milliseconds.
_NAMES = """
    (SELECT n.name FROM unnest(ARRAY(SELECT jsonb_array_elements_text(%s::jsonb))) AS n (name)
    LIMIT (SELECT NULL::bigint))
"""

_NEXT = f"""
    SELECT c.execution_id FROM {_NAMES} AS w CROSS JOIN LATERAL (
        SELECT q.execution_id, q.priority, q.submitted FROM szal.szal_queue AS q
        WHERE q.queue = w.name AND q.due = 0 AND {_IS_FREE}
        AND q.execution_id <> ALL (ARRAY(SELECT jsonb_array_elements_text(%s::jsonb))) {{more}}
        ORDER BY q.priority DESC, q.submitted LIMIT %s FOR UPDATE SKIP LOCKED
    ) AS c
    ORDER BY c.priority DESC, c.submitted LIMIT %s
"""
_CLAIM = f"""
    UPDATE szal.szal_queue AS q SET due = {SOON} + %s FROM next WHERE q.execution_id = next.execution_id
    RETURNING q.execution_id, q.priority, q.submitted, q.concurrency_key, q.execution_id AS id
"""

CLAIM_NOW = Statement(
    f"""
    WITH ripe AS MATERIALIZED (
        SELECT EXISTS (
            SELECT FROM {_NAMES} AS w CROSS JOIN LATERAL (
                SELECT FROM szal.szal_queue AS q WHERE q.queue = w.name AND q.due > 0 AND q.due <= {SOON} LIMIT 1
            ) AS r
        ) AS is_there
    ),
    next AS MATERIALIZED ({_NEXT.format(more="AND NOT (SELECT is_there FROM ripe)")}),
    claimed AS ({_CLAIM})
    SELECT ripe.is_there, claimed.* FROM ripe LEFT JOIN claimed ON true
    """,
    by="Queue.claim",
    indexes="szal_queue_next szal_queue_pkey szal_executions_keys szal_queue_keys szal_leases_pkey",
)

QUEUE = QueueStatements(
    enqueue=Statement(
        f"""
        INSERT INTO szal.szal_queue (execution_id, queue, priority, not_before, due, concurrency_key, submitted)
        SELECT q.*, {SOON}
        FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::float8[], %b::float8[], %b::text[]) AS q
        """,
        by="Queue.submit",
        indexes="",
    ),
    announce=Statement(
        "SELECT pg_notify('szal_queue', '')",
        by="Queue.submit",
        indexes="",
    ),
    due=Statement(
        f"""
        SELECT min((
            SELECT q.due FROM szal.szal_queue AS q WHERE q.queue = w.name AND {_IS_FREE} ORDER BY q.due LIMIT 1
        )) - {SOON}, bool_or(EXISTS (
            SELECT FROM szal.szal_queue AS q WHERE q.queue = w.name AND q.due > 0 AND q.due <= {SOON}
        ))
        FROM unnest(%b::text[]) AS w (name)
        """,
        by="Queue.due_in, Queue.claim",
        indexes="szal_queue_next szal_executions_keys szal_queue_keys szal_leases_pkey",
    ),
    sweep=Statement(
        f"""
        DELETE FROM szal.szal_queue WHERE execution_id IN (
            SELECT q.execution_id FROM szal.szal_queue AS q
            WHERE q.queue = ANY (%b::text[]) AND q.due > 0 AND q.due <= {SOON} AND 'Created' IS DISTINCT FROM
                (SELECT e.{STATE} FROM szal.szal_executions AS e WHERE e.execution_id = q.execution_id)
            FOR UPDATE OF q SKIP LOCKED
        )
        RETURNING execution_id
        """,
        by="Queue.claim",
        indexes="szal_queue_next szal_queue_pkey szal_executions_pkey",
    ),
    ripen=Statement(
        f"""
        UPDATE szal.szal_queue SET due = 0 WHERE execution_id IN (
            SELECT execution_id FROM szal.szal_queue WHERE queue = ANY (%b::text[]) AND due > 0 AND due <= {SOON}
            FOR UPDATE SKIP LOCKED
        )
        RETURNING execution_id
        """,
        by="Queue.claim",
        indexes="szal_queue_next szal_queue_pkey",
    ),
    claim=Statement(
        f"""
        WITH next AS MATERIALIZED ({_NEXT.format(more="")})
        {_CLAIM}
        """,
        by="Queue.claim",
        indexes="szal_queue_next szal_queue_pkey szal_executions_keys szal_queue_keys szal_leases_pkey",
    ),
    dequeue=Statement(
        "DELETE FROM szal.szal_queue WHERE execution_id = ANY (%b::text[]) RETURNING execution_id",
        by="Queue.begun, remove, prune",
        indexes="szal_queue_pkey",
    ),
    unclaim=Statement(
        "UPDATE szal.szal_queue SET due = 0 WHERE execution_id = ANY (%b::text[]) RETURNING execution_id",
        by="Queue.give_back",
        indexes="szal_queue_pkey",
    ),
    places=Statement(
        "SELECT execution_id, queue, priority, not_before FROM szal.szal_queue WHERE execution_id = ANY (%b::text[])",
        by="Queue.places",
        indexes="szal_queue_pkey",
    ),
)

SCHEDULES = ScheduleStatements(
    put=Statement(
        """
        INSERT INTO szal.szal_schedules AS s (name, data, flow, next_at)
        SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::float8[])
        ON CONFLICT (name) DO UPDATE SET data = excluded.data, flow = excluded.flow, next_at = excluded.next_at
        WHERE s.data <> excluded.data
        """,
        by="Schedules.put",
        indexes="",
    ),
    remove=Statement(
        "DELETE FROM szal.szal_schedules WHERE name = ANY (%b::text[]) RETURNING name",
        by="Schedules.remove",
        indexes="szal_schedules_pkey",
    ),
    all=Statement(
        'SELECT name, data, flow, next_at, last_id FROM szal.szal_schedules ORDER BY next_at, name COLLATE "C"',
        by="Schedules.all",
        indexes="",
    ),
    advance=Statement(
        """
        UPDATE szal.szal_schedules SET next_at = %s, last_id = %s WHERE name = %s AND data = %s AND next_at = %s
        RETURNING name
        """,
        by="Schedules.advance",
        indexes="szal_schedules_pkey",
    ),
)
