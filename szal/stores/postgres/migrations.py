"""How szal's tables in PostgreSQL come to be."""

from collections.abc import Collection

from szal.errors import StoreFailed
from szal.stores.postgres.connection import PostgresConnection, execute
from szal.stores.postgres.record_columns import ADD, FILL, FUNCTIONS, TRIGGERS
from szal.stores.postgres.schema import in_schema, prefix, quoted
from szal.stores.structure import COLUMNS, KEYS, Structure

__all__ = ["MIGRATIONS", "TABLES", "migrate", "schema_of", "structure_of"]

# szal-rs's own table, to the letter.
CREATE_TABLE = (
    "CREATE TABLE IF NOT EXISTS szal.szal_executions"
    " (execution_id TEXT PRIMARY KEY, flow_name TEXT NOT NULL, data TEXT NOT NULL)"
)
_INDEX = "CREATE INDEX IF NOT EXISTS"
_LEDGER = (
    "CREATE TABLE IF NOT EXISTS szal.szal_flows (content_id TEXT PRIMARY KEY, data TEXT NOT NULL)",
    (
        "CREATE TABLE IF NOT EXISTS szal.szal_leases (execution_id TEXT PRIMARY KEY, owner TEXT, epoch BIGINT NOT NULL,"
        " expires DOUBLE PRECISION NOT NULL, content_id TEXT NOT NULL, recoveries BIGINT NOT NULL,"
        " cancelled BIGINT NOT NULL, wake DOUBLE PRECISION)"
    ),
    (
        "CREATE TABLE IF NOT EXISTS szal.szal_steps (execution_id TEXT NOT NULL, step_name TEXT NOT NULL,"
        " seq BIGINT NOT NULL, result TEXT NOT NULL, signal_id TEXT, PRIMARY KEY (execution_id, step_name))"
    ),
    (
        "CREATE TABLE IF NOT EXISTS szal.szal_signals (execution_id TEXT NOT NULL, signal_id TEXT NOT NULL,"
        " name TEXT NOT NULL, value TEXT NOT NULL, sent DOUBLE PRECISION NOT NULL,"
        " PRIMARY KEY (execution_id, signal_id))"
    ),
)
# Who has some of what is shared, or waits for it; and by rates: when the next one may begin (`due`), and the interval
# of whoever began last.
_LIMITS = (
    "CREATE TABLE IF NOT EXISTS szal.szal_capacities (name TEXT PRIMARY KEY, capacity BIGINT NOT NULL)",
    (
        "CREATE TABLE IF NOT EXISTS szal.szal_permits (permit_id TEXT NOT NULL, name TEXT NOT NULL,"
        " step_name TEXT NOT NULL, units BIGINT NOT NULL, priority BIGINT NOT NULL, asked DOUBLE PRECISION NOT NULL,"
        " execution_id TEXT NOT NULL, epoch BIGINT NOT NULL, held BIGINT NOT NULL, PRIMARY KEY (permit_id, name))"
    ),
    (
        "CREATE INDEX IF NOT EXISTS szal_permits_next"
        " ON szal.szal_permits (name, held DESC, priority DESC, asked, permit_id)"
    ),
    "CREATE INDEX IF NOT EXISTS szal_permits_execution ON szal.szal_permits (execution_id)",
    (
        "CREATE TABLE IF NOT EXISTS szal.szal_rates (name TEXT PRIMARY KEY, every DOUBLE PRECISION NOT NULL,"
        " due DOUBLE PRECISION NOT NULL)"
    ),
)
# Which execution has a concurrency key, until another one takes it; and by what those are found that run, or wait.
_KEYS = (
    "CREATE TABLE IF NOT EXISTS szal.szal_concurrency (name TEXT PRIMARY KEY, execution_id TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS szal_concurrency_execution ON szal.szal_concurrency (execution_id)",
    (
        "CREATE INDEX IF NOT EXISTS szal_executions_keys ON szal.szal_executions (state, concurrency_key)"
        " WHERE concurrency_key IS NOT NULL"
    ),
    (
        "CREATE INDEX IF NOT EXISTS szal_queue_keys ON szal.szal_queue (due, concurrency_key)"
        " WHERE concurrency_key IS NOT NULL"
    ),
)
# Each can be done again, and does nothing then: so is repaired what was dropped.
MIGRATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("m001_executions", (CREATE_TABLE,)),
    ("m002_ledger", _LEDGER),
    ("m003_awaits", ("ALTER TABLE szal.szal_leases ADD COLUMN IF NOT EXISTS awaits TEXT",)),
    ("m004_cut", ()),  # what this and the next made is in m008
    ("m005_encodings", ()),
    ("m006_columns", (ADD,)),
    (
        "m007_flows",
        (
            "CREATE INDEX IF NOT EXISTS szal_leases_content ON szal.szal_leases (content_id)",
            "DELETE FROM szal.szal_flows WHERE content_id NOT IN (SELECT content_id FROM szal.szal_leases)",
        ),
    ),
    ("m008_foreign_rows", FILL),
    ("m009_fences", ("ALTER TABLE szal.szal_leases ADD COLUMN IF NOT EXISTS fenced BIGINT",)),
    (
        "m010_commits",
        (
            (
                "CREATE TABLE IF NOT EXISTS szal.szal_commits (writer TEXT NOT NULL, number BIGINT NOT NULL,"
                " made DOUBLE PRECISION NOT NULL, PRIMARY KEY (writer, number))"
            ),
            f"{_INDEX} szal_commits_made ON szal.szal_commits (made)",
        ),
    ),
    ("m011_pausing", ("ALTER TABLE szal.szal_leases ADD COLUMN IF NOT EXISTS pausing BIGINT NOT NULL DEFAULT 0",)),
    (
        "m012_queue",
        (
            # `due` is 0 of what may be taken, else when it may be (Unix time): not before, or reserved until then.
            (
                "CREATE TABLE IF NOT EXISTS szal.szal_queue (execution_id TEXT PRIMARY KEY, queue TEXT NOT NULL,"
                " priority BIGINT NOT NULL, not_before DOUBLE PRECISION, due DOUBLE PRECISION NOT NULL,"
                " submitted DOUBLE PRECISION NOT NULL)"
            ),
            f"{_INDEX} szal_queue_next ON szal.szal_queue (queue, due, priority DESC, submitted)",
        ),
    ),
    (
        "m013_schedules",
        (
            (
                "CREATE TABLE IF NOT EXISTS szal.szal_schedules (name TEXT PRIMARY KEY, data TEXT NOT NULL,"
                " flow TEXT NOT NULL, next_at DOUBLE PRECISION NOT NULL, last_id TEXT)"
            ),
        ),
    ),
    (
        "m014_parents",  # by a hash: what somebody else wrote there may be too long for a tree
        (f"{_INDEX} szal_executions_parent ON szal.szal_executions USING hash (parent) WHERE parent IS NOT NULL",),
    ),
    # Until when somebody watches an execution: whoever writes to it tells of that.
    ("m015_watching", ("ALTER TABLE szal.szal_leases ADD COLUMN IF NOT EXISTS watched DOUBLE PRECISION",)),
    ("m016_limits", _LIMITS),
    (
        "m017_reports",
        (
            (
                "CREATE TABLE IF NOT EXISTS szal.szal_reports (execution_id TEXT NOT NULL, step_name TEXT NOT NULL,"
                " epoch BIGINT NOT NULL, reported DOUBLE PRECISION NOT NULL, data TEXT NOT NULL, item BIGINT,"
                " PRIMARY KEY (execution_id, step_name))"
            ),
        ),
    ),
    (
        "m018_keys",
        (
            "ALTER TABLE szal.szal_executions ADD COLUMN IF NOT EXISTS concurrency_key TEXT",
            "ALTER TABLE szal.szal_queue ADD COLUMN IF NOT EXISTS concurrency_key TEXT",
            *_KEYS,
        ),
    ),
    # Which steps have begun, as the owner of a lease tells it when that is renewed.
    ("m019_under_way", ("ALTER TABLE szal.szal_leases ADD COLUMN IF NOT EXISTS under_way TEXT",)),
)
_LOCK = 0x737A616C  # "szal": the advisory lock of whoever migrates
_APPLIED = "CREATE TABLE IF NOT EXISTS szal.szal_migrations (name TEXT PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL)"
# Of the role or database, for requests of the web: an index takes as long as it takes. Some are newer than 13.
_WITHOUT_LIMITS = (
    "SELECT set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout', 'lock_timeout',"
    " 'transaction_timeout', 'idle_in_transaction_session_timeout')"
)
_READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
# The catalogue, and not to_regclass: a session keeps in mind for a while that there is no table of a name.
_SCHEMA_EXISTS = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s"
_SCHEMA = """
SELECT coalesce(
    (
        SELECT s.name FROM unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS s (name, place)
        WHERE EXISTS (
            SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = s.name AND c.relname IN ('szal_executions', 'szal_migrations')
        )
        ORDER BY s.place LIMIT 1
    ),
    pg_catalog.current_schema()
)::text
"""
_STRUCTURE = """
SELECT 'column', c.relname::text, a.attname::text
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = %s AND c.relname LIKE 'szal%%' AND c.relkind NOT IN ('i', 'I')
UNION ALL
SELECT 'index', c.relname::text, NULL
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname LIKE 'szal%%' AND c.relkind IN ('i', 'I')
UNION ALL
SELECT 'key', c.relname::text, (
    SELECT string_agg(a.attname, ' ') FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index AS i ON i.indrelid = c.oid
WHERE n.nspname = %s AND c.relname LIKE 'szal%%' AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
    AND i.indexprs IS NULL
UNION ALL
SELECT 'function', p.proname::text, NULL
FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname = %s AND p.proname LIKE 'szal%%'
UNION ALL
SELECT 'trigger', t.tgname::text, NULL
FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND t.tgname LIKE 'szal%%'
"""
TABLES = {
    **COLUMNS,
    "szal_leases": (*COLUMNS["szal_leases"], "fenced", "watched"),
    "szal_commits": ("writer", "number", "made"),
}
"""The columns of each table in PostgreSQL."""


def schema_of(connection: PostgresConnection, schema: str | None) -> str | None:
    """Return *schema*, or else the first of the search path with szal's tables, or else its first that there is."""
    if schema is not None:
        return schema
    ((found,),) = execute(connection, _SCHEMA).fetchall()
    return str(found) if found is not None else None


def structure_of(connection: PostgresConnection, schema: str) -> Structure:
    """Return what there is in *schema*."""
    found = execute(connection, _STRUCTURE, [schema] * 5).fetchall()
    columns = {(name, column) for kind, name, column in found if kind == "column"}
    return Structure(
        columns=columns,
        keys={(name, frozenset(columns.split())) for kind, name, columns in found if kind == "key" and columns},
        indexes={name for kind, name, _ in found if kind == "index"},
        functions={name for kind, name, _ in found if kind == "function"},
        applied=_applied(connection, schema) if ("szal_migrations", "name") in columns else (),
        migrations=[name for name, _ in MIGRATIONS],
        triggers={name for kind, name, _ in found if kind == "trigger"},
        needs_columns=TABLES,
        needs_keys={**KEYS, "szal_commits": ("writer", "number")},
        needs_functions=FUNCTIONS,
        needs_triggers=TRIGGERS,
    )


def _applied(connection: PostgresConnection, schema: str) -> set[str] | None:
    may_read = "SELECT has_table_privilege(%s, 'SELECT')"
    if execute(connection, may_read, [f"{prefix(schema)}szal_migrations"]).fetchall() != [(True,)]:
        return None
    names = execute(connection, in_schema(schema, "SELECT name FROM szal.szal_migrations")).fetchall()
    return {name for (name,) in names}


def migrate(connection: PostgresConnection, store: str, schema: str | None) -> str:
    """Bring the schema up to date, in one transaction, and return it; whoever comes meanwhile waits."""
    place = schema_of(connection, schema)
    if place is None:
        raise StoreFailed(store, "there is no schema in the search path: name one (schema=), which is then made")
    structure = structure_of(connection, place)
    structure.check_not_newer(store)
    if structure.is_complete():
        return place
    with connection.transaction():
        execute(connection, _READ_COMMITTED)  # else what others did while this waits for the lock is not seen
        execute(connection, _WITHOUT_LIMITS)
        execute(connection, "SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        place = schema_of(connection, schema) or place
        _bring_up_to_date(connection, store, place)
    return place


def _bring_up_to_date(connection: PostgresConnection, store: str, schema: str) -> None:
    if not execute(connection, _SCHEMA_EXISTS, [schema]).fetchall():
        execute(connection, f"CREATE SCHEMA {quoted(schema)}".replace("%", "%%"))
    execute(connection, in_schema(schema, _APPLIED))
    structure = structure_of(connection, schema)
    structure.check_not_newer(store)
    _apply(connection, schema, () if structure.is_damaged() else structure.applied or ())
    structure = structure_of(connection, schema)
    if not structure.is_complete():  # the notes of an upgrade were wrong
        _apply(connection, schema, ())
        structure = structure_of(connection, schema)
    if (missing := structure.missing()) is not None:
        raise StoreFailed(store, f"{missing} is missing, in a table that was not made by szal: rename that, or add it")


def _apply(connection: PostgresConnection, schema: str, applied: Collection[str]) -> None:
    note = in_schema(schema, "INSERT INTO szal.szal_migrations VALUES (%s, now()) ON CONFLICT (name) DO NOTHING")
    for name, statements in MIGRATIONS:
        if name not in applied:
            for statement in statements:
                execute(connection, in_schema(schema, statement))
            execute(connection, note, [name])
