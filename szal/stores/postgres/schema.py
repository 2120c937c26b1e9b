"""What szal keeps in PostgreSQL: its statements, its tables, and how these come to be."""

from collections.abc import Sequence

import psycopg

from szal.stores.dialect import Dialect
from szal.stores.ledger import ADD_AWAITS, TABLES, spelled_out
from szal.stores.operation import Release, Remove, Save, SaveStep
from szal.stores.postgres.connection import Connection, check_length, cursor
from szal.stores.sql import Row

__all__ = ["dialect", "execute", "migrate", "save_few_steps"]

# Every part of a statement is a constant of szal; values are bound.
# ruff: noqa: S608

# -- statements -------------------------------------------------------------------------------------
# {szal} stands for the schema and a dot, or for nothing. A batch is one statement, with one array for each column, in
# binary: of a thousand small rows each costs 21 µs, with json_to_recordset 27, with COPY 36, with executemany 70.

SAVE = (
    "INSERT INTO {szal}szal_executions (execution_id, flow_name, data)"
    " SELECT * FROM unnest(%b::text[], %b::text[], %b::text[])"
    " ON CONFLICT (execution_id) DO UPDATE SET flow_name = excluded.flow_name, data = excluded.data"
)
REMOVE = "DELETE FROM {szal}szal_executions WHERE execution_id = ANY (%b::text[])"
_OVER = (
    " ON CONFLICT (execution_id, step_name) DO UPDATE SET seq = excluded.seq, result = excluded.result,"
    " signal_id = excluded.signal_id"
)
SAVE_STEP = (
    "INSERT INTO {szal}szal_steps (execution_id, step_name, seq, result, signal_id)"
    " SELECT * FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::text[], %b::text[])" + _OVER
)
# The same where there are few: one row costs half as much. With the leases, which nobody can take over before this is
# committed; if one of them is not held, nothing is written.
SAVE_FEW_STEPS = (
    "WITH given AS MATERIALIZED (SELECT * FROM json_to_recordset(%s::json)"
    " AS r (execution_id text, step_name text, seq bigint, result text, signal_id text, epoch bigint)),"
    " held AS (SELECT FROM {szal}szal_leases WHERE (execution_id, epoch) IN (SELECT execution_id, epoch FROM given)"
    " ORDER BY execution_id FOR SHARE)"
    " INSERT INTO {szal}szal_steps (execution_id, step_name, seq, result, signal_id)"
    " SELECT execution_id, step_name, seq, result, signal_id FROM given"
    " WHERE (SELECT count(*) FROM held) = (SELECT count(DISTINCT (execution_id, epoch)) FROM given)" + _OVER
)
RELEASE = (
    "UPDATE {szal}szal_leases AS l SET owner = NULL, expires = 0, wake = r.wake, awaits = r.awaits"
    " FROM unnest(%b::float8[], %b::text[], %b::text[]) AS r (wake, awaits, execution_id)"
    " WHERE l.execution_id = r.execution_id"
)
GET = "SELECT data FROM {szal}szal_executions WHERE execution_id = %s"

# The expressions of the indexes. Collation "C" is the order of code points, whatever the database's language is; what
# is no state of szal's may be of any length, and an index holds only so much.
STATE = "left({szal}szal_field(data, 'state'), 20)"
KEY = (
    "(replace(left(rtrim(replace({szal}szal_field(data, '%s'), '+00:00', 'Z'), 'Z') || '.000000', 26), '.', '0')"
    ' COLLATE "C")'
)
STARTED = KEY.replace("%s", "started_at")
FINISHED = f"coalesce({KEY.replace('%s', 'finished_at')}, {STARTED})"
ID = 'execution_id COLLATE "C"'


def dialect(schema: str | None) -> Dialect:
    """Return the dialect for tables in *schema*, or in the first schema of the search path."""
    words = {
        "get": GET,
        "take": f"{GET} FOR UPDATE",
        "started": STARTED,
        "finished": FINISHED,
        "state": STATE,
        "head": "{szal}szal_head(data)",
        "label": "{szal}szal_head(data)::json -> 4 ->> %s = %s",
        "table": "{szal}szal_executions",
        "prefix": "{szal}",
        "now": "extract(epoch FROM clock_timestamp())::float8",
        "lock": " FOR UPDATE OF e",
        "share": " FOR SHARE",
    }
    writes = {Save: SAVE, Remove: REMOVE, SaveStep: SAVE_STEP, Release: RELEASE}
    return Dialect(
        mark="%s",
        writes={kind: _in(schema, statement) for kind, statement in writes.items()},
        key=ID,
        locked=" FOR UPDATE SKIP LOCKED",
        **{name: _in(schema, text) for name, text in words.items()},
    )


def save_few_steps(schema: str | None) -> str:
    """Return the statement that writes steps, given as a JSON array of objects; all, or none if a lease is not held."""
    return _in(schema, SAVE_FEW_STEPS)


def _in(schema: str | None, statement: str) -> str:
    return statement.replace("{szal}", _prefix(schema).replace("%", "%%"))


def _prefix(schema: str | None) -> str:
    return f"{_quoted(schema)}." if schema else ""


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


# -- schema -----------------------------------------------------------------------------------------

# szal-rs's own table, to the letter.
CREATE_TABLE = (
    "CREATE TABLE IF NOT EXISTS {szal}szal_executions"
    " (execution_id TEXT PRIMARY KEY, flow_name TEXT NOT NULL, data TEXT NOT NULL)"
)
# Without these functions, one row that is no JSON would fail every query, and could not even be inserted: by nobody,
# szal-rs included. In a row with text that PostgreSQL cannot unescape (NUL, half a surrogate pair) those escapes are
# made harmless: whatever precedes them, a slash instead of the last backslash leaves it JSON.
_TOTAL = r"""
CREATE OR REPLACE FUNCTION {szal}<signature> LANGUAGE plpgsql IMMUTABLE STRICT AS $szal$
BEGIN
    data := <data>;
    RETURN (SELECT <value>);
EXCEPTION WHEN OTHERS THEN
    BEGIN
        data := regexp_replace(data, '\\u(0000|[dD][89a-fA-F])', '/u\1', 'g');
        RETURN (SELECT <value>);
    EXCEPTION WHEN OTHERS THEN
        RETURN NULL;
    END;
END $szal$
"""
_HEAD = (
    "json_build_array(state, started_at, finished_at, parent_execution_id, labels, error)::text"
    " FROM json_to_record(data::json) AS record"
    "(state json, started_at json, finished_at json, parent_execution_id json, labels json, error json)"
)


def _functions(data: str) -> tuple[str, str]:
    """Return the statements that make the two functions, which look into *data*."""
    values = {
        "szal_field(data text, key text) RETURNS text": "data::json ->> key",
        "szal_head(data text) RETURNS text": _HEAD,
    }
    field, head = (
        _TOTAL.replace("<signature>", signature).replace("<value>", value).replace("<data>", data)
        for signature, value in values.items()
    )
    return field, head


# What is asked of a record stands before and after its result, which may be megabytes: five indexes' worth of parsing
# would cost more than writing it. In text as szal and szal-rs write it the result is left out first: the last
# "started_at" is the record's own exactly if what begins there, put behind the first three keys, is JSON. (One that is
# nested has a brace too many behind it, and inside of a string the quotes would be escaped.) Bytes, since characters
# can only be counted from the beginning.
_CUT = r"""
CREATE OR REPLACE FUNCTION {szal}szal_cut(data text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $szal$
DECLARE
    head text;
    bytes bytea;
    place int;
BEGIN
    IF octet_length(data) < 4000 THEN
        RETURN data;
    END IF;
    head := substring(left(data, 2000) FROM
        '^\{"execution_id":"(?:[^"\\]|\\.)*","flow_name":"(?:[^"\\]|\\.)*","state":"[A-Za-z]+",');
    bytes := convert_to(data, 'UTF8');
    place := strpos(reverse(convert_from(substring(bytes FROM octet_length(bytes) - 7999), 'LATIN1')),
        reverse(',"started_at":"'));
    IF head IS NULL OR place = 0 THEN
        RETURN data;
    END IF;
    head := head || convert_from(substring(bytes FROM octet_length(bytes) - place - 12), 'UTF8');
    PERFORM head::json;
    RETURN head;
EXCEPTION WHEN OTHERS THEN
    RETURN data;
END $szal$
"""

MIGRATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "m001_executions",
        (
            CREATE_TABLE,
            *_functions("data"),
            f"CREATE INDEX szal_executions_flow ON {{szal}}szal_executions (flow_name, ({STATE}), {STARTED}, ({ID}))",
            f"CREATE INDEX szal_executions_state ON {{szal}}szal_executions (({STATE}), {STARTED}, ({ID}))",
            f"CREATE INDEX szal_executions_started ON {{szal}}szal_executions ({STARTED}, ({ID}))",
        ),
    ),
    ("m002_ledger", tuple(spelled_out(statement, "%s", "{szal}") for statement in TABLES)),
    ("m003_awaits", (spelled_out(ADD_AWAITS, "%s", "{szal}"),)),
    ("m004_cut", (_CUT, *_functions("{szal}szal_cut(data)"))),
)
_LOCK = 0x737A616C  # "szal": the advisory lock of whoever migrates
_APPLIED = "CREATE TABLE IF NOT EXISTS {szal}szal_migrations (name TEXT PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL)"
# Of the role or database, for requests of the web: an index takes as long as it takes. Some are newer than 13.
_WITHOUT_LIMITS = (
    "SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout', 'lock_timeout',"
    " 'transaction_timeout', 'idle_in_transaction_session_timeout')"
)
_SCHEMA_EXISTS = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s"


def migrate(connection: Connection, schema: str | None) -> None:
    """Bring the schema up to date, in one transaction; whoever comes meanwhile waits."""
    if _applied(connection, schema).issuperset(name for name, _ in MIGRATIONS):
        return
    with connection.transaction():
        execute(connection, _WITHOUT_LIMITS)
        execute(connection, "SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if schema and not execute(connection, _SCHEMA_EXISTS, [schema]).fetchall():
            execute(connection, f"CREATE SCHEMA {_quoted(schema)}".replace("%", "%%"))
        applied = _applied(connection, schema)
        execute(connection, _in(schema, _APPLIED))
        for name, statements in MIGRATIONS:
            if name not in applied:
                for statement in statements:
                    execute(connection, _in(schema, statement))
                execute(connection, _in(schema, "INSERT INTO {szal}szal_migrations VALUES (%s, now())"), [name])


def _applied(connection: Connection, schema: str | None) -> set[str]:
    if execute(connection, "SELECT to_regclass(%s)", [f"{_prefix(schema)}szal_migrations"]).fetchall() == [(None,)]:
        return set()
    return {row[0] for row in execute(connection, _in(schema, "SELECT name FROM {szal}szal_migrations")).fetchall()}


def execute(connection: Connection, statement: str, parameters: Sequence[object] = ()) -> "psycopg.Cursor[Row]":
    """Run *statement*, in which a percent sign is doubled, whatever kind of rows the owner of a pool likes."""
    check_length(parameters)
    return cursor(connection).execute(statement.encode(), parameters)
