"""What is said to PostgreSQL of executions. With each: who runs it, and which index serves it.

``szal.`` stands for the schema that the tables are in. A percent sign is doubled. A batch is one statement, with one
array for each column, in binary: of a thousand small rows each costs 21 µs, with json_to_recordset 27, with COPY 36,
with executemany 70.
"""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

import attrs

from szal.stores.heads import COLUMNS
from szal.stores.postgres.lease_statements import FENCE, LEASES, LOCK_ALL, WATCH
from szal.stores.postgres.limit_statements import LIMITS
from szal.stores.postgres.queue_statements import CLAIM_NOW, QUEUE, SCHEDULES
from szal.stores.postgres.single_statements import CARRY_OUT_FEW, SAVE_FEW_STEPS, SAVE_HELD_STEP, TAKE_NEW
from szal.stores.postgres.terms import (
    FINISHED,
    ID,
    LIVE_STATES,
    NOW,
    RECORD_COLUMNS,
    RECORD_VALUES,
    SET,
    STARTED,
    STATE,
    STEP_OVER,
    UNDELIVERED,
)
from szal.stores.statement import Statement
from szal.stores.statements import Parts, Statements

__all__ = ["BEGIN", "STATEMENTS", "PostgresStatements"]

_RECORDS = f"unnest({', '.join(['%b::text[]'] * (3 + len(COLUMNS)))}) AS r ({RECORD_COLUMNS})"
_DERIVED = tuple(range(3, 3 + len(COLUMNS)))

# A definition, `f`, that nothing is of.
_UNUSED = "NOT EXISTS (SELECT 1 FROM szal.szal_leases AS l WHERE l.content_id = f.content_id)"


@attrs.frozen(kw_only=True, eq=False)
class PostgresStatements(Statements):
    """Those of PostgreSQL, which has some more."""

    save_few_steps: Statement
    """Takes steps as a JSON array of objects: writes them all, or none if one of their leases is not held, or fenced.

    Of few rows each costs half as much as in a batch. Nobody can take the leases over before this is committed.
    """
    carry_out_few: Statement
    """Takes a JSON object with arrays of objects (`held`, `new`, `steps`, `saves`, `releases`), and what a mark takes.

    Carries out all of it, and leaves the mark, or divides by zero: where a lease is not held, or fenced, or what is new
    is there already, or a definition is not there that is not given.
    """
    take_new: Statement
    """Takes an owner, by how much the epoch rises, seconds, an execution, its epoch, and what a mark takes.

    Takes it over, and leaves the mark, or divides by zero: where somebody has it or has had it, or it is cancelled.
    """
    claim_now: Statement
    """As `claim`, after the queues once more, and by itself: returns also whether something has ripened.

    Then nothing is claimed.
    """
    watch: Statement
    """Takes seconds, and an execution: for so long whoever writes to it tells of that."""
    lock_all: Statement
    """Holds leases until the end of the transaction, and waits for who writes under them: first, and alone."""
    fence: Statement
    """From its COMMIT on, steps are written under these leases in transactions only: until the next epoch."""
    mark: Statement
    """Leaves a mark (szal.stores.postgres.marks), and returns a row if it was not there, as soon as that is certain."""
    forget_marks: Statement
    """Deletes the marks of writers that have left none for 30 days."""
    session: Statement
    """By what a transaction is known to others: its server process, and when it began."""
    end_session: Statement
    """Takes these two: ends the session, if it is still in that transaction."""
    transaction: Statement
    """The number of a transaction."""
    is_under_way: Statement
    """Whether the transaction of that number has not ended."""
    identity: Statement
    """What no other database has: its name, and when its server was started."""
    prefix: str = "szal."
    """What stands before the name of a table."""


_PARTS = Parts(
    page=f"SELECT {ID}, flow_name, {STARTED}, head FROM szal.szal_executions",
    newest_first=f" ORDER BY {STARTED} DESC, {ID} DESC",
    oldest_first=f" ORDER BY {STARTED}, {ID}",
    limit=" LIMIT %s",
    branch="SELECT * FROM ({}) AS branch",
    newest_of_all=" ORDER BY 3 DESC, 1 DESC",
    ids="SELECT execution_id FROM szal.szal_executions",
    count="SELECT count(*) FROM szal.szal_executions",
    prunable=f"SELECT {STARTED}, execution_id, flow_name FROM szal.szal_executions",
    flow_name="flow_name = %s",
    state=f"{STATE} = %s",
    states=f"{STATE} = ANY (%s::text[])",
    since=f"{STARTED} >= %s",
    until=f"{STARTED} < %s",
    parent="parent = %s",
    label="labels @> jsonb_build_object(%s::text, %s::text)",
    before=f"{STARTED} <= %s AND ({STARTED} < %s OR {ID} < %s)",
    after=f"{STARTED} >= %s AND ({STARTED} > %s OR {ID} > %s)",
    ended_before=f"{STARTED} < %s AND {FINISHED} < %s AND {FINISHED} > ''",
    is_filled=f"{STARTED} IS NOT NULL",
    many_states=lambda names: [names],
)

STATEMENTS = PostgresStatements(
    parts=_PARTS,
    # -- records --------------------------------------------------------------------------------------
    save=Statement(
        f"""
        INSERT INTO szal.szal_executions ({RECORD_COLUMNS})
        SELECT {RECORD_VALUES} FROM {_RECORDS}
        ON CONFLICT (execution_id) DO UPDATE SET {SET}
        """,
        by="save, Ledger.apply",
        indexes="",
        json=(2,),
        derived=_DERIVED,
    ),
    remove=Statement(
        "DELETE FROM szal.szal_executions WHERE execution_id = ANY (%b::text[])",
        by="remove, prune, Ledger.apply",
        indexes="szal_executions_pkey",
    ),
    get=Statement(
        "SELECT data FROM szal.szal_executions WHERE execution_id = %s", by="get", indexes="szal_executions_pkey"
    ),
    take=Statement(
        "SELECT data FROM szal.szal_executions WHERE execution_id = %s FOR UPDATE",
        by="remove",
        indexes="szal_executions_pkey",
    ),
    exists=Statement(
        "SELECT 1 FROM szal.szal_executions WHERE execution_id = %s",
        by="Ledger.knows, Ledger.send, Ledger.request_cancel",
        indexes="szal_executions_pkey",
    ),
    begin=Statement(
        f"""
        INSERT INTO szal.szal_executions ({RECORD_COLUMNS}) SELECT {RECORD_VALUES} FROM {_RECORDS}
        ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id
        """,
        by="Ledger.create, Ledger.apply",
        indexes="",
        json=(2,),
        derived=_DERIVED,
    ),
    position=Statement(
        f"SELECT {STARTED} FROM szal.szal_executions WHERE execution_id = %s",
        by="find(after=id)",
        indexes="szal_executions_pkey",
    ),
    oldest_kept=Statement(
        f"""
        SELECT flow_name, started, execution_id FROM (
            SELECT flow_name, started, execution_id,
                row_number() OVER (PARTITION BY flow_name ORDER BY started DESC, {ID} DESC) AS place
            FROM szal.szal_executions WHERE {STARTED} > ''
        ) AS ranked
        WHERE place = %s
        """,
        by="prune(keep=number)",
        indexes="szal_executions_started",
    ),
    ended=Statement(
        """
        SELECT execution_id, state, finished FROM szal.szal_executions WHERE execution_id = ANY (%b::text[])
        FOR UPDATE SKIP LOCKED
        """,
        by="prune",
        indexes="szal_executions_pkey",
    ),
    live=Statement(
        f"SELECT execution_id FROM szal.szal_executions WHERE state IN ({LIVE_STATES})",
        by="prune",
        indexes="szal_executions_state",
    ),
    parents=Statement(
        """
        SELECT execution_id, parent FROM szal.szal_executions
        WHERE execution_id = ANY (%b::text[]) AND parent IS NOT NULL
        """,
        by="prune",
        indexes="szal_executions_pkey",
    ),
    # -- steps and definitions ------------------------------------------------------------------------
    save_step=Statement(
        f"""
        INSERT INTO szal.szal_steps (execution_id, step_name, seq, result, signal_id)
        SELECT * FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[]) {STEP_OVER}
        """,
        by="Ledger.create, Ledger.apply",
        indexes="",
        json=(3,),
    ),
    save_held_step=SAVE_HELD_STEP,
    save_few_steps=SAVE_FEW_STEPS,
    carry_out_few=CARRY_OUT_FEW,
    steps=Statement(
        "SELECT step_name, seq, result FROM szal.szal_steps WHERE execution_id = %s ORDER BY seq",
        by="Ledger.read, Ledger.take_over",
        indexes="szal_steps_pkey",
    ),
    steps_since=Statement(
        "SELECT step_name, seq, result FROM szal.szal_steps WHERE execution_id = %s AND seq > %s ORDER BY seq",
        by="Ledger.steps_since",
        indexes="szal_steps_pkey",
    ),
    step=Statement(
        "SELECT seq, result FROM szal.szal_steps WHERE execution_id = %s AND step_name = %s",
        by="JoinedTransaction.fate",
        indexes="szal_steps_pkey",
    ),
    undone=Statement(
        "UPDATE szal.szal_steps SET result = %s WHERE execution_id = %s AND step_name = %s RETURNING execution_id",
        by="Ledger.undone",
        indexes="szal_steps_pkey",
        json=(0,),
    ),
    add_flow=Statement(
        """
        WITH made AS (
            INSERT INTO szal.szal_flows (content_id, data) VALUES (%s, %s) ON CONFLICT (content_id) DO NOTHING
            RETURNING content_id
        ), held AS (SELECT content_id FROM szal.szal_flows WHERE content_id = %s FOR KEY SHARE)
        SELECT content_id FROM made UNION ALL SELECT content_id FROM held
        """,
        by="Ledger.create, Ledger.apply",
        indexes="szal_flows_pkey",
        json=(1,),
    ),
    flow=Statement(
        "SELECT data FROM szal.szal_flows WHERE content_id = %s",
        by="Ledger.read, Ledger.take_over",
        indexes="szal_flows_pkey",
    ),
    # -- executions as a whole -------------------------------------------------------------------------
    look=Statement(
        f"""
        SELECT e.data, l.owner, l.epoch, l.expires > {NOW}, l.content_id, l.recoveries, l.cancelled
        FROM szal.szal_executions AS e LEFT JOIN szal.szal_leases AS l ON l.execution_id = e.execution_id
        WHERE e.execution_id = %s
        """,
        by="Ledger.read, Ledger.take_over",
        indexes="szal_executions_pkey szal_leases_pkey",
    ),
    version=Statement(
        f"""
        SELECT e.head, l.epoch, CASE WHEN l.expires > {NOW} THEN l.owner END, l.under_way, rows.count, rows.sum,
            (SELECT sum(reported) FROM szal.szal_reports WHERE execution_id = %s),
            l.cancelled, l.pausing, l.wake, (SELECT count(*) FROM szal.szal_signals WHERE execution_id = %s),
            CASE WHEN {STATE} = 'RollingBack' THEN
                (SELECT sum(octet_length(result))::bigint FROM szal.szal_steps WHERE execution_id = %s) END
        FROM szal.szal_executions AS e LEFT JOIN szal.szal_leases AS l ON l.execution_id = e.execution_id
        CROSS JOIN (
            SELECT count(*) AS count, coalesce(sum(seq), 0)::bigint AS sum FROM szal.szal_steps WHERE execution_id = %s
        ) AS rows
        WHERE e.execution_id = %s
        """,
        by="Ledger.version",
        indexes="szal_executions_pkey szal_leases_pkey szal_signals_pkey szal_steps_pkey szal_reports_pkey",
    ),
    records=Statement(
        """
        SELECT e.execution_id, e.data, l.cancelled
        FROM szal.szal_executions AS e LEFT JOIN szal.szal_leases AS l ON l.execution_id = e.execution_id
        WHERE e.execution_id = ANY (%b::text[])
        """,
        by="Ledger.records",
        indexes="szal_executions_pkey szal_leases_pkey",
    ),
    claim_now=CLAIM_NOW,
    take_new=TAKE_NEW,
    is_there=Statement("SELECT to_regclass('szal.szal_leases') IS NOT NULL", by="Ledger.join", indexes=""),
    now=Statement(f"SELECT {NOW}", by="Ledger.clock", indexes=""),
    # -- signals --------------------------------------------------------------------------------------
    send=Statement(
        f"""
        INSERT INTO szal.szal_signals (execution_id, signal_id, name, value, sent)
        SELECT execution_id, %s, %s, %s, {NOW} FROM szal.szal_executions
        WHERE execution_id = %s AND {STATE} IN ({LIVE_STATES})
        ON CONFLICT (execution_id, signal_id) DO NOTHING RETURNING signal_id
        """,
        by="Ledger.send",
        indexes="szal_executions_pkey",
        json=(2,),
    ),
    signals=Statement(
        f"""
        SELECT signal_id, name, value FROM szal.szal_signals AS s WHERE execution_id = %s AND {UNDELIVERED}
        ORDER BY sent, signal_id
        """,
        by="Ledger.signals",
        indexes="szal_signals_pkey szal_steps_pkey",
    ),
    # -- what steps report ----------------------------------------------------------------------------
    report=Statement(
        """
        INSERT INTO szal.szal_reports AS r (execution_id, step_name, epoch, reported, data, item)
        SELECT * FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::float8[], %b::text[], %b::bigint[])
        ON CONFLICT (execution_id, step_name) DO UPDATE
        SET epoch = excluded.epoch, reported = excluded.reported, data = excluded.data, item = excluded.item
        WHERE r.epoch <= excluded.epoch
        """,
        by="Ledger.report",
        indexes="",
        json=(4,),
    ),
    unreport=Statement(
        """
        DELETE FROM szal.szal_reports AS r USING unnest(%b::text[], %b::text[]) AS e (execution_id, step_name)
        WHERE r.execution_id = e.execution_id AND r.step_name = e.step_name
        """,
        by="Ledger.report",
        indexes="szal_reports_pkey",
    ),
    reports=Statement(
        "SELECT execution_id, step_name, epoch, reported, data, item FROM szal.szal_reports WHERE execution_id = %s",
        by="Ledger.reports",
        indexes="szal_reports_pkey",
    ),
    # -- what is left of executions that are deleted: remove, prune, Ledger.apply, Ledger.create ------
    forget_steps=Statement(
        "DELETE FROM szal.szal_steps WHERE execution_id = ANY (%b::text[])",
        by="remove, prune",
        indexes="szal_steps_pkey",
    ),
    forget_delivered=Statement(
        """
        DELETE FROM szal.szal_signals s USING szal.szal_steps t
        WHERE s.execution_id = ANY (%b::text[]) AND t.execution_id = s.execution_id AND t.signal_id = s.signal_id
        """,
        by="Ledger.create",
        indexes="szal_signals_pkey szal_steps_pkey",
    ),
    forget_reports=Statement(
        "DELETE FROM szal.szal_reports WHERE execution_id = ANY (%b::text[])",
        by="remove, prune",
        indexes="szal_reports_pkey",
    ),
    forget_signals=Statement(
        "DELETE FROM szal.szal_signals WHERE execution_id = ANY (%b::text[])",
        by="remove, prune",
        indexes="szal_signals_pkey",
    ),
    # First, and alone: a lease that was made while a definition was waited for is seen by the next statement.
    hold_flows=Statement(
        f"""
        SELECT f.content_id FROM szal.szal_flows AS f WHERE f.content_id = ANY (%b::text[]) AND {_UNUSED}
        ORDER BY f.content_id FOR UPDATE OF f
        """,
        by="remove, prune",
        indexes="szal_flows_pkey szal_leases_content",
    ),
    forget_flows=Statement(
        f"DELETE FROM szal.szal_flows AS f WHERE f.content_id = ANY (%b::text[]) AND {_UNUSED}",
        by="remove, prune",
        indexes="szal_flows_pkey szal_leases_content",
    ),
    # -- which transactions have been committed -------------------------------------------------------
    mark=Statement(
        f"""
        WITH gone AS (DELETE FROM szal.szal_commits WHERE writer = %s AND number = %s)
        INSERT INTO szal.szal_commits (writer, number, made) VALUES (%s, %s, {NOW})
        ON CONFLICT (writer, number) DO NOTHING RETURNING number
        """,
        by="each transaction; who sent a COMMIT and has no answer",
        indexes="szal_commits_pkey",
    ),
    forget_marks=Statement(
        "DELETE FROM szal.szal_commits WHERE made < extract(epoch FROM now())::float8 - 2592000 RETURNING number",
        by="prune",
        indexes="szal_commits_made",
    ),
    identity=Statement(
        "SELECT current_database(), pg_postmaster_start_time(), current_setting('port')",
        by="Queue.submit, where a connection is given",
        indexes="",
    ),
    leases=LEASES,
    watch=WATCH,
    lock_all=LOCK_ALL,
    fence=FENCE,
    queue=QUEUE,
    schedules=SCHEDULES,
    limits=LIMITS,
    # -- transactions of handlers ---------------------------------------------------------------------
    session=Statement("SELECT pg_backend_pid(), now()", by="Database.hold", indexes=""),
    end_session=Statement(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND xact_start = %s",
        by="Held.end_by_force",
        indexes="",
    ),
    transaction=Statement("SELECT pg_current_xact_id()::text", by="Guest.do", indexes=""),
    is_under_way=Statement("SELECT pg_xact_status(%s::xid8) = 'in progress'", by="Guest.is_over", indexes=""),
)


BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"  # whatever the role's default is
