"""What is said to PostgreSQL, but of queues. With each: who runs it, and which index serves it.

``szal.`` stands for the schema that the tables are in. A percent sign is doubled. A batch is one statement, with one
array for each column, in binary: of a thousand small rows each costs 21 µs, with json_to_recordset 27, with COPY 36,
with executemany 70.
"""

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

import attrs

from szal.stores.filters import LIVE
from szal.stores.heads import COLUMNS
from szal.stores.postgres.limit_statements import LIMITS
from szal.stores.postgres.queue_statements import CLAIM_NOW, QUEUE, SCHEDULES
from szal.stores.postgres.single_statements import CARRY_OUT_FEW, SAVE_FEW_STEPS, SAVE_HELD_STEP, TAKE_NEW
from szal.stores.postgres.terms import (
    FINISHED,
    ID,
    NOW,
    RECORD_COLUMNS,
    RECORD_VALUES,
    SET,
    SOON,
    STARTED,
    STATE,
    STEP_OVER,
    WATCHED,
)
from szal.stores.statement import Statement
from szal.stores.statements import Parts, Statements

__all__ = ["BEGIN", "STATEMENTS", "PostgresStatements"]

_LIVE = ", ".join(f"'{state.value}'" for state in LIVE)

_RECORDS = f"unnest({', '.join(['%b::text[]'] * (3 + len(COLUMNS)))}) AS r ({RECORD_COLUMNS})"
_DERIVED = tuple(range(3, 3 + len(COLUMNS)))

# A signal, `s`, that no step, `t`, has taken.
_UNDELIVERED = (
    "NOT EXISTS (SELECT 1 FROM szal.szal_steps AS t"
    " WHERE t.execution_id = s.execution_id AND t.signal_id = s.signal_id)"
)
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

# What its owner is to do with an execution (szal.stores.ledger.Wish), and whether others may take it up.
_WISH = "CASE WHEN l.cancelled <> 0 THEN 1 WHEN l.pausing <> 0 THEN 2 ELSE 0 END"
_MAY_GO_ON = "(l.pausing = 0 OR l.cancelled = 1)"

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
        f"SELECT execution_id FROM szal.szal_executions WHERE state IN ({_LIVE})",
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
    # -- leases ---------------------------------------------------------------------------------------
    add_lease=Statement(
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
    take_over=Statement(
        f"""
        UPDATE szal.szal_leases SET owner = %s, epoch = epoch + %s, expires = {NOW} + %s,
            recoveries = recoveries + %s, pausing = 0
        WHERE execution_id = %s RETURNING epoch
        """,
        by="Ledger.take_over",
        indexes="szal_leases_pkey",
    ),
    claim_now=CLAIM_NOW,
    take_new=TAKE_NEW,
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
    watch=Statement(
        f"""
        UPDATE szal.szal_leases SET watched = {SOON} + %s
        WHERE execution_id = %s RETURNING execution_id
        """,
        by="ChangeListener.attend",
        indexes="szal_leases_pkey",
    ),
    lock_all=Statement(
        "SELECT FROM szal.szal_leases WHERE execution_id = ANY (%b::text[]) ORDER BY execution_id FOR UPDATE",
        by="Ledger.apply, after an answer was lost",
        indexes="szal_leases_pkey",
    ),
    fence=Statement(
        "UPDATE szal.szal_leases SET fenced = epoch WHERE execution_id = ANY (%b::text[])",
        by="Ledger.apply, after an answer was lost",
        indexes="szal_leases_pkey",
    ),
    is_there=Statement("SELECT to_regclass('szal.szal_leases') IS NOT NULL", by="Ledger.join", indexes=""),
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
                SELECT 1 FROM szal.szal_signals AS s WHERE s.execution_id = l.execution_id AND {_UNDELIVERED}
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
            (SELECT execution_id FROM szal.szal_executions WHERE execution_id = %s AND {STATE} IN ({_LIVE}))
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
    now=Statement(f"SELECT {NOW}", by="Ledger.clock", indexes=""),
    # -- signals --------------------------------------------------------------------------------------
    send=Statement(
        f"""
        INSERT INTO szal.szal_signals (execution_id, signal_id, name, value, sent)
        SELECT execution_id, %s, %s, %s, {NOW} FROM szal.szal_executions
        WHERE execution_id = %s AND {STATE} IN ({_LIVE})
        ON CONFLICT (execution_id, signal_id) DO NOTHING RETURNING signal_id
        """,
        by="Ledger.send",
        indexes="szal_executions_pkey",
        json=(2,),
    ),
    signals=Statement(
        f"""
        SELECT signal_id, name, value FROM szal.szal_signals AS s WHERE execution_id = %s AND {_UNDELIVERED}
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
    forget_leases=Statement(
        "DELETE FROM szal.szal_leases WHERE execution_id = ANY (%b::text[]) RETURNING content_id",
        by="remove, prune",
        indexes="szal_leases_pkey",
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
