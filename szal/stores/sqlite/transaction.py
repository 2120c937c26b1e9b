"""What can be done between BEGIN and COMMIT, on whichever connection."""

import json
from collections.abc import Sequence
from itertools import chain

import attrs
import sqlite_utils

from szal.stores.database import Row, Rows, Transaction
from szal.stores.sqlite.statements import MANY, SAVE_MANY_STEPS, STATEMENTS

__all__ = ["SqliteTransaction", "rows_of"]


@attrs.define
class SqliteTransaction(Transaction):
    """The block between BEGIN and COMMIT."""

    db: sqlite_utils.Database

    def rows(self, statement: str, parameters: Sequence[object] = ()) -> Rows:
        return self.db.conn.execute(statement, parameters).fetchall()

    def rows_of(self, statement: str, execution_ids: Sequence[str]) -> Rows:
        return rows_of(self.db, statement, execution_ids)

    def rows_for(self, statement: str, rows: Sequence[Row]) -> Rows:
        return [row for each in rows for row in self.db.conn.execute(statement, each)]

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        whole = len(rows) - len(rows) % MANY if statement is STATEMENTS.save_step else 0
        for start in range(0, whole, MANY):
            self.db.conn.execute(SAVE_MANY_STEPS, [*chain.from_iterable(rows[start : start + MANY])])
        self.db.conn.executemany(statement, rows[whole:])


def rows_of(db: sqlite_utils.Database, statement: str, execution_ids: Sequence[str]) -> Rows:
    """Run a statement that takes an array of ids."""
    return db.conn.execute(statement, (json.dumps(execution_ids),)).fetchall()
