"""What is said to PostgreSQL of leases."""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from szal.stores.lease_statements import LeaseStatements
from szal.stores.postgres.terms import LIVE_STATES, NOW, SOON, STATE, UNDELIVERED, WATCHED
from szal.stores.statement import Statement

__all__ = ["FENCE", "LEASES", "LOCK_ALL", "WATCH"]

# What its owner is to do with an execution (szal.stores.ledger.Wish), and whether others may take it up.
_WISH = "CASE WHEN l.cancelled <> 0 THEN 1 WHEN l.pausing <> 0 THEN 2 ELSE 0 END"
_MAY_GO_ON = "(l.pausing = 0 OR l.cancelled = 1)"

LEASES = LeaseStatements(
    add=Statement(
        f"""
        INSERT INTO szal.szal_leases AS l
            (execution_id, owner, epoch, expires, content_id, recoveries, cancelled, wake, awaits)
        SELECT r.execution_id, r.owner, r.epoch, coalesce({NOW} + r.ttl, 0), r.content_id,
            0, 0, r.wake, r.awaits
        FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::float8[], %b::text[], %b::float8[], %b::text[])
        AS r (execution_id, owner, epoch, ttl, content_id, wake, awaits)
        ON CONFLICT (execution_id) DO UPDATE
        SET owner = excluded.owner, epoch = greatest(l.epoch, excluded.epoch) + 1, expires = excluded.expires,
            content_id = excluded.content_id, recoveries = 0, cancelled = 0, pausing = 0, wake = excluded.wake,
            awaits = excluded.awaits
        RETURNING execution_id, epoch
        """,
        by="Ledger.create, Ledger.apply",
        indexes="",
    ),
    # First, and alone: what is joined to a row that had to be waited for may be out of date.
    lock=Statement(
        "SELECT FROM szal.szal_leases WHERE execution_id = %s FOR UPDATE",
        by="Ledger.take_over, Ledger.create, remove",
        indexes="szal_leases_pkey",
    ),
    take_over=Statement(
        f"""
        UPDATE szal.szal_leases SET owner = %s, epoch = epoch + %s, expires = {NOW} + %s,
            recoveries = recoveries + %s, pausing = 0
        WHERE execution_id = %s RETURNING epoch
        """,
        by="Ledger.take_over",
        indexes="szal_leases_pkey",
    ),
    # A lease that its own writer is about to change, or that somebody is about to take over, is not waited for: whether
    # it is held is told all the same, and it is renewed the next time.
    renew=Statement(
        f"""
        WITH given AS MATERIALIZED (
            SELECT * FROM unnest(%b::float8[], %b::text[], %b::text[], %b::text[], %b::bigint[])
            AS r (ttl, under_way, execution_id, owner, epoch)
        ), free AS (
            SELECT l.execution_id, r.ttl, r.under_way FROM szal.szal_leases AS l JOIN given AS r USING (execution_id)
            WHERE l.owner = r.owner AND l.epoch = r.epoch ORDER BY l.execution_id FOR NO KEY UPDATE OF l SKIP LOCKED
        ), renewed AS (
            UPDATE szal.szal_leases AS l
            SET expires = {NOW} + f.ttl, under_way = coalesce(f.under_way, l.under_way) FROM free AS f
            WHERE l.execution_id = f.execution_id
        )
        SELECT l.execution_id, {_WISH} FROM szal.szal_leases AS l JOIN given AS r USING (execution_id)
        WHERE l.owner = r.owner AND l.epoch = r.epoch
        """,
        by="Ledger.renew",
        indexes="szal_leases_pkey",
    ),
    release=Statement(
        """
        UPDATE szal.szal_leases AS l SET owner = NULL, expires = 0, wake = r.wake, awaits = r.awaits
        FROM unnest(%b::float8[], %b::text[], %b::text[]) AS r (wake, awaits, execution_id)
        WHERE l.execution_id = r.execution_id
        """,
        by="Ledger.apply",
        indexes="szal_leases_pkey",
    ),
    held=Statement(
        f"SELECT execution_id, epoch, {WATCHED} FROM szal.szal_leases WHERE execution_id = ANY (%b::text[])"
        " ORDER BY execution_id FOR KEY SHARE",
        by="Ledger.apply, Ledger.create, Ledger.take_over, Ledger.join",
        indexes="szal_leases_pkey",
    ),
    tell=Statement(
        f"""
        SELECT pg_notify('szal_changes', execution_id) FROM szal.szal_leases
        WHERE execution_id = ANY (%b::text[]) AND {WATCHED}
        """,
        by="Ledger.apply, Ledger.take_over, Ledger.send, Ledger.request_cancel, Ledger.request_pause",
        indexes="szal_leases_pkey",
    ),
    epoch=Statement(
        "SELECT epoch FROM szal.szal_leases WHERE execution_id = %s",
        by="Ledger.transaction",
        indexes="szal_leases_pkey",
    ),
    leased=Statement(
        "SELECT execution_id FROM szal.szal_leases WHERE execution_id = ANY (%b::text[])",
        by="prune",
        indexes="szal_leases_pkey",
    ),
    idle=Statement(
        f"""
        SELECT execution_id FROM szal.szal_leases
        WHERE execution_id = ANY (%b::text[]) AND (owner IS NULL OR expires <= {NOW})
        ORDER BY execution_id FOR UPDATE SKIP LOCKED
        """,
        by="prune",
        indexes="szal_leases_pkey",
    ),
    progress=Statement(
        "UPDATE szal.szal_leases SET recoveries = 0 WHERE execution_id = ANY (%b::text[])",
        by="Ledger.apply",
        indexes="szal_leases_pkey",
    ),
    holder=Statement(
        f"SELECT owner FROM szal.szal_leases WHERE execution_id = %s AND expires > {NOW}",
        by="Ledger.holder, Ledger.take_over",
        indexes="szal_leases_pkey",
    ),
    holdings=Statement(
        """
        SELECT execution_id, owner, expires, recoveries, wake, cancelled, content_id
        FROM szal.szal_leases WHERE execution_id = ANY (%b::text[])
        """,
        by="Ledger.holdings",
        indexes="szal_leases_pkey",
    ),
    candidates=Statement(
        f"""
        SELECT l.execution_id, l.owner, l.expires > {NOW}
        FROM szal.szal_leases AS l JOIN szal.szal_executions AS e ON e.execution_id = l.execution_id
        WHERE {STATE} IN ('Running', 'RollingBack') AND ({STATE} = 'RollingBack' OR {_MAY_GO_ON})
        ORDER BY l.expires
        """,
        by="Ledger.interrupted",
        indexes="szal_executions_state szal_leases_pkey",
    ),
    awake=Statement(
        # An owner that is still there has died before it said what it waits for.
        f"""
        SELECT l.execution_id, l.owner, l.expires > {NOW}
        FROM szal.szal_leases AS l JOIN szal.szal_executions AS e ON e.execution_id = l.execution_id
        WHERE {STATE} = 'Paused' AND {_MAY_GO_ON} AND (
            l.owner IS NOT NULL OR l.wake <= {NOW} OR l.cancelled = 1
            OR EXISTS (
                SELECT 1 FROM szal.szal_signals AS s WHERE s.execution_id = l.execution_id AND {UNDELIVERED}
                AND (l.awaits IS NULL OR replace(l.awaits, chr(10) || s.name || chr(10), '') <> l.awaits)
            )
        )
        ORDER BY l.wake
        """,
        by="Ledger.interrupted",
        indexes="szal_executions_state szal_leases_pkey szal_signals_pkey szal_steps_pkey",
    ),
    cancel=Statement(
        f"""
        UPDATE szal.szal_leases SET cancelled = 1 WHERE execution_id IN
            (SELECT execution_id FROM szal.szal_executions WHERE execution_id = %s AND {STATE} IN ({LIVE_STATES}))
        RETURNING execution_id
        """,
        by="Ledger.request_cancel",
        indexes="szal_leases_pkey szal_executions_pkey",
    ),
    pause=Statement(
        f"""
        UPDATE szal.szal_leases SET pausing = 1 WHERE execution_id IN
            (SELECT execution_id FROM szal.szal_executions WHERE execution_id = %s AND {STATE} IN ('Running', 'Paused'))
        RETURNING execution_id
        """,
        by="Ledger.request_pause",
        indexes="szal_leases_pkey szal_executions_pkey",
    ),
    wake=Statement(
        f"""
        SELECT min(l.wake) - {SOON}
        FROM szal.szal_leases AS l JOIN szal.szal_executions AS e ON e.execution_id = l.execution_id
        WHERE {STATE} = 'Paused' AND {_MAY_GO_ON}
        """,
        by="Ledger.wakes_in",
        indexes="szal_executions_state szal_leases_pkey",
    ),
    under_way=Statement(  # a lease that somebody is at is left out: it is told again
        """
        UPDATE szal.szal_leases AS l SET under_way = f.under_way FROM (
            SELECT l.execution_id, r.under_way FROM szal.szal_leases AS l
            JOIN unnest(%b::text[], %b::text[], %b::bigint[]) AS r (under_way, execution_id, epoch) USING (execution_id)
            WHERE l.epoch = r.epoch ORDER BY l.execution_id FOR NO KEY UPDATE OF l SKIP LOCKED
        ) AS f WHERE l.execution_id = f.execution_id
        """,
        by="Ledger.tell_under_way",
        indexes="szal_leases_pkey",
    ),
    forget=Statement(
        "DELETE FROM szal.szal_leases WHERE execution_id = ANY (%b::text[]) RETURNING content_id",
        by="remove, prune",
        indexes="szal_leases_pkey",
    ),
)

WATCH = Statement(
    f"""
    UPDATE szal.szal_leases SET watched = {SOON} + %s
    WHERE execution_id = %s RETURNING execution_id
    """,
    by="ChangeListener.attend",
    indexes="szal_leases_pkey",
)
LOCK_ALL = Statement(
    "SELECT FROM szal.szal_leases WHERE execution_id = ANY (%b::text[]) ORDER BY execution_id FOR UPDATE",
    by="Ledger.apply, after an answer was lost",
    indexes="szal_leases_pkey",
)
FENCE = Statement(
    "UPDATE szal.szal_leases SET fenced = epoch WHERE execution_id = ANY (%b::text[])",
    by="Ledger.apply, after an answer was lost",
    indexes="szal_leases_pkey",
)
