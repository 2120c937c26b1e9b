"""What statements to SQLite have in common."""

from szal.stores.filters import LIVE

__all__ = [
    "EACH",
    "FINISHED",
    "LIVE_STATES",
    "NOW",
    "OF_CAPACITIES",
    "OF_EXECUTIONS",
    "OF_FLOWS",
    "OF_KEYS",
    "OF_LEASES",
    "OF_PERMITS",
    "OF_QUEUE",
    "OF_REPORTS",
    "OF_SCHEDULES",
    "OF_SIGNALS",
    "OF_STEPS",
    "STARTED",
    "STATE",
    "UNDELIVERED",
]

# The indexes that come with the primary keys.
OF_EXECUTIONS = "sqlite_autoindex_szal_executions_1"
OF_STEPS = "sqlite_autoindex_szal_steps_1"
OF_FLOWS = "sqlite_autoindex_szal_flows_1"
OF_LEASES = "sqlite_autoindex_szal_leases_1"
OF_SIGNALS = "sqlite_autoindex_szal_signals_1"
OF_REPORTS = "sqlite_autoindex_szal_reports_1"
OF_QUEUE = "sqlite_autoindex_szal_queue_1"
OF_SCHEDULES = "sqlite_autoindex_szal_schedules_1"
OF_CAPACITIES = "sqlite_autoindex_szal_capacities_1"
OF_KEYS = "sqlite_autoindex_szal_concurrency_1"
OF_PERMITS = "sqlite_autoindex_szal_permits_1"

NOW = "((julianday('now') - 2440587.5) * 86400.0)"

# The columns that are kept of a record (szal.stores.heads), of each row that is one.
STATE, STARTED, FINISHED = "state", "started", "finished"
LIVE_STATES = ", ".join(f"'{state.value}'" for state in LIVE)

# Of any number of executions, given as a JSON array of their ids: one statement.
EACH = "IN (SELECT value FROM json_each(?))"

# A signal, `s`, that no step, `t`, has taken.
UNDELIVERED = (
    "NOT EXISTS (SELECT 1 FROM szal_steps AS t WHERE t.execution_id = s.execution_id AND t.signal_id = s.signal_id)"
)
