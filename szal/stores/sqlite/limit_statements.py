"""What is said to SQLite of what is shared in all engines of a file."""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from szal.stores.limit_statements import LimitStatements
from szal.stores.sqlite.terms import EACH, NOW, OF_CAPACITIES, OF_EXECUTIONS, OF_KEYS, OF_LEASES, OF_PERMITS
from szal.stores.statement import Statement

__all__ = ["LIMITS"]

# A permit, `p`, whose execution is run under the lease that it was asked for under.
_LIVE = f"""
    coalesce((
        SELECT l.owner IS NOT NULL AND l.expires > {NOW} FROM szal_leases AS l
        WHERE l.execution_id = p.execution_id AND l.epoch = p.epoch
    ), 0)
"""
# How much is used of each once this one and all that come before it have what they need. What needs more than there is
# comes before nobody.
_TURN = f"""
    SELECT line.permit_id FROM (
        SELECT p.permit_id, p.name, sum(p.units) OVER (
            PARTITION BY p.name ORDER BY p.held DESC, p.priority DESC, p.asked, p.permit_id
        ) AS used
        FROM szal_permits AS p WHERE p.name {EACH} AND {_LIVE} AND (p.held = 1 OR 0 = (
            SELECT count(*) FROM szal_permits AS q JOIN szal_capacities AS k ON k.name = q.name
            WHERE q.permit_id = p.permit_id AND q.units > k.capacity
        ))
    ) AS line LEFT JOIN szal_capacities AS c ON c.name = line.name
    WHERE line.permit_id {EACH} GROUP BY line.permit_id HAVING max(coalesce(line.used > c.capacity, 0)) = 0
"""

# Whether an execution has not ended, and nobody may have died over it.
_HOLDS = f"""
    coalesce((
        SELECT (l.owner IS NOT NULL AND l.expires > {NOW}) OR e.state = 'Paused'
            OR (e.state IN ('Running', 'RollingBack') AND l.owner IS NULL)
        FROM szal_executions AS e JOIN szal_leases AS l ON l.execution_id = e.execution_id
        WHERE e.execution_id = k.execution_id
    ), 0)
"""

LIMITS = LimitStatements(
    set_capacity=Statement(
        """
        INSERT INTO szal_capacities (name, capacity) VALUES (?, ?)
        ON CONFLICT (name) DO UPDATE SET capacity = excluded.capacity
        """,
        by="Limits.set_capacity",
        indexes="",
    ),
    remove_capacity=Statement(
        f"DELETE FROM szal_capacities WHERE name {EACH} RETURNING name",
        by="Limits.set_capacity",
        indexes=OF_CAPACITIES,
    ),
    capacities=Statement(
        "SELECT name, capacity FROM szal_capacities ORDER BY name", by="Limits.capacities", indexes=OF_CAPACITIES
    ),
    uses=Statement(
        f"""
        SELECT c.name, c.capacity, coalesce(sum(p.units) FILTER (WHERE p.held = 1), 0),
            count(p.permit_id) FILTER (WHERE p.held = 0)
        FROM szal_capacities AS c LEFT JOIN szal_permits AS p ON p.name = c.name AND {_LIVE}
        GROUP BY c.name ORDER BY c.name
        """,
        by="Limits.uses",
        indexes=f"{OF_CAPACITIES} szal_permits_next {OF_LEASES}",
    ),
    lock=None,  # BEGIN IMMEDIATE holds everything
    ask=Statement(
        """
        INSERT INTO szal_permits (permit_id, name, step_name, units, priority, asked, execution_id, epoch, held)
        SELECT ?, ?, ?, ?, ?, ?, execution_id, epoch, 0 FROM szal_leases WHERE execution_id = ? AND epoch = ?
        ON CONFLICT (permit_id, name) DO NOTHING
        """,
        by="Limits.claim",
        indexes=OF_LEASES,
    ),
    give_back=Statement(
        f"DELETE FROM szal_permits WHERE permit_id {EACH} RETURNING permit_id", by="Limits.claim", indexes=OF_PERMITS
    ),
    sweep=Statement(
        f"DELETE FROM szal_permits AS p WHERE p.name {EACH} AND NOT {_LIVE} RETURNING permit_id",
        by="Limits.claim",
        indexes=f"szal_permits_next {OF_LEASES}",
    ),
    turn=Statement(
        _TURN,
        by="Limits.has_turn",
        indexes=f"szal_permits_next {OF_LEASES} {OF_PERMITS} {OF_CAPACITIES}",
    ),
    grant=Statement(
        f"UPDATE szal_permits SET held = 1 WHERE held = 0 AND permit_id IN ({_TURN}) RETURNING permit_id",
        by="Limits.claim",
        indexes=f"szal_permits_next {OF_LEASES} {OF_PERMITS} {OF_CAPACITIES}",
    ),
    held=Statement(
        f"SELECT DISTINCT permit_id FROM szal_permits WHERE permit_id {EACH} AND held = 1",
        by="Limits.claim",
        indexes=OF_PERMITS,
    ),
    waiting=Statement(
        f"""
        SELECT w.step_name, w.name, w.units, (SELECT c.capacity FROM szal_capacities AS c WHERE c.name = w.name),
            (SELECT coalesce(sum(p.units), 0) FROM szal_permits AS p WHERE p.name = w.name AND p.held = 1 AND {_LIVE}),
            w.asked
        FROM szal_permits AS w WHERE w.execution_id = ? AND w.held = 0 ORDER BY w.asked, w.step_name, w.name
        """,
        by="Limits.waiting",
        indexes=f"szal_permits_execution {OF_CAPACITIES} szal_permits_next {OF_LEASES}",
    ),
    take_turns=Statement(
        f"""
        INSERT INTO szal_rates AS r (name, every, due) SELECT g.name, g.every, {NOW} + g.every
        FROM (SELECT ? AS name, ? AS every) AS g WHERE true
        ON CONFLICT (name) DO UPDATE SET due = max(r.due + excluded.every, excluded.due), every = excluded.every
        RETURNING due - every - {NOW}
        """,
        by="Limits.take_turns",
        indexes="",
    ),
    take_key=Statement(
        """
        INSERT INTO szal_concurrency AS k (name, execution_id) VALUES (?, ?)
        ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING execution_id
        """,
        by="Ledger.create, Ledger.take_over",
        indexes="",
    ),
    free_key=Statement(
        f"""
        UPDATE szal_concurrency AS k SET execution_id = ? WHERE k.name = ? AND NOT {_HOLDS}
        RETURNING execution_id
        """,
        by="Ledger.create, Ledger.take_over",
        indexes=f"{OF_KEYS} {OF_EXECUTIONS} {OF_LEASES}",
    ),
    key_holder=Statement(
        f"SELECT k.execution_id FROM szal_concurrency AS k WHERE k.name = ? AND {_HOLDS}",
        by="Limits.key_holder",
        indexes=f"{OF_KEYS} {OF_EXECUTIONS} {OF_LEASES}",
    ),
    forget_keys=Statement(
        f"DELETE FROM szal_concurrency WHERE execution_id {EACH} RETURNING name",
        by="remove, prune",
        indexes="szal_concurrency_execution",
    ),
    announce=None,  # whoever waits looks again and again
)
