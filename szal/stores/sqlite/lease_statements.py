"""What is said to SQLite of leases."""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from szal.stores.lease_statements import LeaseStatements
from szal.stores.sqlite.terms import (
    EACH,
    LIVE_STATES,
    NOW,
    OF_EXECUTIONS,
    OF_LEASES,
    OF_SIGNALS,
    OF_STEPS,
    STATE,
    UNDELIVERED,
)
from szal.stores.statement import Statement

__all__ = ["LEASES"]

# What its owner is to do with an execution (szal.stores.ledger.Wish), and whether others may take it up.
_WISH = "CASE WHEN cancelled <> 0 THEN 1 WHEN pausing <> 0 THEN 2 ELSE 0 END"
_MAY_GO_ON = "(l.pausing = 0 OR l.cancelled = 1)"

LEASES = LeaseStatements(
    add=Statement(
        f"""
        INSERT INTO szal_leases AS l
            (execution_id, owner, epoch, expires, content_id, recoveries, cancelled, wake, awaits)
        VALUES (?, ?, ?, coalesce({NOW} + ?, 0), ?, 0, 0, ?, ?)
        ON CONFLICT (execution_id) DO UPDATE
        SET owner = excluded.owner, epoch = max(l.epoch, excluded.epoch) + 1, expires = excluded.expires,
            content_id = excluded.content_id, recoveries = 0, cancelled = 0, pausing = 0, wake = excluded.wake,
            awaits = excluded.awaits
        RETURNING execution_id, epoch
        """,
        by="Ledger.create, Ledger.apply",
        indexes="",
    ),
    lock=None,  # BEGIN IMMEDIATE holds everything
    take_over=Statement(
        f"""
        UPDATE szal_leases
        SET owner = ?, epoch = epoch + ?, expires = {NOW} + ?, recoveries = recoveries + ?, pausing = 0
        WHERE execution_id = ? RETURNING epoch
        """,
        by="Ledger.take_over",
        indexes=OF_LEASES,
    ),
    renew=Statement(
        f"""
        UPDATE szal_leases SET expires = {NOW} + ?, under_way = coalesce(?, under_way)
        WHERE execution_id = ? AND owner = ? AND epoch = ?
        RETURNING execution_id, {_WISH}
        """,
        by="Ledger.renew",
        indexes=OF_LEASES,
    ),
    release=Statement(
        "UPDATE szal_leases SET owner = NULL, expires = 0, wake = ?, awaits = ? WHERE execution_id = ?",
        by="Ledger.apply",
        indexes=OF_LEASES,
    ),
    held=Statement(
        f"SELECT execution_id, epoch, 0 FROM szal_leases WHERE execution_id {EACH}",
        by="Ledger.apply, Ledger.create, Ledger.take_over, Ledger.join",
        indexes=OF_LEASES,
    ),
    tell=None,
    epoch=Statement("SELECT epoch FROM szal_leases WHERE execution_id = ?", by="Ledger.transaction", indexes=OF_LEASES),
    leased=Statement(f"SELECT execution_id FROM szal_leases WHERE execution_id {EACH}", by="prune", indexes=OF_LEASES),
    idle=Statement(
        f"SELECT execution_id FROM szal_leases WHERE execution_id {EACH} AND (owner IS NULL OR expires <= {NOW})",
        by="prune",
        indexes=OF_LEASES,
    ),
    progress=Statement(
        "UPDATE szal_leases SET recoveries = 0 WHERE execution_id = ?", by="Ledger.apply", indexes=OF_LEASES
    ),
    holder=Statement(
        f"SELECT owner FROM szal_leases WHERE execution_id = ? AND expires > {NOW}",
        by="Ledger.holder, Ledger.take_over",
        indexes=OF_LEASES,
    ),
    holdings=Statement(
        f"""
        SELECT execution_id, owner, expires, recoveries, wake, cancelled, content_id
        FROM szal_leases WHERE execution_id {EACH}
        """,
        by="Ledger.holdings",
        indexes=OF_LEASES,
    ),
    candidates=Statement(
        f"""
        SELECT l.execution_id, l.owner, l.expires > {NOW}
        FROM szal_leases AS l JOIN szal_executions AS e ON e.execution_id = l.execution_id
        WHERE {STATE} IN ('Running', 'RollingBack') AND ({STATE} = 'RollingBack' OR {_MAY_GO_ON})
        ORDER BY l.expires
        """,
        by="Ledger.interrupted",
        indexes=f"szal_executions_state {OF_LEASES}",
    ),
    awake=Statement(
        # An owner that is still there has died before it said what it waits for.
        f"""
        SELECT l.execution_id, l.owner, l.expires > {NOW}
        FROM szal_leases AS l JOIN szal_executions AS e ON e.execution_id = l.execution_id
        WHERE {STATE} = 'Paused' AND {_MAY_GO_ON} AND (
            l.owner IS NOT NULL OR l.wake <= {NOW} OR l.cancelled = 1
            OR EXISTS (
                SELECT 1 FROM szal_signals AS s WHERE s.execution_id = l.execution_id AND {UNDELIVERED}
                AND (l.awaits IS NULL OR replace(l.awaits, char(10) || s.name || char(10), '') <> l.awaits)
            )
        )
        ORDER BY l.wake
        """,
        by="Ledger.interrupted",
        indexes=f"szal_executions_state {OF_LEASES} {OF_SIGNALS} {OF_STEPS}",
    ),
    cancel=Statement(
        f"""
        UPDATE szal_leases SET cancelled = 1 WHERE execution_id IN
            (SELECT execution_id FROM szal_executions WHERE execution_id = ? AND {STATE} IN ({LIVE_STATES}))
        RETURNING execution_id
        """,
        by="Ledger.request_cancel",
        indexes=f"{OF_LEASES} {OF_EXECUTIONS}",
    ),
    pause=Statement(
        f"""
        UPDATE szal_leases SET pausing = 1 WHERE execution_id IN
            (SELECT execution_id FROM szal_executions WHERE execution_id = ? AND {STATE} IN ('Running', 'Paused'))
        RETURNING execution_id
        """,
        by="Ledger.request_pause",
        indexes=f"{OF_LEASES} {OF_EXECUTIONS}",
    ),
    wake=Statement(
        f"""
        SELECT min(l.wake) - {NOW}
        FROM szal_leases AS l JOIN szal_executions AS e ON e.execution_id = l.execution_id
        WHERE {STATE} = 'Paused' AND {_MAY_GO_ON}
        """,
        by="Ledger.wakes_in",
        indexes=f"szal_executions_state {OF_LEASES}",
    ),
    under_way=Statement(
        "UPDATE szal_leases SET under_way = ? WHERE execution_id = ? AND epoch = ?",
        by="Ledger.tell_under_way",
        indexes=OF_LEASES,
    ),
    forget=Statement(
        f"DELETE FROM szal_leases WHERE execution_id {EACH} RETURNING content_id",
        by="remove, prune",
        indexes=OF_LEASES,
    ),
)
