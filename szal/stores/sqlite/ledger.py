"""The ledger in SQLite, which has a shorter way for a step that is committed by itself."""

from collections.abc import Sequence

from szal.stores.sql_ledger import SqlLedger
from szal.stores.sqlite.database import SqliteDatabase
from szal.stores.writes import SaveStep, Write

__all__ = ["SqliteLedger"]


class SqliteLedger(SqlLedger):
    """The ledger in SQLite."""

    _database: SqliteDatabase

    def _apply_shortly(self, writes: Sequence[Write], *, once: bool) -> bool:  # noqa: ARG002
        """Write one step, if its lease is held, by one statement in the place of four."""
        if len(writes) != 1 or type(step := writes[0]) is not SaveStep:
            return False
        if step.epoch is None or step.progress_of is not None:
            return False
        return (
            self._database.at_once(self._statements.save_held_step, (*step.row(), step.execution_id, step.epoch)) == 1
        )
