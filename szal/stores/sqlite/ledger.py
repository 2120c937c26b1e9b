"""The ledger in SQLite, which has a shorter way for a step that is committed by itself."""

from collections.abc import Sequence
from typing import Final

from szal.stores.database import Transaction
from szal.stores.sql_ledger import SqlLedger
from szal.stores.sqlite.database import SqliteDatabase
from szal.stores.writes import SaveStep, Write

__all__ = ["SqliteLedger"]

_MORE_THAN_KEPT: Final = 65_536


class SqliteLedger(SqlLedger):
    """The ledger in SQLite."""

    _database: SqliteDatabase

    def _write_something(self, transaction: Transaction, size: int = 0) -> None:
        """Write more than SQLite keeps in memory meanwhile: what is rolled back is not on the disk else."""
        [(kept,)] = transaction.rows("PRAGMA cache_size")
        transaction.rows("PRAGMA cache_size = 1")
        try:
            super()._write_something(transaction, max(size, _MORE_THAN_KEPT))
        finally:
            transaction.rows(f"PRAGMA cache_size = {int(kept)}")

    def _apply_shortly(self, writes: Sequence[Write], *, once: bool) -> bool:
        """Write one step, if its lease is held, by one statement in the place of four."""
        if len(writes) != 1 or type(step := writes[0]) is not SaveStep:
            return False
        if step.epoch is None or step.progress_of is not None:
            return False
        row = (*step.row(), step.execution_id, step.epoch)
        return self._database.at_once(self._statements.save_held_step, row, once=once) == 1
