"""What the databases keep of a record in columns, so that nobody has to parse it to list, find or prune."""

from typing import TypeAlias

from szal.model.json.text import dumps
from szal.model.results import ExecutionRecord, as_message
from szal.stores.filters import stamp, stamp_key

__all__ = ["COLUMNS", "UNKNOWN", "Columns", "columns_of"]

Columns: TypeAlias = tuple[str | None, ...]

COLUMNS = ("state", "started", "finished", "parent", "concurrency_key", "labels", "head")
"""The columns of `szal_executions` beside szal-rs's three. `started` and `finished` are keys that sort (that of the
start where there is no end), `labels` is JSON or NULL where there are none, `head` is what `summary_of` takes.
`concurrency_key` is NULL but in records of szal's own.

Of a row that somebody else wrote they have what can be read of it. A state that szal does not know, and a time that is
none, is an empty text: it stands before all others, and no filter finds it."""

UNKNOWN: Columns = (None,) * len(COLUMNS)
"""The columns of a row whose writer knows only its data: triggers of the database fill them in, as for szal-rs."""


def columns_of(record: ExecutionRecord) -> Columns:
    """Return the columns of *record*, which can be encoded.

    >>> from datetime import UTC, datetime
    >>> columns_of(ExecutionRecord("e1", "ci", started_at=datetime(2026, 6, 10, tzinfo=UTC), labels={"team": "a"}))[:6]
    ('Created', '2026-06-10T00:00:000000000', '2026-06-10T00:00:000000000', None, None, '{"team":"a"}')
    """
    state, started, finished = record.state.value, record.started_at, record.finished_at
    parent, labels = record.parent_execution_id, dict(record.labels)
    began, ended = stamp(started), None if finished is None else stamp(finished)
    head = [state, began, ended, parent, labels or None, as_message(record.error)]
    return (
        state,
        stamp_key(began),
        stamp_key(ended or began),
        parent,
        record.concurrency_key,
        dumps(labels, "labels") if labels else None,
        dumps(head, "head"),
    )
