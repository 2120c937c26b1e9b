"""What statements to PostgreSQL have in common."""

from szal.stores.filters import LIVE
from szal.stores.heads import COLUMNS

__all__ = [
    "FINISHED",
    "ID",
    "LIVE_STATES",
    "NOW",
    "RECORD",
    "RECORD_COLUMNS",
    "RECORD_VALUES",
    "SET",
    "SOON",
    "STARTED",
    "STATE",
    "STEP_OVER",
    "TELL",
    "TOLD",
    "UNDELIVERED",
    "WATCHED",
]

NOW = "extract(epoch FROM clock_timestamp())::float8"
SOON = "extract(epoch FROM statement_timestamp())::float8"  # stable: an index can be searched for it

# The columns that are kept of a record (szal.stores.heads), of each row that is one. Collation "C", which those that
# sort have too, is the order of code points, whatever the database's language is.
STATE, STARTED, FINISHED = "state", "started", "finished"
ID = 'execution_id COLLATE "C"'
LIVE_STATES = ", ".join(f"'{state.value}'" for state in LIVE)

# What is written of a record, and where it was there before.
RECORD = ("execution_id", "flow_name", "data", *COLUMNS)
RECORD_COLUMNS = ", ".join(RECORD)
RECORD_VALUES = RECORD_COLUMNS.replace("labels", "labels::jsonb")
SET = ", ".join(f"{name} = excluded.{name}" for name in RECORD[1:])

# What becomes of the row of a step that was there before.
STEP_OVER = """
    ON CONFLICT (execution_id, step_name) DO UPDATE
    SET seq = excluded.seq, result = excluded.result, signal_id = excluded.signal_id
"""

WATCHED = f"watched IS NOT NULL AND watched > {SOON}"  # in this order: where nobody watches it costs nothing
TELL = f"CASE WHEN {WATCHED} THEN pg_notify('szal_changes', execution_id)::text ELSE '' END"
TOLD = f"count({TELL})"
"""How many leases are held, which tells whoever watches their executions: it counts what is no NULL."""

# A signal, `s`, that no step, `t`, has taken.
UNDELIVERED = (
    "NOT EXISTS (SELECT 1 FROM szal.szal_steps AS t"
    " WHERE t.execution_id = s.execution_id AND t.signal_id = s.signal_id)"
)
