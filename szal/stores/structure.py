"""What there has to be in an SQL database. It is looked at: what migrations have left a note of may be gone."""

from collections.abc import Collection, Mapping

import attrs

from szal.errors import NotMigrated
from szal.stores.heads import COLUMNS as RECORD_COLUMNS

__all__ = ["COLUMNS", "INDEXES", "KEYS", "Structure"]

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "szal_executions": ("execution_id", "flow_name", "data", *RECORD_COLUMNS),
    "szal_flows": ("content_id", "data"),
    "szal_leases": (
        "execution_id",
        "owner",
        "epoch",
        "expires",
        "content_id",
        "recoveries",
        "cancelled",
        "wake",
        "awaits",
        "pausing",
        "under_way",
    ),
    "szal_steps": ("execution_id", "step_name", "seq", "result", "signal_id"),
    "szal_signals": ("execution_id", "signal_id", "name", "value", "sent"),
    "szal_queue": ("execution_id", "queue", "priority", "not_before", "due", "submitted", "concurrency_key"),
    "szal_schedules": ("name", "data", "flow", "next_at", "last_id"),
    "szal_capacities": ("name", "capacity"),
    "szal_permits": (
        "permit_id",
        "name",
        "step_name",
        "units",
        "priority",
        "asked",
        "execution_id",
        "epoch",
        "held",
    ),
    "szal_rates": ("name", "every", "due"),
    "szal_concurrency": ("name", "execution_id"),
    "szal_reports": ("execution_id", "step_name", "epoch", "reported", "data", "item"),
}
"""The columns of each table, on every database. A migration that adds one adds it here."""

KEYS: Mapping[str, tuple[str, ...]] = {
    "szal_executions": ("execution_id",),
    "szal_flows": ("content_id",),
    "szal_leases": ("execution_id",),
    "szal_steps": ("execution_id", "step_name"),
    "szal_signals": ("execution_id", "signal_id"),
    "szal_queue": ("execution_id",),
    "szal_schedules": ("name",),
    "szal_capacities": ("name",),
    "szal_permits": ("permit_id", "name"),
    "szal_rates": ("name",),
    "szal_concurrency": ("name",),
    "szal_reports": ("execution_id", "step_name"),
}
"""What rows of each table are told apart by, on every database: the columns of a primary key, or a unique index."""

INDEXES = (
    "szal_executions_flow",
    "szal_executions_state",
    "szal_executions_started",
    "szal_executions_parent",
    "szal_leases_content",
    "szal_queue_next",
    "szal_permits_next",
    "szal_permits_execution",
    "szal_executions_keys",
    "szal_queue_keys",
    "szal_concurrency_execution",
)
"""Those that migrations make. Without one all is slower, and right: nobody is refused for that."""


@attrs.frozen(kw_only=True)
class Structure:
    """What there is in a database."""

    columns: Collection[tuple[str, str]]
    """Of szal's tables: the name of the table, and of the column."""
    keys: Collection[tuple[str, frozenset[str]]]
    """The name of a table, and the columns by which its rows are unique."""
    indexes: Collection[str]
    applied: Collection[str] | None
    """The names of migrations that left a note; None: we may not read it."""
    functions: Collection[str] = ()
    triggers: Collection[str] = ()
    migrations: Collection[str]
    """The names of the migrations that there are now."""
    needs_columns: Mapping[str, tuple[str, ...]] = COLUMNS
    needs_keys: Mapping[str, tuple[str, ...]] = KEYS
    needs_functions: Collection[str] = ()
    needs_triggers: Collection[str] = ()
    """Without one, rows that szal-rs writes are not found: nobody is refused for that either."""

    def missing(self) -> str | None:
        """Say what is missing that statements need, the first of it; None where nothing is."""
        tables = {table for table, _ in self.columns}
        for table, columns in self.needs_columns.items():
            if table not in tables:
                return f"table {table}"
            for column in columns:
                if (table, column) not in self.columns:
                    return f"column {column} of table {table}"
        for table, key in self.needs_keys.items():
            if (table, frozenset(key)) not in self.keys:
                return f"a primary key ({', '.join(key)}) of table {table}"
        for function in self.needs_functions:
            if function not in self.functions:
                return f"function {function}"
        for name in self.migrations:
            if self.applied is not None and name not in self.applied:
                return f"what migration {name} makes"
        return None

    def is_complete(self) -> bool:
        """Return whether there is nothing to do for a `migrate`."""
        is_found = all(index in self.indexes for index in INDEXES)
        return self.missing() is None and is_found and all(each in self.triggers for each in self.needs_triggers)

    def is_damaged(self) -> bool:
        """Return whether the notes are wrong: what migrations have made is gone, so all are to be done again."""
        tables = {table for table, _ in self.columns}
        is_all_noted = set(self.migrations) <= set(self.applied or ())
        return (
            bool(self.applied) and not self.is_complete() and (is_all_noted or not self.needs_columns.keys() <= tables)
        )

    def check(self, store: str) -> None:
        """Raise `NotMigrated` for a database that statements cannot be sent to, or that a newer szal has changed."""
        self.check_not_newer(store)
        if (missing := self.missing()) is not None:
            raise NotMigrated(store, missing)

    def check_not_newer(self, store: str) -> None:
        """Raise `NotMigrated` for a database that a newer szal has changed: it may keep what this one would not."""
        if newer := sorted(set(self.applied or ()) - set(self.migrations)):
            raise NotMigrated(store, newer=tuple(newer))
