"""How the columns that are kept of a record come to be in SQLite, whoever writes the row.

szal fills them in as it writes. Of a row that says nothing of them, as szal-rs's, and of one whose data alone was
changed, triggers do. They cost those who write the columns nothing but a test.
"""

# All of it is constants of szal.
# ruff: noqa: S608

from sqlite_utils import Database

from szal.model.state import WorkflowState
from szal.stores.filters import HEAD
from szal.stores.heads import COLUMNS

__all__ = ["TRIGGERS", "add_columns", "fill_columns", "keep_labels"]

# A row that somebody else wrote may say anything: each column has what could be read, or nothing.

# First the six fields, as JSON: so the record is parsed once, and what follows looks at those alone.
_FIELDS = "json_extract(data, {})".format(", ".join(f"'$.{key}'" for key in HEAD))
_HEAD = f"CASE typeof(data) WHEN 'text' THEN CASE WHEN json_valid(data) THEN {_FIELDS} END END"


def _text(place: int) -> str:
    return f"CASE json_type(head, '$[{place}]') WHEN 'text' THEN json_extract(head, '$[{place}]') END"


def _key(place: int) -> str:
    """Return szal.stores.filters.key_of in SQL: a day that there is not comes back as another, if one adds to it."""
    return f"""
    coalesce((
        SELECT utc || '0' || substr(substr(fraction, 2) || '000000', 1, 6)
        FROM (
            SELECT fraction, strftime(
                '{_SECOND}', local, sign || substr(zone, 2, 2) || ' hours', sign || substr(zone, 5) || ' minutes'
            ) AS utc
            FROM (
                SELECT text, fraction, local, zone, CASE substr(zone, 1, 1) WHEN '-' THEN '+' ELSE '-' END AS sign
                FROM (
                    SELECT text, substr(text, 1, 10) || 'T' || substr(text, 12, 8) AS local,
                        substr(text, 20, length(text) - CASE WHEN text GLOB '*Z' THEN 20 ELSE 25 END) AS fraction,
                        CASE WHEN text GLOB '*Z' THEN '+00:00' ELSE substr(text, -6) END AS zone
                    FROM (SELECT {_text(place)} AS text)
                )
            )
            WHERE length(text) = length(CAST(text AS BLOB)) AND substr(text, 11, 1) IN ('T', ' ')
            AND local GLOB '{_DIGITS}' AND local >= '0001'
            AND strftime('{_SECOND}', local, '+0 days') = local
            AND zone GLOB '[+-][0-2][0-9]:[0-5][0-9]' AND substr(zone, 2, 2) < '24'
            AND (fraction = '' OR (fraction GLOB '.[0-9]*' AND substr(fraction, 2) NOT GLOB '*[^0-9]*'))
        )
        WHERE utc >= '0001'
    ), '')
    """


_SECOND = "%Y-%m-%dT%H:%M:%S"
_DIGITS = "nnnn-nn-nnTnn:nn:nn".replace("n", "[0-9]")
_LABELS = (
    "CASE json_type(head, '$[4]') WHEN 'object' THEN (SELECT nullif(json_group_object(key, value), '{}')"
    " FROM json_each(head, '$[4]') WHERE type = 'text') END"
)
_SUMMARY = f"json_array({_text(0)}, {_text(1)}, {_text(2)}, {_text(3)}, json(labels), {_text(5)})"
_STATES = ", ".join(f"'{state.value}'" for state in WorkflowState)
_SET = (
    f"head = {_HEAD}",
    ", ".join(
        (
            f"state = CASE WHEN {_text(0)} IN ({_STATES}) THEN json_extract(head, '$[0]') ELSE '' END",
            f"started = {_key(1)}",
            f"finished = CASE json_type(head, '$[2]') WHEN 'null' THEN {_key(1)} ELSE {_key(2)} END",
            f"parent = {_text(3)}",
            f"labels = {_LABELS}",
        )
    ),
    f"head = {_SUMMARY}",
)
_FILL = tuple(" ".join(f"UPDATE szal_executions SET {each}".split()) for each in _SET)
# SQLite takes NULL and bytes for an id, which no execution has.
_HAS_ID = "typeof(execution_id) = 'text'"
# In a trigger of its own, on a view: one with as many registers would cost all who write a third more, to enter it.
_VIEW = "CREATE VIEW IF NOT EXISTS szal_fill AS SELECT NULL AS execution_id"
_OF_ONE = " ".join(f"{each} WHERE execution_id = NEW.execution_id AND {_HAS_ID};" for each in _FILL)
_OF_NEW = "INSERT INTO szal_fill VALUES (NEW.execution_id);"
# With the start: so those that have a label come in the order that is asked for.
_FORGET = (
    "DELETE FROM szal_labels WHERE (key, value, started, execution_id) IN"
    " (SELECT key, value, coalesce(OLD.started, ''), OLD.execution_id FROM json_each(OLD.labels));"
)
_KEEP = (
    "INSERT OR IGNORE INTO szal_labels SELECT key, value, coalesce(NEW.started, ''), NEW.execution_id"
    " FROM json_each(NEW.labels) WHERE type = 'text';"
)
_FILLING = {
    "szal_fill_one": f"INSTEAD OF INSERT ON szal_fill BEGIN {_OF_ONE} END",
    "szal_fill_new": f"AFTER INSERT ON szal_executions WHEN NEW.head IS NULL BEGIN {_OF_NEW} END",
    "szal_fill_changed": (
        "AFTER UPDATE OF data ON szal_executions"
        f" WHEN NEW.head IS NULL OR (NEW.head IS OLD.head AND NEW.data IS NOT OLD.data) BEGIN {_OF_NEW} END"
    ),
}
_KEEPING = {
    "szal_labels_new": f"AFTER INSERT ON szal_executions WHEN NEW.labels IS NOT NULL BEGIN {_KEEP} END",
    "szal_labels_changed": (
        "AFTER UPDATE OF labels, started ON szal_executions"
        f" WHEN NEW.labels IS NOT OLD.labels OR NEW.started IS NOT OLD.started BEGIN {_FORGET} {_KEEP} END"
    ),
    "szal_labels_gone": f"AFTER DELETE ON szal_executions WHEN OLD.labels IS NOT NULL BEGIN {_FORGET} END",
}
TRIGGERS = (*_FILLING, *_KEEPING)
"""What sees to it that the columns are filled in, whoever writes."""

_INDEXES = {
    "szal_executions_flow": "flow_name, state, started, execution_id",
    "szal_executions_state": "state, started, execution_id",
    "szal_executions_started": "started, execution_id",
}


def add_columns(db: Database) -> None:
    """Add the columns; it can be done again, and changes nothing then."""
    there = db["szal_executions"].columns_dict
    for name in COLUMNS:
        if name not in there:
            db.execute(f"ALTER TABLE szal_executions ADD COLUMN {name} TEXT")


def fill_columns(db: Database) -> None:
    """Fill the columns in, index them, and see to it that they stay filled; it can be done again."""
    for name in _INDEXES:
        db.execute(f"DROP INDEX IF EXISTS {name}")
    for name in _FILLING:
        db.execute(f"DROP TRIGGER IF EXISTS {name}")
    db.execute(_VIEW)
    for statement in _FILL:
        db.execute(f"{statement} WHERE {_HAS_ID}")
    for name, columns in _INDEXES.items():
        db.execute(f"CREATE INDEX {name} ON szal_executions ({columns})")
    for name, trigger in _FILLING.items():
        db.execute(f"CREATE TRIGGER {name} {trigger}")


def keep_labels(db: Database) -> None:
    """Make the table of labels from the columns, and see to it that it stays right; it can be done again."""
    for name in _KEEPING:
        db.execute(f"DROP TRIGGER IF EXISTS {name}")
    db.execute("DROP TABLE IF EXISTS szal_labels")
    db.execute(
        "CREATE TABLE szal_labels (key TEXT NOT NULL, value TEXT NOT NULL, started TEXT NOT NULL,"
        " execution_id TEXT NOT NULL, PRIMARY KEY (key, value, started, execution_id)) WITHOUT ROWID"
    )
    db.execute(
        "INSERT INTO szal_labels SELECT label.key, label.value, coalesce(e.started, ''), e.execution_id"
        " FROM szal_executions AS e, json_each(e.labels) AS label WHERE e.labels IS NOT NULL AND label.type = 'text'"
        " ON CONFLICT DO NOTHING"
    )
    for name, trigger in _KEEPING.items():
        db.execute(f"CREATE TRIGGER {name} {trigger}")
