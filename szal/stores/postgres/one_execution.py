"""Few writes to one execution as one statement, with a parameter for each value.

That takes the server half the time of the same in JSON, which any number of executions can be in: a third of what a
recorded flow of three steps costs there. As each shape is a statement of its own, which is parsed and prepared, there
are few.
"""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from szal.stores.postgres.terms import NOW, RECORD, SET, STEP_OVER, TOLD
from szal.stores.statement import Statement
from szal.stores.writes import Lease, NewExecution, Release, Save, SaveStep, Write

__all__ = ["Shape", "in_one", "statement_of"]

_MOST_STEPS: Final = 10

_MARKS = ", ".join("%s::jsonb" if name == "labels" else "%s" for name in RECORD)
_EXECUTIONS = f"INSERT INTO szal.szal_executions ({', '.join(RECORD)})"
_STEPS = "INSERT INTO szal.szal_steps (execution_id, step_name, seq, result, signal_id)"
_BEGUN = f"""
    begun AS ({_EXECUTIONS} VALUES ({_MARKS}) ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id),
    leased AS (
        INSERT INTO szal.szal_leases
            (execution_id, owner, epoch, expires, content_id, recoveries, cancelled, wake, awaits)
        VALUES (%s, %s, %s, coalesce({NOW} + %s::float8, 0), %s, 0, 0, %s, %s)
        ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id
    ),
    known AS (SELECT FROM szal.szal_flows WHERE content_id = %s FOR KEY SHARE)
"""
_IS_BEGUN = " AND ".join(f"(SELECT count(*) FROM {name}) = 1" for name in ("begun", "leased", "known"))
_HELD = """
    held AS (
        SELECT execution_id, watched FROM szal.szal_leases
        WHERE execution_id = %s AND epoch = %s AND fenced IS DISTINCT FROM epoch FOR KEY SHARE
    )
"""
_IS_HELD = f"(SELECT {TOLD} FROM held) = 1"
_SAVED = f"saved AS ({_EXECUTIONS} SELECT {_MARKS} FROM held ON CONFLICT (execution_id) DO UPDATE SET {SET})"
_RELEASED = """
    released AS (
        UPDATE szal.szal_leases SET owner = NULL, expires = 0, wake = %s, awaits = %s
        WHERE execution_id = %s AND EXISTS (SELECT FROM held)
    )
"""
_MARKED = f"""
    gone AS (DELETE FROM szal.szal_commits WHERE writer = %s AND number = %s),
    marked AS (INSERT INTO szal.szal_commits (writer, number, made) VALUES (%s, %s, {NOW}))
"""


class Shape(NamedTuple):
    """What is written to one execution: that it begins, or under its lease; so many steps; its record, its release."""

    begins: bool
    steps: int
    saves: bool
    releases: bool


@lru_cache(maxsize=200)
def statement_of(shape: Shape, prefix: str) -> Statement:
    """Return what carries out writes of that *shape*, for tables with that *prefix*.

    It takes their values, as `in_one` has them, and what a mark takes. It does all of it and leaves the mark, or
    divides by zero: where the lease is not held, or fenced, or what is new is there already, or its definition is not.
    """
    parts = [_BEGUN if shape.begins else _HELD]
    if shape.steps:
        rows = ", ".join(["(%s::text, %s::text, %s::bigint, %s::text, %s::text)"] * shape.steps)
        source = f"VALUES {rows}" if shape.begins else f"SELECT row.* FROM held, (VALUES {rows}) AS row"
        parts.append(f"stepped AS ({_STEPS} {source} {STEP_OVER})")
    parts += [_SAVED] * shape.saves + [_RELEASED] * shape.releases
    done = _IS_BEGUN if shape.begins else _IS_HELD
    text = f"WITH {', '.join([*parts, _MARKED])} SELECT 1 / ({done})::int"
    indexes = "szal_flows_pkey szal_commits_pkey" if shape.begins else "szal_leases_pkey szal_commits_pkey"
    return Statement(text, by="Ledger.apply, where a batch is of one execution", indexes=indexes).with_schema(prefix)


def in_one(
    writes: Sequence[Write], leases: Collection[Lease], defined: Collection[str]
) -> tuple[Shape, list[object]] | None:
    """Return the shape of *writes*, which are merged and need *leases*, and their values; None: they have none.

    Of what begins the definition has to be there: it is among *defined*.
    """
    first = writes[0]
    values: list[object]
    if type(first) is NewExecution:
        if leases or first.content_id not in defined:
            return None
        values = [*first.row(), *first.lease_row(), first.content_id]
        rest = writes[1:]
    elif len(leases) == 1:
        (lease,) = leases
        values = [*lease]
        rest = writes
    else:
        return None
    steps = [write.row() for write in rest if type(write) is SaveStep]
    saves = [write.row() for write in rest if type(write) is Save]
    releases = [write.row() for write in rest if type(write) is Release]
    is_of_one = all(write.execution_id == first.execution_id for write in rest)
    has_place = len(steps) + len(saves) + len(releases) == len(rest) and not (len(saves) > 1 or len(releases) > 1)
    if not (is_of_one and has_place and len(steps) <= _MOST_STEPS):
        return None
    shape = Shape(type(first) is NewExecution, len(steps), bool(saves), bool(releases))
    return shape, [*values, *(value for row in (*steps, *saves, *releases) for value in row)]
