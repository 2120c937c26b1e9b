"""All that is said to SQLite. With each: who runs it, and which index serves it.

None looks into a record: what is asked of one is kept in columns beside it.
"""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

from szal.model.state import WorkflowState
from szal.stores.filters import LIVE
from szal.stores.heads import COLUMNS
from szal.stores.sqlite.labels import Labelled
from szal.stores.statements import Parts, Statement, Statements

__all__ = ["FINISHED", "MANY", "SAVE_MANY_STEPS", "STARTED", "STATE", "STATEMENTS"]

# The indexes that come with the primary keys.
_EXECUTIONS = "sqlite_autoindex_szal_executions_1"
_STEPS = "sqlite_autoindex_szal_steps_1"
_FLOWS = "sqlite_autoindex_szal_flows_1"
_LEASES = "sqlite_autoindex_szal_leases_1"
_SIGNALS = "sqlite_autoindex_szal_signals_1"
_QUEUE = "sqlite_autoindex_szal_queue_1"
_SCHEDULES = "sqlite_autoindex_szal_schedules_1"

NOW = "((julianday('now') - 2440587.5) * 86400.0)"
_LIVE = ", ".join(f"'{state.value}'" for state in LIVE)

# The columns that are kept of a record (szal.stores.heads), of each row that is one.
STATE, STARTED, FINISHED = "state", "started", "finished"
_COLUMNS = ", ".join(COLUMNS)
_MARKS = ", ".join("?" * (3 + len(COLUMNS)))
_SET = ", ".join(f"{name} = excluded.{name}" for name in ("flow_name", "data", *COLUMNS))

# Of any number of executions, given as a JSON array of their ids: one statement.
_EACH = "IN (SELECT value FROM json_each(?))"

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

# A signal, `s`, that no step, `t`, has taken.
_UNDELIVERED = (
    "NOT EXISTS (SELECT 1 FROM szal_steps AS t WHERE t.execution_id = s.execution_id AND t.signal_id = s.signal_id)"
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
    labelled=Labelled(_PAGE),
    # As a row value that were one test, but SQLite would not look for it in an index of expressions.
    before=f"{STARTED} <= ? AND ({STARTED} < ? OR execution_id < ?)",
    after=f"{STARTED} >= ? AND ({STARTED} > ? OR execution_id > ?)",
    ended_before=f"{STARTED} < ? AND {FINISHED} < ? AND {FINISHED} > ''",
    is_filled=f"{STARTED} IS NOT NULL",
    many_states=_many_states,
)

# What its owner is to do with an execution (szal.stores.ledger.Wish), and whether others may take it up.
_WISH = "CASE WHEN cancelled <> 0 THEN 1 WHEN pausing <> 0 THEN 2 ELSE 0 END"
_MAY_GO_ON = "(l.pausing = 0 OR l.cancelled = 1)"

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
        "DELETE FROM szal_executions WHERE execution_id = ?", by="remove, prune, Ledger.apply", indexes=_EXECUTIONS
    ),
    get=Statement("SELECT data FROM szal_executions WHERE execution_id = ?", by="get", indexes=_EXECUTIONS),
    take=Statement("SELECT data FROM szal_executions WHERE execution_id = ?", by="remove", indexes=_EXECUTIONS),
    exists=Statement(
        "SELECT 1 FROM szal_executions WHERE execution_id = ?",
        by="Ledger.knows, Ledger.send, Ledger.request_cancel",
        indexes=_EXECUTIONS,
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
        f"SELECT {STARTED} FROM szal_executions WHERE execution_id = ?", by="find(after=id)", indexes=_EXECUTIONS
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
        f"SELECT execution_id, state, finished FROM szal_executions WHERE execution_id {_EACH}",
        by="prune",
        indexes=_EXECUTIONS,
    ),
    live=Statement(
        f"SELECT execution_id FROM szal_executions WHERE state IN ({_LIVE})",
        by="prune",
        indexes="szal_executions_state",
    ),
    parents=Statement(
        f"SELECT execution_id, parent FROM szal_executions WHERE execution_id {_EACH} AND parent IS NOT NULL",
        by="prune",
        indexes=_EXECUTIONS,
    ),
    # -- steps and definitions ------------------------------------------------------------------------
    save_held_step=Statement(
        _SAVE_STEPS.format(f"SELECT {_STEP_ROW[1:-1]} WHERE EXISTS ({_HELD})"),
        by="Ledger.apply, where a batch is one step",
        indexes=_LEASES,
    ),
    save_step=Statement(_SAVE_STEPS.format(f"VALUES {_STEP_ROW}"), by="Ledger.create, Ledger.apply", indexes=""),
    steps=Statement(
        "SELECT step_name, seq, result FROM szal_steps WHERE execution_id = ? ORDER BY seq",
        by="Ledger.read, Ledger.take_over",
        indexes=_STEPS,
    ),
    step=Statement(
        "SELECT seq, result FROM szal_steps WHERE execution_id = ? AND step_name = ?",
        by="JoinedTransaction.fate",
        indexes=_STEPS,
    ),
    undone=Statement(
        "UPDATE szal_steps SET result = ? WHERE execution_id = ? AND step_name = ? RETURNING execution_id",
        by="Ledger.undone",
        indexes=_STEPS,
    ),
    add_flow=Statement(
        "INSERT INTO szal_flows (content_id, data) SELECT ?, ? WHERE NOT EXISTS"
        " (SELECT 1 FROM szal_flows WHERE content_id = ?)",
        by="Ledger.create, Ledger.apply",
        indexes=_FLOWS,
    ),
    flow=Statement(
        "SELECT data FROM szal_flows WHERE content_id = ?", by="Ledger.read, Ledger.take_over", indexes=_FLOWS
    ),
    # -- leases ---------------------------------------------------------------------------------------
    add_lease=Statement(
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
    look=Statement(
        f"""
        SELECT e.data, l.owner, l.epoch, l.expires > {NOW}, l.content_id, l.recoveries, l.cancelled
        FROM szal_executions AS e LEFT JOIN szal_leases AS l ON l.execution_id = e.execution_id
        WHERE e.execution_id = ?
        """,
        by="Ledger.read, Ledger.take_over",
        indexes=f"{_EXECUTIONS} {_LEASES}",
    ),
    records=Statement(
        f"""
        SELECT e.execution_id, e.data, l.cancelled
        FROM szal_executions AS e LEFT JOIN szal_leases AS l ON l.execution_id = e.execution_id
        WHERE e.execution_id {_EACH}
        """,
        by="Ledger.records",
        indexes=f"{_EXECUTIONS} {_LEASES}",
    ),
    take_over=Statement(
        f"""
        UPDATE szal_leases
        SET owner = ?, epoch = epoch + ?, expires = {NOW} + ?, recoveries = recoveries + ?, pausing = 0
        WHERE execution_id = ? RETURNING epoch
        """,
        by="Ledger.take_over",
        indexes=_LEASES,
    ),
    renew=Statement(
        f"""
        UPDATE szal_leases SET expires = {NOW} + ? WHERE execution_id = ? AND owner = ? AND epoch = ?
        RETURNING execution_id, {_WISH}
        """,
        by="Ledger.renew",
        indexes=_LEASES,
    ),
    release=Statement(
        "UPDATE szal_leases SET owner = NULL, expires = 0, wake = ?, awaits = ? WHERE execution_id = ?",
        by="Ledger.apply",
        indexes=_LEASES,
    ),
    held=Statement(
        f"SELECT execution_id, epoch FROM szal_leases WHERE execution_id {_EACH}",
        by="Ledger.apply, Ledger.create, Ledger.take_over, Ledger.join",
        indexes=_LEASES,
    ),
    is_there=Statement(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'szal_leases'", by="Ledger.join", indexes=""
    ),
    epoch=Statement("SELECT epoch FROM szal_leases WHERE execution_id = ?", by="Ledger.transaction", indexes=_LEASES),
    leased=Statement(f"SELECT execution_id FROM szal_leases WHERE execution_id {_EACH}", by="prune", indexes=_LEASES),
    idle=Statement(
        f"SELECT execution_id FROM szal_leases WHERE execution_id {_EACH} AND (owner IS NULL OR expires <= {NOW})",
        by="prune",
        indexes=_LEASES,
    ),
    progress=Statement(
        "UPDATE szal_leases SET recoveries = 0 WHERE execution_id = ?", by="Ledger.apply", indexes=_LEASES
    ),
    holder=Statement(
        f"SELECT owner FROM szal_leases WHERE execution_id = ? AND expires > {NOW}",
        by="Ledger.holder, Ledger.take_over",
        indexes=_LEASES,
    ),
    holdings=Statement(
        f"""
        SELECT execution_id, owner, expires, recoveries, wake, cancelled FROM szal_leases WHERE execution_id {_EACH}
        """,
        by="Ledger.holdings",
        indexes=_LEASES,
    ),
    candidates=Statement(
        f"""
        SELECT l.execution_id, l.owner, l.expires > {NOW}
        FROM szal_leases AS l JOIN szal_executions AS e ON e.execution_id = l.execution_id
        WHERE {STATE} IN ('Running', 'RollingBack') AND ({STATE} = 'RollingBack' OR {_MAY_GO_ON})
        ORDER BY l.expires
        """,
        by="Ledger.interrupted",
        indexes=f"szal_executions_state {_LEASES}",
    ),
    awake=Statement(
        # An owner that is still there has died before it said what it waits for.
        f"""
        SELECT l.execution_id, l.owner, l.expires > {NOW}
        FROM szal_leases AS l JOIN szal_executions AS e ON e.execution_id = l.execution_id
        WHERE {STATE} = 'Paused' AND {_MAY_GO_ON} AND (
            l.owner IS NOT NULL OR l.wake <= {NOW} OR l.cancelled = 1
            OR EXISTS (
                SELECT 1 FROM szal_signals AS s WHERE s.execution_id = l.execution_id AND {_UNDELIVERED}
                AND (l.awaits IS NULL OR replace(l.awaits, char(10) || s.name || char(10), '') <> l.awaits)
            )
        )
        ORDER BY l.wake
        """,
        by="Ledger.interrupted",
        indexes=f"szal_executions_state {_LEASES} {_SIGNALS} {_STEPS}",
    ),
    cancel=Statement(
        f"""
        UPDATE szal_leases SET cancelled = 1 WHERE execution_id IN
            (SELECT execution_id FROM szal_executions WHERE execution_id = ? AND {STATE} IN ({_LIVE}))
        RETURNING execution_id
        """,
        by="Ledger.request_cancel",
        indexes=f"{_LEASES} {_EXECUTIONS}",
    ),
    pause=Statement(
        f"""
        UPDATE szal_leases SET pausing = 1 WHERE execution_id IN
            (SELECT execution_id FROM szal_executions WHERE execution_id = ? AND {STATE} IN ('Running', 'Paused'))
        RETURNING execution_id
        """,
        by="Ledger.request_pause",
        indexes=f"{_LEASES} {_EXECUTIONS}",
    ),
    wake=Statement(
        f"""
        SELECT min(l.wake) - {NOW}
        FROM szal_leases AS l JOIN szal_executions AS e ON e.execution_id = l.execution_id
        WHERE {STATE} = 'Paused' AND {_MAY_GO_ON}
        """,
        by="Ledger.wakes_in",
        indexes=f"szal_executions_state {_LEASES}",
    ),
    now=Statement(f"SELECT {NOW}", by="Ledger.clock", indexes=""),
    # -- signals --------------------------------------------------------------------------------------
    send=Statement(
        f"""
        INSERT INTO szal_signals (execution_id, signal_id, name, value, sent)
        SELECT execution_id, ?, ?, ?, {NOW} FROM szal_executions WHERE execution_id = ? AND {STATE} IN ({_LIVE})
        ON CONFLICT (execution_id, signal_id) DO NOTHING RETURNING signal_id
        """,
        by="Ledger.send",
        indexes=_EXECUTIONS,
    ),
    signals=Statement(
        f"""
        SELECT signal_id, name, value FROM szal_signals AS s WHERE execution_id = ? AND {_UNDELIVERED}
        ORDER BY sent, signal_id
        """,
        by="Ledger.signals",
        indexes=f"{_SIGNALS} {_STEPS}",
    ),
    # -- what is left of executions that are deleted: remove, prune, Ledger.apply, Ledger.create ------
    forget_steps=Statement("DELETE FROM szal_steps WHERE execution_id = ?", by="remove, prune", indexes=_STEPS),
    forget_delivered=Statement(
        """
        DELETE FROM szal_signals WHERE execution_id = ? AND EXISTS (
            SELECT 1 FROM szal_steps AS t
            WHERE t.execution_id = szal_signals.execution_id AND t.signal_id = szal_signals.signal_id
        )
        """,
        by="Ledger.create",
        indexes=f"{_SIGNALS} {_STEPS}",
    ),
    forget_signals=Statement("DELETE FROM szal_signals WHERE execution_id = ?", by="remove, prune", indexes=_SIGNALS),
    forget_leases=Statement(
        f"DELETE FROM szal_leases WHERE execution_id {_EACH} RETURNING content_id", by="remove, prune", indexes=_LEASES
    ),
    hold_flows=None,  # BEGIN IMMEDIATE holds everything
    forget_flows=Statement(
        """
        DELETE FROM szal_flows WHERE content_id = ?
        AND NOT EXISTS (SELECT 1 FROM szal_leases AS l WHERE l.content_id = szal_flows.content_id)
        """,
        by="remove, prune",
        indexes=f"{_FLOWS} szal_leases_content",
    ),
    # -- the queue ------------------------------------------------------------------------------------
    enqueue=Statement(
        f"""
        INSERT INTO szal_queue (execution_id, queue, priority, not_before, due, submitted) VALUES (?, ?, ?, ?, ?, {NOW})
        """,
        by="Queue.submit",
        indexes="",
    ),
    announce=None,  # whoever waits looks whether the file has changed
    due=Statement(
        f"""
        SELECT min((SELECT min(q.due) FROM szal_queue AS q WHERE q.queue = w.value)) - {NOW} FROM json_each(?) AS w
        """,
        by="Queue.due_in, Queue.claim",
        indexes="szal_queue_next",
    ),
    sweep=Statement(
        f"""
        DELETE FROM szal_queue WHERE queue {_EACH} AND due > 0 AND due <= {NOW} AND 'Created' IS NOT
            (SELECT e.{STATE} FROM szal_executions AS e WHERE e.execution_id = szal_queue.execution_id)
        RETURNING execution_id
        """,
        by="Queue.claim",
        indexes=f"szal_queue_next {_EXECUTIONS}",
    ),
    ripen=Statement(
        f"UPDATE szal_queue SET due = 0 WHERE queue {_EACH} AND due > 0 AND due <= {NOW} RETURNING execution_id",
        by="Queue.claim",
        indexes="szal_queue_next",
    ),
    claim=Statement(
        f"""
        WITH next AS (
            SELECT c.execution_id FROM json_each(?) AS w JOIN szal_queue AS c ON c.execution_id IN (
                SELECT execution_id FROM szal_queue
                WHERE queue = w.value AND due = 0 AND execution_id NOT IN (SELECT value FROM json_each(?))
                ORDER BY priority DESC, submitted LIMIT ?
            )
            ORDER BY c.priority DESC, c.submitted LIMIT ?
        )
        UPDATE szal_queue SET due = {NOW} + ? WHERE execution_id IN (SELECT execution_id FROM next)
        RETURNING execution_id, priority, submitted
        """,
        by="Queue.claim",
        indexes=f"szal_queue_next {_QUEUE}",
    ),
    dequeue=Statement(
        f"DELETE FROM szal_queue WHERE execution_id {_EACH} RETURNING execution_id",
        by="Queue.begun, remove, prune",
        indexes=_QUEUE,
    ),
    unclaim=Statement(
        f"UPDATE szal_queue SET due = 0 WHERE execution_id {_EACH} RETURNING execution_id",
        by="Queue.give_back",
        indexes=_QUEUE,
    ),
    # -- schedules ------------------------------------------------------------------------------------
    put_schedule=Statement(
        """
        INSERT INTO szal_schedules AS s (name, data, flow, next_at) VALUES (?, ?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET data = excluded.data, flow = excluded.flow, next_at = excluded.next_at
        WHERE s.data <> excluded.data
        """,
        by="Schedules.put",
        indexes="",
    ),
    remove_schedule=Statement(
        f"DELETE FROM szal_schedules WHERE name {_EACH} RETURNING name", by="Schedules.remove", indexes=_SCHEDULES
    ),
    schedules=Statement(
        "SELECT name, data, flow, next_at, last_id FROM szal_schedules ORDER BY next_at, name",
        by="Schedules.all",
        indexes="",
    ),
    advance_schedule=Statement(
        """
        UPDATE szal_schedules SET next_at = ?, last_id = ? WHERE name = ? AND data = ? AND next_at = ? RETURNING name
        """,
        by="Schedules.advance",
        indexes=_SCHEDULES,
    ),
)
