"""What can be done between BEGIN and COMMIT, on whichever connection."""

from collections.abc import Sequence

import attrs

from szal.errors import StoreFailed
from szal.stores.database import Row, Rows, Transaction
from szal.stores.postgres.connection import PostgresConnection, execute
from szal.stores.postgres.encoding import fitting
from szal.stores.postgres.nul import nul_in

__all__ = ["PostgresTransaction", "check_texts"]


@attrs.define
class PostgresTransaction(Transaction):
    """What stands between BEGIN and COMMIT."""

    _store: str
    _connection: PostgresConnection

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        return execute(self._connection, statement, fitting(self._connection, statement, parameters)).fetchall()

    def rows_of(self, statement: str, execution_ids: Sequence[str]) -> Rows:
        return execute(self._connection, statement, [[*execution_ids]]).fetchall()

    def rows_for(self, statement: str, rows: Sequence[Row]) -> Rows:
        return execute(self._connection, statement, self._columns(statement, rows)).fetchall()

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        if rows:
            execute(self._connection, statement, self._columns(statement, rows))

    def _columns(self, statement: str, rows: Sequence[Row]) -> Sequence[object]:
        columns = [list(column) for column in zip(*rows, strict=True)]
        check_texts(self._store, columns)
        # NULL in each row goes as no array: psycopg would send {NULL} as text, which array_nulls=off changes.
        sent = [None if all(value is None for value in column) else column for column in columns]
        return fitting(self._connection, statement, sent)


def check_texts(store: str, groups: Sequence[Sequence[object]]) -> None:
    """Raise `StoreFailed` for what PostgreSQL cannot store, among values in *groups*: columns, or few rows."""
    for group in groups:
        texts = [value for value in group if isinstance(value, str)]
        together = "".join(texts)  # looked through once: hardly ever is there anything
        if "\x00" in together or "\\u0000" in together:
            for text in texts:
                if problem := nul_in(text):
                    raise StoreFailed(store, f"{problem}, which PostgreSQL cannot store")
