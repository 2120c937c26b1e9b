"""What is said to SQLite of executions. With each: who runs it, and which index serves it.

None looks into a record: what is asked of one is kept in columns beside it.
"""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from szal.model.state import WorkflowState
from szal.stores.heads import COLUMNS
from szal.stores.sqlite.labels import Labelled
from szal.stores.sqlite.lease_statements import LEASES
from szal.stores.sqlite.limit_statements import LIMITS
from szal.stores.sqlite.queue_statements import QUEUE, SCHEDULES
from szal.stores.sqlite.terms import (
    EACH,
    FINISHED,
    LIVE_STATES,
    NOW,
    OF_EXECUTIONS,
    OF_FLOWS,
    OF_LEASES,
    OF_REPORTS,
    OF_SIGNALS,
    OF_STEPS,
    STARTED,
    STATE,
    UNDELIVERED,
)
from szal.stores.statement import Statement
from szal.stores.statements import Parts, Statements

__all__ = ["MANY", "SAVE_MANY_STEPS", "STATEMENTS"]

_COLUMNS = ", ".join(COLUMNS)
_MARKS = ", ".join("?" * (3 + len(COLUMNS)))
_SET = ", ".join(f"{name} = excluded.{name}" for name in ("flow_name", "data", *COLUMNS))

_STEP_ROW = "(?, ?, ?, ?, ?)"
_HELD = "SELECT 1 FROM szal_leases WHERE execution_id = ? AND epoch = ?"
_SAVE_STEPS = """
    INSERT INTO szal_steps (execution_id, step_name, seq, result, signal_id) {}
    ON CONFLICT (execution_id, step_name) DO UPDATE
    SET seq = excluded.seq, result = excluded.result, signal_id = excluded.signal_id
"""
# Of many rows in one statement each costs less: the interpreter's lock is given up, and waited for, once for them all.
MANY = 100  # of 5 values each: an SQLite of before 2020 takes 999
SAVE_MANY_STEPS = Statement(
    _SAVE_STEPS.format(f"VALUES {', '.join([_STEP_ROW] * MANY)}"), by="Ledger.apply", indexes=""
)

# A state is tested with so many marks, whatever their number: what is left over is NULL.
_STATES = len(WorkflowState)


def _many_states(names: list[str]) -> list[str | None]:
    return [*names, *[None] * (_STATES - len(names))]


_PAGE = f"SELECT execution_id, flow_name, {STARTED}, head FROM"
_PARTS = Parts(
    page=f"{_PAGE} szal_executions",
    newest_first=f" ORDER BY {STARTED} DESC, execution_id DESC",
    oldest_first=f" ORDER BY {STARTED}, execution_id",
    limit=" LIMIT ?",
    branch="SELECT * FROM ({}) AS branch",
    newest_of_all=" ORDER BY 3 DESC, 1 DESC",
    ids="SELECT execution_id FROM szal_executions",
    count="SELECT count(*) FROM szal_executions",
    prunable=f"SELECT {STARTED}, execution_id, flow_name FROM szal_executions",
    flow_name="flow_name = ?",
    state=f"{STATE} = ?",
    states=f"{STATE} IN ({', '.join('?' * _STATES)})",
    since=f"{STARTED} >= ?",
    until=f"{STARTED} < ?",
    parent="parent = ?",
    labelled=Labelled(_PAGE),
    # As a row value that were one test, but SQLite would not look for it in an index of expressions.
    before=f"{STARTED} <= ? AND ({STARTED} < ? OR execution_id < ?)",
    after=f"{STARTED} >= ? AND ({STARTED} > ? OR execution_id > ?)",
    ended_before=f"{STARTED} < ? AND {FINISHED} < ? AND {FINISHED} > ''",
    is_filled=f"{STARTED} IS NOT NULL",
    many_states=_many_states,
)

STATEMENTS = Statements(
    parts=_PARTS,
    # -- records --------------------------------------------------------------------------------------
    save=Statement(
        f"""
        INSERT INTO szal_executions (execution_id, flow_name, data, {_COLUMNS}) VALUES ({_MARKS})
        ON CONFLICT (execution_id) DO UPDATE SET {_SET}
        """,
        by="save, Ledger.apply",
        indexes="",
    ),
    remove=Statement(
        "DELETE FROM szal_executions WHERE execution_id = ?", by="remove, prune, Ledger.apply", indexes=OF_EXECUTIONS
    ),
    get=Statement("SELECT data FROM szal_executions WHERE execution_id = ?", by="get", indexes=OF_EXECUTIONS),
    take=Statement("SELECT data FROM szal_executions WHERE execution_id = ?", by="remove", indexes=OF_EXECUTIONS),
    exists=Statement(
        "SELECT 1 FROM szal_executions WHERE execution_id = ?",
        by="Ledger.knows, Ledger.send, Ledger.request_cancel",
        indexes=OF_EXECUTIONS,
    ),
    begin=Statement(
        f"""
        INSERT INTO szal_executions (execution_id, flow_name, data, {_COLUMNS}) VALUES ({_MARKS})
        ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id
        """,
        by="Ledger.create, Ledger.apply",
        indexes="",
    ),
    position=Statement(
        f"SELECT {STARTED} FROM szal_executions WHERE execution_id = ?", by="find(after=id)", indexes=OF_EXECUTIONS
    ),
    oldest_kept=Statement(
        f"""
        SELECT flow_name, started, execution_id FROM (
            SELECT flow_name, started, execution_id,
                row_number() OVER (PARTITION BY flow_name ORDER BY started DESC, execution_id DESC) AS place
            FROM szal_executions WHERE {STARTED} > ''
        ) AS ranked
        WHERE place = ?
        """,
        by="prune(keep=number)",
        indexes="szal_executions_flow",
    ),
    ended=Statement(
        f"SELECT execution_id, state, finished FROM szal_executions WHERE execution_id {EACH}",
        by="prune",
        indexes=OF_EXECUTIONS,
    ),
    live=Statement(
        f"SELECT execution_id FROM szal_executions WHERE state IN ({LIVE_STATES})",
        by="prune",
        indexes="szal_executions_state",
    ),
    parents=Statement(
        f"SELECT execution_id, parent FROM szal_executions WHERE execution_id {EACH} AND parent IS NOT NULL",
        by="prune",
        indexes=OF_EXECUTIONS,
    ),
    # -- steps and definitions ------------------------------------------------------------------------
    save_held_step=Statement(
        _SAVE_STEPS.format(f"SELECT {_STEP_ROW[1:-1]} WHERE EXISTS ({_HELD})"),
        by="Ledger.apply, where a batch is one step",
        indexes=OF_LEASES,
    ),
    save_step=Statement(_SAVE_STEPS.format(f"VALUES {_STEP_ROW}"), by="Ledger.create, Ledger.apply", indexes=""),
    steps=Statement(
        "SELECT step_name, seq, result FROM szal_steps WHERE execution_id = ? ORDER BY seq",
        by="Ledger.read, Ledger.take_over",
        indexes=OF_STEPS,
    ),
    steps_since=Statement(
        "SELECT step_name, seq, result FROM szal_steps WHERE execution_id = ? AND seq > ? ORDER BY seq",
        by="Ledger.steps_since",
        indexes=OF_STEPS,
    ),
    step=Statement(
        "SELECT seq, result FROM szal_steps WHERE execution_id = ? AND step_name = ?",
        by="JoinedTransaction.fate",
        indexes=OF_STEPS,
    ),
    undone=Statement(
        "UPDATE szal_steps SET result = ? WHERE execution_id = ? AND step_name = ? RETURNING execution_id",
        by="Ledger.undone",
        indexes=OF_STEPS,
    ),
    add_flow=Statement(
        "INSERT INTO szal_flows (content_id, data) SELECT ?, ? WHERE NOT EXISTS"
        " (SELECT 1 FROM szal_flows WHERE content_id = ?)",
        by="Ledger.create, Ledger.apply",
        indexes=OF_FLOWS,
    ),
    flow=Statement(
        "SELECT data FROM szal_flows WHERE content_id = ?", by="Ledger.read, Ledger.take_over", indexes=OF_FLOWS
    ),
    # -- executions as a whole -------------------------------------------------------------------------
    look=Statement(
        f"""
        SELECT e.data, l.owner, l.epoch, l.expires > {NOW}, l.content_id, l.recoveries, l.cancelled
        FROM szal_executions AS e LEFT JOIN szal_leases AS l ON l.execution_id = e.execution_id
        WHERE e.execution_id = ?
        """,
        by="Ledger.read, Ledger.take_over",
        indexes=f"{OF_EXECUTIONS} {OF_LEASES}",
    ),
    version=Statement(
        f"""
        SELECT e.head, l.epoch, CASE WHEN l.expires > {NOW} THEN l.owner END, l.under_way, rows.count, rows.sum,
            (SELECT sum(reported) FROM szal_reports WHERE execution_id = ?),
            l.cancelled, l.pausing, l.wake, (SELECT count(*) FROM szal_signals WHERE execution_id = ?),
            CASE WHEN e.state = 'RollingBack' THEN
                (SELECT sum(length(result)) FROM szal_steps WHERE execution_id = ?) END
        FROM szal_executions AS e LEFT JOIN szal_leases AS l ON l.execution_id = e.execution_id
        CROSS JOIN (
            SELECT count(*) AS count, coalesce(sum(seq), 0) AS sum FROM szal_steps WHERE execution_id = ?
        ) AS rows
        WHERE e.execution_id = ?
        """,
        by="Ledger.version",
        indexes=f"{OF_EXECUTIONS} {OF_LEASES} {OF_SIGNALS} {OF_STEPS} {OF_REPORTS}",
    ),
    records=Statement(
        f"""
        SELECT e.execution_id, e.data, l.cancelled
        FROM szal_executions AS e LEFT JOIN szal_leases AS l ON l.execution_id = e.execution_id
        WHERE e.execution_id {EACH}
        """,
        by="Ledger.records",
        indexes=f"{OF_EXECUTIONS} {OF_LEASES}",
    ),
    is_there=Statement(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'szal_leases'", by="Ledger.join", indexes=""
    ),
    now=Statement(f"SELECT {NOW}", by="Ledger.clock", indexes=""),
    # -- signals --------------------------------------------------------------------------------------
    send=Statement(
        f"""
        INSERT INTO szal_signals (execution_id, signal_id, name, value, sent)
        SELECT execution_id, ?, ?, ?, {NOW} FROM szal_executions WHERE execution_id = ? AND {STATE} IN ({LIVE_STATES})
        ON CONFLICT (execution_id, signal_id) DO NOTHING RETURNING signal_id
        """,
        by="Ledger.send",
        indexes=OF_EXECUTIONS,
    ),
    signals=Statement(
        f"""
        SELECT signal_id, name, value FROM szal_signals AS s WHERE execution_id = ? AND {UNDELIVERED}
        ORDER BY sent, signal_id
        """,
        by="Ledger.signals",
        indexes=f"{OF_SIGNALS} {OF_STEPS}",
    ),
    # -- what steps report ----------------------------------------------------------------------------
    report=Statement(
        """
        INSERT INTO szal_reports (execution_id, step_name, epoch, reported, data, item) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (execution_id, step_name) DO UPDATE
        SET epoch = excluded.epoch, reported = excluded.reported, data = excluded.data, item = excluded.item
        WHERE epoch <= excluded.epoch
        """,
        by="Ledger.report",
        indexes="",
        json=(4,),
    ),
    unreport=Statement(
        "DELETE FROM szal_reports WHERE execution_id = ? AND step_name = ?", by="Ledger.report", indexes=OF_REPORTS
    ),
    reports=Statement(
        "SELECT execution_id, step_name, epoch, reported, data, item FROM szal_reports WHERE execution_id = ?",
        by="Ledger.reports",
        indexes=OF_REPORTS,
    ),
    # -- what is left of executions that are deleted: remove, prune, Ledger.apply, Ledger.create ------
    forget_steps=Statement("DELETE FROM szal_steps WHERE execution_id = ?", by="remove, prune", indexes=OF_STEPS),
    forget_delivered=Statement(
        """
        DELETE FROM szal_signals WHERE execution_id = ? AND EXISTS (
            SELECT 1 FROM szal_steps AS t
            WHERE t.execution_id = szal_signals.execution_id AND t.signal_id = szal_signals.signal_id
        )
        """,
        by="Ledger.create",
        indexes=f"{OF_SIGNALS} {OF_STEPS}",
    ),
    forget_reports=Statement("DELETE FROM szal_reports WHERE execution_id = ?", by="remove, prune", indexes=OF_REPORTS),
    forget_signals=Statement("DELETE FROM szal_signals WHERE execution_id = ?", by="remove, prune", indexes=OF_SIGNALS),
    hold_flows=None,  # BEGIN IMMEDIATE holds everything
    forget_flows=Statement(
        """
        DELETE FROM szal_flows WHERE content_id = ?
        AND NOT EXISTS (SELECT 1 FROM szal_leases AS l WHERE l.content_id = szal_flows.content_id)
        """,
        by="remove, prune",
        indexes=f"{OF_FLOWS} szal_leases_content",
    ),
    leases=LEASES,
    queue=QUEUE,
    schedules=SCHEDULES,
    limits=LIMITS,
)
