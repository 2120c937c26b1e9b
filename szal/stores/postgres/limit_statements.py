"""What is said to PostgreSQL of what is shared in all engines of a database."""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from szal.stores.limit_statements import LimitStatements
from szal.stores.postgres.terms import SOON
from szal.stores.statement import Statement

__all__ = ["LIMITS"]

_EACH = "= ANY (ARRAY(SELECT jsonb_array_elements_text(%s::jsonb)))"
# A permit, `p`, whose execution is run under the lease that it was asked for under. Never EXISTS, which would be
# made a join: there are more leases than permits.
_LIVE = f"""
    coalesce((
        SELECT l.owner IS NOT NULL AND l.expires > {SOON} FROM szal.szal_leases AS l
        WHERE l.execution_id = p.execution_id AND l.epoch = p.epoch
    ), false)
"""
# How much is used of each once this one and all that come before it have what they need. What needs more than there is
# comes before nobody.
_TURN = f"""
    SELECT line.permit_id FROM (
        SELECT p.permit_id, p.name, sum(p.units) OVER (
            PARTITION BY p.name ORDER BY p.held DESC, p.priority DESC, p.asked, p.permit_id
        ) AS used
        FROM szal.szal_permits AS p WHERE p.name {_EACH} AND {_LIVE} AND (p.held = 1 OR 0 = (
            SELECT count(*) FROM szal.szal_permits AS q JOIN szal.szal_capacities AS k ON k.name = q.name
            WHERE q.permit_id = p.permit_id AND q.units > k.capacity
        ))
    ) AS line LEFT JOIN szal.szal_capacities AS c ON c.name = line.name
    WHERE line.permit_id {_EACH} GROUP BY line.permit_id
    HAVING bool_and(coalesce(line.used <= c.capacity, true))
"""
# Whether an execution has not ended, and nobody may have died over it.
_HOLDS = f"""
    coalesce((
        SELECT (l.owner IS NOT NULL AND l.expires > {SOON}) OR e.state = 'Paused'
            OR (e.state IN ('Running', 'RollingBack') AND l.owner IS NULL)
        FROM szal.szal_executions AS e JOIN szal.szal_leases AS l ON l.execution_id = e.execution_id
        WHERE e.execution_id = k.execution_id
    ), false)
"""
_TURN_BY = "szal_permits_next szal_leases_pkey szal_permits_pkey szal_capacities_pkey"

LIMITS = LimitStatements(
    set_capacity=Statement(
        """
        INSERT INTO szal.szal_capacities (name, capacity) SELECT * FROM unnest(%b::text[], %b::bigint[])
        ON CONFLICT (name) DO UPDATE SET capacity = excluded.capacity
        """,
        by="Limits.set_capacity",
        indexes="",
    ),
    remove_capacity=Statement(
        "DELETE FROM szal.szal_capacities WHERE name = ANY (%b::text[]) RETURNING name",
        by="Limits.set_capacity",
        indexes="szal_capacities_pkey",
    ),
    capacities=Statement(
        'SELECT name, capacity FROM szal.szal_capacities ORDER BY name COLLATE "C"', by="Limits.capacities", indexes=""
    ),
    uses=Statement(
        f"""
        SELECT c.name, c.capacity, coalesce(sum(p.units) FILTER (WHERE p.held = 1), 0),
            count(p.permit_id) FILTER (WHERE p.held = 0)
        FROM szal.szal_capacities AS c LEFT JOIN szal.szal_permits AS p ON p.name = c.name AND {_LIVE}
        GROUP BY c.name, c.capacity ORDER BY c.name COLLATE "C"
        """,
        by="Limits.uses",
        indexes="szal_capacities_pkey szal_permits_next szal_leases_pkey",
    ),
    lock=Statement(
        "SELECT FROM szal.szal_capacities WHERE name = ANY (%b::text[]) ORDER BY name FOR UPDATE",
        by="Limits.claim",
        indexes="szal_capacities_pkey",
    ),
    ask=Statement(
        """
        INSERT INTO szal.szal_permits (permit_id, name, step_name, units, priority, asked, execution_id, epoch, held)
        SELECT r.permit_id, r.name, r.step_name, r.units, r.priority, r.asked, l.execution_id, l.epoch, 0
        FROM unnest(
            %b::text[], %b::text[], %b::text[], %b::bigint[], %b::bigint[], %b::float8[], %b::text[], %b::bigint[]
        ) AS r (permit_id, name, step_name, units, priority, asked, execution_id, epoch)
        JOIN szal.szal_leases AS l ON l.execution_id = r.execution_id AND l.epoch = r.epoch
        ON CONFLICT (permit_id, name) DO NOTHING
        """,
        by="Limits.claim",
        indexes="szal_leases_pkey",
    ),
    give_back=Statement(
        "DELETE FROM szal.szal_permits WHERE permit_id = ANY (%b::text[]) RETURNING permit_id",
        by="Limits.claim",
        indexes="szal_permits_pkey",
    ),
    sweep=Statement(
        f"DELETE FROM szal.szal_permits AS p WHERE p.name = ANY (%b::text[]) AND NOT {_LIVE} RETURNING permit_id",
        by="Limits.claim",
        indexes="szal_permits_next szal_leases_pkey",
    ),
    turn=Statement(_TURN, by="Limits.has_turn", indexes=_TURN_BY),
    grant=Statement(
        f"UPDATE szal.szal_permits SET held = 1 WHERE held = 0 AND permit_id IN ({_TURN}) RETURNING permit_id",
        by="Limits.claim",
        indexes=_TURN_BY,
    ),
    held=Statement(
        "SELECT DISTINCT permit_id FROM szal.szal_permits WHERE permit_id = ANY (%b::text[]) AND held = 1",
        by="Limits.claim",
        indexes="szal_permits_pkey",
    ),
    waiting=Statement(
        f"""
        SELECT w.step_name, w.name, w.units, (SELECT c.capacity FROM szal.szal_capacities AS c WHERE c.name = w.name), (
            SELECT coalesce(sum(p.units), 0) FROM szal.szal_permits AS p
            WHERE p.name = w.name AND p.held = 1 AND {_LIVE}
        ), w.asked
        FROM szal.szal_permits AS w WHERE w.execution_id = %s AND w.held = 0
        ORDER BY w.asked, w.step_name COLLATE "C", w.name COLLATE "C"
        """,
        by="Limits.waiting",
        indexes="szal_permits_execution szal_capacities_pkey szal_permits_next szal_leases_pkey",
    ),
    take_turns=Statement(
        f"""
        INSERT INTO szal.szal_rates AS r (name, every, due)
        SELECT g.name, g.every, {SOON} + g.every FROM unnest(%b::text[], %b::float8[]) AS g (name, every)
        ON CONFLICT (name) DO UPDATE SET due = greatest(r.due + excluded.every, excluded.due), every = excluded.every
        RETURNING r.due - r.every - {SOON}
        """,
        by="Limits.take_turns",
        indexes="",
    ),
    take_key=Statement(
        """
        INSERT INTO szal.szal_concurrency AS k (name, execution_id) SELECT * FROM unnest(%b::text[], %b::text[])
        ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING execution_id
        """,
        by="Ledger.create, Ledger.take_over",
        indexes="",
    ),
    free_key=Statement(
        f"""
        UPDATE szal.szal_concurrency AS k SET execution_id = %s WHERE k.name = %s AND NOT {_HOLDS}
        RETURNING k.execution_id
        """,
        by="Ledger.create, Ledger.take_over",
        indexes="szal_concurrency_pkey szal_executions_pkey szal_leases_pkey",
    ),
    key_holder=Statement(
        f"SELECT k.execution_id FROM szal.szal_concurrency AS k WHERE k.name = %s AND {_HOLDS}",
        by="Limits.key_holder",
        indexes="szal_concurrency_pkey szal_executions_pkey szal_leases_pkey",
    ),
    forget_keys=Statement(
        "DELETE FROM szal.szal_concurrency WHERE execution_id = ANY (%b::text[]) RETURNING name",
        by="remove, prune",
        indexes="szal_concurrency_execution",
    ),
    announce=Statement("SELECT pg_notify('szal_limits', '')", by="Limits.claim, Limits.set_capacity", indexes=""),
)
