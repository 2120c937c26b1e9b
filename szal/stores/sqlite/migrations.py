"""How the tables in an SQLite file come to be."""

from contextlib import closing

from sqlite_utils import Database, Migrations

from szal.errors import StoreFailed
from szal.stores.sqlite.record_columns import TRIGGERS, add_columns, fill_columns, keep_labels
from szal.stores.structure import COLUMNS, Structure

__all__ = ["bring_up_to_date", "structure_of"]

# szal-rs's own table, to the letter.
_EXECUTIONS = (
    "CREATE TABLE IF NOT EXISTS szal_executions"
    " (execution_id TEXT PRIMARY KEY, flow_name TEXT NOT NULL, data TEXT NOT NULL)"
)
_LEDGER = (
    "CREATE TABLE IF NOT EXISTS szal_flows (content_id TEXT PRIMARY KEY, data TEXT NOT NULL)",
    (
        "CREATE TABLE IF NOT EXISTS szal_leases (execution_id TEXT PRIMARY KEY, owner TEXT, epoch BIGINT NOT NULL,"
        " expires DOUBLE PRECISION NOT NULL, content_id TEXT NOT NULL, recoveries BIGINT NOT NULL,"
        " cancelled BIGINT NOT NULL, wake DOUBLE PRECISION)"
    ),
    (
        "CREATE TABLE IF NOT EXISTS szal_steps (execution_id TEXT NOT NULL, step_name TEXT NOT NULL,"
        " seq BIGINT NOT NULL, result TEXT NOT NULL, signal_id TEXT, PRIMARY KEY (execution_id, step_name))"
    ),
    (
        "CREATE TABLE IF NOT EXISTS szal_signals (execution_id TEXT NOT NULL, signal_id TEXT NOT NULL,"
        " name TEXT NOT NULL, value TEXT NOT NULL, sent DOUBLE PRECISION NOT NULL,"
        " PRIMARY KEY (execution_id, signal_id))"
    ),
)
# `due` is 0 of what may be taken, else when it may be (Unix time): not before, or reserved until then.
_QUEUE = (
    (
        "CREATE TABLE IF NOT EXISTS szal_queue (execution_id TEXT PRIMARY KEY, queue TEXT NOT NULL,"
        " priority BIGINT NOT NULL, not_before DOUBLE PRECISION, due DOUBLE PRECISION NOT NULL,"
        " submitted DOUBLE PRECISION NOT NULL)"
    ),
    "CREATE INDEX IF NOT EXISTS szal_queue_next ON szal_queue (queue, due, priority DESC, submitted)",
)
# Who has some of what is shared, or waits for it; and by rates: when the next one may begin (`due`), and the interval
# of whoever began last.
_LIMITS = (
    "CREATE TABLE IF NOT EXISTS szal_capacities (name TEXT PRIMARY KEY, capacity BIGINT NOT NULL)",
    (
        "CREATE TABLE IF NOT EXISTS szal_permits (permit_id TEXT NOT NULL, name TEXT NOT NULL,"
        " step_name TEXT NOT NULL, units BIGINT NOT NULL, priority BIGINT NOT NULL, asked DOUBLE PRECISION NOT NULL,"
        " execution_id TEXT NOT NULL, epoch BIGINT NOT NULL, held BIGINT NOT NULL, PRIMARY KEY (permit_id, name))"
    ),
    ("CREATE INDEX IF NOT EXISTS szal_permits_next ON szal_permits (name, held DESC, priority DESC, asked, permit_id)"),
    "CREATE INDEX IF NOT EXISTS szal_permits_execution ON szal_permits (execution_id)",
    (
        "CREATE TABLE IF NOT EXISTS szal_rates (name TEXT PRIMARY KEY, every DOUBLE PRECISION NOT NULL,"
        " due DOUBLE PRECISION NOT NULL)"
    ),
)
# Which execution has a concurrency key, until another one takes it; and by what those are found that run, or wait.
_KEYS = (
    "CREATE TABLE IF NOT EXISTS szal_concurrency (name TEXT PRIMARY KEY, execution_id TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS szal_concurrency_execution ON szal_concurrency (execution_id)",
    (
        "CREATE INDEX IF NOT EXISTS szal_executions_keys ON szal_executions (state, concurrency_key)"
        " WHERE concurrency_key IS NOT NULL"
    ),
    (
        "CREATE INDEX IF NOT EXISTS szal_queue_keys ON szal_queue (due, concurrency_key)"
        " WHERE concurrency_key IS NOT NULL"
    ),
)

# Each can be done again, and does nothing then: so is repaired what was dropped.
MIGRATIONS = Migrations("szal")


@MIGRATIONS()
def m001_executions(db: Database) -> None:
    """Make szal-rs's table, or take the one that it made."""
    db.execute(_EXECUTIONS)


@MIGRATIONS()
def m002_ledger(db: Database) -> None:
    """Make the tables of the ledger."""
    for statement in _LEDGER:
        db.execute(statement)


@MIGRATIONS()
def m003_awaits(db: Database) -> None:
    """Keep what the signals are called that a paused execution waits for."""
    # Each between line ends; NULL: it may be any.

    if "awaits" not in db["szal_leases"].columns_dict:
        db.execute("ALTER TABLE szal_leases ADD COLUMN awaits TEXT")


@MIGRATIONS()
def m006_columns(db: Database) -> None:
    """Keep what is asked of a record in columns."""
    add_columns(db)


@MIGRATIONS()
def m007_flows(db: Database) -> None:
    """Let go of definitions that nothing is of, and find those that come to be so."""
    db.execute("CREATE INDEX IF NOT EXISTS szal_leases_content ON szal_leases (content_id)")
    db.execute("DELETE FROM szal_flows WHERE content_id NOT IN (SELECT content_id FROM szal_leases)")


@MIGRATIONS()
def m008_foreign_rows(db: Database) -> None:
    """Fill the columns with what can be judged, whoever wrote the row and whatever it says."""
    fill_columns(db)


@MIGRATIONS()
def m009_labels(db: Database) -> None:
    """Keep labels in a table, with the start of their executions."""
    keep_labels(db)


@MIGRATIONS()
def m010_pausing(db: Database) -> None:
    """Keep that a person wants an execution paused."""
    if "pausing" not in db["szal_leases"].columns_dict:
        db.execute("ALTER TABLE szal_leases ADD COLUMN pausing BIGINT NOT NULL DEFAULT 0")


@MIGRATIONS()
def m011_queue(db: Database) -> None:
    """Make the table of what is submitted."""
    for statement in _QUEUE:
        db.execute(statement)


@MIGRATIONS()
def m012_schedules(db: Database) -> None:
    """Make the table of what is begun at its times."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS szal_schedules (name TEXT PRIMARY KEY, data TEXT NOT NULL, flow TEXT NOT NULL,"
        " next_at DOUBLE PRECISION NOT NULL, last_id TEXT)"
    )


@MIGRATIONS()
def m013_parents(db: Database) -> None:
    """Find the reruns and sub-flows of an execution."""
    db.execute(
        "CREATE INDEX IF NOT EXISTS szal_executions_parent ON szal_executions (parent, started, execution_id)"
        " WHERE parent IS NOT NULL"
    )


@MIGRATIONS()
def m014_limits(db: Database) -> None:
    """Make the tables of what is shared in all engines."""
    for statement in _LIMITS:
        db.execute(statement)


@MIGRATIONS()
def m015_reports(db: Database) -> None:
    """Make the table of what steps under way report."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS szal_reports (execution_id TEXT NOT NULL, step_name TEXT NOT NULL,"
        " epoch BIGINT NOT NULL, reported DOUBLE PRECISION NOT NULL, data TEXT NOT NULL, item BIGINT,"
        " PRIMARY KEY (execution_id, step_name))"
    )


@MIGRATIONS()
def m016_keys(db: Database) -> None:
    """Keep by which key one execution runs at a time."""
    add_columns(db)
    if "concurrency_key" not in db["szal_queue"].columns_dict:
        db.execute("ALTER TABLE szal_queue ADD COLUMN concurrency_key TEXT")
    for statement in _KEYS:
        db.execute(statement)


@MIGRATIONS()
def m017_under_way(db: Database) -> None:
    """Keep with a lease which steps have begun, as its owner tells it when that is renewed."""
    if "under_way" not in db["szal_leases"].columns_dict:
        db.execute("ALTER TABLE szal_leases ADD COLUMN under_way TEXT")


with closing(Database(memory=True, execute_plugins=False)) as _empty:
    _NAMES = [migration.name for migration in MIGRATIONS.pending(_empty)]
_STRUCTURE = """
SELECT m.type, m.name, c.name FROM sqlite_master AS m LEFT JOIN pragma_table_info(m.name) AS c
WHERE m.name LIKE 'szal%' AND m.type IN ('table', 'view', 'index', 'trigger')
UNION ALL
SELECT 'key', m.name, (SELECT group_concat(i.name, ' ') FROM pragma_index_info(l.name) AS i)
FROM sqlite_master AS m, pragma_index_list(m.name) AS l
WHERE m.name LIKE 'szal%' AND m.type = 'table' AND l."unique" AND NOT l.partial
"""


def structure_of(db: Database) -> Structure:
    """Return what there is in a file."""
    found = db.conn.execute(_STRUCTURE).fetchall()
    return Structure(
        columns={(name, column) for kind, name, column in found if kind in ("table", "view")},
        keys={(name, frozenset(columns.split())) for kind, name, columns in found if kind == "key" and columns},
        indexes={name for kind, name, _ in found if kind == "index"},
        triggers={name for kind, name, _ in found if kind == "trigger"},
        needs_columns={**COLUMNS, "szal_labels": ("key", "value", "started", "execution_id")},
        needs_triggers=TRIGGERS,
        applied=[migration.name for migration in MIGRATIONS.applied(db)],
        migrations=_NAMES,
    )


def bring_up_to_date(db: Database, store: str) -> None:
    """Make what is missing; within a transaction."""
    structure = structure_of(db)
    structure.check_not_newer(store)
    if structure.is_damaged():
        _forget_notes(db)
    MIGRATIONS.apply(db)
    if not structure_of(db).is_complete():  # the notes of an upgrade were wrong
        _forget_notes(db)
        MIGRATIONS.apply(db)
    if (missing := structure_of(db).missing()) is not None:
        raise StoreFailed(store, f"{missing} is missing, in a table that was not made by szal: rename that, or add it")


def _forget_notes(db: Database) -> None:
    db.conn.execute("DELETE FROM _sqlite_migrations WHERE migration_set = ?", (MIGRATIONS.name,))
