"""What is said to SQLite of the queue, and of schedules."""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from szal.stores.queue_statements import QueueStatements, ScheduleStatements
from szal.stores.sqlite.terms import EACH, NOW, OF_EXECUTIONS, OF_LEASES, OF_QUEUE, OF_SCHEDULES, STATE
from szal.stores.statement import Statement

__all__ = ["QUEUE", "SCHEDULES"]

# What is queued, `q`, may begin: nothing runs, waits, or is about to begin with the same concurrency key;
# or it is cancelled, which needs none.
_IS_FREE = f"""
    (q.concurrency_key IS NULL OR q.concurrency_key NOT IN (
        SELECT e.concurrency_key FROM szal_executions AS e
        WHERE e.concurrency_key IS NOT NULL AND e.state IN ('Running', 'Paused', 'RollingBack')
        AND (e.state = 'Paused' OR coalesce((
            SELECT l.owner IS NULL OR l.expires > {NOW} FROM szal_leases AS l WHERE l.execution_id = e.execution_id
        ), 1))
        UNION ALL
        SELECT t.concurrency_key FROM szal_queue AS t
        WHERE t.concurrency_key IS NOT NULL AND t.due > {NOW} AND t.due IS NOT t.not_before
    ) OR (SELECT l.cancelled = 1 FROM szal_leases AS l WHERE l.execution_id = q.execution_id))
"""

QUEUE = QueueStatements(
    enqueue=Statement(
        f"""
        INSERT INTO szal_queue (execution_id, queue, priority, not_before, due, concurrency_key, submitted)
        VALUES (?, ?, ?, ?, ?, ?, {NOW})
        """,
        by="Queue.submit",
        indexes="",
    ),
    announce=None,  # whoever waits looks whether the file has changed
    due=Statement(
        f"""
        SELECT min((
            SELECT q.due FROM szal_queue AS q WHERE q.queue = w.value AND {_IS_FREE} ORDER BY q.due LIMIT 1
        )) - {NOW}, max(EXISTS (
            SELECT 1 FROM szal_queue AS q WHERE q.queue = w.value AND q.due > 0 AND q.due <= {NOW}
        ))
        FROM json_each(?) AS w
        """,
        by="Queue.due_in, Queue.claim",
        indexes=f"szal_queue_next szal_executions_keys szal_queue_keys {OF_LEASES}",
    ),
    sweep=Statement(
        f"""
        DELETE FROM szal_queue WHERE queue {EACH} AND due > 0 AND due <= {NOW} AND 'Created' IS NOT
            (SELECT e.{STATE} FROM szal_executions AS e WHERE e.execution_id = szal_queue.execution_id)
        RETURNING execution_id
        """,
        by="Queue.claim",
        indexes=f"szal_queue_next {OF_EXECUTIONS}",
    ),
    ripen=Statement(
        f"UPDATE szal_queue SET due = 0 WHERE queue {EACH} AND due > 0 AND due <= {NOW} RETURNING execution_id",
        by="Queue.claim",
        indexes="szal_queue_next",
    ),
    claim=Statement(
        f"""
        WITH next AS (
            SELECT c.execution_id FROM json_each(?) AS w JOIN szal_queue AS c ON c.execution_id IN (
                SELECT q.execution_id FROM szal_queue AS q
                WHERE q.queue = w.value AND q.due = 0 AND {_IS_FREE}
                AND q.execution_id NOT IN (SELECT value FROM json_each(?))
                ORDER BY q.priority DESC, q.submitted, q.rowid LIMIT ?
            )
            ORDER BY c.priority DESC, c.submitted, c.rowid LIMIT ?
        )
        UPDATE szal_queue SET due = {NOW} + ? WHERE execution_id IN (SELECT execution_id FROM next)
        RETURNING execution_id, priority, submitted, concurrency_key, rowid
        """,
        by="Queue.claim",
        indexes=f"szal_queue_next {OF_QUEUE} szal_executions_keys szal_queue_keys {OF_LEASES}",
    ),
    dequeue=Statement(
        f"DELETE FROM szal_queue WHERE execution_id {EACH} RETURNING execution_id",
        by="Queue.begun, remove, prune",
        indexes=OF_QUEUE,
    ),
    unclaim=Statement(
        f"UPDATE szal_queue SET due = 0 WHERE execution_id {EACH} RETURNING execution_id",
        by="Queue.give_back",
        indexes=OF_QUEUE,
    ),
    places=Statement(
        f"SELECT execution_id, queue, priority, not_before FROM szal_queue WHERE execution_id {EACH}",
        by="Queue.places",
        indexes=OF_QUEUE,
    ),
)

SCHEDULES = ScheduleStatements(
    put=Statement(
        """
        INSERT INTO szal_schedules AS s (name, data, flow, next_at) VALUES (?, ?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET data = excluded.data, flow = excluded.flow, next_at = excluded.next_at
        WHERE s.data <> excluded.data
        """,
        by="Schedules.put",
        indexes="",
    ),
    remove=Statement(
        f"DELETE FROM szal_schedules WHERE name {EACH} RETURNING name", by="Schedules.remove", indexes=OF_SCHEDULES
    ),
    all=Statement(
        "SELECT name, data, flow, next_at, last_id FROM szal_schedules ORDER BY next_at, name",
        by="Schedules.all",
        indexes="",
    ),
    advance=Statement(
        """
        UPDATE szal_schedules SET next_at = ?, last_id = ? WHERE name = ? AND data = ? AND next_at = ? RETURNING name
        """,
        by="Schedules.advance",
        indexes=OF_SCHEDULES,
    ),
)
